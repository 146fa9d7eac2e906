//! A simple reference implementation of the services on a copy of the example home.
//!
//! It shares no code with storage and authentication. If they disagree, one of them is wrong.

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

use super::reference_connection::Respond;

/// The accounts, the grants and the files of a home.
pub(crate) struct Services {
    home: PathBuf,
    hide_usernames: bool,
    max_upload: u64,
    accounts: Vec<Account>,
    /// Users whose accounts the last [`Services::load`] removed or changed.
    revoked: HashSet<String>,
    grants: Vec<(String, Arc<Grant>)>,
}

impl Services {
    pub(crate) fn new(home: PathBuf, hide_usernames: bool, max_upload: Option<u64>) -> Services {
        let mut services = Services {
            home,
            hide_usernames,
            max_upload: max_upload.unwrap_or(1 << 50),
            accounts: Vec::new(),
            revoked: HashSet::new(),
            grants: Vec::new(),
        };
        services.load();
        services
    }

    /// Reads the home's two files. Passwords must be plain, and grants must not have a path.
    pub(crate) fn load(&mut self) {
        let read =
            |name| fs::read_to_string(self.home.join(name)).expect("the home's files are readable");
        let (credentials, directories) = (read("Credentials"), read("Directories"));
        let accounts: Vec<Account> = lines(&credentials)
            .map(|line| {
                let (user, password) = line.split_once(":plain:").expect("the password is plain");
                let secret = Secret::Plain(Zeroizing::new(password.to_owned()));
                Account {
                    user: user.to_owned(),
                    secret,
                }
            })
            .collect();
        let previous = std::mem::replace(&mut self.accounts, accounts);
        let revoked = previous
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
                    hidden: has("hidden"),
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

    /// Returns the access of a session after a reload, or `None` if its login was revoked.
    pub(crate) fn access_after_reload(&self, access: &Access) -> Option<Arc<Access>> {
        let is_revoked = self.revoked.contains(&access.user);
        (!is_revoked).then(|| self.access(&access.user))
    }

    fn account(&self, user: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.user == user)
    }

    fn access(&self, user: &str) -> Arc<Access> {
        let has_own = |name: &str| {
            self.grants
                .iter()
                .any(|(owner, grant)| owner == user && grant.name == name)
        };
        let visible = self
            .grants
            .iter()
            .filter(|(owner, grant)| owner == user || (owner == "*" && !has_own(&grant.name)));
        let grants = visible.map(|(_, grant)| grant.clone()).collect();
        let user = user.to_owned();
        Arc::new(Access { user, grants })
    }

    fn try_respond(&self, request: Request, opened: &mut Vec<u8>) -> Result<Response, ErrorCode> {
        match request {
            Request::LookUpUser { user } => Ok(Response::UserLookedUp(
                self.hide_usernames || self.account(&user).is_some(),
            )),
            Request::Authenticate { user, password, .. } => {
                let verified = self.account(&user).filter(|account| match &account.secret {
                    Secret::Plain(secret) => secret.as_bytes() == &password[..],
                    Secret::Anyone => true,
                    Secret::Hash(_) => unreachable!("the passwords are plain"),
                });
                Ok(Response::Authenticated(
                    verified.map(|_| self.access(&user)),
                ))
            }
            Request::List {
                target: ListingTarget::Directory(path),
                format,
            } => {
                let entries = list(&path, format, opened)?;
                Ok(Response::Listing {
                    length: opened.len() as u64,
                    entries,
                })
            }
            Request::OpenRead { path } => {
                *opened = read(&path)?;
                Ok(Response::Opened {
                    length: opened.len() as u64,
                })
            }
            Request::Checksum { path, .. } => {
                let bytes = read(&path)?;
                Ok(Response::Checksum {
                    digest: Box::from(&Sha256::digest(&bytes)[..]),
                    end: bytes.len() as u64,
                })
            }
            Request::CheckUpload { path } => check_upload(&path).map(|_| Response::Allowed),
            Request::CheckSpace { length, .. } => {
                self.check_space(length).map(|()| Response::Allowed)
            }
            Request::Quota => Ok(Response::Quota(Vec::new())),
            Request::Create { path, length, .. } => {
                check_upload(&path)?;
                self.check_space(length.unwrap_or(0))
                    .map(|()| Response::Created)
            }
            Request::MakeDirectory { path } => {
                let (directory, name) = resolve_new(&path)?;
                let path = directory.join(name);
                if path.is_dir() {
                    return Err(ErrorCode::DirectoryExists);
                }
                fs::create_dir(path).map_err(|_| ErrorCode::FileExists)?;
                Ok(Response::DirectoryCreated)
            }
            request => unreachable!("the menu does not request {request:?}"),
        }
    }

    fn check_space(&self, length: u64) -> Result<(), ErrorCode> {
        if length > self.max_upload {
            Err(ErrorCode::NoSpace)
        } else {
            Ok(())
        }
    }
}

impl Respond for Services {
    fn respond(&mut self, request: Request, opened: &mut Vec<u8>) -> Response {
        self.try_respond(request, opened)
            .unwrap_or_else(Response::Refused)
    }

    fn publish(&mut self, path: &GrantedPath, bytes: &[u8]) -> Result<(), ErrorCode> {
        let path = check_upload(path)?;
        let _ = fs::remove_file(&path); // replaces a link instead of following it
        fs::write(path, bytes).map_err(|_| ErrorCode::FileUnwritable)
    }
}

/// Returns the records of one of the home's files.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Resolves a path below a granted directory, following links step by step.
///
/// Returns `None` if it leads outside or does not exist.
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

/// Returns whether a user has access to a name.
fn is_name(part: &str, rights: Rights) -> bool {
    let is_special = matches!(part, "." | "..") || part.starts_with(".tidegate");
    !part.is_empty()
        && !is_special
        && (rights.hidden || !part.starts_with('.'))
        && !part.chars().any(char::is_control)
        && part.len() <= NAME_BYTES_MAX
}

/// Resolves a path from a client.
fn find(path: &GrantedPath) -> Option<PathBuf> {
    let rights = path.grant.rights;
    let mut parts = path.relative.split('/');
    let are_names = path.relative.is_empty() || parts.all(|part| is_name(part, rights));
    are_names.then(|| resolve(&path.grant.path, Path::new(&path.relative)))?
}

fn list(path: &GrantedPath, format: ListingFormat, out: &mut Vec<u8>) -> Result<usize, ErrorCode> {
    out.clear();
    let directory = find(path)
        .filter(|path| path.is_dir())
        .ok_or(ErrorCode::NoSuchDirectory)?;
    if !path.grant.rights.read {
        return if path.relative.is_empty() {
            Ok(0)
        } else {
            Err(ErrorCode::NoSuchDirectory)
        };
    }
    let mut names = Vec::new();
    let rights = path.grant.rights;
    if !is_readable(&directory) {
        return Err(ErrorCode::DirectoryUnreadable);
    }
    for entry in fs::read_dir(directory).expect("the directory is readable") {
        let entry = entry.expect("its entries are readable");
        names.extend(
            entry
                .file_name()
                .into_string()
                .ok()
                .filter(|name| is_name(name, rights)),
        );
    }
    names.sort_unstable();
    let mut entries = 0;
    for name in names {
        let below = Path::new(&path.relative).join(&name);
        let Some(path) = resolve(&path.grant.path, &below) else {
            continue;
        };
        let status = fs::metadata(path).expect("a resolved path exists");
        if !status.is_file() && !status.is_dir() {
            continue;
        }
        entries += 1;
        match format {
            ListingFormat::Names => append_name(out, &name, status.is_dir()),
            ListingFormat::Details => {
                let modified = status
                    .modified()
                    .expect("files have a time")
                    .duration_since(UNIX_EPOCH);
                let seconds = modified.expect("the time is after 1970").as_secs() as i64;
                append_details(out, &name, status.is_dir(), status.len(), seconds);
            }
            format => unreachable!("the menu does not list in {format:?}"),
        }
    }
    Ok(entries)
}

fn read(granted: &GrantedPath) -> Result<Vec<u8>, ErrorCode> {
    let path = find(granted).filter(|path| path.is_file() && granted.grant.rights.read);
    let path = path.ok_or(ErrorCode::NoSuchFile)?;
    if !is_readable(&path) {
        return Err(ErrorCode::FileUnreadable);
    }
    Ok(fs::read(path).expect("the file is readable"))
}

/// Returns whether the mode lets the owner read a file. Root can read every file.
fn is_readable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|status| status.permissions().mode() & 0o400 != 0)
}

/// Returns the directory and the name of a new file.
fn resolve_new(path: &GrantedPath) -> Result<(PathBuf, &str), ErrorCode> {
    let rights = path.grant.rights;
    let all_names = Rights {
        hidden: true,
        ..rights
    };
    let mut directory = PathBuf::new();
    let mut parts = path.relative.split('/').peekable();
    let name = loop {
        match parts.next() {
            Some(part) if is_name(part, rights) && parts.peek().is_some() => directory.push(part),
            Some(part) if is_name(part, rights) => break Ok(part),
            Some(part) if is_name(part, all_names) => break Err(ErrorCode::HiddenDenied),
            Some(_) => break Err(ErrorCode::InvalidName),
            None => unreachable!("split returns a part"),
        }
    };
    let directory = resolve(&path.grant.path, &directory).filter(|path| path.is_dir());
    let directory = directory.ok_or(ErrorCode::NoSuchDirectory)?;
    if !path.grant.rights.may_add() {
        return Err(ErrorCode::UploadDenied);
    }
    Ok((directory, name?))
}

/// Returns the path of an upload, or why it is refused.
fn check_upload(granted: &GrantedPath) -> Result<PathBuf, ErrorCode> {
    let (directory, name) = resolve_new(granted)?;
    let path = directory.join(name);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
        Ok(status) if granted.grant.rights.change && (status.is_file() || status.is_symlink()) => {
            Ok(path)
        }
        _ => Err(ErrorCode::FileExists),
    }
}
