//! Uploads on a real file system.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::Barrier;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use crate::domain::request::Response;
use crate::kernel::linux::Linux;
use crate::kernel::sim::{Sim, SimEntry};
use crate::storage::modify::{Modification, PendingModification};
use crate::storage::orphans::OrphanSweep;
use crate::storage::quota::{QuotaLedger, QuotaLimit, UsageScan};
use crate::storage::status::check_free_space;
use crate::storage::temp_names::is_temporary;
use crate::storage::tests::{
    CANARY, CHANGE, CHANGE_UNSEEN, DROP_BOX, READ, TestDirectory, UPLOAD, code_of, place,
    unprivileged,
};
use crate::storage::upload::*;

mod attributes;
mod continued;

type Create = fn(&Arc<Linux>, &GrantedPath, u64) -> Result<StagedUpload<Linux>, StorageError>;

/// With O_TMPFILE, and without.
const WAYS: [Create; 2] = [
    |kernel, place, length| create_upload(kernel, place, spec(length)),
    |kernel, place, length| {
        create_with(kernel, place, spec(length), |_, _, _| {
            Err(Errno::EOPNOTSUPP.into())
        })
    },
];

fn spec(length: u64) -> UploadSpec {
    UploadSpec {
        length: Some(length),
        max_length: u64::MAX,
        base: UploadBase::Empty,
        keep_free: 0,
    }
}

fn continuing(base: UploadBase) -> UploadSpec {
    UploadSpec {
        length: None,
        base,
        ..spec(0)
    }
}

fn names(directory: &TestDirectory) -> Vec<String> {
    directory
        .files()
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

fn file(name: &str, content: &str) -> (String, String) {
    (name.to_owned(), content.to_owned())
}

#[test]
fn an_upload_appears_when_it_is_complete() {
    for create in WAYS {
        let directory = TestDirectory::new();
        for rights in [UPLOAD, CHANGE, DROP_BOX] {
            let name = format!("{rights:?}");
            let before = names(&directory);
            let mut upload =
                create(&directory.kernel, &directory.place(&name, rights), 11).unwrap();
            upload.write(b"hello ").unwrap();
            assert_eq!(upload.length(), 6);
            upload.write(b"").unwrap();
            let shown = names(&directory)
                .into_iter()
                .filter(|name| !is_temporary(name));
            assert_eq!(shown.collect::<Vec<_>>(), before);
            upload.write(b"directory").unwrap();
            upload.publish().unwrap();
            assert_eq!(names(&directory).len(), before.len() + 1);
            assert_eq!(
                fs::read_to_string(directory.at(&name)).unwrap(),
                "hello directory"
            );
        }
        let empty = create(&directory.kernel, &directory.place("empty", UPLOAD), 0).unwrap();
        empty.publish().unwrap();
        assert_eq!(directory.files().last().unwrap(), &file("empty", ""));
    }
}

#[test]
fn a_dropped_upload_leaves_nothing() {
    for create in WAYS {
        let directory = TestDirectory::new();
        fs::write(directory.at("old"), "old").unwrap();
        let mut new = create(&directory.kernel, &directory.place("new", UPLOAD), 11).unwrap();
        let mut old = create(&directory.kernel, &directory.place("old", CHANGE), 11).unwrap();
        new.write(b"hello").unwrap();
        old.write(b"hello").unwrap();
        drop((new, old));
        assert_eq!(directory.files(), [file("old", "old")]);
    }
}

#[test]
fn a_name_taken_meanwhile_is_replaced_with_the_right() {
    for create in WAYS {
        let directory = TestDirectory::new();
        let upload = |name, rights| {
            let mut upload = create(&directory.kernel, &directory.place(name, rights), 3).unwrap();
            upload.write(b"new").unwrap();
            upload
        };
        let refused = upload("file", UPLOAD);
        let replacing = upload("file", CHANGE);
        let later = upload("file", CHANGE);
        fs::write(directory.at("file"), "old").unwrap();
        let reader = fs::File::open(directory.at("file")).unwrap();
        assert_eq!(code_of(refused.publish()), Err(ErrorCode::FileExists));
        assert_eq!(directory.files().last().unwrap(), &file("file", "old"));
        replacing.publish().unwrap();
        later.publish().unwrap();
        assert_eq!(directory.files(), [file("file", "new")]);
        assert_eq!(std::io::read_to_string(reader).unwrap(), "old");

        let to_directory = upload("directory", CHANGE);
        let to_fifo = upload("fifo", CHANGE);
        fs::create_dir(directory.at("directory")).unwrap();
        mkfifo(&directory.at("fifo"), Mode::S_IRWXU).unwrap();
        for upload in [to_directory, to_fifo] {
            assert_eq!(code_of(upload.publish()), Err(ErrorCode::FileExists));
        }
        assert_eq!(directory.files(), [file("file", "new")]);
    }
}

#[test]
fn a_link_is_replaced_and_never_followed() {
    for create in WAYS {
        let directory = TestDirectory::new();
        fs::write(directory.at("target"), "target").unwrap();
        for (link, to) in [
            ("inside", "target"),
            ("out", "../outside/canary"),
            ("nowhere", "x"),
        ] {
            symlink(to, directory.at(link)).unwrap();
            let refused = create(&directory.kernel, &directory.place(link, UPLOAD), 3);
            assert_eq!(code_of(refused).err(), Some(ErrorCode::FileExists));
            let mut upload = create(&directory.kernel, &directory.place(link, CHANGE), 3).unwrap();
            upload.write(b"new").unwrap();
            upload.publish().unwrap();
            assert!(fs::symlink_metadata(directory.at(link)).unwrap().is_file());
        }
        let new = |name| file(name, "new");
        let expected = [
            new("inside"),
            new("nowhere"),
            new("out"),
            file("target", "target"),
        ];
        assert_eq!(directory.files(), expected);
        let canary = fs::read_to_string(directory.at("../outside/canary")).unwrap();
        assert_eq!(canary, CANARY);
    }
}

#[test]
fn an_impossible_upload_is_refused_before_a_byte() {
    let directory = TestDirectory::new();
    fs::write(directory.at("taken"), "").unwrap();
    symlink("../outside", directory.at("out")).unwrap();
    for (below, rights, length, expected) in [
        ("new", READ, 1, ErrorCode::UploadDenied),
        ("taken", UPLOAD, 1, ErrorCode::FileExists),
        ("../outside/new", CHANGE, 1, ErrorCode::InvalidName),
        ("out/new", CHANGE, 1, ErrorCode::NoSuchDirectory),
        ("missing/new", CHANGE, 1, ErrorCode::NoSuchDirectory),
        (
            ".tidegate-0123456789abcdef.part",
            CHANGE,
            1,
            ErrorCode::InvalidName,
        ),
        ("new", UPLOAD, i64::MAX as u64, ErrorCode::NoSpace),
        ("new", UPLOAD, u64::MAX, ErrorCode::NoSpace),
    ] {
        let refused = create_upload(
            &directory.kernel,
            &directory.place(below, rights),
            spec(length),
        );
        assert_eq!(code_of(refused).err(), Some(expected), "{below}");
    }
    assert_eq!(directory.files(), [file("taken", "")]);
    assert_eq!(fs::read_dir(directory.at("../outside")).unwrap().count(), 1);
}

#[test]
fn the_length_limit_is_enforced() {
    let directory = TestDirectory::new();
    fs::write(directory.at("file"), "12345").unwrap();
    let place = directory.place("file", CHANGE);
    let upload = |max_length, length, base| {
        let spec = UploadSpec {
            length,
            max_length,
            base,
            keep_free: 0,
        };
        create_upload(&directory.kernel, &place, spec)
    };
    let mut limited = upload(3, None, UploadBase::Empty).unwrap();
    limited.write(b"123").unwrap();
    assert_eq!(code_of(limited.write(b"4")), Err(ErrorCode::TooLarge));
    for (length, base) in [
        (Some(4), UploadBase::Empty),
        (None, UploadBase::Whole),
        (Some(1), UploadBase::Prefix(3)),
    ] {
        let refused = code_of(upload(3, length, base)).err();
        assert_eq!(refused, Some(ErrorCode::TooLarge));
    }
}

#[test]
fn a_unique_name_is_chosen() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("sub")).unwrap();
    for (below, rights, expected) in [
        ("", UPLOAD, None),
        ("sub", CHANGE, None),
        ("sub", DROP_BOX, None),
        ("", READ, Some(ErrorCode::UploadDenied)),
        ("missing", UPLOAD, Some(ErrorCode::NoSuchDirectory)),
        ("../outside", UPLOAD, Some(ErrorCode::InvalidName)),
    ] {
        let place = directory.place(below, rights);
        let created = create_unique_upload(&directory.kernel, &place, spec(0));
        match code_of(created) {
            Ok(upload) => {
                let path = directory.at(below).join(upload.name());
                upload.publish().unwrap();
                assert!(path.is_file() && expected.is_none(), "{below}");
            }
            Err(refusal) => assert_eq!(Some(refusal), expected, "{below}"),
        }
    }
}

#[test]
fn an_orphan_sweep_keeps_unfinished_uploads() {
    let directory = TestDirectory::new();
    for create in WAYS {
        let mut upload = create(&directory.kernel, &directory.place("file", CHANGE), 3).unwrap();
        upload.write(b"new").unwrap();
        let mut sweep = OrphanSweep::new(&directory.at(""));
        while sweep.step(&*directory.kernel) == Step::More {}
        assert_eq!(sweep.removed(), 0);
        upload.publish().unwrap();
        assert_eq!(directory.files(), [file("file", "new")]);
    }
}

#[test]
fn missing_permissions_are_reported_with_their_cause() {
    let directory = TestDirectory::new();
    directory.open_to_all();
    fs::set_permissions(directory.at(""), PermissionsExt::from_mode(0o555)).unwrap();
    unprivileged(|| {
        for create in WAYS {
            let place = directory.place("new", UPLOAD);
            let refused = create(&directory.kernel, &place, 1).err().unwrap();
            assert_eq!(refused.code, ErrorCode::FileUnwritable);
            let fault = refused.fault.unwrap();
            assert_eq!(
                (fault.operation, fault.path),
                ("making", directory.at("new"))
            );
        }
    });
}

#[test]
fn a_full_file_system_is_reported() {
    if !Uid::effective().is_root() {
        println!("skipped: needs root to mount a small file system");
        return;
    }
    let directory = TestDirectory::new();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| on_a_full_file_system(&directory));
        thread.join().unwrap();
    });
}

/// Runs on a thread with its own mount namespace.
fn on_a_full_file_system(directory: &TestDirectory) {
    const MIB: u64 = 1 << 20;
    let nothing = None::<&str>;
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
        println!("skipped: no mount namespace: {errno}");
        return;
    }
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(nothing, Path::new("/"), nothing, private, nothing).unwrap();
    let (none, small) = (MsFlags::empty(), Some("size=1m"));
    mount(nothing, &directory.at(""), Some("tmpfs"), none, small).unwrap();

    let upload = |name, length| WAYS[0](&directory.kernel, &directory.place(name, CHANGE), length);
    assert_eq!(
        code_of(upload("large", 2 * MIB)).err(),
        Some(ErrorCode::NoSpace)
    );
    assert_eq!(
        code_of(check_free_space(
            &*directory.kernel,
            &directory.at(""),
            2 * MIB
        )),
        Err(ErrorCode::NoSpace)
    );

    // Space allocated for the first upload is not free for the second.
    let first = upload("first", MIB / 4 * 3).unwrap();
    assert_eq!(
        code_of(upload("second", MIB / 2)).err(),
        Some(ErrorCode::NoSpace)
    );
    drop(first);

    // Without allocated space the write itself fails.
    fs::write(directory.at("old"), "old").unwrap();
    for create in WAYS {
        let mut upload = create(&directory.kernel, &directory.place("old", CHANGE), 0).unwrap();
        let written = upload.write(&vec![b'x'; 2 * MIB as usize]);
        assert_eq!(code_of(written), Err(ErrorCode::NoSpace));
        drop(upload);
        assert_eq!(directory.files(), [file("old", "old")]);
    }
    upload("third", MIB / 2).unwrap();
}

#[test]
fn errors_follow_the_order_directory_right_name() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("sub")).unwrap();
    fs::write(directory.at("sub/taken"), "").unwrap();
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
        let judged = code_of(check_upload(
            &*directory.kernel,
            &directory.place(below, rights),
        ));
        assert_eq!(judged, expected, "{below:?} {rights:?}");
    }
    let nowhere = place(&directory.at("missing"), "x", UPLOAD);
    let judged = code_of(check_upload(&*directory.kernel, &nowhere));
    assert_eq!(judged, Err(ErrorCode::NoSuchDirectory));
}

#[test]
fn only_files_and_links_are_replaceable() {
    let directory = TestDirectory::new();
    fs::write(directory.at("file"), "").unwrap();
    fs::create_dir(directory.at("directory")).unwrap();
    symlink("nowhere", directory.at("dangling")).unwrap();
    symlink("../outside/canary", directory.at("leading-out")).unwrap();
    mkfifo(&directory.at("fifo"), Mode::S_IRWXU).unwrap();
    for (name, expected) in [
        ("file", Ok(())),
        ("dangling", Ok(())),
        ("leading-out", Ok(())),
        ("directory", Err(ErrorCode::FileExists)),
        ("fifo", Err(ErrorCode::FileExists)),
    ] {
        let judged = code_of(check_upload(
            &*directory.kernel,
            &directory.place(name, CHANGE),
        ));
        assert_eq!(judged, expected, "{name}");
        let judged = code_of(check_upload(
            &*directory.kernel,
            &directory.place(name, UPLOAD),
        ));
        assert_eq!(judged, Err(ErrorCode::FileExists), "{name}");
    }
}

#[test]
fn replacing_a_file_needs_room_for_the_difference() {
    let directory = TestDirectory::new();
    let place = directory.place("file", CHANGE);
    let ledger = Arc::new(QuotaLedger::default());
    ledger.track([directory.at("")].into_iter());
    let mut scan = UsageScan::begin(&ledger, &directory.at("")).unwrap();
    while scan.step(&*directory.kernel) == Step::More {}
    let limit = || QuotaLimit {
        paths: vec![directory.at("")],
        max_bytes: 100,
        max_files: Some(1),
    };
    let begin = |name: &str, spec| {
        let place = directory.place(name, CHANGE);
        let reservation = ledger.reserve(&directory.at(name), vec![limit()]);
        create_upload(&directory.kernel, &place, spec)?.with_reservation(reservation)
    };
    let store = |name: &str, spec, bytes: usize| {
        let mut upload = begin(name, spec)?;
        while upload.copy_base()? == Step::More {}
        upload.write(&vec![b'x'; bytes])?;
        upload.publish()
    };
    let used = || ledger.usage(&[directory.at("")]);
    store("file", spec(80), 80).unwrap();
    // Announced, or not.
    store("file", spec(90), 90).unwrap();
    store("file", continuing(UploadBase::Empty), 95).unwrap();
    store("file", continuing(UploadBase::Whole), 1).unwrap();
    store("file", continuing(UploadBase::Prefix(90)), 10).unwrap();
    assert_eq!(used(), StorageUse::file(100));
    let over = Err(ErrorCode::OverQuota);
    assert_eq!(
        code_of(store("file", continuing(UploadBase::Whole), 1)),
        over
    );
    assert_eq!(code_of(store("file", spec(101), 0)), over);
    assert_eq!(
        code_of(store("other", spec(0), 0)),
        over,
        "one file is permitted"
    );
    store("file", spec(10), 10).unwrap();
    assert_eq!(used(), StorageUse::file(10));

    // Two uploads that replace the same file release it once.
    fs::write(directory.at("file"), [b'x'; 10]).unwrap();
    let mut both = [(); 2].map(|()| begin("file", spec(55)).unwrap());
    assert_eq!(used(), StorageUse::file(100), "45 more bytes each");
    let refused = begin("file", spec(11));
    assert_eq!(code_of(refused).err(), Some(ErrorCode::OverQuota));
    for upload in &mut both {
        upload.write(&[b'x'; 55]).unwrap();
    }
    for upload in both {
        upload.publish().unwrap();
    }
    assert_eq!(used(), StorageUse::file(55));

    // The file that was to be replaced is gone.
    let mut upload = begin("file", spec(100)).unwrap();
    upload.write(&[b'x'; 100]).unwrap();
    let removal = PendingModification::new(
        Modification::Remove(place),
        ledger.reserve_move(&directory.at("file"), &directory.at("file"), Vec::new()),
    )
    .step(&*directory.kernel);
    assert!(matches!(removal, Step::Done(Ok(Response::Done))));
    assert_eq!(
        used(),
        StorageUse {
            bytes: 45,
            files: 0
        }
    );
    upload.publish().unwrap();
    assert_eq!(used(), StorageUse::file(100));
}

#[test]
fn announced_space_is_allocated_as_data_arrives() {
    let directory = TestDirectory::new();
    let place = directory.place("new", UPLOAD);
    let announced = 3 * ALLOCATION_STEP_BYTES;
    let mut upload = create_upload(&directory.kernel, &place, spec(announced)).unwrap();
    assert_eq!(upload.allocated, ALLOCATION_STEP_BYTES);
    upload.write(b"x").unwrap();
    assert_eq!(upload.allocated, ALLOCATION_STEP_BYTES);
    upload
        .write(&vec![0; ALLOCATION_STEP_BYTES as usize])
        .unwrap();
    assert_eq!(upload.allocated, 2 * ALLOCATION_STEP_BYTES + 1);
    upload
        .write(&vec![0; ALLOCATION_STEP_BYTES as usize + 1])
        .unwrap();
    assert_eq!(upload.allocated, announced);
}

#[test]
fn uploads_are_published_without_hard_links() {
    for seed in 0..32 {
        let kernel = Arc::new(Sim::new(seed));
        kernel.set_links(false);
        kernel.put("/srv/taken", SimEntry::File(b"old".to_vec()));
        let upload = |name, rights| {
            let place = place(Path::new("/srv"), name, rights);
            kernel.as_worker(|| {
                let mut upload = create_upload(&kernel, &place, spec(3))?;
                upload.write(b"new")?;
                upload.publish()
            })
        };
        assert_eq!(code_of(upload("free", UPLOAD)), Ok(()), "seed {seed}");
        assert_eq!(code_of(upload("taken", CHANGE)), Ok(()), "seed {seed}");
        assert_eq!(
            code_of(upload("free", UPLOAD)),
            Err(ErrorCode::FileExists),
            "seed {seed}"
        );
        let files = kernel.tree();
        for name in ["/srv/free", "/srv/taken"] {
            let content = files[name].as_ref().expect("a file");
            assert_eq!(**content, b"new");
        }
        assert!(
            files.keys().all(|path| !path.contains(".part")),
            "{files:?}"
        );
    }
}
