//! Sessions through netcat, from scripts and interactively.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::needs;
use crate::support::{Server, TIMEOUT, eventually};

#[test]
fn nc_with_n_receives_header_content_and_goodbye() {
    if !needs::has("nc") {
        return;
    }
    let server = Server::start(&[]);
    let mut nc = Netcat::start(&server, &["-N"]);
    nc.send("LOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/Joker\nQUIT\n");
    nc.close_input();
    let joker = fs::read(server.home.file("Movies/Joker")).unwrap();
    assert_eq!(nc.output(), expected(&joker));
}

#[test]
fn nc_with_n_and_without_quit_receives_everything() {
    if !needs::has("nc") {
        return;
    }
    let server = Server::start(&[]);
    let mut nc = Netcat::start(&server, &["-N"]);
    nc.send("LOGIN\nuser2\n2345\nPUT FILE 5 Uploads/Piped\nhello");
    nc.close_input();
    let output = String::from_utf8(nc.output()).unwrap();
    assert!(
        output.contains("Upload complete: Piped, 5 bytes\n"),
        "{output}"
    );
    assert_eq!(
        fs::read(server.home.file("Uploads/Piped")).unwrap(),
        b"hello"
    );
}

#[test]
fn plain_nc_ends_with_the_goodbye() {
    if !needs::has("nc") {
        return;
    }
    let server = Server::start(&[]);
    let mut nc = Netcat::start(&server, &[]);
    nc.send("LOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/Joker\nQUIT\n");
    nc.close_input();
    let joker = fs::read(server.home.file("Movies/Joker")).unwrap();
    assert_eq!(nc.output(), expected(&joker));
}

/// After the goodbye, plain `nc` exits at Ctrl-D, or when it sends a line after the server's
/// lingering close. A line sent before is discarded by the server.
#[test]
fn interactive_nc_shows_the_goodbye() {
    if !needs::has("nc") {
        return;
    }
    let server = Server::start(&[]);
    let mut nc = Netcat::start(&server, &[]);
    for line in [
        "LOGIN\r\n",
        "user1\r\n",
        "1234\r\n",
        "show   directory movies\n",
        "quit\n",
    ] {
        nc.send(line);
        thread::sleep(Duration::from_millis(20));
    }
    eventually("the goodbye is printed", || {
        nc.printed().ends_with(b"You are logged out.\n")
    });
    thread::sleep(Duration::from_millis(100));
    let ended = nc.child.try_wait().expect("it is a child");
    assert_eq!(ended, None, "it waits for input");
    nc.close_input();
    let output = String::from_utf8(nc.output()).unwrap();
    assert!(
        output.contains("\nNo such directory\n"),
        "names are matched by case: {output}"
    );
    assert!(
        output.ends_with("\nConnection is terminated. You are logged out.\n"),
        "{output}"
    );
}

fn expected(joker: &[u8]) -> Vec<u8> {
    let mut expected = b"Please choose 'LOGIN' or 'QUIT'\n\
        Please enter your username\n\
        Username OK, Please enter your password\n\
        Login Successfully\n\
        Please choose: 'SHOW DIRECTORIES' or 'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'QUIT'\n\
        LENGTH 4096\n"
        .to_vec();
    expected.extend_from_slice(joker);
    expected.extend_from_slice(
        b"Please choose: 'SHOW DIRECTORIES' or 'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'QUIT'\n\
        Connection is terminated. You are logged out.\n",
    );
    expected
}

/// A connected `nc`, killed when dropped.
struct Netcat {
    child: Child,
    /// Its output so far.
    printed: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Netcat {
    fn start(server: &Server, options: &[&str]) -> Netcat {
        let address = server.address();
        let mut child = Command::new("nc")
            .args(options)
            .args([address.ip().to_string(), address.port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nc is installed");
        let mut stdout = child.stdout.take().expect("it is piped");
        let printed = Arc::new(Mutex::new(Vec::new()));
        let all = printed.clone();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                let mut all = all.lock().expect("the lock is not poisoned");
                all.extend_from_slice(&buffer[..n]);
            }
        });
        Netcat {
            child,
            printed,
            reader: Some(reader),
        }
    }

    fn send(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("the input is open");
        input.write_all(text.as_bytes()).expect("nc reads");
    }

    fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until it ends, and returns its output.
    fn output(&mut self) -> Vec<u8> {
        eventually(&format!("nc ends, within {TIMEOUT:?}"), || {
            self.child.try_wait().expect("it is a child").is_some()
        });
        let reader = self.reader.take().expect("it is called once");
        reader.join().expect("the thread does not panic");
        self.printed()
    }

    fn printed(&self) -> Vec<u8> {
        self.printed
            .lock()
            .expect("the lock is not poisoned")
            .clone()
    }
}

impl Drop for Netcat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
