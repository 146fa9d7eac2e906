//! Many clients of the menu in one thread: their sockets, what they have yet to say, and what is said to them.
//!
//! What a client says and when is the scenario's affair: [`Crowd::turn`] hands it every [`News`] and does what it
//! answers. Reading goes in rounds, one read a client and round, so that no client is served at another's cost.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::{setsockopt, sockopt};
use sha2::{Digest, Sha256};
use slab::Slab;
use tidegate::protocol::menu_sentence::{Sentence, sentence};

/// Bytes that one read asks of a socket.
const READ_BYTES: usize = 256 * 1024;

/// Bytes of the longest line that is believed of a server.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What has happened to a client.
pub(crate) enum News<'a> {
    /// The server said something, other than that a file follows.
    Said(Sentence<'a>),
    /// The last byte of a file came.
    Downloaded {
        /// Time since the client last had something to say.
        took: Duration,
        /// SHA-256 of what came, where the crowd verifies.
        digest: Option<[u8; 32]>,
    },
    /// The connection is over, or the server said what cannot be understood. The client is gone.
    Closed {
        /// Whether bytes of a file were still to come.
        amid: bool,
    },
}

/// What a client does next.
pub(crate) enum Next {
    /// Nothing, until more news comes.
    Wait,
    /// Say this.
    Say(Vec<u8>),
}

/// The clients.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    clients: Slab<Client>,
    /// Keys of the clients that may have something to read or write, each at most once.
    ready: VecDeque<usize>,
    buffer: Vec<u8>,
    server: SocketAddr,
    verify: bool,
    receive_buffer: Option<usize>,
}

struct Client {
    socket: TcpStream,
    is_queued: bool,
    unsent: Vec<u8>,
    said: Instant,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// Bytes of a file that are still to come.
    left: u64,
    hash: Option<Sha256>,
}

impl Crowd {
    /// A crowd of nobody before `server`. With `verify` it hashes the files that it is sent.
    pub(crate) fn new(server: SocketAddr, verify: bool) -> io::Result<Crowd> {
        Ok(Crowd {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Slab::new(),
            ready: VecDeque::new(),
            buffer: vec![0; READ_BYTES],
            server,
            verify,
            receive_buffer: None,
        })
    }

    /// From now on a client is given so many bytes of the kernel's memory for what it has not read (SO_RCVBUF). Left alone,
    /// thousands of them on the server's own machine use up what the kernel has for TCP, and it drops what has come.
    pub(crate) fn set_receive_buffer(&mut self, bytes: usize) {
        self.receive_buffer = Some(bytes);
    }

    /// Lets a client connect and say `first`; its key is free again after [`News::Closed`].
    pub(crate) fn open(&mut self, first: Vec<u8>) -> io::Result<usize> {
        let mut socket = TcpStream::connect(self.server)?;
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(key), both)?;
        socket.set_nodelay(true)?;
        if let Some(bytes) = self.receive_buffer {
            setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
        }
        entry.insert(Client {
            socket,
            is_queued: false,
            unsent: first,
            said: Instant::now(),
            line: Vec::new(),
            left: 0,
            hash: None,
        });
        Ok(key)
    }

    /// Lets a client say something. It goes out in the next turn.
    pub(crate) fn say(&mut self, key: usize, bytes: &[u8]) {
        let client = &mut self.clients[key];
        client.unsent.extend_from_slice(bytes);
        client.said = Instant::now();
        queue(client, key, &mut self.ready);
    }

    /// How many clients are there.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Waits up to `timeout` for something to happen, and gives each client that it happened to one read.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        scenario: &mut dyn FnMut(usize, News<'_>) -> Next,
    ) -> io::Result<()> {
        let timeout = match self.ready.is_empty() {
            true => timeout,
            false => Duration::ZERO,
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            let Token(key) = event.token();
            if let Some(client) = self.clients.get_mut(key) {
                queue(client, key, &mut self.ready);
            }
        }
        for _ in 0..self.ready.len() {
            let key = self.ready.pop_front().expect("counted");
            let client = &mut self.clients[key];
            client.is_queued = false;
            let scenario = &mut |news: News<'_>| scenario(key, news);
            match client.work(&mut self.buffer, self.verify, scenario) {
                Ok(()) => queue(client, key, &mut self.ready),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    let amid = client.left > 0;
                    self.clients.remove(key);
                    scenario(News::Closed { amid });
                }
            }
        }
        Ok(())
    }
}

fn queue(client: &mut Client, key: usize, ready: &mut VecDeque<usize>) {
    if !client.is_queued {
        client.is_queued = true;
        ready.push_back(key);
    }
}

impl Client {
    /// Writes what is unsent, then reads once. `Ok` where there may be more to read at once; the end of the
    /// connection is an error too.
    fn work(
        &mut self,
        buffer: &mut [u8],
        verify: bool,
        scenario: &mut dyn FnMut(News<'_>) -> Next,
    ) -> io::Result<()> {
        self.flush()?;
        let count = self.socket.read(buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.take(&buffer[..count], verify, scenario)?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            // Until the connection stands, writing fails with NotConnected or WouldBlock.
            match self.socket.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::NotConnected => {
                    return Err(ErrorKind::WouldBlock.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        verify: bool,
        scenario: &mut dyn FnMut(News<'_>) -> Next,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let next = if self.left > 0 {
                let (content, rest) = bytes.split_at(bytes.len().min(self.left as usize));
                bytes = rest;
                self.left -= content.len() as u64;
                if let Some(hash) = &mut self.hash {
                    hash.update(content);
                }
                if self.left > 0 {
                    return Ok(());
                }
                self.downloaded(scenario)
            } else if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                bytes = &bytes[end + 1..];
                match sentence(&line) {
                    Some(Sentence::Length(length)) => {
                        self.left = length;
                        self.hash = verify.then(Sha256::new);
                        match length {
                            0 => self.downloaded(scenario),
                            _ => Next::Wait,
                        }
                    }
                    Some(sentence) => scenario(News::Said(sentence)),
                    None => return Err(ErrorKind::InvalidData.into()),
                }
            } else {
                self.line.extend_from_slice(bytes);
                if self.line.len() > LINE_BYTES_MAX {
                    return Err(ErrorKind::InvalidData.into());
                }
                return Ok(());
            };
            if let Next::Say(words) = next {
                self.unsent.extend_from_slice(&words);
                self.said = Instant::now();
            }
        }
        Ok(())
    }

    fn downloaded(&mut self, scenario: &mut dyn FnMut(News<'_>) -> Next) -> Next {
        scenario(News::Downloaded {
            took: self.said.elapsed(),
            digest: self.hash.take().map(|hash| hash.finalize().into()),
        })
    }
}
