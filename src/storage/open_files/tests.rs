//! What is opened and what never is, and what is shared, asked of a real file system.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::kernel::linux::Linux;
use crate::kernel::sim::{Entry, Sim};
use crate::storage::open_files::*;
use crate::storage::tests::{
    CANARY, DROP_BOX, READ, UPLOAD, World, open_to_all, place, refusal, without_power,
};

type Opened = Result<Arc<OpenFile<Linux>>, Refused>;

/// Opens in a turn of its own.
fn open_in(vault: &mut OpenFileCache<Linux>, place: &GrantedPath) -> Opened {
    vault.begin_turn();
    vault.open_read(place, Instant::now())
}

fn content(file: &OpenFile<Linux>) -> String {
    let kernel = Linux::new().unwrap();
    let mut buffer = vec![0; 1024];
    let read = kernel.read_at(file.file(), &mut buffer, 0).unwrap();
    String::from_utf8(buffer[..read].to_vec()).unwrap()
}

fn outcome(opened: Opened) -> Result<String, ErrorCode> {
    refusal(opened).map(|file| content(&file))
}

#[test]
fn what_leads_inside_is_followed_and_nothing_else() {
    let world = World::new();
    fs::create_dir_all(world.at("sub/deep")).unwrap();
    fs::create_dir(world.at(".hidden")).unwrap();
    fs::write(world.at("file"), "content").unwrap();
    fs::write(world.at("sub/inner"), "inner").unwrap();
    fs::write(world.at(".hidden/file"), "hidden").unwrap();
    for (link, to) in [
        ("same", "file"),
        ("sub/deep/up", "../../file"),
        ("around", "sub/../sub/deep/up"),
        ("through", "sub/deep"),
        ("dangling", "nowhere"),
        ("circle", "circle"),
        ("out", "../outside/canary"),
        ("out-and-in", "../granted/file"),
        ("out-directory", "../outside"),
        ("root", "/"),
    ] {
        symlink(to, world.at(link)).unwrap();
    }
    symlink(world.at("file"), world.at("absolute")).unwrap();
    let content = |text: &str| Ok(text.to_owned());
    let mut vault = OpenFileCache::new(world.kernel.clone());
    for (below, expected) in [
        ("file", content("content")),
        ("same", content("content")),
        ("sub/deep/up", content("content")),
        ("around", content("content")),
        ("through/up", content("content")),
        ("sub/inner", content("inner")),
        ("dangling", Err(ErrorCode::NoSuchFile)),
        ("circle", Err(ErrorCode::NoSuchFile)),
        ("out", Err(ErrorCode::NoSuchFile)),
        ("out-and-in", Err(ErrorCode::NoSuchFile)),
        ("absolute", Err(ErrorCode::NoSuchFile)),
        ("missing", Err(ErrorCode::NoSuchFile)),
        ("sub", Err(ErrorCode::NoSuchFile)),
        ("", Err(ErrorCode::NoSuchFile)),
        (".hidden/file", Err(ErrorCode::NoSuchFile)),
        ("out-directory/canary", Err(ErrorCode::NoSuchFile)),
        ("root/etc/passwd", Err(ErrorCode::NoSuchFile)),
        ("circle/x", Err(ErrorCode::NoSuchFile)),
        ("missing/file", Err(ErrorCode::NoSuchFile)),
        ("file/file", Err(ErrorCode::NoSuchFile)),
    ] {
        let opened = outcome(open_in(&mut vault, &world.place(below, READ)));
        assert_eq!(opened, expected, "{below}");
    }
    // The granted directory itself may be a link.
    symlink("granted", world.at("../by-link")).unwrap();
    let by_link = place(&world.at("../by-link"), "same", READ);
    assert_eq!(outcome(open_in(&mut vault, &by_link)), content("content"));
}

#[test]
fn no_spelling_leads_outside() {
    let world = World::new();
    fs::create_dir(world.at("sub")).unwrap();
    fs::write(world.at("file"), "").unwrap();
    let outside = world.at("../outside/canary").display().to_string();
    let long = "../".repeat(1300) + "etc/passwd";
    let wide = "sub/".repeat(1020) + "file";
    let mut vault = OpenFileCache::new(world.kernel.clone());
    for below in [
        "../outside/canary",
        "/../outside/canary",
        "sub/../../outside/canary",
        "sub/../file",
        "./file",
        "sub/./../file",
        "....//outside/canary",
        "..\\outside\\canary",
        "%2e%2e/outside/canary",
        "..%2foutside%2fcanary",
        "\u{ff0e}\u{ff0e}/outside/canary",
        "..\0/outside/canary",
        "file\0",
        "file/",
        "file/.",
        "sub//../file",
        "/etc/passwd",
        "~/canary",
        "~root",
        ".",
        "..",
        "...",
        "/",
        "//",
        &outside,
        &long,
        &wide,
        &"x".repeat(256),
        &"x".repeat(5000),
    ] {
        let refusal = outcome(open_in(&mut vault, &world.place(below, READ)));
        assert!(
            matches!(refusal, Err(ErrorCode::NoSuchFile)),
            "{below}: {refusal:?}"
        );
    }
    // The kernel's own links to whatever a process has open.
    for below in [
        "exe",
        "root/etc/passwd",
        "cwd/Cargo.toml",
        "fd/0",
        "task/../exe",
    ] {
        let magic = place(Path::new("/proc/self"), below, READ);
        assert!(open_in(&mut vault, &magic).is_err(), "{below}");
    }
    assert!(vault.files.is_empty());
}

#[test]
fn only_regular_files_are_opened_and_nothing_is_waited_for() {
    let world = World::new();
    mkfifo(&world.at("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(world.at("socket")).unwrap();
    symlink("fifo", world.at("link")).unwrap();
    let mut vault = OpenFileCache::new(world.kernel.clone());
    for below in ["fifo", "socket", "link"] {
        let opened = outcome(open_in(&mut vault, &world.place(below, READ)));
        assert_eq!(opened, Err(ErrorCode::NoSuchFile), "{below}");
    }
    let device = place(Path::new("/dev"), "zero", READ);
    assert_eq!(
        outcome(open_in(&mut vault, &device)),
        Err(ErrorCode::NoSuchFile)
    );
}

#[test]
fn who_may_not_read_is_told_apart_by_the_log() {
    let world = World::new();
    fs::create_dir_all(world.at("closed/inner")).unwrap();
    fs::write(world.at("secret"), "").unwrap();
    fs::write(world.at("closed/inner/file"), "").unwrap();
    let closed =
        |below| fs::set_permissions(world.at(below), PermissionsExt::from_mode(0o000)).unwrap();
    closed("secret");
    closed("closed");
    open_to_all(&world);
    without_power(|| {
        let mut vault = OpenFileCache::new(world.kernel.clone());
        for (below, expected) in [
            ("secret", ErrorCode::FileUnreadable),
            ("closed/inner/file", ErrorCode::FileUnreadable),
        ] {
            let refused = open_in(&mut vault, &world.place(below, READ))
                .err()
                .unwrap();
            assert_eq!(refused.refusal, expected, "{below}");
            let fault = refused.fault.unwrap();
            assert_eq!(fault.source.kind(), io::ErrorKind::PermissionDenied);
        }
    });
    fs::set_permissions(world.at("closed"), PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn a_drop_box_gives_nothing_out() {
    let world = World::new();
    fs::write(world.at("file"), "content").unwrap();
    let mut vault = OpenFileCache::new(world.kernel.clone());
    let _shared = open_in(&mut vault, &world.place("file", READ)).unwrap();
    for (below, expected) in [
        ("file", ErrorCode::NoSuchFile),
        ("missing", ErrorCode::NoSuchFile),
        ("missing/file", ErrorCode::NoSuchFile),
    ] {
        let opened = outcome(open_in(&mut vault, &world.place(below, DROP_BOX)));
        assert_eq!(opened, Err(expected), "{below}");
    }
    assert!(open_in(&mut vault, &world.place("file", UPLOAD)).is_ok());
}

#[test]
fn one_handle_serves_all_while_the_file_is_unchanged() {
    let world = World::new();
    let write = |text: &str| fs::write(world.at("file"), text).unwrap();
    write("first");
    let place = world.place("file", READ);
    let mut vault = OpenFileCache::new(world.kernel.clone());
    let first = open_in(&mut vault, &place).unwrap();
    assert!(Arc::ptr_eq(&first, &open_in(&mut vault, &place).unwrap()));

    // Replaced: within the turn nobody asks again, and who has it goes on.
    fs::write(world.at("new"), "second").unwrap();
    fs::rename(world.at("new"), world.at("file")).unwrap();
    let same_turn = vault.open_read(&place, Instant::now()).unwrap();
    assert!(Arc::ptr_eq(&first, &same_turn));
    let second = open_in(&mut vault, &place).unwrap();
    assert_eq!(
        (content(&first), content(&second)),
        ("first".into(), "second".into())
    );

    // Grown, then cut: the length is that of the opening.
    write("grown longer");
    let grown = open_in(&mut vault, &place).unwrap();
    assert_eq!((second.length(), grown.length()), (6, 12));
    write("cut");
    let cut = open_in(&mut vault, &place).unwrap();
    assert_eq!((grown.length(), cut.length()), (12, 3));
    assert_eq!(content(&grown), "cut");

    // Written over, its times put back: the inode's own time tells.
    let written = fs::metadata(world.at("file")).unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    write("CUT");
    fs::File::options()
        .write(true)
        .open(world.at("file"))
        .unwrap()
        .set_modified(written)
        .unwrap();
    let over = open_in(&mut vault, &place).unwrap();
    assert!(!Arc::ptr_eq(&cut, &over));

    fs::remove_file(world.at("file")).unwrap();
    assert_eq!(
        outcome(open_in(&mut vault, &place)),
        Err(ErrorCode::NoSuchFile)
    );
    assert_eq!(vault.files.len(), 0);
    write("again");
    assert_eq!(outcome(open_in(&mut vault, &place)), Ok("again".into()));
    fs::remove_dir_all(world.at("")).unwrap();
    assert_eq!(
        outcome(open_in(&mut vault, &place)),
        Err(ErrorCode::NoSuchFile)
    );
}

#[test]
fn grants_within_each_other_do_not_lend_their_links() {
    let world = World::new();
    fs::create_dir(world.at("sub")).unwrap();
    fs::write(world.at("file"), "content").unwrap();
    symlink("../file", world.at("sub/link")).unwrap();
    let mut vault = OpenFileCache::new(world.kernel.clone());
    let from_above = world.place("sub/link", READ);
    let from_within = place(&world.at("sub"), "link", READ);
    assert!(open_in(&mut vault, &from_above).is_ok());
    assert_eq!(
        outcome(open_in(&mut vault, &from_within)),
        Err(ErrorCode::NoSuchFile)
    );
}

#[test]
fn small_files_have_a_standing_map() {
    let world = World::new();
    fs::write(world.at("empty"), "").unwrap();
    fs::write(world.at("small"), "x").unwrap();
    fs::write(
        world.at("largest"),
        vec![b'x'; limits::MAPPED_FILE_BYTES_MAX as usize],
    )
    .unwrap();
    fs::write(
        world.at("large"),
        vec![b'x'; limits::MAPPED_FILE_BYTES_MAX as usize + 1],
    )
    .unwrap();
    let mut vault = OpenFileCache::new(world.kernel.clone());
    for (name, is_mapped) in [
        ("empty", false),
        ("small", true),
        ("largest", true),
        ("large", false),
    ] {
        let file = open_in(&mut vault, &world.place(name, READ)).unwrap();
        assert_eq!(file.map(&world.kernel).is_some(), is_mapped, "{name}");
        let again = file.map(&world.kernel).map(std::ptr::from_ref);
        assert_eq!(again, file.map(&world.kernel).map(std::ptr::from_ref));
    }
}

#[test]
fn files_without_a_download_are_few_and_soon_let_go() {
    let world = World::new();
    let mut vault = OpenFileCache::new(world.kernel.clone());
    let start = Instant::now();
    let mut opened = Vec::new();
    for number in 0..limits::CACHED_FILES_MAX * 3 {
        let name = number.to_string();
        fs::write(world.at(&name), &name).unwrap();
        vault.begin_turn();
        let now = start + Duration::from_micros(number as u64);
        let file = vault.open_read(&world.place(&name, READ), now).unwrap();
        if number < 100 {
            opened.push(file);
        }
        let unused = vault.files.values().filter(|kept| kept.is_unused()).count();
        assert!(
            unused <= limits::CACHED_FILES_MAX,
            "{unused} after {number}"
        );
    }
    // Those with a download stay, however old; then the youngest.
    let late = start + limits::CACHED_FILE_AGE_MAX * 2;
    let last = world.place(&(limits::CACHED_FILES_MAX * 3 - 1).to_string(), READ);
    vault.open_read(&last, late).unwrap();
    vault.sweep(late);
    assert_eq!(vault.files.len(), 101);
    vault.sweep(late + limits::CACHED_FILE_AGE_MAX);
    assert_eq!(vault.files.len(), 100);
    let held = vault.open_read(&world.place("7", READ), late).unwrap();
    assert!(Arc::ptr_eq(&held, &opened[7]));
    drop((held, opened));
    assert_eq!(vault.files.len(), 100);
    vault.sweep(late + limits::CACHED_FILE_AGE_MAX * 2);
    assert_eq!(vault.files.len(), 0);

    vault.open_read(&last, late).unwrap();
    vault.release_unused();
    assert_eq!(vault.files.len(), 0);
}

#[test]
fn a_stretch_that_begins_amid_a_page_is_warmed_to_its_last_byte() {
    for seed in 0..32 {
        let kernel = Arc::new(Sim::new(seed));
        kernel.put("/Movies/Joker", Entry::File(vec![0; 3 * 4096]));
        let joker = place(Path::new("/Movies"), "Joker", READ);
        let file = OpenFileCache::new(kernel.clone()).open_read(&joker, Instant::now());
        let file = file.unwrap();
        if kernel.is_cached(file.file(), 1).is_ok() {
            kernel
                .as_worker(|| file.warm_up(&*kernel, 1, 8192))
                .unwrap();
            assert!(file.is_warm(&*kernel, 1, 8192), "seed {seed}");
        }
    }
}

#[test]
fn names_that_are_swapped_meanwhile_never_lead_outside() {
    let world = World::new();
    fs::create_dir(world.at("directory")).unwrap();
    fs::write(world.at("directory/canary"), "harmless").unwrap();
    fs::write(world.at("file"), "harmless").unwrap();
    symlink("../outside", world.at("swap-directory")).unwrap();
    symlink("../outside/canary", world.at("swap-file")).unwrap();
    let pairs = [("directory", "swap-directory"), ("file", "swap-file")]
        .map(|(one, other)| (world.at(one), world.at(other)));
    let done = AtomicBool::new(false);
    let mut counts = [0; 2];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for (one, other) in &pairs {
                    let exchange = RenameFlags::RENAME_EXCHANGE;
                    renameat2(AT_FDCWD, one, AT_FDCWD, other, exchange).unwrap();
                }
            }
        });
        let mut vault = OpenFileCache::new(world.kernel.clone());
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            for below in [
                "directory/canary",
                "file",
                "swap-directory/canary",
                "swap-file",
            ] {
                match outcome(open_in(&mut vault, &world.place(below, READ))) {
                    Ok(text) => {
                        assert_ne!(text, CANARY);
                        counts[0] += 1;
                    }
                    Err(ErrorCode::NoSuchFile) => counts[1] += 1,
                    Err(other) => panic!("{below}: {other:?}"),
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(counts[0] > 0 && counts[1] > 0, "both were met: {counts:?}");
}
