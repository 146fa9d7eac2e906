//! One client by itself, whose waiting is what is measured.
//!
//! It has a blocking socket and a thread of its own, so that the work of the crowd in this process does not count as
//! the server's.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How long a single answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two downloads, so that the probe does not fall into step with the server's loop.
const PAUSE: Duration = Duration::from_millis(1);

/// Logs in with the lines `login`, then downloads `file` again and again for as long as `duration`: how long each
/// download took, from the command's first byte out to the file's last byte in.
pub(crate) fn run(
    server: SocketAddr,
    login: &[u8],
    file: &str,
    duration: Duration,
) -> io::Result<Vec<Duration>> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut line = String::new();
    let mut content = Vec::new();
    let command = format!("DOWNLOAD FILE {file}\n");
    let mut took = Vec::new();

    socket.write_all(login)?;
    read_until_prefix(&mut reader, &mut line, "Please choose: ")?;
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let begun = Instant::now();
        socket.write_all(command.as_bytes())?;
        read_until_prefix(&mut reader, &mut line, "LENGTH ")?;
        let length = line["LENGTH ".len()..].trim_end().parse();
        content.resize(length.map_err(io::Error::other)?, 0);
        reader.read_exact(&mut content)?;
        took.push(begun.elapsed());
        read_until_prefix(&mut reader, &mut line, "Please choose: ")?;
        thread::sleep(PAUSE);
    }
    Ok(took)
}

/// Reads lines into `line` until one begins with `prefix`.
fn read_until_prefix(reader: &mut impl BufRead, line: &mut String, prefix: &str) -> io::Result<()> {
    loop {
        line.clear();
        if reader.read_line(line)? == 0 {
            return Err(io::Error::other(format!(
                "the server closed before '{prefix}'"
            )));
        }
        if line.starts_with(prefix) {
            return Ok(());
        }
    }
}
