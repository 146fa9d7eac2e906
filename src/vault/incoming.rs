//! A file on its way in: nobody sees it before it is whole and durable, and nothing of it stays where it does not
//! become so.
//!
//! It comes into a file without a name, which the kernel forgets with its handle. Where the file system has none, it is
//! a dot-led name that [`super::leftovers`] knows, locked for as long as somebody writes to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    Refused, check_free, check_room, enter, is_absent, is_replaceable, path_of, refused, unwritable,
};
use crate::kernel::{Kernel, Kind, Open, Status};
use crate::limits::{COPY_SLICE_BYTES, TRANSFER_BUFFER_BYTES};
use crate::protocol::{Base, Place, Refusal};

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
    /// Bytes that it may have at most.
    most: u64,
    base: Option<Found<K>>,
    /// For faults.
    path: PathBuf,
}

/// The file that an upload builds on.
struct Found<K: Kernel> {
    file: K::File,
    /// What had the name then: only as long as it is unchanged, the upload may replace it.
    named: Status,
    /// Where what is copied of it ends.
    end: u64,
}

/// What is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Announced bytes, if any were; room is reserved for them.
    pub length: Option<u64>,
    /// Bytes that the whole file may have.
    pub most: u64,
    /// What they are put behind.
    pub base: Base,
}

/// Makes ready to receive a file: judges its name, and reserves room where the file system can. What it builds on is to
/// be copied by [`Incoming::fill`] before the first byte is written.
pub fn create<K: Kernel>(
    kernel: &Arc<K>,
    place: &Place,
    wanted: Wanted,
) -> Result<Incoming<K>, Refused> {
    create_with(kernel, place, wanted, K::create_unnamed)
}

/// [`create`] under a name in `directory` that nobody has.
pub fn create_unique<K: Kernel>(
    kernel: &Arc<K>,
    directory: &Place,
    most: u64,
) -> Result<Incoming<K>, Refused> {
    let wanted = Wanted {
        length: None,
        most,
        base: Base::Nothing,
    };
    let mut attempt = 1;
    loop {
        let number = kernel.random().map_err(|error| {
            let path = path_of(directory, &directory.below);
            unwritable("naming something in", path, error)
        })?;
        let name = format!("upload-{number:016x}");
        let below = match directory.below.as_str() {
            "" => name,
            below => format!("{below}/{name}"),
        };
        let grant = directory.grant.clone();
        match create(kernel, &Place { grant, below }, wanted) {
            Err(taken) if taken.refusal == Refusal::FileExists && attempt < ATTEMPTS_MAX => {
                attempt += 1;
            }
            result => {
                return result.map(|mut incoming| {
                    incoming.replace = false;
                    incoming
                });
            }
        }
    }
}

/// [`create`] with another way to an unnamed file, for the tests.
fn create_with<K: Kernel>(
    kernel: &Arc<K>,
    place: &Place,
    wanted: Wanted,
    create_unnamed: fn(&K, &K::File) -> io::Result<K::File>,
) -> Result<Incoming<K>, Refused> {
    let (directory, name) = enter(&**kernel, place)?;
    check_free(&**kernel, &directory, name, place)?;
    let path = path_of(place, &place.below);
    let base = open_base(&**kernel, &directory, name, place, wanted.base)?;
    let copied = base.as_ref().map_or(0, |base| base.end);
    let length = copied.saturating_add(wanted.length.unwrap_or(0));
    if length > wanted.most {
        return Err(Refusal::TooLarge.into());
    }
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
        most: wanted.most,
        base,
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

    /// The name that it is to get.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that it has so far, those that it builds on included.
    pub fn length(&self) -> u64 {
        self.offset
    }

    /// Copies a slice of what it builds on; true when nothing of that is left. It may take a while: for a worker.
    pub fn fill(&mut self) -> Result<bool, Refused> {
        let Some(base) = &self.base else {
            return Ok(true);
        };
        let stop = base.end.min(self.offset + COPY_SLICE_BYTES as u64);
        let mut buffer = Vec::new();
        while self.offset < stop {
            let count = (stop - self.offset) as usize;
            let copied = match buffer.is_empty() {
                true => self.kernel.copy(&base.file, &self.file, self.offset, count),
                false => self.copy_through(&base.file, &mut buffer, count),
            };
            match copied {
                Ok(0) => return Err(Refusal::BeyondEnd.into()), // it was cut meanwhile
                Ok(copied) => self.offset += copied as u64,
                Err(error) if buffer.is_empty() && cannot_copy(&error) => {
                    buffer = vec![0; TRANSFER_BUFFER_BYTES];
                }
                Err(error) => return Err(self.failed("copying", error)),
            }
        }
        Ok(self.offset == base.end)
    }

    /// Copies through user space where the kernel cannot do it.
    fn copy_through(&self, from: &K::File, buffer: &mut [u8], count: usize) -> io::Result<usize> {
        let count = count.min(buffer.len());
        let read = self
            .kernel
            .read_at(from, &mut buffer[..count], self.offset)?;
        match read {
            0 => Ok(0),
            _ => self
                .kernel
                .write_at(&self.file, &buffer[..read], self.offset),
        }
    }

    /// Writes the next bytes. After a refusal nothing more can be done but to drop it.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        if bytes.len() as u64 > self.most - self.offset {
            return Err(Refusal::TooLarge.into());
        }
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
            // What others have put there meanwhile is not in what this one builds on.
            Ok(found) if self.base.as_ref().is_some_and(|base| base.named != found) => {
                return Err(Refusal::FileExists.into());
            }
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

/// Opens what an upload builds on: what a reader of that name would get, where it is a file.
fn open_base<K: Kernel>(
    kernel: &K,
    directory: &K::File,
    name: &str,
    place: &Place,
    base: Base,
) -> Result<Option<Found<K>>, Refused> {
    if base == Base::Nothing {
        return Ok(None);
    }
    let open = || {
        let named = kernel.status_at(directory, name)?;
        let root = kernel.open_root(&place.grant.path)?;
        let file = kernel.open_beneath(&root, &place.below, Open::Read)?;
        let status = kernel.status(&file)?;
        io::Result::Ok((named, file, status))
    };
    let found = match open() {
        Ok((named, file, status)) if status.kind == Kind::File => Some((named, file, status.size)),
        Ok(_) => None,
        Err(error) if is_absent(&error) => None,
        Err(error) => {
            let path = path_of(place, &place.below);
            return Err(refused(Refusal::FileUnreadable, "opening", path, error));
        }
    };
    let (named, file, size) = match (found, base) {
        (Some(found), _) => found,
        (None, Base::First(1..)) => return Err(Refusal::BeyondEnd.into()),
        (None, _) => return Ok(None),
    };
    let end = match base {
        Base::First(count) if count > size => return Err(Refusal::BeyondEnd.into()),
        Base::First(count) => count,
        Base::Nothing | Base::All => size,
    };
    Ok(Some(Found { named, file, end }))
}

/// Whether an error says that the kernel cannot copy between these two files; who has no room is told so by a write.
fn cannot_copy(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
    )
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
    const WAYS: [Create; 2] = [
        |kernel, place, length| create(kernel, place, wanted(length)),
        |kernel, place, length| {
            create_with(kernel, place, wanted(length), |_, _| {
                Err(Errno::EOPNOTSUPP.into())
            })
        },
    ];

    fn wanted(length: u64) -> Wanted {
        Wanted {
            length: Some(length),
            most: u64::MAX,
            base: Base::Nothing,
        }
    }

    fn upon(base: Base) -> Wanted {
        Wanted {
            length: None,
            base,
            ..wanted(0)
        }
    }

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
                assert_eq!(incoming.length(), 6);
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
            let refused = create(&world.kernel, &world.place(below, rights), wanted(length));
            assert_eq!(refusal(refused).err(), Some(expected), "{below}");
        }
        assert_eq!(world.files(), [file("taken", "")]);
        assert_eq!(fs::read_dir(world.at("../outside")).unwrap().count(), 1);
    }

    #[test]
    fn an_upload_builds_on_what_is_there_and_replaces_it_whole() {
        let world = World::new();
        for (base, expected) in [
            (Base::Nothing, "new"),
            (Base::First(0), "new"),
            (Base::First(3), "oldnew"),
            (Base::First(11), "old content new"),
            (Base::All, "old content new"),
        ] {
            fs::write(world.at("file"), "old content").unwrap();
            let place = world.place("file", CHANGE);
            let mut incoming = create(&world.kernel, &place, upon(base)).unwrap();
            assert!(incoming.fill().unwrap());
            let text = if expected.len() > 6 { " new" } else { "new" };
            incoming.write(text.as_bytes()).unwrap();
            assert_eq!(fs::read(world.at("file")).unwrap(), b"old content");
            incoming.commit().unwrap();
            assert_eq!(world.files(), [file("file", expected)], "{base:?}");
        }
        let new = create(&world.kernel, &world.place("new", CHANGE), upon(Base::All)).unwrap();
        new.commit().unwrap();
        assert_eq!(fs::read(world.at("new")).unwrap(), b"");
    }

    #[test]
    fn what_cannot_be_built_on_is_refused() {
        let world = World::new();
        fs::write(world.at("file"), "12345").unwrap();
        symlink("file", world.at("link")).unwrap();
        symlink("../outside/canary", world.at("out")).unwrap();
        let refused = |below, rights, base| {
            let place = world.place(below, rights);
            refusal(create(&world.kernel, &place, upon(base))).err()
        };
        assert_eq!(
            refused("file", UPLOAD, Base::All),
            Some(Refusal::FileExists)
        );
        for (below, base) in [
            ("file", 6),
            ("file", u64::MAX),
            ("new", 1),
            ("out", 1),
            ("link", 6),
        ] {
            let base = Base::First(base);
            assert_eq!(
                refused(below, CHANGE, base),
                Some(Refusal::BeyondEnd),
                "{below}"
            );
        }
        // What a link leads to is built on; the link itself is replaced.
        let place = world.place("link", CHANGE);
        let mut incoming = create(&world.kernel, &place, upon(Base::All)).unwrap();
        while !incoming.fill().unwrap() {}
        incoming.write(b"6").unwrap();
        incoming.commit().unwrap();
        assert_eq!(
            world.files(),
            [file("file", "12345"), file("link", "123456")]
        );
        let canary = fs::read_to_string(world.at("../outside/canary")).unwrap();
        assert_eq!(canary, CANARY);
    }

    /// Two who append to one file: the second would take away what the first was told is there.
    #[test]
    fn what_others_have_put_there_meanwhile_is_not_lost() {
        let world = World::new();
        fs::write(world.at("file"), "old").unwrap();
        let append = |text: &str| {
            let place = world.place("file", CHANGE);
            let mut incoming = create(&world.kernel, &place, upon(Base::All)).unwrap();
            assert!(incoming.fill().unwrap());
            incoming.write(text.as_bytes()).unwrap();
            incoming
        };
        let (first, second) = (append("1"), append("2"));
        first.commit().unwrap();
        assert_eq!(refusal(second.commit()), Err(Refusal::FileExists));
        assert_eq!(world.files(), [file("file", "old1")]);
    }

    #[test]
    fn what_is_built_on_is_copied_in_slices_and_may_not_be_cut_meanwhile() {
        let world = World::in_memory();
        let content = vec![b'x'; COPY_SLICE_BYTES + 5];
        fs::write(world.at("file"), &content).unwrap();
        let place = world.place("file", CHANGE);
        let create = || create(&world.kernel, &place, upon(Base::All)).unwrap();
        let mut incoming = create();
        assert!(!incoming.fill().unwrap());
        assert!(incoming.fill().unwrap());
        assert_eq!(incoming.length(), content.len() as u64);
        let mut incoming = create();
        fs::write(world.at("file"), "short").unwrap();
        assert_eq!(refusal(incoming.fill()), Err(Refusal::BeyondEnd));
    }

    #[test]
    fn no_more_than_may_come_is_written() {
        let world = World::new();
        fs::write(world.at("file"), "12345").unwrap();
        let place = world.place("file", CHANGE);
        let most = |most, length, base| {
            let wanted = Wanted { length, most, base };
            create(&world.kernel, &place, wanted)
        };
        let mut incoming = most(3, None, Base::Nothing).unwrap();
        incoming.write(b"123").unwrap();
        assert_eq!(refusal(incoming.write(b"4")), Err(Refusal::TooLarge));
        for (length, base) in [
            (Some(4), Base::Nothing),
            (None, Base::All),
            (Some(1), Base::First(3)),
        ] {
            let refused = refusal(most(3, length, base)).err();
            assert_eq!(refused, Some(Refusal::TooLarge));
        }
    }

    #[test]
    fn a_name_that_nobody_has_is_found() {
        let world = World::new();
        fs::create_dir(world.at("sub")).unwrap();
        for (below, rights, expected) in [
            ("", UPLOAD, None),
            ("sub", CHANGE, None),
            ("sub", DROP_BOX, None),
            ("", READ, Some(Refusal::MayNotUpload)),
            ("missing", UPLOAD, Some(Refusal::NoSuchDirectory)),
            ("../outside", UPLOAD, Some(Refusal::BadName)),
        ] {
            let place = world.place(below, rights);
            let created = create_unique(&world.kernel, &place, u64::MAX);
            match refusal(created) {
                Ok(incoming) => {
                    let path = world.at(below).join(incoming.name());
                    incoming.commit().unwrap();
                    assert!(path.is_file() && expected.is_none(), "{below}");
                }
                Err(refusal) => assert_eq!(Some(refusal), expected, "{below}"),
            }
        }
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
            let written = incoming.write(&vec![b'x'; 2 * MIB as usize]);
            assert_eq!(refusal(written), Err(Refusal::NoRoom));
            drop(incoming);
            assert_eq!(world.files(), [file("old", "old")]);
        }
        upload("third", MIB / 2).unwrap();
    }
}
