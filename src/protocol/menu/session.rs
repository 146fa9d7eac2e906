//! The menu, server side: states and steps.
//!
//! One state for each thing that is waited for: a command, the answer to a prompt, the house's answer, the end of a
//! transfer. A step takes the state out, and whatever it does puts the next one in; what puts none in has closed.
//!
//! Must not know: what a sentence reads like (`menu_text`), how a line is parsed (`menu_command`).

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::access::Access;
use crate::domain::error::{CloseReason, ErrorCode};
use crate::domain::listing::{ListingFormat, ListingTarget};
use crate::domain::path::GrantedPath;
use crate::domain::request::{Algorithm, Request, Response, UploadBase};
use crate::limits::LOGIN_FAILURES_MAX;
use crate::protocol::menu::command;
use crate::protocol::menu::command::MenuCommand;
use crate::protocol::menu::path as place;
use crate::protocol::menu::text;
use crate::protocol::menu::text::say;
use crate::protocol::step::{Action, Input};

/// The menu's dialogue with one client.
#[derive(Debug)]
pub struct MenuSession {
    state: State,
    /// What the user may do; `None` before a login.
    access: Option<Arc<Access>>,
    /// What a reload made of `access`, until the next command takes it up.
    reloaded: Reloaded,
    /// The chosen directory; boxed, since most sessions that wait have chosen none.
    chosen: Option<Box<GrantedPath>>,
    /// Failed logins on this connection.
    failures: u8,
}

// Thousands of sessions wait at the menu at once, and each is allowed 512 bytes in all.
const _: () = assert!(size_of::<MenuSession>() <= 96);

#[derive(Debug)]
enum State {
    /// Before [`Input::Begin`].
    New,
    /// At the menu, or before a login at the first choice.
    Choice,
    /// A prompt was said.
    Prompted(Prompt),
    /// A request is open.
    Asked(Question),
    /// Bytes are on their way.
    Moving(Transfer),
    /// Nothing more can come.
    Closed,
}

/// What the next line answers.
#[derive(Debug)]
enum Prompt {
    Username,
    /// Of this user.
    Password(String),
    Directory,
    Download,
    Resume,
    /// Within an opened file of this length.
    Offset(u64),
    Upload,
    /// Of the file to be at this place.
    Length(GrantedPath),
    NewDirectory,
    Checksum,
}

/// What the house was asked, and what its answer does not tell again.
#[derive(Debug)]
enum Question {
    Account(String),
    Verify,
    Enter(GrantedPath),
    Details,
    Download,
    Resume,
    Judge(GrantedPath),
    Create {
        name: String,
        length: u64,
    },
    Put {
        place: GrantedPath,
        length: u64,
    },
    /// After an upload was refused for this reason: may its bytes be thrown away?
    PutRoom {
        length: u64,
        reason: &'static str,
    },
    Quota,
    /// The directory's name.
    MakeDirectory(String),
    /// The file's name.
    Checksum(String),
}

/// What is on its way, and what is to be said behind it.
#[derive(Debug)]
enum Transfer {
    /// The names of a directory, on the line that was begun.
    Names,
    /// A file, or the details of a directory.
    Download,
    /// An upload.
    StagedUpload { name: String, length: u64 },
    /// The bytes of an upload that was refused for this reason.
    Discarded(&'static str),
}

#[derive(Debug, Default)]
enum Reloaded {
    #[default]
    Nothing,
    Changed(Arc<Access>),
    Invalid,
}

impl MenuSession {
    /// A dialogue that waits for [`Input::Begin`].
    pub fn new() -> MenuSession {
        MenuSession {
            state: State::New,
            access: None,
            reloaded: Reloaded::Nothing,
            chosen: None,
            failures: 0,
        }
    }

    pub(crate) fn step(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Action {
        match (std::mem::replace(&mut self.state, State::Closed), input) {
            (State::New, Input::Begin) => self.offer(out),
            (State::New, Input::ServerFull) => {
                self.close(text::SERVER_FULL, CloseReason::Full, out)
            }
            (State::New, Input::LoginBlocked) => {
                self.close(text::TURNED_AWAY, CloseReason::LoginBlocked, out)
            }
            (State::Choice, Input::Line(line)) => self.command(line, out),
            (State::Prompted(prompt), Input::Line(line)) => {
                self.answer_to_prompt(prompt, line, out)
            }
            (State::Asked(question), Input::Response(answer)) => {
                self.house_answer(question, answer, out)
            }
            (State::Moving(transfer), Input::TransferDone(result)) => {
                self.moved(transfer, result, out)
            }
            (State::Choice | State::Prompted(_), Input::LineTooLong) => {
                self.close(text::LINE_TOO_LONG, CloseReason::LineTooLong, out)
            }
            (State::Choice | State::Prompted(_), Input::Idle) => {
                self.close(text::IDLE, CloseReason::Idle, out)
            }
            (State::Choice | State::Prompted(_), Input::Stopping) => {
                self.close(text::STOPPING, CloseReason::Stopping, out)
            }
            // The input stays unsaid: it may be a line with a password.
            (state, _) => unreachable!("an input that the menu does not wait for in {state:?}"),
        }
    }

    pub(crate) fn reloaded(&mut self, access: Option<Arc<Access>>) {
        assert!(
            self.access().is_some(),
            "a reload is told to who is logged in"
        );
        self.reloaded = access.map_or(Reloaded::Invalid, Reloaded::Changed);
    }

    pub(crate) fn is_logged_in(&self) -> bool {
        self.access.is_some()
    }

    pub(crate) fn access(&self) -> Option<&Arc<Access>> {
        match &self.reloaded {
            Reloaded::Nothing => self.access.as_ref(),
            Reloaded::Changed(access) => Some(access),
            Reloaded::Invalid => None,
        }
    }

    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Action {
        match std::mem::take(&mut self.reloaded) {
            Reloaded::Nothing => {}
            Reloaded::Changed(access) => self.take_up(access),
            Reloaded::Invalid => {
                return self.close(text::LOGIN_INVALID, CloseReason::LoginRevoked, out);
            }
        }
        if command::trim(line).is_empty() {
            return self.offer(out);
        }
        let Some((command, rest)) = command::parse(line) else {
            return self.say_and_offer(text::UNKNOWN_COMMAND, out);
        };
        match (command, self.access.clone()) {
            (MenuCommand::Help, _) => self.help(out),
            (MenuCommand::Quit, None) => self.close(text::GOODBYE, CloseReason::Quit, out),
            (MenuCommand::Quit, Some(_)) => {
                self.close(text::GOODBYE_LOGGED_OUT, CloseReason::Quit, out)
            }
            (MenuCommand::Login, None) => self.prompt(Prompt::Username, out),
            (MenuCommand::Login, Some(_)) => self.say_and_offer(text::ALREADY_LOGGED_IN, out),
            // Its bytes follow at once and could not be told from commands.
            (MenuCommand::PutFile, None) => {
                self.close(text::LOG_IN_FIRST, CloseReason::PutRefused, out)
            }
            (_, None) => self.say_and_offer(text::LOG_IN_FIRST, out),
            (MenuCommand::ShowDirectories, Some(access)) => self.show_directories(&access, out),
            (MenuCommand::ShowDetails, Some(_)) => self.show_details(out),
            (MenuCommand::ShowQuota, Some(_)) => self.ask(Question::Quota, Request::Quota),
            (MenuCommand::PutFile, Some(access)) => self.put_file(&access, rest, out),
            (MenuCommand::ShowDirectory, Some(_)) => self.short(Prompt::Directory, rest, out),
            (MenuCommand::DownloadFile, Some(_)) => self.short(Prompt::Download, rest, out),
            (MenuCommand::ResumeDownload, Some(_)) => self.short(Prompt::Resume, rest, out),
            (MenuCommand::UploadFile, Some(_)) => self.short(Prompt::Upload, rest, out),
            (MenuCommand::MakeDirectory, Some(_)) => self.short(Prompt::NewDirectory, rest, out),
            (MenuCommand::ChecksumFile, Some(_)) => self.short(Prompt::Checksum, rest, out),
        }
    }

    /// Takes up what a reload made of this user: the chosen directory is the grant of the same name, if he still has one.
    fn take_up(&mut self, access: Arc<Access>) {
        self.chosen = self.chosen.take().and_then(|mut place| {
            place.grant = access
                .grants
                .iter()
                .find(|grant| grant.name == place.grant.name)?
                .clone();
            Some(place)
        });
        self.access = Some(access);
    }

    fn help(&mut self, out: &mut Vec<u8>) -> Action {
        for command in MenuCommand::ALL {
            let given = match (command, &self.access) {
                (MenuCommand::Help | MenuCommand::Quit, _) => true,
                (MenuCommand::Login, access) => access.is_none(),
                (_, None) => false,
                (
                    MenuCommand::UploadFile | MenuCommand::PutFile | MenuCommand::MakeDirectory,
                    Some(access),
                ) => may_add_somewhere(access),
                (_, Some(_)) => true,
            };
            if given {
                say(out, text::help(command));
            }
        }
        self.offer(out)
    }

    fn show_directories(&mut self, access: &Access, out: &mut Vec<u8>) -> Action {
        if access.grants.is_empty() {
            return self.say_and_offer(text::NO_DIRECTORIES, out);
        }
        let names: Vec<&str> = access.grants.iter().map(|grant| &*grant.name).collect();
        let names = names.join(text::SEPARATOR);
        self.say_and_offer(format_args!("{}{names}", text::DIRECTORIES), out)
    }

    fn show_details(&mut self, out: &mut Vec<u8>) -> Action {
        let Some(chosen) = &self.chosen else {
            return self.say_and_offer(text::CHOOSE_DIRECTORY_FIRST, out);
        };
        let place = GrantedPath::clone(chosen);
        self.ask(
            Question::Details,
            Request::List {
                target: ListingTarget::Directory(place),
                format: ListingFormat::Details,
            },
        )
    }

    fn put_file(&mut self, access: &Access, rest: &[u8], out: &mut Vec<u8>) -> Action {
        let (length, name) = command::first_word(rest);
        let Some(length) = command::number(length) else {
            return self.close(text::BAD_NUMBER, CloseReason::PutRefused, out);
        };
        let (grant, reason) = if name.is_empty() {
            let grant = self.chosen.as_ref().map(|place| place.grant.clone());
            (grant, text::refusal(ErrorCode::InvalidName))
        } else {
            match place::resolve(
                access,
                self.chosen.as_deref(),
                name,
                ErrorCode::NoSuchDirectory,
            ) {
                Ok(place) => {
                    let question = Question::Put {
                        place: place.clone(),
                        length,
                    };
                    return self.ask(question, create(place, length));
                }
                Err(reason) => (None, reason),
            }
        };
        self.ask(
            Question::PutRoom { length, reason },
            Request::CheckSpace { grant, length },
        )
    }

    /// A command with a prompt: what follows it on its line is the answer already.
    fn short(&mut self, prompt: Prompt, rest: &[u8], out: &mut Vec<u8>) -> Action {
        if rest.is_empty() {
            self.prompt(prompt, out)
        } else {
            self.answer_to_prompt(prompt, rest, out)
        }
    }

    /// Takes the answer to a prompt.
    fn answer_to_prompt(&mut self, prompt: Prompt, line: &[u8], out: &mut Vec<u8>) -> Action {
        match prompt {
            Prompt::Username => {
                let user = command::name(line);
                return self.ask(
                    Question::Account(user.clone()),
                    Request::LookUpUser { user },
                );
            }
            Prompt::Password(user) => {
                let password = Zeroizing::new(line.to_vec());
                let request = Request::Authenticate {
                    user,
                    password,
                    conceal_user: false,
                };
                return self.ask(Question::Verify, request);
            }
            _ if line.is_empty() => return self.offer(out),
            _ => {}
        }
        match self.answer_within_login(prompt, line, out) {
            Ok(action) => action,
            Err(sentence) => self.say_and_offer(sentence, out),
        }
    }

    /// Takes the answer to a prompt of a command that needs a login; a sentence is the end of that command.
    fn answer_within_login(
        &mut self,
        prompt: Prompt,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Action, &'static str> {
        let access = self.access.clone().expect("a prompt after the login");
        let chosen = self.chosen.as_deref();
        Ok(match prompt {
            Prompt::Username | Prompt::Password(_) => unreachable!("a prompt of the login"),
            Prompt::Directory => {
                let place = place::directory(&access, line)?;
                let form = ListingFormat::Names;
                self.ask(
                    Question::Enter(place.clone()),
                    Request::List {
                        target: ListingTarget::Directory(place),
                        format: form,
                    },
                )
            }
            Prompt::Download => {
                let place = place::resolve(&access, chosen, line, ErrorCode::NoSuchFile)?;
                self.ask(Question::Download, Request::OpenRead { path: place })
            }
            Prompt::Resume => {
                let place = place::resolve(&access, chosen, line, ErrorCode::NoSuchFile)?;
                self.ask(Question::Resume, Request::OpenRead { path: place })
            }
            Prompt::Offset(length) => {
                let from = command::number(line).filter(|&from| from <= length);
                let from = from.ok_or(text::BAD_NUMBER)?;
                self.send_file(from, length - from, out)
            }
            Prompt::Upload => {
                let place = place::resolve(&access, chosen, line, ErrorCode::NoSuchDirectory)?;
                self.ask(
                    Question::Judge(place.clone()),
                    Request::CheckUpload { path: place },
                )
            }
            Prompt::Length(place) => {
                let length = command::number(line).ok_or(text::BAD_NUMBER)?;
                let name = place::last_part(&place);
                self.ask(Question::Create { name, length }, create(place, length))
            }
            Prompt::NewDirectory => {
                let place = place::resolve(&access, chosen, line, ErrorCode::NoSuchDirectory)?;
                let name = place::last_part(&place);
                self.ask(
                    Question::MakeDirectory(name),
                    Request::MakeDirectory { path: place },
                )
            }
            Prompt::Checksum => {
                let place = place::resolve(&access, chosen, line, ErrorCode::NoSuchFile)?;
                let name = place::last_part(&place);
                let request = Request::Checksum {
                    path: place,
                    algorithm: Algorithm::Sha256,
                    start: 0,
                    end: None,
                };
                self.ask(Question::Checksum(name), request)
            }
        })
    }

    /// Takes the house's answer.
    fn house_answer(&mut self, question: Question, answer: Response, out: &mut Vec<u8>) -> Action {
        match (question, answer) {
            (Question::Account(user), Response::UserLookedUp(true)) => {
                self.prompt(Prompt::Password(user), out)
            }
            (Question::Account(_), Response::UserLookedUp(false))
            | (Question::Verify, Response::Authenticated(None)) => self.login_failed(out),
            (Question::Verify, Response::Authenticated(Some(access))) => {
                self.access = Some(access);
                self.say_and_offer(text::LOGIN_SUCCESSFUL, out)
            }
            (Question::Account(_) | Question::Verify, Response::Refused(refusal)) => {
                let ending = match refusal {
                    ErrorCode::TooManySessions => CloseReason::TooManySessions,
                    _ => CloseReason::LoginBlocked,
                };
                self.close(text::refusal(refusal), ending, out)
            }
            (Question::Enter(place), Response::Listing { length, entries }) => {
                self.chosen = Some(Box::new(place));
                if entries == 0 {
                    return self.say_and_offer(text::NO_FILES, out);
                }
                out.extend_from_slice(text::FILES.as_bytes());
                self.send(Transfer::Names, 0, length)
            }
            (Question::Details, Response::Listing { length, entries }) => {
                say(out, format_args!("{}{entries}", text::ENTRIES));
                self.send(Transfer::Download, 0, length)
            }
            (Question::Download, Response::Opened { length }) => self.send_file(0, length, out),
            (Question::Resume, Response::Opened { length }) => {
                self.prompt(Prompt::Offset(length), out)
            }
            (Question::Judge(place), Response::Allowed) => self.prompt(Prompt::Length(place), out),
            (Question::Create { name, length }, Response::Created) => {
                say(out, format_args!("{}{length}{}", text::READY, text::BYTES));
                self.receive(name, length)
            }
            (Question::Put { place, length }, Response::Created) => {
                self.receive(place::last_part(&place), length)
            }
            // More than can be taken is announced: it cannot be thrown away either, that might go on for ever.
            (
                Question::Put { .. },
                Response::Refused(
                    refusal @ (ErrorCode::NoSpace | ErrorCode::OverQuota | ErrorCode::TooLarge),
                ),
            )
            | (Question::PutRoom { .. }, Response::Refused(refusal)) => {
                self.close(text::refusal(refusal), CloseReason::PutRefused, out)
            }
            (Question::Put { place, length }, Response::Refused(refusal)) => {
                let reason = text::refusal(refusal);
                let grant = Some(place.grant);
                self.ask(
                    Question::PutRoom { length, reason },
                    Request::CheckSpace { grant, length },
                )
            }
            (Question::PutRoom { length, reason }, Response::Allowed) => {
                self.state = State::Moving(Transfer::Discarded(reason));
                Action::Discard { length }
            }
            (Question::Quota, Response::Quota(quotas)) => {
                if quotas.is_empty() {
                    return self.say_and_offer(text::NO_QUOTA, out);
                }
                say(out, format_args!("{}{}", text::QUOTA, quotas.len()));
                quotas
                    .iter()
                    .for_each(|quota| text::append_quota(out, quota));
                self.offer(out)
            }
            (Question::MakeDirectory(name), Response::DirectoryCreated) => {
                self.say_and_offer(format_args!("{}{name}", text::DIRECTORY_MADE), out)
            }
            (Question::Checksum(name), Response::Checksum { digest, .. }) => {
                out.extend_from_slice(text::SHA_256.as_bytes());
                text::append_hex(out, &digest);
                self.say_and_offer(format_args!(" {name}"), out)
            }
            (
                Question::Enter(_)
                | Question::Details
                | Question::Download
                | Question::Resume
                | Question::Judge(_)
                | Question::Create { .. }
                | Question::MakeDirectory(_)
                | Question::Checksum(_),
                Response::Refused(refusal),
            ) => self.say_and_offer(text::refusal(refusal), out),
            (question, answer) => unreachable!("{answer:?} does not answer {question:?}"),
        }
    }

    fn login_failed(&mut self, out: &mut Vec<u8>) -> Action {
        self.failures += 1;
        if self.failures < LOGIN_FAILURES_MAX {
            return self.say_and_offer(text::LOGIN_FAILED, out);
        }
        say(out, text::LOGIN_FAILED);
        self.close(text::TOO_MANY_FAILURES, CloseReason::LoginFailures, out)
    }

    /// Takes the end of a transfer.
    fn moved(
        &mut self,
        transfer: Transfer,
        result: Result<(), ErrorCode>,
        out: &mut Vec<u8>,
    ) -> Action {
        match (transfer, result) {
            (Transfer::Names, Ok(())) => self.say_and_offer("", out),
            (Transfer::Download, Ok(())) => self.offer(out),
            (Transfer::StagedUpload { name, length }, Ok(())) => {
                let (complete, bytes) = (text::UPLOAD_COMPLETE, text::BYTES);
                self.say_and_offer(format_args!("{complete}{name}, {length}{bytes}"), out)
            }
            (Transfer::StagedUpload { .. }, Err(refusal)) => {
                self.upload_failed(text::refusal(refusal), out)
            }
            (Transfer::Discarded(reason), Ok(())) => self.upload_failed(reason, out),
            // What fails half-way on its way out can only close the connection.
            (transfer, Err(refusal)) => unreachable!("{refusal:?} of {transfer:?}"),
        }
    }

    fn upload_failed(&mut self, reason: &str, out: &mut Vec<u8>) -> Action {
        self.say_and_offer(format_args!("{}{reason}", text::UPLOAD_FAILED), out)
    }

    fn say_and_offer(&mut self, sentence: impl std::fmt::Display, out: &mut Vec<u8>) -> Action {
        say(out, sentence);
        self.offer(out)
    }

    /// Shows the menu, or before a login the first choice.
    fn offer(&mut self, out: &mut Vec<u8>) -> Action {
        let choice = match &self.access {
            None => text::FIRST_CHOICE,
            Some(access) if may_add_somewhere(access) => text::MENU_WITH_UPLOAD,
            Some(_) => text::MENU,
        };
        say(out, choice);
        self.state = State::Choice;
        Action::ReadLine
    }

    fn prompt(&mut self, prompt: Prompt, out: &mut Vec<u8>) -> Action {
        say(
            out,
            match prompt {
                Prompt::Username => text::ENTER_USERNAME,
                Prompt::Password(_) => text::ENTER_PASSWORD,
                Prompt::Directory => text::ENTER_DIRECTORY,
                Prompt::Download | Prompt::Resume => text::CHOOSE_FILE,
                Prompt::Offset(_) => text::ENTER_OFFSET,
                Prompt::Upload => text::ENTER_UPLOAD,
                Prompt::Length(_) => text::ENTER_LENGTH,
                Prompt::NewDirectory => text::ENTER_NEW_DIRECTORY,
                Prompt::Checksum => text::CHOOSE_CHECKSUM,
            },
        );
        self.state = State::Prompted(prompt);
        Action::ReadLine
    }

    fn ask(&mut self, question: Question, request: Request) -> Action {
        self.state = State::Asked(question);
        Action::Request(request)
    }

    fn send_file(&mut self, from: u64, length: u64, out: &mut Vec<u8>) -> Action {
        say(out, format_args!("{}{length}", text::LENGTH));
        self.send(Transfer::Download, from, length)
    }

    fn send(&mut self, transfer: Transfer, from: u64, length: u64) -> Action {
        self.state = State::Moving(transfer);
        Action::Send {
            offset: from,
            length,
        }
    }

    fn receive(&mut self, name: String, length: u64) -> Action {
        self.state = State::Moving(Transfer::StagedUpload { name, length });
        Action::Receive { length }
    }

    fn close(&mut self, goodbye: &str, ending: CloseReason, out: &mut Vec<u8>) -> Action {
        say(out, goodbye);
        self.state = State::Closed;
        Action::Close(ending)
    }
}

impl Default for MenuSession {
    fn default() -> MenuSession {
        MenuSession::new()
    }
}

fn create(place: GrantedPath, length: u64) -> Request {
    Request::Create {
        path: place,
        length: Some(length),
        base: UploadBase::Empty,
    }
}

fn may_add_somewhere(access: &Access) -> bool {
    access.grants.iter().any(|grant| grant.rights.may_add())
}
