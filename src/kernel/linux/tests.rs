//! What the server relies on, tested with real sockets and directories.

use std::fs;
use std::io;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream as Peer};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::Duration;

use mio::net::TcpStream;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal as SignalNumber, raise};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;
use xattr::FileExt;

use crate::kernel::linux::socket::canonical;
use crate::kernel::linux::*;
use crate::kernel::{FileKind, Kernel, OpenMode, Piece, Readiness, Signal};

const SOON: Option<Duration> = Some(Duration::from_secs(20));

#[test]
fn sockets_report_bytes_and_the_end() {
    let (linux, mut socket, mut peer) = connected();
    linux.register(&mut socket, 7).unwrap();
    let mut buffer = [0; 16];
    let error = linux.receive(&socket, &mut buffer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

    peer.write_all(b"hello").unwrap();
    let event = poll_until(&linux, |event| event.readable);
    assert_eq!((event.token, event.ended), (7, false));
    assert_eq!(linux.receive(&socket, &mut buffer).unwrap(), 5);

    peer.shutdown(Shutdown::Write).unwrap();
    assert!(poll_until(&linux, |event| event.ended).readable);
    assert_eq!(linux.receive(&socket, &mut buffer).unwrap(), 0);

    linux.shutdown_write(&socket).unwrap();
    assert_eq!(peer.read(&mut buffer).unwrap(), 0);
}

#[test]
fn received_bytes_are_acknowledged() {
    let (linux, socket, mut peer) = connected();
    let block = [0; 64 * 1024];
    while linux.send(&socket, &[Piece::Bytes(&block)], false).is_ok() {}
    assert!(linux.unacknowledged(&socket).unwrap() > 0);
    linux.shutdown_write(&socket).unwrap();
    io::copy(&mut peer, &mut io::sink()).unwrap();
    let deadline = linux.now() + SOON.unwrap();
    while linux.unacknowledged(&socket).unwrap() > 0 {
        assert!(linux.now() < deadline, "bytes stay unacknowledged");
        std::thread::yield_now();
    }
}

#[test]
fn an_accepted_socket_has_no_delay_and_never_blocks() {
    let (linux, socket, _peer) = connected();
    assert!(socket.nodelay().unwrap());
    let block = [0; 64 * 1024];
    let error = loop {
        match linux.send(&socket, &[Piece::Bytes(&block)], false) {
            Ok(sent) => assert!(sent > 0),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn ipv4_mapped_addresses_become_ipv4() {
    let event = |address: &str| canonical(address.parse().unwrap()).to_string();
    assert_eq!(event("[::ffff:10.0.0.1]:21"), "10.0.0.1:21");
    for other in ["10.0.0.1:21", "[fe80::1%3]:21"] {
        assert_eq!(event(other), other);
    }
}

#[test]
fn an_outgoing_connection_succeeds_or_is_refused() {
    let linux = Linux::new().unwrap();
    let here: IpAddr = [127, 0, 0, 1].into();
    let listener = std::net::TcpListener::bind((here, 0)).unwrap();
    let mut socket = linux
        .connect((here, 0).into(), listener.local_addr().unwrap())
        .unwrap();
    linux.register(&mut socket, 9).unwrap();
    poll_until(&linux, |event| event.writable);
    linux.connect_result(&socket).unwrap();
    let (mut peer, from) = listener.accept().unwrap();
    assert_eq!(linux.local_address(&socket).unwrap(), from);
    peer.write_all(b"hello").unwrap();
    poll_until(&linux, |event| event.readable);
    assert_eq!(linux.receive(&socket, &mut [0; 16]).unwrap(), 5);

    let closed = listener.local_addr().unwrap();
    drop(listener);
    let refused = linux
        .connect((here, 0).into(), closed)
        .and_then(|mut socket| {
            linux.register(&mut socket, 10)?;
            poll_until(&linux, |event| event.token == 10 && event.writable);
            linux.connect_result(&socket)
        });
    assert_eq!(
        refused.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

/// A read ends before an urgent byte, so a short read does not mean that no more bytes follow.
#[test]
fn an_urgent_byte_is_read_in_line() {
    use nix::sys::socket::{MsgFlags, send};
    let (linux, mut socket, mut peer) = connected();
    linux.register(&mut socket, 7).unwrap();
    peer.write_all(b"before").unwrap();
    send(peer.as_raw_fd(), b"\xff", MsgFlags::MSG_OOB).unwrap();
    peer.write_all(b"\xf2ABOR").unwrap();
    poll_until(&linux, |event| event.readable && event.ended);
    let mut read = Vec::new();
    let mut buffer = [0; 64];
    while read.len() < 12 {
        match linux.receive(&socket, &mut buffer) {
            Ok(n) => read.extend_from_slice(&buffer[..n]),
            Err(_) => drop(poll_until(&linux, |event| event.readable)),
        }
    }
    assert_eq!(read, b"before\xff\xf2ABOR");
}

#[test]
fn an_ipv6_listener_leaves_its_port_to_ipv4() {
    let linux = Linux::new().unwrap();
    match linux.listen("[::1]:0".parse().unwrap(), 1) {
        Ok(listener) => assert!(getsockopt(&listener, sockopt::Ipv6V6Only).unwrap()),
        Err(error) => println!("skipped: needs IPv6: {error}"),
    }
}

#[test]
fn a_wake_and_a_signal_end_the_poll() {
    let linux = Linux::new().unwrap();
    let mut ready = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| linux.wake());
        linux.poll(&mut ready, None).unwrap();
    });
    assert_eq!((ready.len(), linux.next_signal()), (0, None));

    // `raise` sends to this thread, not to those of other tests.
    for (number, event) in [
        (SignalNumber::SIGHUP, Signal::Reload),
        (SignalNumber::SIGTERM, Signal::Stop),
        (SignalNumber::SIGINT, Signal::Stop),
    ] {
        raise(number).unwrap();
        linux.poll(&mut ready, SOON).unwrap();
        assert_eq!(linux.next_signal(), Some(event));
        assert_eq!(linux.next_signal(), None);
    }
    linux.poll(&mut ready, Some(Duration::ZERO)).unwrap();
    assert!(ready.is_empty());
}

#[test]
fn pieces_are_gathered_and_a_truncated_map_is_an_error() {
    let (linux, socket, mut peer) = connected();
    let (folder, root) = folder(&linux);
    let path = folder.path().join("small");
    fs::write(&path, "0123456789").unwrap();
    let file = linux.open_beneath(&root, "small", OpenMode::Read).unwrap();
    let map = linux.map(&file, 10).unwrap();
    let slice = Piece::Mapped {
        map: &map,
        from: 3,
        length: 4,
    };
    let pieces = [Piece::Bytes(b"<"), slice, Piece::Bytes(b">")];
    assert_eq!(linux.send(&socket, &pieces, true).unwrap(), 6);
    assert_eq!(linux.send_file(&socket, &file, 8, 100).unwrap(), 2);
    let mut received = [0; 8];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"<3456>89");

    fs::write(&path, "").unwrap();
    let error = linux.send(&socket, &pieces[1..2], false).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    assert_eq!(linux.send_file(&socket, &file, 8, 100).unwrap(), 0);
    assert!(linux.send_file(&socket, &file, u64::MAX, 1).is_err());
}

#[test]
fn no_path_leaves_the_root() {
    let linux = Linux::new().unwrap();
    let (folder, root) = folder(&linux);
    let at = |name| folder.path().join(name);
    fs::create_dir(at("inner")).unwrap();
    fs::write(at("inner/file"), "12345").unwrap();
    symlink("inner/../inner/file", at("link")).unwrap();
    symlink("../..", at("up")).unwrap();
    symlink("/etc", at("absolute")).unwrap();
    mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();

    let file = linux.open_beneath(&root, "link", OpenMode::Read).unwrap();
    let status = linux.status(&file).unwrap();
    assert_eq!((status.kind, status.size), (FileKind::File, 5));
    assert_eq!(
        status,
        linux.status_by_path(&at("inner/file")).unwrap(),
        "the status by path is the same"
    );
    assert_eq!(linux.status_at(&root, "link").unwrap().kind, FileKind::Link);
    let itself = linux.open_beneath(&root, "", OpenMode::Directory).unwrap();
    assert_eq!(linux.status(&itself).unwrap().kind, FileKind::Directory);

    let fifo = linux.open_beneath(&root, "fifo", OpenMode::Read).unwrap();
    assert_eq!(linux.status(&fifo).unwrap().kind, FileKind::Other);
    for (path, errno) in [
        ("..", libc::EXDEV),
        ("inner/../..", libc::EXDEV),
        ("up", libc::EXDEV),
        ("absolute/passwd", libc::EXDEV),
        ("/etc/passwd", libc::EXDEV),
        ("inner/file/below", libc::ENOTDIR),
        ("missing", libc::ENOENT),
    ] {
        for how in [OpenMode::Read, OpenMode::Directory, OpenMode::Path] {
            let error = linux.open_beneath(&root, path, how).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{path}");
        }
    }
    let process = linux.open_root(Path::new("/proc/self")).unwrap();
    let error = linux
        .open_beneath(&process, "exe", OpenMode::Read)
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
}

#[test]
fn a_directory_can_be_read_repeatedly() {
    let linux = Linux::new().unwrap();
    let (folder, root) = folder(&linux);
    let at = |name| folder.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("file"), "").unwrap();
    symlink("file", at("link")).unwrap();
    mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    for _ in 0..2 {
        let mut found = Vec::new();
        linux
            .read_directory(&root, &mut |name, kind| {
                found.push((String::from_utf8(name.to_vec()).unwrap(), kind.unwrap()));
                true
            })
            .unwrap();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("directory", FileKind::Directory),
            ("fifo", FileKind::Other),
            ("file", FileKind::File),
            ("link", FileKind::Link),
        ];
        assert_eq!(found, expected.map(|(name, kind)| (name.to_owned(), kind)));
    }
    let mut calls = 0;
    linux
        .read_directory(&root, &mut |_, _| {
            calls += 1;
            false
        })
        .unwrap();
    assert_eq!(calls, 1);
}

#[test]
fn new_names_must_be_free() {
    let linux = Linux::new().unwrap();
    let (folder, root) = folder(&linux);
    let named = linux.create_named(&root, "first").unwrap();
    assert!(linux.create_named(&root, "first").is_err());
    match linux.create_unnamed(&root, "probe") {
        Ok(unnamed) => {
            assert_eq!(linux.write_at(&unnamed, b"content", 0).unwrap(), 7);
            linux.sync(&unnamed).unwrap();
            let error = linux.link(&unnamed, &root, "first").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            linux.link(&unnamed, &root, "second").unwrap();
        }
        Err(error) => {
            println!("no O_TMPFILE: {error}");
            fs::write(folder.path().join("second"), "content").unwrap();
        }
    }
    let error = linux
        .rename((&root, "first"), (&root, "second"), false)
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    linux
        .rename((&root, "second"), (&root, "first"), true)
        .unwrap();
    linux.sync(&root).unwrap();
    assert_eq!(
        fs::read_to_string(folder.path().join("first")).unwrap(),
        "content"
    );
    drop(named);
    linux.remove(&root, "first").unwrap();
    linux.make_directory(&root, "directory").unwrap();
    let error = linux.make_directory(&root, "directory").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(linux.remove(&root, "directory").is_err());
}

#[test]
fn renames_cross_directories_and_times_are_set() {
    let linux = Linux::new().unwrap();
    let (folder, root) = folder(&linux);
    let at = |name| folder.path().join(name);
    linux.make_directory(&root, "one").unwrap();
    linux.make_directory(&root, "other").unwrap();
    fs::write(at("one/file"), "12345").unwrap();
    let open = |name| {
        linux
            .open_beneath(&root, name, OpenMode::Directory)
            .unwrap()
    };
    let (one, other) = (open("one"), open("other"));
    linux
        .rename((&one, "file"), (&other, "moved"), false)
        .unwrap();
    let error = linux.remove_directory(&root, "other").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty);
    linux.remove_directory(&root, "one").unwrap();

    symlink("moved", at("other/link")).unwrap();
    linux.set_modified(&other, "moved", 1_000_000_000).unwrap();
    linux.set_modified(&other, "link", -1).unwrap();
    let modified = |name| linux.status_at(&other, name).unwrap().modified;
    assert_eq!(modified("moved"), (1_000_000_000, 0));
    assert_eq!(modified("link"), (-1, 0));
}

#[test]
fn ranges_are_copied_between_files() {
    let linux = Linux::new().unwrap();
    let (folder, root) = folder(&linux);
    fs::write(folder.path().join("from"), "0123456789").unwrap();
    let from = linux.open_beneath(&root, "from", OpenMode::Read).unwrap();
    let to = linux.create_named(&root, "to").unwrap();
    assert_eq!(linux.copy_range(&from, &to, 0, 4).unwrap(), 4);
    assert_eq!(linux.copy_range(&from, &to, 4, 100).unwrap(), 6);
    assert_eq!(linux.copy_range(&from, &to, 10, 100).unwrap(), 0);
    assert_eq!(fs::read(folder.path().join("to")).unwrap(), b"0123456789");
}

#[test]
fn user_attributes_and_access_lists_are_copied() {
    let linux = Linux::new().unwrap();
    let (folder, root) = folder(&linux);
    let [from, to] = ["from", "to"].map(|name| linux.create_named(&root, name).unwrap());
    let list = "system.posix_acl_access";
    // user 1 may read and write, the group nothing: mode 0660, where 6 is the mask.
    let entry = |tag: u16, rights: u16, id: u32| {
        let fields = [
            &tag.to_le_bytes()[..],
            &rights.to_le_bytes(),
            &id.to_le_bytes(),
        ];
        fields.concat()
    };
    let none = u32::MAX;
    let acl = [
        2u32.to_le_bytes().to_vec(),
        entry(0x01, 6, none),
        entry(0x02, 6, 1),
        entry(0x04, 0, none),
        entry(0x10, 6, none),
        entry(0x20, 0, none),
    ]
    .concat();
    if let Err(error) = from.0.set_xattr("user.note", b"value") {
        println!("skipped: needs extended attributes: {error}");
        return;
    }
    let has_list = from.0.set_xattr(list, &acl).is_ok();
    let reader = linux.open_beneath(&root, "from", OpenMode::Read).unwrap();
    linux.copy_attributes(&reader, &to).unwrap();
    let read = |name| to.0.get_xattr(name).unwrap();
    assert_eq!(read("user.note"), Some(b"value".to_vec()));
    assert_eq!(read(list), has_list.then_some(acl));
    let mode = || fs::metadata(folder.path().join("to")).unwrap().mode() & 0o777;
    assert_eq!(mode(), if has_list { 0o660 } else { 0o644 });
    // Without the right to read the list is not known, and the group gets nothing more.
    let path = linux.open_beneath(&root, "from", OpenMode::Path).unwrap();
    let other = linux.create_named(&root, "other").unwrap();
    linux.copy_attributes(&path, &other).unwrap();
    let mode = fs::metadata(folder.path().join("other")).unwrap().mode();
    assert_eq!(mode & 0o070, if has_list { 0 } else { 0o040 });
    // A list that a new file has from its directory does not stay.
    let plain = linux.create_named(&root, "plain").unwrap();
    linux.copy_attributes(&plain, &to).unwrap();
    assert_eq!(read(list), None);
}

#[test]
fn a_lock_lasts_as_long_as_its_handle() {
    let linux = Linux::new().unwrap();
    let (_folder, root) = folder(&linux);
    let file = linux.create_named(&root, "held").unwrap();
    linux.lock(&file).unwrap();
    let other = linux.open_beneath(&root, "held", OpenMode::Read).unwrap();
    let error = linux.lock(&other).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(file);
    linux.lock(&other).unwrap();
}

#[test]
fn preallocation_keeps_the_size() {
    let linux = Linux::new().unwrap();
    let (_folder, root) = folder(&linux);
    assert!(linux.free_space(&root).unwrap() > 0);
    // Without blocks the free space is unknown.
    let proc = linux.open_root(Path::new("/proc")).unwrap();
    assert_eq!(linux.free_space(&proc).unwrap(), u64::MAX);
    let file = linux.create_named(&root, "file").unwrap();
    linux.preallocate(&file, 0..0).unwrap();
    match linux.preallocate(&file, 0..1 << 20) {
        Ok(()) => assert_eq!(linux.status(&file).unwrap().size, 0),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}"),
    }
    for absurd in [i64::MAX as u64, u64::MAX] {
        let error = linux.preallocate(&file, 0..absurd).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    }
}

#[test]
fn written_bytes_are_cached() {
    let linux = Linux::new().unwrap();
    let (folder, root) = folder(&linux);
    fs::write(folder.path().join("file"), "12345").unwrap();
    let file = linux.open_beneath(&root, "file", OpenMode::Read).unwrap();
    linux.read_ahead(&file, 0, 5).unwrap();
    for offset in [0, 4, 5, 1 << 40] {
        match linux.is_cached(&file, offset) {
            Ok(cached) => assert!(cached, "{offset}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}"),
        }
    }
    let mut buffer = [0; 8];
    assert_eq!(linux.read_at(&file, &mut buffer, 2).unwrap(), 3);
    assert_eq!(linux.read_at(&file, &mut buffer, 5).unwrap(), 0);
}

#[test]
fn limits_are_raised_and_priority_is_lowered() {
    let hard = raise_descriptor_limit().unwrap();
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    let niceness = |line: String| {
        line.rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .nth(16)
            .unwrap()
            .parse::<i32>()
    };
    std::thread::spawn(move || {
        Linux::new().unwrap().enter_worker();
        let line = fs::read_to_string("/proc/thread-self/stat").unwrap();
        assert_eq!(niceness(line), Ok(5));
    })
    .join()
    .unwrap();
}

/// A kernel, a socket that it has accepted, and the peer.
fn connected() -> (Linux, TcpStream, Peer) {
    let linux = Linux::new().unwrap();
    let listener = linux.listen("127.0.0.1:0".parse().unwrap(), 3).unwrap();
    let peer = Peer::connect(linux.listener_address(&listener).unwrap()).unwrap();
    assert_eq!(poll_until(&linux, |event| event.readable).token, 3);
    let (socket, from) = linux.accept(&listener).unwrap();
    assert_eq!(from, peer.local_addr().unwrap());
    let error = linux.accept(&listener).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    (linux, socket, peer)
}

fn poll_until(linux: &Linux, wanted: impl Fn(&Readiness) -> bool) -> Readiness {
    let mut ready = Vec::new();
    let deadline = linux.now() + SOON.unwrap();
    while linux.now() < deadline {
        linux.poll(&mut ready, SOON).unwrap();
        if let Some(event) = ready.iter().find(|event| wanted(event)) {
            return *event;
        }
    }
    panic!("no event in time; last: {ready:?}");
}

fn folder(linux: &Linux) -> (TempDir, File) {
    let folder = tempfile::tempdir().unwrap();
    let root = linux.open_root(folder.path()).unwrap();
    (folder, root)
}
