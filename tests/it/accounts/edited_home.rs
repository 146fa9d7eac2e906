//! A home that tests edit by running the program.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::auth::account::Secret;
use tidegate::auth::verifier::Verifier;
use tidegate::config::Home;

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");

/// The bound of every wait.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// A home in a temporary folder.
pub(super) struct EditedHome {
    pub(super) folder: TempDir,
}

/// The result of a run of the program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) status: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl EditedHome {
    /// Creates a home by `init`.
    pub(super) fn new() -> EditedHome {
        let home = EditedHome {
            folder: tempfile::tempdir().unwrap(),
        };
        assert_eq!(home.run(&["init", "HOME"]).status, Some(0));
        home
    }

    pub(super) fn with(credentials: &str, directories: &str) -> EditedHome {
        let home = EditedHome::new();
        fs::write(home.credentials(), credentials).unwrap();
        fs::write(home.directories(), directories).unwrap();
        home
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(super) fn credentials(&self) -> PathBuf {
        self.path().join("Credentials")
    }

    pub(super) fn directories(&self) -> PathBuf {
        self.path().join("Directories")
    }

    pub(super) fn read_files(&self) -> (String, String) {
        let read = |path| fs::read_to_string(path).unwrap();
        (read(self.credentials()), read(self.directories()))
    }

    /// Returns the program's command with these arguments. `HOME` stands for the path of the home.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        command(&self.path(), args)
    }

    pub(super) fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "")
    }

    /// Runs the program with `input` on standard input. In its output, the path of the home is
    /// replaced by `HOME`.
    pub(super) fn run_with(&self, args: &[&str], input: &str) -> Output {
        self.finish(&mut self.command(args), input)
    }

    pub(super) fn finish(&self, command: &mut Command, input: &str) -> Output {
        finish(&self.path(), command, input)
    }

    pub(super) fn accepts(&self, user: &str, password: &str) -> bool {
        let (home, _) = Home::load(&self.path()).unwrap();
        let account = home.account(user).expect("the user exists");
        matches!(account.secret, Secret::Hash(_))
            && Verifier::new().verify(&account.secret, password.as_bytes())
    }

    /// Returns whether the home contains only its own files.
    pub(super) fn has_no_temporary_files(&self) -> bool {
        let known = [".tidegate.lock", "Credentials", "Directories", "files"];
        fs::read_dir(self.path()).unwrap().all(|entry| {
            known
                .map(OsStr::new)
                .contains(&&*entry.unwrap().file_name())
        })
    }
}

pub(super) fn ok() -> Output {
    printed("")
}

pub(super) fn printed(stdout: &str) -> Output {
    Output {
        status: Some(0),
        stdout: stdout.into(),
        stderr: String::new(),
    }
}

pub(super) fn failed(status: i32, stderr: &str) -> Output {
    Output {
        status: Some(status),
        stdout: String::new(),
        stderr: stderr.into(),
    }
}

pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

pub(super) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A hash of minimal cost that matches no password.
pub(super) const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OTAxMjM0NQ";

/// The program with arguments in which `HOME` is the path of the home.
pub(super) fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args.iter().map(|arg| match *arg {
        "HOME" => home.as_os_str(),
        other => other.as_ref(),
    }));
    command
}

/// Runs a command with `input` on standard input. In its output, the path of the home is replaced
/// by `HOME`.
pub(super) fn finish(home: &Path, command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.replace(home.to_str().unwrap(), "HOME")
    };
    Output {
        status: done.status.code(),
        stdout: text(&done.stdout),
        stderr: text(&done.stderr),
    }
}
