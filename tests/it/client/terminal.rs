//! The client on a terminal: progress bars, tables, the password prompt, and the line editor.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::pty::Winsize;

use super::relay::{After, Relay};
use super::run::{Server, TIMEOUT, client, random_bytes, wait};
use crate::support::changes::{Change, change};
use crate::support::needs;

/// The program on a new pseudo-terminal.
struct Terminal {
    master: File,
    /// The output, in pieces as they arrive.
    shown: mpsc::Receiver<Vec<u8>>,
    screen: Vec<u8>,
    /// The length of the output that was already matched.
    seen: usize,
    child: Child,
}

impl Terminal {
    fn run(command: &Command) -> Terminal {
        Terminal::run_with(command, |_| ())
    }

    fn run_with(command: &Command, change: impl FnOnce(&mut Command)) -> Terminal {
        let size = Winsize {
            ws_row: 24,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = nix::pty::openpty(Some(&size), None).unwrap();
        let slave = File::from(pair.slave);
        let mut on_terminal = Command::new("setsid");
        // The first argument is the --wait of `client`.
        on_terminal
            .arg("--ctty")
            .args(command.get_args().skip(1))
            .current_dir(command.get_current_dir().unwrap())
            .env("TERM", "xterm")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        for (name, value) in command.get_envs() {
            on_terminal.env(name, value.unwrap());
        }
        change(&mut on_terminal);
        let child = on_terminal.spawn().unwrap();
        let master = File::from(pair.master);
        let mut reader = master.try_clone().unwrap();
        let (send, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
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
            screen: Vec::new(),
            seen: 0,
            child,
        }
    }

    /// Waits until `text` is shown, after the text waited for before.
    #[track_caller]
    fn until(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            let screen = String::from_utf8_lossy(&self.screen[self.seen..]).into_owned();
            if let Some(at) = screen.find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(start.elapsed() < TIMEOUT, "{text:?} {screen:?}");
            if let Ok(piece) = self.shown.recv_timeout(Duration::from_millis(20)) {
                self.screen.extend(piece);
            }
        }
    }

    fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the program. Returns its status and all output.
    fn end(mut self) -> (Option<i32>, String) {
        let status = wait(&mut self.child);
        // The terminal has no more output after the program.
        drop(self.master);
        while let Ok(piece) = self.shown.recv_timeout(Duration::from_millis(200)) {
            self.screen.extend(piece);
        }
        (status, String::from_utf8(self.screen).unwrap())
    }
}

#[test]
fn progress_is_shown_on_terminals_only() {
    if !needs::has("setsid") {
        return;
    }
    let server = Server::new();
    let (status, screen) = Terminal::run(&server.command(&["get", "USER1", "Movies/Joker"])).end();
    assert_eq!(status, Some(0), "{screen}");
    assert!(
        screen.contains("Movies/Joker") && screen.contains("100% [=") && screen.contains("left"),
        "{screen:?}"
    );
    assert!(screen.contains("1 file, 4096 bytes, "), "{screen:?}");
    assert_eq!(
        fs::read(server.local("downloads/Joker")).unwrap(),
        fs::read(server.served("Movies/Joker")).unwrap()
    );
    let (status, screen) =
        Terminal::run(&server.command(&["get", "--into", "two", "USER1", "Movies/*"])).end();
    assert_eq!(status, Some(0));
    assert!(
        screen.contains("3 files ") && screen.contains("Movies/Free Fire"),
        "{screen:?}"
    );
    fs::write(server.local("Fresh"), random_bytes(100_000)).unwrap();
    let (status, screen) =
        Terminal::run(&server.command(&["put", "USER2", "Uploads", "Fresh"])).end();
    assert_eq!(status, Some(0));
    assert!(
        screen.contains("Uploads/Fresh") && screen.contains("100% [="),
        "{screen:?}"
    );

    // No progress with --quiet, or if standard error is no terminal.
    let quiet = Terminal::run(&server.command(&[
        "get",
        "--quiet",
        "--into",
        "quiet",
        "USER1",
        "Movies/Joker",
    ]));
    assert_eq!(quiet.end(), (Some(0), String::new()));
    let command = server.command(&["get", "--into", "pipe", "USER1", "Movies/Joker"]);
    let piped = Terminal::run_with(&command, |command| {
        command.stderr(Stdio::null());
    });
    let (status, screen) = piped.end();
    assert_eq!(status, Some(0));
    assert!(
        screen.starts_with("1 file, 4096 bytes, ") && screen.lines().count() == 1,
        "{screen:?}"
    );
    let ran = server.run(&["get", "--into", "none", "USER1", "Movies/Joker"]);
    ran.assert_transferred(1, 4096);
}

#[test]
fn listings_on_a_terminal_are_tables() {
    if !needs::has("setsid") {
        return;
    }
    let server = Server::with(|home| {
        let file =
            |name: &str| Change::File(format!("Music/{name}").into(), random_bytes(1_500_000));
        change(home, &file("x\u{202e}y"));
    });
    let (status, screen) = Terminal::run(&server.command(&["ls", "USER1", "Music"])).end();
    assert_eq!(status, Some(0));
    assert_eq!(
        screen.replace("\r\n", "\n"),
        [
            "      202 B  2026-11-22 18:00  Drunken Sailor.abc\n",
            " 224.72 KiB  2026-11-22 18:00  Drunken Sailor.wav\n",
            "  86.18 KiB  2026-11-22 18:00  Harbour Bell.wav\n",
            "   1.43 MiB  2026-11-22 18:00  x\\u{202e}y\n",
        ]
        .concat()
    );
    let (status, screen) =
        Terminal::run(&server.command(&["ls", "--bytes", "USER1", "Music"])).end();
    assert_eq!(status, Some(0));
    assert!(
        screen.contains("             230112  2026-11-22 18:00  Drunken Sailor.wav\r\n"),
        "{screen:?}"
    );
}

#[test]
fn the_password_prompt_does_not_echo() {
    if !needs::has("setsid") {
        return;
    }
    let server = Server::new();
    let remote = server.remote("user1");
    let mut terminal = Terminal::run(&server.command(&["ls", &remote]));
    terminal.until(&format!("Password for {remote}: "));
    // The echo is turned off just after the prompt.
    std::thread::sleep(Duration::from_millis(200));
    terminal.keys("1234\n");
    let (status, screen) = terminal.end();
    assert_eq!(status, Some(0), "{screen:?}");
    assert!(
        screen.contains("Movies/") && !screen.contains("1234\r"),
        "{screen:?}"
    );
}

#[test]
fn connect_has_completion_and_history() {
    if !needs::has("setsid") {
        return;
    }
    let server = Server::new();
    fs::write(server.local("a note"), "note").unwrap();
    let mut terminal = Terminal::run(&server.command(&["connect", "USER2"]));
    terminal.until("> ");
    // Complete commands, directories, files in the chosen one, paths, and local files.
    terminal.keys("show di\ty Upl\t\r");
    terminal.until("The available files are: Notes.old, Welcome, Wish List");
    terminal.until("Uploads> ");
    terminal.keys("dow\tNot\t\r");
    terminal.until("downloads/Notes.old: 1 file, 213 bytes");
    terminal.until("Uploads> ");
    terminal.keys("download file Movies/Jo\t\r");
    terminal.until("downloads/Joker: 1 file, 4096 bytes");
    terminal.until("Uploads> ");
    terminal.keys("upload a \t\r");
    terminal.until("a note: 1 file, 4 bytes");
    terminal.until("Uploads> ");
    // Complete the answer to a prompt.
    terminal.keys("checksum file\r");
    terminal.until("Please choose the desired file");
    terminal.until("Uploads> ");
    terminal.keys("Wis\t\r");
    terminal.until("SHA-256 ");
    terminal.until(" Wish List");
    terminal.until("Uploads> ");
    // Ctrl-C discards a line, and the arrow key recalls an earlier one.
    terminal.keys("nonsense\u{3}");
    terminal.until("Uploads> ");
    terminal.keys("\u{1b}[A\r");
    terminal.until("Please choose the desired file");
    terminal.until("Uploads> ");
    terminal.keys("\u{3}");
    terminal.until("Uploads> ");
    terminal.keys("\u{4}");
    let (status, screen) = terminal.end();
    assert_eq!(status, Some(0));
    assert!(
        screen.ends_with("Connection is terminated. You are logged out.\r\n"),
        "{screen:?}"
    );
    assert_eq!(fs::read(server.served("Uploads/a note")).unwrap(), b"note");
}

#[test]
fn ctrl_c_cancels_the_transfer_only() {
    if !needs::has("setsid") {
        return;
    }
    let server = Server::with(|home| {
        home.write_sparse("Movies/Vast", 200_000_000_000);
        change(
            home,
            &Change::File("Movies/Large".into(), random_bytes(3_000_000)),
        );
    });
    let relay = Relay::new(&server, After::Stall(1_000_000));
    let command = client(server.folder.path(), relay.port, &["connect", "USER1"]);
    let mut terminal = Terminal::run(&command);
    terminal.until("> ");
    terminal.keys("SHOW DIRECTORY Movies\r");
    terminal.until("Movies> ");
    terminal.keys("DOWNLOAD FILE Large\r");
    terminal.until("% [=");
    terminal.keys("\u{3}");
    terminal.until("tidegate: interrupted");
    terminal.until("Movies> ");
    // Resume the download over a connection that does not stall.
    terminal.keys("SHOW DETAILS\r");
    terminal.until("Joker");
    terminal.until("Movies> ");
    terminal.keys("RESUME DOWNLOAD Large\r");
    terminal.until("downloads/Large: 1 file, ");
    terminal.until("Movies> ");
    // Ctrl-C works while no data arrives.
    terminal.keys("CHECKSUM FILE Vast\r");
    std::thread::sleep(Duration::from_millis(300));
    terminal.keys("\u{3}");
    terminal.until("tidegate: interrupted");
    terminal.until("Movies> ");
    terminal.keys("QUIT\r");
    assert_eq!(terminal.end().0, Some(0));
    let large = fs::read(server.local("downloads/Large")).unwrap();
    assert!(large == random_bytes(3_000_000));
}
