//! The complete client, `get` and `ls`, against a server that sends anything. The client
//! terminates, writes nothing outside its download folder, and prints no control characters.
//!
//! The first byte of an input selects the command and its options. The rest is what the server
//! sends on each connection, after a successful login unless the first byte says otherwise.

#![no_main]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tidegate::client::get;
use tidegate::client::list::{ListFormat, list};
use tidegate::client::login::RemoteLogin;
use tidegate::client::sanitized::Sanitized;

const LOGIN: &[u8] = b"Please choose 'LOGIN' or 'QUIT'\nPlease enter your username\n\
    Username OK, Please enter your password\nLogin Successfully\n\
    Please choose: 'SHOW DIRECTORIES' or 'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'QUIT'\n";

fuzz_target!(|input: &[u8]| {
    let Some((&how, sent)) = input.split_first() else {
        return;
    };
    let greeting = if how & 128 > 0 { b"" } else { LOGIN };
    let sent = [greeting, sent].concat();
    let stopping = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| serve(&sent, &stopping));
        run_client(how);
        stopping.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(
            listener().local_addr().expect("an address"),
        ));
    });
});

fn listener() -> &'static TcpListener {
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    LISTENER.get_or_init(|| TcpListener::bind("127.0.0.1:0").expect("a port"))
}

/// Sends the same bytes on each connection and ignores the requests.
fn serve(sent: &[u8], stopping: &AtomicBool) {
    loop {
        let (mut stream, _) = listener().accept().expect("a connection");
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        stream
            .set_write_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout");
        stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout");
        // The client may have closed the connection.
        let _ = stream
            .write_all(sent)
            .and_then(|()| stream.shutdown(Shutdown::Write));
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    }
}

fn run_client(how: u8) {
    let around = tempfile::tempdir().expect("a temporary folder");
    let into = around.path().join("into");
    fs::create_dir(&into).expect("a download folder");
    let address = listener().local_addr().expect("an address");
    let login = RemoteLogin {
        remote: format!("user1@{address}").parse().expect("a server"),
        password: b"1234".to_vec().into(),
        password_source: None,
        timeout: Duration::from_millis(500),
    };
    let path = ["Movies", "Movies/Joker", "Movies/*", "*/*"][usize::from(how & 3)];
    let is_resumed = how & 4 > 0;
    if is_resumed {
        fs::write(into.join("Joker.part"), "before").expect("a part");
    }
    if how & 8 > 0 {
        let mut out = Vec::new();
        let report = |path: &str, why| check_lines(&format!("{}: {why}", Sanitized(path)));
        let result = list(&login, Some(path), ListFormat::Plain, &mut out, report);
        let shown = String::from_utf8(out).expect("UTF-8");
        check_lines(&shown.replace('\t', " "));
        check_lines(
            &result
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default(),
        );
    } else {
        let options = get::GetOptions {
            into: into.clone(),
            force: how & 16 > 0,
            resume: is_resumed,
            recursive: how & 32 > 0,
            jobs: 1 + usize::from(how >> 6 & 1),
            quiet: how & 1 > 0,
        };
        let result = get::get(&login, &[path.to_owned()], &options, check_lines);
        check_lines(
            &result
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default(),
        );
    }
    let mut entries = fs::read_dir(around.path()).expect("the folder");
    assert_eq!(
        entries
            .next()
            .expect("the download folder")
            .expect("an entry")
            .path(),
        into
    );
    assert!(
        entries.next().is_none(),
        "a file was written outside the download folder"
    );
    check_tree(&into);
}

fn check_lines(text: &str) {
    assert!(
        text.lines().all(|line| !line.contains(char::is_control)),
        "{text:?}"
    );
}

fn check_tree(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        assert!(
            !name.starts_with('.') && !name.contains(char::is_control),
            "{name:?}"
        );
        if entry.file_type().expect("a type").is_dir() {
            check_tree(&entry.path());
        }
    }
}
