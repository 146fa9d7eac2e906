//! The open-file cache on a real file system.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::kernel::linux::Linux;
use crate::kernel::sim::{Sim, SimEntry};
use crate::storage::open_files::*;
use crate::storage::tests::{
    CANARY, CHANGE_HIDDEN, CHANGE_UNSEEN, DROP_BOX, READ, TestDirectory, UPLOAD, code_of, place,
    unprivileged,
};

type OpenResult = Result<Arc<OpenFile<Linux>>, StorageError>;

fn new_cache<K: Kernel>(kernel: Arc<K>) -> OpenFileCache<K> {
    OpenFileCache::new(kernel, Arc::new(|_, _| ()))
}

fn local() -> Arc<Device> {
    Device::detached(1, FileSystemKind::Local)
}

/// Opens on a local device, by a worker where the event loop leaves it to one.
fn open_shared<K: Kernel>(
    cache: &mut OpenFileCache<K>,
    place: &GrantedPath,
    now: Instant,
) -> Result<Arc<OpenFile<K>>, StorageError> {
    if let Some(file) = cache.open(place, local, now)? {
        return Ok(file);
    }
    let (kernel, close) = (cache.kernel.clone(), cache.close().clone());
    let known = cache.peek(place);
    let file = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            kernel.enter_worker();
            open_file(&*kernel, place, &Devices::default(), known, &close)
        });
        worker.join().expect("the worker ends")
    })?;
    cache.add(place, file.clone(), now);
    Ok(file)
}

/// Opens in a new tick.
fn open_in(cache: &mut OpenFileCache<Linux>, place: &GrantedPath) -> OpenResult {
    cache.begin_tick();
    open_shared(cache, place, Instant::now())
}

fn content(file: &OpenFile<Linux>) -> String {
    let kernel = Linux::new().unwrap();
    let mut buffer = vec![0; 1024];
    let read = kernel.read_at(file.file(), &mut buffer, 0).unwrap();
    String::from_utf8(buffer[..read].to_vec()).unwrap()
}

fn outcome(opened: OpenResult) -> Result<String, ErrorCode> {
    code_of(opened).map(|file| content(&file))
}

#[test]
fn links_are_followed_inside_the_directory_only() {
    let directory = TestDirectory::new();
    fs::create_dir_all(directory.at("sub/deep")).unwrap();
    fs::create_dir(directory.at(".hidden")).unwrap();
    fs::write(directory.at("file"), "content").unwrap();
    fs::write(directory.at("sub/inner"), "inner").unwrap();
    fs::write(directory.at(".hidden/file"), "hidden").unwrap();
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
        symlink(to, directory.at(link)).unwrap();
    }
    symlink(directory.at("file"), directory.at("absolute")).unwrap();
    let content = |text: &str| Ok(text.to_owned());
    let mut cache = new_cache(directory.kernel.clone());
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
        let opened = outcome(open_in(&mut cache, &directory.place(below, READ)));
        assert_eq!(opened, expected, "{below}");
    }
    // The granted directory itself may be a link.
    symlink("granted", directory.at("../by-link")).unwrap();
    let by_link = place(&directory.at("../by-link"), "same", READ);
    assert_eq!(outcome(open_in(&mut cache, &by_link)), content("content"));
}

#[test]
fn path_traversal_is_rejected() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("sub")).unwrap();
    fs::write(directory.at("file"), "").unwrap();
    let outside = directory.at("../outside/canary").display().to_string();
    let long = "../".repeat(1300) + "etc/passwd";
    let wide = "sub/".repeat(1020) + "file";
    let mut cache = new_cache(directory.kernel.clone());
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
        let refusal = outcome(open_in(&mut cache, &directory.place(below, READ)));
        assert!(
            matches!(refusal, Err(ErrorCode::NoSuchFile)),
            "{below}: {refusal:?}"
        );
    }
    // Magic links of /proc.
    for below in [
        "exe",
        "root/etc/passwd",
        "cwd/Cargo.toml",
        "fd/0",
        "task/../exe",
    ] {
        let magic = place(Path::new("/proc/self"), below, READ);
        assert!(open_in(&mut cache, &magic).is_err(), "{below}");
    }
    assert!(cache.files.is_empty());
}

#[test]
fn only_regular_files_are_opened_without_blocking() {
    let directory = TestDirectory::new();
    mkfifo(&directory.at("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(directory.at("socket")).unwrap();
    symlink("fifo", directory.at("link")).unwrap();
    let mut cache = new_cache(directory.kernel.clone());
    for below in ["fifo", "socket", "link"] {
        let opened = outcome(open_in(&mut cache, &directory.place(below, READ)));
        assert_eq!(opened, Err(ErrorCode::NoSuchFile), "{below}");
    }
    let device = place(Path::new("/dev"), "zero", READ);
    assert_eq!(
        outcome(open_in(&mut cache, &device)),
        Err(ErrorCode::NoSuchFile)
    );
}

#[test]
fn unreadable_files_are_reported_with_their_cause() {
    let directory = TestDirectory::new();
    fs::create_dir_all(directory.at("closed/inner")).unwrap();
    fs::write(directory.at("secret"), "").unwrap();
    fs::write(directory.at("closed/inner/file"), "").unwrap();
    let closed =
        |below| fs::set_permissions(directory.at(below), PermissionsExt::from_mode(0o000)).unwrap();
    closed("secret");
    closed("closed");
    directory.open_to_all();
    unprivileged(|| {
        let mut cache = new_cache(directory.kernel.clone());
        for (below, expected) in [
            ("secret", ErrorCode::FileUnreadable),
            ("closed/inner/file", ErrorCode::FileUnreadable),
        ] {
            let refused = open_in(&mut cache, &directory.place(below, READ))
                .err()
                .unwrap();
            assert_eq!(refused.code, expected, "{below}");
            let fault = refused.fault.unwrap();
            assert_eq!(fault.source.kind(), io::ErrorKind::PermissionDenied);
        }
    });
    fs::set_permissions(directory.at("closed"), PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn a_drop_box_serves_no_files() {
    let directory = TestDirectory::new();
    fs::write(directory.at("file"), "content").unwrap();
    let mut cache = new_cache(directory.kernel.clone());
    let _shared = open_in(&mut cache, &directory.place("file", READ)).unwrap();
    for (below, expected) in [
        ("file", ErrorCode::NoSuchFile),
        ("missing", ErrorCode::NoSuchFile),
        ("missing/file", ErrorCode::NoSuchFile),
    ] {
        let opened = outcome(open_in(&mut cache, &directory.place(below, DROP_BOX)));
        assert_eq!(opened, Err(expected), "{below}");
    }
    assert!(open_in(&mut cache, &directory.place("file", UPLOAD)).is_ok());
}

#[test]
fn an_unchanged_file_is_shared() {
    let directory = TestDirectory::new();
    let write = |text: &str| fs::write(directory.at("file"), text).unwrap();
    write("first");
    let place = directory.place("file", READ);
    let mut cache = new_cache(directory.kernel.clone());
    let first = open_in(&mut cache, &place).unwrap();
    assert!(Arc::ptr_eq(&first, &open_in(&mut cache, &place).unwrap()));

    // Replaced: the check is made once per tick, and a download keeps its file.
    fs::write(directory.at("new"), "second").unwrap();
    fs::rename(directory.at("new"), directory.at("file")).unwrap();
    let same_tick = open_shared(&mut cache, &place, Instant::now()).unwrap();
    assert!(Arc::ptr_eq(&first, &same_tick));
    let second = open_in(&mut cache, &place).unwrap();
    assert_eq!(
        (content(&first), content(&second)),
        ("first".into(), "second".into())
    );

    // Grown, then truncated: the length is that of the open.
    write("grown longer");
    let grown = open_in(&mut cache, &place).unwrap();
    assert_eq!((second.length(), grown.length()), (6, 12));
    write("cut");
    let cut = open_in(&mut cache, &place).unwrap();
    assert_eq!((grown.length(), cut.length()), (12, 3));
    assert_eq!(content(&grown), "cut");

    // Overwritten with its modification time restored: the change time differs.
    let written = fs::metadata(directory.at("file"))
        .unwrap()
        .modified()
        .unwrap();
    std::thread::sleep(Duration::from_millis(20));
    write("CUT");
    fs::File::options()
        .write(true)
        .open(directory.at("file"))
        .unwrap()
        .set_modified(written)
        .unwrap();
    let over = open_in(&mut cache, &place).unwrap();
    assert!(!Arc::ptr_eq(&cut, &over));

    fs::remove_file(directory.at("file")).unwrap();
    assert_eq!(
        outcome(open_in(&mut cache, &place)),
        Err(ErrorCode::NoSuchFile)
    );
    assert_eq!(cache.files.len(), 0);
    write("again");
    assert_eq!(outcome(open_in(&mut cache, &place)), Ok("again".into()));
    fs::remove_dir_all(directory.at("")).unwrap();
    assert_eq!(
        outcome(open_in(&mut cache, &place)),
        Err(ErrorCode::NoSuchFile)
    );
}

#[test]
fn cached_files_are_found_by_valid_names_only() {
    let directory = TestDirectory::new();
    fs::create_dir_all(directory.at(".private/sub")).unwrap();
    for name in [".private/secret", ".private/sub/file"] {
        fs::write(directory.at(name), "secret").unwrap();
    }
    symlink("../outside/canary", directory.at(".private/link")).unwrap();
    let mut cache = new_cache(directory.kernel.clone());
    // One user reads the hidden directory, another one the directory around it.
    let around = directory.at("").display().to_string();
    for inner in ["/.private", "//.private", "//.private/", "/./.private//"] {
        let inner = PathBuf::from(format!("{}{inner}", around.trim_end_matches('/')));
        for below in ["secret", "sub/file"] {
            assert!(open_in(&mut cache, &place(&inner, below, READ)).is_ok());
        }
    }
    for below in [
        ".private//secret",
        ".private/secret",
        "/.private//secret",
        "/.private/secret",
        ".private///secret",
        ".private//sub/file",
        ".private/sub//file",
        "./.private/secret",
        ".private//link",
        ".private\0secret",
    ] {
        for root in [around.clone(), around.trim_end_matches('/').to_owned()] {
            let opened = outcome(open_in(&mut cache, &place(Path::new(&root), below, READ)));
            assert_eq!(opened, Err(ErrorCode::NoSuchFile), "{below:?}");
        }
    }
}

#[test]
fn cached_files_are_found_with_the_rights_only() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at(".git")).unwrap();
    let names = ["visible", ".htaccess", ".git/config"];
    for name in names {
        fs::write(directory.at(name), "content").unwrap();
    }
    let mut cache = new_cache(directory.kernel.clone());
    for below in names {
        let with_right = directory.place(below, CHANGE_HIDDEN);
        assert!(open_in(&mut cache, &with_right).is_ok());
        for rights in [DROP_BOX, CHANGE_UNSEEN, READ] {
            let opened = outcome(open_in(&mut cache, &directory.place(below, rights)));
            match rights.read && below == "visible" {
                true => assert_eq!(opened, Ok("content".into())),
                false => assert_eq!(opened, Err(ErrorCode::NoSuchFile), "{below} {rights}"),
            }
        }
    }
}

#[test]
fn a_path_that_came_to_lead_outside_expires() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("sub")).unwrap();
    fs::write(directory.at("sub/file"), "content").unwrap();
    let path = directory.place("sub/file", READ);
    let mut cache = new_cache(directory.kernel.clone());
    let start = Instant::now();
    let mut open_after = |seconds| {
        cache.begin_tick();
        let now = start + Duration::from_secs(seconds);
        code_of(open_shared(&mut cache, &path, now).map(drop))
    };
    assert_eq!(open_after(0), Ok(()));
    // The file itself does not change.
    fs::rename(directory.at("sub"), directory.at("../outside/sub")).unwrap();
    symlink("../outside/sub", directory.at("sub")).unwrap();
    for seconds in 1..10 {
        assert_eq!(open_after(seconds), Ok(()));
    }
    assert_eq!(open_after(10), Err(ErrorCode::NoSuchFile));
}

#[test]
fn nested_grants_do_not_share_links() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("sub")).unwrap();
    fs::write(directory.at("file"), "content").unwrap();
    symlink("../file", directory.at("sub/link")).unwrap();
    let mut cache = new_cache(directory.kernel.clone());
    let from_above = directory.place("sub/link", READ);
    let from_within = place(&directory.at("sub"), "link", READ);
    assert!(open_in(&mut cache, &from_above).is_ok());
    assert_eq!(
        outcome(open_in(&mut cache, &from_within)),
        Err(ErrorCode::NoSuchFile)
    );
}

#[test]
fn small_files_are_mapped_once() {
    let directory = TestDirectory::new();
    fs::write(directory.at("empty"), "").unwrap();
    fs::write(directory.at("small"), "x").unwrap();
    fs::write(
        directory.at("largest"),
        vec![b'x'; limits::MAPPED_FILE_BYTES_MAX as usize],
    )
    .unwrap();
    fs::write(
        directory.at("large"),
        vec![b'x'; limits::MAPPED_FILE_BYTES_MAX as usize + 1],
    )
    .unwrap();
    let mut cache = new_cache(directory.kernel.clone());
    for (name, is_mapped) in [
        ("empty", false),
        ("small", true),
        ("largest", true),
        ("large", false),
    ] {
        let file = open_in(&mut cache, &directory.place(name, READ)).unwrap();
        assert_eq!(file.map(&directory.kernel).is_some(), is_mapped, "{name}");
        let again = file.map(&directory.kernel).map(std::ptr::from_ref);
        assert_eq!(again, file.map(&directory.kernel).map(std::ptr::from_ref));
    }
}

#[test]
fn unused_files_are_evicted() {
    let directory = TestDirectory::new();
    let mut cache = new_cache(directory.kernel.clone());
    let start = Instant::now();
    let mut opened = Vec::new();
    for number in 0..limits::CACHED_FILES_MAX * 3 {
        let name = number.to_string();
        fs::write(directory.at(&name), &name).unwrap();
        cache.begin_tick();
        let now = start + Duration::from_micros(number as u64);
        let file = open_shared(&mut cache, &directory.place(&name, READ), now).unwrap();
        if number < 100 {
            opened.push(file);
        }
        let unused = cache
            .files
            .values()
            .filter(|cached| cached.is_unused())
            .count();
        assert!(
            unused <= limits::CACHED_FILES_MAX,
            "{unused} after {number}"
        );
    }
    // Files with a download stay; of the others the most recently used.
    let late = start + limits::CACHED_FILE_AGE_MAX * 2;
    let last = directory.place(&(limits::CACHED_FILES_MAX * 3 - 1).to_string(), READ);
    open_shared(&mut cache, &last, late).unwrap();
    cache.evict_expired(late);
    assert_eq!(cache.files.len(), 101);
    cache.evict_expired(late + limits::CACHED_FILE_AGE_MAX);
    assert_eq!(cache.files.len(), 100);
    let held = open_shared(&mut cache, &directory.place("7", READ), late).unwrap();
    assert!(Arc::ptr_eq(&held, &opened[7]));
    drop((held, opened));
    assert_eq!(cache.files.len(), 100);
    cache.evict_expired(late + limits::CACHED_FILE_AGE_MAX * 2);
    assert_eq!(cache.files.len(), 0);

    open_shared(&mut cache, &last, late).unwrap();
    cache.evict_unused();
    assert_eq!(cache.files.len(), 0);
}

#[test]
fn a_prefetch_covers_its_last_page() {
    for seed in 0..32 {
        let kernel = Arc::new(Sim::new(seed));
        kernel.put("/Movies/Joker", SimEntry::File(vec![0; 3 * 4096]));
        let joker = place(Path::new("/Movies"), "Joker", READ);
        let file = open_shared(&mut new_cache(kernel.clone()), &joker, Instant::now());
        let file = file.unwrap();
        if kernel.is_cached(file.file(), 1).is_ok() {
            kernel
                .as_worker(|| file.prefetch(&*kernel, 1, 8192))
                .unwrap();
            assert!(file.is_cached(&*kernel, 1, 8192), "seed {seed}");
        }
    }
}

#[test]
fn swapped_names_never_lead_outside() {
    let directory = TestDirectory::new();
    fs::create_dir(directory.at("directory")).unwrap();
    fs::write(directory.at("directory/canary"), "harmless").unwrap();
    fs::write(directory.at("file"), "harmless").unwrap();
    symlink("../outside", directory.at("swap-directory")).unwrap();
    symlink("../outside/canary", directory.at("swap-file")).unwrap();
    let pairs = [("directory", "swap-directory"), ("file", "swap-file")]
        .map(|(one, other)| (directory.at(one), directory.at(other)));
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
        let mut cache = new_cache(directory.kernel.clone());
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            for below in [
                "directory/canary",
                "file",
                "swap-directory/canary",
                "swap-file",
            ] {
                match outcome(open_in(&mut cache, &directory.place(below, READ))) {
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
    assert!(
        counts[0] > 0 && counts[1] > 0,
        "both outcomes occurred: {counts:?}"
    );
}

#[test]
fn a_worker_shares_and_closes_files_of_remote_devices() {
    let directory = TestDirectory::new();
    fs::write(directory.at("file"), "one").unwrap();
    let place = directory.place("file", READ);
    let devices = Devices::default();
    let id = directory.kernel.status_by_path(&directory.at("")).unwrap();
    devices.with_id(id.device, || FileSystemKind::Remote);
    let closed = Arc::new(AtomicBool::new(false));
    let close: CloseFile<Linux> = {
        let closed = closed.clone();
        Arc::new(move |_, _| closed.store(true, Ordering::Relaxed))
    };
    let mut cache = OpenFileCache::new(directory.kernel.clone(), close.clone());
    let open = |known| open_file(&*directory.kernel, &place, &devices, known, &close).unwrap();

    let file = open(cache.peek(&place));
    assert!(!file.is_inline());
    cache.add(&place, file.clone(), Instant::now());
    assert!(Arc::ptr_eq(&file, &open(cache.peek(&place))));
    fs::write(directory.at("file"), "other").unwrap();
    let changed = open(cache.peek(&place));
    assert!(!Arc::ptr_eq(&file, &changed));
    assert_eq!(content(&changed), "other");
    assert!(!closed.load(Ordering::Relaxed));
    drop(changed);
    assert!(closed.load(Ordering::Relaxed));
}
