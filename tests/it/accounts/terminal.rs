//! The prompt for a password, on a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::termios::{LocalFlags, tcgetattr};

use super::{PROGRAM, Services, TIMEOUT, failed};
use crate::support::needs;

#[test]
fn no_prompt_without_a_terminal() {
    if !needs::has("setsid") {
        return;
    }
    let house = Services::new();
    let mut command = Command::new("setsid");
    command
        .args([PROGRAM, "user", "add"])
        .arg(house.path())
        .arg("a");
    assert_eq!(
        house.finish(&mut command, "secret\nsecret\n"),
        failed(
            1,
            "tidegate: there is no terminal to read a password from; use --password-stdin\n"
        )
    );
}

/// The program on a pseudo-terminal of its own, and a person who answers each prompt.
struct Terminal {
    master: File,
    /// What it shows, in pieces as they come.
    shown: mpsc::Receiver<Vec<u8>>,
    screen: String,
    child: Child,
}

impl Terminal {
    fn run(house: &Services, args: &[&str]) -> Terminal {
        let pair = nix::pty::openpty(None, None).unwrap();
        let slave = File::from(pair.slave);
        let program = house.command(args);
        // setsid(1) makes the terminal the program's own, and then becomes the program.
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
            // The terminal ends with an error when its last user has gone.
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

    /// Waits until `prompt` is shown and the echo is off, then types.
    fn answer(&mut self, prompt: &str, keys: &str) {
        let begin = Instant::now();
        while !self.screen.ends_with(prompt) || self.echoes() {
            assert!(begin.elapsed() < TIMEOUT, "{:?}", self.screen);
            if let Ok(piece) = self.shown.recv_timeout(Duration::from_millis(5)) {
                self.screen.push_str(std::str::from_utf8(&piece).unwrap());
            }
        }
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// How it ended, what the terminal showed, and whether it echoes again.
    fn end(mut self) -> (ExitStatus, String, bool) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begin.elapsed() > TIMEOUT {
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
    let house = Services::new();
    let mut terminal = Terminal::run(&house, &["user", "add", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "pass wörd\n");
    terminal.answer("Repeat the password: ", "pass wörd\n");
    let (status, screen, echoes) = terminal.end();
    assert_eq!(status.code(), Some(0), "{screen}");
    assert_eq!(
        screen.trim_end(),
        "New password for 'a': \nRepeat the password:"
    );
    assert!(echoes);
    assert!(house.lets_in("a", "pass wörd"));

    let mut terminal = Terminal::run(&house, &["user", "passwd", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "erst\n");
    terminal.answer("Repeat the password: ", "dann\n");
    let (status, screen, echoes) = terminal.end();
    assert_eq!(status.code(), Some(1));
    assert!(
        screen.ends_with("tidegate: the passwords do not match\n"),
        "{screen}"
    );
    assert!(!screen.contains("erst") && !screen.contains("dann") && echoes);

    let mut terminal = Terminal::run(&house, &["user", "passwd", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "\n");
    let (status, screen, _) = terminal.end();
    assert_eq!(status.code(), Some(1));
    assert!(
        screen.ends_with("tidegate: the password is empty\n"),
        "{screen}"
    );
    assert!(house.lets_in("a", "pass wörd"), "nothing was changed");
}

#[test]
fn no_prompt_if_the_command_cannot_succeed() {
    if !needs::has("setsid") {
        return;
    }
    let house = Services::with("a:plain:x\n", "");
    let (status, screen, _) = Terminal::run(&house, &["user", "add", "HOME", "a"]).end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(screen, "tidegate: user 'a' exists already\n");
}

#[test]
fn an_interrupted_prompt_restores_the_terminal() {
    if !needs::has("setsid") {
        return;
    }
    let house = Services::with("a:plain:x\n", "");
    let mut terminal = Terminal::run(&house, &["user", "passwd", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "half\x03");
    let (status, screen, echoes) = terminal.end();
    assert_eq!(status.signal(), Some(libc::SIGINT), "{screen}");
    assert!(echoes && !screen.contains("half"));
    assert_eq!(house.texts().0, "a:plain:x\n");

    let mut terminal = Terminal::run(&house, &["user", "passwd", "HOME", "a"]);
    terminal.answer("New password for 'a': ", "\x04");
    let (status, screen, echoes) = terminal.end();
    assert_eq!(status.code(), Some(1));
    assert!(
        screen.ends_with("tidegate: no password was entered\n"),
        "{screen}"
    );
    assert!(echoes);
}
