//! A file on its way in: nobody sees it before it is whole and durable, and nothing of it stays where it does not
//! become so.
//!
//! It comes into a file without a name, which the kernel forgets with its handle. Where the file system has none, it is
//! a dot-led name that [`super::leftovers`] knows, locked for as long as somebody writes to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Refused, check_free, check_room, enter, is_replaceable, path_of, unwritable};
use crate::kernel::Kernel;
use crate::protocol::{Place, Refusal};

/// Names that are tried for a temporary file; that even the first is taken is beyond all likelihood.
const ATTEMPTS_MAX: usize = 8;

/// An upload that has begun. Dropped, it leaves nothing behind.
pub struct Incoming<K: Kernel> {
    kernel: Arc<K>,
    directory: K::File,
    file: K::File,
    /// The name that it is to get.
    name: String,
    /// Whether what has the name then may be replaced.
    replace: bool,
    /// A name that it has by now, to be removed.
    temporary: Option<String>,
    /// Bytes that have been written.
    offset: u64,
    /// Bytes that were announced.
    length: u64,
    /// For faults.
    path: PathBuf,
}

/// Makes ready to receive a file of `length` bytes: judges its name, and reserves room where the file system can.
pub fn create<K: Kernel>(
    kernel: &Arc<K>,
    place: &Place,
    length: u64,
) -> Result<Incoming<K>, Refused> {
    create_with(kernel, place, length, K::create_unnamed)
}

/// [`create`] with another way to an unnamed file, for the tests.
fn create_with<K: Kernel>(
    kernel: &Arc<K>,
    place: &Place,
    length: u64,
    create_unnamed: fn(&K, &K::File) -> io::Result<K::File>,
) -> Result<Incoming<K>, Refused> {
    let (directory, name) = enter(&**kernel, place)?;
    check_free(&**kernel, &directory, name, place)?;
    let path = path_of(place, &place.below);
    check_room(&**kernel, &directory, length, &path)?;
    let made = match create_unnamed(kernel, &directory) {
        Err(error) if has_no_unnamed(&error) => create_named(&**kernel, &directory),
        result => result.map(|file| (file, None)),
    };
    let (file, temporary) = made.map_err(|error| unwritable("making", path.clone(), error))?;
    let incoming = Incoming {
        kernel: kernel.clone(),
        directory,
        file,
        name: name.to_owned(),
        replace: place.grant.rights.change,
        temporary,
        offset: 0,
        length,
        path,
    };
    match kernel.reserve(&incoming.file, length) {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => {
            Err(incoming.failed("reserving room for", error))
        }
        _ => Ok(incoming),
    }
}

impl<K: Kernel> Incoming<K> {
    /// Where it is to lie: the granted directory's path and a client's words below it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that were announced.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that are still to come.
    pub fn left(&self) -> u64 {
        self.length - self.offset
    }

    /// Writes the next bytes, at most [`Incoming::left`] of them. After a refusal nothing more can be done but to drop it.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        assert!(bytes.len() as u64 <= self.left(), "more than was announced");
        while !bytes.is_empty() {
            match self.kernel.write_at(&self.file, bytes, self.offset) {
                Ok(0) => return Err(self.failed("writing", io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.offset += written as u64;
                    bytes = &bytes[written..];
                }
                Err(error) => return Err(self.failed("writing", error)),
            }
        }
        Ok(())
    }

    /// Gives the whole file its name, once its content is on the disk, and waits until the name is there too. What was
    /// there before is replaced whole and at once, and only where the user may; a link is replaced, not followed.
    ///
    /// Where only the very last step fails, the file is there and whole, and may be gone after a crash.
    pub fn commit(mut self) -> Result<(), Refused> {
        assert_eq!(self.left(), 0, "not all has come");
        self.kernel
            .sync(&self.file)
            .map_err(|error| self.failed("syncing", error))?;
        match self.publish() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !self.replace {
                    return Err(Refusal::FileExists.into());
                }
                self.publish_over()?;
            }
            result => result.map_err(|error| self.failed("naming", error))?,
        }
        self.kernel
            .sync(&self.directory)
            .map_err(|error| self.failed("syncing", error))
    }

    /// Gives the file its name, which must be new.
    fn publish(&mut self) -> io::Result<()> {
        let Some(temporary) = &self.temporary else {
            return self.kernel.link(&self.file, &self.directory, &self.name);
        };
        let (from, to) = (
            (&self.directory, &**temporary),
            (&self.directory, &*self.name),
        );
        match self.kernel.rename(from, to, false) {
            // A file system that cannot rename so may know a second name; the drop takes the first.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.kernel.link(&self.file, &self.directory, &self.name)
            }
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            error => error,
        }
    }

    /// Gives the file a name that a file or a link has.
    fn publish_over(&mut self) -> Result<(), Refused> {
        match self.kernel.status_at(&self.directory, &self.name) {
            Ok(found) if !is_replaceable(found.kind) => return Err(Refusal::FileExists.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("looking at", error));
            }
            _ => {}
        }
        // To rename over it the file needs a name first, and before that the lock, or a sweep could take it.
        if self.temporary.is_none() {
            let _ = self.kernel.lock(&self.file); // where there are no locks, there is no sweep
            let link = |name: &str| self.kernel.link(&self.file, &self.directory, name);
            let (name, ()) =
                new_name(&*self.kernel, link).map_err(|error| self.failed("naming", error))?;
            self.temporary = Some(name);
        }
        let temporary = self.temporary.as_deref().expect("it has one by now");
        let (from, to) = ((&self.directory, temporary), (&self.directory, &*self.name));
        match self.kernel.rename(from, to, true) {
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                Err(Refusal::FileExists.into())
            }
            Err(error) => Err(self.failed("naming", error)),
        }
    }

    fn failed(&self, doing: &'static str, error: io::Error) -> Refused {
        unwritable(doing, self.path.clone(), error)
    }
}

impl<K: Kernel> Drop for Incoming<K> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // If this fails too, the sweep after the next start finds it.
            let _ = self.kernel.remove(&self.directory, temporary);
        }
    }
}

/// Whether `name` is one that a temporary file is given here.
pub(super) fn is_temporary(name: &str) -> bool {
    let digits = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX));
    digits.is_some_and(|digits| {
        digits.len() == 16
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

const PREFIX: &str = ".tidegate-";
const SUFFIX: &str = ".part";

/// Makes something under a temporary name that nobody else has.
fn new_name<K: Kernel, T>(
    kernel: &K,
    make: impl Fn(&str) -> io::Result<T>,
) -> io::Result<(String, T)> {
    for _ in 0..ATTEMPTS_MAX {
        let name = format!("{PREFIX}{:016x}{SUFFIX}", kernel.random()?);
        match make(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|made| (name, made)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A new file with a temporary name, locked.
fn create_named<K: Kernel>(
    kernel: &K,
    directory: &K::File,
) -> io::Result<(K::File, Option<String>)> {
    let make = |name: &str| {
        let file = kernel.create_named(directory, name)?;
        match kernel.lock(&file) {
            // A sweep was there first and is about to remove it: as good as taken.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            _ => match kernel.status_at(directory, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(io::ErrorKind::AlreadyExists.into()) // it has removed it already
                }
                _ => Ok(file),
            },
        }
    };
    new_name(kernel, make).map(|(name, file)| (file, Some(name)))
}

/// Whether an error says that there are no unnamed files here: the file system's word, or that of a kernel that takes
/// O_TMPFILE for a directory.
fn has_no_unnamed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use nix::errno::Errno;
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::stat::Mode;
    use nix::unistd::{Uid, mkfifo};

    use super::super::tests::{
        CANARY, CHANGE, DROP_BOX, READ, UPLOAD, World, open_to_all, refusal, without_power,
    };
    use super::super::{Leftovers, room};
    use super::*;
    use crate::kernel::linux::Linux;

    type Create = fn(&Arc<Linux>, &Place, u64) -> Result<Incoming<Linux>, Refused>;

    /// Both ways: without a name, and on a file system that has only named files.
    const WAYS: [Create; 2] = [create, |kernel, place, length| {
        create_with(kernel, place, length, |_, _| Err(Errno::EOPNOTSUPP.into()))
    }];

    fn names(world: &World) -> Vec<String> {
        world.files().into_iter().map(|(name, _)| name).collect()
    }

    fn file(name: &str, content: &str) -> (String, String) {
        (name.to_owned(), content.to_owned())
    }

    #[test]
    fn an_upload_appears_when_it_is_whole() {
        for create in WAYS {
            let world = World::new();
            for rights in [UPLOAD, CHANGE, DROP_BOX] {
                let name = format!("{rights:?}");
                let before = names(&world);
                let mut incoming = create(&world.kernel, &world.place(&name, rights), 11).unwrap();
                incoming.write(b"hello ").unwrap();
                assert_eq!(incoming.left(), 5);
                incoming.write(b"").unwrap();
                let shown = names(&world).into_iter().filter(|name| !is_temporary(name));
                assert_eq!(shown.collect::<Vec<_>>(), before);
                incoming.write(b"world").unwrap();
                incoming.commit().unwrap();
                assert_eq!(names(&world).len(), before.len() + 1);
                assert_eq!(fs::read_to_string(world.at(&name)).unwrap(), "hello world");
            }
            let empty = create(&world.kernel, &world.place("empty", UPLOAD), 0).unwrap();
            empty.commit().unwrap();
            assert_eq!(world.files().last().unwrap(), &file("empty", ""));
        }
    }

    #[test]
    fn an_upload_that_is_given_up_leaves_nothing() {
        for create in WAYS {
            let world = World::new();
            fs::write(world.at("old"), "old").unwrap();
            let mut new = create(&world.kernel, &world.place("new", UPLOAD), 11).unwrap();
            let mut old = create(&world.kernel, &world.place("old", CHANGE), 11).unwrap();
            new.write(b"hello").unwrap();
            old.write(b"hello").unwrap();
            drop((new, old));
            assert_eq!(world.files(), [file("old", "old")]);
        }
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_replaced_only_by_who_may() {
        for create in WAYS {
            let world = World::new();
            let upload = |name, rights| {
                let mut incoming = create(&world.kernel, &world.place(name, rights), 3).unwrap();
                incoming.write(b"new").unwrap();
                incoming
            };
            let refused = upload("file", UPLOAD);
            let replacing = upload("file", CHANGE);
            let later = upload("file", CHANGE);
            fs::write(world.at("file"), "old").unwrap();
            let reader = fs::File::open(world.at("file")).unwrap();
            assert_eq!(refusal(refused.commit()), Err(Refusal::FileExists));
            assert_eq!(world.files().last().unwrap(), &file("file", "old"));
            replacing.commit().unwrap();
            later.commit().unwrap();
            assert_eq!(world.files(), [file("file", "new")]);
            assert_eq!(std::io::read_to_string(reader).unwrap(), "old");

            let directory = upload("directory", CHANGE);
            let fifo = upload("fifo", CHANGE);
            fs::create_dir(world.at("directory")).unwrap();
            mkfifo(&world.at("fifo"), Mode::S_IRWXU).unwrap();
            for incoming in [directory, fifo] {
                assert_eq!(refusal(incoming.commit()), Err(Refusal::FileExists));
            }
            assert_eq!(world.files(), [file("file", "new")]);
        }
    }

    #[test]
    fn a_link_is_replaced_and_never_written_through() {
        for create in WAYS {
            let world = World::new();
            fs::write(world.at("target"), "target").unwrap();
            for (link, to) in [
                ("inside", "target"),
                ("out", "../outside/canary"),
                ("nowhere", "x"),
            ] {
                symlink(to, world.at(link)).unwrap();
                let refused = create(&world.kernel, &world.place(link, UPLOAD), 3);
                assert_eq!(refusal(refused).err(), Some(Refusal::FileExists));
                let mut incoming = create(&world.kernel, &world.place(link, CHANGE), 3).unwrap();
                incoming.write(b"new").unwrap();
                incoming.commit().unwrap();
                assert!(fs::symlink_metadata(world.at(link)).unwrap().is_file());
            }
            let new = |name| file(name, "new");
            let expected = [
                new("inside"),
                new("nowhere"),
                new("out"),
                file("target", "target"),
            ];
            assert_eq!(world.files(), expected);
            let canary = fs::read_to_string(world.at("../outside/canary")).unwrap();
            assert_eq!(canary, CANARY);
        }
    }

    #[test]
    fn what_cannot_be_received_is_refused_before_a_byte() {
        let world = World::new();
        fs::write(world.at("taken"), "").unwrap();
        symlink("../outside", world.at("out")).unwrap();
        for (below, rights, length, expected) in [
            ("new", READ, 1, Refusal::MayNotUpload),
            ("taken", UPLOAD, 1, Refusal::FileExists),
            ("../outside/new", CHANGE, 1, Refusal::BadName),
            ("out/new", CHANGE, 1, Refusal::NoSuchDirectory),
            ("missing/new", CHANGE, 1, Refusal::NoSuchDirectory),
            (
                ".tidegate-0123456789abcdef.part",
                CHANGE,
                1,
                Refusal::BadName,
            ),
            ("new", UPLOAD, i64::MAX as u64, Refusal::NoRoom),
            ("new", UPLOAD, u64::MAX, Refusal::NoRoom),
        ] {
            let refused = create(&world.kernel, &world.place(below, rights), length);
            assert_eq!(refusal(refused).err(), Some(expected), "{below}");
        }
        assert_eq!(world.files(), [file("taken", "")]);
        assert_eq!(fs::read_dir(world.at("../outside")).unwrap().count(), 1);
    }

    #[test]
    fn a_sweep_leaves_alone_what_is_on_its_way() {
        let world = World::new();
        for create in WAYS {
            let mut incoming = create(&world.kernel, &world.place("file", CHANGE), 3).unwrap();
            incoming.write(b"new").unwrap();
            let mut sweep = Leftovers::new(&world.at(""));
            while sweep.step(&*world.kernel) {}
            assert_eq!(sweep.removed(), 0);
            incoming.commit().unwrap();
            assert_eq!(world.files(), [file("file", "new")]);
        }
    }

    #[test]
    fn who_may_not_write_there_is_told_and_the_log_knows_why() {
        let world = World::new();
        open_to_all(&world);
        fs::set_permissions(world.at(""), PermissionsExt::from_mode(0o555)).unwrap();
        without_power(|| {
            for create in WAYS {
                let place = world.place("new", UPLOAD);
                let refused = create(&world.kernel, &place, 1).err().unwrap();
                assert_eq!(refused.refusal, Refusal::FileUnwritable);
                let fault = refused.fault.unwrap();
                assert_eq!((fault.doing, fault.path), ("making", world.at("new")));
            }
        });
    }

    #[test]
    fn a_full_file_system_is_said_to_be_one() {
        if !Uid::effective().is_root() {
            println!("skipped: only root may mount a small file system");
            return;
        }
        let world = World::new();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| on_a_full_file_system(&world));
            thread.join().unwrap();
        });
    }

    /// Runs on a thread with mounts of its own.
    fn on_a_full_file_system(world: &World) {
        const MIB: u64 = 1 << 20;
        let nothing = None::<&str>;
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
            println!("skipped: no mounts of its own: {errno}");
            return;
        }
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(nothing, Path::new("/"), nothing, private, nothing).unwrap();
        let (none, small) = (MsFlags::empty(), Some("size=1m"));
        mount(nothing, &world.at(""), Some("tmpfs"), none, small).unwrap();

        let upload = |name, length| WAYS[0](&world.kernel, &world.place(name, CHANGE), length);
        assert_eq!(
            refusal(upload("large", 2 * MIB)).err(),
            Some(Refusal::NoRoom)
        );
        assert_eq!(
            refusal(room(&*world.kernel, &world.at(""), 2 * MIB)),
            Err(Refusal::NoRoom)
        );

        // What is reserved for the first is not there for the second.
        let first = upload("first", MIB / 4 * 3).unwrap();
        assert_eq!(
            refusal(upload("second", MIB / 2)).err(),
            Some(Refusal::NoRoom)
        );
        drop(first);

        // Room that is taken although it was reserved, as a file system may do that cannot reserve.
        fs::write(world.at("old"), "old").unwrap();
        for create in WAYS {
            let mut incoming = create(&world.kernel, &world.place("old", CHANGE), 0).unwrap();
            incoming.length = 2 * MIB;
            let written = incoming.write(&vec![b'x'; 2 * MIB as usize]);
            assert_eq!(refusal(written), Err(Refusal::NoRoom));
            drop(incoming);
            assert_eq!(world.files(), [file("old", "old")]);
        }
        upload("third", MIB / 2).unwrap();
    }
}
