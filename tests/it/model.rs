//! The server as the protocol tells of it, in the plainest way: a session, its input as it comes, and a house that
//! answers at once over a folder. It shares the pure session with the real one, and nothing of the engine or the vault:
//! where the two disagree, one of them is wrong.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use tidegate::home::Access;
use tidegate::home::credentials::{Account, Secret};
use tidegate::home::directories::{Grant, Rights};
use tidegate::limits::NAME_BYTES_MAX;
use tidegate::protocol::line::{self, Split};
use tidegate::protocol::menu::Menu;
use tidegate::protocol::menu_text::{append_details, append_name};
use tidegate::protocol::{Action, Answer, Form, Input, Place, Refusal, Request, Session};
use zeroize::Zeroizing;

/// One connection to a model server.
pub(crate) struct Connection {
    session: Session,
    house: House,
    /// What the client sent and nobody took yet.
    buffer: Vec<u8>,
    /// Whether the client has closed its sending half.
    ended: bool,
    waits: Waits,
    /// What was opened last.
    opened: Vec<u8>,
    /// Where the upload at work will lie.
    incoming: Option<Place>,
    /// What the server has sent, until it is taken.
    sent: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Waits {
    Line,
    /// For so many bytes of an upload.
    Upload(u64),
    /// For so many bytes to throw away.
    Discard(u64),
    Closed,
}

impl Connection {
    pub(crate) fn new(house: House) -> Connection {
        let mut connection = Connection {
            session: Session::Menu(Menu::new()),
            house,
            buffer: Vec::new(),
            ended: false,
            waits: Waits::Line,
            opened: Vec::new(),
            incoming: None,
            sent: Vec::new(),
        };
        connection.step(Input::Begin);
        connection
    }

    /// What the server has sent since this was last asked for.
    pub(crate) fn take_sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waits == Waits::Closed
    }

    /// The client sends bytes.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.run();
    }

    /// The client closes its sending half.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.run();
    }

    /// The home's files are read again.
    pub(crate) fn reload(&mut self) {
        let before = self.session.access().cloned();
        self.house.load();
        if let Some(before) = before {
            let user = &before.account.user;
            let is_same = self
                .house
                .account(user)
                .is_some_and(|now| *now == before.account);
            let access = is_same.then(|| self.house.access(user));
            self.session.reloaded(access);
        }
    }

    pub(crate) fn idle(&mut self) {
        assert_eq!(self.waits, Waits::Line);
        self.step(Input::Idle);
    }

    pub(crate) fn stop(&mut self) {
        assert_eq!(self.waits, Waits::Line);
        self.step(Input::Stopping);
    }

    /// Acts on what has come, as far as it goes.
    fn run(&mut self) {
        while self.waits != Waits::Closed {
            let buffer = std::mem::take(&mut self.buffer);
            let used = self.take(&buffer);
            self.buffer = buffer[used.unwrap_or(0)..].to_vec();
            if used.is_none() {
                return;
            }
        }
    }

    /// Takes what is waited for off the buffer's front; `None` where it has not come yet.
    fn take(&mut self, buffer: &[u8]) -> Option<usize> {
        match self.waits {
            Waits::Line => match line::split(buffer) {
                Split::Line { line, used } => {
                    self.step(Input::Line(line));
                    return Some(used);
                }
                Split::TooLong => self.step(Input::LineTooLong),
                Split::Missing if self.ended => match line::last(buffer) {
                    Some(line) => self.step(Input::Line(line)),
                    None => self.waits = Waits::Closed,
                },
                Split::Missing => return None,
            },
            Waits::Upload(length) | Waits::Discard(length) => {
                if let Some(bytes) = usize::try_from(length)
                    .ok()
                    .and_then(|length| buffer.get(..length))
                {
                    let moved = match self.incoming.take() {
                        Some(place) => self.house.publish(&place, bytes),
                        None => Ok(()),
                    };
                    self.step(Input::Moved(moved));
                    return Some(bytes.len());
                }
                if !self.ended {
                    return None;
                }
                self.waits = Waits::Closed;
            }
            Waits::Closed => {}
        }
        Some(buffer.len())
    }

    /// Steps the session until it waits for the client.
    fn step(&mut self, input: Input<'_>) {
        let mut action = self.session.step(input, &mut self.sent);
        loop {
            let input = match action {
                Action::ReadLine => {
                    self.waits = Waits::Line;
                    return;
                }
                Action::Receive { length, .. } => {
                    self.waits = Waits::Upload(length);
                    return;
                }
                Action::Discard { length } => {
                    self.waits = Waits::Discard(length);
                    return;
                }
                Action::Close(_) => {
                    self.waits = Waits::Closed;
                    return;
                }
                Action::Ask(request) => {
                    if let Request::Create { place, .. } = &request {
                        self.incoming = Some(place.clone());
                    }
                    let answer = self.house.answer(request, &mut self.opened);
                    let answer = answer.unwrap_or_else(|refusal| {
                        self.incoming = None;
                        Answer::Refused(refusal)
                    });
                    Input::Answer(answer)
                }
                Action::Send { from, length, .. } => {
                    let (from, length) = (from as usize, length as usize);
                    self.sent
                        .extend_from_slice(&self.opened[from..from + length]);
                    Input::Moved(Ok(()))
                }
            };
            action = self.session.step(input, &mut self.sent);
        }
    }
}

/// Who may come in, what he may see, and what is there.
pub(crate) struct House {
    home: PathBuf,
    hide_usernames: bool,
    max_upload: u64,
    accounts: Vec<Arc<Account>>,
    grants: Vec<(String, Arc<Grant>)>,
}

impl House {
    pub(crate) fn new(home: PathBuf, hide_usernames: bool, max_upload: Option<u64>) -> House {
        let mut house = House {
            home,
            hide_usernames,
            max_upload: max_upload.unwrap_or(1 << 50),
            accounts: Vec::new(),
            grants: Vec::new(),
        };
        house.load();
        house
    }

    /// Reads the home's two files; accounts of a model have plain passwords, and grants no PATH.
    fn load(&mut self) {
        let read = |name| fs::read_to_string(self.home.join(name)).expect("a file of the home");
        let (credentials, directories) = (read("Credentials"), read("Directories"));
        self.accounts = lines(&credentials)
            .map(|line| {
                let (user, password) = line.split_once(":plain:").expect("a plain password");
                let secret = Secret::Plain(Zeroizing::new(password.to_owned()));
                Arc::new(Account {
                    user: user.to_owned(),
                    secret,
                })
            })
            .collect();
        self.grants = lines(&directories)
            .map(|line| {
                let [user, name, rights] = line.split(':').collect::<Vec<_>>()[..] else {
                    panic!("three fields: {line}");
                };
                let has = |right| rights.split(',').any(|other| other == right);
                let rights = Rights {
                    read: has("read"),
                    upload: has("upload"),
                    change: has("change"),
                };
                let path = self.home.join("files").join(name);
                (
                    user.to_owned(),
                    Arc::new(Grant {
                        name: name.to_owned(),
                        rights,
                        path,
                    }),
                )
            })
            .collect();
    }

    fn account(&self, user: &str) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| account.user == user)
    }

    fn access(&self, user: &str) -> Arc<Access> {
        let account = self.account(user).expect("a user of the home").clone();
        let own = |name: &str| {
            self.grants
                .iter()
                .any(|(owner, grant)| owner == user && grant.name == name)
        };
        let seen = self
            .grants
            .iter()
            .filter(|(owner, grant)| owner == user || (owner == "*" && !own(&grant.name)));
        let grants = seen.map(|(_, grant)| grant.clone()).collect();
        Arc::new(Access { account, grants })
    }

    fn answer(&self, request: Request, opened: &mut Vec<u8>) -> Result<Answer, Refusal> {
        match request {
            Request::Account { user } => Ok(Answer::Account(
                self.hide_usernames || self.account(&user).is_some(),
            )),
            Request::Verify { user, password } => {
                let proved = self.account(&user).filter(|account| match &account.secret {
                    Secret::Plain(secret) => secret.as_bytes() == &password[..],
                    Secret::Hash(_) => unreachable!("a model's passwords are plain"),
                });
                Ok(Answer::Verified(proved.map(|_| self.access(&user))))
            }
            Request::List { place, form } => {
                let entries = list(&place, form, opened)?;
                Ok(Answer::Listing {
                    length: opened.len() as u64,
                    entries,
                })
            }
            Request::OpenRead { place } => {
                *opened = read(&place)?;
                Ok(Answer::Opened {
                    length: opened.len() as u64,
                })
            }
            Request::Checksum { place } => {
                Ok(Answer::Checksum(Sha256::digest(read(&place)?).into()))
            }
            Request::Judge { place } => judge(&place).map(|_| Answer::Free),
            Request::Room { length, .. } => self.room(length).map(|()| Answer::Free),
            Request::Create { place, length } => {
                judge(&place)?;
                self.room(length).map(|()| Answer::Created)
            }
            Request::MakeDirectory { place } => {
                let (directory, name) = enter(&place)?;
                let path = directory.join(name);
                if path.is_dir() {
                    return Err(Refusal::DirectoryExists);
                }
                fs::create_dir(path).map_err(|_| Refusal::FileExists)?;
                Ok(Answer::Made)
            }
        }
    }

    fn room(&self, length: u64) -> Result<(), Refusal> {
        if length > self.max_upload {
            Err(Refusal::NoRoom)
        } else {
            Ok(())
        }
    }

    fn publish(&self, place: &Place, bytes: &[u8]) -> Result<(), Refusal> {
        let path = judge(place)?;
        let _ = fs::remove_file(&path); // a link is replaced, not followed
        fs::write(path, bytes).map_err(|_| Refusal::FileUnwritable)
    }
}

/// The records of one of the home's files.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Where a path below a granted directory leads, links followed step by step; `None` where it leads outside or nowhere.
fn resolve(root: &Path, below: &Path) -> Option<PathBuf> {
    let mut rest: Vec<PathBuf> = vec![below.to_owned()];
    let mut inside: Vec<PathBuf> = Vec::new();
    let mut links = 0;
    while let Some(path) = rest.pop() {
        let mut steps = path.components();
        let Some(step) = steps.next() else { continue };
        rest.push(steps.as_path().to_owned());
        match step {
            Component::RootDir | Component::Prefix(_) => return None,
            Component::CurDir => {}
            Component::ParentDir => drop(inside.pop()?),
            Component::Normal(name) => {
                let here = inside.last().map_or(root, PathBuf::as_path).join(name);
                if !fs::symlink_metadata(&here).ok()?.is_symlink() {
                    inside.push(here);
                } else if links < 40 {
                    links += 1;
                    rest.push(fs::read_link(&here).ok()?);
                } else {
                    return None;
                }
            }
        }
    }
    Some(inside.pop().unwrap_or(root.to_owned()))
}

fn is_name(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && !part.chars().any(char::is_control)
        && part.len() <= NAME_BYTES_MAX
}

/// Where a path of names leads.
fn find(place: &Place) -> Option<PathBuf> {
    let are_names = place.below.is_empty() || place.below.split('/').all(is_name);
    are_names.then(|| resolve(&place.grant.path, Path::new(&place.below)))?
}

fn list(place: &Place, form: Form, out: &mut Vec<u8>) -> Result<usize, Refusal> {
    out.clear();
    let directory = find(place)
        .filter(|path| path.is_dir())
        .ok_or(Refusal::NoSuchDirectory)?;
    if !place.grant.rights.read {
        return if place.below.is_empty() {
            Ok(0)
        } else {
            Err(Refusal::NoSuchDirectory)
        };
    }
    let mut names = Vec::new();
    if !may_read(&directory) {
        return Err(Refusal::DirectoryUnreadable);
    }
    for entry in fs::read_dir(directory).expect("a directory that can be read") {
        let entry = entry.expect("an entry");
        names.extend(
            entry
                .file_name()
                .into_string()
                .ok()
                .filter(|name| is_name(name)),
        );
    }
    names.sort_unstable();
    let mut entries = 0;
    for name in names {
        let below = Path::new(&place.below).join(&name);
        let Some(path) = resolve(&place.grant.path, &below) else {
            continue;
        };
        let status = fs::metadata(path).expect("what a resolved path leads to");
        if !status.is_file() && !status.is_dir() {
            continue;
        }
        entries += 1;
        match form {
            Form::Names => append_name(out, &name, status.is_dir()),
            Form::Details => {
                let modified = status
                    .modified()
                    .expect("a time")
                    .duration_since(UNIX_EPOCH);
                let seconds = modified.expect("a time after 1970").as_secs() as i64;
                append_details(out, &name, status.is_dir(), status.len(), seconds);
            }
        }
    }
    Ok(entries)
}

fn read(place: &Place) -> Result<Vec<u8>, Refusal> {
    let path = find(place).filter(|path| path.is_file() && place.grant.rights.read);
    let path = path.ok_or(Refusal::NoSuchFile)?;
    if !may_read(&path) {
        return Err(Refusal::FileUnreadable);
    }
    Ok(fs::read(path).expect("a file that can be read"))
}

/// Whether its owner may read it; asked of the mode, since to root every file is open.
fn may_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|status| status.permissions().mode() & 0o400 != 0)
}

/// The directory in which something new is to be made, and its name there.
fn enter(place: &Place) -> Result<(PathBuf, &str), Refusal> {
    let mut directory = PathBuf::new();
    let mut parts = place.below.split('/').peekable();
    let name = loop {
        match parts.next() {
            Some(part) if is_name(part) && parts.peek().is_some() => directory.push(part),
            Some(part) => break Some(part).filter(|part| is_name(part)),
            None => unreachable!("a last part"),
        }
    };
    let directory = resolve(&place.grant.path, &directory).filter(|path| path.is_dir());
    let directory = directory.ok_or(Refusal::NoSuchDirectory)?;
    if !place.grant.rights.may_add() {
        return Err(Refusal::MayNotUpload);
    }
    Ok((directory, name.ok_or(Refusal::BadName)?))
}

fn judge(place: &Place) -> Result<PathBuf, Refusal> {
    let (directory, name) = enter(place)?;
    let path = directory.join(name);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
        Ok(status) if place.grant.rights.change && (status.is_file() || status.is_symlink()) => {
            Ok(path)
        }
        _ => Err(Refusal::FileExists),
    }
}
