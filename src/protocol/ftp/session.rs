//! The FTP session: a state machine that takes one input and returns one action (RFC 959, 6).
//!
//! A step takes the state out and leaves `Closed`; each transition puts in the next state.
//!
//! ```text
//! New ─▶ Ready ─▶ Authenticating ─▶ Ready                             PASS
//!        Ready ─▶ Request ─▶ Ready                                    CWD, SIZE, DELE, MKD ...
//!        Ready ─▶ Request ─▶ StatusListing ─▶ Ready                   STAT with a path
//!        Ready ─▶ Listening ─▶ Ready                                  EPSV, PASV
//!        Ready ─▶ Request ─▶ Transferring ─▶ Ready                    RETR, STOR, LIST ...
//!        Ready ─▶ ReleasingData ─▶ Ready                              PORT after PASV, ABOR ...
//!                            Transferring ─▶ Progress ─▶ Transferring STAT during a transfer
//! ```
//!
//! `files` and `transfer` decide what a command leads to; this file applies it.

use std::net::SocketAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::access::Access;
use crate::domain::error::{CloseReason, ErrorCode};
use crate::domain::request::{Request, Response};
use crate::limits::UNKNOWN_COMMANDS_MAX;
use crate::protocol::ftp::active_mode::ActiveMode;
use crate::protocol::ftp::arguments;
use crate::protocol::ftp::command::{FtpCommand, Verb, is_foreign, split};
use crate::protocol::ftp::files;
use crate::protocol::ftp::information::{self, SessionInformation};
use crate::protocol::ftp::path::AbsolutePath;
use crate::protocol::ftp::reply::{self, Reply, append};
use crate::protocol::ftp::state::{
    FtpOutcome, FtpPending, FtpState, FtpTransfer, Parameters, TransferFlags, TransferKind, View,
};
use crate::protocol::ftp::transfer;
use crate::protocol::login::{LoginState, PendingReload, regrant};
use crate::protocol::step::{Action, DataMode, Input, unexpected_input};
use crate::protocol::telnet;
use crate::protocol::text::name;

/// The operator's settings for FTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FtpSettings {
    /// Which clients may use active mode (PORT and EPRT).
    pub active: ActiveMode,
}

/// An FTP session.
#[derive(Debug)]
pub struct FtpSession {
    settings: FtpSettings,
    /// The client's end of the control connection.
    peer: SocketAddr,
    /// Whether the control connection comes from the server's own machine.
    is_local: bool,
    state: FtpState,
    login: LoginState,
    /// The user of USER, until PASS.
    user: Option<String>,
    parameters: Parameters,
    /// Unknown commands before a login.
    unknown_commands: u8,
}

// The budget of an idle session is 768 bytes in all.
const _: () = assert!(size_of::<FtpSession>() <= 384);

impl FtpSession {
    /// Creates a session that waits for [`Input::Begin`]. `peer` is the client's end of the control
    /// connection, which `is_local` if it comes from the server's own machine.
    pub fn new(settings: FtpSettings, peer: SocketAddr, is_local: bool) -> FtpSession {
        FtpSession {
            settings,
            peer,
            is_local,
            state: FtpState::New,
            login: LoginState::default(),
            user: None,
            parameters: Parameters::default(),
            unknown_commands: 0,
        }
    }

    pub(crate) fn step(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Action {
        match (std::mem::replace(&mut self.state, FtpState::Closed), input) {
            (FtpState::New, Input::Begin) => self.reply(reply::GREETING, out),
            (FtpState::New, Input::ServerFull) => {
                self.close(reply::SERVER_FULL, CloseReason::Full, out)
            }
            (FtpState::New, Input::LoginBlocked) => {
                self.close(reply::LOGIN_BLOCKED, CloseReason::LoginBlocked, out)
            }
            (FtpState::Ready, Input::Line(line)) => self.line(line, out),
            (FtpState::Ready, Input::LineTooLong) => self.reply(reply::LINE_TOO_LONG, out),
            (FtpState::Ready, Input::Idle) => self.close(reply::IDLE, CloseReason::Idle, out),
            (FtpState::Ready, Input::Stopping) => {
                self.close(reply::STOPPING, CloseReason::Stopping, out)
            }
            (FtpState::Authenticating, Input::Response(response)) => {
                self.authenticated(response, out)
            }
            (FtpState::Request(pending), Input::Response(response)) => {
                let outcome = files::respond(pending, response, &self.parameters, out);
                self.apply(outcome, out)
            }
            (FtpState::Listening { extended }, Input::Listening(address)) => {
                self.parameters.data_mode = address.is_ok().then_some(DataMode::Passive);
                match transfer::append_passive(extended, address, out) {
                    Ok(()) => self.ready(),
                    Err(reply) => self.apply(Ok(FtpOutcome::Release(reply)), out),
                }
            }
            (FtpState::Transferring(transfer), Input::Line(line)) => {
                self.line_during_transfer(transfer, line, out)
            }
            (FtpState::Transferring(transfer), Input::LineTooLong) if transfer.flags.has_begun => {
                append(out, reply::LINE_TOO_LONG);
                self.transferring(transfer)
            }
            (FtpState::Transferring(transfer), Input::LineTooLong) => self.hold_line(transfer),
            (FtpState::Transferring(transfer), Input::AbortAhead) => {
                self.state = FtpState::Transferring(transfer);
                Action::Abort
            }
            (FtpState::Transferring(transfer), Input::DataConnected(Ok(()))) => {
                self.start_transfer(transfer, out)
            }
            (FtpState::Transferring(transfer), Input::DataConnected(Err(code))) => {
                append(out, reply::error(code));
                self.end_transfer(transfer.flags, out)
            }
            (FtpState::Transferring(transfer), Input::TransferDone(result)) => {
                let outcome = transfer::end(transfer, result, out);
                self.apply(Ok(outcome), out)
            }
            (FtpState::Progress(transfer), Input::Progress(bytes)) => {
                reply::append_progress(out, bytes);
                self.transferring(transfer)
            }
            (FtpState::StatusListing, Input::TransferDone(Ok(()))) => {
                self.reply(reply::STATUS_LISTING_ENDS, out)
            }
            (FtpState::ReleasingData, Input::TransferDone(_)) => self.ready(),
            (state, _) => unexpected_input(&state),
        }
    }

    pub(crate) fn login(&self) -> &LoginState {
        &self.login
    }

    pub(crate) fn set_reloaded(&mut self, access: Option<Arc<Access>>) {
        self.login.set_reloaded(access);
    }

    pub(crate) fn is_quitting(&self) -> bool {
        matches!(&self.state, FtpState::Transferring(transfer) if transfer.flags.is_quitting)
    }

    pub(crate) fn is_receiving_data(&self) -> bool {
        matches!(&self.state, FtpState::Transferring(transfer) if transfer.is_receiving())
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Action {
        match self.login.apply_reload() {
            PendingReload::Unchanged => {}
            PendingReload::Changed(access) => {
                let Parameters {
                    current,
                    rename_from,
                    ..
                } = &mut self.parameters;
                for path in [current, rename_from] {
                    *path = path.take().and_then(|path| regrant(path, &access));
                }
            }
            PendingReload::Revoked => {
                return self.close(reply::LOGIN_REVOKED, CloseReason::LoginRevoked, out);
            }
        }
        let line = telnet::strip(line, out);
        let (word, argument) = split(&line);
        let Some(verb) = Verb::find(word) else {
            return self.unknown_command(word, out);
        };
        if !verb.is_open && self.login.access().is_none() {
            return self.reply(reply::LOG_IN_FIRST, out);
        }
        if !verb.accepts(argument) {
            return self.reply(reply::WRONG_ARGUMENT, out);
        }
        if verb.command != FtpCommand::Pass && argument.iter().any(u8::is_ascii_control) {
            return self.reply(reply::CONTROL_CHARACTER, out);
        }
        self.command(verb.command, argument, out)
    }

    /// Replies to an unknown command. Before a login, a few of them suggest that the client does
    /// not speak FTP.
    fn unknown_command(&mut self, word: &[u8], out: &mut Vec<u8>) -> Action {
        if self.login.access().is_none() {
            self.unknown_commands = self.unknown_commands.saturating_add(1);
        }
        match is_foreign(word) || self.unknown_commands > UNKNOWN_COMMANDS_MAX {
            true => self.close(reply::NOT_FTP, CloseReason::NotFtp, out),
            false => self.reply(reply::UNKNOWN_COMMAND, out),
        }
    }

    fn command(&mut self, command: FtpCommand, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let rename_from = self.parameters.rename_from.take();
        let restart = std::mem::take(&mut self.parameters.restart);
        if command.prepares_transfer() {
            self.parameters.restart = restart;
        }
        let outcome = match command {
            FtpCommand::User => {
                self.start_login(argument);
                Ok(FtpOutcome::Release(reply::PASSWORD_REQUIRED))
            }
            FtpCommand::Pass => return self.pass(argument, out),
            FtpCommand::Rein => {
                self.log_out();
                Ok(FtpOutcome::Release(reply::LOGGED_OUT))
            }
            FtpCommand::Quit => return self.close(reply::GOODBYE, CloseReason::Quit, out),
            FtpCommand::Abor => Ok(FtpOutcome::Release(reply::NO_TRANSFER)),
            FtpCommand::DataAddress(command) => {
                let (peer, active) = (self.peer, self.settings.active.allow(self.is_local));
                transfer::data_address(command, argument, peer, active, &self.parameters)
            }
            FtpCommand::Rest => transfer::restart(argument, self.parameters.representation),
            FtpCommand::Transfer(command) => self
                .view()
                .and_then(|view| transfer::begin(command, argument, restart, &view)),
            FtpCommand::File(command) => self
                .view()
                .and_then(|view| files::begin(command, argument, &view, out)),
            FtpCommand::Rnto => self
                .view()
                .and_then(|view| files::rename_to(rename_from, argument, &view)),
            FtpCommand::Stat if !argument.is_empty() => self
                .view()
                .and_then(|view| transfer::status_listing(argument, &view)),
            FtpCommand::Type => arguments::representation(argument)
                .map(FtpOutcome::Representation)
                .ok_or(reply::TYPE_UNSUPPORTED),
            FtpCommand::Opts => arguments::option(argument).map(FtpOutcome::Option),
            command => {
                let session = SessionInformation {
                    user: self.login.access().map(|access| &*access.user),
                    is_login_begun: self.user.is_some(),
                    peer: self.peer.ip(),
                    parameters: &self.parameters,
                };
                information::append(command, argument, &session, out);
                Ok(FtpOutcome::Ready)
            }
        };
        if !command.prepares_transfer() && command != FtpCommand::Rest {
            self.parameters.allocation = None;
        }
        self.apply(outcome, out)
    }

    /// The state that commands of a logged-in user read; the error is the reply.
    fn view(&self) -> Result<View<'_>, Reply> {
        Ok(View {
            access: self.login.access().ok_or(reply::LOG_IN_FIRST)?,
            parameters: &self.parameters,
        })
    }

    /// Applies the outcome of a command or response; an error is the reply.
    fn apply(&mut self, outcome: Result<FtpOutcome, Reply>, out: &mut Vec<u8>) -> Action {
        match outcome {
            Err(reply) => self.reply(reply, out),
            Ok(FtpOutcome::Ready) => self.ready(),
            Ok(FtpOutcome::Release(reply)) => {
                append(out, reply);
                self.release_data()
            }
            Ok(FtpOutcome::Request(pending, request)) => self.request(pending, request),
            Ok(FtpOutcome::ChangeDirectory(path)) => {
                self.parameters.current = path;
                let current = AbsolutePath(self.parameters.current.as_ref());
                reply::append_directory_changed(out, current);
                self.ready()
            }
            Ok(FtpOutcome::RenameFrom(path)) => {
                self.parameters.rename_from = Some(path);
                self.reply(reply::READY_FOR_RNTO, out)
            }
            Ok(FtpOutcome::Restart(offset)) => {
                self.parameters.restart = offset;
                reply::append_restarting(out, offset);
                self.ready()
            }
            Ok(FtpOutcome::Allocation(bytes)) => {
                self.parameters.allocation = Some(bytes);
                self.reply(reply::NO_ALLOCATION, out)
            }
            Ok(FtpOutcome::Representation(representation)) => {
                self.parameters.representation = representation;
                self.reply(reply::type_set(representation), out)
            }
            Ok(FtpOutcome::Option(option)) => {
                information::set_option(option, &mut self.parameters, out);
                self.ready()
            }
            Ok(FtpOutcome::Listen { extended }) => {
                self.parameters.data_mode = None;
                self.state = FtpState::Listening { extended };
                Action::Listen
            }
            Ok(FtpOutcome::EpsvOnly) => {
                self.parameters.is_epsv_only = true;
                self.reply(reply::EPSV_ALL, out)
            }
            Ok(FtpOutcome::ActiveAddress(address)) => {
                append(out, reply::ADDRESS_ACCEPTED);
                let action = self.release_data();
                self.parameters.data_mode = Some(DataMode::Active(address));
                action
            }
            Ok(FtpOutcome::Connect(kind)) => self.connect(kind, out),
            Ok(FtpOutcome::SendStatusListing { length }) => {
                self.state = FtpState::StatusListing;
                Action::Send { offset: 0, length }
            }
            Ok(FtpOutcome::EndTransfer(flags)) => self.end_transfer(flags, out),
        }
    }

    /// USER: ends the login and keeps TYPE.
    fn start_login(&mut self, user: &[u8]) {
        let representation = self.parameters.representation;
        self.log_out();
        self.parameters.representation = representation;
        self.user = Some(name(user));
    }

    /// Resets everything but the counters, and the data address, which is released afterwards.
    fn log_out(&mut self) {
        self.login.log_out();
        self.user = None;
        self.parameters = Parameters {
            data_mode: self.parameters.data_mode.take(),
            ..Parameters::default()
        };
    }

    fn pass(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        if self.login.access().is_some() {
            return self.reply(reply::ALREADY_LOGGED_IN, out);
        }
        let Some(user) = self.user.take() else {
            return self.reply(reply::USER_FIRST, out);
        };
        self.state = FtpState::Authenticating;
        Action::Request(Request::Authenticate {
            user,
            password: Zeroizing::new(argument.to_vec()),
            conceal_user: true,
        })
    }

    fn authenticated(&mut self, response: Response, out: &mut Vec<u8>) -> Action {
        match response {
            Response::Authenticated(Some(access)) => {
                self.login.succeed(access);
                self.reply(reply::LOGGED_IN, out)
            }
            Response::Authenticated(None) => match self.login.fail() {
                true => self.reply(reply::LOGIN_FAILED, out),
                false => self.close(reply::TOO_MANY_FAILURES, CloseReason::LoginFailures, out),
            },
            Response::Refused(code) => {
                let reason = match code {
                    ErrorCode::TooManySessions => CloseReason::TooManySessions,
                    _ => CloseReason::LoginBlocked,
                };
                self.close(reply::error(code), reason, out)
            }
            _ => unexpected_input(&FtpState::Authenticating),
        }
    }

    fn connect(&mut self, kind: TransferKind, out: &mut Vec<u8>) -> Action {
        let Some(data_mode) = self.parameters.data_mode.take() else {
            return self.reply(reply::NO_DATA_ADDRESS, out);
        };
        self.state = FtpState::Transferring(FtpTransfer {
            representation: transfer::representation(&kind, self.parameters.representation),
            kind,
            flags: TransferFlags::default(),
        });
        Action::Connect(data_mode)
    }

    fn start_transfer(&mut self, mut transfer: FtpTransfer, out: &mut Vec<u8>) -> Action {
        let action = transfer::start(&transfer, out);
        transfer.flags.has_begun = true;
        self.state = FtpState::Transferring(transfer);
        action
    }

    /// Handles a line during a transfer, which continues unless the line is ABOR. Only the commands
    /// that RFC 959 has for this (4.1.1 and 4.1.3), and NOOP, are answered before its end, and only
    /// ABOR before its 150.
    fn line_during_transfer(
        &mut self,
        mut transfer: FtpTransfer,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> Action {
        let output_before = out.len();
        let line = telnet::strip(line, out);
        let (word, argument) = split(&line);
        let verb = Verb::find(word).filter(|verb| verb.accepts(argument));
        match verb.map(|verb| verb.command) {
            Some(FtpCommand::Abor) => {
                transfer.flags.is_aborted = true;
                self.state = FtpState::Transferring(transfer);
                return Action::Abort;
            }
            _ if !transfer.flags.has_begun => {
                out.truncate(output_before);
                return self.hold_line(transfer);
            }
            Some(FtpCommand::Stat) if argument.is_empty() => {
                self.state = FtpState::Progress(transfer);
                return Action::QueryProgress;
            }
            Some(FtpCommand::Noop) => append(out, reply::OK),
            // Some clients process their data only after this reply.
            Some(FtpCommand::Quit) => {
                transfer.flags.is_quitting = true;
                append(out, reply::GOODBYE);
            }
            // USER and REIN end the login, but not the transfer (RFC 959, 4.1.1).
            Some(FtpCommand::User) if argument.iter().any(u8::is_ascii_control) => {
                append(out, reply::CONTROL_CHARACTER);
            }
            Some(FtpCommand::User) => {
                self.start_login(argument);
                append(out, reply::PASSWORD_REQUIRED);
            }
            Some(FtpCommand::Rein) => {
                self.log_out();
                append(out, reply::LOGGED_OUT);
            }
            _ => {
                out.truncate(output_before);
                return self.hold_line(transfer);
            }
        }
        self.transferring(transfer)
    }

    fn hold_line(&mut self, transfer: FtpTransfer) -> Action {
        self.state = FtpState::Transferring(transfer);
        Action::HoldLine
    }

    fn transferring(&mut self, transfer: FtpTransfer) -> Action {
        self.state = FtpState::Transferring(transfer);
        Action::ReadLine
    }

    /// Sends the replies that follow the one to the transfer itself.
    fn end_transfer(&mut self, flags: TransferFlags, out: &mut Vec<u8>) -> Action {
        if flags.is_aborted {
            append(out, reply::ABORT_SUCCESSFUL);
        }
        match flags.is_quitting {
            false => self.ready(),
            // The reply to QUIT was sent during the transfer.
            true => Action::Close(CloseReason::Quit),
        }
    }

    /// Waits for the next command, and releases a passive port before that.
    fn release_data(&mut self) -> Action {
        match self.parameters.data_mode.take() {
            Some(DataMode::Passive) => {
                self.state = FtpState::ReleasingData;
                Action::Abort
            }
            Some(DataMode::Active(_)) | None => self.ready(),
        }
    }

    fn request(&mut self, pending: FtpPending, request: Request) -> Action {
        self.state = FtpState::Request(pending);
        Action::Request(request)
    }

    fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) -> Action {
        append(out, reply);
        self.ready()
    }

    fn ready(&mut self) -> Action {
        self.state = FtpState::Ready;
        Action::ReadLine
    }

    fn close(&mut self, reply: Reply, reason: CloseReason, out: &mut Vec<u8>) -> Action {
        append(out, reply);
        Action::Close(reason)
    }
}
