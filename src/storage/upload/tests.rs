//! Uploads, from their first byte to their name, over a real disk and a simulated one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Barrier;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use crate::kernel::linux::Linux;
use crate::storage::tests::{
    CANARY, CHANGE, DROP_BOX, READ, UPLOAD, World, open_to_all, refusal, without_power,
};
use crate::storage::upload::*;
use crate::storage::{OrphanSweep, QuotaLedger, room};

type Create = fn(&Arc<Linux>, &GrantedPath, u64) -> Result<StagedUpload<Linux>, Refused>;

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
        base: UploadBase::Empty,
        keep_free: 0,
    }
}

fn upon(base: UploadBase) -> Wanted {
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
        assert_eq!(refusal(refused.commit()), Err(ErrorCode::FileExists));
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
            assert_eq!(refusal(incoming.commit()), Err(ErrorCode::FileExists));
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
            assert_eq!(refusal(refused).err(), Some(ErrorCode::FileExists));
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
        (UploadBase::Empty, "new"),
        (UploadBase::Prefix(0), "new"),
        (UploadBase::Prefix(3), "oldnew"),
        (UploadBase::Prefix(11), "old content new"),
        (UploadBase::Whole, "old content new"),
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
    let new = create(
        &world.kernel,
        &world.place("new", CHANGE),
        upon(UploadBase::Whole),
    )
    .unwrap();
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
        refused("file", UPLOAD, UploadBase::Whole),
        Some(ErrorCode::FileExists)
    );
    for (below, base) in [
        ("file", 6),
        ("file", u64::MAX),
        ("new", 1),
        ("out", 1),
        ("link", 6),
    ] {
        let base = UploadBase::Prefix(base);
        assert_eq!(
            refused(below, CHANGE, base),
            Some(ErrorCode::OffsetBeyondEnd),
            "{below}"
        );
    }
    // What a link leads to is built on; the link itself is replaced.
    let place = world.place("link", CHANGE);
    let mut incoming = create(&world.kernel, &place, upon(UploadBase::Whole)).unwrap();
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
        let mut incoming = create(&world.kernel, &place, upon(UploadBase::Whole)).unwrap();
        assert!(incoming.fill().unwrap());
        incoming.write(text.as_bytes()).unwrap();
        incoming
    };
    let (first, second) = (append("1"), append("2"));
    first.commit().unwrap();
    assert_eq!(refusal(second.commit()), Err(ErrorCode::FileExists));
    assert_eq!(world.files(), [file("file", "old1")]);
}

/// The same, each on a thread of its own, in the same moment.
#[test]
fn of_two_who_append_at_once_only_one_is_told_that_it_is_there() {
    let world = World::in_memory();
    let place = world.place("file", CHANGE);
    let ledger = Arc::new(QuotaLedger::default());
    for round in 0..400 {
        fs::write(world.at("file"), "old").unwrap();
        let append = |text: &str| {
            let incoming = create(&world.kernel, &place, upon(UploadBase::Whole)).unwrap();
            let claim = ledger.claim(&world.at("file"), Vec::new(), 0).unwrap();
            let mut incoming = incoming.claimed(claim).unwrap();
            assert!(incoming.fill().unwrap());
            incoming.write(text.as_bytes()).unwrap();
            incoming
        };
        let (first, second) = (append("1"), append("2"));
        let barrier = Barrier::new(2);
        let commit = |incoming: StagedUpload<Linux>| {
            barrier.wait();
            refusal(incoming.commit())
        };
        let told = std::thread::scope(|scope| {
            let first = scope.spawn(|| commit(first));
            let second = commit(second);
            (first.join().unwrap(), second)
        });
        let there = match told {
            (Ok(()), Err(ErrorCode::FileExists)) => "old1",
            (Err(ErrorCode::FileExists), Ok(())) => "old2",
            both => panic!("round {round}: {both:?}"),
        };
        assert_eq!(world.files(), [file("file", there)]);
    }
}

#[test]
fn what_is_built_on_is_copied_in_slices_and_may_not_be_cut_meanwhile() {
    let world = World::in_memory();
    let content = vec![b'x'; COPY_SLICE_BYTES + 5];
    fs::write(world.at("file"), &content).unwrap();
    let place = world.place("file", CHANGE);
    let create = || create(&world.kernel, &place, upon(UploadBase::Whole)).unwrap();
    let mut incoming = create();
    assert!(!incoming.fill().unwrap());
    assert!(incoming.fill().unwrap());
    assert_eq!(incoming.length(), content.len() as u64);
    let mut incoming = create();
    fs::write(world.at("file"), "short").unwrap();
    assert_eq!(refusal(incoming.fill()), Err(ErrorCode::OffsetBeyondEnd));
}

#[test]
fn no_more_than_may_come_is_written() {
    let world = World::new();
    fs::write(world.at("file"), "12345").unwrap();
    let place = world.place("file", CHANGE);
    let most = |most, length, base| {
        let wanted = Wanted {
            length,
            most,
            base,
            keep_free: 0,
        };
        create(&world.kernel, &place, wanted)
    };
    let mut incoming = most(3, None, UploadBase::Empty).unwrap();
    incoming.write(b"123").unwrap();
    assert_eq!(refusal(incoming.write(b"4")), Err(ErrorCode::TooLarge));
    for (length, base) in [
        (Some(4), UploadBase::Empty),
        (None, UploadBase::Whole),
        (Some(1), UploadBase::Prefix(3)),
    ] {
        let refused = refusal(most(3, length, base)).err();
        assert_eq!(refused, Some(ErrorCode::TooLarge));
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
        ("", READ, Some(ErrorCode::UploadDenied)),
        ("missing", UPLOAD, Some(ErrorCode::NoSuchDirectory)),
        ("../outside", UPLOAD, Some(ErrorCode::InvalidName)),
    ] {
        let place = world.place(below, rights);
        let created = create_unique(&world.kernel, &place, wanted(0));
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
        let mut sweep = OrphanSweep::new(&world.at(""));
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
            assert_eq!(refused.refusal, ErrorCode::FileUnwritable);
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
        Some(ErrorCode::NoSpace)
    );
    assert_eq!(
        refusal(room(&*world.kernel, &world.at(""), 2 * MIB)),
        Err(ErrorCode::NoSpace)
    );

    // What is reserved for the first is not there for the second.
    let first = upload("first", MIB / 4 * 3).unwrap();
    assert_eq!(
        refusal(upload("second", MIB / 2)).err(),
        Some(ErrorCode::NoSpace)
    );
    drop(first);

    // Room that is taken although it was reserved, as a file system may do that cannot reserve.
    fs::write(world.at("old"), "old").unwrap();
    for create in WAYS {
        let mut incoming = create(&world.kernel, &world.place("old", CHANGE), 0).unwrap();
        let written = incoming.write(&vec![b'x'; 2 * MIB as usize]);
        assert_eq!(refusal(written), Err(ErrorCode::NoSpace));
        drop(incoming);
        assert_eq!(world.files(), [file("old", "old")]);
    }
    upload("third", MIB / 2).unwrap();
}
