//! Every reply that the protocol allows to what a client says in a world.
//!
//! Those to who reads and to who writes stand in files of their own.
//!
//! Written from the protocol alone: it shares the sentences with the server, and none of its states.

mod reading;
mod writing;

use std::sync::Arc;

use tidegate::domain::error::ErrorCode;
use tidegate::limits::LOGIN_FAILURES_MAX;
use tidegate::protocol::menu::command::MenuCommand;
use tidegate::protocol::menu::text;

use super::model::{Grant, Revoked, World, grant_of, may_add_somewhere};
use super::script::{Item, Said};

/// What a client knows of its session.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) user: Option<usize>,
    chosen: Option<Chosen>,
    failures: u8,
}

/// The chosen directory.
#[derive(Clone, Debug)]
struct Chosen {
    path: String,
    /// It may have been taken away by a reload, of which only a command takes notice.
    may_be_lost: bool,
}

/// One reply that may come.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) parts: Vec<Part>,
    pub(super) then: Then,
    /// The connection may close before its end.
    pub(super) may_be_cut: bool,
    /// It takes a fault of the kernel to come to it.
    pub(super) is_fault: bool,
}

/// A part of a reply.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// This line.
    Line(String),
    /// One of these lines.
    OneOf(Vec<&'static str>),
    /// A line that begins so.
    Begins(&'static str),
    /// The line with this directory's names.
    Names(String),
    /// The lines with this directory's details.
    Details(String),
    /// These bytes from this one on.
    Body(Arc<Vec<u8>>, usize),
}

/// What a reply means.
#[derive(Clone, Debug)]
pub(super) enum Then {
    Nothing,
    LoggedIn(usize),
    LoginFailed,
    Chosen(String),
    /// This is to be said next.
    Say(Item),
    Completed(String, usize),
    Made(String),
    /// The server closes.
    Closed,
}

/// Every reply that may come to what was said.
pub(super) fn replies(said: &Said, world: &World, memory: &Memory) -> Vec<Reply> {
    let mut all = Vec::new();
    let rights: Vec<_> = match memory.user {
        Some(user) => world.users[user].rights(said.command).map(Some).collect(),
        None => vec![None],
    };
    for grants in rights {
        for chosen in memory.chosen(grants.unwrap_or_default()) {
            let mut replies = Replies {
                world,
                memory,
                sent: said.step,
                grants,
                chosen,
                before: Vec::new(),
                are_faults: false,
                all,
            };
            replies.to(&said.item);
            all = replies.all;
        }
    }
    all
}

impl Memory {
    /// LoginQueue that may fail up to the last one.
    pub(super) fn logins_left(&self) -> usize {
        usize::from(LOGIN_FAILURES_MAX - self.failures)
    }

    /// Takes up what a reply to what was said means; what is to be said next.
    pub(super) fn take(&mut self, said: &Said, then: Then, world: &mut World) -> Option<Item> {
        self.take_rights(said, world);
        match then {
            Then::Nothing | Then::Closed => {}
            Then::LoggedIn(user) => self.user = Some(user),
            Then::LoginFailed => self.failures += 1,
            Then::Chosen(path) => {
                let may_be_lost = false;
                self.chosen = Some(Chosen { path, may_be_lost });
            }
            Then::Completed(path, version) => world.completed(&path, version),
            Then::Made(path) => world.made(&path),
            Then::Say(item) => return Some(item),
        }
        None
    }

    /// A command was acted on with some of the rights that he had meanwhile: the chosen directory is his only as long
    /// as they grant it.
    fn take_rights(&mut self, said: &Said, world: &World) {
        let (Some(user), Some(chosen)) = (self.user, &mut self.chosen) else {
            return;
        };
        let grants = |grants: &[Grant]| grant_of(grants, &chosen.path).is_some();
        let granted: Vec<bool> = world.users[user].rights(said.command).map(grants).collect();
        if !granted.contains(&true) {
            self.chosen = None;
        } else if granted.contains(&false) {
            chosen.may_be_lost = true;
        }
    }

    /// What may be chosen in the eyes of a command that is acted on with these grants.
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

/// The replies to one item, gathered.
struct Replies<'a> {
    world: &'a World,
    memory: &'a Memory,
    sent: usize,
    /// What he may do; `None` before a login.
    grants: Option<&'a [Grant]>,
    /// The chosen directory.
    chosen: Option<&'a str>,
    /// What comes before each of those that follow.
    before: Vec<Part>,
    /// Whether those that follow take a fault.
    are_faults: bool,
    all: Vec<Reply>,
}

impl<'a> Replies<'a> {
    fn to(&mut self, item: &Item) {
        let world = self.world;
        match (item, self.grants) {
            (Item::Greet, _) => {
                self.reply([line(text::FIRST_CHOICE)], Then::Nothing);
                if world.crowded {
                    self.reply([line(text::SERVER_FULL)], Then::Closed);
                }
            }
            (Item::TooLong, _) => self.reply([line(text::LINE_TOO_LONG)], Then::Closed),
            (Item::Quit { .. }, None) => self.reply([line(text::GOODBYE)], Then::Closed),
            (Item::Quit { .. }, Some(_)) => {
                self.reply([line(text::GOODBYE_LOGGED_OUT)], Then::Closed);
            }
            (Item::Noise(said), _) if said.trim_ascii().is_empty() => {
                self.reply([self.menu()], Then::Nothing);
            }
            (Item::Noise(_), _) => self.sentence(text::UNKNOWN_COMMAND),
            (Item::Help, _) => self.help(),
            (Item::Login { user, password }, None) => self.login(user, password.as_deref()),
            (Item::Login { .. }, Some(_)) => self.out_of_place(item, text::ALREADY_LOGGED_IN),
            (Item::Put { .. }, None) => self.reply([line(text::LOG_IN_FIRST)], Then::Closed),
            (_, None) => self.out_of_place(item, text::LOG_IN_FIRST),
            (Item::Directories, Some(grants)) => {
                let names: Vec<_> = grants.iter().map(|grant| grant.directory).collect();
                match names.is_empty() {
                    true => self.sentence(text::NO_DIRECTORIES),
                    false => {
                        let names = names.join(text::SEPARATOR);
                        self.sentence(&format!("{}{names}", text::DIRECTORIES));
                    }
                }
            }
            (Item::Cancel, Some(_)) => {
                self.reply([line(text::ENTER_DIRECTORY), self.menu()], Then::Nothing);
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

    /// A command that is not taken, so that the lines behind it are commands of their own, and unknown ones.
    fn out_of_place(&mut self, item: &Item, sentence: &str) {
        let mut parts = vec![line(sentence), self.menu()];
        let said = item.said(self.world);
        for behind in said
            .strip_suffix(b"\n")
            .unwrap_or(&said)
            .split(|byte| *byte == b'\n')
            .skip(1)
        {
            parts.extend((!behind.is_empty()).then(|| line(text::UNKNOWN_COMMAND)));
            parts.push(self.next_menu());
        }
        self.reply(parts, Then::Nothing);
    }

    fn help(&mut self) {
        let adds = self.grants.is_some_and(may_add_somewhere);
        let mut parts = Vec::new();
        for command in MenuCommand::ALL {
            let given = match command {
                MenuCommand::Help | MenuCommand::Quit => true,
                MenuCommand::Login => self.grants.is_none(),
                MenuCommand::UploadFile | MenuCommand::PutFile | MenuCommand::MakeDirectory => adds,
                _ => self.grants.is_some(),
            };
            if given {
                parts.push(Part::Begins(command.words()));
            }
        }
        parts.push(self.menu());
        self.reply(parts, Then::Nothing);
    }

    fn login(&mut self, user: &str, password: Option<&str>) {
        let users = &self.world.users;
        let number = users.iter().position(|known| known.name == user);
        let revoked = self.world.revoked;
        let revoked = revoked.filter(|revoked| Some(revoked.user) == number);
        match revoked {
            Some(Revoked { step, .. }) => {
                // The name and the password may have been taken for right before that, or the name alone.
                if self.sent <= step {
                    self.answer_login(number, true, password);
                    self.answer_login(None, true, password);
                }
                self.answer_login(None, self.world.hidden, password);
            }
            None => self.answer_login(number, number.is_some() || self.world.hidden, password),
        }
    }

    /// The reply to the login of a user, if there is one; `asked`: for his password.
    fn answer_login(&mut self, number: Option<usize>, asked: bool, password: Option<&str>) {
        let mut parts = vec![line(text::ENTER_USERNAME)];
        parts.extend(asked.then(|| line(text::ENTER_PASSWORD)));
        let users = &self.world.users;
        let then = match number.filter(|&number| Some(&*users[number].password) == password) {
            Some(number) => {
                let menus = users[number].rights(self.sent).map(menu_of).collect();
                parts.extend([line(text::LOGIN_SUCCESSFUL), Part::OneOf(menus)]);
                Then::LoggedIn(number)
            }
            None if self.memory.failures + 1 == LOGIN_FAILURES_MAX => {
                parts.extend([line(text::LOGIN_FAILED), line(text::TOO_MANY_FAILURES)]);
                Then::Closed
            }
            None => {
                parts.extend([line(text::LOGIN_FAILED), self.menu()]);
                if !asked && password.is_some() {
                    parts.extend([line(text::UNKNOWN_COMMAND), self.menu()]);
                }
                Then::LoginFailed
            }
        };
        self.reply(parts, then);
    }

    /// The grant and the path that a name stands for.
    fn place(&self, name: &str, unknown: ErrorCode) -> Result<(&'a Grant, String), &'static str> {
        let path = match (self.chosen, name.contains('/')) {
            (_, true) => name.to_owned(),
            (Some(chosen), false) => format!("{chosen}/{name}"),
            (None, false) => return Err(text::CHOOSE_DIRECTORY_FIRST),
        };
        Ok((self.grant(&path).ok_or(text::refusal(unknown))?, path))
    }

    /// The grant of the directory that a path begins with.
    fn grant(&self, path: &str) -> Option<&'a Grant> {
        grant_of(self.grants.expect("he is logged in"), path)
    }

    // Helpers.

    fn menu(&self) -> Part {
        line(self.grants.map_or(text::FIRST_CHOICE, menu_of))
    }

    /// The menu behind a further line of the same item, which is a command of its own: a reload may have come between.
    fn next_menu(&self) -> Part {
        let Some(user) = self.memory.user else {
            return self.menu();
        };
        let rights = self.world.users[user].rights(self.sent);
        Part::OneOf(rights.map(menu_of).collect())
    }

    fn prompt(&mut self, prompt: &str, short: bool) {
        if !short {
            self.before.push(line(prompt));
        }
    }

    fn reply(&mut self, parts: impl IntoIterator<Item = Part>, then: Then) {
        let parts = self.before.iter().cloned().chain(parts).collect();
        self.all.push(Reply {
            parts,
            then,
            may_be_cut: false,
            is_fault: self.are_faults,
        });
    }

    fn sentence(&mut self, sentence: &str) {
        self.reply([line(sentence), self.menu()], Then::Nothing);
    }

    fn refusal(&mut self, refusal: ErrorCode) {
        self.sentence(text::refusal(refusal));
    }

    /// Refusals that a fault may be the cause of; what is added from here on takes one.
    fn faults(&mut self, refusals: &[ErrorCode]) {
        self.are_faults = true;
        for sentence in self.faulty(refusals) {
            self.sentence(sentence);
        }
    }

    /// The sentences of refusals, where faults may be their cause.
    fn faulty(&self, refusals: &[ErrorCode]) -> std::vec::IntoIter<&'static str> {
        let refusals = refusals.iter().filter(|_| self.world.faulty);
        let sentences = refusals.map(|refusal| text::refusal(*refusal));
        sentences.collect::<Vec<_>>().into_iter()
    }
}

fn line(sentence: &str) -> Part {
    Part::Line(sentence.to_owned())
}

fn menu_of(grants: &[Grant]) -> &'static str {
    match may_add_somewhere(grants) {
        true => text::MENU_WITH_UPLOAD,
        false => text::MENU,
    }
}
