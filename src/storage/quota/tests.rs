//! Usage and reservations of directories on a real file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::kernel::linux::Linux;
use crate::storage::quota::*;
use crate::storage::tests::{TestDirectory, unprivileged};

fn scan(ledger: &Arc<QuotaLedger>, directory: &TestDirectory) {
    let mut scan = UsageScan::begin(ledger, &directory.at("")).expect("no other scan runs");
    assert!(UsageScan::<Linux>::begin(ledger, &directory.at("")).is_none());
    while scan.step(&*directory.kernel) == Step::More {}
}

fn ledger_of(directory: &TestDirectory) -> (Arc<QuotaLedger>, [PathBuf; 1]) {
    let ledger = Arc::new(QuotaLedger::default());
    ledger.track([directory.at("")].into_iter());
    (ledger, [directory.at("")])
}

/// One file of `added` bytes in place of one of `removed`; 0 is no file.
fn settled(added: u64, removed: u64) -> Result<UsageChange, ()> {
    let file = |bytes| match bytes {
        0 => StorageUse::default(),
        bytes => StorageUse::file(bytes),
    };
    Ok(UsageChange {
        added: file(added),
        removed: file(removed),
    })
}

fn limit(directory: &TestDirectory, max_bytes: u64) -> Vec<QuotaLimit> {
    let paths = vec![directory.at("")];
    vec![QuotaLimit {
        paths,
        max_bytes,
        max_files: None,
    }]
}

/// A reservation of one new file.
fn reserve(
    ledger: &Arc<QuotaLedger>,
    path: &Path,
    limits: Vec<QuotaLimit>,
    bytes: u64,
) -> Result<QuotaReservation, ErrorCode> {
    let mut reservation = ledger.reserve(path, limits);
    reservation.grow_to(StorageUse::file(bytes))?;
    Ok(reservation)
}

fn bytes(ledger: &QuotaLedger, paths: &[PathBuf]) -> u64 {
    ledger.usage(paths).bytes
}

#[test]
fn files_are_counted_and_links_are_not() {
    let directory = TestDirectory::new();
    fs::create_dir_all(directory.at("a/b")).unwrap();
    fs::write(directory.at("x"), "12345").unwrap();
    fs::write(directory.at("a/b/y"), "123").unwrap();
    fs::write(directory.at(".hidden"), "1").unwrap();
    fs::write(
        directory.at(".tidegate-0123456789abcdef.part"),
        "unfinished",
    )
    .unwrap();
    std::os::unix::fs::symlink("../outside/canary", directory.at("link")).unwrap();
    let (ledger, paths) = ledger_of(&directory);
    assert!(!ledger.is_counted(&paths));
    scan(&ledger, &directory);
    assert!(ledger.is_counted(&paths));
    assert_eq!(bytes(&ledger, &paths), 9);
}

#[test]
fn reservations_stay_within_the_limit() {
    let directory = TestDirectory::new();
    fs::write(directory.at("x"), "12345").unwrap();
    let (ledger, paths) = ledger_of(&directory);
    scan(&ledger, &directory);
    let reserve = |bytes| reserve(&ledger, &directory.at("new"), limit(&directory, 10), bytes);
    let mut first = reserve(3).unwrap();
    assert_eq!(reserve(3).err(), Some(ErrorCode::OverQuota));
    let mut second = reserve(1).unwrap();
    assert_eq!(
        second.grow_to(StorageUse::file(3)),
        Err(ErrorCode::OverQuota)
    );
    assert_eq!(second.grow_to(StorageUse::file(2)), Ok(()));
    assert_eq!(
        second.grow_to(StorageUse::file(1)),
        Ok(()),
        "a reservation never shrinks"
    );
    assert_eq!(bytes(&ledger, &paths), 10);
    drop(second);
    assert_eq!(bytes(&ledger, &paths), 8);
    first
        .settle::<_, ()>((&*directory.kernel, 1), |_| settled(3, 5))
        .unwrap();
    assert_eq!(bytes(&ledger, &paths), 3, "three added and five removed");
    reserve(7)
        .unwrap()
        .settle((&*directory.kernel, 1), |_| Err(()))
        .unwrap_err();
    assert_eq!(bytes(&ledger, &paths), 3);
    assert!(reserve(7).is_ok());
    let mut unlimited = ledger.reserve(&directory.at("new"), Vec::new());
    assert!(unlimited.grow_to(StorageUse::file(u64::MAX)).is_ok());
}

#[test]
fn files_published_during_a_scan_are_counted() {
    let directory = TestDirectory::new();
    fs::write(directory.at("x"), "12345").unwrap();
    let (ledger, paths) = ledger_of(&directory);
    let mut first = UsageScan::begin(&ledger, &directory.at("")).unwrap();
    let mut reservation = reserve(&ledger, &directory.at("new"), Vec::new(), 4).unwrap();
    assert_eq!(first.step(&*directory.kernel), Step::More);
    reservation
        .settle::<_, ()>((&*directory.kernel, 1), |_| settled(4, 0))
        .unwrap();
    assert_eq!(first.step(&*directory.kernel), Step::Done(()));
    assert_eq!(bytes(&ledger, &paths), 9);
    fs::write(directory.at("new"), "1234").unwrap();
    fs::write(directory.at("by hand"), "1").unwrap();
    scan(&ledger, &directory);
    assert_eq!(bytes(&ledger, &paths), 10);
}

#[test]
fn a_file_counts_in_every_directory_above_it() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("sub")).unwrap();
    let ledger = Arc::new(QuotaLedger::default());
    let paths = [directory.at(""), directory.at("sub")];
    ledger.track(paths.iter().cloned());
    for path in &paths {
        let mut scan = UsageScan::begin(&ledger, path).unwrap();
        while scan.step(&*directory.kernel) == Step::More {}
    }
    let mut reservation = reserve(&ledger, &directory.at("sub/new"), Vec::new(), 4).unwrap();
    reservation
        .settle::<_, ()>((&*directory.kernel, 1), |_| settled(4, 0))
        .unwrap();
    assert_eq!(bytes(&ledger, &paths[..1]), 4);
    assert_eq!(bytes(&ledger, &paths[1..]), 4);
}

#[test]
fn a_move_shifts_usage_to_the_target() {
    let directory = TestDirectory::new();
    let ledger = Arc::new(QuotaLedger::default());
    let [all, here, there] = ["", "here", "there"].map(|below| directory.at(below));
    for path in [&here, &there] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), "123456").unwrap();
    }
    ledger.track([&all, &here, &there].into_iter().cloned());
    for path in [&all, &here, &there] {
        let mut scan = UsageScan::begin(&ledger, path).unwrap();
        while scan.step(&*directory.kernel) == Step::More {}
    }
    let bytes = || [&all, &here, &there].map(|path| ledger.usage(std::slice::from_ref(path)).bytes);
    let limits = |max_bytes| {
        let of = |path: &PathBuf| QuotaLimit {
            paths: vec![path.clone()],
            max_bytes,
            max_files: None,
        };
        vec![of(&there), of(&all)]
    };
    let reservation = |to: &str, max_bytes| {
        ledger.reserve_move(&here.join("file"), &directory.at(to), limits(max_bytes))
    };
    assert!(!reservation("here/new", 0).changes_usage());
    // The directory that contains both counts the file already.
    assert_eq!(
        reservation("there/new", 11).grow_to(StorageUse::file(6)),
        Err(ErrorCode::OverQuota)
    );
    let mut moving = reservation("there/new", 12);
    assert!(moving.changes_usage());
    moving.grow_to(StorageUse::file(6)).unwrap();
    assert_eq!(bytes(), [12, 6, 12]);
    drop(moving);
    assert_eq!(bytes(), [12, 6, 6]);
    let mut over = reservation("there/file", 12);
    over.settle((&*directory.kernel, 1), |reservation| {
        reservation
            .grow_to(StorageUse::file(6))
            .map(|()| UsageChange {
                added: StorageUse::file(6),
                removed: StorageUse::file(6),
            })
    })
    .unwrap();
    assert_eq!(bytes(), [6, 0, 6]);
}

/// Puts the directory `top` below ten others with long names.
fn deepen(directory: &TestDirectory, top: &str) {
    let names = vec!["x".repeat(250); 10].join("/");
    fs::create_dir_all(directory.at(&format!("new/{names}"))).unwrap();
    fs::rename(
        directory.at(top),
        directory.at(&format!("new/{names}/{top}")),
    )
    .unwrap();
    fs::rename(directory.at("new"), directory.at(top)).unwrap();
}

#[test]
fn trees_deeper_than_path_max_are_counted() {
    let directory = TestDirectory::new();
    let (ledger, paths) = ledger_of(&directory);
    fs::create_dir(directory.at("top")).unwrap();
    fs::write(directory.at("top/file"), "12345").unwrap();
    for _ in 0..5 {
        deepen(&directory, "top");
    }
    scan(&ledger, &directory);
    let usage = StorageUse {
        bytes: 5,
        files: 57,
    };
    assert_eq!(ledger.usage(&paths), usage);

    // The depth of a walk has a limit. Beyond it, the file still counts.
    for _ in 0..65 {
        deepen(&directory, "top");
    }
    let mut scan = UsageScan::begin(&ledger, &directory.at("")).unwrap();
    while scan.step(&*directory.kernel) == Step::More {}
    assert!(scan.into_fault().is_some());
    let usage = ledger.usage(&paths);
    assert_eq!(usage.bytes, 5);
    assert!(usage.files > 500, "{usage:?}");
}

#[test]
fn a_directory_that_cannot_be_walked_lowers_no_count() {
    let directory = TestDirectory::new();
    let (ledger, paths) = ledger_of(&directory);
    let mode = |mode| {
        fs::set_permissions(directory.at("sub"), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(directory.at("sub")).unwrap();
    fs::write(directory.at("sub/file"), "12345").unwrap();
    fs::write(directory.at("file"), "123").unwrap();
    scan(&ledger, &directory);
    // Neither where the directory cannot be opened, nor where its names cannot be looked up.
    for unreadable in [0o000, 0o444] {
        mode(unreadable);
        unprivileged(|| scan(&ledger, &directory));
        assert_eq!(bytes(&ledger, &paths), 8);
    }
    fs::write(directory.at("more"), "123456").unwrap();
    unprivileged(|| scan(&ledger, &directory));
    assert_eq!(bytes(&ledger, &paths), 9, "the visible part alone is more");
    mode(0o755);
    scan(&ledger, &directory);
    assert_eq!(bytes(&ledger, &paths), 14);
    fs::remove_file(directory.at("sub/file")).unwrap();
    scan(&ledger, &directory);
    assert_eq!(bytes(&ledger, &paths), 9);
}
