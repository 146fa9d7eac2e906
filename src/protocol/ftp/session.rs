//! FTP, server side (RFC 959): states and steps, the login, and what needs neither files nor data.
//!
//! One state for each thing that is waited for. A step takes the state out, and whatever it does puts the next one in; what
//! puts none in has closed. What is said amid a transfer stands in `ftp_transfer`, what is done with files in `ftp_file`.
//!
//! Must not know: what a reply reads like (`ftp_reply`), how a line is parsed (`ftp_command`).

use std::net::SocketAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::access::Access;
use crate::domain::error::{CloseReason, ErrorCode};
use crate::domain::listing::MlstFacts;
use crate::domain::path::GrantedPath;
use crate::domain::request::{Algorithm, Request, Response};
use crate::limits::UNKNOWN_COMMANDS_MAX;
use crate::protocol::ftp::command;
use crate::protocol::ftp::command::{FtpCommand, Verb};
use crate::protocol::ftp::files::Question;
use crate::protocol::ftp::path as place;
use crate::protocol::ftp::path::Location;
use crate::protocol::ftp::reply;
use crate::protocol::ftp::reply::{Reply, say};
use crate::protocol::ftp::transfer::Transfer;
use crate::protocol::login::{Login, Reload};
use crate::protocol::step::{Action, DataMode, Input, Representation};
use crate::protocol::text::{name, trim};

/// What an operator may set of this dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FtpSettings {
    /// Whether the server connects to clients that ask for it by PORT or EPRT.
    pub active: bool,
}

/// FTP's dialogue with one client.
#[derive(Debug)]
pub struct FtpSession {
    pub(crate) settings: FtpSettings,
    /// The client's end of the control connection.
    pub(crate) peer: SocketAddr,
    pub(crate) state: State,
    /// Whom USER has named, until PASS.
    user: Option<String>,
    pub(crate) login: Login,
    /// The current directory; `None` is the top.
    pub(crate) current: Option<GrantedPath>,
    pub(crate) representation: Representation,
    /// How the next data connection is made.
    pub(crate) via: Option<DataMode>,
    /// EPSV ALL was said.
    pub(crate) epsv_only: bool,
    /// Where the next transfer begins.
    pub(crate) restart: u64,
    /// What RNFR has named.
    pub(crate) renamed: Option<GrantedPath>,
    pub(crate) facts: MlstFacts,
    pub(crate) algorithm: Algorithm,
    /// Unknown commands before a login.
    unknown: u8,
}

// An idle session is allowed 768 bytes in all.
const _: () = assert!(size_of::<FtpSession>() <= 384);

#[derive(Debug)]
pub(crate) enum State {
    /// Before [`Input::Begin`].
    New,
    /// A command is awaited.
    Ready,
    /// A login is being proved.
    Login,
    /// A request is open.
    Asked(Question),
    /// An address for a data connection is awaited, to be told as EPSV or as PASV has it.
    Listening { extended: bool },
    /// A data connection is made, or bytes move over it.
    Transferring(Transfer),
    /// How far that is was asked.
    Progress(Transfer),
    /// A listing goes over the control connection.
    Status,
    /// A data connection that is of no use is let go of.
    HangingUp,
    /// Nothing more can come.
    Closed,
}

impl FtpSession {
    /// A dialogue with the client at the other end of a control connection, which waits for [`Input::Begin`].
    pub fn new(settings: FtpSettings, peer: SocketAddr) -> FtpSession {
        FtpSession {
            settings,
            peer,
            state: State::New,
            user: None,
            login: Login::default(),
            current: None,
            representation: Representation::Ascii,
            via: None,
            epsv_only: false,
            restart: 0,
            renamed: None,
            facts: FACTS,
            algorithm: Algorithm::Sha256,
            unknown: 0,
        }
    }

    pub(crate) fn step(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Action {
        match (std::mem::replace(&mut self.state, State::Closed), input) {
            (State::New, Input::Begin) => self.reply(reply::READY, out),
            (State::New, Input::ServerFull) => self.close(reply::FULL, CloseReason::Full, out),
            (State::New, Input::LoginBlocked) => {
                self.close(reply::TURNED_AWAY, CloseReason::LoginBlocked, out)
            }
            (State::Ready, Input::Line(line)) => self.line(line, out),
            (State::Ready, Input::LineTooLong) => self.reply(reply::LINE_TOO_LONG, out),
            (State::Ready, Input::Idle) => self.close(reply::IDLE, CloseReason::Idle, out),
            (State::Ready, Input::Stopping) => {
                self.close(reply::STOPPING, CloseReason::Stopping, out)
            }
            (State::Login, Input::Response(Response::Authenticated(access))) => {
                self.verified(access, out)
            }
            (State::Login, Input::Response(Response::Refused(refusal))) => {
                let ending = match refusal {
                    ErrorCode::TooManySessions => CloseReason::TooManySessions,
                    _ => CloseReason::LoginBlocked,
                };
                self.close(reply::refusal(refusal), ending, out)
            }
            (State::Asked(question), Input::Response(answer)) => {
                self.answered(question, answer, out)
            }
            (State::Listening { extended }, Input::Listening(result)) => {
                self.listening(extended, result, out)
            }
            (State::Transferring(transfer), Input::Line(line)) => {
                self.line_meanwhile(transfer, line, out)
            }
            (State::Transferring(transfer), Input::LineTooLong) => {
                say(out, reply::LINE_TOO_LONG);
                self.go_on(transfer)
            }
            (State::Transferring(transfer), Input::DataConnected(result)) => {
                self.connected(transfer, result, out)
            }
            (State::Transferring(transfer), Input::TransferDone(result)) => {
                self.moved(transfer, result, out)
            }
            (State::Progress(transfer), Input::Response(Response::Progress(moved))) => {
                reply::progress(out, moved);
                self.go_on(transfer)
            }
            (State::Status, Input::TransferDone(Ok(()))) => self.reply(reply::LISTING_ENDS, out),
            (State::HangingUp, Input::TransferDone(_)) => self.ready(),
            // The input stays unsaid: it may be a line with a password.
            (state, _) => unreachable!("an input that FTP does not wait for in {state:?}"),
        }
    }

    pub(crate) fn set_reloaded(&mut self, access: Option<Arc<Access>>) {
        self.login.set_reloaded(access);
    }

    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    pub(crate) fn is_quitting(&self) -> bool {
        matches!(&self.state, State::Transferring(transfer) if transfer.behind.is_last)
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Action {
        match self.login.apply_reload() {
            Reload::Unchanged => {}
            Reload::Changed(access) => self.take_up(access),
            Reload::Revoked => {
                return self.close(reply::LOGIN_INVALID, CloseReason::LoginRevoked, out);
            }
        }
        let line = command::without_telnet(line, out);
        let (word, argument) = command::split(&line);
        let Some(verb) = Verb::find(word) else {
            return self.unknown(word, out);
        };
        if !verb.is_open && self.login.access().is_none() {
            return self.reply(reply::LOG_IN_FIRST, out);
        }
        if !verb.takes(argument) {
            return self.reply(reply::WRONG_ARGUMENT, out);
        }
        if verb.command != FtpCommand::Pass && argument.iter().any(u8::is_ascii_control) {
            return self.reply(reply::CONTROL_CHARACTER, out);
        }
        self.command(verb.command, argument, out)
    }

    fn unknown(&mut self, word: &[u8], out: &mut Vec<u8>) -> Action {
        if self.login.access().is_none() {
            self.unknown = self.unknown.saturating_add(1);
        }
        match command::is_foreign(word) || self.unknown > UNKNOWN_COMMANDS_MAX {
            true => self.close(reply::NOT_FTP, CloseReason::NotFtp, out),
            false => self.reply(reply::UNKNOWN, out),
        }
    }

    fn command(&mut self, command: FtpCommand, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let renamed = self.renamed.take();
        let restart = std::mem::take(&mut self.restart);
        if matches!(
            command,
            FtpCommand::Epsv
                | FtpCommand::Pasv
                | FtpCommand::Eprt
                | FtpCommand::Port
                | FtpCommand::Type
                | FtpCommand::Noop
                | FtpCommand::Size
                | FtpCommand::Mdtm
        ) {
            // What clients say between REST and the transfer that it is for.
            self.restart = restart;
        }
        match command {
            FtpCommand::User => self.user(argument, out),
            FtpCommand::Pass => self.pass(argument, out),
            FtpCommand::Acct => self.reply(reply::NO_ACCOUNTS, out),
            FtpCommand::Rein => self.rein(out),
            FtpCommand::Quit => self.close(reply::GOODBYE, CloseReason::Quit, out),
            FtpCommand::Type => self.representation(argument, out),
            FtpCommand::Stru => match trim(argument).eq_ignore_ascii_case(b"F") {
                true => self.reply(reply::STRUCTURE, out),
                false => self.reply(reply::STRUCTURE_UNKNOWN, out),
            },
            FtpCommand::Mode => match trim(argument).eq_ignore_ascii_case(b"S") {
                true => self.reply(reply::MODE, out),
                false => self.reply(reply::MODE_UNKNOWN, out),
            },
            FtpCommand::Syst => self.reply(reply::SYSTEM, out),
            FtpCommand::Noop => self.reply(reply::NOTHING, out),
            FtpCommand::Help => self.help(argument, out),
            FtpCommand::Feat => {
                reply::features(out, self.facts, self.algorithm);
                self.ready()
            }
            FtpCommand::Opts => self.options(argument, out),
            FtpCommand::Clnt => self.reply(reply::NOTED, out),
            FtpCommand::Host if self.login.access().is_some() || self.user.is_some() => {
                self.reply(reply::HOST_TOO_LATE, out)
            }
            FtpCommand::Host => self.reply(reply::HOST_READY, out),
            FtpCommand::Lang => match argument.get(..2).unwrap_or(argument) {
                b"" => self.reply(reply::ENGLISH, out),
                tag if tag.eq_ignore_ascii_case(b"en") => self.reply(reply::ENGLISH, out),
                _ => self.reply(reply::ENGLISH_ONLY, out),
            },
            FtpCommand::Auth => self.reply(reply::NO_MECHANISM, out),
            FtpCommand::Pbsz | FtpCommand::Prot => self.reply(reply::AUTH_FIRST, out),
            FtpCommand::Smnt => self.reply(reply::NOT_IMPLEMENTED, out),
            FtpCommand::Site => self.site(argument, out),
            FtpCommand::Pwd => {
                reply::path(out, place::Shown(self.current.as_ref()), false);
                self.ready()
            }
            FtpCommand::Rnto => self.rename_to(renamed, argument, out),
            FtpCommand::Abor => {
                say(out, reply::NOTHING_TO_ABORT);
                self.hang_up()
            }
            FtpCommand::Stat if argument.is_empty() => {
                let user = self.login.access().map(|access| &*access.user);
                let is_ascii = self.representation == Representation::Ascii;
                reply::status(out, user, self.peer.ip(), is_ascii);
                self.ready()
            }
            FtpCommand::Stat if self.login.access().is_none() => {
                self.reply(reply::LOG_IN_FIRST, out)
            }
            FtpCommand::Eprt | FtpCommand::Epsv | FtpCommand::Pasv | FtpCommand::Port => {
                self.data_address(command, argument, out)
            }
            FtpCommand::Rest => self.restart(argument, out),
            FtpCommand::Appe
            | FtpCommand::List
            | FtpCommand::Mlsd
            | FtpCommand::Nlst
            | FtpCommand::Retr
            | FtpCommand::Stor
            | FtpCommand::Stou => self.transfer(command, restart, argument, out),
            FtpCommand::Allo
            | FtpCommand::Avbl
            | FtpCommand::Cdup
            | FtpCommand::Cwd
            | FtpCommand::Dele
            | FtpCommand::Hash
            | FtpCommand::Mdtm
            | FtpCommand::Mfmt
            | FtpCommand::Mkd
            | FtpCommand::Mlst
            | FtpCommand::Rmd
            | FtpCommand::Rnfr
            | FtpCommand::Size
            | FtpCommand::Stat
            | FtpCommand::Xcrc
            | FtpCommand::Xmd5
            | FtpCommand::Xsha
            | FtpCommand::Xsha256
            | FtpCommand::Xsha512 => self.file_command(command, argument, out),
        }
    }

    /// Takes up what a reload made of this user: a directory of his is one of the grant of the same name, if he still has one.
    fn take_up(&mut self, access: Arc<Access>) {
        let regrant = |place: Option<GrantedPath>| {
            let mut place = place?;
            let mut grants = access.grants.iter();
            place.grant = grants.find(|grant| grant.name == place.grant.name)?.clone();
            Some(place)
        };
        self.current = regrant(self.current.take());
        self.renamed = regrant(self.renamed.take());
    }

    fn user(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        self.named(argument);
        say(out, reply::PASSWORD_PLEASE);
        self.hang_up()
    }

    /// A login begins anew; the parameters of transfers stay as they are.
    pub(crate) fn named(&mut self, user: &[u8]) {
        let representation = self.representation;
        self.log_out();
        self.user = Some(name(user));
        self.representation = representation;
    }

    fn pass(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        if self.login.access().is_some() {
            return self.reply(reply::ALREADY_LOGGED_IN, out);
        }
        let Some(user) = self.user.take() else {
            return self.reply(reply::USER_FIRST, out);
        };
        self.state = State::Login;
        Action::Request(Request::Authenticate {
            user,
            password: Zeroizing::new(argument.to_vec()),
            conceal_user: true,
        })
    }

    fn verified(&mut self, access: Option<Arc<Access>>, out: &mut Vec<u8>) -> Action {
        if let Some(access) = access {
            self.login.succeed(access);
            return self.reply(reply::LOGGED_IN, out);
        }
        match self.login.fail() {
            true => self.reply(reply::LOGIN_FAILED, out),
            false => self.close(reply::TOO_MANY_FAILURES, CloseReason::LoginFailures, out),
        }
    }

    fn rein(&mut self, out: &mut Vec<u8>) -> Action {
        self.log_out();
        say(out, reply::NEW_USER);
        self.hang_up()
    }

    /// All is as it was before the login, but what was counted.
    pub(crate) fn log_out(&mut self) {
        let fresh = FtpSession::new(self.settings, self.peer);
        self.login.log_out();
        *self = FtpSession {
            login: std::mem::take(&mut self.login),
            unknown: self.unknown,
            via: self.via.take(),
            ..fresh
        };
    }

    fn representation(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let argument = trim(argument).to_ascii_uppercase();
        let (representation, reply) = match &*argument {
            b"A" | b"A N" => (Representation::Ascii, reply::TYPE_ASCII),
            b"I" | b"L 8" | b"L8" => (Representation::Image, reply::TYPE_IMAGE),
            _ => return self.reply(reply::TYPE_UNKNOWN, out),
        };
        self.representation = representation;
        self.reply(reply, out)
    }

    fn help(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let argument = trim(argument);
        match Verb::find(argument) {
            _ if argument.is_empty() => reply::help(out),
            _ if argument.eq_ignore_ascii_case(b"SITE") => reply::help_of_site(out),
            Some(verb) => reply::help_of(out, verb),
            None => say(out, reply::HELP_UNKNOWN),
        }
        self.ready()
    }

    fn options(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let (word, options) = command::split(argument);
        let options = trim(options);
        match &*word.to_ascii_uppercase() {
            b"UTF8" | b"UTF-8" => match options.eq_ignore_ascii_case(b"OFF") {
                false => self.reply(reply::UTF8_ON, out),
                true => self.reply(reply::UTF8_STAYS, out),
            },
            b"MLST" if !options.is_empty() && !is_fact_list(options) => {
                self.reply(reply::BAD_FACTS, out)
            }
            b"MLST" => {
                self.facts = chosen_facts(options);
                reply::facts_chosen(out, self.facts);
                self.ready()
            }
            b"HASH" => {
                let mut algorithms = reply::ALGORITHMS.into_iter();
                let named = |algorithm: &Algorithm| {
                    let name = reply::algorithm_name(*algorithm).as_bytes();
                    name.eq_ignore_ascii_case(options)
                };
                match algorithms.find(named) {
                    Some(algorithm) => self.algorithm = algorithm,
                    None if options.is_empty() => {}
                    None => return self.reply(reply::NO_OPTIONS, out),
                }
                reply::algorithm_chosen(out, self.algorithm);
                self.ready()
            }
            _ => self.reply(reply::NO_OPTIONS, out),
        }
    }

    fn site(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let (word, argument) = command::split(trim(argument));
        match &*word.to_ascii_uppercase() {
            b"HELP" => match &*trim(argument).to_ascii_uppercase() {
                b"" | b"HELP" => reply::help_of_site(out),
                _ => say(out, reply::HELP_UNKNOWN),
            },
            b"CHMOD" if argument.is_empty() => say(out, reply::WRONG_ARGUMENT),
            b"CHMOD" => say(out, reply::NO_MODES),
            _ => say(out, reply::SITE_UNKNOWN),
        }
        self.ready()
    }

    /// What a path stands for, seen from the current directory.
    pub(crate) fn resolve(&self, path: &[u8]) -> Location {
        let access = self.login.access().expect("only who is logged in is asked");
        place::resolve(access, self.current.as_ref(), path)
    }

    pub(crate) fn ask(&mut self, question: Question, request: Request) -> Action {
        self.state = State::Asked(question);
        Action::Request(request)
    }

    pub(crate) fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) -> Action {
        say(out, reply);
        self.ready()
    }

    pub(crate) fn ready(&mut self) -> Action {
        self.state = State::Ready;
        Action::ReadLine
    }

    pub(crate) fn close(
        &mut self,
        goodbye: Reply,
        ending: CloseReason,
        out: &mut Vec<u8>,
    ) -> Action {
        say(out, goodbye);
        self.state = State::Closed;
        Action::Close(ending)
    }
}

/// The facts that a client gets if it asks for none in particular.
const FACTS: MlstFacts = MlstFacts {
    kind: true,
    size: true,
    modify: true,
    perm: true,
    unique: false,
    of_top: false,
};

/// Whether these are names, each with a `;` behind it (RFC 3659, 7.9).
fn is_fact_list(options: &[u8]) -> bool {
    options.ends_with(b";") && !options.contains(&b' ')
}

/// Those of `type;size;` and so on that are known.
fn chosen_facts(options: &[u8]) -> MlstFacts {
    let has = |name: &[u8]| {
        let mut chosen = options.split(|&byte| byte == b';');
        chosen.any(|chosen| chosen.eq_ignore_ascii_case(name))
    };
    MlstFacts {
        kind: has(b"type"),
        size: has(b"size"),
        modify: has(b"modify"),
        perm: has(b"perm"),
        unique: has(b"unique"),
        of_top: false,
    }
}
