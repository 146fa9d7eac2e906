//! One client of the load generator: its control connection, its unsent request and the reply it is
//! reading.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use nix::sys::socket::{MsgFlags, recv};

use crate::client::data_transfer::DataTransfer;
use crate::client::message::{ClientEvent, ClientRequest, Reaction, ReadMode, ServerReply};
use crate::client::socket::is_pending;
use crate::client::traffic::Traffic;
use crate::client::wire_protocol::WireProtocol;

/// What all clients share.
pub(crate) struct Shared<'a> {
    /// The content of uploads, repeated as often as needed.
    pub(crate) content: &'a [u8],
    pub(crate) read_mode: ReadMode,
    /// Opens a data connection from an address to a port of the server.
    pub(crate) connect_data: &'a dyn Fn(Ipv4Addr, u16) -> io::Result<TcpStream>,
}

/// How a client's time slice ended.
pub(crate) enum SliceEnd {
    /// More input may be available.
    Again,
    /// The next event continues.
    Blocked,
    /// The scenario dropped the client.
    Disconnected,
}

/// A client.
pub(crate) struct LoadClient {
    socket: TcpStream,
    /// Source address, also of data connections.
    source: Ipv4Addr,
    protocol: WireProtocol,
    data: Option<DataTransfer>,
    unsent: ClientRequest,
    requested_at: Instant,
    /// The server has closed its sending half, so that a short read is not the last.
    peer_closed: bool,
    /// A line whose end has not arrived yet.
    partial_line: Vec<u8>,
    /// Bytes of the current file that follow on the control connection.
    body_remaining: u64,
    traffic: Traffic,
}

impl LoadClient {
    pub(crate) fn new(
        socket: TcpStream,
        source: Ipv4Addr,
        protocol: WireProtocol,
        request: ClientRequest,
    ) -> LoadClient {
        LoadClient {
            socket,
            source,
            protocol,
            data: None,
            unsent: request,
            requested_at: Instant::now(),
            peer_closed: false,
            partial_line: Vec::new(),
            body_remaining: 0,
            traffic: Traffic::default(),
        }
    }

    /// Appends a request to the unsent bytes.
    pub(crate) fn request(&mut self, request: ClientRequest) {
        self.unsent.text.extend_from_slice(&request.text);
        self.unsent.text_after_port = request.text_after_port;
        self.unsent.body += request.body;
        self.requested_at = Instant::now();
    }

    /// Records that the server has closed its sending half.
    pub(crate) fn set_peer_closed(&mut self) {
        self.peer_closed = true;
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The event for the end of the connection.
    pub(crate) fn closed(&self) -> ClientEvent {
        ClientEvent::Closed {
            mid_transfer: self.body_remaining > 0 || self.data.is_some(),
            elapsed: self.elapsed(),
        }
    }

    /// Sends the unsent bytes, then reads once into `buffer`. The end of the connection is an
    /// error.
    pub(crate) fn run_slice(
        &mut self,
        buffer: &mut [u8],
        shared: &Shared,
        scenario: &mut dyn FnMut(ClientEvent) -> Reaction,
    ) -> io::Result<SliceEnd> {
        self.flush(shared.content)?;
        if buffer.is_empty() {
            return Ok(SliceEnd::Blocked);
        }
        match self.advance_data(buffer, shared) {
            Ok(true) => {
                let event = self.complete_data();
                return Ok(match self.notify(event, scenario) {
                    true => SliceEnd::Again,
                    false => SliceEnd::Disconnected,
                });
            }
            Err(error) if !is_pending(&error) => return Err(error),
            _ => {}
        }
        let (requested, count) = self.read(buffer, shared.read_mode)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if !self.consume(&buffer[..count], shared, scenario)? {
            return Ok(SliceEnd::Disconnected);
        }
        self.flush(shared.content)?;
        Ok(match count < requested && !self.peer_closed {
            true => SliceEnd::Blocked,
            false => SliceEnd::Again,
        })
    }

    /// Reads once. Returns how many bytes were requested and how many arrived.
    fn read(&mut self, buffer: &mut [u8], mode: ReadMode) -> io::Result<(usize, usize)> {
        if mode == ReadMode::Discard && self.body_remaining > 0 {
            let requested = buffer.len().min(self.body_remaining as usize);
            let flags = MsgFlags::MSG_TRUNC;
            let count = recv(self.socket.as_raw_fd(), &mut buffer[..requested], flags)?;
            return Ok((requested, count));
        }
        let count = self.socket.read(buffer)?;
        Ok((buffer.len(), count))
    }

    fn flush(&mut self, content: &[u8]) -> io::Result<()> {
        let uses_data_connection = !self.unsent.text_after_port.is_empty();
        while !self.unsent.text.is_empty() || (self.unsent.body > 0 && !uses_data_connection) {
            let text = &mut self.unsent.text;
            let bytes = match text.is_empty() {
                false => &text[..],
                true => &content[..content.len().min(self.unsent.body as usize)],
            };
            match self.socket.write(bytes) {
                Ok(count) if text.is_empty() => {
                    self.unsent.body -= count as u64;
                    self.traffic.send(count as u64);
                }
                Ok(count) => drop(text.drain(..count)),
                Err(error) => {
                    // The server may reply before the whole body is sent.
                    return match is_pending(&error) {
                        true if self.unsent.body > 0 && text.is_empty() => Ok(()),
                        true => Err(ErrorKind::WouldBlock.into()),
                        false => Err(error),
                    };
                }
            }
        }
        Ok(())
    }

    /// Advances the transfer on the data connection. Returns false if there is none.
    fn advance_data(&mut self, buffer: &mut [u8], shared: &Shared) -> io::Result<bool> {
        match &mut self.data {
            None => Ok(false),
            Some(data) => data.advance(buffer, shared.content, shared.read_mode, &mut self.traffic),
        }
    }

    /// Removes a complete transfer on the data connection.
    fn complete_data(&mut self) -> Option<ClientEvent> {
        let data = self.data.take_if(|data| data.is_complete())?;
        Some(match data.is_upload() {
            true => ClientEvent::Uploaded {
                elapsed: self.elapsed(),
            },
            false => self.downloaded(),
        })
    }

    /// Reports an event and executes the reaction. Returns false if the scenario drops the client.
    fn notify(
        &mut self,
        event: Option<ClientEvent>,
        scenario: &mut dyn FnMut(ClientEvent) -> Reaction,
    ) -> bool {
        match event.map(scenario) {
            None | Some(Reaction::Wait) => {}
            Some(Reaction::Send(request)) => self.request(request),
            Some(Reaction::Disconnect) => return false,
        }
        true
    }

    /// Processes received bytes. Returns false if the scenario drops the client.
    fn consume(
        &mut self,
        mut bytes: &[u8],
        shared: &Shared,
        scenario: &mut dyn FnMut(ClientEvent) -> Reaction,
    ) -> io::Result<bool> {
        while !bytes.is_empty() {
            let event = match self.body_remaining {
                0 => match self.parse_line(&mut bytes)? {
                    Some(reply) => self.apply(reply, shared)?,
                    None => None,
                },
                _ => self.consume_body(&mut bytes),
            };
            if !self.notify(event, scenario) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes file content off the front of `bytes`.
    fn consume_body(&mut self, bytes: &mut &[u8]) -> Option<ClientEvent> {
        let (content, rest) = bytes.split_at(bytes.len().min(self.body_remaining as usize));
        *bytes = rest;
        self.body_remaining -= content.len() as u64;
        self.traffic.receive(content);
        (self.body_remaining == 0).then(|| self.downloaded())
    }

    /// Takes a line off the front of `bytes`, or all of them if the line's end has not arrived.
    fn parse_line(&mut self, bytes: &mut &[u8]) -> io::Result<Option<ServerReply>> {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.partial_line.extend_from_slice(mem::take(bytes));
            return Ok(None);
        };
        let line = &bytes[..end];
        *bytes = &bytes[end + 1..];
        let reply = match self.partial_line.is_empty() {
            true => self.protocol.parse(line),
            false => {
                self.partial_line.extend_from_slice(line);
                let reply = self.protocol.parse(&self.partial_line);
                self.partial_line.clear();
                reply
            }
        };
        Ok(Some(reply.ok_or(ErrorKind::InvalidData)?))
    }

    fn apply(&mut self, reply: ServerReply, shared: &Shared) -> io::Result<Option<ClientEvent>> {
        Ok(Some(match reply {
            ServerReply::Ignored => return Ok(None),
            ServerReply::File(0) => self.downloaded(),
            ServerReply::File(length) => {
                self.body_remaining = length;
                self.traffic.begin_file(shared.read_mode);
                ClientEvent::DownloadStarted
            }
            ServerReply::Port(port) => {
                let body = mem::take(&mut self.unsent.body);
                let socket = (shared.connect_data)(self.source, port)?;
                self.data = Some(DataTransfer::new(socket, body));
                self.traffic.begin_file(shared.read_mode);
                self.unsent.text.append(&mut self.unsent.text_after_port);
                return Ok(None);
            }
            ServerReply::TransferStarted => ClientEvent::DownloadStarted,
            ServerReply::TransferComplete => {
                let data = self.data.as_mut().ok_or(ErrorKind::InvalidData)?;
                data.confirm();
                return Ok(self.complete_data());
            }
            ServerReply::Ready => ClientEvent::Ready,
            ServerReply::Uploaded => ClientEvent::Uploaded {
                elapsed: self.elapsed(),
            },
            ServerReply::Listed => ClientEvent::Listed,
            ServerReply::LoginFailed => ClientEvent::LoginFailed,
            ServerReply::Refused => ClientEvent::Refused,
        }))
    }

    fn downloaded(&mut self) -> ClientEvent {
        ClientEvent::Downloaded {
            elapsed: self.elapsed(),
            digest: self.traffic.finish_file(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.requested_at.elapsed()
    }
}
