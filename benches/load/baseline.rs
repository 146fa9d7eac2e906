//! The floor: the least that a loop around `sendfile` costs, with the server's own system calls and socket options and none
//! of its sessions, accounts, files on demand or fairness in time. It speaks as much HTTP as the bench's client needs.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tidegate::kernel::linux;
use tidegate::kernel::linux::Linux;
use tidegate::kernel::{Kernel, Open, Piece};
use tidegate::limits::{MAPPED_FILE_BYTES_MAX, SLICE_BUDGET_BYTES};

/// The token of the listener; below are the slab's keys.
const LISTENER: usize = usize::MAX / 2;

/// A file with its answer, ready to be sent.
struct Content {
    /// The header, and behind it the file where it is small.
    answer: Vec<u8>,
    file: <Linux as Kernel>::File,
    length: u64,
}

struct Connection {
    socket: <Linux as Kernel>::Socket,
    /// What is being sent, from where on; nothing else is read meanwhile.
    sending: Option<(Arc<Content>, u64)>,
    is_queued: bool,
}

/// Serves the files of `directory` until SIGTERM.
pub(crate) fn run(directory: &Path) -> io::Result<()> {
    linux::raise_descriptor_limit()?;
    let kernel = Linux::new()?;
    let files = open_all(&kernel, directory)?;
    let listener = kernel.listen(SocketAddr::from(([127, 0, 0, 1], 0)), LISTENER)?;
    println!("listening on {}", kernel.listening_on(&listener)?);
    io::stdout().flush()?;

    let mut connections: Slab<Connection> = Slab::new();
    let mut queue = VecDeque::new();
    let mut ready = Vec::new();
    let mut buffer = vec![0; 8192];
    while kernel.signal().is_none() {
        let patience = match queue.is_empty() {
            true => Duration::from_secs(1),
            false => Duration::ZERO,
        };
        kernel.poll(&mut ready, Some(patience))?;
        for event in &ready {
            if event.token == LISTENER {
                while let Ok((mut socket, _)) = kernel.accept(&listener) {
                    let entry = connections.vacant_entry();
                    kernel.register(&mut socket, entry.key())?;
                    entry.insert(Connection {
                        socket,
                        sending: None,
                        is_queued: false,
                    });
                }
            } else if let Some(connection) = connections.get_mut(event.token)
                && !connection.is_queued
            {
                connection.is_queued = true;
                queue.push_back(event.token);
            }
        }
        for _ in 0..queue.len() {
            let key = queue.pop_front().expect("counted");
            let connection = &mut connections[key];
            connection.is_queued = false;
            match connection.turn(&kernel, &files, &mut buffer) {
                Ok(()) => {
                    connection.is_queued = true;
                    queue.push_back(key);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => drop(connections.remove(key)),
            }
        }
    }
    Ok(())
}

fn open_all(kernel: &Linux, directory: &Path) -> io::Result<HashMap<Vec<u8>, Arc<Content>>> {
    let root = kernel.open_root(directory)?;
    let mut files = HashMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if !entry.metadata()?.is_file() {
            continue;
        }
        let length = entry.metadata()?.len();
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        if length <= MAPPED_FILE_BYTES_MAX {
            answer.extend(fs::read(entry.path())?);
        }
        let file = kernel.open_beneath(&root, &name, Open::Read)?;
        let content = Content {
            answer,
            file,
            length,
        };
        files.insert(
            format!("GET /{name} HTTP/1.1").into_bytes(),
            Arc::new(content),
        );
    }
    Ok(files)
}

impl Connection {
    /// Sends on, else reads a request. `Ok` where there may be more to do at once.
    fn turn(
        &mut self,
        kernel: &Linux,
        files: &HashMap<Vec<u8>, Arc<Content>>,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        if self.sending.is_none() {
            let count = kernel.receive(&self.socket, buffer)?;
            let line = buffer[..count].split(|&byte| byte == b'\r').next();
            // One request a segment is all that the bench's client sends.
            let content = line
                .and_then(|line| files.get(line))
                .ok_or(ErrorKind::NotFound)?;
            let is_small = content.length <= MAPPED_FILE_BYTES_MAX;
            let piece = Piece::Bytes(&content.answer);
            kernel.send(&self.socket, &[piece], !is_small)?;
            if is_small {
                return Err(ErrorKind::WouldBlock.into()); // the next request is an event
            }
            self.sending = Some((content.clone(), 0));
        }
        let Some((content, offset)) = &mut self.sending else {
            unreachable!("set above");
        };
        let mut budget = SLICE_BUDGET_BYTES;
        while budget > 0 {
            let count = budget.min((content.length - *offset) as usize);
            let sent = kernel.send_file(&self.socket, &content.file, *offset, count)?;
            *offset += sent as u64;
            budget -= sent;
            if *offset == content.length {
                self.sending = None;
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        Ok(())
    }
}
