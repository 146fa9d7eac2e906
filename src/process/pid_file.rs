//! The file that tells which process serves a home: kept locked while it does, so that a number left by a crash is never
//! taken for a server.
//!
//! The lock is a record lock (fcntl_locking(2)), since the kernel itself names the process that holds one: whoever can write the file cannot
//! have another process signalled than his own. Such a lock ends with the first handle of the file that its process closes, so the server
//! opens it once.

use std::fmt;
use std::fs;
use std::fs::{File, OpenOptions};
use std::io;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where a home has its own.
pub fn of_home(home: &Path) -> PathBuf {
    home.join(".tidegate.pid")
}

/// The file, open, and not locked yet: for one whose holder is about to let go.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    file: File,
}

impl Opened {
    /// Opens or makes it.
    ///
    /// # Errors
    /// Of the file system; also where `path` is something else than a regular file.
    pub fn open(path: &Path) -> io::Result<Opened> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let path = path.to_path_buf();
        Ok(Opened { path, file })
    }

    /// Locks it and writes this process's number; `None` where another process holds it.
    pub fn take(self) -> io::Result<Option<PidFile>> {
        match self.lock()? {
            true => self.write().map(Some),
            false => Ok(None),
        }
    }

    fn lock(&self) -> io::Result<bool> {
        match fcntl(&self.file, FcntlArg::F_SETLK(&whole_file())) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this is still the file of its name: the last holder may have removed it between our opening and our locking, and then
    /// nobody would find this one.
    fn is_named(&self) -> io::Result<bool> {
        let status = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (status.dev(), status.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write(mut self) -> io::Result<PidFile> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())?;
        Ok(PidFile(self))
    }
}

/// The file, locked and with this process's number in it. Dropped, it is removed, or emptied where the process may not do that any more.
#[derive(Debug)]
pub struct PidFile(Opened);

impl PidFile {
    /// Makes it, or takes over one that nobody holds; `None` where another process holds it. At most once for a `path` in a process.
    ///
    /// # Errors
    /// As for [`Opened::open`].
    pub fn take(path: &Path) -> io::Result<Option<PidFile>> {
        loop {
            let opened = Opened::open(path)?;
            if !opened.lock()? {
                return Ok(None);
            }
            if opened.is_named()? {
                return opened.write().map(Some);
            }
        }
    }

    /// Lets go of the lock and leaves the file to another process, which has it open already.
    pub fn leave(self) -> io::Result<()> {
        let mut lock = whole_file();
        lock.l_type = libc::F_UNLCK as libc::c_short;
        fcntl(&self.0.file, FcntlArg::F_SETLK(&lock))?;
        std::mem::forget(self); // with a descriptor; the process ends soon
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Still locked: nobody else's. Where it cannot even be emptied it stays, unlocked, and means nothing.
        if fs::remove_file(&self.0.path).is_err() {
            let _ = self.0.file.set_len(0);
        }
    }
}

/// Why a server was not told.
#[derive(Debug)]
pub enum SignalError {
    /// No process that can be seen from here holds the file.
    NoServer(PathBuf),
    /// The file could not be read.
    File(PathBuf, io::Error),
    /// The process could not be signalled.
    Process(Pid, Errno),
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignalError::NoServer(path) => {
                write!(f, "no server runs: {} is not locked", path.display())
            }
            SignalError::File(path, error) => write!(f, "{}: {error}", path.display()),
            SignalError::Process(pid, error) => {
                write!(f, "process {pid} cannot be signalled: {}", error.desc())
            }
        }
    }
}

impl std::error::Error for SignalError {}

/// Tells the server that holds the file at `path` to take up its home's two files again (SIGHUP).
pub fn signal_reload(path: &Path) -> Result<(), SignalError> {
    match holder(path) {
        Ok(Some(pid)) => {
            kill(pid, Signal::SIGHUP).map_err(|error| SignalError::Process(pid, error))
        }
        Ok(None) => Err(SignalError::NoServer(path.to_path_buf())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SignalError::NoServer(path.to_path_buf()))
        }
        Err(error) => Err(SignalError::File(path.to_path_buf(), error)),
    }
}

/// The process that holds the file, as the kernel tells it; `None` where none does, or one on another machine or
/// in another PID namespace.
fn holder(path: &Path) -> io::Result<Option<Pid>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
    let held = lock.l_type == libc::F_WRLCK as libc::c_short && lock.l_pid > 0;
    Ok(held.then(|| Pid::from_raw(lock.l_pid)))
}

/// A write lock on all of a file.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    /// Not a test of its own: what the next one runs as another process. It holds the file until it is signalled.
    #[test]
    fn holds_the_file_when_told_to() {
        let Some(path) = std::env::var_os("TIDEGATE_TEST_PID_FILE") else {
            return;
        };
        let held = PidFile::take(Path::new(&path)).unwrap();
        println!("held: {}", held.is_some());
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn only_a_process_that_holds_the_file_is_signalled() {
        let folder = tempfile::tempdir().unwrap();
        let path = of_home(folder.path());
        assert!(matches!(
            signal_reload(&path),
            Err(SignalError::NoServer(_))
        ));

        let program = std::env::current_exe().unwrap();
        // If the tests run under nohup, a child would ignore the signal. Only GNU env can undo that.
        let option = "--default-signal=HUP";
        let is_gnu = Command::new("env").args([option, "true"]).status();
        let mut command = match is_gnu {
            Ok(status) if status.success() => {
                let mut command = Command::new("env");
                command.arg(option).arg(program);
                command
            }
            _ => Command::new(program),
        };
        let mut server = command
            .args([
                "--exact",
                "process::pid_file::tests::holds_the_file_when_told_to",
            ])
            .env("TIDEGATE_TEST_PID_FILE", &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while holder(&path).ok().flatten().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(
            PidFile::take(&path).unwrap().is_none(),
            "a second one leaves it alone"
        );
        let begin = Instant::now();
        while fs::read_to_string(&path).unwrap() != format!("{}\n", server.id()) {
            assert!(begin.elapsed() < Duration::from_secs(30));
        }
        // What the file says does not count, only who holds it.
        fs::write(&path, "1\n").unwrap();
        signal_reload(&path).unwrap();
        let status = server.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGHUP)
        );

        assert!(
            matches!(signal_reload(&path), Err(SignalError::NoServer(_))),
            "its file is left, unlocked"
        );
        let ours = PidFile::take(&path).unwrap().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        ours.leave().unwrap();
        let next = Opened::open(&path).unwrap().take().unwrap().unwrap();
        drop(next);
        assert!(!path.exists());
    }

    #[test]
    fn a_link_or_a_fifo_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = of_home(folder.path());
        let other = folder.path().join("other");
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(PidFile::take(&path).is_err());
        assert_eq!(fs::read(&other).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(PidFile::take(&path).is_err());
    }
}
