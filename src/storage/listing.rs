//! What is in a directory, as text.
//!
//! Only what would be served is listed: regular files, directories, and links that lead to either within the granted
//! directory. Must not know: how an entry is written.

use std::io;
use std::sync::Arc;

use crate::domain::access::{Grant, Rights};
use crate::domain::error::ErrorCode;
use crate::domain::glob;
use crate::domain::listing::{FileStatus, ListingEntry, ListingFormat, ListingTarget};
use crate::domain::path::{GrantedPath, is_name};
use crate::kernel::{Kernel, Kind, Status};
use crate::limits;
use crate::protocol::listing::append;
use crate::storage::{
    Fault, Refused, is_absent, look, open_directory, open_root, path_of, refused, status,
};

/// A directory's listing.
#[derive(Debug)]
pub struct Listing {
    /// The entries in the form that was asked for, at most [`limits::LISTING_BYTES_MAX`] bytes.
    pub text: Vec<u8>,
    /// How many there are.
    pub entries: usize,
    /// The directory's status before it was read, where the text depends on nothing but the directory itself: as long
    /// as the status is the same, the listing may be given to everybody else who may read there. `None` where sizes,
    /// times, links or the right to read decide too.
    pub status: Option<Status>,
    /// Why an entry is left out of which nobody knows whether it would be served, the first.
    pub fault: Option<Fault>,
}

/// Lists what is asked for, in the order of the names' bytes; the granted directories in their own. To who may not read
/// there a directory looks empty.
pub fn list<K: Kernel>(
    kernel: &K,
    listed: &ListingTarget,
    form: ListingFormat,
) -> Result<Listing, Refused> {
    list_within(kernel, listed, form, limits::LISTING_BYTES_MAX)
}

/// [`list`] within another limit, for the tests.
fn list_within<K: Kernel>(
    kernel: &K,
    listed: &ListingTarget,
    form: ListingFormat,
    bytes_max: usize,
) -> Result<Listing, Refused> {
    let wanted = |prefix, pattern| Wanted {
        form,
        prefix,
        pattern,
        now: kernel.seconds(),
        bytes_max,
    };
    match listed {
        ListingTarget::Top { access, pattern } => Ok(list_top(
            kernel,
            &access.grants,
            wanted("", pattern.as_deref()),
        )),
        ListingTarget::Directory(place) => {
            list_directory(kernel, place, &place.relative, wanted("", None))
        }
        ListingTarget::Path {
            path: place,
            prefix,
            glob,
        } => {
            let (above, last) = match place.relative.rsplit_once('/') {
                Some((above, last)) => (above, last),
                None => ("", place.relative.as_str()),
            };
            match status(kernel, place) {
                Ok(found) if found.is_directory => {
                    list_directory(kernel, place, &place.relative, wanted("", None))
                }
                Ok(found) => {
                    let mut listing = Listing::empty();
                    let rights = place.grant.rights;
                    wanted(prefix, None).append(&mut listing, last, &found, rights);
                    Ok(listing)
                }
                Err(_) if *glob && glob::is_pattern(last) => {
                    list_directory(kernel, place, above, wanted(prefix, Some(last)))
                }
                Err(refused) => Err(refused),
            }
        }
    }
}

/// How what is found is written, and what of it.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    form: ListingFormat,
    /// What stands before each name where a name is a line.
    prefix: &'a str,
    pattern: Option<&'a str>,
    /// Seconds since 1970.
    now: i64,
    bytes_max: usize,
}

impl Wanted<'_> {
    fn matches(&self, name: &str) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, name))
    }

    /// Whether an entry of a kind that is known is written without a look at it.
    fn is_plain(&self) -> bool {
        self.form.needs_only_names()
    }

    fn append(&self, listing: &mut Listing, name: &str, found: &FileStatus, rights: Rights) {
        let entry = ListingEntry {
            prefix: self.prefix,
            name,
            status: *found,
            rights,
        };
        append(&mut listing.text, self.form, &entry, self.now);
        listing.entries += 1;
    }
}

/// Lists granted directories, those that are there.
fn list_top<K: Kernel>(kernel: &K, grants: &[Arc<Grant>], wanted: Wanted<'_>) -> Listing {
    let mut listing = Listing::empty();
    for grant in grants.iter().filter(|grant| wanted.matches(&grant.name)) {
        let there = kernel.status_by_path(&grant.path);
        if let Ok(found) = there
            && found.kind == Kind::Directory
        {
            wanted.append(&mut listing, &grant.name, &found.into(), grant.rights);
        }
    }
    listing
}

/// Lists the directory `below` in the place's granted one.
fn list_directory<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
    below: &str,
    wanted: Wanted<'_>,
) -> Result<Listing, Refused> {
    if !below.is_empty() && !below.split('/').all(is_name) {
        return Err(ErrorCode::NoSuchDirectory.into());
    }
    let root = open_root(kernel, place)?;
    let directory = open_directory(kernel, &root, place, below)?;
    if !place.grant.rights.read {
        return Ok(Listing::empty());
    }
    let failed = |error| unreadable(place, error);
    let status = kernel.status(&directory).map_err(failed)?;
    let mut names = read_names(kernel, &directory, &wanted).map_err(failed)?;
    names.sort();

    let mut listing = Listing {
        text: Vec::with_capacity(names.text.len()),
        status: Some(status),
        entries: 0,
        fault: None,
    };
    for entry in &names.entries {
        let name = names.name(entry);
        let found = match entry.kind {
            Some(kind @ (Kind::File | Kind::Directory)) if wanted.is_plain() => FileStatus {
                is_directory: kind == Kind::Directory,
                size: 0,
                modified: 0,
                identity: (0, 0),
            },
            _ => {
                listing.status = None;
                match served(kernel, &root, &directory, below, name, entry.kind) {
                    Ok(Some(found)) => found.into(),
                    Ok(None) => continue,
                    Err(source) => {
                        listing.fault.get_or_insert_with(|| Fault {
                            doing: "listing",
                            path: path_of(place, below).join(name),
                            source,
                        });
                        continue;
                    }
                }
            }
        };
        wanted.append(&mut listing, name, &found, place.grant.rights);
        if listing.text.len() > wanted.bytes_max {
            return Err(failed(too_long(wanted.bytes_max)));
        }
    }
    Ok(listing)
}

impl Listing {
    fn empty() -> Listing {
        Listing {
            text: Vec::new(),
            entries: 0,
            status: None,
            fault: None,
        }
    }
}

/// Names of a directory, one behind the other in one piece of memory.
struct Names {
    text: String,
    entries: Vec<Entry>,
}

struct Entry {
    /// First byte in the text.
    start: u32,
    length: u8,
    /// What it is, where the directory tells.
    kind: Option<Kind>,
}

const _: () = assert!(
    limits::LISTING_BYTES_MAX <= u32::MAX as usize && limits::NAME_BYTES_MAX <= u8::MAX as usize,
    "an entry can hold its start and its length"
);

impl Names {
    fn name(&self, entry: &Entry) -> &str {
        &self.text[entry.start as usize..][..usize::from(entry.length)]
    }

    fn sort(&mut self) {
        let text = self.text.as_bytes();
        let name = |entry: &Entry| &text[entry.start as usize..][..usize::from(entry.length)];
        self.entries
            .sort_unstable_by(|one, other| name(one).cmp(name(other)));
    }
}

/// Reads the names that can be served; what they are is not looked at yet.
fn read_names<K: Kernel>(
    kernel: &K,
    directory: &K::File,
    wanted: &Wanted<'_>,
) -> io::Result<Names> {
    let bytes_max = wanted.bytes_max;
    let mut names = Names {
        text: String::new(),
        entries: Vec::new(),
    };
    let mut is_complete = true;
    kernel.entries(directory, &mut |name, kind| {
        let Ok(name) = str::from_utf8(name) else {
            return true;
        };
        if kind == Some(Kind::Other) || !is_name(name) || !wanted.matches(name) {
            return true;
        }
        // No form writes less than the name.
        is_complete = names.text.len() + name.len() <= bytes_max;
        if is_complete {
            names.entries.push(Entry {
                start: names.text.len() as u32,
                length: name.len() as u8,
                kind,
            });
            names.text.push_str(name);
        }
        is_complete
    })?;
    match is_complete {
        true => Ok(names),
        false => Err(too_long(bytes_max)),
    }
}

/// The status of what a name leads to, if that would be served. Fails where nobody can tell.
fn served<K: Kernel>(
    kernel: &K,
    root: &K::File,
    directory: &K::File,
    below: &str,
    name: &str,
    kind: Option<Kind>,
) -> io::Result<Option<Status>> {
    let found = match kind {
        Some(Kind::Link) => None,
        _ => Some(kernel.status_at(directory, name)),
    };
    let found = match found {
        Some(Ok(found)) if found.kind != Kind::Link => Ok(found),
        Some(Err(error)) => Err(error),
        // A link is resolved from the granted directory on, since it may climb up to there.
        _ if below.is_empty() => look(kernel, root, name),
        _ => look(kernel, root, &format!("{below}/{name}")),
    };
    match found {
        Ok(found) => Ok(matches!(found.kind, Kind::File | Kind::Directory).then_some(found)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unreadable(place: &GrantedPath, error: io::Error) -> Refused {
    let path = path_of(place, &place.relative);
    refused(ErrorCode::DirectoryUnreadable, "listing", path, error)
}

fn too_long(bytes_max: usize) -> io::Error {
    let text = format!("longer than {bytes_max} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::time::{Duration, Instant, SystemTime};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::storage::tests::{
        DROP_BOX, READ, World, open_to_all, place, refusal, without_power,
    };

    fn there(place: GrantedPath) -> ListingTarget {
        ListingTarget::Directory(place)
    }

    fn listed(
        world: &World,
        below: &str,
        form: ListingFormat,
    ) -> Result<(String, usize), ErrorCode> {
        let listing = list(&*world.kernel, &there(world.place(below, READ)), form);
        refusal(listing).map(|listing| (String::from_utf8(listing.text).unwrap(), listing.entries))
    }

    #[test]
    fn what_would_be_served_is_listed_in_the_order_of_bytes() {
        let world = World::new();
        fs::create_dir_all(world.at("sub/deep")).unwrap();
        fs::create_dir(world.at("a b")).unwrap();
        for name in [
            "b",
            "B",
            "Ä",
            "a",
            "-",
            ".hidden",
            "new\nline",
            "del\x7f",
            "c1\u{85}",
        ] {
            fs::write(world.at(name), "12345").unwrap();
        }
        fs::write(world.at("").join(OsStr::from_bytes(b"not-utf8-\xff")), "").unwrap();
        mkfifo(&world.at("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(world.at("socket")).unwrap();
        for (link, to) in [
            ("link-file", "b"),
            ("link-sub", "sub"),
            ("link-out", "../outside/canary"),
            ("link-nowhere", "nowhere"),
            ("link-fifo", "fifo"),
            ("link-root", "/"),
            ("sub/deep/climbing", "../../b"),
            ("sub/deep/above", "../.."),
            ("sub/deep/out", "../../../outside"),
        ] {
            symlink(to, world.at(link)).unwrap();
        }
        let names = "-, B, a, a b/, b, link-file, link-sub/, sub/, Ä";
        assert_eq!(
            listed(&world, "", ListingFormat::Names),
            Ok((names.to_owned(), 9))
        );
        let names = "above/, climbing";
        assert_eq!(
            listed(&world, "sub/deep", ListingFormat::Names),
            Ok((names.to_owned(), 2))
        );
        assert_eq!(
            listed(&world, "link-sub/deep", ListingFormat::Names),
            Ok((names.to_owned(), 2))
        );

        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_370_400);
        for name in ["b", "sub/deep"] {
            fs::File::open(world.at(name))
                .unwrap()
                .set_modified(at)
                .unwrap();
        }
        assert_eq!(
            listed(&world, "sub", ListingFormat::Details),
            Ok(("directory - 2026-11-22T18:00:00Z deep\n".to_owned(), 1))
        );
        let (details, entries) = listed(&world, "", ListingFormat::Details).unwrap();
        assert_eq!((entries, details.lines().count()), (9, 9));
        assert!(
            details.contains(
                "\nfile 5 2026-11-22T18:00:00Z b\nfile 5 2026-11-22T18:00:00Z link-file\n"
            )
        );
    }

    #[test]
    fn a_directory_must_be_there_within_the_granted_one() {
        let world = World::new();
        fs::create_dir_all(world.at(".hidden")).unwrap();
        fs::write(world.at("file"), "").unwrap();
        symlink("../outside", world.at("out")).unwrap();
        symlink(world.at(""), world.at("absolute")).unwrap();
        mkfifo(&world.at("fifo"), Mode::S_IRWXU).unwrap();
        for below in [
            "missing", "file", "fifo", "out", "absolute", ".hidden", "..", ".", "/", "out/..",
        ] {
            assert_eq!(
                listed(&world, below, ListingFormat::Names),
                Err(ErrorCode::NoSuchDirectory),
                "{below}"
            );
        }
        let nowhere = place(&world.at("missing"), "", READ);
        let listing = list(&*world.kernel, &there(nowhere), ListingFormat::Names);
        assert_eq!(refusal(listing).err(), Some(ErrorCode::NoSuchDirectory));

        fs::create_dir(world.at("empty")).unwrap();
        for form in [ListingFormat::Names, ListingFormat::Details] {
            assert_eq!(listed(&world, "empty", form), Ok((String::new(), 0)));
        }
    }

    #[test]
    fn a_drop_box_looks_empty() {
        let world = World::new();
        fs::create_dir(world.at("sub")).unwrap();
        for (below, expected) in [
            ("", Ok(0)),
            ("sub", Ok(0)),
            ("missing", Err(ErrorCode::NoSuchDirectory)),
        ] {
            let place = there(world.place(below, DROP_BOX));
            let listing = refusal(list(&*world.kernel, &place, ListingFormat::Names));
            let entries = listing.map(|listing| {
                assert_eq!((listing.text.len(), listing.status), (0, None));
                listing.entries
            });
            assert_eq!(entries, expected);
        }
    }

    #[test]
    fn a_listing_tells_whether_it_depends_on_its_directory_alone() {
        let world = World::new();
        fs::create_dir(world.at("sub")).unwrap();
        fs::write(world.at("file"), "").unwrap();
        let status = |form| {
            let listing = list(&*world.kernel, &there(world.place("", READ)), form).unwrap();
            listing.status
        };
        let first = status(ListingFormat::Names);
        assert_eq!(first, world.kernel.status_by_path(&world.at("")).ok());
        assert_eq!(status(ListingFormat::Details), None);
        std::thread::sleep(Duration::from_millis(20));
        fs::write(world.at("new"), "").unwrap();
        assert_ne!(status(ListingFormat::Names), first);
        symlink("file", world.at("link")).unwrap();
        assert_eq!(status(ListingFormat::Names), None);
    }

    #[test]
    fn who_may_not_read_a_directory_is_told_and_the_log_knows_why() {
        let world = World::new();
        fs::create_dir(world.at("closed")).unwrap();
        fs::set_permissions(world.at("closed"), PermissionsExt::from_mode(0o300)).unwrap();
        open_to_all(&world);
        without_power(|| {
            let refused = list(
                &*world.kernel,
                &there(world.place("closed", READ)),
                ListingFormat::Names,
            )
            .unwrap_err();
            assert_eq!(refused.refusal, ErrorCode::DirectoryUnreadable);
            let fault = refused.fault.unwrap();
            assert_eq!((fault.doing, fault.path), ("opening", world.at("closed")));
        });
    }

    #[test]
    fn an_entry_that_cannot_be_looked_at_is_left_out_and_the_log_knows_why() {
        let world = World::new();
        fs::create_dir(world.at("closed")).unwrap();
        fs::write(world.at("closed/file"), "").unwrap();
        symlink("closed/file", world.at("link")).unwrap();
        symlink("nowhere", world.at("nowhere")).unwrap();
        fs::set_permissions(world.at("closed"), PermissionsExt::from_mode(0o000)).unwrap();
        open_to_all(&world);
        without_power(|| {
            for form in [ListingFormat::Names, ListingFormat::Details] {
                let listing = list(&*world.kernel, &there(world.place("", READ)), form).unwrap();
                let fault = listing.fault.unwrap();
                assert_eq!(listing.entries, 1, "the directory itself");
                assert_eq!((fault.doing, fault.path), ("listing", world.at("link")));
            }
        });
    }

    #[test]
    fn a_path_is_a_directory_a_file_or_a_pattern() {
        let world = World::new();
        fs::create_dir(world.at("sub")).unwrap();
        for name in ["a1", "a2", "b", "sub/a3", "sub/[a]*"] {
            fs::write(world.at(name), "12345").unwrap();
        }
        symlink("../outside/canary", world.at("a-out")).unwrap();
        let lines = |below: &str, prefix: &str, glob| {
            let listed = ListingTarget::Path {
                path: world.place(below, READ),
                prefix: prefix.to_owned(),
                glob,
            };
            let listing = refusal(list(&*world.kernel, &listed, ListingFormat::Lines))?;
            Ok(String::from_utf8(listing.text).unwrap())
        };
        for (below, prefix, expected) in [
            ("", "", Ok("a1\r\na2\r\nb\r\nsub\r\n")),
            ("sub", "", Ok("[a]*\r\na3\r\n")),
            ("a1", "", Ok("a1\r\n")),
            ("sub/a3", "sub/", Ok("sub/a3\r\n")),
            ("a*", "", Ok("a1\r\na2\r\n")),
            ("sub/?3", "/Movies/sub/", Ok("/Movies/sub/a3\r\n")),
            // What has exactly that name is meant.
            ("sub/[a]*", "sub/", Ok("sub/[a]*\r\n")),
            ("z*", "", Ok("")),
            ("missing", "", Err(ErrorCode::NoSuchFile)),
            ("a-out", "", Err(ErrorCode::NoSuchFile)),
            ("missing/*", "", Err(ErrorCode::NoSuchDirectory)),
            ("../outside/*", "", Err(ErrorCode::NoSuchDirectory)),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(lines(below, prefix, true), expected, "{below}");
        }
        assert_eq!(lines("a*", "", false), Err(ErrorCode::NoSuchFile));
    }

    #[test]
    fn granted_directories_are_listed_where_they_are_there() {
        use crate::domain::access::Access;
        let world = World::new();
        let grant = |name: &str, path: PathBuf| {
            Arc::new(Grant {
                name: name.to_owned(),
                rights: READ,
                path,
            })
        };
        let access = Arc::new(Access {
            user: "ann".to_owned(),
            grants: vec![
                grant("Movies", world.at("")),
                grant("Gone", world.at("missing")),
                grant("Docs", world.at("../outside")),
            ],
        });
        let top = |pattern: Option<&str>, form| {
            let listed = ListingTarget::Top {
                access: access.clone(),
                pattern: pattern.map(str::to_owned),
            };
            let listing = list(&*world.kernel, &listed, form).unwrap();
            (String::from_utf8(listing.text).unwrap(), listing.entries)
        };
        let all = ("Movies\r\nDocs\r\n".to_owned(), 2);
        assert_eq!(top(None, ListingFormat::Lines), all);
        assert_eq!(
            top(Some("D*"), ListingFormat::Lines),
            ("Docs\r\n".to_owned(), 1)
        );
        let (long, _) = top(None, ListingFormat::Long);
        assert!(
            long.starts_with("dr-x") && long.ends_with(" Docs\r\n"),
            "{long}"
        );
    }

    #[test]
    fn a_hundred_thousand_entries_are_quick() {
        let world = World::in_memory();
        for number in 0..100_000 {
            fs::write(world.at(&format!("{number:05}")), "").unwrap();
        }
        for form in [ListingFormat::Names, ListingFormat::Details] {
            let begun = Instant::now();
            let (text, entries) = listed(&world, "", form).unwrap();
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(20), "{took:?}"); // on a busy machine; else a tenth of a second
            assert_eq!(entries, 100_000);
            let (one, other) = (text.find("00017").unwrap(), text.find("99999").unwrap());
            assert!(one < other);
        }
    }

    #[test]
    fn a_listing_beyond_the_limit_is_refused_and_the_log_knows_why() {
        let world = World::new();
        for name in ["one", "two", "three"] {
            fs::write(world.at(name), "").unwrap();
        }
        let within = |form, bytes_max| {
            let listing = list_within(
                &*world.kernel,
                &there(world.place("", READ)),
                form,
                bytes_max,
            );
            listing.map(|listing| listing.text.len())
        };
        // Names alone are too long at 10 bytes, and with what stands between them at 14.
        for (form, bytes_max) in [
            (ListingFormat::Names, 10),
            (ListingFormat::Names, 14),
            (ListingFormat::Details, 50),
        ] {
            let refused = within(form, bytes_max).unwrap_err();
            assert_eq!(refused.refusal, ErrorCode::DirectoryUnreadable);
            let fault = refused.fault.unwrap();
            assert_eq!((fault.doing, &fault.path), ("listing", &world.at("")));
            assert_eq!(
                fault.source.to_string(),
                format!("longer than {bytes_max} bytes")
            );
        }
        assert_eq!(refusal(within(ListingFormat::Names, 15)), Ok(15));
    }
}
