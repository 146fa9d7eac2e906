//! The mount points of the process (proc_pid_mountinfo(5)), as they were at the start.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::kernel::types::FileSystemKind;

/// Names of file systems on disks of this machine or in memory (filesystems(5)).
const LOCAL_TYPES: &[&[u8]] = &[
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"f2fs",
    b"tmpfs",
    b"overlay",
    b"vfat",
    b"zfs",
    b"bcachefs",
    b"exfat",
    b"ramfs",
];

/// The mount points, without any call on the file systems themselves.
pub(super) struct Mounts {
    points: Vec<(PathBuf, FileSystemKind)>,
}

impl Mounts {
    /// Reads the mount points. Where /proc is missing, all paths count as one mount.
    pub(super) fn read() -> Mounts {
        Mounts::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(table: &[u8]) -> Mounts {
        let lines = table.split(|byte| *byte == b'\n');
        let point = |line: &[u8]| {
            let mut fields = line.split(|byte| *byte == b' ');
            let point = PathBuf::from(unescape(fields.nth(4)?));
            // The type follows the end of the optional fields.
            let kind = fields.skip_while(|field| field != b"-").nth(1)?;
            let kind = match LOCAL_TYPES.contains(&kind) {
                true => FileSystemKind::Local,
                false => FileSystemKind::Remote,
            };
            Some((point, kind))
        };
        Mounts {
            points: lines.filter_map(point).collect(),
        }
    }

    /// Returns the index of the last mount point that is a prefix of most of `path`; links are not
    /// followed.
    pub(super) fn of(&self, path: &Path) -> u64 {
        self.nearest(path).map_or(0, |(index, _)| index as u64)
    }

    /// Returns the kind of the file system of that mount point.
    pub(super) fn kind_of(&self, path: &Path) -> FileSystemKind {
        let nearest = self.nearest(path);
        nearest.map_or(FileSystemKind::Remote, |(_, kind)| kind)
    }

    /// Whether a mount point is directly in the directory at `path`.
    pub(super) fn has_point_in(&self, path: &Path) -> bool {
        let mut points = self.points.iter();
        points.any(|(point, _)| point.parent() == Some(path))
    }

    fn nearest(&self, path: &Path) -> Option<(usize, FileSystemKind)> {
        let points = self.points.iter().enumerate();
        let above = points.filter(|(_, (point, _))| path.starts_with(point));
        let nearest = above.max_by_key(|(index, (point, _))| (point.as_os_str().len(), *index));
        nearest.map(|(index, (_, kind))| (index, *kind))
    }
}

/// Replaces the octal escapes of blanks and backslashes.
fn unescape(field: &[u8]) -> OsString {
    let mut name = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match (byte, octal) {
            (b'\\', Some(escaped)) => {
                name.push(escaped);
                rest = &after[3..];
            }
            _ => {
                name.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_point_is_found_by_path() {
        let table = b"21 1 8:1 / / rw - ext4 /dev/a rw\n\
            22 21 0:5 / /srv/a\\040b rw - nfs x:/ rw\n\
            23 22 0:6 / /srv/a\\040b/c rw - tmpfs none rw\n";
        let mounts = Mounts::parse(table);
        let of = |path| mounts.of(Path::new(path));
        assert_eq!(of("/srv"), 0);
        assert_eq!(of("/srv/a b"), 1);
        assert_eq!(of("/srv/a bc"), 0);
        assert_eq!(of("/srv/a b/d/e"), 1);
        assert_eq!(of("/srv/a b/c/d"), 2);
        let kind_of = |path| mounts.kind_of(Path::new(path));
        assert_eq!(kind_of("/srv"), FileSystemKind::Local);
        assert_eq!(kind_of("/srv/a b/d"), FileSystemKind::Remote);
        assert_eq!(kind_of("/srv/a b/c/d"), FileSystemKind::Local);
        let empty = Mounts::parse(b"");
        assert_eq!(empty.of(Path::new("/srv")), 0);
        assert_eq!(empty.kind_of(Path::new("/srv")), FileSystemKind::Remote);
        assert_eq!(unescape(b"a\\134b\\"), OsString::from("a\\b\\"));
    }
}
