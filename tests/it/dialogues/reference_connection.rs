//! A simple reference implementation of a connection: a session, its input, and services that
//! respond at once.
//!
//! It shares only the session with the server. If the two disagree, one of them is wrong.

use tidegate::domain::error::ErrorCode;
use tidegate::domain::path::GrantedPath;
use tidegate::domain::request::{Request, Response};
use tidegate::protocol::line;
use tidegate::protocol::line::LineSplit;
use tidegate::protocol::session::Session;
use tidegate::protocol::step::{Action, Input};
use tidegate::protocol::telnet;

/// Services that respond at once.
pub(crate) trait Respond {
    /// Handles a request. Writes the content of an opened file or listing to `opened`.
    fn respond(&mut self, request: Request, opened: &mut Vec<u8>) -> Response;
    /// Takes a complete upload.
    fn publish(&mut self, place: &GrantedPath, bytes: &[u8]) -> Result<(), ErrorCode>;
}

/// A connection to a reference server.
pub(crate) struct Connection<S> {
    session: Session,
    services: S,
    /// Input that was not processed yet.
    buffer: Vec<u8>,
    /// Whether the client has half-closed the connection.
    has_ended: bool,
    waits_for: WaitsFor,
    /// The content of the file or listing that was opened last.
    opened: Option<Vec<u8>>,
    /// The target of the current upload.
    upload: Option<GrantedPath>,
    /// Output without the content of files and listings.
    messages: Vec<u8>,
    /// All output.
    sent: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum WaitsFor {
    Line,
    /// The bytes of an upload.
    Upload(u64),
    /// The bytes of a refused upload.
    Discard(u64),
    Closed,
}

impl<S: Respond> Connection<S> {
    pub(crate) fn new(session: Session, services: S) -> Connection<S> {
        let mut connection = Connection {
            session,
            services,
            buffer: Vec::new(),
            has_ended: false,
            waits_for: WaitsFor::Line,
            opened: None,
            upload: None,
            messages: Vec::new(),
            sent: Vec::new(),
        };
        connection.step(Input::Begin);
        connection
    }

    /// Returns the output since the last call.
    pub(crate) fn take_sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waits_for == WaitsFor::Closed
    }

    /// Processes bytes from the client.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.run();
    }

    /// Processes the half-close of the client.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
        self.run();
    }

    /// Returns the session, for inputs that only an event loop can give.
    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(crate) fn services(&mut self) -> &mut S {
        &mut self.services
    }

    /// Returns whether the session can handle idleness and a graceful shutdown.
    pub(crate) fn awaits_line(&self) -> bool {
        self.waits_for == WaitsFor::Line
    }

    /// Returns the output since the last call, without the content of files and listings.
    pub(crate) fn take_messages(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.messages)
    }

    pub(crate) fn idle(&mut self) {
        assert_eq!(self.waits_for, WaitsFor::Line);
        self.step(Input::Idle);
    }

    pub(crate) fn stop(&mut self) {
        assert_eq!(self.waits_for, WaitsFor::Line);
        self.step(Input::Stopping);
    }

    /// Processes the buffered input.
    fn run(&mut self) {
        while self.waits_for != WaitsFor::Closed {
            if self.waits_for == WaitsFor::Line {
                self.filter_telnet();
            }
            let buffer = std::mem::take(&mut self.buffer);
            let used = self.process(&buffer);
            self.buffer = buffer[used.unwrap_or(0)..].to_vec();
            if used.is_none() {
                return;
            }
        }
    }

    /// Removes Telnet commands from the first line and sends the replies.
    fn filter_telnet(&mut self) {
        let mut replies = Vec::new();
        let left = telnet::filter(&mut self.buffer, &mut replies);
        self.buffer.truncate(left);
        self.sent.extend_from_slice(&replies);
        self.messages.extend_from_slice(&replies);
    }

    /// Processes one line or one upload and returns its length, or `None` if it is incomplete.
    fn process(&mut self, buffer: &[u8]) -> Option<usize> {
        match self.waits_for {
            WaitsFor::Line => match line::split(buffer) {
                LineSplit::Line { line, used } => {
                    self.step(Input::Line(line));
                    return Some(used);
                }
                LineSplit::TooLong => self.step(Input::LineTooLong),
                LineSplit::Incomplete if self.has_ended => match line::last(buffer) {
                    Some(line) => self.step(Input::Line(line)),
                    None => self.waits_for = WaitsFor::Closed,
                },
                LineSplit::Incomplete => return None,
            },
            WaitsFor::Upload(length) | WaitsFor::Discard(length) => {
                if let Some(bytes) = usize::try_from(length)
                    .ok()
                    .and_then(|length| buffer.get(..length))
                {
                    let moved = match self.upload.take() {
                        Some(path) => self.services.publish(&path, bytes),
                        None => Ok(()),
                    };
                    self.step(Input::TransferDone(moved));
                    return Some(bytes.len());
                }
                if !self.has_ended {
                    return None;
                }
                self.waits_for = WaitsFor::Closed;
            }
            WaitsFor::Closed => {}
        }
        Some(buffer.len())
    }

    /// Steps the session until it needs input from the client.
    fn step(&mut self, input: Input<'_>) {
        let mut action = self.step_once(input);
        loop {
            let input = match action {
                Action::ReadLine => {
                    self.waits_for = WaitsFor::Line;
                    return;
                }
                Action::SendData { .. } | Action::ReceiveData { .. } => {
                    panic!("the menu has no data connection")
                }
                Action::Receive { length } => {
                    assert!(self.upload.is_some(), "the upload was not created");
                    self.waits_for = WaitsFor::Upload(length);
                    return;
                }
                Action::Discard { length } => {
                    assert!(self.upload.is_none(), "a created upload is discarded");
                    self.waits_for = WaitsFor::Discard(length);
                    return;
                }
                Action::Close(_) => {
                    self.waits_for = WaitsFor::Closed;
                    return;
                }
                Action::Request(request) => Input::Response(self.respond(request)),
                Action::Listen
                | Action::Connect(_)
                | Action::HoldLine
                | Action::QueryProgress
                | Action::Abort => {
                    unreachable!("the menu has no data connection")
                }
                Action::Send {
                    offset: from,
                    length,
                } => {
                    let opened = self.opened.take().expect("a file or listing is open");
                    let (from, length) = (from as usize, length as usize);
                    self.sent.extend_from_slice(&opened[from..from + length]);
                    Input::TransferDone(Ok(()))
                }
            };
            action = self.step_once(input);
        }
    }

    fn step_once(&mut self, input: Input<'_>) -> Action {
        let before = self.sent.len();
        let action = self.session.step(input, &mut self.sent);
        self.messages.extend_from_slice(&self.sent[before..]);
        action
    }

    /// Handles a request. Replaces the content that the previous request opened.
    fn respond(&mut self, request: Request) -> Response {
        let path = match &request {
            Request::Create { path, .. } => Some(path.clone()),
            _ => None,
        };
        let mut opened = Vec::new();
        let response = self.services.respond(request, &mut opened);
        let is_open = matches!(response, Response::Opened { .. } | Response::Listing { .. });
        self.opened = is_open.then_some(opened);
        self.upload = path.filter(|_| matches!(response, Response::Created));
        response
    }
}
