//! Files that other users of the machine could change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Write access of the group and of all other users.
const WRITE: u32 = 0o022;

/// Only the owner of a name in such a directory can change it (S_ISVTX, inode(7)).
const STICKY: u32 = 0o1000;

/// Returns the warnings for a file or directory of a home that users other than its owner may write
/// to, or may replace in a directory above it. Symbolic links are followed. A missing file causes
/// no warning.
pub fn write_warnings(path: &Path) -> Vec<String> {
    own_warning(path)
        .into_iter()
        .chain(ancestor_warning(path))
        .collect()
}

/// The same for a file in a directory for which [`write_warnings`] is called anyway.
pub(super) fn file_warnings(file: &Path) -> Vec<String> {
    let is_elsewhere = fs::symlink_metadata(file).is_ok_and(|found| found.is_symlink());
    let above = is_elsewhere.then(|| ancestor_warning(file)).flatten();
    own_warning(file).into_iter().chain(above).collect()
}

fn own_warning(path: &Path) -> Option<String> {
    let (writers, path) = (writers(path, 0)?, path.display());
    Some(format!(
        "{path}: {writers} may write to it and so could change who may log in and what is \
         granted; restrict it with 'chmod go-w {path}'"
    ))
}

fn ancestor_warning(path: &Path) -> Option<String> {
    let target = path.canonicalize().ok()?;
    target.ancestors().skip(1).find_map(|above| {
        let (writers, above) = (writers(above, STICKY)?, above.display());
        let path = path.display();
        Some(format!(
            "{above}: {writers} may write to it and so could replace {path}; restrict it with \
             'chmod go-w {above}'"
        ))
    })
}

/// Returns who may write, apart from the owner. Modes with one of the `harmless` bits are accepted.
fn writers(path: &Path, harmless: u32) -> Option<&'static str> {
    let mode = fs::metadata(path).ok()?.mode();
    match mode & WRITE {
        _ if mode & harmless != 0 => None,
        0 => None,
        0o020 => Some("the users of its group"),
        _ => Some("all users of this machine"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn write_access_of_group_and_others_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let (directory, file) = (top.join("d"), top.join("d/f"));
        fs::create_dir(&directory).unwrap();
        fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let (group, all) = ("the users of its group", "all users of this machine");
        for (on_directory, on_file, expected) in [
            (0o755, 0o644, vec![]),
            (0o755, 0o664, vec![(&file, group)]),
            (0o755, 0o662, vec![(&file, all)]),
            (0o775, 0o600, vec![(&directory, group)]),
            (0o777, 0o622, vec![(&file, all), (&directory, all)]),
            (0o1777, 0o600, vec![]),
        ] {
            set(&directory, on_directory);
            set(&file, on_file);
            let found = write_warnings(&file);
            let starts = expected
                .iter()
                .map(|(at, who)| format!("{}: {who} may", at.display()));
            let starts: Vec<String> = starts.collect();
            let is_equal = found.len() == starts.len()
                && (found.iter().zip(&starts)).all(|(found, start)| found.starts_with(start));
            assert!(is_equal, "{on_directory:o} {on_file:o}: {found:?}");
        }
        set(&directory, 0o1777);
        assert_eq!(write_warnings(&directory).len(), 1, "names can be added");
        assert_eq!(write_warnings(&top.join("missing")), [""; 0]);
    }

    #[test]
    fn directories_above_the_target_of_a_link_count() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, link) = (folder.path().join("d"), folder.path().join("link"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("f"), "").unwrap();
        symlink("d/f", &link).unwrap();
        assert_eq!(file_warnings(&link), [""; 0]);
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(file_warnings(&link).len(), 1);
        assert_eq!(file_warnings(&directory.join("f")), [""; 0]);
    }
}
