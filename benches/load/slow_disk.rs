//! A slow disk: a control group whose reads of one device are throttled (cgroup-v1 blkio), and a file that is not in memory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::{major, minor};

/// Where the controller is mounted on a machine that has it.
const CONTROLLER: &str = "/sys/fs/cgroup/blkio";

/// A throttled group, gone when it is dropped.
pub(crate) struct Throttle {
    group: PathBuf,
    file: PathBuf,
}

impl Throttle {
    /// A group that may read `rate` bytes a second of the disk that `file` is on. Fails with `Unsupported` where the machine
    /// has no such thing or the right to it is missing.
    pub(crate) fn new(file: &Path, rate: u64) -> io::Result<Throttle> {
        let unsupported = |why: &str| io::Error::new(io::ErrorKind::Unsupported, why.to_owned());
        if !Path::new(CONTROLLER).join("cgroup.procs").exists() {
            return Err(unsupported("this machine has no blkio control groups"));
        }
        let device = fs::metadata(file)?.dev();
        if major(device) == 0 {
            return Err(unsupported("the files are not on a disk of their own"));
        }
        let group = Path::new(CONTROLLER).join(format!("tidegate-load-{}", std::process::id()));
        fs::create_dir(&group).map_err(|_| unsupported("no control group can be made"))?;
        let throttle = Throttle {
            group,
            file: file.to_owned(),
        };
        let limit = format!("{}:{} {rate}", major(device), minor(device));
        fs::write(throttle.group.join("blkio.throttle.read_bps_device"), limit)
            .map_err(|_| unsupported("the disk cannot be throttled"))?;
        Ok(throttle)
    }

    /// Puts a process and its children into the group.
    pub(crate) fn hold(&self, process: u32) -> io::Result<()> {
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        let children = children.unwrap_or_default();
        for process in [process.to_string().as_str()]
            .into_iter()
            .chain(children.split_whitespace())
        {
            fs::write(self.group.join("cgroup.procs"), process)?;
        }
        Ok(())
    }

    /// Takes the file out of memory.
    pub(crate) fn evict(&self) -> io::Result<()> {
        let file = File::open(&self.file)?;
        file.sync_all()?;
        Ok(posix_fadvise(
            &file,
            0,
            0,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )?)
    }

    /// Lets everybody go on at full speed.
    pub(crate) fn lift(&self) -> io::Result<()> {
        let processes = fs::read_to_string(self.group.join("cgroup.procs"))?;
        for process in processes.lines() {
            fs::write(Path::new(CONTROLLER).join("cgroup.procs"), process)?;
        }
        Ok(())
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        let _ = self.lift();
        let _ = fs::remove_dir(&self.group);
    }
}
