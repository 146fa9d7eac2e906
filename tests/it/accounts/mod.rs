//! A home made and changed as people do it: by running the program.

mod crashes;
mod refusals;
mod reload;
mod terminal;

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

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");

/// How long anything here may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A home in a temporary folder.
struct Services {
    folder: TempDir,
}

/// What a run of the program came to.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Services {
    /// As `init` makes it.
    fn new() -> Services {
        let house = Services {
            folder: tempfile::tempdir().unwrap(),
        };
        assert_eq!(house.run(&["init", "HOME"]).status, Some(0));
        house
    }

    fn with(credentials: &str, directories: &str) -> Services {
        let house = Services::new();
        fs::write(house.credentials(), credentials).unwrap();
        fs::write(house.directories(), directories).unwrap();
        house
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn credentials(&self) -> PathBuf {
        self.path().join("Credentials")
    }

    fn directories(&self) -> PathBuf {
        self.path().join("Directories")
    }

    fn texts(&self) -> (String, String) {
        let read = |path| fs::read_to_string(path).unwrap();
        (read(self.credentials()), read(self.directories()))
    }

    /// The program with these arguments, `HOME` being this one.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args.iter().map(|arg| match *arg {
            "HOME" => self.path().into_os_string(),
            other => other.into(),
        }));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    /// Runs with `input` on standard input; `HOME` stands for this one in what it says too.
    fn run_with(&self, args: &[&str], input: &str) -> Ran {
        self.finish(&mut self.command(args), input)
    }

    fn finish(&self, command: &mut Command, input: &str) -> Ran {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who does not read it has closed it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let done = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .unwrap()
                .replace(self.path().to_str().unwrap(), "HOME")
        };
        Ran {
            status: done.status.code(),
            out: text(&done.stdout),
            err: text(&done.stderr),
        }
    }

    fn lets_in(&self, user: &str, password: &str) -> bool {
        let (home, _) = Home::load(&self.path()).unwrap();
        let account = home.account(user).expect("such a user");
        matches!(account.secret, Secret::Hash(_))
            && Verifier::new().verify(&account.secret, password.as_bytes())
    }

    /// Nothing in the home but what belongs there.
    fn is_tidy(&self) -> bool {
        let known = [".tidegate.lock", "Credentials", "Directories", "files"];
        fs::read_dir(self.path()).unwrap().all(|entry| {
            known
                .map(OsStr::new)
                .contains(&&*entry.unwrap().file_name())
        })
    }
}

fn ok() -> Ran {
    said("")
}

fn said(out: &str) -> Ran {
    Ran {
        status: Some(0),
        out: out.into(),
        err: String::new(),
    }
}

fn failed(status: i32, err: &str) -> Ran {
    Ran {
        status: Some(status),
        out: String::new(),
        err: err.into(),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A hash as cheap as can be, and no password that anybody knows.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OTAxMjM0NQ";

#[test]
fn init_refuses_an_existing_home() {
    let house = Services {
        folder: tempfile::tempdir().unwrap(),
    };
    let ran = house.run(&["init", "HOME"]);
    assert_eq!(
        ran,
        said(
            "created HOME\n\
             next: 'tidegate user add HOME USER', 'tidegate grant HOME USER DIRECTORY read'\n"
        )
    );
    assert_eq!(mode(&house.credentials()), 0o600);
    assert!(house.path().join("files").is_dir() && house.is_tidy());
    let (home, warnings) = Home::load(&house.path()).unwrap();
    assert_eq!((home.accounts().count(), warnings.len()), (0, 0));

    let before = house.texts();
    let again = failed(1, "tidegate: HOME/Credentials: the home exists already\n");
    assert_eq!(house.run(&["init", "HOME"]), again);
    fs::remove_file(house.credentials()).unwrap();
    let again = failed(1, "tidegate: HOME/Directories: the home exists already\n");
    assert_eq!(house.run(&["init", "HOME"]), again);
    assert_eq!(fs::read_to_string(house.directories()).unwrap(), before.1);
}

#[test]
fn init_accepts_an_empty_folder_and_creates_missing_ones() {
    let house = Services {
        folder: tempfile::tempdir().unwrap(),
    };
    let folder = house.folder.path();
    for path in [folder.to_path_buf(), folder.join("a/b")] {
        let ran = house.run(&["init", path.to_str().unwrap()]);
        assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""));
        assert!(Home::load(&path).is_ok());
    }
    fs::write(folder.join("file"), "").unwrap();
    let ran = house.run(&["init", folder.join("file").to_str().unwrap()]);
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.err.starts_with("tidegate: cannot create ")
            && ran.err.ends_with(": File exists (os error 17)\n")
    );
}

#[test]
fn users_are_added_changed_and_removed() {
    let house = Services::new();
    let add = ["user", "add", "HOME", "anna b", "--password-stdin"];
    assert_eq!(house.run_with(&add, " pass:word \n"), ok());
    assert!(house.lets_in("anna b", " pass:word "));
    let ran = house.run_with(&add, "other\n");
    assert_eq!(ran, failed(1, "tidegate: user 'anna b' exists already\n"));
    assert!(house.lets_in("anna b", " pass:word "));

    let passwd = ["user", "passwd", "HOME", "anna b", "--password-stdin"];
    assert_eq!(house.run_with(&passwd, "new\r\n"), ok());
    assert!(house.lets_in("anna b", "new"));
    let passwd = ["user", "passwd", "HOME", "nobody", "--password-stdin"];
    assert_eq!(
        house.run_with(&passwd, "x\n"),
        failed(1, "tidegate: there is no user 'nobody'\n")
    );

    assert_eq!(house.run(&["grant", "HOME", "anna b", "A", "read"]), ok());
    assert_eq!(house.run(&["grant", "HOME", "*", "B", "read"]), ok());
    assert_eq!(house.run(&["user", "remove", "HOME", "anna b"]), ok());
    let (credentials, directories) = house.texts();
    assert!(!credentials.contains("anna") && !directories.contains("anna"));
    assert!(directories.ends_with("\n*:B:read\n"));
    let ran = house.run(&["user", "remove", "HOME", "anna b"]);
    assert_eq!(ran, failed(1, "tidegate: there is no user 'anna b'\n"));
}

#[test]
fn remaining_grants_of_a_removed_user_can_be_removed() {
    let house = Services::with("", "gone:A:read\n");
    assert_eq!(house.run(&["user", "remove", "HOME", "gone"]), ok());
    assert_eq!(house.texts(), (String::new(), String::new()));
}

#[test]
fn user_list_omits_password_hashes() {
    let house = Services::with(
        &format!("# c\nb:{HASH}\na:plain:secret\nc:{HASH}\n"),
        "*:All:read\nb:Films:read,upload\nb:All:change\na:Box:upload:/nowhere\nx:All:read\n",
    );
    set_mode(&house.credentials(), 0o644);
    for directory in ["All", "Films"] {
        fs::create_dir(house.path().join("files").join(directory)).unwrap();
    }
    let ran = house.run(&["user", "list", "HOME"]);
    assert_eq!(
        ran.out,
        "b: Films (read,upload), All (change)\na: All (read), Box (upload)\nc: All (read)\n"
    );
    assert_eq!(
        ran.err,
        "tidegate: warning: HOME/Credentials: every user of this machine can read it; restrict it with 'chmod 600 HOME/Credentials'\n\
         tidegate: warning: HOME/Credentials:3: the password of 'a' is not hashed; replace it by a hash with 'tidegate user hash HOME'\n\
         tidegate: warning: HOME/Directories:4: '/nowhere' is not a directory\n\
         tidegate: warning: HOME/Directories:5: a grant for 'x', but there is no such user\n"
    );
    assert_eq!(ran.status, Some(0));
    let house = Services::with(&format!("b:{HASH}\n"), "");
    assert_eq!(
        house.run(&["user", "list", "HOME"]).out,
        "b: no directories\n"
    );
}

#[test]
fn plain_passwords_are_hashed_in_place() {
    let house = Services::with(
        &format!("# first\na:plain: pass:word # \nb:{HASH}\n\n# last\nc:plain:x"),
        "",
    );
    set_mode(&house.credentials(), 0o664);
    assert_eq!(
        house.run(&["user", "hash", "HOME"]),
        said("passwords hashed: 2\n")
    );
    assert_eq!(mode(&house.credentials()), 0o600);
    assert!(house.lets_in("a", " pass:word # ") && house.lets_in("c", "x"));
    let (credentials, _) = house.texts();
    let shapes: Vec<_> = credentials
        .lines()
        .map(|line| line.split('$').next().unwrap())
        .collect();
    assert_eq!(shapes, ["# first", "a:", "b:", "", "# last", "c:"]);
    assert!(credentials.contains(&format!("\nb:{HASH}\n")));

    let inode = fs::metadata(house.credentials()).unwrap().ino();
    assert_eq!(
        house.run(&["user", "hash", "HOME"]),
        said("passwords hashed: 0\n")
    );
    assert_eq!(
        fs::metadata(house.credentials()).unwrap().ino(),
        inode,
        "nothing to write"
    );
}

#[test]
fn grants_are_added_replaced_and_revoked() {
    let house = Services::with(
        &format!("a:{HASH}\n"),
        "# one\na:A:read\n\n# two\n*:A:read\n",
    );
    assert_eq!(
        house.run(&["grant", "HOME", "a", "A", "read,upload,change"]),
        ok()
    );
    assert!(house.path().join("files/A").is_dir());
    assert_eq!(house.run(&["grant", "HOME", "*", "B", "upload", "."]), ok());
    assert!(!house.path().join("files/B").exists());
    assert_eq!(
        house.texts().1,
        "# one\na:A:read,upload,change\n\n# two\n*:A:read\n*:B:upload:.\n"
    );
    let ran = house.run(&["grant", "HOME", "b", "C", "read", "not/there:yet"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), ""));
    assert_eq!(
        ran.err,
        "tidegate: warning: there is no user 'b' yet; add one with 'tidegate user add'\n\
         tidegate: warning: HOME/not/there:yet is not a directory yet\n"
    );
    assert_eq!(house.run(&["revoke", "HOME", "*", "A"]), ok());
    assert_eq!(house.run(&["revoke", "HOME", "b", "C"]), ok());
    assert_eq!(
        house.texts().1,
        "# one\na:A:read,upload,change\n\n# two\n*:B:upload:.\n"
    );
    let ran = house.run(&["revoke", "HOME", "a", "B"]);
    assert_eq!(
        ran,
        failed(1, "tidegate: there is no grant of 'B' to 'a'\n")
    );
    assert!(
        house.path().join("files/A").is_dir(),
        "files are never taken away"
    );
}

#[test]
fn a_password_command_reads_one_line_of_standard_input() {
    let house = Services::new();
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(r#""$0" user add "$1" a --password-stdin && "$0" user add "$1" b --password-stdin"#)
        .arg(PROGRAM)
        .arg(house.path());
    assert_eq!(house.finish(&mut shell, "one\ntwo"), ok());
    assert!(house.lets_in("a", "one") && house.lets_in("b", "two"));
}

#[test]
fn edits_keep_bom_crlf_and_missing_line_ends() {
    let house = Services::with(
        "\u{feff}# c\r\na:plain:x\r\n",
        "\u{feff}*:A:read\r\n\r\n# end",
    );
    assert_eq!(
        house.run_with(&["user", "add", "HOME", "b", "--password-stdin"], "y\n"),
        ok()
    );
    assert_eq!(house.run(&["grant", "HOME", "a", "B", "read"]), ok());
    let (credentials, directories) = house.texts();
    assert!(credentials.starts_with("\u{feff}# c\r\na:plain:x\r\nb:$argon2id$"));
    assert!(credentials.ends_with("\r\n"));
    assert_eq!(directories, "\u{feff}*:A:read\r\n\r\n# end\r\na:B:read\r\n");
    assert_eq!(house.run(&["user", "remove", "HOME", "a"]), ok());
    assert!(house.texts().0.starts_with("\u{feff}# c\r\nb:$argon2id$"));
    assert_eq!(house.texts().1, "\u{feff}*:A:read\r\n\r\n# end\r\n");
}
