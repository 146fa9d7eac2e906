//! Entries of directories on a real file system.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::kernel::linux::Linux;
use crate::storage::listing::*;
use crate::storage::tests::{DROP_BOX, READ, TestDirectory, code_of, place, unprivileged};

const BYTES_MAX: usize = limits::LISTING_BYTES_MAX;

/// Opens a target, and reads all of its entries: names, those of directories with a `/`.
fn read<'a>(
    kernel: &'a Linux,
    target: &'a ListingTarget,
    detail: EntryDetail,
) -> Result<(Vec<String>, ListingSummary), StorageError> {
    let mut reader = EntryReader::open(kernel, target, detail, BYTES_MAX)?;
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry() {
        let slash = if entry.status.is_directory { "/" } else { "" };
        names.push(format!("{}{}{slash}", entry.prefix, entry.name));
    }
    Ok((names, reader.into_summary()))
}

fn directory_of(place: GrantedPath) -> ListingTarget {
    ListingTarget::Directory(place)
}

/// The names in a directory, separated by blanks.
fn names(directory: &TestDirectory, below: &str, detail: EntryDetail) -> Result<String, ErrorCode> {
    let target = directory_of(directory.place(below, READ));
    let names = code_of(read(&directory.kernel, &target, detail))?.0;
    Ok(names.join(" "))
}

#[test]
fn servable_entries_are_listed_in_byte_order() {
    let directory = TestDirectory::new();
    fs::create_dir_all(directory.at("sub/deep")).unwrap();
    fs::create_dir(directory.at("a b")).unwrap();
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
        fs::write(directory.at(name), "12345").unwrap();
    }
    let not_utf8 = OsStr::from_bytes(b"not-utf8-\xff");
    fs::write(directory.at("").join(not_utf8), "").unwrap();
    mkfifo(&directory.at("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(directory.at("socket")).unwrap();
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
        symlink(to, directory.at(link)).unwrap();
    }
    let all = "- B a a b/ b link-file link-sub/ sub/ Ä";
    for detail in [EntryDetail::Kind, EntryDetail::Status] {
        assert_eq!(names(&directory, "", detail), Ok(all.to_owned()));
        for below in ["sub/deep", "link-sub/deep"] {
            let found = names(&directory, below, detail);
            assert_eq!(found, Ok("above/ climbing".to_owned()));
        }
    }

    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_370_400);
    let file = fs::File::open(directory.at("b")).unwrap();
    file.set_modified(at).unwrap();
    let target = directory_of(directory.place("", READ));
    let mut reader =
        EntryReader::open(&*directory.kernel, &target, EntryDetail::Status, BYTES_MAX).unwrap();
    let mut found = Vec::new();
    while let Some(ListingEntry { name, status, .. }) = reader.next_entry() {
        if status.modified == 1_795_370_400 {
            found.push((name.to_owned(), status.size));
        }
    }
    assert_eq!(found, [("b".to_owned(), 5), ("link-file".to_owned(), 5)]);
}

#[test]
fn only_directories_within_the_grant_are_listed() {
    let directory = TestDirectory::new();
    fs::create_dir_all(directory.at(".hidden")).unwrap();
    fs::write(directory.at("file"), "").unwrap();
    symlink("../outside", directory.at("out")).unwrap();
    symlink(directory.at(""), directory.at("absolute")).unwrap();
    mkfifo(&directory.at("fifo"), Mode::S_IRWXU).unwrap();
    for below in [
        "missing", "file", "fifo", "out", "absolute", ".hidden", "..", ".", "/", "out/..",
    ] {
        let found = names(&directory, below, EntryDetail::Kind);
        assert_eq!(found, Err(ErrorCode::NoSuchDirectory), "{below}");
    }
    let missing = directory_of(place(&directory.at("missing"), "", READ));
    let found = read(&directory.kernel, &missing, EntryDetail::Kind);
    assert_eq!(code_of(found).err(), Some(ErrorCode::NoSuchDirectory));

    fs::create_dir(directory.at("empty")).unwrap();
    for detail in [EntryDetail::Kind, EntryDetail::Status] {
        assert_eq!(names(&directory, "empty", detail), Ok(String::new()));
    }
}

#[test]
fn a_drop_box_looks_empty() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("sub")).unwrap();
    for (below, expected) in [
        ("", Ok(0)),
        ("sub", Ok(0)),
        ("missing", Err(ErrorCode::NoSuchDirectory)),
    ] {
        let target = directory_of(directory.place(below, DROP_BOX));
        let found = code_of(read(&directory.kernel, &target, EntryDetail::Kind));
        let entries = found.map(|(names, summary)| {
            assert!(summary.directory_status.is_none());
            names.len()
        });
        assert_eq!(entries, expected);
    }
}

#[test]
fn a_listing_reports_what_it_depends_on() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("sub")).unwrap();
    fs::write(directory.at("file"), "").unwrap();
    let status = |detail| {
        let target = directory_of(directory.place("", READ));
        let (_, summary) = read(&directory.kernel, &target, detail).unwrap();
        summary.directory_status
    };
    let first = status(EntryDetail::Kind);
    let by_path = directory.kernel.status_by_path(&directory.at(""));
    assert_eq!(first, by_path.ok());
    assert_eq!(status(EntryDetail::Status), None);
    std::thread::sleep(Duration::from_millis(20));
    fs::write(directory.at("new"), "").unwrap();
    assert_ne!(status(EntryDetail::Kind), first);
    symlink("file", directory.at("link")).unwrap();
    assert_eq!(status(EntryDetail::Kind), None);
}

#[test]
fn an_unreadable_directory_is_reported_with_its_cause() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("closed")).unwrap();
    fs::set_permissions(directory.at("closed"), PermissionsExt::from_mode(0o300)).unwrap();
    directory.open_to_all();
    unprivileged(|| {
        let target = directory_of(directory.place("closed", READ));
        let error = read(&directory.kernel, &target, EntryDetail::Kind).unwrap_err();
        assert_eq!(error.code, ErrorCode::DirectoryUnreadable);
        let fault = error.fault.unwrap();
        let expected = ("opening", directory.at("closed"));
        assert_eq!((fault.operation, fault.path), expected);
    });
}

#[test]
fn an_entry_of_unknown_status_is_left_out_and_reported() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("closed")).unwrap();
    fs::write(directory.at("closed/file"), "").unwrap();
    symlink("closed/file", directory.at("link")).unwrap();
    symlink("nowhere", directory.at("nowhere")).unwrap();
    fs::set_permissions(directory.at("closed"), PermissionsExt::from_mode(0o000)).unwrap();
    directory.open_to_all();
    unprivileged(|| {
        for detail in [EntryDetail::Kind, EntryDetail::Status] {
            let target = directory_of(directory.place("", READ));
            let (names, summary) = read(&directory.kernel, &target, detail).unwrap();
            assert_eq!(names, ["closed/"]);
            let fault = summary.fault.unwrap();
            let expected = ("listing", directory.at("link"));
            assert_eq!((fault.operation, fault.path), expected);
        }
    });
}

#[test]
fn a_path_is_a_directory_a_file_or_a_pattern() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("sub")).unwrap();
    for name in ["a1", "a2", "b", "sub/a3", "sub/[a]*"] {
        fs::write(directory.at(name), "12345").unwrap();
    }
    symlink("../outside/canary", directory.at("a-out")).unwrap();
    let names = |below: &str, glob| {
        let target = ListingTarget::Path {
            path: directory.place(below, READ),
            prefix: "at/".to_owned(),
            glob,
        };
        let names = code_of(read(&directory.kernel, &target, EntryDetail::Kind))?.0;
        Ok(names.join(" "))
    };
    for (below, expected) in [
        ("", Ok("a1 a2 b sub/")),
        ("sub", Ok("[a]* a3")),
        ("a1", Ok("at/a1")),
        ("sub/a3", Ok("at/a3")),
        ("a*", Ok("at/a1 at/a2")),
        ("sub/?3", Ok("at/a3")),
        // An exact name takes precedence over a pattern.
        ("sub/[a]*", Ok("at/[a]*")),
        ("z*", Ok("")),
        ("missing", Err(ErrorCode::NoSuchFile)),
        ("a-out", Err(ErrorCode::NoSuchFile)),
        ("missing/*", Err(ErrorCode::NoSuchDirectory)),
        ("../outside/*", Err(ErrorCode::NoSuchDirectory)),
    ] {
        let expected = expected.map(str::to_owned);
        assert_eq!(names(below, true), expected, "{below}");
    }
    assert_eq!(names("a*", false), Err(ErrorCode::NoSuchFile));
}

#[test]
fn existing_granted_directories_are_listed() {
    use crate::domain::access::Access;
    let directory = TestDirectory::new();
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
            grant("Movies", directory.at("")),
            grant("Gone", directory.at("missing")),
            grant("Docs", directory.at("../outside")),
        ],
    });
    let names = |pattern: Option<&str>| {
        let target = ListingTarget::Top {
            access: access.clone(),
            pattern: pattern.map(str::to_owned),
        };
        read(&directory.kernel, &target, EntryDetail::Status)
            .unwrap()
            .0
    };
    assert_eq!(names(None), ["Movies/", "Docs/"]);
    assert_eq!(names(Some("D*")), ["Docs/"]);
}

#[test]
fn a_hundred_thousand_entries_are_listed_quickly() {
    let directory = TestDirectory::in_memory();
    for number in 0..100_000 {
        fs::write(directory.at(&format!("{number:05}")), "").unwrap();
    }
    let target = directory_of(directory.place("", READ));
    for detail in [EntryDetail::Kind, EntryDetail::Status] {
        let begun = Instant::now();
        let (names, _) = read(&directory.kernel, &target, detail).unwrap();
        let took = begun.elapsed();
        // A tenth of a second on an idle machine.
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert_eq!(names.len(), 100_000);
        assert!(names.is_sorted());
    }
}

#[test]
fn names_beyond_the_limit_are_refused() {
    let directory = TestDirectory::new();
    for name in ["one", "two", "three"] {
        fs::write(directory.at(name), "").unwrap();
    }
    let target = directory_of(directory.place("", READ));
    let open = |bytes_max| {
        let opened = EntryReader::open(&*directory.kernel, &target, EntryDetail::Kind, bytes_max);
        opened.map(|reader| reader.name_bytes())
    };
    let error = open(10).unwrap_err();
    assert_eq!(error.code, ErrorCode::DirectoryUnreadable);
    let fault = error.fault.unwrap();
    let expected = ("listing", directory.at(""));
    assert_eq!((fault.operation, fault.path), expected);
    assert_eq!(fault.source.to_string(), "longer than 10 bytes");
    assert_eq!(code_of(open(11)), Ok(11));
}
