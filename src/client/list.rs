//! `ls`: lists a server's files, as a table or in a format for programs.

use std::fmt::Write as _;
use std::io::Write;

use indicatif::BinaryBytes;
use jiff::Timestamp;

use crate::client::connection::ClientConnection;
use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::missing::{LEADING_SLASH, Missing};
use crate::client::sanitized::Sanitized;
use crate::client::tree::{RemoteEntry, RemoteTree, fixed_part, is_pattern};
use crate::domain::error::ErrorCode;
use crate::protocol::menu::text;

/// The format of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// Size in bytes, modification time (RFC 3339) and name, separated by tabs.
    Plain,
    /// Aligned columns.
    Table {
        /// Whether sizes are in bytes instead of KiB, MiB and so on.
        exact: bool,
    },
}

/// Writes the listing of `path` to `out`: the entries of a directory, a single file, the matches of
/// a pattern, or without a path the granted directories.
///
/// Entries of a directory are written as they arrive. Calls `on_refusal` for each directory that a
/// pattern matches and that cannot be listed.
pub fn list(
    login: &RemoteLogin,
    path: Option<&str>,
    format: ListFormat,
    out: &mut dyn Write,
    mut on_refusal: impl FnMut(&str, &'static str),
) -> Result<(), ClientError> {
    let mut connection = ClientConnection::open(login)?;
    let mut tree = RemoteTree::new(&mut connection);
    let mut written = Ok(());
    let mut write_entry = |out: &mut dyn Write, entry: &RemoteEntry, name: &str| {
        if written.is_ok() {
            written = out.write_all(format_entry(entry, name, format).as_bytes());
        }
    };
    if path.is_some_and(|path| path.starts_with('/') && !path.trim_matches('/').is_empty()) {
        return Err(ClientError::Local(LEADING_SLASH.into()));
    }
    match path.map(|path| path.trim_end_matches('/')) {
        None | Some("") => {
            for entry in tree.granted_directories()? {
                write_entry(out, &entry, &entry.path);
            }
        }
        Some(pattern) if is_pattern(pattern) => {
            let mut is_complete = true;
            let found = tree.expand(pattern, |path, reason| {
                is_complete = false;
                on_refusal(path, reason);
            });
            let found = match found {
                Err(ClientError::Refused(reason)) => {
                    return Err(explained(&mut tree, fixed_part(pattern), reason));
                }
                found => found?,
            };
            if found.is_empty() && is_complete {
                return Err(ClientError::Local("nothing matches the pattern".into()));
            }
            for entry in found {
                write_entry(out, &entry, &entry.path);
            }
        }
        Some(directory) => {
            let refusals = tree.list(&[directory.to_owned()], |_, entry| {
                let name = entry.name;
                let entry = RemoteEntry {
                    path: String::new(),
                    size: entry.size,
                    modified: Some(entry.modified),
                };
                write_entry(out, &entry, name);
            })?;
            match refusals[0] {
                Some(reason) if reason == text::refusal(ErrorCode::NoSuchDirectory) => {
                    let entry = match tree.find(directory) {
                        Err(ClientError::Refused(reason)) => {
                            return Err(explained(&mut tree, directory, reason));
                        }
                        found => found?,
                    };
                    write_entry(out, &entry, &entry.path);
                }
                Some(reason) => return Err(ClientError::Refused(reason)),
                None => {}
            }
        }
    }
    connection.quit();
    written
        .and_then(|()| out.flush())
        .map_err(|error| ClientError::output(&error))
}

/// Explains why the server refused a path.
fn explained(tree: &mut RemoteTree<'_>, path: &str, reason: &'static str) -> ClientError {
    match Missing::explain(tree, path, reason) {
        Ok(Missing::Nothing(explained)) => ClientError::Local(explained),
        Ok(Missing::IsDirectory) => ClientError::Refused(reason),
        Err(error) => error,
    }
}

/// Formats one line of a listing. A directory has the size `-` and a trailing `/`.
pub(super) fn format_entry(entry: &RemoteEntry, name: &str, format: ListFormat) -> String {
    let suffix = if entry.size.is_none() { "/" } else { "" };
    let time = entry
        .modified
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    let mut line = String::new();
    let written = match format {
        ListFormat::Plain => {
            let size = entry.size.map_or("-".into(), |size| size.to_string());
            let time = time.map_or("-".into(), |time| time.to_string());
            writeln!(line, "{size}\t{time}\t{name}{suffix}")
        }
        ListFormat::Table { exact } => {
            let size = match entry.size {
                None => "-".into(),
                Some(size) if exact => size.to_string(),
                Some(size) => BinaryBytes(size).to_string(),
            };
            // 2026-11-22 18:00, in UTC.
            let time = time.map_or("-".into(), |time| time.to_string()[..16].replace('T', " "));
            let width = if exact { 19 } else { 11 };
            writeln!(
                line,
                "{size:>width$}  {time:<16}  {}{suffix}",
                Sanitized(name)
            )
        }
    };
    written.expect("writing to a String cannot fail");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_tab_separated_or_aligned() {
        let file = RemoteEntry {
            path: String::new(),
            size: Some(88_244),
            modified: Some(1_795_370_400),
        };
        let directory = RemoteEntry {
            size: None,
            ..file.clone()
        };
        let line = |entry, format| format_entry(entry, "a\u{202e}b", format);
        assert_eq!(
            line(&file, ListFormat::Plain),
            "88244\t2026-11-22T18:00:00Z\ta\u{202e}b\n"
        );
        assert_eq!(
            line(&directory, ListFormat::Plain),
            "-\t2026-11-22T18:00:00Z\ta\u{202e}b/\n"
        );
        let table = ListFormat::Table { exact: false };
        assert_eq!(
            line(&file, table),
            "  86.18 KiB  2026-11-22 18:00  a\\u{202e}b\n"
        );
        assert_eq!(
            line(&directory, table),
            "          -  2026-11-22 18:00  a\\u{202e}b/\n"
        );
        let exact = ListFormat::Table { exact: true };
        assert_eq!(
            line(&file, exact),
            "              88244  2026-11-22 18:00  a\\u{202e}b\n"
        );
    }
}
