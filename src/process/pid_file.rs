//! The pid file: names the process that uses a run directory, which keeps it locked.
//!
//! The lock is a record lock (fcntl_locking(2)), because the kernel reports the process that holds
//! one. A process id left by a crash is therefore never signalled, nor one that another user has
//! written into the file. Closing any descriptor of the file releases such a lock, so the server
//! opens it once.
//!
//! On a network file system the lock works across machines, but the process id is that of the other
//! machine. A process is therefore signalled only if the file is on a local file system.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use thiserror::Error;

use crate::domain::io_reason::io_reason;
use crate::kernel::linux::is_local;

/// A pid file that is open but not locked yet, because the previous server still holds the lock.
#[derive(Debug)]
pub struct UnlockedPidFile {
    path: PathBuf,
    file: File,
}

impl UnlockedPidFile {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// Also if `path` is not a regular file.
    pub fn open(path: &Path) -> io::Result<UnlockedPidFile> {
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
        Ok(UnlockedPidFile { path, file })
    }

    /// Locks the file and writes the id of this process. Returns `None` if another process holds
    /// the lock, or if the file was removed meanwhile.
    pub fn lock(self) -> io::Result<Option<PidFile>> {
        match self.try_lock()? && self.is_current()? {
            true => self.write_pid().map(Some),
            false => Ok(None),
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        let locked = fcntl(&self.file, FcntlArg::F_SETLK(&whole_file())).map_err(io::Error::from);
        match locked {
            Ok(_) => Ok(true),
            // Either is returned for a lock of another process (fcntl_locking(2)).
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Whether the path still leads to this file. The previous holder may have removed it between
    /// the open and the lock.
    fn is_current(&self) -> io::Result<bool> {
        let opened = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(current) => Ok((current.dev(), current.ino()) == (opened.dev(), opened.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write_pid(mut self) -> io::Result<PidFile> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())?;
        Ok(PidFile(Some(self)))
    }
}

/// A locked pid file with the id of this process. Dropping it removes the file, or empties it if
/// the sandbox forbids that.
#[derive(Debug)]
pub struct PidFile(Option<UnlockedPidFile>);

impl PidFile {
    /// Creates and locks the file, or locks an existing one. Returns `None` if another process
    /// holds the lock. A process must not lock the same path twice.
    ///
    /// # Errors
    /// As for [`UnlockedPidFile::open`].
    pub fn lock(path: &Path) -> io::Result<Option<PidFile>> {
        loop {
            let opened = UnlockedPidFile::open(path)?;
            if !opened.try_lock()? {
                return Ok(None);
            }
            if opened.is_current()? {
                return opened.write_pid().map(Some);
            }
        }
    }

    /// Unlocks the file and leaves it to the next server, which has it open.
    pub fn unlock(mut self) -> io::Result<UnlockedPidFile> {
        let mut lock = whole_file();
        lock.l_type = libc::F_UNLCK as libc::c_short;
        let opened = self.0.take().expect("only this and the drop take it");
        match fcntl(&opened.file, FcntlArg::F_SETLK(&lock)) {
            Ok(_) => Ok(opened),
            Err(error) => {
                self.0 = Some(opened);
                Err(error.into())
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // The lock is still held, so the file is ours. If it cannot be emptied either, it stays
        // without a lock, which means that no server is running.
        let Some(opened) = &self.0 else {
            return;
        };
        if fs::remove_file(&opened.path).is_err() {
            let _ = opened.file.set_len(0);
        }
    }
}

/// Why a server could not be signalled.
#[derive(Debug, Error)]
pub enum SignalError {
    /// No process visible from here holds the lock.
    #[error("no server is running: {} is not locked", .0.display())]
    NoServer(PathBuf),
    /// The process may be one of another machine.
    #[error(
        "{}: the process cannot be signalled, because it may run on another machine: the file is \
         not on a local file system; use --run-dir instead of --pid-file", .0.display()
    )]
    NotLocal(PathBuf),
    /// The file could not be read.
    #[error("{}: {}", .0.display(), io_reason(.1))]
    File(PathBuf, io::Error),
    /// The process could not be signalled.
    #[error("cannot signal process {}: {}", .0, io_reason(.1))]
    Process(Pid, io::Error),
}

/// Asks the server that holds the lock of the file to reload its home (SIGHUP). The result is only
/// in that server's log.
///
/// # Errors
/// Also if the process could be one of another machine.
pub fn signal_reload(path: &Path) -> Result<(), SignalError> {
    let no_server = || SignalError::NoServer(path.to_path_buf());
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => no_server(),
        _ => SignalError::File(path.to_path_buf(), error),
    };
    let file = open(path).map_err(failed)?;
    let lock = conflicting_lock(&file)
        .map_err(failed)?
        .ok_or_else(no_server)?;
    if !is_local(&file).map_err(failed)? {
        return Err(SignalError::NotLocal(path.to_path_buf()));
    }
    // 0 or less: in another PID namespace, or a client of this machine's NFS server.
    let pid = Some(lock.l_pid).filter(|pid| *pid > 0);
    let pid = pid.map(Pid::from_raw).ok_or_else(no_server)?;
    kill(pid, Signal::SIGHUP).map_err(|error| SignalError::Process(pid, error.into()))
}

/// Whether a process, on this machine or another one, holds the lock of the file.
///
/// # Errors
/// If the file exists and cannot be read.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    match open(path) {
        Ok(file) => Ok(conflicting_lock(&file)?.is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Closing the returned file releases a lock of this process on the same file.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)
}

/// Returns the lock of another process.
fn conflicting_lock(file: &File) -> io::Result<Option<libc::flock>> {
    let mut lock = whole_file();
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok((lock.l_type == libc::F_WRLCK as libc::c_short).then_some(lock))
}

/// A write lock on the whole of a file.
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

    /// The other process of the next test: locks the file until it is signalled.
    #[test]
    fn helper_process_locks_the_file() {
        let Some(path) = std::env::var_os("TIDEGATE_TEST_PID_FILE") else {
            return;
        };
        let held = PidFile::lock(Path::new(&path)).unwrap();
        println!("held: {}", held.is_some());
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn only_the_holder_of_the_lock_is_signalled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        assert!(matches!(
            signal_reload(&path),
            Err(SignalError::NoServer(_))
        ));

        let program = std::env::current_exe().unwrap();
        // If the tests run under nohup, a child would ignore the signal. Only GNU env can undo
        // that.
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
                "process::pid_file::tests::helper_process_locks_the_file",
            ])
            .env("TIDEGATE_TEST_PID_FILE", &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while !is_locked(&path).unwrap() {
            assert!(begin.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(
            PidFile::lock(&path).unwrap().is_none(),
            "a second process cannot lock it"
        );
        let begin = Instant::now();
        while fs::read_to_string(&path).unwrap() != format!("{}\n", server.id()) {
            assert!(begin.elapsed() < Duration::from_secs(30));
        }
        // The lock counts, not the content.
        fs::write(&path, "1\n").unwrap();
        signal_reload(&path).unwrap();
        let status = server.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGHUP)
        );

        assert!(
            matches!(signal_reload(&path), Err(SignalError::NoServer(_))),
            "the file is unlocked"
        );
        let ours = PidFile::lock(&path).unwrap().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        ours.unlock().unwrap();
        let next = UnlockedPidFile::open(&path).unwrap();
        let next = next.lock().unwrap().unwrap();
        drop(next);
        assert!(!path.exists());
    }

    #[test]
    fn symbolic_links_and_fifos_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let other = folder.path().join("other");
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(PidFile::lock(&path).is_err());
        assert_eq!(fs::read(&other).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(PidFile::lock(&path).is_err());
    }
}
