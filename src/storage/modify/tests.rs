//! Renames, removals and times on a real file system.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

use crate::kernel::linux::Linux;
use crate::kernel::sim::{Sim, SimEntry};
use crate::storage::modify::*;
use crate::storage::quota::{QuotaLedger, QuotaLimit};
use crate::storage::status::file_status;
use crate::storage::tests::{
    CHANGE, CHANGE_HIDDEN, CHANGE_UNSEEN, DROP_BOX, READ, TestDirectory, UPLOAD, code_of, place,
    unprivileged,
};

/// A reservation without quotas.
fn unlimited() -> QuotaReservation {
    let (ledger, any) = (Arc::new(QuotaLedger::default()), Path::new("/"));
    ledger.reserve_move(any, any, Vec::new())
}

/// Runs a modification without quotas.
fn run<K: Kernel>(kernel: &K, modification: Modification) -> Result<(), StorageError> {
    match PendingModification::new(modification, unlimited()).step(kernel) {
        Step::Done(result) => result.map(drop),
        Step::More => panic!("no walk is needed without quotas"),
    }
}

fn rename<K: Kernel>(kernel: &K, from: &GrantedPath, to: &GrantedPath) -> Result<(), StorageError> {
    let (from, to) = (from.clone(), to.clone());
    run(kernel, Modification::Rename { from, to })
}

fn remove(kernel: &Linux, place: &GrantedPath) -> Result<(), StorageError> {
    run(kernel, Modification::Remove(place.clone()))
}

#[test]
fn files_directories_and_links_are_renamed() {
    let directory = TestDirectory::with_every_kind();
    let renamed = |from: &str, to: &str, rights| {
        let (from, to) = (directory.place(from, CHANGE), directory.place(to, rights));
        code_of(rename(&*directory.kernel, &from, &to))
    };
    assert_eq!(renamed("file", "sub/file", UPLOAD), Ok(()));
    assert_eq!(fs::read(directory.at("sub/file")).unwrap(), b"12345");
    // A file or a link is replaced, and only with the right to change.
    let taken = Err(ErrorCode::FileExists);
    assert_eq!(renamed("sub/file", "sub/other", UPLOAD), taken);
    assert_eq!(renamed("sub/file", "fifo", CHANGE), taken);
    let is_directory = Err(ErrorCode::DirectoryExists);
    assert_eq!(renamed("sub/file", "empty", CHANGE), is_directory);
    assert_eq!(renamed("sub", "sub/other", CHANGE), taken);
    assert_eq!(renamed("sub", "empty", CHANGE), is_directory);
    assert_eq!(renamed("sub/file", "sub/other", CHANGE), Ok(()));
    assert_eq!(fs::read(directory.at("sub/other")).unwrap(), b"12345");
    // A link itself is renamed and replaced.
    assert_eq!(renamed("out-file", "sub/out-file", CHANGE), Ok(()));
    assert_eq!(renamed("sub/other", "sub/out-file", CHANGE), Ok(()));
    assert!(
        fs::symlink_metadata(directory.at("sub/out-file"))
            .unwrap()
            .is_file()
    );
    assert_eq!(
        renamed("sub", "sub/deep/sub", CHANGE),
        Err(ErrorCode::IntoItself)
    );
    assert_eq!(renamed("sub", "moved", CHANGE), Ok(()));
    assert_eq!(fs::read(directory.at("moved/out-file")).unwrap(), b"12345");
    assert_eq!(renamed("moved", "moved", CHANGE), is_directory);
    assert_eq!(renamed("moved/out-file", "moved/out-file", CHANGE), Ok(()));
    directory.assert_canary();
}

#[test]
fn a_refused_rename_changes_nothing() {
    let directory = TestDirectory::with_every_kind();
    let before = directory.files();
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
        ("file", CHANGE, ".new", ErrorCode::HiddenDenied),
        ("file", CHANGE, "", ErrorCode::InvalidName),
        ("file", CHANGE, "sub/", ErrorCode::InvalidName),
        ("file", CHANGE, "../outside/new", ErrorCode::InvalidName),
        ("file", CHANGE, "out/new", ErrorCode::NoSuchDirectory),
        ("file", CHANGE, "missing/new", ErrorCode::NoSuchDirectory),
    ] {
        let (from, to) = (directory.place(from, rights), directory.place(to, CHANGE));
        let renamed = code_of(rename(&*directory.kernel, &from, &to));
        assert_eq!(renamed, Err(expected), "{from:?} {to:?}");
    }
    let into = directory.place("new", READ);
    let renamed = code_of(rename(
        &*directory.kernel,
        &directory.place("file", CHANGE),
        &into,
    ));
    assert_eq!(renamed, Err(ErrorCode::UploadDenied));
    assert_eq!(directory.files(), before);
    directory.assert_canary();
}

#[test]
fn leaving_an_unreadable_directory_is_refused() {
    let directory = TestDirectory::with_every_kind();
    let renamed = |from: &str, to: &str, rights| {
        let from = directory.place(from, CHANGE_UNSEEN);
        code_of(rename(
            &*directory.kernel,
            &from,
            &directory.place(to, rights),
        ))
    };
    for (from, to) in [
        ("file", "empty/file"),
        ("sub", "empty/sub"),
        ("sub/other", "other"),
        ("sub/deep", "deep"),
        ("link", "empty/link"),
        ("missing", "empty/missing"),
        ("file", "sub/other"),
    ] {
        for rights in [CHANGE, UPLOAD, CHANGE_UNSEEN] {
            let refused = Err(ErrorCode::ReadDenied);
            assert_eq!(renamed(from, to, rights), refused, "{from} to {to}");
        }
    }
    // Another granted directory inside the first one, and the same directory by another path.
    let inner = place(&directory.at("empty"), "sub", CHANGE);
    let from = directory.place("sub", CHANGE_UNSEEN);
    let refused = code_of(rename(&*directory.kernel, &from, &inner));
    assert_eq!(refused, Err(ErrorCode::ReadDenied));
    for (from, to) in [
        ("file", "new"),
        ("sub", "new-sub"),
        ("new-sub/other", "link-new/x"),
    ] {
        if to.starts_with("link-new") {
            symlink("new-sub", directory.at("link-new")).unwrap();
        }
        assert_eq!(renamed(from, to, CHANGE), Ok(()), "{from} to {to}");
    }
}

#[test]
fn renames_work_within_one_file_system() {
    let directory = TestDirectory::with_every_kind();
    fs::create_dir(directory.at("../granted-too")).unwrap();
    let there = place(&directory.at("../granted-too"), "file", UPLOAD);
    let from = directory.place("file", CHANGE);
    assert_eq!(code_of(rename(&*directory.kernel, &from, &there)), Ok(()));
    assert_eq!(
        fs::read(directory.at("../granted-too/file")).unwrap(),
        b"12345"
    );
    if !Uid::effective().is_root() {
        println!("skipped: only root may mount another file system");
        return;
    }
    std::thread::scope(|scope| {
        let other_file_system = || {
            directory.kernel.enter_worker();
            let nothing = None::<&str>;
            if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
                return println!("skipped: no mounts of its own: {errno}");
            }
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(nothing, Path::new("/"), nothing, private, nothing).unwrap();
            let (none, small) = (MsFlags::empty(), Some("size=1m"));
            mount(nothing, &directory.at("empty"), Some("tmpfs"), none, small).unwrap();
            let (from, to) = (
                directory.place("sub/other", CHANGE),
                directory.place("empty/x", CHANGE),
            );
            let renamed = code_of(rename(&*directory.kernel, &from, &to));
            assert_eq!(renamed, Err(ErrorCode::CrossDevice));
        };
        scope.spawn(other_file_system).join().unwrap();
    });
}

#[test]
fn files_links_and_empty_directories_are_removed() {
    let directory = TestDirectory::with_every_kind();
    let removed =
        |below, rights| code_of(remove(&directory.kernel, &directory.place(below, rights)));
    let gone = |below, rights| {
        code_of(remove_directory(
            &*directory.kernel,
            &directory.place(below, rights),
            &mut unlimited(),
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

    symlink("empty", directory.at("link")).unwrap();
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
    directory.assert_canary();
}

#[test]
fn a_full_directory_that_looks_empty_is_explained() {
    use ErrorCode::{NotEmpty, NotEmptyHidden, NotEmptyUnlisted};
    let directory = TestDirectory::with_every_kind();
    type Fill = fn(&Path);
    let cases: [(Fill, ErrorCode, ErrorCode); 7] = [
        (
            |at| fs::write(at.join(".DS_Store"), "").unwrap(),
            NotEmptyHidden,
            NotEmpty,
        ),
        (
            |at| fs::create_dir(at.join(".git")).unwrap(),
            NotEmptyHidden,
            NotEmpty,
        ),
        (
            |at| fs::write(at.join(".tidegate-0123456789abcdef.part"), "").unwrap(),
            NotEmptyUnlisted,
            NotEmptyUnlisted,
        ),
        (
            |at| fs::write(at.join(OsStr::from_bytes(b"invalid-\xff")), "").unwrap(),
            NotEmptyUnlisted,
            NotEmptyUnlisted,
        ),
        (
            |at| symlink("nowhere", at.join("link")).unwrap(),
            NotEmptyUnlisted,
            NotEmptyUnlisted,
        ),
        (
            |at| symlink("../file", at.join("link")).unwrap(),
            NotEmpty,
            NotEmpty,
        ),
        (
            |at| {
                fs::write(at.join(".hidden"), "").unwrap();
                fs::write(at.join("visible"), "").unwrap();
            },
            NotEmpty,
            NotEmpty,
        ),
    ];
    for (fill, expected, with_hidden) in cases {
        let kept = directory.at("kept");
        fs::create_dir(&kept).unwrap();
        fill(&kept);
        let reason = |rights| {
            let place = directory.place("kept", rights);
            code_of(remove_directory(
                &*directory.kernel,
                &place,
                &mut unlimited(),
            ))
        };
        assert_eq!(reason(CHANGE), Err(expected));
        assert_eq!(reason(CHANGE_HIDDEN), Err(with_hidden));
        assert_eq!(reason(CHANGE_UNSEEN), Err(NotEmpty));
        fs::remove_dir_all(kept).unwrap();
    }
}

#[test]
fn the_right_hidden_covers_names_with_a_leading_dot() {
    let directory = TestDirectory::with_every_kind();
    let kernel = &directory.kernel;
    let made = |below, rights| {
        let place = directory.place(below, rights);
        code_of(make_directory(&**kernel, &place, unlimited()))
    };
    assert_eq!(made(".git", CHANGE), Err(ErrorCode::HiddenDenied));
    assert_eq!(made(".git", READ), Err(ErrorCode::UploadDenied));
    assert_eq!(made("sub/.git/x", CHANGE), Err(ErrorCode::HiddenDenied));
    for name in [".", "..", ".tidegate-x", ".tidegate.lock", ".TIDEGATE.pid"] {
        for rights in [CHANGE, CHANGE_HIDDEN] {
            assert_eq!(made(name, rights), Err(ErrorCode::InvalidName), "{name}");
        }
    }
    assert_eq!(made(".git", CHANGE_HIDDEN), Ok(()));
    assert_eq!(made(".git/.x", CHANGE_HIDDEN), Ok(()));

    let renamed = |from, to, from_rights, to_rights| {
        let from = directory.place(from, from_rights);
        code_of(rename(&**kernel, &from, &directory.place(to, to_rights)))
    };
    // A directory may contain names that the user has no right to see.
    let denied = Err(ErrorCode::HiddenDenied);
    assert_eq!(renamed("sub", "empty/sub", CHANGE, CHANGE_HIDDEN), denied);
    assert_eq!(renamed("file", "empty/.x", CHANGE, CHANGE), denied);
    assert_eq!(renamed("sub", "new", CHANGE, CHANGE_HIDDEN), Ok(()));
    assert_eq!(renamed("file", "new/x", CHANGE, CHANGE_HIDDEN), Ok(()));
    assert_eq!(renamed("new", "empty/new", CHANGE, CHANGE), Ok(()));
    assert_eq!(renamed(".git", "git", CHANGE_HIDDEN, CHANGE), Ok(()));
    assert_eq!(
        code_of(remove(kernel, &directory.place(".hidden", CHANGE_HIDDEN))),
        Ok(())
    );
}

#[test]
fn modification_times_are_never_set_through_a_link() {
    let directory = TestDirectory::with_every_kind();
    let set = |below, rights| {
        let place = directory.place(below, rights);
        code_of(set_modified(&*directory.kernel, &place, 1_000_000_000))
    };
    for below in ["file", "sub", "link-sub/other"] {
        assert_eq!(set(below, UPLOAD), Err(ErrorCode::ChangeDenied));
        assert_eq!(set(below, CHANGE), Ok(1_000_000_000));
        let found = file_status(&*directory.kernel, &directory.place(below, READ)).unwrap();
        assert_eq!(found.modified, 1_000_000_000);
    }
    for below in ["link", "out-file", "fifo", ".hidden", "missing", ""] {
        assert_eq!(set(below, CHANGE), Err(ErrorCode::NoSuchFile), "{below}");
    }
}

#[test]
fn the_stored_time_is_returned() {
    let directory = TestDirectory::with_every_kind();
    // Some file systems have no time beyond 2038, 2106 or 2446, or none before 1970.
    for modified in [-62_135_596_800, 0, 5_000_000_000, 253_402_207_200] {
        let stored = set_modified(
            &*directory.kernel,
            &directory.place("file", CHANGE),
            modified,
        );
        let found = file_status(&*directory.kernel, &directory.place("file", READ)).unwrap();
        assert_eq!(code_of(stored), Ok(found.modified));
    }
}

#[test]
fn missing_permissions_are_reported_with_their_cause() {
    let directory = TestDirectory::with_every_kind();
    directory.open_to_all();
    fs::set_permissions(directory.at(""), PermissionsExt::from_mode(0o555)).unwrap();
    unprivileged(|| {
        let place = |below| directory.place(below, CHANGE);
        for (done, doing) in [
            (
                rename(&*directory.kernel, &place("file"), &place("new")),
                "renaming",
            ),
            (remove(&directory.kernel, &place("file")), "removing"),
            (
                remove_directory(&*directory.kernel, &place("empty"), &mut unlimited()),
                "removing",
            ),
        ] {
            let refused = done.unwrap_err();
            assert_eq!(refused.code, ErrorCode::FileUnwritable);
            assert_eq!(refused.fault.unwrap().operation, doing);
        }
    });
}

#[test]
fn directories_are_created() {
    let directory = TestDirectory::new();
    fs::write(directory.at("file"), "").unwrap();
    fs::create_dir(directory.at("there")).unwrap();
    symlink("there", directory.at("link")).unwrap();
    symlink("../outside", directory.at("leading-out")).unwrap();
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
        (".other", UPLOAD, Err(ErrorCode::HiddenDenied)),
        ("new/", UPLOAD, Err(ErrorCode::InvalidName)),
    ] {
        let made = code_of(make_directory(
            &*directory.kernel,
            &directory.place(below, rights),
            unlimited(),
        ));
        assert_eq!(made, expected, "{below}");
    }
    assert!(directory.at("new/deeper").is_dir());
    assert!(directory.at("there/through").is_dir());
    assert!(!directory.at("../outside/new").exists());
}

#[test]
fn an_unwritable_directory_is_reported_with_its_cause() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("closed")).unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(directory.at("closed"), mode(0o555)).unwrap();
    directory.open_to_all();
    unprivileged(|| {
        let place = directory.place("closed/new", UPLOAD);
        assert_eq!(
            code_of(crate::storage::check_upload(&*directory.kernel, &place)),
            Ok(())
        );
        let refused = make_directory(&*directory.kernel, &place, unlimited()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::FileUnwritable);
        let fault = refused.fault.unwrap().to_string();
        assert!(fault.starts_with("making /"), "{fault}");
        assert!(
            fault.contains("granted/closed/new: Permission denied"),
            "{fault}"
        );
    });
}

#[test]
fn a_tree_that_cannot_be_counted_enters_no_quota() {
    let directory = TestDirectory::new();
    fs::create_dir_all(directory.at("from/tree/shut")).unwrap();
    fs::create_dir(directory.at("to")).unwrap();
    for below in ["from", "from/tree", "to"] {
        fs::set_permissions(directory.at(below), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let shut = directory.at("from/tree/shut");
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
    let ledger = Arc::new(QuotaLedger::default());
    ledger.track([directory.at("to")].into_iter());
    let rename = |limits| {
        let [from, to] = ["from/tree", "to/tree"];
        let reservation = ledger.reserve_move(&directory.at(from), &directory.at(to), limits);
        let [from, to] = [from, to].map(|below| directory.place(below, CHANGE));
        let mut pending = PendingModification::new(Modification::Rename { from, to }, reservation);
        loop {
            if let Step::Done(result) = pending.step(&*directory.kernel) {
                return code_of(result.map(drop));
            }
        }
    };
    let limit = QuotaLimit {
        paths: vec![directory.at("to")],
        max_bytes: 1_000,
        max_files: None,
    };
    unprivileged(|| {
        let refused = rename(vec![limit]);
        assert_eq!(refused, Err(ErrorCode::DirectoryUnreadable));
        assert_eq!(rename(Vec::new()), Ok(()), "no limit applies");
    });
}

#[test]
fn renames_without_support_for_free_names_replace_by_right() {
    for seed in 0..32 {
        let kernel = Sim::new(seed);
        kernel.set_links(false);
        for name in ["one", "two", "three"] {
            kernel.put(&format!("/srv/{name}"), SimEntry::File(name.into()));
        }
        kernel.put("/srv/sub", SimEntry::Directory);
        let renamed = |from: &str, to: &str, rights| {
            let at = |name, rights| place(Path::new("/srv"), name, rights);
            let result = kernel.as_worker(|| rename(&kernel, &at(from, CHANGE), &at(to, rights)));
            code_of(result)
        };
        assert_eq!(renamed("one", "two", UPLOAD), Err(ErrorCode::FileExists));
        assert_eq!(
            renamed("one", "sub", CHANGE),
            Err(ErrorCode::DirectoryExists)
        );
        assert_eq!(renamed("sub", "one", CHANGE), Err(ErrorCode::FileExists));
        assert_eq!(renamed("one", "two", CHANGE), Ok(()), "seed {seed}");
        assert_eq!(renamed("three", "free", UPLOAD), Ok(()), "seed {seed}");
        let files = kernel.tree();
        assert!(!files.contains_key("/srv/one") && !files.contains_key("/srv/three"));
        assert_eq!(**files["/srv/two"].as_ref().expect("a file"), b"one");
    }
}
