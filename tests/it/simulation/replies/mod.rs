//! All replies that the protocol allows in a given state of the model.
//!
//! They are written from the documentation of the protocol, and share only the texts of the
//! messages with the server.

mod reading;
mod writing;

use std::sync::Arc;

use tidegate::domain::error::ErrorCode;
use tidegate::limits::LOGIN_FAILURES_MAX;
use tidegate::protocol::menu::command::MenuCommand;
use tidegate::protocol::menu::text;

use super::model::Model;
use super::script::{Item, SentItem};
use super::users::{Grant, Revoked, grant_of, may_add_somewhere};

/// The state of a session as far as its client knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionModel {
    pub(super) user: Option<usize>,
    chosen: Option<Chosen>,
    failures: u8,
}

/// The chosen directory.
#[derive(Clone, Debug)]
struct Chosen {
    path: String,
    /// A reload may have revoked it, which takes effect at the next command.
    may_be_lost: bool,
}

/// A possible reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) parts: Vec<Part>,
    pub(super) effect: Effect,
    /// Whether the connection may close before its end.
    pub(super) may_be_cut: bool,
    /// Whether it requires a fault of the kernel.
    pub(super) is_fault: bool,
}

/// A part of a reply.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// This line.
    Line(String),
    /// One of these lines.
    OneOf(Vec<&'static str>),
    /// A line that starts with this text.
    Begins(&'static str),
    /// The line with the names in this directory.
    Names(String),
    /// The lines with the details of this directory.
    Details(String),
    /// This content from this byte on.
    Body(Arc<Vec<u8>>, usize),
}

/// The effect of an item, known from its reply.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Nothing,
    LoggedIn(usize),
    LoginFailed,
    Chosen(String),
    /// This item must be sent next.
    Continue(Item),
    Completed(String, usize),
    Made(String),
    /// The server closes the connection.
    Closed,
}

/// Returns all possible replies to an item.
pub(super) fn replies(sent: &SentItem, model: &Model, session: &SessionModel) -> Vec<Reply> {
    let mut all = Vec::new();
    let rights: Vec<_> = match session.user {
        Some(user) => model.users[user].rights(sent.command).map(Some).collect(),
        None => vec![None],
    };
    for grants in rights {
        for chosen in session.chosen(grants.unwrap_or_default()) {
            let mut replies = Replies {
                model,
                session,
                sent: sent.step,
                grants,
                chosen,
                before: Vec::new(),
                are_faults: false,
                all,
            };
            replies.to(&sent.item);
            all = replies.all;
        }
    }
    all
}

impl SessionModel {
    /// The number of logins that may still fail, including the last one.
    pub(super) fn logins_left(&self) -> usize {
        usize::from(LOGIN_FAILURES_MAX - self.failures)
    }

    /// Applies the effect of an item. Returns the item that must be sent next, if any.
    pub(super) fn apply(
        &mut self,
        sent: &SentItem,
        effect: Effect,
        model: &mut Model,
    ) -> Option<Item> {
        self.update_chosen(sent, model);
        match effect {
            Effect::Nothing | Effect::Closed => {}
            Effect::LoggedIn(user) => self.user = Some(user),
            Effect::LoginFailed => self.failures += 1,
            Effect::Chosen(path) => {
                let may_be_lost = false;
                self.chosen = Some(Chosen { path, may_be_lost });
            }
            Effect::Completed(path, version) => model.completed(&path, version),
            Effect::Made(path) => model.made(&path),
            Effect::Continue(item) => return Some(item),
        }
        None
    }

    /// Updates the chosen directory, which is lost if the rights at the time of the command do not
    /// include it.
    fn update_chosen(&mut self, sent: &SentItem, model: &Model) {
        let (Some(user), Some(chosen)) = (self.user, &mut self.chosen) else {
            return;
        };
        let grants = |grants: &[Grant]| grant_of(grants, &chosen.path).is_some();
        let granted: Vec<bool> = model.users[user].rights(sent.command).map(grants).collect();
        if !granted.contains(&true) {
            self.chosen = None;
        } else if granted.contains(&false) {
            chosen.may_be_lost = true;
        }
    }

    /// Returns the possible chosen directories for a command executed with these grants.
    fn chosen(&self, grants: &[Grant]) -> Vec<Option<&str>> {
        let granted = self.chosen.as_ref();
        let granted = granted.filter(|chosen| grant_of(grants, &chosen.path).is_some());
        match granted {
            Some(chosen) if chosen.may_be_lost => vec![Some(&chosen.path), None],
            Some(chosen) => vec![Some(&chosen.path)],
            None => vec![None],
        }
    }
}

/// Collects the possible replies to an item.
struct Replies<'a> {
    model: &'a Model,
    session: &'a SessionModel,
    sent: usize,
    /// The user's grants, or `None` before a login.
    grants: Option<&'a [Grant]>,
    /// The chosen directory.
    chosen: Option<&'a str>,
    /// The parts at the start of each reply added from now on.
    before: Vec<Part>,
    /// Whether the replies added from now on require a fault.
    are_faults: bool,
    all: Vec<Reply>,
}

impl<'a> Replies<'a> {
    fn to(&mut self, item: &Item) {
        let model = self.model;
        match (item, self.grants) {
            (Item::Greet, _) => {
                self.reply([line(text::FIRST_CHOICE)], Effect::Nothing);
                if model.limits_sessions {
                    self.reply([line(text::SERVER_FULL)], Effect::Closed);
                }
            }
            (Item::TooLong, _) => self.reply([line(text::LINE_TOO_LONG)], Effect::Closed),
            (Item::Quit { .. }, None) => self.reply([line(text::GOODBYE)], Effect::Closed),
            (Item::Quit { .. }, Some(_)) => {
                self.reply([line(text::GOODBYE_LOGGED_OUT)], Effect::Closed);
            }
            (Item::Noise(line), _) if line.trim_ascii().is_empty() => {
                self.reply([self.menu()], Effect::Nothing);
            }
            (Item::Noise(_), _) => self.message(text::UNKNOWN_COMMAND),
            (Item::Help, _) => self.help(),
            (Item::Login { user, password }, None) => self.login(user, password.as_deref()),
            (Item::Login { .. }, Some(_)) => self.unavailable(item, text::ALREADY_LOGGED_IN),
            (Item::Put { .. }, None) => self.reply([line(text::LOG_IN_FIRST)], Effect::Closed),
            (_, None) => self.unavailable(item, text::LOG_IN_FIRST),
            (Item::Directories, Some(grants)) => {
                let names: Vec<_> = grants.iter().map(|grant| grant.directory).collect();
                match names.is_empty() {
                    true => self.message(text::NO_DIRECTORIES),
                    false => {
                        let names = names.join(text::SEPARATOR);
                        self.message(&format!("{}{names}", text::DIRECTORIES));
                    }
                }
            }
            (Item::Cancel, Some(_)) => {
                self.reply([line(text::ENTER_DIRECTORY), self.menu()], Effect::Nothing);
            }
            (Item::Enter { path, short }, Some(_)) => {
                self.prompt(text::ENTER_DIRECTORY, *short);
                self.enter(path);
            }
            (Item::Details, Some(_)) => self.details(),
            (Item::Download { path, short }, Some(_)) => {
                self.prompt(text::CHOOSE_FILE, *short);
                self.download(path, None);
            }
            (Item::Resume { path, from, short }, Some(_)) => {
                self.prompt(text::CHOOSE_FILE, *short);
                self.download(path, Some(*from));
            }
            (Item::Checksum { path, short }, Some(_)) => {
                self.prompt(text::CHOOSE_CHECKSUM, *short);
                self.checksum(path);
            }
            (
                Item::Upload {
                    path,
                    version,
                    short,
                },
                Some(_),
            ) => {
                self.prompt(text::ENTER_UPLOAD, *short);
                self.upload(path, *version);
            }
            (Item::UploadLength { path, version }, Some(_)) => self.upload_length(path, *version),
            (Item::UploadBytes { path, version }, Some(_)) => self.upload_bytes(path, *version),
            (Item::Put { path, version }, Some(_)) => self.put(path, *version),
            (Item::MakeDirectory { path, short }, Some(_)) => {
                self.prompt(text::ENTER_NEW_DIRECTORY, *short);
                self.make_directory(path);
            }
        }
    }

    /// Adds the replies to a command that is not available, so that the server takes its further
    /// lines
    /// for unknown commands.
    fn unavailable(&mut self, item: &Item, message: &str) {
        let mut parts = vec![line(message), self.menu()];
        let bytes = item.bytes(self.model);
        for further in bytes
            .strip_suffix(b"\n")
            .unwrap_or(&bytes)
            .split(|byte| *byte == b'\n')
            .skip(1)
        {
            parts.extend((!further.is_empty()).then(|| line(text::UNKNOWN_COMMAND)));
            parts.push(self.next_menu());
        }
        self.reply(parts, Effect::Nothing);
    }

    fn help(&mut self) {
        let may_add = self.grants.is_some_and(may_add_somewhere);
        let mut parts = Vec::new();
        for command in MenuCommand::ALL {
            let is_listed = match command {
                MenuCommand::Help | MenuCommand::Quit => true,
                MenuCommand::Login => self.grants.is_none(),
                MenuCommand::UploadFile | MenuCommand::PutFile | MenuCommand::MakeDirectory => {
                    may_add
                }
                _ => self.grants.is_some(),
            };
            if is_listed {
                parts.push(Part::Begins(command.words()));
            }
        }
        parts.push(self.menu());
        self.reply(parts, Effect::Nothing);
    }

    fn login(&mut self, user: &str, password: Option<&str>) {
        let users = &self.model.users;
        let number = users.iter().position(|known| known.name == user);
        let revoked = self.model.revoked;
        let revoked = revoked.filter(|revoked| Some(revoked.user) == number);
        match revoked {
            Some(Revoked { step, .. }) => {
                // The server may have accepted the username and password, or only the username,
                // before
                // the removal.
                if self.sent <= step {
                    self.login_of(number, true, password);
                    self.login_of(None, true, password);
                }
                self.login_of(None, self.model.hides_usernames, password);
            }
            None => self.login_of(
                number,
                number.is_some() || self.model.hides_usernames,
                password,
            ),
        }
    }

    /// Adds the reply to a login as a user, or as an unknown user. `prompted` is whether the server
    /// asks
    /// for a password.
    fn login_of(&mut self, number: Option<usize>, prompted: bool, password: Option<&str>) {
        let mut parts = vec![line(text::ENTER_USERNAME)];
        parts.extend(prompted.then(|| line(text::ENTER_PASSWORD)));
        let users = &self.model.users;
        let effect = match number.filter(|&number| Some(&*users[number].password) == password) {
            Some(number) => {
                let menus = users[number].rights(self.sent).map(menu_of).collect();
                parts.extend([line(text::LOGIN_SUCCESSFUL), Part::OneOf(menus)]);
                Effect::LoggedIn(number)
            }
            None if self.session.failures + 1 == LOGIN_FAILURES_MAX => {
                parts.extend([line(text::LOGIN_FAILED), line(text::TOO_MANY_FAILURES)]);
                Effect::Closed
            }
            None => {
                parts.extend([line(text::LOGIN_FAILED), self.menu()]);
                if !prompted && password.is_some() {
                    parts.extend([line(text::UNKNOWN_COMMAND), self.menu()]);
                }
                Effect::LoginFailed
            }
        };
        self.reply(parts, effect);
    }

    /// Resolves a name to a grant and a path, or returns the message of the refusal.
    fn resolve(&self, name: &str, unknown: ErrorCode) -> Result<(&'a Grant, String), &'static str> {
        let path = match (self.chosen, name.contains('/')) {
            (_, true) => name.to_owned(),
            (Some(chosen), false) => format!("{chosen}/{name}"),
            (None, false) => return Err(text::CHOOSE_DIRECTORY_FIRST),
        };
        Ok((self.grant(&path).ok_or(text::refusal(unknown))?, path))
    }

    /// Returns the grant of the directory at the start of a path.
    fn grant(&self, path: &str) -> Option<&'a Grant> {
        grant_of(self.grants.expect("the user has logged in"), path)
    }

    fn menu(&self) -> Part {
        line(self.grants.map_or(text::FIRST_CHOICE, menu_of))
    }

    /// The menu after a further line of an item, before which a reload may have changed the rights.
    fn next_menu(&self) -> Part {
        let Some(user) = self.session.user else {
            return self.menu();
        };
        let rights = self.model.users[user].rights(self.sent);
        Part::OneOf(rights.map(menu_of).collect())
    }

    fn prompt(&mut self, prompt: &str, short: bool) {
        if !short {
            self.before.push(line(prompt));
        }
    }

    fn reply(&mut self, parts: impl IntoIterator<Item = Part>, effect: Effect) {
        let parts = self.before.iter().cloned().chain(parts).collect();
        self.all.push(Reply {
            parts,
            effect,
            may_be_cut: false,
            is_fault: self.are_faults,
        });
    }

    fn message(&mut self, message: &str) {
        self.reply([line(message), self.menu()], Effect::Nothing);
    }

    fn refusal(&mut self, refusal: ErrorCode) {
        self.message(text::refusal(refusal));
    }

    /// Adds refusals that a fault can cause. The replies added from now on require one.
    fn faults(&mut self, refusals: &[ErrorCode]) {
        self.are_faults = true;
        for message in self.fault_messages(refusals) {
            self.message(message);
        }
    }

    /// Returns the messages of refusals that a fault can cause, or nothing if faults are disabled.
    fn fault_messages(&self, refusals: &[ErrorCode]) -> std::vec::IntoIter<&'static str> {
        let refusals = refusals.iter().filter(|_| self.model.faulty);
        let messages = refusals.map(|refusal| text::refusal(*refusal));
        messages.collect::<Vec<_>>().into_iter()
    }
}

fn line(message: &str) -> Part {
    Part::Line(message.to_owned())
}

fn menu_of(grants: &[Grant]) -> &'static str {
    match may_add_somewhere(grants) {
        true => text::MENU_WITH_UPLOAD,
        false => text::MENU,
    }
}
