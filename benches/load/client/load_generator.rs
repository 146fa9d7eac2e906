//! Many clients in one thread: their sockets, what they have yet to say, and what is said to them.
//!
//! They speak the menu to tidegate and HTTP or FTP to its peers, in one loop, so that every server meets the same client.
//! What a client says and when is the scenario's affair: [`Crowd::turn`] hands it every [`News`] and does what it
//! answers. Reading goes in rounds, one read a client and round, so that no client is served at another's cost.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use sha2::{Digest, Sha256};
use slab::Slab;

use crate::client::dialect::{Dialect, Heard};

/// Bytes that one read asks of a socket.
const READ_BYTES: usize = 256 * 1024;

/// In how many places of a page a read may begin. Some processors (AMD's EPYC among them) copy a page twenty times slower to
/// a place that lies 1 to 31 bytes further in its page than the page's own bytes, as the file does behind a short header
/// that is read along with it. Each turn of a client begins elsewhere, so that no server's header makes the client the brake.
const STARTS: usize = 4096;

/// From one place to the next: all of them in turn.
const START_STEP: usize = 1237;

/// Bytes of an upload that one write hands over.
const WRITE_BYTES: usize = 256 * 1024;

/// Time between two reads of a client that reads slowly.
const PACE: Duration = Duration::from_millis(100);

/// What has happened to a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Whatever it said last is done with, and it may say the next.
    Ready,
    /// A file follows.
    Begun,
    /// The last byte of a file came.
    Downloaded {
        /// Time since the client last had something to say.
        took: Duration,
        /// SHA-256 of what came, where the crowd verifies.
        digest: Option<[u8; 32]>,
    },
    /// A file that it sent is where it should be.
    Uploaded {
        /// Time since the client last had something to say.
        took: Duration,
    },
    /// A directory was listed.
    ListingTarget,
    /// A login failed.
    LoginFailed,
    /// The server refused what it was asked for.
    Refused,
    /// The connection is over, or the server said what cannot be understood. The client is gone.
    Closed {
        /// Whether bytes of a file were still to come.
        amid: bool,
        /// Time since the client last had something to say.
        took: Duration,
    },
}

/// What a client does next.
pub(crate) enum Next {
    /// Nothing, until more news comes.
    Wait,
    /// Say this.
    Say(Words),
    /// Drop the connection where it stands; there will be no news of it.
    Leave,
}

/// Something to say: text, and behind it so many bytes of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    pub(crate) text: Vec<u8>,
    /// What is said once the server has named a port for a data connection, over which the file goes then.
    pub(crate) over_data: Vec<u8>,
    pub(crate) body: u64,
}

/// How the clients take the bytes of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Into memory.
    #[default]
    Real,
    /// The kernel throws them away (MSG_TRUNC, tcp(7)): the client is no brake.
    Discard,
    /// Into memory and through SHA-256.
    Verify,
}

/// The clients.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    clients: Slab<Client>,
    /// Keys of the clients that may have something to read or write, each at most once.
    ready: VecDeque<usize>,
    /// Keys of the clients that read slowly.
    slow: Vec<usize>,
    next_pace: Instant,
    buffer: Vec<u8>,
    /// Where in the buffer the next turn reads to.
    start: usize,
    upload: Vec<u8>,
    server: SocketAddr,
    dialect: Dialect,
    reading: Reading,
    receive_buffer: Option<usize>,
    opened: u32,
}

struct Client {
    socket: TcpStream,
    /// Where it comes from, on its data connections too.
    source: Ipv4Addr,
    data: Option<Data>,
    is_queued: bool,
    /// The server has closed its sending half, so that a short read is not the last.
    ended: bool,
    unsent: Words,
    said: Instant,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    speech: Dialect,
    /// Bytes of a file that are still to come.
    left: u64,
    hash: Option<Sha256>,
    /// Bytes that it reads each [`PACE`], where it is slow.
    pace: Option<usize>,
    /// Bytes of files that have come.
    received: u64,
    /// Bytes of files that have gone.
    sent: u64,
}

/// A data connection, from the port's naming until the server has said that all went.
struct Data {
    /// `None` once all bytes went or came: the client closes it then, as clients do, and waits for the server's word.
    socket: Option<TcpStream>,
    is_upload: bool,
    /// Bytes of an upload that are still to go.
    left: u64,
    /// The server has said that they did.
    is_confirmed: bool,
}

impl Crowd {
    /// A crowd of nobody before `server`.
    pub(crate) fn new(server: SocketAddr, dialect: Dialect, reading: Reading) -> io::Result<Crowd> {
        Ok(Crowd {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Slab::new(),
            ready: VecDeque::new(),
            slow: Vec::new(),
            next_pace: Instant::now(),
            buffer: vec![0; STARTS + READ_BYTES],
            start: 0,
            upload: (0..WRITE_BYTES).map(|at| at as u8).collect(),
            server,
            dialect,
            reading,
            receive_buffer: None,
            opened: 0,
        })
    }

    /// From now on a client is given so many bytes of the kernel's memory for what it has not read (SO_RCVBUF). Left alone,
    /// thousands of them on the server's own machine use up what the kernel has for TCP, and it drops what has come.
    pub(crate) fn set_receive_buffer(&mut self, bytes: usize) {
        self.receive_buffer = Some(bytes);
    }

    /// Lets a client connect and say `first`; its key is free again after [`News::Closed`].
    pub(crate) fn open(&mut self, first: Words) -> io::Result<usize> {
        // One address has some 28,000 ports, of which those of the last minute are not free.
        let [_, _, high, low] = (self.opened % 64 + 2).to_be_bytes();
        self.opened = self.opened.wrapping_add(1);
        let source = Ipv4Addr::new(127, 0, high, low);
        let mut socket = connect(source, self.server)?;
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, control(key), both)?;
        socket.set_nodelay(true)?;
        if let Some(bytes) = self.receive_buffer {
            setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
        }
        entry.insert(Client {
            socket,
            source,
            data: None,
            is_queued: false,
            ended: false,
            unsent: first,
            said: Instant::now(),
            line: Vec::new(),
            speech: self.dialect.clone(),
            left: 0,
            hash: None,
            pace: None,
            received: 0,
            sent: 0,
        });
        Ok(key)
    }

    /// Lets a client say something. It goes out in the next turn.
    pub(crate) fn say(&mut self, key: usize, words: &Words) {
        let client = &mut self.clients[key];
        client.say(words.clone());
        queue(client, key, &mut self.ready);
    }

    /// From now on a client reads `bytes` ten times a second; 0 is never.
    pub(crate) fn slow_down(&mut self, key: usize, bytes: usize) {
        self.clients[key].pace = Some(bytes);
        self.slow.push(key);
    }

    /// How many clients are there.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Bytes of files that each client has received, by key.
    pub(crate) fn received(&self) -> Vec<(usize, u64)> {
        self.clients
            .iter()
            .map(|(key, client)| (key, client.received))
            .collect()
    }

    /// Bytes of files that all clients have sent.
    pub(crate) fn sent(&self) -> u64 {
        self.clients.iter().map(|(_, client)| client.sent).sum()
    }

    /// Waits up to `timeout` for something to happen, and gives each client that it happened to one read.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        scenario: &mut dyn FnMut(usize, News) -> Next,
    ) -> io::Result<()> {
        let timeout = match self.ready.is_empty() {
            true if self.slow.is_empty() => timeout,
            true => timeout.min(self.next_pace.saturating_duration_since(Instant::now())),
            false => Duration::ZERO,
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            let key = event.token().0 / 2;
            if let Some(client) = self.clients.get_mut(key) {
                let is_control = event.token() == control(key);
                client.ended |= is_control && (event.is_read_closed() || event.is_error());
                queue(client, key, &mut self.ready);
            }
        }
        for _ in 0..self.ready.len() {
            let key = self.ready.pop_front().expect("counted");
            self.clients[key].is_queued = false;
            self.work(key, None, scenario);
        }
        if !self.slow.is_empty() && Instant::now() >= self.next_pace {
            self.next_pace = Instant::now() + PACE;
            self.slow.retain(|key| self.clients.contains(*key));
            for key in self.slow.clone() {
                let pace = self.clients[key].pace;
                self.work(key, pace, scenario);
            }
        }
        Ok(())
    }

    /// A client's turn; of a slow one, with how much it may read.
    fn work(
        &mut self,
        key: usize,
        pace: Option<usize>,
        scenario: &mut dyn FnMut(usize, News) -> Next,
    ) {
        let client = &mut self.clients[key];
        self.start = (self.start + START_STEP) % STARTS;
        let most = match (client.pace, pace) {
            (Some(_), pace) => pace.unwrap_or(0).min(READ_BYTES),
            (None, _) => READ_BYTES,
        };
        let buffer = &mut self.buffer[self.start..self.start + most];
        let common = Common {
            upload: &self.upload,
            reading: self.reading,
            dial: &|source, port| {
                let mut socket = connect(source, SocketAddr::new(self.server.ip(), port))?;
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll
                    .registry()
                    .register(&mut socket, data(key), both)?;
                Ok(socket)
            },
        };
        let scenario = &mut |news: News| scenario(key, news);
        match client.work(buffer, &common, scenario) {
            Ok(Done::Again) if client.pace.is_none() => queue(client, key, &mut self.ready),
            Ok(Done::Again | Done::Blocked) => {}
            Ok(Done::Left) => drop(self.clients.remove(key)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                let client = self.clients.remove(key);
                scenario(News::Closed {
                    amid: client.left > 0 || client.data.is_some(),
                    took: client.said.elapsed(),
                });
            }
        }
    }
}

/// The token of a client's connection.
fn control(key: usize) -> Token {
    Token(key * 2)
}

/// The token of its data connection.
fn data(key: usize) -> Token {
    Token(key * 2 + 1)
}

/// A socket on its way from `source`, which may share a port with others that go elsewhere (IP_BIND_ADDRESS_NO_PORT
/// would do; mio has no way to bind before it connects, so that the standard library's socket is not used either).
fn connect(source: Ipv4Addr, server: SocketAddr) -> io::Result<TcpStream> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    let source = SocketAddr::from((source, 0));
    bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Whether a later try may go better. Until a connection stands, it fails with NotConnected or WouldBlock.
fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotConnected | ErrorKind::WouldBlock
    )
}

fn queue(client: &mut Client, key: usize, ready: &mut VecDeque<usize>) {
    if !client.is_queued {
        client.is_queued = true;
        ready.push_back(key);
    }
}

/// What all clients share.
struct Common<'a> {
    upload: &'a [u8],
    reading: Reading,
    /// Opens a data connection from an address to a port of the server.
    dial: &'a dyn Fn(Ipv4Addr, u16) -> io::Result<TcpStream>,
}

/// How a client's turn ended.
enum Done {
    /// There may be more at once.
    Again,
    /// An event brings the next turn.
    Blocked,
    /// It is to be dropped.
    Left,
}

impl Client {
    fn say(&mut self, words: Words) {
        self.unsent.text.extend_from_slice(&words.text);
        self.unsent.over_data = words.over_data;
        self.unsent.body += words.body;
        self.said = Instant::now();
    }

    /// Writes what is unsent, then reads once. The end of the connection is an error too.
    fn work(
        &mut self,
        buffer: &mut [u8],
        common: &Common,
        scenario: &mut dyn FnMut(News) -> Next,
    ) -> io::Result<Done> {
        self.flush(common.upload)?;
        if buffer.is_empty() {
            return Ok(Done::Blocked);
        }
        match self.move_data(buffer, common) {
            Ok(true) => {
                let is_told = match self.end_data() {
                    Some(news) => self.tell(news, scenario),
                    None => true,
                };
                return Ok(match is_told {
                    true => Done::Again,
                    false => Done::Left,
                });
            }
            Err(error) if !waits(&error) => return Err(error),
            _ => {}
        }
        let (asked, count);
        if common.reading == Reading::Discard && self.left > 0 {
            asked = buffer.len().min(self.left as usize);
            let flags = MsgFlags::MSG_TRUNC;
            count = recv(self.socket.as_raw_fd(), &mut buffer[..asked], flags)?;
        } else {
            asked = buffer.len();
            count = self.socket.read(buffer)?;
        }
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if !self.take(&buffer[..count], common, scenario)? {
            return Ok(Done::Left);
        }
        self.flush(common.upload)?;
        Ok(match count < asked && !self.ended {
            true => Done::Blocked,
            false => Done::Again,
        })
    }

    fn flush(&mut self, upload: &[u8]) -> io::Result<()> {
        let is_apart = !self.unsent.over_data.is_empty();
        while !self.unsent.text.is_empty() || (self.unsent.body > 0 && !is_apart) {
            let text = &mut self.unsent.text;
            let bytes = match text.is_empty() {
                false => &text[..],
                true => &upload[..upload.len().min(self.unsent.body as usize)],
            };
            match self.socket.write(bytes) {
                Ok(count) if text.is_empty() => {
                    self.unsent.body -= count as u64;
                    self.sent += count as u64;
                }
                Ok(count) => drop(text.drain(..count)),
                Err(error) => {
                    // An answer may come before all is said.
                    return match waits(&error) {
                        true if self.unsent.body > 0 && text.is_empty() => Ok(()),
                        true => Err(ErrorKind::WouldBlock.into()),
                        false => Err(error),
                    };
                }
            }
        }
        Ok(())
    }

    /// Moves bytes over the data connection: of an upload until it blocks, of a download by one read. False where there is
    /// nothing to move.
    fn move_data(&mut self, buffer: &mut [u8], common: &Common) -> io::Result<bool> {
        let Some(data) = &mut self.data else {
            return Ok(false);
        };
        let Some(socket) = &mut data.socket else {
            return Ok(false);
        };
        while data.left > 0 {
            let most = common.upload.len().min(data.left as usize);
            let count = socket.write(&common.upload[..most])? as u64;
            data.left -= count;
            self.sent += count;
        }
        if data.is_upload {
            data.socket = None;
            return Ok(true);
        }
        let count = match common.reading {
            Reading::Discard => recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?,
            _ => socket.read(buffer)?,
        };
        if count == 0 {
            data.socket = None;
        }
        self.received += count as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        Ok(true)
    }

    /// Ends the data connection where both sides are through with it.
    fn end_data(&mut self) -> Option<News> {
        let data = self
            .data
            .take_if(|data| data.socket.is_none() && data.is_confirmed)?;
        Some(match data.is_upload {
            true => News::Uploaded {
                took: self.said.elapsed(),
            },
            false => self.downloaded(),
        })
    }

    /// Tells the scenario and does what it answers; false where the client leaves.
    fn tell(&mut self, news: News, scenario: &mut dyn FnMut(News) -> Next) -> bool {
        match scenario(news) {
            Next::Wait => {}
            Next::Say(words) => self.say(words),
            Next::Leave => return false,
        }
        true
    }

    /// Takes what came; false where the client leaves over it.
    fn take(
        &mut self,
        mut bytes: &[u8],
        common: &Common,
        scenario: &mut dyn FnMut(News) -> Next,
    ) -> io::Result<bool> {
        while !bytes.is_empty() {
            let news = if self.left > 0 {
                let (content, rest) = bytes.split_at(bytes.len().min(self.left as usize));
                bytes = rest;
                self.left -= content.len() as u64;
                self.received += content.len() as u64;
                if let Some(hash) = &mut self.hash {
                    hash.update(content);
                }
                if self.left > 0 {
                    return Ok(true);
                }
                self.downloaded()
            } else if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
                let (line, rest) = bytes.split_at(end);
                bytes = &rest[1..];
                let heard = match self.line.is_empty() {
                    true => self.speech.hear(line),
                    false => {
                        self.line.extend_from_slice(line);
                        let heard = self.speech.hear(&self.line);
                        self.line.clear();
                        heard
                    }
                };
                match heard.ok_or(ErrorKind::InvalidData)? {
                    Heard::Nothing => continue,
                    Heard::File(0) => self.downloaded(),
                    Heard::File(length) => {
                        self.left = length;
                        self.hash = (common.reading == Reading::Verify).then(Sha256::new);
                        News::Begun
                    }
                    Heard::Port(port) => {
                        let left = mem::take(&mut self.unsent.body);
                        self.data = Some(Data {
                            socket: Some((common.dial)(self.source, port)?),
                            is_upload: left > 0,
                            left,
                            is_confirmed: false,
                        });
                        self.hash = (common.reading == Reading::Verify).then(Sha256::new);
                        self.unsent.text.append(&mut self.unsent.over_data);
                        continue;
                    }
                    Heard::Opened => News::Begun,
                    Heard::TransferDone => {
                        let data = self.data.as_mut().ok_or(ErrorKind::InvalidData)?;
                        data.is_confirmed = true;
                        match self.end_data() {
                            Some(news) => news,
                            None => continue,
                        }
                    }
                    Heard::Ready => News::Ready,
                    Heard::Uploaded => News::Uploaded {
                        took: self.said.elapsed(),
                    },
                    Heard::ListingTarget => News::ListingTarget,
                    Heard::LoginFailed => News::LoginFailed,
                    Heard::Refused => News::Refused,
                }
            } else {
                self.line.extend_from_slice(bytes);
                return Ok(true);
            };
            if !self.tell(news, scenario) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn downloaded(&mut self) -> News {
        News::Downloaded {
            took: self.said.elapsed(),
            digest: self.hash.take().map(|hash| hash.finalize().into()),
        }
    }
}
