//! A server that follows the script of a test, and the client program against it.

use std::fs;
use std::io::{BufRead, BufReader, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::run::{Output, PROGRAM, finish};

pub(super) const MENU: &str =
    "Please choose: 'SHOW DIRECTORIES' or 'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'QUIT'\n";

/// The address space of a client in KiB.
const MEMORY_KIB: u32 = 400_000;

/// A connection from the client program.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) lines: BufReader<TcpStream>,
}

impl Client {
    /// Sends text. Returns false if the client has closed the connection.
    pub(super) fn send(&mut self, text: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(text.as_ref()).is_ok()
    }

    /// Reads a line, which is empty if the client has closed the connection.
    pub(super) fn read_line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.lines.read_line(&mut line);
        line
    }

    pub(super) fn accept_login(&mut self) {
        self.send("Please choose 'LOGIN' or 'QUIT'\n");
        assert_eq!(self.read_line(), "LOGIN\n");
        self.send("Please enter your username\n");
        self.read_line();
        self.send("Username OK, Please enter your password\n");
        self.read_line();
        self.send("Login Successfully\n");
        self.send(MENU);
    }

    /// Sends the text repeatedly until the client closes the connection.
    pub(super) fn send_endlessly(&mut self, text: &str) {
        let text = text.repeat(1 + 60_000 / text.len());
        while self.send(&text) {}
    }

    /// Sends nothing until the client closes the connection.
    pub(super) fn wait_for_close(&mut self) {
        while !self.read_line().is_empty() {}
    }
}

/// Runs the program in a new folder against a server that handles each connection by `script`.
pub(super) fn run(
    args: &[&str],
    script: impl Fn(&mut Client) + Send + Sync + 'static,
) -> (Output, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ran = run_in(folder.path(), args, script);
    (ran, folder)
}

pub(super) fn run_in(
    folder: &Path,
    args: &[&str],
    script: impl Fn(&mut Client) + Send + Sync + 'static,
) -> Output {
    run_with_input(folder, args, "", script)
}

/// Does the same with input for the program.
pub(super) fn run_with_input(
    folder: &Path,
    args: &[&str],
    lines: &str,
    script: impl Fn(&mut Client) + Send + Sync + 'static,
) -> Output {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    input.rewind().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let script = &script;
                scope.spawn(move || {
                    let lines = BufReader::new(stream.try_clone().unwrap());
                    script(&mut Client { stream, lines });
                });
            }
        });
    });
    let inside = folder.join("inside");
    fs::create_dir_all(&inside).unwrap();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\""),
            PROGRAM,
        ])
        .args(
            args.iter()
                .map(|arg| arg.replace("USER1", &format!("user1@127.0.0.1:{port}"))),
        )
        .env("TIDEGATE_PASSWORD", "1234")
        .current_dir(&inside)
        .stdin(Stdio::from(input));
    let mut ran = finish(command);
    let output = format!("{}{}", ran.stdout, ran.stderr);
    let is_safe = |c: char| {
        matches!(c, '\n' | '\t') || !c.is_control() && !('\u{200b}'..='\u{202f}').contains(&c)
    };
    assert!(output.chars().all(is_safe), "{output:?}");
    let outside: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(outside, ["inside"], "files outside the working folder");
    let written = fs::read_dir(inside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        written.into_iter().all(|name| name == "downloads"),
        "files outside the download folder"
    );
    ran.stderr = ran.stderr.replace(&port.to_string(), "PORT");
    ran
}

pub(super) const FILE: &str = "file 3 2026-11-22T18:00:00Z";
pub(super) const DIRECTORY: &str = "directory - 2026-11-22T18:00:00Z";
pub(super) const REMOTE: &str = "tidegate: user1@127.0.0.1:PORT:";
