//! A client's connection: the socket, the protocol session and the buffers in between.
//!
//! The socket is non-blocking. All waiting happens in `poll`, bounded by the timeout, the deadline
//! and an optional signal. While the client waits to send, it also receives. Otherwise a client and
//! a server that both send could block each other.

use std::fs::File;
use std::io;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::sendfile::sendfile64;
use nix::sys::signalfd::SignalFd;

use crate::client::connect_failure;
use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::pipe::Pipe;
use crate::domain::error::ErrorCode;
use crate::limits;
use crate::protocol::menu::client::{ClientEvent, ClientSession, InvalidName};
use crate::protocol::menu::text;

/// Bytes per `sendfile`, and so between two updates of the progress bar.
const SEND_BYTES: u64 = 1024 * 1024;

/// Pending commands and small files are sent once they exceed this many bytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// The error for a local file that is truncated during its upload.
pub(super) const FILE_SHRANK: &str = "the file became shorter during the upload; upload it again";

/// A chunk of a file that is being downloaded.
pub(super) enum FileChunk<'a> {
    /// In the receive buffer: received along with messages, or a short rest.
    Buffered(&'a [u8]),
    /// In a pipe, without a copy in this process.
    Piped(&'a mut Pipe),
}

impl FileChunk<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            FileChunk::Buffered(bytes) => bytes.len(),
            FileChunk::Piped(pipe) => pipe.len(),
        }
    }
}

/// The file of a server that an upload creates.
#[derive(Clone, Copy, Debug)]
pub(super) struct UploadTarget<'a> {
    pub(super) path: &'a str,
    /// Whether an existing file is replaced.
    pub(super) replaces: bool,
}

/// A connection to a server, logged in.
pub(super) struct ClientConnection {
    stream: TcpStream,
    session: ClientSession,
    /// Commands and small files that are not sent yet.
    send_buffer: Vec<u8>,
    /// `start..end` holds received bytes that are not processed yet.
    receive_buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the announced file that the caller has to read before the next event.
    file_bytes_left: u64,
    /// Created with the first large file.
    pipe: Option<Pipe>,
    timeout: Duration,
    /// Ends the connection at this time even if it makes progress.
    deadline: Option<Instant>,
    /// Bytes that the server may have to hash or store before its next reply.
    server_work_bytes: u64,
    /// The first reason why sending or receiving failed. Messages received before remain readable.
    lost: Option<String>,
    /// Readable once the user pressed Ctrl-C.
    interrupt: Option<Rc<SignalFd>>,
    is_quitting: bool,
}

impl ClientConnection {
    /// Connects and logs in.
    pub(super) fn open(login: &RemoteLogin) -> Result<ClientConnection, ClientError> {
        ClientConnection::start(login, None, None)
    }

    /// Connects and logs in. A signal on `interrupt` aborts the connection wherever it waits.
    pub(super) fn open_interruptible(
        login: &RemoteLogin,
        interrupt: Rc<SignalFd>,
    ) -> Result<ClientConnection, ClientError> {
        ClientConnection::start(login, Some(interrupt), None)
    }

    /// Connects and logs in. The deadline also applies to all later requests.
    pub(super) fn open_with_deadline(
        login: &RemoteLogin,
        deadline: Instant,
    ) -> Result<ClientConnection, ClientError> {
        ClientConnection::start(login, None, Some(deadline))
    }

    fn start(
        login: &RemoteLogin,
        interrupt: Option<Rc<SignalFd>>,
        deadline: Option<Instant>,
    ) -> Result<ClientConnection, ClientError> {
        let stream = connect_socket(login)?;
        let failed = |error: io::Error| ClientError::Fatal(error.to_string());
        stream.set_nonblocking(true).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut connection = ClientConnection {
            stream,
            session: ClientSession::new(),
            send_buffer: Vec::new(),
            receive_buffer: vec![0; limits::CLIENT_BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            file_bytes_left: 0,
            pipe: None,
            timeout: login.timeout,
            deadline,
            server_work_bytes: 0,
            lost: None,
            interrupt,
            is_quitting: false,
        };
        connection.log_in(login)?;
        Ok(connection)
    }

    fn log_in(&mut self, login: &RemoteLogin) -> Result<(), ClientError> {
        let failed = || {
            let source = login.password_source.iter();
            let source: String = source.map(|source| format!(" in {source}")).collect();
            ClientError::Fatal(format!(
                "login failed; check the username and the password{source}"
            ))
        };
        self.send_command(|session, out| session.login(&login.remote.user, out))?;
        let reply = self.receive_event(|event| event == ClientEvent::PasswordWanted);
        match reply.map_err(|error| self.explain_greeting(login, error))? {
            true => {}
            false => return Err(failed()),
        }
        self.send_command(|session, out| session.password(&login.password, out))
            .map_err(|_| {
                ClientError::Fatal(
                    "the password cannot be sent: it is too long or contains a line end".into(),
                )
            })?;
        let is_logged_in = self.receive_event(|event| event == ClientEvent::LoggedIn)?;
        // The sent password is still in the buffer's memory.
        zeroize::Zeroize::zeroize(&mut self.send_buffer);
        match is_logged_in {
            true => Ok(()),
            false => Err(failed()),
        }
    }

    /// Explains an error before the reply to the username: another program may have the port.
    fn explain_greeting(&self, login: &RemoteLogin, error: ClientError) -> ClientError {
        let ClientError::Fatal(reason) = &error else {
            return error;
        };
        let received = &self.receive_buffer[self.start..self.end];
        match (received.is_empty(), self.start) {
            (true, 0) => connect_failure::no_greeting(&login.remote, reason),
            (true, _) => error,
            (false, _) => connect_failure::not_a_menu(&login.remote, received).unwrap_or(error),
        }
    }

    /// Appends one of [`ClientSession`]'s commands to the send buffer, which is sent when it is
    /// full or before the next event is received.
    pub(super) fn send_command(
        &mut self,
        command: impl FnOnce(&mut ClientSession, &mut Vec<u8>) -> Result<(), InvalidName>,
    ) -> Result<(), ClientError> {
        command(&mut self.session, &mut self.send_buffer)
            .map_err(|error| ClientError::Local(error.to_string()))
    }

    fn announce_upload(
        &mut self,
        target: UploadTarget<'_>,
        length: u64,
    ) -> Result<(), ClientError> {
        let UploadTarget { path, replaces } = target;
        self.send_command(|session, out| match replaces {
            true => session.put(path, length, out),
            false => session.put_new(path, length, out),
        })
    }

    /// Appends an upload with its content to the send buffer, and sends the buffer if it is full.
    pub(super) fn send_small_file(
        &mut self,
        target: UploadTarget<'_>,
        content: &[u8],
    ) -> Result<(), ClientError> {
        self.announce_upload(target, content.len() as u64)?;
        self.send_buffer.extend_from_slice(content);
        match self.send_buffer.len() > SEND_BUFFER_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Sends an upload with the first `length` bytes of a file. Calls `on_progress` with the number
    /// of bytes of each chunk sent.
    pub(super) fn send_file(
        &mut self,
        target: UploadTarget<'_>,
        file: &File,
        length: u64,
        mut on_progress: impl FnMut(u64),
    ) -> Result<(), ClientError> {
        self.announce_upload(target, length)?;
        self.flush()?;
        let mut offset: i64 = 0;
        while (offset as u64) < length {
            self.check_cancelled()?;
            let count = (length - offset as u64).min(SEND_BYTES) as usize;
            match sendfile64(&self.stream, file, Some(&mut offset), count) {
                Ok(0) => {
                    return Err(ClientError::Aborted(FILE_SHRANK.into()));
                }
                Ok(count) => on_progress(count as u64),
                Err(Errno::EAGAIN) => self.wait_until_writable()?,
                Err(Errno::EINTR) => {}
                Err(error @ (Errno::EPIPE | Errno::ECONNRESET | Errno::ETIMEDOUT)) => {
                    return Err(self.socket_error(error.into()));
                }
                Err(error) => return Err(ClientError::Aborted(error.desc().into())),
            }
        }
        Ok(())
    }

    /// Receives the next event and passes it to `handle`. A goodbye is an error, except after
    /// [`ClientConnection::quit`].
    ///
    /// # Panics
    /// If the announced file has not been read to its end.
    pub(super) fn receive_event<T>(
        &mut self,
        handle: impl FnOnce(ClientEvent<'_>) -> T,
    ) -> Result<T, ClientError> {
        assert_eq!(
            self.file_bytes_left, 0,
            "a file is read before the next event"
        );
        if self.lost.is_none() {
            match self.flush() {
                // The server may have said why before it closed. If it did not, the same error is
                // returned below.
                Ok(()) | Err(ClientError::Fatal(_)) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let unprocessed = &self.receive_buffer[self.start..self.end];
            let received = (self.session.receive(unprocessed))
                .map_err(|violation| ClientError::Fatal(violation.to_string()))?;
            self.start += received.used;
            if let Some(event) = received.event {
                return match event {
                    ClientEvent::Goodbye(message) if !self.is_quitting => {
                        Err(unexpected_goodbye(message))
                    }
                    event => {
                        if let ClientEvent::File { length } = event {
                            self.file_bytes_left = length;
                        }
                        Ok(handle(event))
                    }
                };
            }
            if self.receive()? == 0 {
                return Err(self.closed_by_server());
            }
        }
    }

    /// Receives the reply to the oldest command and converts it by `convert`. A refusal is an
    /// error, and so is an event that `convert` does not expect.
    pub(super) fn receive_reply<T>(
        &mut self,
        convert: impl FnOnce(ClientEvent<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        self.receive_event(|event| match event {
            ClientEvent::Refused(reason) => Err(ClientError::Refused(reason)),
            event => convert(event).ok_or_else(|| {
                ClientError::Fatal("the server's reply does not match the command".into())
            }),
        })?
    }

    /// Reads the next chunk of the announced file; empty at its end. Drops the rest of the chunk
    /// before, if the caller left one.
    pub(super) fn read_file_chunk(&mut self) -> Result<FileChunk<'_>, ClientError> {
        let is_buffer_empty = self.start == self.end;
        if is_buffer_empty && self.file_bytes_left > self.receive_buffer.len() as u64 {
            return self.splice_file_chunk();
        }
        if is_buffer_empty && self.file_bytes_left > 0 && self.receive()? == 0 {
            return Err(self.closed_by_server());
        }
        let available = (self.end - self.start) as u64;
        let count = self.file_bytes_left.min(available) as usize;
        self.file_bytes_left -= count as u64;
        self.start += count;
        let chunk = &self.receive_buffer[self.start - count..self.start];
        Ok(FileChunk::Buffered(chunk))
    }

    fn splice_file_chunk(&mut self) -> Result<FileChunk<'_>, ClientError> {
        let failed = |error: io::Error| ClientError::Aborted(error.to_string());
        let mut pipe = match self.pipe.take() {
            Some(pipe) if pipe.len() == 0 => pipe,
            _ => Pipe::new().map_err(failed)?,
        };
        self.check_cancelled()?;
        loop {
            match pipe.fill(&self.stream, self.file_bytes_left) {
                Ok(0) => return Err(self.closed_by_server()),
                Ok(count) => {
                    self.file_bytes_left -= count as u64;
                    return Ok(FileChunk::Piped(self.pipe.insert(pipe)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.lost.is_none() => {
                    self.wait_for(PollFlags::POLLIN)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.socket_error(error)),
            }
        }
    }

    /// Returns the number of bytes of the announced file that are not read yet.
    pub(super) fn file_bytes_left(&self) -> u64 {
        self.file_bytes_left
    }

    /// Extends the timeout by the time in which the server hashes or stores `bytes`; 0 resets it.
    pub(super) fn set_server_work(&mut self, bytes: u64) {
        self.server_work_bytes = bytes;
    }

    /// Replaces the deadline.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Sends `QUIT` and waits for the goodbye. All requests have their replies, so errors are
    /// ignored.
    pub(super) fn quit(mut self) {
        self.is_quitting = true;
        self.session.quit(&mut self.send_buffer);
        while self
            .receive_event(|event| !matches!(event, ClientEvent::Goodbye(_)))
            .unwrap_or(false)
        {}
    }

    /// Sends the send buffer.
    pub(super) fn flush(&mut self) -> Result<(), ClientError> {
        let mut sent = 0;
        while sent < self.send_buffer.len() {
            match self.stream.write(&self.send_buffer[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_until_writable()?
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.socket_error(error)),
            }
        }
        self.send_buffer.clear();
        Ok(())
    }

    /// Receives once and returns the number of bytes, 0 at the end of input. The buffer has room,
    /// since unprocessed bytes are less than the longest line of a server, or a file follows.
    fn receive(&mut self) -> Result<usize, ClientError> {
        self.compact_receive_buffer();
        self.check_cancelled()?;
        loop {
            match self.stream.read(&mut self.receive_buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.lost.is_none() => {
                    self.wait_for(PollFlags::POLLIN)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.socket_error(error)),
            }
        }
    }

    /// Waits until the socket is writable. Receives meanwhile while the buffer has room.
    fn wait_until_writable(&mut self) -> Result<(), ClientError> {
        self.compact_receive_buffer();
        let mut events = PollFlags::POLLOUT;
        if self.end < self.receive_buffer.len() {
            events |= PollFlags::POLLIN;
        }
        let ready = self.wait_for(events)?;
        if ready.contains(PollFlags::POLLIN) && self.receive()? == 0 {
            return Err(self.closed_by_server());
        }
        Ok(())
    }

    fn compact_receive_buffer(&mut self) {
        self.receive_buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }

    /// Waits for one of `events`, up to the timeout.
    fn wait_for(&mut self, events: PollFlags) -> Result<PollFlags, ClientError> {
        let work = self
            .server_work_bytes
            .div_ceil(limits::SERVER_WORK_BYTES_PER_SECOND);
        let timeout = self.timeout.saturating_add(Duration::from_secs(work));
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                let seconds = timeout.as_secs();
                return Err(self.set_lost(format_args!(
                    "timed out: no data for {seconds} s; use --timeout to wait longer"
                )));
            }
            let until_deadline = self
                .deadline
                .map(|at| at.saturating_duration_since(Instant::now()));
            // One more millisecond, because a shorter rest would be rounded down to a busy loop.
            let wait = until_deadline.map_or(left, |until| until.min(left));
            let wait = wait + Duration::from_millis(1);
            let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
            let mut polled = vec![PollFd::new(self.stream.as_fd(), events)];
            if let Some(interrupt) = &self.interrupt {
                polled.push(PollFd::new(interrupt.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut polled, wait) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(ClientError::Fatal(error.desc().into())),
            }
            let ready = polled[0].revents().unwrap_or(PollFlags::empty());
            self.check_cancelled()?;
            if !ready.is_empty() {
                return Ok(ready);
            }
        }
    }

    /// Fails after the deadline or a signal.
    fn check_cancelled(&self) -> Result<(), ClientError> {
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            return Err(ClientError::Aborted("the deadline was exceeded".into()));
        }
        match self.interrupt.as_ref().map(|fd| fd.read_signal()) {
            Some(Ok(Some(_))) => Err(ClientError::Aborted("interrupted".into())),
            _ => Ok(()),
        }
    }

    /// Marks the connection as lost and returns the error, which has the first reason.
    fn set_lost(&mut self, reason: impl ToString) -> ClientError {
        let reason = self.lost.get_or_insert_with(|| reason.to_string());
        ClientError::Fatal(reason.clone())
    }

    fn socket_error(&mut self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => self.closed_by_server(),
            _ => self.set_lost(error),
        }
    }

    fn closed_by_server(&mut self) -> ClientError {
        match self.file_bytes_left {
            0 => self.set_lost("the server closed the connection"),
            left => self.set_lost(format_args!(
                "the server closed the connection {left} bytes before the end of the file; use --continue to resume"
            )),
        }
    }
}

/// Classifies a goodbye that does not reply to `QUIT`. The idle timeout and a full disk concern
/// this connection only.
fn unexpected_goodbye(message: &str) -> ClientError {
    match message {
        text::IDLE => ClientError::Idle,
        _ if message == text::refusal(ErrorCode::NoSpace) => ClientError::Aborted(message.into()),
        _ => ClientError::Fatal(message.into()),
    }
}

/// Connects to the first address of the server that accepts.
fn connect_socket(login: &RemoteLogin) -> Result<TcpStream, ClientError> {
    let addresses = login.remote.addresses();
    let mut last_error = io::Error::from(io::ErrorKind::NotFound);
    for address in
        addresses.map_err(|error| connect_failure::unknown_host(&login.remote, &error))?
    {
        match TcpStream::connect_timeout(&address, login.timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last_error = error,
        }
    }
    Err(connect_failure::no_connection(login, &last_error))
}
