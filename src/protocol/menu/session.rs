//! The server's side of the menu: a state machine that takes one input and returns one action.
//!
//! A step takes the state out and leaves `Closed`; each transition puts in the next state.
//!
//! ```text
//! New ─▶ Command ─▶ Username ─▶ Password ─▶ Command          LOGIN
//!        Command ─▶ Prompt ─▶ Request ─▶ Command             SHOW, MAKE, CHECKSUM ...
//!        Command ─▶ Prompt ─▶ Request ─▶ Transfer ─▶ Command DOWNLOAD, UPLOAD, PUT ...
//! ```

use std::fmt::Display;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::access::Access;
use crate::domain::error::{CloseReason, ErrorCode};
use crate::domain::listing::{ListingFormat, ListingTarget};
use crate::domain::path::GrantedPath;
use crate::domain::request::{QuotaUsage, Request, Response};
use crate::protocol::login::{LoginState, PendingReload, regrant};
use crate::protocol::menu::command::{MenuCommand, parse};
use crate::protocol::menu::request;
use crate::protocol::menu::state::{MenuPending, MenuState, MenuTransfer, Prompt};
use crate::protocol::menu::text;
use crate::protocol::menu::text::append_line;
use crate::protocol::step::{Action, Input, unexpected_input};
use crate::protocol::text::{hex, name, number, trim};

/// A menu session.
#[derive(Debug)]
pub struct MenuSession {
    state: MenuState,
    login: LoginState,
    /// The chosen directory; boxed, since most idle sessions have none.
    chosen: Option<Box<GrantedPath>>,
}

// Thousands of idle sessions may exist, with a budget of 256 bytes each.
const _: () = assert!(size_of::<MenuSession>() <= 96);

impl MenuSession {
    /// Creates a session that waits for [`Input::Begin`].
    pub fn new() -> MenuSession {
        MenuSession {
            state: MenuState::New,
            login: LoginState::default(),
            chosen: None,
        }
    }

    pub(crate) fn step(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Action {
        match (std::mem::replace(&mut self.state, MenuState::Closed), input) {
            (MenuState::New, Input::Begin) => self.offer(out),
            (MenuState::New, Input::ServerFull) => {
                self.close(text::SERVER_FULL, CloseReason::Full, out)
            }
            (MenuState::New, Input::LoginBlocked) => {
                self.close(text::LOGIN_BLOCKED, CloseReason::LoginBlocked, out)
            }
            (MenuState::Command, Input::Line(line)) => self.command(line, out),
            (MenuState::Username, Input::Line(line)) => {
                let user = name(line);
                let pending = MenuPending::LookUpUser(user.clone());
                self.request(pending, Request::LookUpUser { user })
            }
            (MenuState::Password(user), Input::Line(line)) => {
                let request = Request::Authenticate {
                    user,
                    password: Zeroizing::new(line.to_vec()),
                    conceal_user: false,
                };
                self.request(MenuPending::Authenticate, request)
            }
            (MenuState::Prompt(prompt), Input::Line(line)) => self.answer(prompt, line, out),
            (MenuState::Offset(length), Input::Line(line)) => self.resume(length, line, out),
            (MenuState::Request(pending), Input::Response(response)) => {
                self.respond(pending, response, out)
            }
            (MenuState::Transfer(transfer), Input::TransferDone(result)) => {
                self.transfer_done(transfer, result, out)
            }
            (state, Input::LineTooLong) if state.awaits_line() => {
                self.close(text::LINE_TOO_LONG, CloseReason::LineTooLong, out)
            }
            (state, Input::Idle) if state.awaits_line() => {
                self.close(text::IDLE, CloseReason::Idle, out)
            }
            (state, Input::Stopping) if state.awaits_line() => {
                self.close(text::STOPPING, CloseReason::Stopping, out)
            }
            (state, _) => unexpected_input(&state),
        }
    }

    pub(crate) fn login(&self) -> &LoginState {
        &self.login
    }

    pub(crate) fn set_reloaded(&mut self, access: Option<Arc<Access>>) {
        self.login.set_reloaded(access);
    }

    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Action {
        match self.login.apply_reload() {
            PendingReload::Unchanged => {}
            PendingReload::Changed(access) => {
                let chosen = self.chosen.take();
                self.chosen = chosen.and_then(|path| regrant(*path, &access).map(Box::new));
            }
            PendingReload::Revoked => {
                return self.close(text::LOGIN_REVOKED, CloseReason::LoginRevoked, out);
            }
        }
        if trim(line).is_empty() {
            return self.offer(out);
        }
        let Some((command, argument)) = parse(line) else {
            return self.message_and_offer(text::UNKNOWN_COMMAND, out);
        };
        match (command, self.login.access().cloned()) {
            (MenuCommand::Help, access) => {
                let commands = MenuCommand::ALL.into_iter();
                commands
                    .filter(|command| command.is_offered_to(access.as_deref()))
                    .for_each(|command| append_line(out, text::help(command)));
                self.offer(out)
            }
            (MenuCommand::Quit, None) => self.close(text::GOODBYE, CloseReason::Quit, out),
            (MenuCommand::Quit, Some(_)) => {
                self.close(text::GOODBYE_LOGGED_OUT, CloseReason::Quit, out)
            }
            (MenuCommand::Login, None) => {
                append_line(out, text::ENTER_USERNAME);
                self.read_line(MenuState::Username)
            }
            (MenuCommand::Login, Some(_)) => self.message_and_offer(text::ALREADY_LOGGED_IN, out),
            // Its bytes follow at once and would be parsed as commands.
            (MenuCommand::PutFile, None) => {
                self.close(text::LOG_IN_FIRST, CloseReason::PutRefused, out)
            }
            (_, None) => self.message_and_offer(text::LOG_IN_FIRST, out),
            (command, Some(access)) => self.user_command(command, argument, &access, out),
        }
    }

    /// Runs a command that requires a login.
    fn user_command(
        &mut self,
        command: MenuCommand,
        argument: &[u8],
        access: &Access,
        out: &mut Vec<u8>,
    ) -> Action {
        let prompt = match command {
            MenuCommand::ShowDirectories => return self.show_directories(access, out),
            MenuCommand::ShowDetails => return self.show_details(out),
            MenuCommand::ShowQuota => return self.request(MenuPending::Quota, Request::Quota),
            MenuCommand::PutFile => {
                return match request::put_file(argument, access, self.chosen.as_deref()) {
                    Some((pending, request)) => self.request(pending, request),
                    None => self.close(text::BAD_NUMBER, CloseReason::PutRefused, out),
                };
            }
            MenuCommand::ShowDirectory => Prompt::Directory,
            MenuCommand::DownloadFile => Prompt::Download,
            MenuCommand::ResumeDownload => Prompt::Resume,
            MenuCommand::UploadFile => Prompt::Upload,
            MenuCommand::MakeDirectory => Prompt::MakeDirectory,
            MenuCommand::ChecksumFile => Prompt::Checksum,
            // Handled before, as they need no login.
            MenuCommand::Login | MenuCommand::Help | MenuCommand::Quit => return self.offer(out),
        };
        // The short form: the answer to the prompt is on the command's line.
        match argument.is_empty() {
            true => self.prompt(prompt, out),
            false => self.answer(prompt, argument, out),
        }
    }

    fn show_directories(&mut self, access: &Access, out: &mut Vec<u8>) -> Action {
        if access.grants.is_empty() {
            return self.message_and_offer(text::NO_DIRECTORIES, out);
        }
        let names: Vec<&str> = access.grants.iter().map(|grant| &*grant.name).collect();
        let names = names.join(text::SEPARATOR);
        self.message_and_offer(format_args!("{}{names}", text::DIRECTORIES), out)
    }

    fn show_details(&mut self, out: &mut Vec<u8>) -> Action {
        let Some(chosen) = &self.chosen else {
            return self.message_and_offer(text::CHOOSE_DIRECTORY_FIRST, out);
        };
        let request = Request::List {
            target: ListingTarget::Directory(GrantedPath::clone(chosen)),
            format: ListingFormat::Details,
        };
        self.request(MenuPending::Details, request)
    }

    /// Handles the answer to a command's prompt.
    fn answer(&mut self, prompt: Prompt, answer: &[u8], out: &mut Vec<u8>) -> Action {
        let access = match self.login.access() {
            Some(access) if !answer.is_empty() => access,
            _ => return self.offer(out),
        };
        match request::from_answer(prompt, answer, access, self.chosen.as_deref()) {
            Ok((pending, request)) => self.request(pending, request),
            Err(message) => self.message_and_offer(message, out),
        }
    }

    /// Handles the offset of RESUME DOWNLOAD.
    fn resume(&mut self, length: u64, answer: &[u8], out: &mut Vec<u8>) -> Action {
        if answer.is_empty() {
            return self.offer(out);
        }
        match number(answer).filter(|&offset| offset <= length) {
            Some(offset) => self.send_file(offset, length - offset, out),
            None => self.message_and_offer(text::BAD_NUMBER, out),
        }
    }

    fn respond(&mut self, pending: MenuPending, response: Response, out: &mut Vec<u8>) -> Action {
        match (pending, response) {
            (pending, Response::Refused(code)) => self.refused(pending, code, out),
            (MenuPending::LookUpUser(user), Response::UserLookedUp(true)) => {
                append_line(out, text::ENTER_PASSWORD);
                self.read_line(MenuState::Password(user))
            }
            (MenuPending::LookUpUser(_), Response::UserLookedUp(false))
            | (MenuPending::Authenticate, Response::Authenticated(None)) => self.login_failed(out),
            (MenuPending::Authenticate, Response::Authenticated(Some(access))) => {
                self.login.succeed(access);
                self.message_and_offer(text::LOGIN_SUCCESSFUL, out)
            }
            (MenuPending::EnterDirectory(path), Response::Listing { length, entries }) => {
                self.chosen = Some(Box::new(path));
                if entries == 0 {
                    return self.message_and_offer(text::NO_FILES, out);
                }
                out.extend_from_slice(text::FILES.as_bytes());
                self.send(MenuTransfer::Names, 0, length)
            }
            (MenuPending::Details, Response::Listing { length, entries }) => {
                append_line(out, format_args!("{}{entries}", text::ENTRIES));
                self.send(MenuTransfer::Download, 0, length)
            }
            (MenuPending::Download, Response::Opened { length }) => self.send_file(0, length, out),
            (MenuPending::Resume, Response::Opened { length }) => {
                append_line(out, text::ENTER_OFFSET);
                self.read_line(MenuState::Offset(length))
            }
            (MenuPending::CheckUpload(path), Response::Allowed) => {
                self.prompt(Prompt::Length(path), out)
            }
            (MenuPending::Create { name, length }, Response::Created) => {
                append_line(out, format_args!("{}{length}{}", text::READY, text::BYTES));
                self.receive(name, length)
            }
            (MenuPending::Put { path, length }, Response::Created) => {
                self.receive(path.file_name().to_owned(), length)
            }
            (MenuPending::DiscardPut { length, reason }, Response::Allowed) => {
                self.state = MenuState::Transfer(MenuTransfer::Discard(reason));
                Action::Discard { length }
            }
            (MenuPending::Quota, Response::Quota(quotas)) => self.show_quotas(&quotas, out),
            (MenuPending::MakeDirectory(name), Response::DirectoryCreated) => {
                self.message_and_offer(format_args!("{}{name}", text::DIRECTORY_MADE), out)
            }
            (MenuPending::Checksum(name), Response::Checksum { digest, .. }) => {
                let digest = hex(&digest);
                self.message_and_offer(format_args!("{}{digest} {name}", text::SHA_256), out)
            }
            (pending, _) => unexpected_input(&pending),
        }
    }

    fn refused(&mut self, pending: MenuPending, code: ErrorCode, out: &mut Vec<u8>) -> Action {
        let message = text::refusal(code);
        match (pending, code) {
            (MenuPending::LookUpUser(_) | MenuPending::Authenticate, code) => {
                let reason = match code {
                    ErrorCode::TooManySessions => CloseReason::TooManySessions,
                    _ => CloseReason::LoginBlocked,
                };
                self.close(message, reason, out)
            }
            // The announced bytes exceed what the server accepts. Discarding them might take
            // forever.
            (
                MenuPending::Put { .. },
                ErrorCode::NoSpace | ErrorCode::OverQuota | ErrorCode::TooLarge,
            )
            | (MenuPending::DiscardPut { .. }, _) => {
                self.close(message, CloseReason::PutRefused, out)
            }
            (MenuPending::Put { path, length }, _) => {
                let (grant, reason) = (Some(path.grant), message);
                let pending = MenuPending::DiscardPut { length, reason };
                self.request(pending, Request::CheckSpace { grant, length })
            }
            _ => self.message_and_offer(message, out),
        }
    }

    fn login_failed(&mut self, out: &mut Vec<u8>) -> Action {
        append_line(out, text::LOGIN_FAILED);
        match self.login.fail() {
            true => self.offer(out),
            false => self.close(text::TOO_MANY_FAILURES, CloseReason::LoginFailures, out),
        }
    }

    fn show_quotas(&mut self, quotas: &[QuotaUsage], out: &mut Vec<u8>) -> Action {
        if quotas.is_empty() {
            return self.message_and_offer(text::NO_QUOTA, out);
        }
        append_line(out, format_args!("{}{}", text::QUOTA, quotas.len()));
        for quota in quotas {
            text::append_quota(out, quota);
        }
        self.offer(out)
    }

    fn transfer_done(
        &mut self,
        transfer: MenuTransfer,
        result: Result<(), ErrorCode>,
        out: &mut Vec<u8>,
    ) -> Action {
        match (transfer, result) {
            // Ends the line of names.
            (MenuTransfer::Names, Ok(())) => self.message_and_offer("", out),
            (MenuTransfer::Download, Ok(())) => self.offer(out),
            (MenuTransfer::Upload { name, length }, Ok(())) => {
                let (complete, bytes) = (text::UPLOAD_COMPLETE, text::BYTES);
                self.message_and_offer(format_args!("{complete}{name}, {length}{bytes}"), out)
            }
            (MenuTransfer::Upload { .. }, Err(code)) => {
                self.upload_failed(text::refusal(code), out)
            }
            (MenuTransfer::Discard(reason), _) => self.upload_failed(reason, out),
            // A download that fails has to close the connection, which ends the session without an
            // input.
            (transfer, Err(_)) => unexpected_input(&transfer),
        }
    }

    fn upload_failed(&mut self, reason: &str, out: &mut Vec<u8>) -> Action {
        self.message_and_offer(format_args!("{}{reason}", text::UPLOAD_FAILED), out)
    }

    fn message_and_offer(&mut self, message: impl Display, out: &mut Vec<u8>) -> Action {
        append_line(out, message);
        self.offer(out)
    }

    /// Shows the menu, or before a login the first choice, and waits for a command.
    fn offer(&mut self, out: &mut Vec<u8>) -> Action {
        let choice = match self.login.access() {
            None => text::FIRST_CHOICE,
            Some(access) if access.may_add() => text::MENU_WITH_UPLOAD,
            Some(_) => text::MENU,
        };
        append_line(out, choice);
        self.read_line(MenuState::Command)
    }

    fn prompt(&mut self, prompt: Prompt, out: &mut Vec<u8>) -> Action {
        append_line(out, prompt.text());
        self.read_line(MenuState::Prompt(prompt))
    }

    fn read_line(&mut self, state: MenuState) -> Action {
        self.state = state;
        Action::ReadLine
    }

    fn request(&mut self, pending: MenuPending, request: Request) -> Action {
        self.state = MenuState::Request(pending);
        Action::Request(request)
    }

    fn send_file(&mut self, offset: u64, length: u64, out: &mut Vec<u8>) -> Action {
        append_line(out, format_args!("{}{length}", text::LENGTH));
        self.send(MenuTransfer::Download, offset, length)
    }

    fn send(&mut self, transfer: MenuTransfer, offset: u64, length: u64) -> Action {
        self.state = MenuState::Transfer(transfer);
        Action::Send { offset, length }
    }

    fn receive(&mut self, name: String, length: u64) -> Action {
        self.state = MenuState::Transfer(MenuTransfer::Upload { name, length });
        Action::Receive { length }
    }

    fn close(&mut self, message: &str, reason: CloseReason, out: &mut Vec<u8>) -> Action {
        append_line(out, message);
        Action::Close(reason)
    }
}

impl Default for MenuSession {
    fn default() -> MenuSession {
        MenuSession::new()
    }
}
