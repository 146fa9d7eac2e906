//! A single client that measures latency: a blocking socket in a thread of its own.
//!
//! Its thread has a higher priority than the load generator, so that waiting for the load
//! generator's thread does not count as the server's latency.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::message::{ClientRequest, ServerReply};
use crate::client::wire_protocol::WireProtocol;
use crate::fixture::USERS;
use crate::machine;

/// Longest wait for one reply.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two downloads, so that the probe does not synchronise with the server's event
/// loop.
const PAUSE: Duration = Duration::from_millis(1);

/// Logs in and downloads `file` repeatedly for `duration`. Returns the time of each download, from
/// sending the command to the last byte of the file.
pub(crate) fn run(
    server: SocketAddr,
    protocol: WireProtocol,
    file: &str,
    duration: Duration,
) -> io::Result<Vec<Duration>> {
    // Without the right to a higher priority, the probe runs at the normal one.
    let _ = machine::set_nice(-20);
    let socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut probe = LatencyProbe {
        reader: BufReader::new(socket),
        protocol: protocol.clone(),
        content: Vec::new(),
    };
    if protocol == WireProtocol::Menu {
        let (user, password) = USERS[0];
        probe.send(&protocol.login(user, password))?;
        probe.wait_for(&ServerReply::Ready)?;
    }
    let request = protocol.download(file);
    let mut times = Vec::new();
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let started = Instant::now();
        probe.send(&request)?;
        probe.read_file()?;
        times.push(started.elapsed());
        if protocol == WireProtocol::Menu {
            probe.wait_for(&ServerReply::Ready)?;
        }
        thread::sleep(PAUSE);
    }
    Ok(times)
}

struct LatencyProbe {
    reader: BufReader<TcpStream>,
    protocol: WireProtocol,
    content: Vec<u8>,
}

impl LatencyProbe {
    fn send(&mut self, request: &ClientRequest) -> io::Result<()> {
        self.reader.get_mut().write_all(&request.text)
    }

    fn read_file(&mut self) -> io::Result<()> {
        loop {
            match self.read_reply()? {
                ServerReply::File(length) => {
                    self.content.resize(length as usize, 0);
                    return self.reader.read_exact(&mut self.content);
                }
                ServerReply::Refused => {
                    return Err(io::Error::other("the latency probe was refused"));
                }
                _ => {}
            }
        }
    }

    fn wait_for(&mut self, expected: &ServerReply) -> io::Result<()> {
        while self.read_reply()? != *expected {}
        Ok(())
    }

    fn read_reply(&mut self) -> io::Result<ServerReply> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        line.strip_suffix(b"\n")
            .and_then(|line| self.protocol.parse(line))
            .ok_or_else(|| io::Error::other("the server closed the latency probe's connection"))
    }
}
