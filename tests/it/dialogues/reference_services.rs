//! The house as the protocol tells of it, in the plainest way, over a copy of the example home. It shares nothing with the
//! vault and the accounts: where they disagree, one of them is wrong.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use tidegate::auth::account::{Account, Secret};
use tidegate::domain::access::{Access, Grant, Rights};
use tidegate::domain::error::ErrorCode;
use tidegate::domain::listing::{ListingFormat, ListingTarget};
use tidegate::domain::path::GrantedPath;
use tidegate::domain::request::{Request, Response};
use tidegate::limits::NAME_BYTES_MAX;
use tidegate::protocol::menu::text::{append_details, append_name};
use zeroize::Zeroizing;

use super::reference_connection::Answers;

/// Who may come in, what he may see, and what is there.
pub(crate) struct Services {
    home: PathBuf,
    hide_usernames: bool,
    max_upload: u64,
    accounts: Vec<Account>,
    /// Users whose account the last [`Services::load`] removed or changed.
    revoked: HashSet<String>,
    grants: Vec<(String, Arc<Grant>)>,
}

impl Services {
    pub(crate) fn new(home: PathBuf, hide_usernames: bool, max_upload: Option<u64>) -> Services {
        let mut house = Services {
            home,
            hide_usernames,
            max_upload: max_upload.unwrap_or(1 << 50),
            accounts: Vec::new(),
            revoked: HashSet::new(),
            grants: Vec::new(),
        };
        house.load();
        house
    }

    /// Reads the home's two files; accounts of a model have plain passwords, and grants no PATH.
    pub(crate) fn load(&mut self) {
        let read = |name| fs::read_to_string(self.home.join(name)).expect("a file of the home");
        let (credentials, directories) = (read("Credentials"), read("Directories"));
        let accounts: Vec<Account> = lines(&credentials)
            .map(|line| {
                let (user, password) = line.split_once(":plain:").expect("a plain password");
                let secret = Secret::Plain(Zeroizing::new(password.to_owned()));
                Account {
                    user: user.to_owned(),
                    secret,
                }
            })
            .collect();
        let earlier = std::mem::replace(&mut self.accounts, accounts);
        let revoked = earlier
            .into_iter()
            .filter(|old| !self.accounts.contains(old));
        self.revoked = revoked.map(|account| account.user).collect();
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
                    quota: None,
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

    /// What a session with this access may do after the files were read again.
    pub(crate) fn access_after_reload(&self, access: &Access) -> Option<Arc<Access>> {
        let is_revoked = self.revoked.contains(&access.user);
        (!is_revoked).then(|| self.access(&access.user))
    }

    fn account(&self, user: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.user == user)
    }

    fn access(&self, user: &str) -> Arc<Access> {
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
        let user = user.to_owned();
        Arc::new(Access { user, grants })
    }

    fn try_answer(&self, request: Request, opened: &mut Vec<u8>) -> Result<Response, ErrorCode> {
        match request {
            Request::LookUpUser { user } => Ok(Response::UserLookedUp(
                self.hide_usernames || self.account(&user).is_some(),
            )),
            Request::Authenticate { user, password, .. } => {
                let proved = self.account(&user).filter(|account| match &account.secret {
                    Secret::Plain(secret) => secret.as_bytes() == &password[..],
                    Secret::Anyone => true,
                    Secret::Hash(_) => unreachable!("a model's passwords are plain"),
                });
                Ok(Response::Authenticated(proved.map(|_| self.access(&user))))
            }
            Request::List {
                target: ListingTarget::Directory(place),
                format,
            } => {
                let entries = list(&place, format, opened)?;
                Ok(Response::Listing {
                    length: opened.len() as u64,
                    entries,
                })
            }
            Request::OpenRead { path: place } => {
                *opened = read(&place)?;
                Ok(Response::Opened {
                    length: opened.len() as u64,
                })
            }
            Request::Checksum { path: place, .. } => {
                let bytes = read(&place)?;
                Ok(Response::Checksum {
                    digest: Box::from(&Sha256::digest(&bytes)[..]),
                    end: bytes.len() as u64,
                })
            }
            Request::CheckUpload { path: place } => judge(&place).map(|_| Response::Allowed),
            Request::CheckSpace { length, .. } => self.room(length).map(|()| Response::Allowed),
            Request::Quota => Ok(Response::Quota(Vec::new())),
            Request::Create {
                path: place,
                length,
                ..
            } => {
                judge(&place)?;
                self.room(length.unwrap_or(0)).map(|()| Response::Created)
            }
            Request::MakeDirectory { path: place } => {
                let (directory, name) = enter(&place)?;
                let path = directory.join(name);
                if path.is_dir() {
                    return Err(ErrorCode::DirectoryExists);
                }
                fs::create_dir(path).map_err(|_| ErrorCode::FileExists)?;
                Ok(Response::DirectoryCreated)
            }
            request => unreachable!("the menu does not ask for {request:?}"),
        }
    }

    fn room(&self, length: u64) -> Result<(), ErrorCode> {
        if length > self.max_upload {
            Err(ErrorCode::NoSpace)
        } else {
            Ok(())
        }
    }
}

impl Answers for Services {
    fn answer(&mut self, request: Request, opened: &mut Vec<u8>) -> Response {
        self.try_answer(request, opened)
            .unwrap_or_else(Response::Refused)
    }

    fn publish(&mut self, place: &GrantedPath, bytes: &[u8]) -> Result<(), ErrorCode> {
        let path = judge(place)?;
        let _ = fs::remove_file(&path); // a link is replaced, not followed
        fs::write(path, bytes).map_err(|_| ErrorCode::FileUnwritable)
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
fn find(place: &GrantedPath) -> Option<PathBuf> {
    let are_names = place.relative.is_empty() || place.relative.split('/').all(is_name);
    are_names.then(|| resolve(&place.grant.path, Path::new(&place.relative)))?
}

fn list(place: &GrantedPath, form: ListingFormat, out: &mut Vec<u8>) -> Result<usize, ErrorCode> {
    out.clear();
    let directory = find(place)
        .filter(|path| path.is_dir())
        .ok_or(ErrorCode::NoSuchDirectory)?;
    if !place.grant.rights.read {
        return if place.relative.is_empty() {
            Ok(0)
        } else {
            Err(ErrorCode::NoSuchDirectory)
        };
    }
    let mut names = Vec::new();
    if !may_read(&directory) {
        return Err(ErrorCode::DirectoryUnreadable);
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
        let below = Path::new(&place.relative).join(&name);
        let Some(path) = resolve(&place.grant.path, &below) else {
            continue;
        };
        let status = fs::metadata(path).expect("what a resolved path leads to");
        if !status.is_file() && !status.is_dir() {
            continue;
        }
        entries += 1;
        match form {
            ListingFormat::Names => append_name(out, &name, status.is_dir()),
            ListingFormat::Details => {
                let modified = status
                    .modified()
                    .expect("a time")
                    .duration_since(UNIX_EPOCH);
                let seconds = modified.expect("a time after 1970").as_secs() as i64;
                append_details(out, &name, status.is_dir(), status.len(), seconds);
            }
            form => unreachable!("the menu does not list in {form:?}"),
        }
    }
    Ok(entries)
}

fn read(place: &GrantedPath) -> Result<Vec<u8>, ErrorCode> {
    let path = find(place).filter(|path| path.is_file() && place.grant.rights.read);
    let path = path.ok_or(ErrorCode::NoSuchFile)?;
    if !may_read(&path) {
        return Err(ErrorCode::FileUnreadable);
    }
    Ok(fs::read(path).expect("a file that can be read"))
}

/// Whether its owner may read it; asked of the mode, since to root every file is open.
fn may_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|status| status.permissions().mode() & 0o400 != 0)
}

/// The directory in which something new is to be made, and its name there.
fn enter(place: &GrantedPath) -> Result<(PathBuf, &str), ErrorCode> {
    let mut directory = PathBuf::new();
    let mut parts = place.relative.split('/').peekable();
    let name = loop {
        match parts.next() {
            Some(part) if is_name(part) && parts.peek().is_some() => directory.push(part),
            Some(part) => break Some(part).filter(|part| is_name(part)),
            None => unreachable!("a last part"),
        }
    };
    let directory = resolve(&place.grant.path, &directory).filter(|path| path.is_dir());
    let directory = directory.ok_or(ErrorCode::NoSuchDirectory)?;
    if !place.grant.rights.may_add() {
        return Err(ErrorCode::UploadDenied);
    }
    Ok((directory, name.ok_or(ErrorCode::InvalidName)?))
}

fn judge(place: &GrantedPath) -> Result<PathBuf, ErrorCode> {
    let (directory, name) = enter(place)?;
    let path = directory.join(name);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
        Ok(status) if place.grant.rights.change && (status.is_file() || status.is_symlink()) => {
            Ok(path)
        }
        _ => Err(ErrorCode::FileExists),
    }
}
