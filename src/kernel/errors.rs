//! Questions that the layers above may ask about an error of a system call. errno values stay below
//! this module: where a condition has a portable name, callers use [`io::ErrorKind`].

use std::io;

use nix::errno::Errno;

/// Whether the process or the system has no descriptor left (EMFILE, ENFILE).
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::EMFILE | Errno::ENFILE))
}

/// Whether accept(2) failed for lack of descriptors or of kernel memory. The connection stays in
/// the backlog, and a later attempt can succeed.
pub fn is_out_of_resources(error: &io::Error) -> bool {
    is_out_of_descriptors(error) || matches!(errno(error), Some(Errno::ENOBUFS | Errno::ENOMEM))
}

/// Whether accept(2) failed because of the connection that it was to return, or of its network,
/// which Linux reports there. The next one may be fine.
pub fn is_of_one_connection(error: &io::Error) -> bool {
    use Errno::{
        ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ENONET, ENOPROTOOPT,
        EOPNOTSUPP, EPERM, EPROTO, ETIMEDOUT,
    };
    matches!(
        errno(error),
        Some(
            ECONNABORTED
                | EHOSTDOWN
                | EHOSTUNREACH
                | EINTR
                | ENETDOWN
                | ENETUNREACH
                | ENONET
                | ENOPROTOOPT
                | EOPNOTSUPP
                | EPERM
                | EPROTO
                | ETIMEDOUT
        )
    )
}

/// Whether a write found a mapped page beyond the end of its file (EFAULT): the file was truncated
/// after it was mapped.
pub fn is_file_truncated(error: &io::Error) -> bool {
    errno(error) == Some(Errno::EFAULT)
}

/// Whether a path leads to nothing that can be served: no such name, a step outside the root
/// (EXDEV, openat2(2)), a loop of links, a name that is too long, a socket or a device without a
/// driver (ENXIO, ENODEV).
pub fn is_absent(error: &io::Error) -> bool {
    use Errno::{ELOOP, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ENXIO, EXDEV};
    matches!(
        errno(error),
        Some(ENOENT | ENOTDIR | ELOOP | EXDEV | ENAMETOOLONG | ENXIO | ENODEV)
    )
}

/// Whether the process may not do this to a file, or the file system does not have it: the caller
/// can go on without.
pub fn is_not_permitted(error: &io::Error) -> bool {
    use Errno::{EACCES, EINVAL, ENOSYS, EOPNOTSUPP, EPERM};
    matches!(
        errno(error),
        Some(EACCES | EINVAL | ENOSYS | EOPNOTSUPP | EPERM)
    )
}

/// Whether a rename that is to replace nothing failed because the file system does not have it
/// (RENAME_NOREPLACE, renameat2(2)), or because a directory was to be moved into itself.
pub fn is_unsupported_rename(error: &io::Error) -> bool {
    use Errno::{EINVAL, ENOSYS, EOPNOTSUPP};
    matches!(errno(error), Some(EINVAL | ENOSYS | EOPNOTSUPP))
}

/// Whether a path led out of its root or, on the event loop, to another file system (EXDEV,
/// openat2(2)).
pub fn crosses_devices(error: &io::Error) -> bool {
    errno(error) == Some(Errno::EXDEV)
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_one_connection_are_retried_at_once() {
        let is_of_one = |errno: Errno| is_of_one_connection(&errno.into());
        assert!(is_of_one(Errno::ECONNABORTED) && is_of_one(Errno::ENETDOWN));
        assert!(!is_of_one(Errno::EINVAL) && !is_of_one(Errno::ENOTSOCK));
        assert!(!is_of_one(Errno::EMFILE));
    }
}
