//! The locked pid files of this process.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::process::pid_file::{PidFile, UnlockedPidFile};

/// The locked pid files, shared with the control socket, which releases them in a handover.
#[derive(Clone, Default)]
pub struct HeldFiles(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    locked: Vec<PidFile>,
    /// Those that were released for the next server.
    released: Vec<UnlockedPidFile>,
    is_released: bool,
}

impl HeldFiles {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().expect("no holder panics")
    }

    /// Adds a locked file.
    pub fn push(&self, file: PidFile) {
        self.files().locked.push(file);
    }

    /// Unlocks the files and leaves them to the next server.
    pub fn release(&self) {
        let files = &mut *self.files();
        files.is_released = true;
        for file in files.locked.drain(..) {
            match file.unlock() {
                Ok(file) => files.released.push(file),
                Err(error) => {
                    let why = error.to_string();
                    log::warn!("event=take-over result=lock-kept why={why:?}");
                }
            }
        }
    }

    /// Locks released files again.
    pub fn restore(&self) {
        let files = &mut *self.files();
        files.is_released = false;
        for file in files.released.drain(..) {
            match file.lock() {
                Ok(Some(file)) => files.locked.push(file),
                Ok(None) => {
                    log::warn!("event=take-over result=lock-lost why=\"another process has it\"");
                }
                Err(error) => {
                    let why = error.to_string();
                    log::warn!("event=take-over result=lock-lost why={why:?}");
                }
            }
        }
    }

    /// Whether the files were released to the next server.
    pub fn is_released(&self) -> bool {
        self.files().is_released
    }

    /// Removes and unlocks the files, at the end of the process.
    pub fn remove(&self) {
        self.files().locked.clear();
    }
}
