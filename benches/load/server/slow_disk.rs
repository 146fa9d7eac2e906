//! Emulates a slow disk: throttles the reads of one device in a control group (cgroup v1, blkio).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::{major, minor};

/// Mount point of the controller.
const CONTROLLER: &str = "/sys/fs/cgroup/blkio";

/// A throttled control group for the disk of one file. Dropping it removes the group.
pub(crate) struct SlowDisk {
    group: PathBuf,
    file: PathBuf,
}

impl SlowDisk {
    /// Creates a group that may read `rate` bytes per second from the disk of `file`. Fails with
    /// `Unsupported` if the machine has no such controller or the process lacks the right to use
    /// it.
    pub(crate) fn new(file: &Path, rate: u64) -> io::Result<SlowDisk> {
        let unsupported = |why: &str| io::Error::new(io::ErrorKind::Unsupported, why.to_owned());
        if !Path::new(CONTROLLER).join("cgroup.procs").exists() {
            return Err(unsupported("this machine has no blkio control groups"));
        }
        let device = fs::metadata(file)?.dev();
        if major(device) == 0 {
            return Err(unsupported("the file is not on a block device"));
        }
        let group = Path::new(CONTROLLER).join(format!("tidegate-load-{}", std::process::id()));
        fs::create_dir(&group).map_err(|_| unsupported("cannot create a control group"))?;
        let disk = SlowDisk {
            group,
            file: file.to_owned(),
        };
        let limit = format!("{}:{} {rate}", major(device), minor(device));
        fs::write(disk.group.join("blkio.throttle.read_bps_device"), limit)
            .map_err(|_| unsupported("cannot throttle the disk"))?;
        Ok(disk)
    }

    /// Moves a process and its children into the group.
    pub(crate) fn throttle(&self, process: u32) -> io::Result<()> {
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

    /// Removes the file from the page cache.
    pub(crate) fn evict(&self) -> io::Result<()> {
        let file = File::open(&self.file)?;
        file.sync_all()?;
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        Ok(posix_fadvise(&file, 0, 0, advice)?)
    }

    /// Moves all processes out of the group.
    pub(crate) fn lift(&self) -> io::Result<()> {
        let processes = fs::read_to_string(self.group.join("cgroup.procs"))?;
        for process in processes.lines() {
            fs::write(Path::new(CONTROLLER).join("cgroup.procs"), process)?;
        }
        Ok(())
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let _ = self.lift();
        let _ = fs::remove_dir(&self.group);
    }
}
