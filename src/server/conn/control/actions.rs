//! One step of the session in a turn of its connection, and what comes of the action that it wishes.
//!
//! Must not know: how bytes get onto the socket and from it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::config::Access;
use crate::kernel::Kernel;
use crate::limits::OUTBOX_MARK_BYTES;
use crate::protocol::{Action, Answer, Input, Over, Refusal};
use crate::server::conn::control::Work;
use crate::server::conn::control::drive::Turn;
use crate::server::conn::transfer::{Held, Outgoing, Receiving, Source};
use crate::server::event_loop::data_sessions::Wish;
use crate::server::log::transfer_log::{Direction, Record};
use crate::server::service::Reply;
use crate::storage::Incoming;

impl<K: Kernel> Turn<'_, K> {
    /// One step of the session, and those that follow from what it wishes.
    pub(crate) fn step(&mut self, mut input: Input<'_>) {
        loop {
            let answered = matches!(input, Input::Answer(_));
            let action = self
                .connection
                .session
                .step(input, self.scratch.outbox.bytes());
            input = match action {
                Action::ReadLine => {
                    // What was opened waits for the next line only where this step opened it, or for its data connection.
                    if !answered && !self.connection.engaged {
                        self.drop_held();
                    }
                    self.connection.work = Work::Lines;
                    return;
                }
                Action::Ask(request) => match self.house.ask(self.ticket, request) {
                    Some(reply) => self.unpack(reply),
                    None => {
                        self.connection.work = Work::Answer;
                        return;
                    }
                },
                Action::Send {
                    over: Over::Control,
                    representation: _,
                    from,
                    length,
                } => {
                    // What was opened in this very step was also seen whole in this turn.
                    match self.begin_sending(from, length, answered) {
                        true => Input::Moved(Ok(())),
                        false => return,
                    }
                }
                Action::Send {
                    over: Over::Data,
                    representation,
                    from,
                    length,
                } => {
                    let source = match self.connection.take_held() {
                        Held::File(file) => Source::File(file),
                        Held::Text(listing) => Source::Text(listing),
                        Held::Nothing | Held::Incoming(_) => {
                            unreachable!("only what was opened is sent")
                        }
                    };
                    let mut outgoing = Box::new(Outgoing::new(source, from, length));
                    if let Source::File(file) = &outgoing.source {
                        outgoing.record = self.record(file.path(), Direction::Outgoing);
                    }
                    return self.engage(Wish::Send(outgoing, representation));
                }
                Action::Receive {
                    over,
                    representation,
                    length,
                } => {
                    let Held::Incoming(incoming) = self.connection.take_held() else {
                        unreachable!("only what was created is received");
                    };
                    match (over, length) {
                        (Over::Control, Some(length)) => {
                            return self.begin_receiving(Some(incoming), length);
                        }
                        (Over::Data, None) => {
                            return self.engage(Wish::Receive(incoming, representation));
                        }
                        _ => unreachable!("a data connection's end is the file's, and no other's"),
                    }
                }
                Action::Discard { length } => return self.begin_receiving(None, length),
                Action::Listen => {
                    let Some(local) = self.local_address() else {
                        input = Input::Listening(Err(Refusal::NoPort));
                        continue;
                    };
                    return self.ask_engine(Wish::Listen { local });
                }
                Action::Connect(via) => {
                    let Some(local) = self.local_address() else {
                        input = Input::Connected(Err(Refusal::NoDataConnection));
                        continue;
                    };
                    return self.engage(Wish::Connect { via, local });
                }
                Action::Abort => return self.ask_engine(Wish::Abort),
                Action::Close(ending) => {
                    if self.house.channels.get(self.ticket).is_some() {
                        self.house.channels.wish(self.ticket, Wish::Leave);
                    }
                    self.connection.engaged = false;
                    self.connection.leave(ending, self.house.now());
                    return;
                }
            };
        }
    }

    /// The engine is to do this beside the lines that may come.
    fn engage(&mut self, wish: Wish<K>) {
        self.house.channels.wish(self.ticket, wish);
        self.connection.engaged = true;
        self.connection.work = Work::Lines;
    }

    /// The engine is to do this before the next line.
    fn ask_engine(&mut self, wish: Wish<K>) {
        self.house.channels.wish(self.ticket, wish);
        self.connection.work = Work::Answer;
    }

    /// The server's end of the connection; a client that has left may have taken it along.
    fn local_address(&self) -> Option<SocketAddr> {
        let socket = &self.connection.socket;
        self.house.kernel().local_address(socket).ok()
    }

    /// What was opened and is not wanted is let go of.
    fn drop_held(&mut self) {
        if let Held::Incoming(incoming) = self.connection.take_held() {
            self.house.abandon(incoming);
        }
    }

    /// What a reply means to the session; what it opened is held.
    pub(crate) fn unpack(&mut self, reply: Reply<K>) -> Input<'static> {
        match reply {
            Reply::Answer(Answer::Verified(Some(access)), _) => Input::Answer(self.enter(access)),
            Reply::Answer(answer, held) => {
                self.connection.held = held;
                Input::Answer(answer)
            }
            Reply::Moved(result) => {
                self.connection.engaged = false;
                Input::Moved(result)
            }
            Reply::Listening(result) => Input::Listening(result),
            Reply::Connected(result) => {
                self.connection.engaged = false;
                Input::Connected(result)
            }
            Reply::Warm(_) => unreachable!("the session does not know of disks"),
        }
    }

    /// Lets the session in, unless its user has too many.
    fn enter(&mut self, access: Arc<Access>) -> Answer {
        if let Some(earlier) = self.connection.user.take() {
            self.house.leave(earlier);
        }
        match self.house.enter(self.ticket, &access.account.user) {
            Ok(user) => {
                self.connection.user = Some(user);
                self.ticket.user = Some(user);
                self.budget = self.budget.min(self.house.allowance(user));
                Answer::Verified(Some(access))
            }
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    /// Sends what is held; true where all of it stands in the outbox already.
    fn begin_sending(&mut self, from: u64, length: u64, seen_whole: bool) -> bool {
        let end = from + length;
        let mut record = None;
        let source = match self.connection.take_held() {
            Held::File(file) => {
                record = self.record(file.path(), Direction::Outgoing);
                let kernel = self.house.kernel();
                if length > 0 && file.map(kernel).is_some() {
                    let whole =
                        seen_whole || kernel.status(file.file()).is_ok_and(|now| now.size >= end);
                    if whole {
                        if let Some(record) = &mut record {
                            record.moved(length as usize);
                            record.complete();
                        }
                        self.scratch
                            .outbox
                            .push_mapped(file, from as usize, length as usize);
                        return true;
                    }
                }
                Source::File(file)
            }
            Held::Text(listing) => {
                if length <= OUTBOX_MARK_BYTES as u64 {
                    let text = &listing.text[from as usize..end as usize];
                    self.scratch.outbox.bytes().extend_from_slice(text);
                    return true;
                }
                Source::Text(listing)
            }
            Held::Nothing | Held::Incoming(_) => unreachable!("only what was opened is sent"),
        };
        if length > 0 {
            let mut outgoing = Outgoing::new(source, from, length);
            outgoing.record = record;
            self.connection.work = Work::Sending(Box::new(outgoing));
        } else if let Some(record) = &mut record {
            record.complete();
        }
        length == 0
    }

    /// A record of a transfer that begins, where they are logged.
    fn record(&self, path: &Path, direction: Direction) -> Option<Box<Record>> {
        self.house.record(self.ticket, path, direction)
    }

    fn begin_receiving(&mut self, incoming: Option<Box<Incoming<K>>>, length: u64) {
        let record = match &incoming {
            Some(incoming) => self.record(incoming.path(), Direction::Incoming),
            None => None,
        };
        self.connection.work = Work::Receiving(Box::new(Receiving {
            incoming,
            record,
            left: length,
            failed: None,
        }));
    }
}
