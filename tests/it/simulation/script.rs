//! What a model client says, and every reply that the protocol allows to it in a world.
//!
//! Written from the protocol alone: it shares the sentences with the server, and none of its states.

use std::sync::Arc;

use fastrand::Rng;
use tidegate::limits::LOGIN_FAILURES_MAX;
use tidegate::protocol::Refusal;
use tidegate::protocol::menu_command::Command;
use tidegate::protocol::menu_text as text;

use super::world::{Grant, User, World};

/// One thing that a client says, all of it at once.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// Nothing yet: the server begins.
    Greet,
    /// The password is said behind the name, unless the name will not do.
    Login {
        user: String,
        password: Option<String>,
    },
    Directories,
    /// `short`: the answer to the prompt stands on the command's line.
    Enter {
        path: String,
        short: bool,
    },
    Details,
    Download {
        path: String,
        short: bool,
    },
    Resume {
        path: String,
        from: u64,
        short: bool,
    },
    /// Step by step: each of these is said when the one before has been answered.
    Upload {
        path: String,
        version: usize,
        short: bool,
    },
    UploadLength {
        path: String,
        version: usize,
    },
    UploadBytes {
        path: String,
        version: usize,
    },
    Put {
        path: String,
        version: usize,
    },
    MakeDirectory {
        path: String,
        short: bool,
    },
    Checksum {
        path: String,
        short: bool,
    },
    Help,
    /// A line that asks for nothing: no command, or nothing at all.
    Noise(Vec<u8>),
    /// A prompt that is answered by nothing.
    Cancel,
    TooLong,
    /// And more behind it, that nobody will take.
    Quit {
        behind: usize,
    },
}

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

impl Item {
    /// The bytes.
    pub(super) fn said(&self, world: &World) -> Vec<u8> {
        let prompted = |command: Command, answer: &str, short: bool| {
            let between = if short { ' ' } else { '\n' };
            format!("{}{between}{answer}\n", command.words()).into_bytes()
        };
        match self {
            Item::Greet => Vec::new(),
            Item::Login { user, password } => {
                let password = password.as_ref().map(|password| format!("{password}\n"));
                format!("Login\r\n{user}\n{}", password.unwrap_or_default()).into_bytes()
            }
            Item::Directories => b"show  directories\n".to_vec(),
            Item::Enter { path, short } => prompted(Command::ShowDirectory, path, *short),
            Item::Details => b"SHOW DETAILS\r\n".to_vec(),
            Item::Download { path, short } => prompted(Command::DownloadFile, path, *short),
            Item::Resume { path, from, short } => {
                let mut said = prompted(Command::ResumeDownload, path, *short);
                said.extend(format!("{from}\n").bytes());
                said
            }
            Item::Upload { path, short, .. } => prompted(Command::UploadFile, path, *short),
            Item::UploadLength { path, version } => {
                format!("{}\n", world.content(path, *version).len()).into_bytes()
            }
            Item::UploadBytes { path, version } => world.content(path, *version).to_vec(),
            Item::Put { path, version } => {
                let content = world.content(path, *version);
                let mut said = format!("PUT FILE {} {path}\n", content.len()).into_bytes();
                said.extend(&*content);
                said
            }
            Item::MakeDirectory { path, short } => prompted(Command::MakeDirectory, path, *short),
            Item::Checksum { path, short } => prompted(Command::ChecksumFile, path, *short),
            Item::Help => b"help\n".to_vec(),
            Item::Noise(line) => line.clone(),
            Item::Cancel => b"SHOW DIRECTORY\n\n".to_vec(),
            Item::TooLong => World::long_line(1),
            Item::Quit { behind } => [&b"QUIT\n"[..], &vec![b'?'; *behind]].concat(),
        }
    }

    /// Whether nothing can be said behind it before it is answered.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self, Item::Upload { .. } | Item::UploadLength { .. })
    }

    /// Whether it is the last thing that is said.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Item::Quit { .. } | Item::TooLong)
    }

    /// Every reply that may come to what was said in step `sent`.
    pub(super) fn replies(&self, world: &World, memory: &Memory, sent: usize) -> Vec<Reply> {
        let mut replies = Replies {
            world,
            memory,
            sent,
            before: Vec::new(),
            all: Vec::new(),
        };
        replies.to(self);
        replies.all
    }
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
            (Item::Login { user: _, password }, Some(_)) => {
                let mut parts = vec![line(text::ALREADY_LOGGED_IN), self.menu()];
                for _ in 0..1 + usize::from(password.is_some()) {
                    parts.extend([line(text::UNKNOWN_COMMAND), self.menu()]);
                }
                self.reply(parts, Then::Nothing);
            }
            (Item::Put { .. }, None) => self.reply([line(text::LOG_IN_FIRST)], Then::Closed),
            (_, None) => self.sentence(text::LOG_IN_FIRST),
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
            }
            (Item::UploadBytes { path, version }, Some(user)) => {
                self.received(user, path, *version)
            }
            (Item::Put { path, version }, Some(user)) => self.put(user, path, *version),
            (Item::MakeDirectory { path, short }, Some(user)) => {
                self.prompt(text::ENTER_NEW_DIRECTORY, *short);
                self.make_directory(user, path);
            }
        }
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
        self.before.push(line(text::ENTER_USERNAME));
        let asked = number.is_some() || self.world.hidden;
        assert_eq!(
            asked,
            password.is_some(),
            "a password is said where it is asked for"
        );
        if asked {
            self.before.push(line(text::ENTER_PASSWORD));
        }
        match number.filter(|&number| Some(&*users[number].password) == password) {
            Some(number) => {
                let menu = menu_of(&users[number]);
                self.reply(
                    [line(text::LOGIN_SUCCESSFUL), line(menu)],
                    Then::LoggedIn(number),
                );
            }
            None if self.memory.failures + 1 == LOGIN_FAILURES_MAX => {
                let goodbye = [line(text::LOGIN_FAILED), line(text::TOO_MANY_FAILURES)];
                self.reply(goodbye, Then::Closed);
            }
            None => self.reply([line(text::LOGIN_FAILED), self.menu()], Then::LoginFailed),
        }
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
        if self.world.faulty {
            for refusal in READING {
                let parts = refused(text::refusal(refusal), self.menu());
                self.reply(parts, Then::Nothing);
            }
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
        let mut refusals = match self.may_be_made(user, name) {
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
        };
        if self.world.faulty {
            refusals.extend(WRITING.map(|refusal| Some(text::refusal(refusal))));
        }
        refusals
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
        if self.world.faulty {
            for refusal in WRITING {
                self.failed(text::refusal(refusal));
            }
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
        if self.world.tight || self.world.faulty {
            self.reply(room(), Then::Closed);
        }
        if self.world.faulty {
            // Whether the bytes can be thrown away was asked in vain.
            for refusal in WRITING.into_iter().chain(READING) {
                self.reply([line(text::refusal(refusal))], Then::Closed);
            }
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
            may_be_cut: self.world.faulty,
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

    /// Refusals that a fault may be the cause of.
    fn faults(&mut self, refusals: &[Refusal]) {
        if self.world.faulty {
            for refusal in refusals {
                self.refusal(*refusal);
            }
        }
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

/// A script from a seed.
pub(super) fn script(rng: &mut Rng, world: &mut World, id: usize) -> Vec<Item> {
    let mut script = vec![Item::Greet];
    while rng.u8(..3) == 0 {
        script.push(before_login(rng, world));
    }
    let user = rng.usize(..world.users.len());
    script.push(right_login(world, user));
    for _ in 0..rng.usize(..12) {
        let item = after_login(rng, world, id, user);
        script.push(item);
    }
    match rng.u8(..8) {
        0 => script.push(Item::TooLong),
        1..=4 => script.push(Item::Quit { behind: 0 }),
        5 => script.push(Item::Quit {
            behind: rng.usize(1..30_000),
        }),
        _ => {}
    }
    script
}

pub(super) fn right_login(world: &World, user: usize) -> Item {
    let User { name, password, .. } = &world.users[user];
    Item::Login {
        user: name.clone(),
        password: Some(password.clone()),
    }
}

fn before_login(rng: &mut Rng, world: &World) -> Item {
    match rng.u8(..8) {
        0 => Item::Login {
            user: "nobody".into(),
            password: world.hidden.then(|| "x".into()),
        },
        1 | 2 => Item::Login {
            user: world.users[0].name.clone(),
            password: Some("wrong".into()),
        },
        3 => Item::Help,
        4 => Item::Directories,
        5 => Item::Details,
        6 => Item::Enter {
            path: "Movies".into(),
            short: true,
        },
        _ => noise(rng),
    }
}

fn noise(rng: &mut Rng) -> Item {
    Item::Noise(match rng.u8(..5) {
        0 => b"\n".to_vec(),
        1 => b" \t\r\n".to_vec(),
        2 => World::long_line(0),
        3 => b"LOGIN please\n".to_vec(),
        _ => b"\xff\xfe make sense\n".to_vec(),
    })
}

fn after_login(rng: &mut Rng, world: &mut World, id: usize, user: usize) -> Item {
    let short = rng.bool();
    match rng.u8(..24) {
        0 => Item::Directories,
        1..=4 => {
            let paths = [
                "Movies",
                "Movies/",
                "News",
                "Mail",
                "Box",
                "None",
                "Movies/Classics",
                "Movies/Classics/Silent",
                "Movies/Empty/",
                "Movies/Joker",
                "Movies/..",
                "",
            ];
            let path = paths[rng.usize(..paths.len() - usize::from(short))];
            match path {
                "" => Item::Cancel,
                path => Item::Enter {
                    path: path.into(),
                    short,
                },
            }
        }
        5 | 6 => Item::Details,
        7..=11 => Item::Download {
            path: file(rng),
            short,
        },
        12 | 13 => Item::Resume {
            path: file(rng),
            from: [0, 1, 100, 5000, 70_000][rng.usize(..5)],
            short,
        },
        14 | 15 => Item::Checksum {
            path: file(rng),
            short,
        },
        16 => Item::Help,
        17 => noise(rng),
        18 => right_login(world, user),
        19 => {
            let name = [format!("made {id}"), "made".to_owned()][rng.usize(..2)].clone();
            let path = format!("{}/{name}", ["Mail", "Box", "Movies"][rng.usize(..3)]);
            if !path.starts_with("Movies") {
                world.plan_directory(&path);
            }
            Item::MakeDirectory { path, short }
        }
        upload => {
            let name =
                [format!("note {id}"), "note".into(), "shared".into()][rng.usize(..3)].clone();
            let path = format!("{}/{name}", ["Mail", "Box"][rng.usize(..2)]);
            let version = world.plan_upload(rng, &path);
            match upload {
                20 | 21 => Item::Upload {
                    path,
                    version,
                    short,
                },
                _ => Item::Put { path, version },
            }
        }
    }
}

/// A file that may be asked for.
fn file(rng: &mut Rng) -> String {
    let paths = [
        "Movies/Joker",
        "Movies/WAR",
        "Movies/Film 0",
        "Movies/Film 3",
        "Movies/Film 4",
        "Movies/Film 5",
        "Movies/Classics/Film 6",
        "Movies/Classics/Silent/Film 7",
        "Movies/Classics/Film 2",
        "Movies/inside",
        "Movies/Classics/up",
        "Movies/outside",
        "Movies/absolute",
        "Movies/round",
        "Movies/nowhere",
        "Movies/pipe",
        "Movies/.hidden",
        "Movies/Classics",
        "Movies/Empty/none",
        "Movies/None/none",
        "Movies/../News/Today",
        "News/Today",
        "News/Weather",
        "News/Sport",
        "Mail/note",
        "Mail/shared",
        "Box/note",
        "None/none",
        "Joker",
        "Today",
        "note",
    ];
    paths[rng.usize(..paths.len())].to_owned()
}
