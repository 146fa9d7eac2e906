//! FTP's data connections: where they are made, what goes over them, and what is heard meanwhile.
//!
//! Must not know: what a reply reads like (`ftp_reply`), how a line is parsed (`ftp_command`).

use std::net::{IpAddr, SocketAddr};

use crate::domain::error::{CloseReason, ErrorCode};
use crate::domain::glob::is_pattern;
use crate::domain::listing::{ListingFormat, ListingTarget, MlstFacts};
use crate::domain::path::GrantedPath;
use crate::domain::request::{Request, UploadBase};
use crate::protocol::ftp::command;
use crate::protocol::ftp::command::{Extended, FtpCommand, Verb};
use crate::protocol::ftp::files::{Question, Wanted};
use crate::protocol::ftp::path::Location;
use crate::protocol::ftp::reply;
use crate::protocol::ftp::reply::say;
use crate::protocol::ftp::session::{FtpSession, State};
use crate::protocol::step::{Action, DataMode, Representation};
use crate::protocol::text::{name, trim};

/// Something on its way over a data connection, from the making of that on.
#[derive(Debug)]
pub(crate) struct Transfer {
    what: What,
    representation: Representation,
    pub(crate) behind: Behind,
}

#[derive(Debug)]
enum What {
    /// A listing of so many bytes.
    Listing(u64),
    /// A file, from here for so many bytes.
    Download { from: u64, length: u64 },
    /// An upload to this place; under a name of the house's own choice, this one.
    StagedUpload {
        place: GrantedPath,
        unique: Option<String>,
    },
}

/// What is said and done behind a transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behind {
    /// 150 has been said.
    is_begun: bool,
    /// ABOR was said.
    is_aborted: bool,
    /// QUIT was said: the end comes behind it.
    pub(crate) is_last: bool,
}

impl FtpSession {
    /// EPSV, PASV, EPRT, PORT: where the next data connection is made.
    pub(crate) fn data_address(
        &mut self,
        command: FtpCommand,
        argument: &[u8],
        out: &mut Vec<u8>,
    ) -> Action {
        if self.epsv_only && command != FtpCommand::Epsv {
            return self.reply(reply::EPSV_ONLY, out);
        }
        match command {
            FtpCommand::Pasv if self.peer.is_ipv6() => self.reply(reply::PASV_NEEDS_IPV4, out),
            FtpCommand::Pasv => self.listen(false),
            FtpCommand::Epsv => match (trim(argument), self.peer.ip()) {
                (b"", _) | (b"1", IpAddr::V4(_)) | (b"2", IpAddr::V6(_)) => self.listen(true),
                (all, _) if all.eq_ignore_ascii_case(b"ALL") => {
                    self.epsv_only = true;
                    self.reply(reply::EPSV_ALL, out)
                }
                (family, _) if command::number(family).is_none() => {
                    self.reply(reply::BAD_PORT, out)
                }
                (_, own) => self.reply(reply::needs_family(own), out),
            },
            _ if !self.settings.active => self.reply(reply::NO_ACTIVE, out),
            FtpCommand::Eprt => match command::extended_port(argument) {
                None => self.reply(reply::BAD_PORT, out),
                Some(Extended::Address(address)) if address.is_ipv4() == self.peer.is_ipv4() => {
                    self.dial(address, out)
                }
                Some(_) => self.reply(reply::needs_family(self.peer.ip()), out),
            },
            _ => match command::port(argument) {
                None => self.reply(reply::BAD_PORT, out),
                Some(address) => self.dial(address, out),
            },
        }
    }

    fn listen(&mut self, extended: bool) -> Action {
        self.via = None;
        self.state = State::Listening { extended };
        Action::Listen
    }

    pub(crate) fn listening(
        &mut self,
        extended: bool,
        result: Result<SocketAddr, ErrorCode>,
        out: &mut Vec<u8>,
    ) -> Action {
        match result {
            Err(refusal) => return self.reply(reply::refusal(refusal), out),
            Ok(address) if extended => reply::extended_passive(out, address.port()),
            Ok(SocketAddr::V4(address)) => reply::passive(out, address),
            // An address to announce that the operator has set, for who can be told.
            Ok(SocketAddr::V6(_)) => return self.reply(reply::PASV_NEEDS_IPV4, out),
        }
        self.via = Some(DataMode::Passive);
        self.ready()
    }

    /// Only to the client itself, and to no port of the machine's own services (RFC 2577, 3).
    fn dial(&mut self, address: SocketAddr, out: &mut Vec<u8>) -> Action {
        if address.port() < 1024 {
            return self.reply(reply::RESERVED_PORT, out);
        }
        if address.ip().to_canonical() != self.peer.ip() {
            return self.reply(reply::FOREIGN_PORT, out);
        }
        // Its own address as it came, with the scope that a link-local one has and that no command can tell.
        let mut to = self.peer;
        to.set_port(address.port());
        self.via = Some(DataMode::Active(to));
        self.reply(reply::PORT_TAKEN, out)
    }

    pub(crate) fn restart(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let Some(from) = command::number(argument) else {
            return self.reply(reply::BAD_NUMBER, out);
        };
        if self.representation == Representation::Ascii && from > 0 {
            return self.reply(reply::REST_NEEDS_IMAGE, out);
        }
        self.restart = from;
        reply::restarting(out, from);
        self.ready()
    }

    /// The commands that need a data connection: first what they are about, then the connection.
    pub(crate) fn transfer(
        &mut self,
        command: FtpCommand,
        restart: u64,
        argument: &[u8],
        out: &mut Vec<u8>,
    ) -> Action {
        if restart > 0 && matches!(command, FtpCommand::Appe | FtpCommand::Stou) {
            say(out, reply::REST_DOES_NOT_FIT);
            return self.hang_up();
        }
        if restart > 0 && self.representation == Representation::Ascii {
            say(out, reply::REST_NEEDS_IMAGE);
            return self.hang_up();
        }
        if self.via.is_none() {
            return self.unconnected(command, restart, argument, out);
        }
        match command {
            FtpCommand::List => {
                self.list(ListingFormat::Long, command::without_options(argument), out)
            }
            FtpCommand::Nlst => self.list(
                ListingFormat::Lines,
                command::without_options(argument),
                out,
            ),
            FtpCommand::Mlsd => self.list_facts(argument, out),
            FtpCommand::Retr => match self.resolve(argument) {
                Location::At(place) => self.ask(
                    Question::Retr { restart },
                    Request::OpenRead { path: place },
                ),
                Location::Top => self.refuse(ErrorCode::NoSuchFile, out),
                Location::Nowhere(_) => self.refuse(ErrorCode::NoSuchFile, out),
            },
            FtpCommand::Stou => self.store_unique(argument, out),
            FtpCommand::Appe => self.store(UploadBase::Whole, argument, out),
            _ if restart > 0 => self.store(UploadBase::Prefix(restart), argument, out),
            _ => self.store(UploadBase::Empty, argument, out),
        }
    }

    /// A transfer without a data connection to come: nothing is opened for it, but what a data connection would not help is
    /// told first.
    fn unconnected(
        &mut self,
        command: FtpCommand,
        restart: u64,
        argument: &[u8],
        out: &mut Vec<u8>,
    ) -> Action {
        match (command, self.resolve(argument)) {
            (FtpCommand::Appe | FtpCommand::Stor | FtpCommand::Stou, Location::At(place))
                if !place.grant.rights.may_add() =>
            {
                self.reply(reply::refusal(ErrorCode::UploadDenied), out)
            }
            (FtpCommand::Retr | FtpCommand::Stor, Location::At(place)) if restart > 0 => {
                let question = Question::Status(Wanted::Restart(restart), place.clone());
                self.ask(question, Request::Status { path: place })
            }
            _ => self.reply(reply::NO_DATA_ADDRESS, out),
        }
    }

    /// LIST and NLST over a data connection, STAT over the control connection.
    pub(crate) fn listed(&self, argument: &[u8]) -> Result<ListingTarget, ErrorCode> {
        let access = self
            .login
            .access()
            .cloned()
            .expect("only who is logged in lists");
        Ok(match self.resolve(argument) {
            Location::Top => ListingTarget::Top {
                access,
                pattern: None,
            },
            Location::At(place) => {
                let glob = place.relative.rsplit('/').next().is_some_and(is_pattern);
                let argument = name(argument);
                let prefix = match argument.rsplit_once('/') {
                    Some((prefix, last)) if !last.is_empty() => format!("{prefix}/"),
                    _ => String::new(),
                };
                ListingTarget::Path {
                    path: place,
                    prefix,
                    glob,
                }
            }
            Location::Nowhere(Some(part)) if is_pattern(&part) => ListingTarget::Top {
                access,
                pattern: Some(part),
            },
            Location::Nowhere(_) => return Err(ErrorCode::NoSuchDirectory),
        })
    }

    fn list(&mut self, form: ListingFormat, argument: &[u8], out: &mut Vec<u8>) -> Action {
        match self.listed(argument) {
            Ok(listed) => self.ask(
                Question::List,
                Request::List {
                    target: listed,
                    format: form,
                },
            ),
            Err(refusal) => self.refuse(refusal, out),
        }
    }

    fn list_facts(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let access = self
            .login
            .access()
            .cloned()
            .expect("only who is logged in lists");
        match self.resolve(argument) {
            Location::Top => {
                let listed = ListingTarget::Top {
                    access,
                    pattern: None,
                };
                let form = ListingFormat::Facts(MlstFacts {
                    of_top: true,
                    ..self.facts
                });
                self.ask(
                    Question::List,
                    Request::List {
                        target: listed,
                        format: form,
                    },
                )
            }
            Location::At(place) => {
                let question = Question::Status(Wanted::Mlsd, place.clone());
                self.ask(question, Request::Status { path: place })
            }
            Location::Nowhere(_) => self.refuse(ErrorCode::NoSuchDirectory, out),
        }
    }

    fn store(&mut self, base: UploadBase, argument: &[u8], out: &mut Vec<u8>) -> Action {
        match self.resolve(argument) {
            Location::At(place) => {
                let request = Request::Create {
                    path: place.clone(),
                    length: None,
                    base,
                };
                self.ask(Question::Stor(place), request)
            }
            Location::Top | Location::Nowhere(Some(_)) => {
                say(out, reply::TOP_IS_FIXED);
                self.hang_up()
            }
            Location::Nowhere(None) => self.refuse(ErrorCode::NoSuchDirectory, out),
        }
    }

    /// Into the directory that is named, or where the argument would lie; what it is called is the house's choice.
    fn store_unique(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let directory = match (argument, self.current.clone()) {
            (b"", Some(current)) => Location::At(current),
            (b"", None) => Location::Top,
            (argument, _) => match self.resolve(argument) {
                Location::At(place) => {
                    crate::protocol::ftp::path::parent(place).map_or(Location::Top, Location::At)
                }
                location => location,
            },
        };
        match directory {
            Location::At(directory) => {
                let request = Request::CreateUnique {
                    directory: directory.clone(),
                };
                self.ask(Question::Stor(directory), request)
            }
            Location::Top | Location::Nowhere(Some(_)) => {
                say(out, reply::TOP_IS_FIXED);
                self.hang_up()
            }
            Location::Nowhere(None) => self.refuse(ErrorCode::NoSuchDirectory, out),
        }
    }

    pub(crate) fn send_listing(&mut self, length: u64) -> Action {
        self.connect(What::Listing(length))
    }

    pub(crate) fn send_file(&mut self, restart: u64, length: u64, out: &mut Vec<u8>) -> Action {
        match length.checked_sub(restart) {
            Some(left) => self.connect(What::Download {
                from: restart,
                length: left,
            }),
            None => self.refuse(ErrorCode::OffsetBeyondEnd, out),
        }
    }

    pub(crate) fn receive_file(&mut self, place: GrantedPath, unique: Option<String>) -> Action {
        self.connect(What::StagedUpload { place, unique })
    }

    fn connect(&mut self, what: What) -> Action {
        let representation = match what {
            What::Listing(_) => Representation::Image,
            What::Download { .. } | What::StagedUpload { .. } => self.representation,
        };
        self.state = State::Transferring(Transfer {
            what,
            representation,
            behind: Behind::default(),
        });
        let via = self.via.take().expect("asked for before all else");
        Action::Connect(via)
    }

    pub(crate) fn connected(
        &mut self,
        mut transfer: Transfer,
        result: Result<(), ErrorCode>,
        out: &mut Vec<u8>,
    ) -> Action {
        if let Err(refusal) = result {
            say(out, reply::refusal(refusal));
            return self.behind(transfer.behind, out);
        }
        let representation = transfer.representation;
        let action = match &transfer.what {
            What::Listing(length) => {
                say(out, reply::SENDING_LISTING);
                Action::SendData {
                    representation,
                    offset: 0,
                    length: *length,
                }
            }
            What::Download { from, length } => {
                match representation {
                    Representation::Image => reply::sending(out, *length),
                    Representation::Ascii => say(out, reply::SENDING_TEXT),
                }
                Action::SendData {
                    representation,
                    offset: *from,
                    length: *length,
                }
            }
            What::StagedUpload { unique, .. } => {
                match unique {
                    Some(name) => reply::receiving_as(out, name),
                    None => say(out, reply::RECEIVING),
                }
                Action::ReceiveData { representation }
            }
        };
        transfer.behind.is_begun = true;
        if transfer.behind.is_last {
            say(out, reply::GOODBYE);
        }
        self.state = State::Transferring(transfer);
        action
    }

    /// A line that came while a data connection is made or in use.
    pub(crate) fn line_meanwhile(
        &mut self,
        mut transfer: Transfer,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> Action {
        let line = command::without_telnet(line, out);
        let (word, argument) = command::split(&line);
        match Verb::find(word).filter(|verb| verb.takes(argument)) {
            None => say(out, reply::UNKNOWN),
            Some(verb) => match verb.command {
                FtpCommand::Abor if !transfer.behind.is_aborted => {
                    transfer.behind.is_aborted = true;
                    self.state = State::Transferring(transfer);
                    return Action::Abort;
                }
                FtpCommand::Stat if argument.is_empty() => {
                    self.state = State::Progress(transfer);
                    return Action::Request(Request::Progress);
                }
                FtpCommand::Noop => say(out, reply::NOTHING),
                // Some clients end what they do with their data only when they have this reply.
                FtpCommand::Quit => {
                    transfer.behind.is_last = true;
                    if transfer.behind.is_begun {
                        say(out, reply::GOODBYE);
                    }
                }
                // What is under way goes on as it was granted (RFC 959, 4.1.1).
                FtpCommand::User => match argument.iter().any(u8::is_ascii_control) {
                    true => say(out, reply::CONTROL_CHARACTER),
                    false => {
                        self.named(argument);
                        say(out, reply::PASSWORD_PLEASE);
                    }
                },
                FtpCommand::Rein => {
                    self.log_out();
                    say(out, reply::NEW_USER);
                }
                _ if !verb.is_open && self.login.access().is_none() => {
                    say(out, reply::LOG_IN_FIRST)
                }
                _ => say(out, reply::BUSY),
            },
        }
        self.go_on(transfer)
    }

    pub(crate) fn go_on(&mut self, transfer: Transfer) -> Action {
        self.state = State::Transferring(transfer);
        Action::ReadLine
    }

    pub(crate) fn moved(
        &mut self,
        transfer: Transfer,
        result: Result<(), ErrorCode>,
        out: &mut Vec<u8>,
    ) -> Action {
        let behind = transfer.behind;
        match (result, transfer.what) {
            (
                Err(why @ (ErrorCode::NoSpace | ErrorCode::OverQuota | ErrorCode::TooLarge)),
                What::StagedUpload { place, .. },
            ) => {
                return self.ask(
                    Question::Left { why, behind },
                    Request::Space { path: place },
                );
            }
            (Err(refusal), _) => say(out, reply::refusal(refusal)),
            (Ok(()), What::StagedUpload { unique, .. }) => match unique {
                Some(name) => reply::received_as(out, &name),
                None => say(out, reply::RECEIVED),
            },
            (Ok(()), _) => say(out, reply::SENT),
        }
        self.behind(behind, out)
    }

    /// A transfer is over, and its reply is given.
    pub(crate) fn behind(&mut self, behind: Behind, out: &mut Vec<u8>) -> Action {
        if behind.is_aborted {
            say(out, reply::ABORT_DONE);
        }
        match (behind.is_last, behind.is_begun) {
            (false, _) => self.ready(),
            (true, false) => self.close(reply::GOODBYE, CloseReason::Quit, out),
            (true, true) => {
                self.state = State::Closed;
                Action::Close(CloseReason::Quit)
            }
        }
    }

    /// Refuses a transfer before its data connection is made, and lets go of the address for that.
    pub(crate) fn refuse(&mut self, refusal: ErrorCode, out: &mut Vec<u8>) -> Action {
        say(out, reply::refusal(refusal));
        self.hang_up()
    }

    pub(crate) fn hang_up(&mut self) -> Action {
        match self.via.take() {
            Some(DataMode::Passive) => {
                self.state = State::HangingUp;
                Action::Abort
            }
            Some(DataMode::Active(_)) | None => self.ready(),
        }
    }
}
