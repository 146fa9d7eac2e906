//! Temporary names for uploads on file systems without O_TMPFILE: `.tidegate-<16 hex digits>.part`.
//!
//! The writer holds the file's lock (flock(2)) for as long as the name exists. The orphan sweep
//! ([`crate::storage::orphans`]) removes such names where the lock is free.

use std::io;

use crate::kernel::Kernel;

const PREFIX: &str = ".tidegate-";
const SUFFIX: &str = ".part";

/// Random names that are tried. A collision of 64 random bits means that something else is wrong.
pub(super) const NAME_ATTEMPTS_MAX: usize = 8;

/// Whether `name` has the form of a temporary name.
pub(super) fn is_temporary(name: &str) -> bool {
    let digits = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX));
    digits.is_some_and(|digits| {
        digits.len() == 16
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Calls `make` with random temporary names until one is free.
pub(super) fn with_new_name<K: Kernel, T>(
    kernel: &K,
    make: impl Fn(&str) -> io::Result<T>,
) -> io::Result<(String, T)> {
    for _ in 0..NAME_ATTEMPTS_MAX {
        let name = format!("{PREFIX}{:016x}{SUFFIX}", kernel.random()?);
        match make(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|made| (name, made)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Creates a file under a temporary name and locks it.
pub(super) fn create_locked<K: Kernel>(
    kernel: &K,
    directory: &K::File,
) -> io::Result<(String, K::File)> {
    with_new_name(kernel, |name| {
        let file = kernel.create_named(directory, name)?;
        match kernel.lock(&file) {
            // The orphan sweep locked it first and is about to remove it: try another name.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            _ => match kernel.status_at(directory, name) {
                // The sweep has removed it already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(io::ErrorKind::AlreadyExists.into())
                }
                _ => Ok(file),
            },
        }
    })
}
