//! The password prompt on a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::termios::{LocalFlags, tcgetattr};

use super::edited_home::{EditedHome, PROGRAM, TIMEOUT, failed};
use crate::support::needs;

#[test]
fn no_prompt_without_a_terminal() {
    if !needs::has("setsid") {
        return;
    }
    let home = EditedHome::new();
    let mut command = Command::new("setsid");
    command
        .args([PROGRAM, "user", "add"])
        .arg(home.path())
        .arg("a");
    assert_eq!(
        home.finish(&mut command, "secret\nsecret\n"),
        failed(
            1,
            "tidegate: there is no terminal to read a password from; use --password-stdin\n"
        )
    );
}

/// The program on a new pseudo-terminal.
struct Terminal {
    master: File,
    /// The output, in pieces as they arrive.
    shown: mpsc::Receiver<Vec<u8>>,
    screen: String,
    child: Child,
}

impl Terminal {
    fn run(home: &EditedHome, args: &[&str]) -> Terminal {
        let pair = nix::pty::openpty(None, None).unwrap();
        let slave = File::from(pair.slave);
        let program = home.command(args);
        // setsid(1) makes it the controlling terminal and executes the program.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(program.get_program())
            .args(program.get_args())
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .unwrap();
        let master = File::from(pair.master);
        let mut reader = master.try_clone().unwrap();
        let (send, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            // Reading fails when the last process on the terminal has ended.
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                if send.send(piece[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal {
            master,
            shown,
            screen: String::new(),
            child,
        }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.master)
            .unwrap()
            .local_flags
            .contains(LocalFlags::ECHO)
    }

    /// Waits until `prompt` is shown and the echo is off, then sends keys.
    fn answer(&mut self, prompt: &str, keys: &str) {
        let start = Instant::now();
        while !self.screen.ends_with(prompt) || self.echoes() {
            assert!(start.elapsed() < TIMEOUT, "{:?}", self.screen);
            if let Ok(piece) = self.shown.recv_timeout(Duration::from_millis(5)) {
                self.screen.push_str(std::str::from_utf8(&piece).unwrap());
            }
        }
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the program. Returns its status, the output, and whether the echo is on.
    fn end(mut self) -> (ExitStatus, String, bool) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > TIMEOUT {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let echoes = self.echoes();
        while let Ok(piece) = self.shown.recv_timeout(TIMEOUT) {
            self.screen.push_str(std::str::from_utf8(&piece).unwrap());
        }
        (status, self.screen.replace("\r\n", "\n"), echoes)
    }
}

#[test]
fn a_new_password_is_prompted_twice_without_echo() {
    if !needs::has("setsid") {
        return;
    }
    let home = EditedHome::new();
    let mut terminal = Terminal::run(&home, &["user", "add", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "pass wörd\n");
    terminal.answer("Repeat the password: ", "pass wörd\n");
    let (status, screen, echoes) = terminal.end();
    assert_eq!(status.code(), Some(0), "{screen}");
    assert_eq!(
        screen.trim_end(),
        "New password for 'a': \nRepeat the password:"
    );
    assert!(echoes);
    assert!(home.accepts("a", "pass wörd"));

    let mut terminal = Terminal::run(&home, &["user", "passwd", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "erst\n");
    terminal.answer("Repeat the password: ", "dann\n");
    let (status, screen, echoes) = terminal.end();
    assert_eq!(status.code(), Some(1));
    assert!(
        screen.ends_with("tidegate: the passwords do not match\n"),
        "{screen}"
    );
    assert!(!screen.contains("erst") && !screen.contains("dann") && echoes);

    let mut terminal = Terminal::run(&home, &["user", "passwd", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "\n");
    let (status, screen, _) = terminal.end();
    assert_eq!(status.code(), Some(1));
    assert!(
        screen.ends_with("tidegate: the password is empty\n"),
        "{screen}"
    );
    assert!(home.accepts("a", "pass wörd"), "nothing has changed");
}

#[test]
fn no_prompt_if_the_command_cannot_succeed() {
    if !needs::has("setsid") {
        return;
    }
    let home = EditedHome::with("a:plain:x\n", "");
    let (status, screen, _) = Terminal::run(&home, &["user", "add", "HOME", "a"]).end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        screen,
        "tidegate: user 'a' exists already; 'tidegate user passwd' changes the password\n"
    );
}

#[test]
fn an_interrupted_prompt_restores_the_terminal() {
    if !needs::has("setsid") {
        return;
    }
    let home = EditedHome::with("a:plain:x\n", "");
    let mut terminal = Terminal::run(&home, &["user", "passwd", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "half\x03");
    let (status, screen, echoes) = terminal.end();
    assert_eq!(status.signal(), Some(libc::SIGINT), "{screen}");
    assert!(echoes && !screen.contains("half"));
    assert_eq!(home.read_files().0, "a:plain:x\n");

    let mut terminal = Terminal::run(&home, &["user", "passwd", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "\x04");
    let (status, screen, echoes) = terminal.end();
    assert_eq!(status.code(), Some(1));
    assert!(
        screen.ends_with("tidegate: no password was entered\n"),
        "{screen}"
    );
    assert!(echoes);
}
