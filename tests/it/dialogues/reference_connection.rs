//! A connection as the protocol tells of it, in the plainest way: the pure session, its input as it comes, and a house
//! that answers at once. It shares nothing with the event_loop: where the two disagree, one of them is wrong.

use tidegate::domain::error::ErrorCode;
use tidegate::domain::path::GrantedPath;
use tidegate::domain::request::{Request, Response};
use tidegate::protocol::line;
use tidegate::protocol::line::LineSplit;
use tidegate::protocol::session::Session;
use tidegate::protocol::step::{Action, Input};

/// What answers a session's requests at once.
pub(crate) trait Answers {
    /// Answers; what it opens, it puts into `opened`.
    fn answer(&mut self, request: Request, opened: &mut Vec<u8>) -> Response;
    /// Takes a complete upload.
    fn publish(&mut self, place: &GrantedPath, bytes: &[u8]) -> Result<(), ErrorCode>;
}

/// One connection to a model server.
pub(crate) struct Connection<H> {
    session: Session,
    house: H,
    /// What the client sent and nobody took yet.
    buffer: Vec<u8>,
    /// Whether the client has closed its sending half.
    ended: bool,
    waits: Waits,
    /// What was opened last, and may be sent.
    opened: Option<Vec<u8>>,
    /// Where the upload at work will lie.
    incoming: Option<GrantedPath>,
    /// What the session alone has said.
    said: Vec<u8>,
    /// What the server has sent, until it is taken.
    sent: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Waits {
    Line,
    /// For so many bytes of an upload.
    Upload(u64),
    /// For so many bytes to throw away.
    Discard(u64),
    Closed,
}

impl<H: Answers> Connection<H> {
    pub(crate) fn new(session: Session, house: H) -> Connection<H> {
        let mut connection = Connection {
            session,
            house,
            buffer: Vec::new(),
            ended: false,
            waits: Waits::Line,
            opened: None,
            incoming: None,
            said: Vec::new(),
            sent: Vec::new(),
        };
        connection.step(Input::Begin);
        connection
    }

    /// What the server has sent since this was last asked for.
    pub(crate) fn take_sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waits == Waits::Closed
    }

    /// The client sends bytes.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.run();
    }

    /// The client closes its sending half.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.run();
    }

    /// The session, which is told of what only an event_loop can tell it.
    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(crate) fn house(&mut self) -> &mut H {
        &mut self.house
    }

    /// Whether the session awaits a line, so that it may be told of idleness and of the server's stop.
    pub(crate) fn awaits_line(&self) -> bool {
        self.waits == Waits::Line
    }

    /// What the session has said since this was last asked for, without the bytes of files and listings.
    pub(crate) fn take_said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }

    pub(crate) fn idle(&mut self) {
        assert_eq!(self.waits, Waits::Line);
        self.step(Input::Idle);
    }

    pub(crate) fn stop(&mut self) {
        assert_eq!(self.waits, Waits::Line);
        self.step(Input::Stopping);
    }

    /// Acts on what has come, as far as it goes.
    fn run(&mut self) {
        while self.waits != Waits::Closed {
            let buffer = std::mem::take(&mut self.buffer);
            let used = self.take(&buffer);
            self.buffer = buffer[used.unwrap_or(0)..].to_vec();
            if used.is_none() {
                return;
            }
        }
    }

    /// Takes what is waited for off the buffer's front; `None` where it has not come yet.
    fn take(&mut self, buffer: &[u8]) -> Option<usize> {
        match self.waits {
            Waits::Line => match line::split(buffer) {
                LineSplit::Line { line, used } => {
                    self.step(Input::Line(line));
                    return Some(used);
                }
                LineSplit::TooLong => self.step(Input::LineTooLong),
                LineSplit::Incomplete if self.ended => match line::last(buffer) {
                    Some(line) => self.step(Input::Line(line)),
                    None => self.waits = Waits::Closed,
                },
                LineSplit::Incomplete => return None,
            },
            Waits::Upload(length) | Waits::Discard(length) => {
                if let Some(bytes) = usize::try_from(length)
                    .ok()
                    .and_then(|length| buffer.get(..length))
                {
                    let moved = match self.incoming.take() {
                        Some(place) => self.house.publish(&place, bytes),
                        None => Ok(()),
                    };
                    self.step(Input::TransferDone(moved));
                    return Some(bytes.len());
                }
                if !self.ended {
                    return None;
                }
                self.waits = Waits::Closed;
            }
            Waits::Closed => {}
        }
        Some(buffer.len())
    }

    /// Steps the session until it waits for the client.
    fn step(&mut self, input: Input<'_>) {
        let mut action = self.say(input);
        loop {
            let input = match action {
                Action::ReadLine => {
                    self.waits = Waits::Line;
                    return;
                }
                Action::SendData { .. } | Action::ReceiveData { .. } => {
                    panic!("the menu has no data connection")
                }
                Action::Receive { length } => {
                    assert!(
                        self.incoming.is_some(),
                        "bytes of an upload that was not created"
                    );
                    self.waits = Waits::Upload(length);
                    return;
                }
                Action::Discard { length } => {
                    assert!(
                        self.incoming.is_none(),
                        "an upload that was created and is thrown away"
                    );
                    self.waits = Waits::Discard(length);
                    return;
                }
                Action::Close(_) => {
                    self.waits = Waits::Closed;
                    return;
                }
                Action::Request(request) => Input::Response(self.ask(request)),
                Action::Listen | Action::Connect(_) | Action::Abort => {
                    unreachable!("the menu has no data connection")
                }
                Action::Send {
                    offset: from,
                    length,
                } => {
                    let opened = self.opened.take().expect("something that was opened");
                    let (from, length) = (from as usize, length as usize);
                    self.sent.extend_from_slice(&opened[from..from + length]);
                    Input::TransferDone(Ok(()))
                }
            };
            action = self.say(input);
        }
    }

    fn say(&mut self, input: Input<'_>) -> Action {
        let before = self.sent.len();
        let action = self.session.step(input, &mut self.sent);
        self.said.extend_from_slice(&self.sent[before..]);
        action
    }

    /// Asks the house; what the last request opened is let go.
    fn ask(&mut self, request: Request) -> Response {
        let place = match &request {
            Request::Create { path: place, .. } => Some(place.clone()),
            _ => None,
        };
        let mut opened = Vec::new();
        let answer = self.house.answer(request, &mut opened);
        let is_open = matches!(answer, Response::Opened { .. } | Response::Listing { .. });
        self.opened = is_open.then_some(opened);
        self.incoming = place.filter(|_| matches!(answer, Response::Created));
        answer
    }
}
