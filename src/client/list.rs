//! `ls`: what a server has, a line an entry; a table for a person, plain for a program.
//!
//! A directory is written while it comes: nothing of it is kept.

use std::fmt::Write as _;
use std::io;
use std::io::Write;

use indicatif::BinaryBytes;
use jiff::Timestamp;

use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::client::login::Login;
use crate::client::sanitized::Sanitized;
use crate::client::tree::{Node, Tree, is_pattern};
use crate::domain::error::ErrorCode;
use crate::protocol::menu::text;

/// How a listing looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// For a program: size, time and name between tabs, the size in bytes, the time as RFC 3339 writes it.
    Plain,
    /// For a person.
    Table {
        /// Sizes in bytes.
        exact: bool,
    },
}

/// Writes what `path` means to `out`: a directory's entries, a file, what matches a pattern, or without one the directories that
/// the user may enter. A directory has `-` for its size and `/` behind its name. `fail` is given each directory on a pattern's way
/// that cannot be listed, and why.
pub fn list(
    login: &Login,
    path: Option<&str>,
    look: Look,
    out: &mut dyn Write,
    mut fail: impl FnMut(&str, &'static str),
) -> Result<(), Error> {
    let mut connection = Connection::open(login)?;
    let mut tree = Tree::new(&mut connection);
    let mut written = Ok(());
    let mut put = |out: &mut dyn Write, node: &Node, name: &str| {
        if written.is_ok() {
            written = out.write_all(line(node, name, look).as_bytes());
        }
    };
    match path.map(|path| path.trim_end_matches('/')) {
        None | Some("") => {
            for node in tree.directories()? {
                put(out, &node, &node.path);
            }
        }
        Some(pattern) if is_pattern(pattern) => {
            let mut is_whole = true;
            let found = tree.expand(pattern, |path, why| {
                is_whole = false;
                fail(path, why);
            })?;
            if found.is_empty() && is_whole {
                return Err(Error::Here("nothing matches".into()));
            }
            for node in found {
                put(out, &node, &node.path);
            }
        }
        Some(directory) => {
            let refusals = tree.list(&[directory.to_owned()], |_, entry| {
                let node = Node {
                    path: String::new(),
                    size: entry.size,
                    modified: Some(entry.modified),
                };
                put(out, &node, entry.name);
            })?;
            match refusals[0] {
                Some(why) if why == text::refusal(ErrorCode::NoSuchDirectory) => {
                    let node = tree.find(directory)?;
                    put(out, &node, &node.path);
                }
                Some(why) => return Err(Error::Refused(why)),
                None => {}
            }
        }
    }
    connection.quit();
    written
        .and_then(|()| out.flush())
        .map_err(|error: io::Error| Error::Here(format!("standard output: {error}")))
}

/// A line of a listing.
pub(super) fn line(node: &Node, name: &str, look: Look) -> String {
    let end = if node.size.is_none() { "/" } else { "" };
    let time = node
        .modified
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    let mut line = String::new();
    let written = match look {
        Look::Plain => {
            let size = node.size.map_or("-".into(), |size| size.to_string());
            let time = time.map_or("-".into(), |time| time.to_string());
            writeln!(line, "{size}\t{time}\t{name}{end}")
        }
        Look::Table { exact } => {
            let size = match node.size {
                None => "-".into(),
                Some(size) if exact => size.to_string(),
                Some(size) => BinaryBytes(size).to_string(),
            };
            // 2026-11-22 18:00, of UTC as all times of the server.
            let time = time.map_or("-".into(), |time| time.to_string()[..16].replace('T', " "));
            let width = if exact { 19 } else { 11 };
            writeln!(line, "{size:>width$}  {time:<16}  {}{end}", Sanitized(name))
        }
    };
    written.expect("a String takes every character");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_a_program_or_for_a_person() {
        let file = Node {
            path: String::new(),
            size: Some(88_244),
            modified: Some(1_795_370_400),
        };
        let directory = Node {
            size: None,
            ..file.clone()
        };
        let line = |node, look| line(node, "a\u{202e}b", look);
        assert_eq!(
            line(&file, Look::Plain),
            "88244\t2026-11-22T18:00:00Z\ta\u{202e}b\n"
        );
        assert_eq!(
            line(&directory, Look::Plain),
            "-\t2026-11-22T18:00:00Z\ta\u{202e}b/\n"
        );
        let table = Look::Table { exact: false };
        assert_eq!(
            line(&file, table),
            "  86.18 KiB  2026-11-22 18:00  a\\u{202e}b\n"
        );
        assert_eq!(
            line(&directory, table),
            "          -  2026-11-22 18:00  a\\u{202e}b/\n"
        );
        let exact = Look::Table { exact: true };
        assert_eq!(
            line(&file, exact),
            "              88244  2026-11-22 18:00  a\\u{202e}b\n"
        );
    }
}
