//! One client by itself, whose waiting is what is measured.
//!
//! It has a blocking socket and a thread of its own, put before the crowd's, so that the work of the crowd in this process
//! does not count as the server's.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::dialect::{Dialect, Heard};
use crate::client::load_generator::Words;
use crate::machine;
use crate::server::process::USERS;

/// How long a single answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two downloads, so that the probe does not fall into step with the server's loop.
const PAUSE: Duration = Duration::from_millis(1);

/// Comes in, then downloads `file` again and again for as long as `duration`: how long each download took, from the
/// command's first byte out to the file's last byte in.
pub(crate) fn run(
    server: SocketAddr,
    dialect: Dialect,
    file: &str,
    duration: Duration,
) -> io::Result<Vec<Duration>> {
    // Before the crowd, which shares its processor.
    let _ = machine::set_nice(-20);
    let socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut probe = Probe {
        reader: BufReader::new(socket),
        dialect: dialect.clone(),
        content: Vec::new(),
    };
    if dialect == Dialect::Menu {
        let (user, password) = USERS[0];
        probe.say(&dialect.login(user, password))?;
        probe.hear(&Heard::Ready)?;
    }
    let command = dialect.download(file);
    let mut took = Vec::new();
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let begun = Instant::now();
        probe.say(&command)?;
        probe.download()?;
        took.push(begun.elapsed());
        if dialect == Dialect::Menu {
            probe.hear(&Heard::Ready)?;
        }
        thread::sleep(PAUSE);
    }
    Ok(took)
}

struct Probe {
    reader: BufReader<TcpStream>,
    dialect: Dialect,
    content: Vec<u8>,
}

impl Probe {
    fn say(&mut self, words: &Words) -> io::Result<()> {
        self.reader.get_mut().write_all(&words.text)
    }

    fn download(&mut self) -> io::Result<()> {
        loop {
            match self.line()? {
                Heard::File(length) => {
                    self.content.resize(length as usize, 0);
                    return self.reader.read_exact(&mut self.content);
                }
                Heard::Refused => return Err(io::Error::other("the probe was refused")),
                _ => {}
            }
        }
    }

    fn hear(&mut self, expected: &Heard) -> io::Result<()> {
        while self.line()? != *expected {}
        Ok(())
    }

    fn line(&mut self) -> io::Result<Heard> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        let heard = line
            .strip_suffix(b"\n")
            .and_then(|line| self.dialect.hear(line));
        heard.ok_or_else(|| io::Error::other("the server closed before the probe"))
    }
}
