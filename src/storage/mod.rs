//! What people fetch: names become files beneath a granted directory, here and nowhere else.
//!
//! A name is resolved by the kernel in one call that cannot leave the granted directory; nothing is looked at first and
//! opened later. The granted directory itself is opened anew each time, so that one which was replaced is never served
//! stale.
//!
//! Must not know: sessions, sockets, the wire's words.

pub mod listing;
pub mod modify;
pub mod open_files;
pub mod orphans;
pub mod quota;
pub mod upload;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::domain::error::ErrorCode;
use crate::domain::path::{GrantedPath, is_name};
use crate::kernel::{Kernel, Kind, Open, Status};

pub use crate::storage::listing::{Listing, list};
pub use crate::storage::modify::{Change, Changing, space, status};
pub use crate::storage::open_files::{OpenFile, OpenFileCache};
pub use crate::storage::orphans::OrphanSweep;
pub use crate::storage::quota::{Claim, Count, QuotaLedger};
pub use crate::storage::upload::{StagedUpload, Wanted, create, create_unique};

/// What went wrong on our side, for the operator's log.
#[derive(Debug)]
pub struct Fault {
    /// What was tried: `opening`, `writing`, …
    pub doing: &'static str,
    /// On what. Below the granted directory these are a client's words, to be escaped like all of them.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl Fault {
    /// Whether more open files than the process or the system may have were asked for.
    pub fn lacks_descriptors(&self) -> bool {
        let errno = self.source.raw_os_error().map(Errno::from_raw);
        matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.doing, self.path.display(), self.source)
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A refusal, with the fault behind it where the operator should know.
#[derive(Debug)]
pub struct Refused {
    /// What the client is told.
    pub refusal: ErrorCode,
    /// What the log is told; `None` where the client alone is at fault.
    pub fault: Option<Fault>,
}

impl From<ErrorCode> for Refused {
    fn from(refusal: ErrorCode) -> Refused {
        Refused {
            refusal,
            fault: None,
        }
    }
}

/// Whether an upload could be given the name `place`, as far as can be told before it comes.
pub fn judge<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<(), Refused> {
    let (directory, name) = enter(kernel, place)?;
    check_free(kernel, &directory, name, place)
}

/// Whether the file system of the directory at an operator's `path` has room for `length` bytes.
pub fn room<K: Kernel>(kernel: &K, path: &Path, length: u64) -> Result<(), Refused> {
    let directory = kernel
        .open_root(path)
        .map_err(|error| directory_refused(path.to_owned(), error))?;
    check_room(kernel, &directory, length, path)
}

/// Makes a directory and waits until its name is durable.
pub fn make_directory<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<(), Refused> {
    let (directory, name) = enter(kernel, place)?;
    match kernel.make_directory(&directory, name) {
        Ok(()) => kernel
            .sync(&directory)
            .map_err(|error| unwritable("syncing", path_of(place, &place.relative), error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let root = open_root(kernel, place)?;
            match look(kernel, &root, &place.relative) {
                Ok(found) if found.kind == Kind::Directory => {
                    Err(ErrorCode::DirectoryExists.into())
                }
                _ => Err(ErrorCode::FileExists.into()),
            }
        }
        Err(error) => Err(unwritable("making", path_of(place, &place.relative), error)),
    }
}

/// The directory in which something new is to be made, and its name there. The refusal about the directory comes before
/// the one about the right, and that before the one about the name.
fn enter<'a, K: Kernel>(kernel: &K, place: &'a GrantedPath) -> Result<(K::File, &'a str), Refused> {
    let (below, name) = split(&place.relative);
    let root = open_root(kernel, place)?;
    let directory = open_directory(kernel, &root, place, below)?;
    if !place.grant.rights.may_add() {
        return Err(ErrorCode::UploadDenied.into());
    }
    Ok((directory, name.ok_or(ErrorCode::InvalidName)?))
}

/// Whether a file may take `name`: it is new, or a file or a link that the user may replace.
fn check_free<K: Kernel>(
    kernel: &K,
    directory: &K::File,
    name: &str,
    place: &GrantedPath,
) -> Result<(), Refused> {
    match kernel.status_at(directory, name) {
        Ok(found) if place.grant.rights.change && is_replaceable(found.kind) => Ok(()),
        Ok(_) => Err(ErrorCode::FileExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unwritable(
            "looking at",
            path_of(place, &place.relative),
            error,
        )),
    }
}

/// Whether a complete upload may be renamed over it.
fn is_replaceable(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Link)
}

fn check_room<K: Kernel>(
    kernel: &K,
    directory: &K::File,
    length: u64,
    path: &Path,
) -> Result<(), Refused> {
    match kernel.room(directory) {
        Ok(room) if room >= length => Ok(()),
        Ok(_) => Err(ErrorCode::NoSpace.into()),
        Err(error) => Err(unwritable("asking for the room of", path.to_owned(), error)),
    }
}

/// Parts a path below a granted directory into the directory and the name in it. A part that cannot be a name ends the
/// directory before it, and there is no name: so `sub/../x` is a bad name in `sub`, not one in a directory that nobody
/// has.
fn split(below: &str) -> (&str, Option<&str>) {
    let mut start = 0;
    loop {
        let (part, is_last) = match below[start..].split_once('/') {
            Some((part, _)) => (part, false),
            None => (&below[start..], true),
        };
        if !is_name(part) || is_last {
            let directory = &below[..start.saturating_sub(1)];
            return (directory, is_name(part).then_some(part));
        }
        start += part.len() + 1;
    }
}

fn open_root<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<K::File, Refused> {
    kernel
        .open_root(&place.grant.path)
        .map_err(|error| directory_refused(place.grant.path.clone(), error))
}

/// Opens a directory below the granted one, to list it or to make names in it.
fn open_directory<K: Kernel>(
    kernel: &K,
    root: &K::File,
    place: &GrantedPath,
    below: &str,
) -> Result<K::File, Refused> {
    kernel
        .open_beneath(root, below, Open::Directory)
        .map_err(|error| directory_refused(path_of(place, below), error))
}

/// The status of what a path leads to, links within the granted directory followed.
fn look<K: Kernel>(kernel: &K, root: &K::File, below: &str) -> io::Result<Status> {
    kernel.status(&kernel.open_beneath(root, below, Open::Look)?)
}

/// The path of something in a granted directory, for a fault.
fn path_of(place: &GrantedPath, below: &str) -> PathBuf {
    match below {
        "" => place.grant.path.clone(),
        below => place.grant.path.join(below),
    }
}

fn directory_refused(path: PathBuf, error: io::Error) -> Refused {
    if is_absent(&error) {
        return ErrorCode::NoSuchDirectory.into();
    }
    refused(ErrorCode::DirectoryUnreadable, "opening", path, error)
}

/// The refusal for what cannot be made, written or given its name.
fn unwritable(doing: &'static str, path: PathBuf, error: io::Error) -> Refused {
    use io::ErrorKind::{FileTooLarge, InvalidFilename, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => {
            refused(ErrorCode::NoSpace, doing, path, error)
        }
        // Some file systems take less than 255 bytes.
        InvalidFilename => ErrorCode::InvalidName.into(),
        _ => refused(ErrorCode::FileUnwritable, doing, path, error),
    }
}

fn refused(refusal: ErrorCode, doing: &'static str, path: PathBuf, source: io::Error) -> Refused {
    let fault = Some(Fault {
        doing,
        path,
        source,
    });
    Refused { refusal, fault }
}

/// Whether an error of an opening says that there is nothing to serve: no such name, a step that leads outside or round
/// in circles, a name that is too long, a socket or a device without a driver.
fn is_absent(error: &io::Error) -> bool {
    use Errno::{ELOOP, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ENXIO, EXDEV};
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(ENOENT | ENOTDIR | ELOOP | EXDEV | ENAMETOOLONG | ENXIO | ENODEV)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use nix::sys::stat::Mode;
    use nix::unistd::{Uid, mkfifo, setfsuid};
    use tempfile::TempDir;

    use super::*;
    use crate::domain::access::{Grant, Rights};
    use crate::kernel::linux::Linux;

    pub(crate) const READ: Rights = Rights {
        read: true,
        upload: false,
        change: false,
        quota: None,
    };
    pub(crate) const UPLOAD: Rights = Rights {
        upload: true,
        ..READ
    };
    pub(crate) const CHANGE: Rights = Rights {
        change: true,
        ..READ
    };
    pub(crate) const DROP_BOX: Rights = Rights {
        read: false,
        ..UPLOAD
    };

    /// A granted directory, and outside of it a file that nobody may get.
    pub(crate) struct World {
        pub(crate) kernel: Arc<Linux>,
        folder: TempDir,
    }

    pub(crate) const CANARY: &str = "canary: nobody may get this";

    impl World {
        pub(crate) fn new() -> World {
            World::within(tempfile::tempdir().unwrap())
        }

        /// In a file system in memory, if there is one, for what is many.
        pub(crate) fn in_memory() -> World {
            World::within(
                tempfile::tempdir_in("/dev/shm")
                    .or_else(|_| tempfile::tempdir())
                    .unwrap(),
            )
        }

        fn within(folder: TempDir) -> World {
            let kernel = Arc::new(Linux::new().unwrap());
            let world = World { kernel, folder };
            fs::create_dir_all(world.at("")).unwrap();
            fs::create_dir(world.at("../outside")).unwrap();
            fs::write(world.at("../outside/canary"), CANARY).unwrap();
            world
        }

        /// The path of something in the granted directory.
        pub(crate) fn at(&self, below: &str) -> PathBuf {
            self.folder.path().join("granted").join(below)
        }

        pub(crate) fn place(&self, below: &str, rights: Rights) -> GrantedPath {
            place(&self.at(""), below, rights)
        }

        /// The files in the granted directory, temporary ones too: names and contents.
        pub(crate) fn files(&self) -> Vec<(String, String)> {
            let mut files: Vec<_> = (fs::read_dir(self.at("")).unwrap())
                .map(|entry| entry.unwrap())
                .filter(|entry| entry.file_type().unwrap().is_file())
                .map(|entry| {
                    let name = entry.file_name().into_string().unwrap();
                    (name, fs::read_to_string(entry.path()).unwrap())
                })
                .collect();
            files.sort();
            files
        }
    }

    pub(crate) fn place(path: &Path, below: &str, rights: Rights) -> GrantedPath {
        let grant = Arc::new(Grant {
            name: "Movies".to_owned(),
            rights,
            path: path.to_owned(),
        });
        let below = below.to_owned();
        GrantedPath {
            grant,
            relative: below,
        }
    }

    /// Runs something on a thread without root's power over files.
    pub(crate) fn without_power(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if Uid::effective().is_root() {
                    setfsuid(Uid::from_raw(65_534)); // of this thread alone
                }
                test();
            });
            thread.join().unwrap();
        });
    }

    pub(crate) fn refusal<T>(result: Result<T, Refused>) -> Result<T, ErrorCode> {
        result.map_err(|refused| refused.refusal)
    }

    #[test]
    fn names_that_can_be() {
        let longest = "ä".repeat(127) + "x";
        for good in [
            "a",
            "Free Fire",
            "a.b",
            "ü",
            "~",
            "-rf",
            "a\\b",
            "%2e%2e",
            "\u{feff}",
            &longest,
        ] {
            assert!(is_name(good), "{good:?}");
        }
        let too_long = "ä".repeat(128);
        for bad in [
            "", ".", "..", ".a", "a/b", "/", "a\0", "\n", "a\tb", "\x7f", "\u{80}", "\u{9f}x",
            &too_long,
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_path_is_parted_before_what_cannot_be_a_name() {
        for (below, directory, name) in [
            ("x", "", Some("x")),
            ("sub/deep/x", "sub/deep", Some("x")),
            ("", "", None),
            ("/x", "", None),
            ("sub/", "sub", None),
            ("sub//x", "sub", None),
            ("../x", "", None),
            ("sub/../x", "sub", None),
            ("sub/.hidden/deep/x", "sub", None),
            ("sub/x\n", "sub", None),
        ] {
            assert_eq!(split(below), (directory, name), "{below:?}");
        }
    }

    #[test]
    fn the_first_refusal_is_about_the_directory_then_the_right_then_the_name() {
        let world = World::new();
        fs::create_dir(world.at("sub")).unwrap();
        fs::write(world.at("sub/taken"), "").unwrap();
        for (below, rights, expected) in [
            ("missing/..", READ, Err(ErrorCode::NoSuchDirectory)),
            ("sub/taken/x", READ, Err(ErrorCode::NoSuchDirectory)),
            ("sub/..", READ, Err(ErrorCode::UploadDenied)),
            ("sub/taken", READ, Err(ErrorCode::UploadDenied)),
            ("sub/../x", UPLOAD, Err(ErrorCode::InvalidName)),
            ("sub/", UPLOAD, Err(ErrorCode::InvalidName)),
            ("", UPLOAD, Err(ErrorCode::InvalidName)),
            ("sub/taken", UPLOAD, Err(ErrorCode::FileExists)),
            ("sub/taken", DROP_BOX, Err(ErrorCode::FileExists)),
            ("sub/new", UPLOAD, Ok(())),
            ("new", DROP_BOX, Ok(())),
            ("sub/taken", CHANGE, Ok(())),
        ] {
            let judged = refusal(judge(&*world.kernel, &world.place(below, rights)));
            assert_eq!(judged, expected, "{below:?} {rights:?}");
        }
        let nowhere = place(&world.at("missing"), "x", UPLOAD);
        let judged = refusal(judge(&*world.kernel, &nowhere));
        assert_eq!(judged, Err(ErrorCode::NoSuchDirectory));
    }

    #[test]
    fn only_a_file_or_a_link_can_be_replaced() {
        let world = World::new();
        fs::write(world.at("file"), "").unwrap();
        fs::create_dir(world.at("directory")).unwrap();
        symlink("nowhere", world.at("dangling")).unwrap();
        symlink("../outside/canary", world.at("leading-out")).unwrap();
        mkfifo(&world.at("fifo"), Mode::S_IRWXU).unwrap();
        for (name, expected) in [
            ("file", Ok(())),
            ("dangling", Ok(())),
            ("leading-out", Ok(())),
            ("directory", Err(ErrorCode::FileExists)),
            ("fifo", Err(ErrorCode::FileExists)),
        ] {
            let judged = refusal(judge(&*world.kernel, &world.place(name, CHANGE)));
            assert_eq!(judged, expected, "{name}");
            let judged = refusal(judge(&*world.kernel, &world.place(name, UPLOAD)));
            assert_eq!(judged, Err(ErrorCode::FileExists), "{name}");
        }
    }

    #[test]
    fn directories_are_made() {
        let world = World::new();
        fs::write(world.at("file"), "").unwrap();
        fs::create_dir(world.at("there")).unwrap();
        symlink("there", world.at("link")).unwrap();
        symlink("../outside", world.at("leading-out")).unwrap();
        for (below, rights, expected) in [
            ("new", UPLOAD, Ok(())),
            ("new", UPLOAD, Err(ErrorCode::DirectoryExists)),
            ("new/deeper", CHANGE, Ok(())),
            ("link/through", DROP_BOX, Ok(())),
            ("there", CHANGE, Err(ErrorCode::DirectoryExists)),
            ("link", CHANGE, Err(ErrorCode::DirectoryExists)),
            ("leading-out", CHANGE, Err(ErrorCode::FileExists)),
            ("file", CHANGE, Err(ErrorCode::FileExists)),
            ("leading-out/new", CHANGE, Err(ErrorCode::NoSuchDirectory)),
            ("other", READ, Err(ErrorCode::UploadDenied)),
            (".other", UPLOAD, Err(ErrorCode::InvalidName)),
            ("new/", UPLOAD, Err(ErrorCode::InvalidName)),
        ] {
            let made = refusal(make_directory(&*world.kernel, &world.place(below, rights)));
            assert_eq!(made, expected, "{below}");
        }
        assert!(world.at("new/deeper").is_dir());
        assert!(world.at("there/through").is_dir());
        assert!(!world.at("../outside/new").exists());
    }

    #[test]
    fn who_may_not_write_there_is_told_and_the_log_knows_why() {
        let world = World::new();
        fs::create_dir(world.at("closed")).unwrap();
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(world.at("closed"), mode(0o555)).unwrap();
        open_to_all(&world);
        without_power(|| {
            let place = world.place("closed/new", UPLOAD);
            assert_eq!(refusal(judge(&*world.kernel, &place)), Ok(()));
            let refused = make_directory(&*world.kernel, &place).unwrap_err();
            assert_eq!(refused.refusal, ErrorCode::FileUnwritable);
            let fault = refused.fault.unwrap().to_string();
            assert!(fault.starts_with("making /"), "{fault}");
            assert!(
                fault.contains("granted/closed/new: Permission denied"),
                "{fault}"
            );
        });
    }

    /// Lets everybody pass to the granted directory.
    pub(crate) fn open_to_all(world: &World) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(world.folder.path(), mode).unwrap();
    }

    #[test]
    fn room_is_told() {
        let world = World::new();
        assert_eq!(refusal(room(&*world.kernel, &world.at(""), 1)), Ok(()));
        let absurd = refusal(room(&*world.kernel, &world.at(""), u64::MAX));
        assert_eq!(absurd, Err(ErrorCode::NoSpace));
        let missing = refusal(room(&*world.kernel, &world.at("missing"), 1));
        assert_eq!(missing, Err(ErrorCode::NoSuchDirectory));
    }
}
