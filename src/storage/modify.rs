//! What becomes of names that are there: they are looked at, renamed, removed, and given another time.
//!
//! A link is never followed by what changes something: it is the link that is renamed or removed.

use std::io;

use crate::domain::error::ErrorCode;
use crate::domain::listing::FileStatus;
use crate::domain::path::{GrantedPath, is_name};
use crate::kernel::{Kernel, Kind, Open, Status};
use crate::storage::quota::{Settled, Walk};
use crate::storage::{
    Claim, Refused, is_absent, is_replaceable, look, open_directory, open_root, path_of, refused,
    split, unwritable,
};

/// What is there, links within the granted directory followed. Who may not read finds directories alone.
pub fn status<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<FileStatus, Refused> {
    let is_path = place.relative.is_empty() || place.relative.split('/').all(is_name);
    if !is_path {
        return Err(ErrorCode::NoSuchFile.into());
    }
    let looked =
        (kernel.open_root(&place.grant.path)).and_then(|root| look(kernel, &root, &place.relative));
    let found = match looked {
        Ok(found) => found,
        Err(error) if is_absent(&error) => return Err(ErrorCode::NoSuchFile.into()),
        Err(error) => {
            let path = path_of(place, &place.relative);
            return Err(refused(
                ErrorCode::FileUnreadable,
                "looking at",
                path,
                error,
            ));
        }
    };
    match found.kind {
        Kind::Directory => {}
        Kind::File if place.grant.rights.read => {}
        _ => return Err(ErrorCode::NoSuchFile.into()),
    }
    Ok(found.into())
}

impl From<Status> for FileStatus {
    fn from(found: Status) -> FileStatus {
        FileStatus {
            is_directory: found.kind == Kind::Directory,
            size: found.size,
            modified: found.modified.0,
            identity: (found.device, found.inode),
        }
    }
}

/// A change of what is there.
#[derive(Clone, Debug)]
pub enum Change {
    /// Gives a file, a directory or a link another name, in the same file system. A file or a link that has the name is
    /// replaced, where the user may change things there.
    Rename {
        /// As it is.
        from: GrantedPath,
        /// As it is to be.
        to: GrantedPath,
    },
    /// Removes a file or a link.
    Remove(GrantedPath),
    /// See [`remove_directory`].
    RemoveDirectory(GrantedPath),
    /// See [`set_modified`].
    SetModified(GrantedPath, i64),
}

/// A change on its way, within quotas, which are told of what it moves, replaces and removes. A directory that is moved
/// between counted ones is walked first. One step is one directory, so that a worker can do other jobs between.
#[derive(Debug)]
pub struct Changing {
    change: Change,
    /// Taken when it is made.
    claim: Option<Claim>,
    /// Through the directory that is moved, once it is known that it may be.
    walk: Option<Walk>,
}

impl Changing {
    /// Begins a change for which this may be claimed.
    pub fn new(change: Change, claim: Claim) -> Changing {
        Changing {
            change,
            claim: Some(claim),
            walk: None,
        }
    }

    /// What is changed.
    pub fn into_change(self) -> Change {
        self.change
    }

    /// Goes on with it; `None` as long as there is more to walk. When it is made it is durable too.
    pub fn step<K: Kernel>(&mut self, kernel: &K) -> Option<Result<(), Refused>> {
        let is_between = self.claim.as_ref().is_some_and(Claim::is_between);
        if let Change::Rename { from, to } = &self.change
            && is_between
            && self.walk.is_none()
        {
            match walk(kernel, from, to) {
                Ok(walk) => self.walk = walk,
                Err(refused) => return Some(Err(refused)),
            }
        }
        // What cannot be walked is left out.
        if let Some(walk) = &mut self.walk
            && !matches!(walk.step(kernel), Ok(false))
        {
            return None;
        }
        let claim = self.claim.take().expect("it is made once");
        let tree = self.walk.as_ref().map(Walk::bytes);
        Some(match &self.change {
            Change::Rename { from, to } => rename(kernel, from, to, tree, claim),
            Change::Remove(place) => remove(kernel, place, claim),
            Change::RemoveDirectory(place) => remove_directory(kernel, place),
            Change::SetModified(place, modified) => set_modified(kernel, place, *modified),
        })
    }
}

/// The walk through what is to be renamed, where it is a directory: for nothing that would be refused anyway.
fn walk<K: Kernel>(
    kernel: &K,
    from: &GrantedPath,
    to: &GrantedPath,
) -> Result<Option<Walk>, Refused> {
    let ends = Ends::open(kernel, from, to)?;
    if ends.found.kind != Kind::Directory {
        return Ok(None);
    }
    match kernel.status_at(&ends.target, ends.new) {
        Ok(taken) if taken.kind == Kind::Directory => Err(ErrorCode::DirectoryExists.into()),
        Ok(_) => Err(ErrorCode::FileExists.into()),
        Err(_) => Ok(Some(Walk::new(&from.grant.path, &from.relative))),
    }
}

/// Renames something. `tree` are the bytes of a directory, where they matter.
fn rename<K: Kernel>(
    kernel: &K,
    from: &GrantedPath,
    to: &GrantedPath,
    tree: Option<u64>,
    claim: Claim,
) -> Result<(), Refused> {
    let ends = Ends::open(kernel, from, to)?;
    claim.settle::<Refused>(|claim| {
        let old = kernel.status_at(&ends.source, ends.old).ok();
        let new = kernel.status_at(&ends.target, ends.new).ok();
        let is_same = old.map(identity) == new.map(identity);
        let gone = if is_same { 0 } else { file_bytes(new) };
        let come = match claim.is_between() {
            true => tree.unwrap_or_else(|| file_bytes(old)),
            false => 0,
        };
        claim.cover(come)?;
        ends.rename(kernel, from, to)?;
        Ok(Settled { come, gone })
    })?;
    for directory in [&ends.target, &ends.source] {
        let failed = |error| unwritable("renaming", path_of(from, &from.relative), error);
        kernel.sync(directory).map_err(failed)?;
    }
    Ok(())
}

/// What is to be renamed, and where to.
struct Ends<'a, K: Kernel> {
    source: K::File,
    old: &'a str,
    found: Status,
    target: K::File,
    new: &'a str,
}

impl<'a, K: Kernel> Ends<'a, K> {
    /// Opens the directories and looks at what is there, as far as the user may.
    fn open(
        kernel: &K,
        from: &'a GrantedPath,
        to: &'a GrantedPath,
    ) -> Result<Ends<'a, K>, Refused> {
        let (source, old) = enter_to_change(kernel, from)?;
        let old = old.ok_or(ErrorCode::NoSuchFile)?;
        let (target, new) = crate::storage::enter(kernel, to)?;
        let found = found_at(kernel, (&source, old), from, ErrorCode::NoSuchFile)?;
        Ok(Ends {
            source,
            old,
            found,
            target,
            new,
        })
    }

    fn rename(&self, kernel: &K, from: &GrantedPath, to: &GrantedPath) -> Result<(), Refused> {
        let (source, target) = ((&self.source, self.old), (&self.target, self.new));
        let failed = |error| unwritable("renaming", path_of(from, &from.relative), error);
        let moved = match kernel.rename(source, target, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let taken = kernel.status_at(target.0, target.1).map_err(failed)?.kind;
                if taken == Kind::Directory {
                    return Err(ErrorCode::DirectoryExists.into());
                }
                let may_replace = to.grant.rights.change && is_replaceable(taken);
                if !may_replace || self.found.kind == Kind::Directory {
                    return Err(ErrorCode::FileExists.into());
                }
                kernel.rename(source, target, true)
            }
            // A file system may know no other than the plain rename. Who takes the name in this moment loses it.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                match kernel.status_at(target.0, target.1) {
                    Ok(_) => return Err(ErrorCode::FileExists.into()),
                    Err(_) => kernel.rename(source, target, true),
                }
            }
            result => result,
        };
        moved.map_err(|error| match error.kind() {
            io::ErrorKind::CrossesDevices => ErrorCode::CrossDevice.into(),
            io::ErrorKind::InvalidInput => ErrorCode::IntoItself.into(),
            io::ErrorKind::NotFound => ErrorCode::NoSuchFile.into(),
            io::ErrorKind::IsADirectory => ErrorCode::DirectoryExists.into(),
            _ => failed(error),
        })
    }
}

fn remove<K: Kernel>(kernel: &K, place: &GrantedPath, claim: Claim) -> Result<(), Refused> {
    let (directory, name) = enter_to_change(kernel, place)?;
    let name = name.ok_or(ErrorCode::NoSuchFile)?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ErrorCode::NoSuchFile.into(), // gone meanwhile
        _ => unwritable("removing", path_of(place, &place.relative), error),
    };
    claim.settle::<Refused>(|_| {
        let found = found_at(kernel, (&directory, name), place, ErrorCode::NoSuchFile)?;
        match found.kind {
            Kind::File | Kind::Link => {}
            Kind::Directory | Kind::Other => return Err(ErrorCode::NoSuchFile.into()),
        }
        kernel.remove(&directory, name).map_err(failed)?;
        let gone = file_bytes(Some(found));
        Ok(Settled { come: 0, gone })
    })?;
    kernel.sync(&directory).map_err(failed)
}

/// Removes an empty directory, and waits until that is durable. What is never listed counts.
pub fn remove_directory<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<(), Refused> {
    let (directory, name) = enter_to_change(kernel, place)?;
    let name = name.ok_or(ErrorCode::NoSuchDirectory)?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorCode::NoSuchDirectory.into(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
            ErrorCode::NotEmpty.into()
        }
        _ => unwritable("removing", path_of(place, &place.relative), error),
    };
    kernel.remove_directory(&directory, name).map_err(failed)?;
    kernel.sync(&directory).map_err(failed)
}

/// Sets when a file or a directory was last changed, in seconds since 1970, and waits until that is durable.
pub fn set_modified<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
    modified: i64,
) -> Result<(), Refused> {
    let (directory, name) = enter_to_change(kernel, place)?;
    let name = name.ok_or(ErrorCode::NoSuchFile)?;
    match found_at(kernel, (&directory, name), place, ErrorCode::NoSuchFile)?.kind {
        Kind::File | Kind::Directory => {}
        Kind::Link | Kind::Other => return Err(ErrorCode::NoSuchFile.into()),
    }
    let failed = |error| {
        unwritable(
            "setting the time of",
            path_of(place, &place.relative),
            error,
        )
    };
    kernel
        .set_modified(&directory, name, modified)
        .map_err(failed)?;
    // What cannot be opened to be synced keeps its time too, unless the power fails.
    match kernel.open_beneath(&directory, name, Open::Read) {
        Ok(file) => kernel.sync(&file).map_err(failed),
        Err(_) => Ok(()),
    }
}

/// Bytes that can still be written in a directory, or beside a file.
pub fn space<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<u64, Refused> {
    let root = open_root(kernel, place)?;
    let directory = match place.relative.split('/').all(is_name) {
        true => kernel.open_beneath(&root, &place.relative, Open::Directory),
        false => Err(io::ErrorKind::NotADirectory.into()),
    };
    let directory = match directory {
        Ok(directory) => directory,
        Err(_) => open_directory(kernel, &root, place, split(&place.relative).0)?,
    };
    let failed = |error| {
        unwritable(
            "asking for the room of",
            path_of(place, &place.relative),
            error,
        )
    };
    kernel.room(&directory).map_err(failed)
}

/// The directory in which something is to be changed, and its name there, where it can be one.
fn enter_to_change<'a, K: Kernel>(
    kernel: &K,
    place: &'a GrantedPath,
) -> Result<(K::File, Option<&'a str>), Refused> {
    let (below, name) = split(&place.relative);
    let root = open_root(kernel, place)?;
    let directory = open_directory(kernel, &root, place, below)?;
    match place.grant.rights.change {
        true => Ok((directory, name)),
        false => Err(ErrorCode::ChangeDenied.into()),
    }
}

/// Bytes of a file; all else counts nothing by itself.
fn file_bytes(found: Option<Status>) -> u64 {
    found
        .filter(|found| found.kind == Kind::File)
        .map_or(0, |found| found.size)
}

fn identity(found: Status) -> (u64, u64) {
    (found.device, found.inode)
}

/// What has a name. What is never served is not there.
fn found_at<K: Kernel>(
    kernel: &K,
    (directory, name): (&K::File, &str),
    place: &GrantedPath,
    absent: ErrorCode,
) -> Result<Status, Refused> {
    match kernel.status_at(directory, name) {
        Ok(found) if found.kind != Kind::Other => Ok(found),
        Ok(_) => Err(absent.into()),
        Err(error) if is_absent(&error) => Err(absent.into()),
        Err(error) => Err(unwritable(
            "looking at",
            path_of(place, &place.relative),
            error,
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::sync::Arc;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::stat::Mode;
    use nix::unistd::{Uid, mkfifo};

    use super::*;
    use crate::kernel::linux::Linux;
    use crate::storage::QuotaLedger;
    use crate::storage::tests::{
        CANARY, CHANGE, DROP_BOX, READ, UPLOAD, World, open_to_all, place, refusal, without_power,
    };

    /// A change where nothing is counted.
    fn make(kernel: &Linux, change: Change) -> Result<(), Refused> {
        let (ledger, any) = (Arc::new(QuotaLedger::default()), Path::new("/"));
        let mut changing = Changing::new(change, ledger.claim_move(any, any, Vec::new()));
        changing.step(kernel).expect("nothing is to be walked")
    }

    fn rename(kernel: &Linux, from: &GrantedPath, to: &GrantedPath) -> Result<(), Refused> {
        let (from, to) = (from.clone(), to.clone());
        make(kernel, Change::Rename { from, to })
    }

    fn remove(kernel: &Linux, place: &GrantedPath) -> Result<(), Refused> {
        make(kernel, Change::Remove(place.clone()))
    }

    /// A granted directory with something of everything in it.
    fn world() -> World {
        let world = World::new();
        fs::create_dir_all(world.at("sub/deep")).unwrap();
        fs::create_dir(world.at("empty")).unwrap();
        fs::write(world.at("file"), "12345").unwrap();
        fs::write(world.at("sub/other"), "other").unwrap();
        fs::write(world.at(".hidden"), "").unwrap();
        symlink("file", world.at("link")).unwrap();
        symlink("sub", world.at("link-sub")).unwrap();
        symlink("../outside", world.at("out")).unwrap();
        symlink("../outside/canary", world.at("out-file")).unwrap();
        mkfifo(&world.at("fifo"), Mode::S_IRWXU).unwrap();
        world
    }

    fn unharmed(world: &World) {
        let canary = fs::read_to_string(world.at("../outside/canary")).unwrap();
        assert_eq!(canary, CANARY);
    }

    #[test]
    fn what_is_there_is_told_to_who_may_read() {
        let world = world();
        let status = |below: &str, rights| {
            let found = refusal(status(&*world.kernel, &world.place(below, rights)));
            found.map(|found| (found.is_directory, found.size))
        };
        let nothing = Err(ErrorCode::NoSuchFile);
        for (below, to_read, to_drop) in [
            ("file", Ok((false, 5)), nothing),
            ("link", Ok((false, 5)), nothing),
            ("link-sub/other", Ok((false, 5)), nothing),
            ("missing", nothing, nothing),
            (".hidden", nothing, nothing),
            ("fifo", nothing, nothing),
            ("out", nothing, nothing),
            ("out-file", nothing, nothing),
            ("..", nothing, nothing),
            ("sub/", nothing, nothing),
            ("file/below", nothing, nothing),
        ] {
            assert_eq!(status(below, READ), to_read, "{below}");
            assert_eq!(status(below, DROP_BOX), to_drop, "{below}");
        }
        for below in ["", "sub", "sub/deep", "link-sub"] {
            assert!(matches!(status(below, DROP_BOX), Ok((true, _))), "{below}");
        }
        let one = super::status(&*world.kernel, &world.place("file", READ)).unwrap();
        let same = super::status(&*world.kernel, &world.place("link", READ)).unwrap();
        assert_eq!((one.identity, one.modified), (same.identity, same.modified));
    }

    #[test]
    fn names_are_given_to_what_is_there() {
        let world = world();
        let renamed = |from: &str, to: &str, rights| {
            let (from, to) = (world.place(from, CHANGE), world.place(to, rights));
            refusal(rename(&world.kernel, &from, &to))
        };
        assert_eq!(renamed("file", "sub/file", UPLOAD), Ok(()));
        assert_eq!(fs::read(world.at("sub/file")).unwrap(), b"12345");
        // What has the name is replaced only by who may, and only where it is a file or a link.
        let taken = Err(ErrorCode::FileExists);
        assert_eq!(renamed("sub/file", "sub/other", UPLOAD), taken);
        assert_eq!(renamed("sub/file", "fifo", CHANGE), taken);
        let directory = Err(ErrorCode::DirectoryExists);
        assert_eq!(renamed("sub/file", "empty", CHANGE), directory);
        assert_eq!(renamed("sub", "sub/other", CHANGE), taken);
        assert_eq!(renamed("sub", "empty", CHANGE), directory);
        assert_eq!(renamed("sub/file", "sub/other", CHANGE), Ok(()));
        assert_eq!(fs::read(world.at("sub/other")).unwrap(), b"12345");
        // A link is renamed and replaced itself.
        assert_eq!(renamed("out-file", "sub/out-file", CHANGE), Ok(()));
        assert_eq!(renamed("sub/other", "sub/out-file", CHANGE), Ok(()));
        assert!(
            fs::symlink_metadata(world.at("sub/out-file"))
                .unwrap()
                .is_file()
        );
        assert_eq!(
            renamed("sub", "sub/deep/sub", CHANGE),
            Err(ErrorCode::IntoItself)
        );
        assert_eq!(renamed("sub", "moved", CHANGE), Ok(()));
        assert_eq!(fs::read(world.at("moved/out-file")).unwrap(), b"12345");
        assert_eq!(renamed("moved", "moved", CHANGE), directory);
        assert_eq!(renamed("moved/out-file", "moved/out-file", CHANGE), Ok(()));
        unharmed(&world);
    }

    #[test]
    fn what_may_not_be_renamed_stays() {
        let world = world();
        let before = world.files();
        for (from, rights, to, expected) in [
            ("file", READ, "new", ErrorCode::ChangeDenied),
            ("file", DROP_BOX, "new", ErrorCode::ChangeDenied),
            ("missing/file", READ, "new", ErrorCode::NoSuchDirectory),
            ("missing", CHANGE, "new", ErrorCode::NoSuchFile),
            (".hidden", CHANGE, "new", ErrorCode::NoSuchFile),
            ("fifo", CHANGE, "new", ErrorCode::NoSuchFile),
            ("", CHANGE, "new", ErrorCode::NoSuchFile),
            ("../outside/canary", CHANGE, "new", ErrorCode::NoSuchFile),
            ("out/canary", CHANGE, "new", ErrorCode::NoSuchDirectory),
            ("file", CHANGE, ".new", ErrorCode::InvalidName),
            ("file", CHANGE, "", ErrorCode::InvalidName),
            ("file", CHANGE, "sub/", ErrorCode::InvalidName),
            ("file", CHANGE, "../outside/new", ErrorCode::InvalidName),
            ("file", CHANGE, "out/new", ErrorCode::NoSuchDirectory),
            ("file", CHANGE, "missing/new", ErrorCode::NoSuchDirectory),
        ] {
            let (from, to) = (world.place(from, rights), world.place(to, CHANGE));
            let renamed = refusal(rename(&world.kernel, &from, &to));
            assert_eq!(renamed, Err(expected), "{from:?} {to:?}");
        }
        let into = world.place("new", READ);
        let renamed = refusal(rename(&world.kernel, &world.place("file", CHANGE), &into));
        assert_eq!(renamed, Err(ErrorCode::UploadDenied));
        assert_eq!(world.files(), before);
        unharmed(&world);
    }

    #[test]
    fn names_move_between_granted_directories_of_one_file_system() {
        let world = world();
        fs::create_dir(world.at("../granted-too")).unwrap();
        let there = place(&world.at("../granted-too"), "file", UPLOAD);
        let from = world.place("file", CHANGE);
        assert_eq!(refusal(rename(&world.kernel, &from, &there)), Ok(()));
        assert_eq!(fs::read(world.at("../granted-too/file")).unwrap(), b"12345");
        if !Uid::effective().is_root() {
            println!("skipped: only root may mount another file system");
            return;
        }
        std::thread::scope(|scope| {
            let elsewhere = || {
                let nothing = None::<&str>;
                if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
                    return println!("skipped: no mounts of its own: {errno}");
                }
                let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
                mount(nothing, Path::new("/"), nothing, private, nothing).unwrap();
                let (none, small) = (MsFlags::empty(), Some("size=1m"));
                mount(nothing, &world.at("empty"), Some("tmpfs"), none, small).unwrap();
                let (from, to) = (
                    world.place("sub/other", CHANGE),
                    world.place("empty/x", CHANGE),
                );
                let renamed = refusal(rename(&world.kernel, &from, &to));
                assert_eq!(renamed, Err(ErrorCode::CrossDevice));
            };
            scope.spawn(elsewhere).join().unwrap();
        });
    }

    #[test]
    fn files_links_and_empty_directories_are_removed() {
        let world = world();
        let removed = |below, rights| refusal(remove(&world.kernel, &world.place(below, rights)));
        let gone = |below, rights| {
            refusal(remove_directory(
                &*world.kernel,
                &world.place(below, rights),
            ))
        };
        for below in ["file", "link", "link-sub", "out", "out-file"] {
            assert_eq!(
                removed(below, UPLOAD),
                Err(ErrorCode::ChangeDenied),
                "{below}"
            );
            assert_eq!(removed(below, CHANGE), Ok(()), "{below}");
            assert_eq!(
                removed(below, CHANGE),
                Err(ErrorCode::NoSuchFile),
                "{below}"
            );
        }
        for below in ["empty", "fifo", ".hidden", "", "..", "sub/"] {
            assert_eq!(
                removed(below, CHANGE),
                Err(ErrorCode::NoSuchFile),
                "{below}"
            );
        }
        assert_eq!(
            removed("missing/file", READ),
            Err(ErrorCode::NoSuchDirectory)
        );
        assert_eq!(removed("sub/other", CHANGE), Ok(()));

        symlink("empty", world.at("link")).unwrap();
        for (below, expected) in [
            ("sub", ErrorCode::NotEmpty),
            ("link", ErrorCode::NoSuchDirectory),
            ("fifo", ErrorCode::NoSuchDirectory),
            ("missing", ErrorCode::NoSuchDirectory),
            ("", ErrorCode::NoSuchDirectory),
            ("../outside", ErrorCode::NoSuchDirectory),
        ] {
            assert_eq!(gone(below, CHANGE), Err(expected), "{below}");
        }
        assert_eq!(gone("empty", UPLOAD), Err(ErrorCode::ChangeDenied));
        for below in ["empty", "sub/deep", "sub"] {
            assert_eq!(gone(below, CHANGE), Ok(()), "{below}");
        }
        // What is never listed is no less there.
        fs::create_dir(world.at("kept")).unwrap();
        fs::write(world.at("kept/.hidden"), "").unwrap();
        assert_eq!(gone("kept", CHANGE), Err(ErrorCode::NotEmpty));
        unharmed(&world);
    }

    #[test]
    fn times_are_set_of_files_and_directories_and_never_through_a_link() {
        let world = world();
        let set = |below, rights| {
            let place = world.place(below, rights);
            refusal(set_modified(&*world.kernel, &place, 1_000_000_000))
        };
        for below in ["file", "sub", "link-sub/other"] {
            assert_eq!(set(below, UPLOAD), Err(ErrorCode::ChangeDenied));
            assert_eq!(set(below, CHANGE), Ok(()));
            let found = status(&*world.kernel, &world.place(below, READ)).unwrap();
            assert_eq!(found.modified, 1_000_000_000);
        }
        for below in ["link", "out-file", "fifo", ".hidden", "missing", ""] {
            assert_eq!(set(below, CHANGE), Err(ErrorCode::NoSuchFile), "{below}");
        }
    }

    #[test]
    fn space_is_told_of_directories_and_of_what_may_come_there() {
        let world = world();
        let space = |below| refusal(space(&*world.kernel, &world.place(below, READ)));
        for below in ["", "sub", "file", "new", "sub/new"] {
            assert!(space(below).unwrap() > 0, "{below}");
        }
        assert_eq!(space("missing/new"), Err(ErrorCode::NoSuchDirectory));
        assert_eq!(space("out/new"), Err(ErrorCode::NoSuchDirectory));
    }

    #[test]
    fn what_the_server_may_not_change_is_refused_and_the_log_knows_why() {
        let world = world();
        open_to_all(&world);
        fs::set_permissions(world.at(""), PermissionsExt::from_mode(0o555)).unwrap();
        without_power(|| {
            let place = |below| world.place(below, CHANGE);
            for (done, doing) in [
                (
                    rename(&world.kernel, &place("file"), &place("new")),
                    "renaming",
                ),
                (remove(&world.kernel, &place("file")), "removing"),
                (
                    remove_directory(&*world.kernel, &place("empty")),
                    "removing",
                ),
            ] {
                let refused = done.unwrap_err();
                assert_eq!(refused.refusal, ErrorCode::FileUnwritable);
                assert_eq!(refused.fault.unwrap().doing, doing);
            }
        });
    }
}
