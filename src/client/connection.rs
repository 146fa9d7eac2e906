//! One connection to a server: its socket, the dialogue over it, and what was received and not yet taken.
//!
//! The socket never blocks in a call; who waits does so in `poll`, with a limit, and on a signal to stop where one may come.
//! While it waits to send it also receives, so that two ends that both send cannot hold each other up.
//!
//! Must not know: what is asked for, where bytes land.

use std::fs::File;
use std::io;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::off64_t;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::sendfile::sendfile64;
use nix::sys::signalfd::SignalFd;

use crate::client::error::Error;
use crate::client::login::Login;
use crate::client::pipe::Pipe;
use crate::domain::error::ErrorCode;
use crate::limits;
use crate::protocol::menu::client::{ClientEvent, ClientSession, InvalidName};
use crate::protocol::menu::text;

/// Bytes that one `sendfile` is asked to move: as often is the bar drawn.
const SEND_BYTES: u64 = 1024 * 1024;

/// Bytes of commands and small files that are gathered before they are sent.
const GATHERED_BYTES: usize = 64 * 1024;

/// A piece of a file on its way here.
pub(super) enum Piece<'a> {
    /// Received with what was said before it, or too short for more than that.
    Bytes(&'a [u8]),
    /// Still in the kernel.
    Piped(&'a mut Pipe),
}

impl Piece<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Piped(pipe) => pipe.held(),
        }
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    dialogue: ClientSession,
    /// What is said and not yet sent.
    out: Vec<u8>,
    /// What was received; `start..end` is not yet taken.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of a file that are still to be taken before anything can be heard.
    left: u64,
    /// For large files, once one came.
    pipe: Option<Pipe>,
    timeout: Duration,
    /// When it is given up, whatever moves.
    deadline: Option<Instant>,
    /// Bytes that the server may have to work through before it can do anything else.
    at_work: u64,
    /// Why nothing more can be sent. What the server said before can still be heard.
    lost: Option<String>,
    /// Readable where the person wants no more of it.
    interrupt: Option<Rc<SignalFd>>,
    is_leaving: bool,
}

impl Connection {
    /// Connects and logs in.
    pub(super) fn open(login: &Login) -> Result<Connection, Error> {
        Connection::start(login, None, None)
    }

    /// As [`Connection::open`]; a signal on `interrupt` abandons the connection wherever it waits.
    pub(super) fn open_interruptible(
        login: &Login,
        interrupt: Option<Rc<SignalFd>>,
    ) -> Result<Connection, Error> {
        Connection::start(login, interrupt, None)
    }

    /// As [`Connection::open`], up to `deadline`, which holds for what is asked for then, too.
    pub(super) fn open_until(login: &Login, deadline: Instant) -> Result<Connection, Error> {
        Connection::start(login, None, Some(deadline))
    }

    fn start(
        login: &Login,
        interrupt: Option<Rc<SignalFd>>,
        deadline: Option<Instant>,
    ) -> Result<Connection, Error> {
        let stream = connect(login)?;
        let failed = |error: io::Error| Error::Broken(error.to_string());
        stream.set_nonblocking(true).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut connection = Connection {
            stream,
            dialogue: ClientSession::new(),
            out: Vec::new(),
            buffer: vec![0; limits::CLIENT_BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            left: 0,
            pipe: None,
            timeout: login.timeout,
            deadline,
            at_work: 0,
            lost: None,
            interrupt,
            is_leaving: false,
        };
        connection.log_in(login)?;
        Ok(connection)
    }

    fn log_in(&mut self, login: &Login) -> Result<(), Error> {
        let failed = || Error::Broken(text::LOGIN_FAILED.into());
        self.ask(|dialogue, out| dialogue.login(&login.remote.user, out))?;
        if !self.hear(|event| event == ClientEvent::PasswordWanted)? {
            return Err(failed());
        }
        self.ask(|dialogue, out| dialogue.password(&login.password, out))
            .map_err(|_| Error::Broken("the protocol cannot say this password".into()))?;
        let is_logged_in = self.hear(|event| event == ClientEvent::LoggedIn)?;
        // It was the last word in there, and the next ones go over it.
        zeroize::Zeroize::zeroize(&mut self.out);
        match is_logged_in {
            true => Ok(()),
            false => Err(failed()),
        }
    }

    /// Asks by one of [`ClientSession`]'s commands, which goes out with the next ones or before the next answer.
    pub(super) fn ask(
        &mut self,
        command: impl FnOnce(&mut ClientSession, &mut Vec<u8>) -> Result<(), InvalidName>,
    ) -> Result<(), Error> {
        command(&mut self.dialogue, &mut self.out).map_err(|error| Error::Here(error.to_string()))
    }

    /// Announces an upload of these bytes, and sends them with what is sent next.
    pub(super) fn put_gathered(&mut self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        self.ask(|dialogue, out| dialogue.put(path, bytes.len() as u64, out))?;
        self.out.extend_from_slice(bytes);
        match self.out.len() > GATHERED_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Announces an upload of the first `length` bytes of a file, and sends them; `moved` is told of each piece's length.
    pub(super) fn put_file(
        &mut self,
        path: &str,
        file: &File,
        length: u64,
        mut moved: impl FnMut(u64),
    ) -> Result<(), Error> {
        self.ask(|dialogue, out| dialogue.put(path, length, out))?;
        self.flush()?;
        let mut offset: off64_t = 0;
        while (offset as u64) < length {
            self.check_wanted()?;
            let count = (length - offset as u64).min(SEND_BYTES) as usize;
            match sendfile64(&self.stream, file, Some(&mut offset), count) {
                Ok(0) => {
                    return Err(Error::Abandoned(
                        "it became shorter while it was sent".into(),
                    ));
                }
                Ok(count) => moved(count as u64),
                Err(Errno::EAGAIN) => self.wait_to_send()?,
                Err(Errno::EINTR) => {}
                Err(error @ (Errno::EPIPE | Errno::ECONNRESET | Errno::ETIMEDOUT)) => {
                    return Err(self.failed(error.into()));
                }
                Err(error) => return Err(Error::Abandoned(error.desc().into())),
            }
        }
        Ok(())
    }

    /// Hears what the server says next and gives it to `take`. A goodbye that was not asked for is an error.
    ///
    /// # Panics
    /// Where bytes of a file are still to be taken.
    pub(super) fn hear<T>(&mut self, take: impl FnOnce(ClientEvent<'_>) -> T) -> Result<T, Error> {
        assert_eq!(self.left, 0, "a file's bytes come before the next answer");
        if self.lost.is_none() {
            match self.flush() {
                // What was said before can still be heard; if nothing was, the failure is told below.
                Ok(()) | Err(Error::Broken(_)) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let heard = self.dialogue.receive(&self.buffer[self.start..self.end]);
            let heard = heard.map_err(|violation| Error::Broken(violation.to_string()))?;
            self.start += heard.used;
            if let Some(event) = heard.event {
                return match event {
                    ClientEvent::Goodbye(goodbye) if !self.is_leaving => Err(said_goodbye(goodbye)),
                    event => {
                        if let ClientEvent::File { length } = event {
                            self.left = length;
                        }
                        Ok(take(event))
                    }
                };
            }
            if self.receive()? == 0 {
                return Err(self.closed());
            }
        }
    }

    /// The next piece of the file that [`ClientEvent::File`] announced; empty at its end. What was not taken of the piece before it
    /// is thrown away.
    pub(super) fn take(&mut self) -> Result<Piece<'_>, Error> {
        if self.start == self.end && self.left > self.buffer.len() as u64 {
            return self.take_piped();
        }
        if self.left > 0 && self.start == self.end && self.receive()? == 0 {
            return Err(self.closed());
        }
        let piece = self.end - self.start;
        let piece = self.left.min(piece as u64) as usize;
        self.left -= piece as u64;
        self.start += piece;
        Ok(Piece::Bytes(&self.buffer[self.start - piece..self.start]))
    }

    fn take_piped(&mut self) -> Result<Piece<'_>, Error> {
        let failed = |error: io::Error| Error::Abandoned(error.to_string());
        let mut pipe = match self.pipe.take() {
            Some(pipe) if pipe.held() == 0 => pipe,
            _ => Pipe::new().map_err(failed)?,
        };
        self.check_wanted()?;
        loop {
            match pipe.fill(&self.stream, self.left) {
                Ok(0) => return Err(self.closed()),
                Ok(count) => {
                    self.left -= count as u64;
                    return Ok(Piece::Piped(self.pipe.insert(pipe)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.lost.is_none() => {
                    self.wait(PollFlags::POLLIN)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Bytes of the announced file that were not taken yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The server may be busy with so many bytes of checksums and uploads, and is given the time for it.
    pub(super) fn set_at_work(&mut self, bytes: u64) {
        self.at_work = bytes;
    }

    /// From now on another moment is the one when it is given up.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Says goodbye. There is nothing left that could fail.
    pub(super) fn quit(mut self) {
        self.is_leaving = true;
        self.dialogue.quit(&mut self.out);
        while self
            .hear(|event| !matches!(event, ClientEvent::Goodbye(_)))
            .unwrap_or(false)
        {}
    }

    /// Sends what was gathered.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_to_send()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Receives once, waiting where nothing is there, and returns how many bytes came: 0 where the server has closed. There
    /// is room, since neither a line nor a piece of a file fills the buffer.
    fn receive(&mut self) -> Result<usize, Error> {
        self.make_room();
        self.check_wanted()?;
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.lost.is_none() => {
                    self.wait(PollFlags::POLLIN)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Waits until the socket takes bytes, and receives meanwhile as long as there is room.
    fn wait_to_send(&mut self) -> Result<(), Error> {
        self.make_room();
        let mut wanted = PollFlags::POLLOUT;
        if self.end < self.buffer.len() {
            wanted |= PollFlags::POLLIN;
        }
        let ready = self.wait(wanted)?;
        if ready.contains(PollFlags::POLLIN) && self.receive()? == 0 {
            return Err(self.closed());
        }
        Ok(())
    }

    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }

    /// Waits for one of `wanted`, within the time for it.
    fn wait(&mut self, wanted: PollFlags) -> Result<PollFlags, Error> {
        let work = self.at_work.div_ceil(limits::SERVER_WORK_BYTES_PER_SECOND);
        let allowed = self.timeout.saturating_add(Duration::from_secs(work));
        let start = Instant::now();
        loop {
            let left = allowed.saturating_sub(start.elapsed());
            if left.is_zero() {
                let seconds = allowed.as_secs();
                return Err(self.lose(format_args!("nothing moved for {seconds} s")));
            }
            let deadline = self
                .deadline
                .map(|at| at.saturating_duration_since(Instant::now()));
            // Rounded up, so that the last millisecond is not spun through.
            let left =
                deadline.map_or(left, |deadline| deadline.min(left)) + Duration::from_millis(1);
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut polled = vec![PollFd::new(self.stream.as_fd(), wanted)];
            if let Some(interrupt) = &self.interrupt {
                polled.push(PollFd::new(interrupt.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut polled, left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(Error::Broken(error.desc().into())),
            }
            let ready = polled[0].revents().unwrap_or(PollFlags::empty());
            self.check_wanted()?;
            if !ready.is_empty() {
                return Ok(ready);
            }
        }
    }

    /// Whether there is still somebody who waits.
    fn check_wanted(&self) -> Result<(), Error> {
        if self
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return Err(Error::Abandoned("it takes too long".into()));
        }
        match self.interrupt.as_ref().map(|fd| fd.read_signal()) {
            Some(Ok(Some(_))) => Err(Error::Abandoned("interrupted".into())),
            _ => Ok(()),
        }
    }

    /// The connection takes nothing more, or gives nothing more: the first reason is the one that is told.
    fn lose(&mut self, reason: impl ToString) -> Error {
        Error::Broken(self.lost.get_or_insert_with(|| reason.to_string()).clone())
    }

    fn failed(&mut self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => self.closed(),
            _ => self.lose(error),
        }
    }

    fn closed(&mut self) -> Error {
        match self.left {
            0 => self.lose("the server closed the connection"),
            left => self.lose(format_args!(
                "the server closed the connection {left} bytes before the end of the file"
            )),
        }
    }
}

/// A goodbye that nobody asked for. After the one about a file, or about being silent, another connection may do.
fn said_goodbye(goodbye: &str) -> Error {
    match goodbye {
        text::IDLE => Error::Idle,
        _ if goodbye == text::refusal(ErrorCode::NoSpace) => Error::Abandoned(goodbye.into()),
        _ => Error::Broken(goodbye.into()),
    }
}

fn connect(login: &Login) -> Result<TcpStream, Error> {
    let addresses = login.remote.addresses();
    let mut failure = String::new();
    for address in addresses.map_err(|error| Error::Broken(error.to_string()))? {
        match TcpStream::connect_timeout(&address, login.timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error.to_string(),
        }
    }
    Err(Error::Broken(failure))
}
