//! The mount points of the process (proc_pid_mountinfo(5)), as they were at the start.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mount points, without any call on the file systems themselves.
pub(super) struct Mounts {
    points: Vec<PathBuf>,
}

impl Mounts {
    /// Reads the mount points. Where /proc is missing, all paths count as one mount.
    pub(super) fn read() -> Mounts {
        Mounts::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(table: &[u8]) -> Mounts {
        let lines = table.split(|byte| *byte == b'\n');
        let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
        Mounts {
            points: points.map(|point| PathBuf::from(unescape(point))).collect(),
        }
    }

    /// Returns the index of the last mount point that is a prefix of most of `path`; links are not
    /// followed.
    pub(super) fn of(&self, path: &Path) -> u64 {
        let points = self.points.iter().enumerate();
        let above = points.filter(|(_, point)| path.starts_with(point));
        let nearest = above.max_by_key(|(index, point)| (point.as_os_str().len(), *index));
        nearest.map_or(0, |(index, _)| index as u64)
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
        assert_eq!(Mounts::parse(b"").of(Path::new("/srv")), 0);
        assert_eq!(unescape(b"a\\134b\\"), OsString::from("a\\b\\"));
    }
}
