//! Every reply that the protocol allows to what a client says in a world.
//!
//! Written from the protocol alone: it shares the sentences with the server, and none of its states.

use std::sync::Arc;

use tidegate::limits::LOGIN_FAILURES_MAX;
use tidegate::protocol::Refusal;
use tidegate::protocol::menu_command::Command;
use tidegate::protocol::menu_text as text;

use super::script::Item;
use super::world::{Grant, User, World};

/// What a client knows of its session.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) user: Option<usize>,
    /// The chosen directory.
    chosen: Option<String>,
    failures: u8,
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

/// Every reply that may come to what was said in step `sent`.
pub(super) fn replies(item: &Item, world: &World, memory: &Memory, sent: usize) -> Vec<Reply> {
    let mut replies = Replies {
        world,
        memory,
        sent,
        before: Vec::new(),
        are_faults: false,
        all: Vec::new(),
    };
    replies.to(item);
    replies.all
}

impl Memory {
    /// Takes up what a reply means; what is to be said next.
    pub(super) fn take(&mut self, then: Then, world: &mut World) -> Option<Item> {
        match then {
            Then::Nothing | Then::Closed => {}
            Then::LoggedIn(user) => self.user = Some(user),
            Then::LoginFailed => self.failures += 1,
            Then::Chosen(path) => self.chosen = Some(path),
            Then::Completed(path, version) => world.completed(&path, version),
            Then::Made(path) => world.made(&path),
            Then::Say(item) => return Some(item),
        }
        None
    }

    fn user<'w>(&self, world: &'w World) -> Option<&'w User> {
        Some(&world.users[self.user?])
    }
}

/// The replies to one item, gathered.
struct Replies<'a> {
    world: &'a World,
    memory: &'a Memory,
    sent: usize,
    /// What comes before each of those that follow.
    before: Vec<Part>,
    /// Whether those that follow take a fault.
    are_faults: bool,
    all: Vec<Reply>,
}

impl Replies<'_> {
    fn to(&mut self, item: &Item) {
        let world = self.world;
        let logged_in = self.memory.user(world);
        match (item, logged_in) {
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
            (Item::Directories, Some(user)) => {
                let names: Vec<_> = user.grants.iter().map(|grant| grant.directory).collect();
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
            (Item::Enter { path, short }, Some(user)) => {
                self.prompt(text::ENTER_DIRECTORY, *short);
                self.enter(user, path);
            }
            (Item::Details, Some(_)) => self.details(),
            (Item::Download { path, short }, Some(user)) => {
                self.prompt(text::CHOOSE_FILE, *short);
                self.download(user, path, None);
            }
            (Item::Resume { path, from, short }, Some(user)) => {
                self.prompt(text::CHOOSE_FILE, *short);
                self.download(user, path, Some(*from));
            }
            (Item::Checksum { path, short }, Some(user)) => {
                self.prompt(text::CHOOSE_CHECKSUM, *short);
                self.checksum(user, path);
            }
            (
                Item::Upload {
                    path,
                    version,
                    short,
                },
                Some(user),
            ) => {
                self.prompt(text::ENTER_UPLOAD, *short);
                for refusal in self.judge(user, path, *version) {
                    match refusal {
                        Some(sentence) => self.sentence(sentence),
                        None => {
                            let (path, version) = (path.clone(), *version);
                            let next = Item::UploadLength { path, version };
                            self.reply([line(text::ENTER_LENGTH)], Then::Say(next));
                        }
                    }
                }
                self.faults(&WRITING);
            }
            (Item::UploadLength { path, version }, Some(user)) => {
                let length = world.content(path, *version).len();
                for refusal in self.create(user, path, *version) {
                    match refusal {
                        Some(sentence) => self.sentence(sentence),
                        None => {
                            let (path, version) = (path.clone(), *version);
                            let next = Item::UploadBytes { path, version };
                            let ready = format!("{}{length}{}", text::READY, text::BYTES);
                            self.reply([Part::Line(ready)], Then::Say(next));
                        }
                    }
                }
                self.faults(&WRITING);
            }
            (Item::UploadBytes { path, version }, Some(user)) => {
                self.received(user, path, *version);
                self.failed_by_faults();
            }
            (Item::Put { path, version }, Some(user)) => self.put(user, path, *version),
            (Item::MakeDirectory { path, short }, Some(user)) => {
                self.prompt(text::ENTER_NEW_DIRECTORY, *short);
                self.make_directory(user, path);
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
            parts.push(self.menu());
        }
        self.reply(parts, Then::Nothing);
    }

    fn help(&mut self) {
        let user = self.memory.user(self.world);
        let adds = user.is_some_and(|user| user.grants.iter().any(Grant::may_add));
        let mut parts = Vec::new();
        for command in Command::ALL {
            let given = match command {
                Command::Help | Command::Quit => true,
                Command::Login => user.is_none(),
                Command::UploadFile | Command::PutFile | Command::MakeDirectory => adds,
                _ => user.is_some(),
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
        let revoked = self.world.revoked.filter(|(user, _)| Some(*user) == number);
        match revoked {
            Some((_, step)) => {
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
                parts.extend([line(text::LOGIN_SUCCESSFUL), line(menu_of(&users[number]))]);
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

    fn enter(&mut self, user: &User, path: &str) {
        let path = path.strip_suffix('/').unwrap_or(path);
        let (directory, _) = path.split_once('/').unwrap_or((path, ""));
        let grant = user
            .grants
            .iter()
            .find(|grant| grant.directory == directory);
        let found = match grant {
            Some(_) => self.world.is_directory(path, self.sent),
            None => Some(false),
        };
        if found != Some(false) {
            let names = match grant {
                Some(grant) if grant.read => Part::Names(path.into()),
                _ => line(text::NO_FILES),
            };
            self.reply([names, self.menu()], Then::Chosen(path.into()));
        }
        if found != Some(true) {
            self.refusal(Refusal::NoSuchDirectory);
        }
        self.faults(&[Refusal::NoSuchDirectory, Refusal::DirectoryUnreadable]);
    }

    fn details(&mut self) {
        let Some(chosen) = self.memory.chosen.clone() else {
            return self.sentence(text::CHOOSE_DIRECTORY_FIRST);
        };
        let user = self.memory.user(self.world).expect("he has chosen");
        let (directory, _) = chosen.split_once('/').unwrap_or((&chosen, ""));
        let grant = user
            .grants
            .iter()
            .find(|grant| grant.directory == directory);
        let details = match grant.expect("he was let in").read {
            true => Part::Details(chosen),
            false => Part::Line(format!("{}0", text::ENTRIES)),
        };
        self.reply([details, self.menu()], Then::Nothing);
        self.faults(&[Refusal::NoSuchDirectory, Refusal::DirectoryUnreadable]);
    }

    /// A download of the whole file, or of what comes behind its first bytes.
    fn download(&mut self, user: &User, path: &str, from: Option<u64>) {
        // Where there is no file, the number that was meant for it is no command.
        let behind = match from {
            Some(_) => vec![line(text::UNKNOWN_COMMAND), self.menu()],
            None => Vec::new(),
        };
        let refused = |sentence: &str, menu: Part| {
            let mut parts = vec![line(sentence), menu];
            parts.extend(behind.clone());
            parts
        };
        match self.readable(user, path) {
            Err(sentence) => self.reply(refused(sentence, self.menu()), Then::Nothing),
            Ok((path, must)) => {
                for (_, version) in self.world.contents(&path, self.sent) {
                    let mut parts = Vec::new();
                    let length = version.content.len() as u64;
                    parts.extend(from.map(|_| line(text::ENTER_OFFSET)));
                    match length.checked_sub(from.unwrap_or(0)) {
                        None => parts.push(line(text::BAD_NUMBER)),
                        Some(left) => {
                            parts.push(Part::Line(format!("{}{left}", text::LENGTH)));
                            let first = (length - left) as usize;
                            parts.push(Part::Body(version.content.clone(), first));
                        }
                    }
                    parts.push(self.menu());
                    self.reply(parts, Then::Nothing);
                    self.all.last_mut().expect("just added").may_be_cut |= version.cut;
                }
                if !must {
                    let sentence = text::refusal(Refusal::NoSuchFile);
                    self.reply(refused(sentence, self.menu()), Then::Nothing);
                }
            }
        }
        self.are_faults = true;
        for refusal in self.faulty(&READING) {
            self.reply(refused(refusal, self.menu()), Then::Nothing);
        }
    }

    fn checksum(&mut self, user: &User, path: &str) {
        match self.readable(user, path) {
            Err(sentence) => self.sentence(sentence),
            Ok((path, must)) => {
                let (_, name) = path.rsplit_once('/').expect("below a granted directory");
                for (_, version) in self.world.contents(&path, self.sent) {
                    if version.cut {
                        self.reply([Part::Begins(text::SHA_256), self.menu()], Then::Nothing);
                    }
                    let sum = version.checksum();
                    self.sentence(&format!("{}{sum} {name}", text::SHA_256));
                }
                if !must {
                    self.refusal(Refusal::NoSuchFile);
                }
            }
        }
        self.faults(&READING);
    }

    /// The file that a path stands for, and whether it must be there; or what is said instead.
    fn readable(&self, user: &User, path: &str) -> Result<(String, bool), &'static str> {
        let (grant, path) = self.place(user, path, Refusal::NoSuchFile)?;
        match grant.read && self.world.is_file(&path) {
            true => {
                let must = self.world.is_taken(&path, self.sent, None) == Some(true);
                Ok((path, must))
            }
            false => Err(text::refusal(Refusal::NoSuchFile)),
        }
    }

    /// The grant and the path that a name stands for.
    fn place<'u>(
        &self,
        user: &'u User,
        name: &str,
        unknown: Refusal,
    ) -> Result<(&'u Grant, String), &'static str> {
        let path = match (&self.memory.chosen, name.contains('/')) {
            (_, true) => name.to_owned(),
            (Some(chosen), false) => format!("{chosen}/{name}"),
            (None, false) => return Err(text::CHOOSE_DIRECTORY_FIRST),
        };
        let (directory, _) = path.split_once('/').expect("it has a part below");
        let grant = user
            .grants
            .iter()
            .find(|grant| grant.directory == directory);
        Ok((grant.ok_or(text::refusal(unknown))?, path))
    }

    /// What may be said to a new name: nothing against it, or a sentence.
    fn judge(&self, user: &User, name: &str, version: usize) -> Vec<Option<&'static str>> {
        match self.may_be_made(user, name) {
            Err(sentence) => vec![Some(sentence)],
            Ok((grant, path)) => {
                let replaceable = grant.change && self.world.is_file(&path);
                let exists = Some(text::refusal(Refusal::FileExists));
                match self.world.is_taken(&path, self.sent, Some(version)) {
                    _ if replaceable => vec![None],
                    Some(true) => vec![exists],
                    Some(false) => vec![None],
                    None => vec![None, exists],
                }
            }
        }
    }

    /// What may be said to a new name and its length.
    fn create(&self, user: &User, name: &str, version: usize) -> Vec<Option<&'static str>> {
        let mut refusals = self.judge(user, name, version);
        let no_room = Some(text::refusal(Refusal::NoRoom));
        if self.is_over(name, version) {
            for free in refusals.iter_mut().filter(|refusal| refusal.is_none()) {
                *free = no_room;
            }
        }
        if self.world.tight {
            refusals.push(no_room);
        }
        refusals
    }

    fn is_over(&self, path: &str, version: usize) -> bool {
        let length = self.world.content(path, version).len() as u64;
        self.world.max_upload.is_some_and(|max| length > max)
    }

    fn may_be_made<'u>(
        &self,
        user: &'u User,
        name: &str,
    ) -> Result<(&'u Grant, String), &'static str> {
        let (grant, path) = self.place(user, name, Refusal::NoSuchDirectory)?;
        let (directory, name) = path.rsplit_once('/').expect("below a granted directory");
        if self.world.is_directory(directory, self.sent) != Some(true) {
            return Err(text::refusal(Refusal::NoSuchDirectory));
        }
        if !grant.may_add() {
            return Err(text::refusal(Refusal::MayNotUpload));
        }
        if !World::is_name(name) {
            return Err(text::refusal(Refusal::BadName));
        }
        Ok((grant, path))
    }

    /// All bytes of an upload have come.
    fn received(&mut self, user: &User, name: &str, version: usize) {
        let (grant, path) = self
            .place(user, name, Refusal::NoSuchDirectory)
            .expect("it was judged");
        let (_, last) = path.rsplit_once('/').expect("below a granted directory");
        let length = self.world.content(&path, version).len();
        let complete = format!("{}{last}, {length}{}", text::UPLOAD_COMPLETE, text::BYTES);
        let taken = self.world.is_taken(&path, self.sent, Some(version));
        if grant.change || taken != Some(true) {
            let parts = [Part::Line(complete), self.menu()];
            self.reply(parts, Then::Completed(path.clone(), version));
        }
        if !grant.change && taken != Some(false) {
            self.failed(text::refusal(Refusal::FileExists));
        }
        if self.world.tight {
            self.failed(text::refusal(Refusal::NoRoom));
        }
    }

    fn put(&mut self, user: &User, name: &str, version: usize) {
        let room = || [line(text::refusal(Refusal::NoRoom))];
        let over = self.is_over(name, version);
        for refusal in self.judge(user, name, version) {
            match refusal {
                _ if over => self.reply(room(), Then::Closed),
                Some(sentence) => self.failed(sentence),
                None => self.received(user, name, version),
            }
        }
        if self.world.tight {
            self.reply(room(), Then::Closed);
        }
        self.failed_by_faults();
        // Or whether the bytes can be thrown away is asked in vain.
        for sentence in self.faulty(&WRITING).chain(self.faulty(&READING)) {
            self.reply([line(sentence)], Then::Closed);
        }
    }

    fn make_directory(&mut self, user: &User, name: &str) {
        match self.may_be_made(user, name) {
            Err(sentence) => self.sentence(sentence),
            Ok((_, path)) => {
                let (_, last) = path.rsplit_once('/').expect("below a granted directory");
                let taken = self.world.is_taken(&path, self.sent, None);
                if taken != Some(true) {
                    let made = format!("{}{last}", text::DIRECTORY_MADE);
                    self.reply([Part::Line(made), self.menu()], Then::Made(path.clone()));
                }
                if taken != Some(false) {
                    self.refusal(match self.world.is_directory(&path, self.sent) {
                        Some(false) => Refusal::FileExists,
                        _ => Refusal::DirectoryExists,
                    });
                }
            }
        }
        self.faults(&WRITING);
    }

    // Helpers.

    fn menu(&self) -> Part {
        line(
            self.memory
                .user(self.world)
                .map_or(text::FIRST_CHOICE, menu_of),
        )
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

    fn refusal(&mut self, refusal: Refusal) {
        self.sentence(text::refusal(refusal));
    }

    fn failed(&mut self, sentence: &str) {
        self.sentence(&format!("{}{sentence}", text::UPLOAD_FAILED));
    }

    /// Refusals that a fault may be the cause of; what is added from here on takes one.
    fn faults(&mut self, refusals: &[Refusal]) {
        self.are_faults = true;
        for sentence in self.faulty(refusals) {
            self.sentence(sentence);
        }
    }

    fn failed_by_faults(&mut self) {
        self.are_faults = true;
        for sentence in self.faulty(&WRITING) {
            self.failed(sentence);
        }
    }

    /// The sentences of refusals, where faults may be their cause.
    fn faulty(&self, refusals: &[Refusal]) -> std::vec::IntoIter<&'static str> {
        let refusals = refusals.iter().filter(|_| self.world.faulty);
        let sentences = refusals.map(|refusal| text::refusal(*refusal));
        sentences.collect::<Vec<_>>().into_iter()
    }
}

/// What a fault may make of reading.
const READING: [Refusal; 3] = [
    Refusal::NoSuchFile,
    Refusal::FileUnreadable,
    Refusal::DirectoryUnreadable,
];

/// What a fault may make of writing.
const WRITING: [Refusal; 6] = [
    Refusal::FileUnwritable,
    Refusal::NoRoom,
    Refusal::NoSuchDirectory,
    Refusal::DirectoryUnreadable,
    Refusal::FileExists,
    Refusal::DirectoryExists,
];

fn line(sentence: &str) -> Part {
    Part::Line(sentence.to_owned())
}

fn menu_of(user: &User) -> &'static str {
    match user.grants.iter().any(Grant::may_add) {
        true => text::MENU_WITH_UPLOAD,
        false => text::MENU,
    }
}
