//! Uploads over real sockets: complete and visible, or discarded.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Client, Home, Server, eventually, pattern};

#[test]
fn a_complete_upload_leaves_no_temporary_file() {
    let server = Server::start(&[]);
    let before = server.home.names("Uploads");
    let content = pattern(5_000_003, 21);
    let mut client = server.login("user2");
    client.send_line("UPLOAD FILE Uploads/Long");
    client.expect("Please enter the length of the file in bytes");
    client.send_line(content.len());
    client.expect("Ready to receive 5000003 bytes");
    client.send(&content[..1_000_000]);
    assert_eq!(
        server.home.names("Uploads"),
        before,
        "an incomplete upload is invisible"
    );
    client.send(&content[1_000_000..]);
    client.expect("Upload complete: Long, 5000003 bytes");
    client.expect_menu();

    assert!(fs::read(server.home.file("Uploads/Long")).unwrap() == content);
    assert!(client.download("Uploads/Long") == content);
    let mut after = before;
    after.push("Long".into());
    after.sort();
    assert_eq!(server.home.names("Uploads"), after);
}

/// Closes or resets the connection at many points of a `PUT FILE` and of an `UPLOAD FILE` that
/// replaces a file.
#[test]
fn a_reset_during_an_upload_leaves_no_file() {
    let server = Server::start(&[]);
    let before = server.home.names("Uploads");
    let old = fs::read(server.home.file("Uploads/Notes.old")).unwrap();
    server.login("user3").quit();
    let descriptors = server.descriptors();

    let data = pattern(400_000, 22);
    let put = b"LOGIN\nuser3\n3456\nPUT FILE 400000 Uploads/New\n".to_vec();
    let replace = b"LOGIN\nuser3\n3456\nUPLOAD FILE Uploads/Notes.old\n400000\n".to_vec();
    for commands in [put, replace] {
        let whole: Vec<u8> = commands.iter().chain(&data).copied().collect();
        let stages = (0..commands.len()).step_by(3);
        let contents = (0..40).map(|n| commands.len() + n * 10_000);
        for cut in stages.chain(contents).chain(whole.len() - 3..whole.len()) {
            for reset in [false, true] {
                let mut client = server.connect();
                client.send(&whole[..cut]);
                match reset {
                    true => client.reset(),
                    false => drop(client),
                }
            }
        }
    }
    eventually("every descriptor is closed", || {
        server.descriptors() <= descriptors
    });
    assert_eq!(server.home.names("Uploads"), before);
    assert!(fs::read(server.home.file("Uploads/Notes.old")).unwrap() == old);
}

#[test]
fn a_kill_during_an_upload_leaves_no_file() {
    let server = Server::start(&[]);
    let before = server.home.names("Uploads");
    let mut clients: Vec<Client> = (0..5).map(|_| server.login("user3")).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(format!("PUT FILE 1000000 Uploads/{n}\n"));
        client.send(pattern(999_999, 23));
    }
    server.signal(Signal::SIGKILL);
    for client in &mut clients {
        client.read_to_end();
    }
    assert_eq!(server.home.names("Uploads"), before);
}

#[test]
fn only_orphans_are_removed_at_start() {
    const ORPHAN: &str = ".tidegate-0123456789abcdef.part";
    const LOCKED: &str = ".tidegate-fedcba9876543210.part";
    const OTHER: &str = ".tidegate-notes.part";
    let home = Home::new();
    fs::create_dir(home.file("Uploads/Deep")).unwrap();
    for name in [ORPHAN, LOCKED, OTHER] {
        home.write(&format!("Uploads/Deep/{name}"), "half");
    }
    // No user can upload to Movies, but users may have had the right before.
    home.write(&format!("Movies/{ORPHAN}"), "half");
    let locked = fs::File::open(home.file(&format!("Uploads/Deep/{LOCKED}"))).unwrap();
    locked.lock().unwrap();
    let server = Server::with_home(home, &[]);
    let orphan = server.home.file(&format!("Movies/{ORPHAN}"));
    eventually("the cleanup of Movies", || !orphan.exists());
    eventually("the cleanup of Uploads", || {
        server.home.names("Uploads/Deep") == [LOCKED, OTHER]
    });
}

#[test]
fn the_first_complete_upload_of_a_name_wins() {
    let server = Server::start(&[]);
    let (one, other) = (pattern(300_000, 24), pattern(300_000, 25));
    let mut slow = server.login("user2");
    let mut fast = server.login("user2");
    for client in [&mut slow, &mut fast] {
        client.send_line("UPLOAD FILE Uploads/Same\n300000");
        client.expect("Please enter the length of the file in bytes");
        client.expect("Ready to receive 300000 bytes");
    }
    slow.send(&one[..100_000]);
    fast.send(&other);
    fast.expect("Upload complete: Same, 300000 bytes");
    slow.send(&one[100_000..]);
    slow.expect("Upload failed: The file already exists");
    slow.expect_menu();
    assert!(slow.download("Uploads/Same") == other);
}

#[test]
fn replacement_is_atomic_and_does_not_follow_links() {
    let home = Home::new();
    home.write("Uploads/Target", "the link's target");
    std::os::unix::fs::symlink("Target", home.file("Uploads/Link")).unwrap();
    let server = Server::with_home(home, &[]);
    let contents = [pattern(200_000, 26), pattern(200_000, 27)];
    let mut writer = server.login("user3");
    let mut put = |content: &[u8], name: &str| {
        writer.send(format!("PUT FILE {} Uploads/{name}\n", content.len()));
        writer.send(content);
        writer.expect(&format!("Upload complete: {name}, {} bytes", content.len()));
        writer.expect_menu();
    };
    put(&contents[0], "Notes.old");
    let mut reader = server.login("user2");
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for n in 1..=20 {
                put(&contents[n % 2], "Notes.old");
            }
            put(b"new", "Link");
        });
        while !writing.is_finished() {
            let copy = reader.download("Uploads/Notes.old");
            assert!(contents.contains(&copy), "the copy is incomplete or mixed");
        }
    });
    assert!(!server.home.file("Uploads/Link").is_symlink());
    assert_eq!(fs::read(server.home.file("Uploads/Link")).unwrap(), b"new");
    assert_eq!(
        fs::read(server.home.file("Uploads/Target")).unwrap(),
        b"the link's target"
    );
}

#[test]
fn uploads_over_the_size_limit_are_refused_early() {
    let server = Server::start(&["--max-upload", "10k"]);
    let mut client = server.login("user2");
    client.send_line("UPLOAD FILE Uploads/Fits\n10000");
    client.expect("Please enter the length of the file in bytes");
    client.expect("Ready to receive 10000 bytes");
    client.send([0; 10_000]);
    client.expect("Upload complete: Fits, 10000 bytes");
    client.expect_menu();
    client.send_line("UPLOAD FILE Uploads/Over\n10001");
    client.expect("Please enter the length of the file in bytes");
    client.expect("There is not enough room for that file");
    client.expect_menu();
    // The content of a PUT FILE is not discarded, so the server closes the connection.
    client.send_line("PUT FILE 10001 Uploads/Over");
    client.expect("There is not enough room for that file");
    client.close_sending();
    client.expect_end();
    server.log_line(&["event=end", "reason=put-refused"]);
    assert!(!server.home.file("Uploads/Over").exists());
}

#[test]
fn uploads_over_the_disk_space_are_refused_early() {
    let server = Server::start(&[]);
    let mut client = server.login("user2");
    client.send_line("UPLOAD FILE Uploads/Over\n4611686018427387904");
    client.expect("Please enter the length of the file in bytes");
    client.expect("There is not enough room for that file");
    client.expect_menu();
}

#[test]
fn a_write_only_directory_accepts_and_lists_nothing() {
    let server = Server::start(&[]);
    let mut client = server.login("user4");
    assert_eq!(
        client.command("SHOW DIRECTORY Dropbox"),
        "There are no files in this directory"
    );
    assert_eq!(client.command("DOWNLOAD FILE Manifest"), "No such file");
    assert_eq!(client.command("CHECKSUM FILE Manifest"), "No such file");
    client.send("PUT FILE 3 Letter\nabc");
    client.expect("Upload complete: Letter, 3 bytes");
    client.expect_menu();
    assert_eq!(client.command("DOWNLOAD FILE Letter"), "No such file");
    client.send("PUT FILE 3 Letter\ndef");
    client.expect("Upload failed: The file already exists");
    client.expect_menu();
    assert_eq!(
        fs::read(server.home.file("Dropbox/Letter")).unwrap(),
        b"abc"
    );
}

#[test]
fn permission_errors_are_reported_and_logged() {
    let home = Home::new();
    home.append(
        "Directories",
        "user2:Closed:read,upload\nuser2:Sealed:read,upload",
    );
    for (directory, mode) in [("Closed", 0o000), ("Sealed", 0o555)] {
        fs::create_dir(home.file(directory)).unwrap();
        home.write(&format!("{directory}/Letter"), "unread");
        set_mode(&home.file(&format!("{directory}/Letter")), 0o000);
        set_mode(&home.file(directory), mode);
    }
    home.chown_to_nobody();
    let server = Server::with_home(home, &[]);
    let mut client = server.login("user2");
    assert_eq!(
        client.command("SHOW DIRECTORY Closed"),
        "The directory cannot be read"
    );
    server.log_line(&["event=fault", "files/Closed", "Permission denied"]);
    assert_eq!(
        client.command("SHOW DIRECTORY Sealed"),
        "The available files are: Letter"
    );
    assert_eq!(
        client.command("DOWNLOAD FILE Letter"),
        "The file cannot be read"
    );
    server.log_line(&["event=fault", "files/Sealed/Letter", "Permission denied"]);
    client.send("PUT FILE 3 New\nabc");
    client.expect("Upload failed: The file cannot be written");
    client.expect_menu();
    server.log_line(&["event=fault", "files/Sealed/New", "Permission denied"]);
    assert_eq!(
        client.command("MAKE DIRECTORY New"),
        "The file cannot be written"
    );
    assert_eq!(
        client.download("Movies/Joker").len(),
        4096,
        "other files are served"
    );
    // Restore the modes so that the temporary folder can be removed.
    for directory in ["Closed", "Sealed"] {
        set_mode(&server.home.file(directory), 0o755);
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_stalled_upload_is_discarded() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let before = server.home.names("Uploads");
    let mut client = server.login("user2");
    client.send("PUT FILE 1000 Uploads/Slow\nabc");
    thread::sleep(Duration::from_millis(100));
    client.expect_end();
    server.log_line(&["event=end", "reason=idle"]);
    assert_eq!(server.home.names("Uploads"), before);
}
