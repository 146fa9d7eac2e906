//! Which file systems can give an unnamed file a name.
//!
//! A file system may have O_TMPFILE but no hard links, and with them no way to publish such a file
//! (some FUSE file systems). That has to be known before the bytes of an upload arrive.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard};

use crate::kernel::errors::is_not_permitted;
use crate::kernel::linux::file::File;

/// The answer of each file system that was tried, by the number that stat(2) reports (`st_dev`).
#[derive(Default)]
pub(super) struct UnnamedFiles {
    can_be_named: Mutex<HashMap<u64, bool>>,
}

impl UnnamedFiles {
    fn known(&self) -> MutexGuard<'_, HashMap<u64, bool>> {
        self.can_be_named.lock().expect("no holder panics")
    }

    /// Creates an unnamed file. Before the first one of a file system, another one is given the
    /// name `probe` for a moment.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if the file system has no unnamed files, or no names for
    /// them.
    pub(super) fn create(&self, directory: &File, probe: &str) -> io::Result<File> {
        let device = directory.status()?.device;
        let known = self.known().get(&device).copied();
        if known == Some(false) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let file = directory.create_unnamed()?;
        if known.is_some() {
            return Ok(file);
        }
        let can_be_named = match file.link(directory, probe) {
            Ok(()) => {
                // Where this fails, the orphan sweep of the next start removes it.
                let _ = directory.remove(probe);
                true // but not this one again: a file without its last name cannot be linked
            }
            // ENOENT: /proc is missing, which linkat(2) needs.
            Err(error) if is_not_permitted(&error) || error.kind() == io::ErrorKind::NotFound => {
                false
            }
            // Another reason, such as a full disk, says nothing about the next file. This one gets
            // a name at once.
            Err(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        self.known().insert(device, can_be_named);
        match can_be_named {
            true => directory.create_unnamed(),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naming_is_tried_once_per_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let directory = File::open_root(folder.path()).unwrap();
        let files = UnnamedFiles::default();
        let Ok(file) = files.create(&directory, "probe") else {
            return; // a file system without O_TMPFILE
        };
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        file.link(&directory, "probe").unwrap();
        // Not tried again: the name is taken.
        files.create(&directory, "probe").unwrap();
        let device = directory.status().unwrap().device;
        assert_eq!(*files.known(), HashMap::from([(device, true)]));
        files.known().insert(device, false);
        let refused = files.create(&directory, "other").map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    }
}
