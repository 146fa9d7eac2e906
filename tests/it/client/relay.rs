//! A relay between the client and the server that can stall or close the connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::run::{Server, TIMEOUT};

/// The action after a number of bytes from the server, on the first connection.
#[derive(Clone, Copy)]
pub(super) enum After {
    Never,
    /// Forwards nothing more.
    Stall(u64),
    /// Closes both connections.
    Close(u64),
}

pub(super) struct Relay {
    pub(super) port: u16,
    forwarded: Arc<AtomicU64>,
}

impl Relay {
    pub(super) fn new(server: &Server, after: After) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay {
            port: listener.local_addr().unwrap().port(),
            forwarded: Arc::default(),
        };
        let (to, forwarded) = (server.port(), Arc::clone(&relay.forwarded));
        std::thread::spawn(move || {
            let mut after = after;
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || copy(from, into, After::Never, &AtomicU64::new(0)));
                let forwarded = Arc::clone(&forwarded);
                let after = std::mem::replace(&mut after, After::Never);
                std::thread::spawn(move || copy(server, client, after, &forwarded));
            }
        });
        relay
    }

    pub(super) fn forwarded(&self) -> u64 {
        self.forwarded.load(SeqCst)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, after: After, forwarded: &AtomicU64) {
    let mut piece = [0; 16 * 1024];
    loop {
        let limit = match after {
            After::Never => u64::MAX,
            After::Stall(limit) | After::Close(limit) => limit,
        };
        let left = (limit - forwarded.load(SeqCst)).min(piece.len() as u64) as usize;
        match (left, after) {
            (0, After::Stall(_)) => std::thread::sleep(TIMEOUT),
            (0, _) => {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            _ => {}
        }
        match from.read(&mut piece[..left]) {
            Ok(count @ 1..) => {
                forwarded.fetch_add(count as u64, SeqCst);
                if to.write_all(&piece[..count]).is_err() {
                    return;
                }
            }
            _ => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    }
}
