//! Listings of a server: directories, patterns with `*` and `?`, and whole trees.
//!
//! Entries are processed as they arrive. Their total number and size is bounded, because a server
//! may send listings without end.

use crate::client::connection::ClientConnection;
use crate::client::error::ClientError;
use crate::domain::error::ErrorCode;
use crate::domain::glob;
use crate::domain::glob::matches;
use crate::domain::path::is_name;
use crate::limits::{CLIENT_LISTING_BYTES_MAX, CLIENT_LISTING_ENTRIES_MAX};
use crate::protocol::menu::client::ClientEvent;
use crate::protocol::menu::reply_parser::DetailsEntry;
use crate::protocol::menu::text;
use crate::protocol::menu::text::SEPARATOR;

/// Directories whose listings are pipelined.
const PIPELINED_LISTINGS_MAX: usize = 16;

/// A file or directory of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteEntry {
    /// The path, beginning with a granted directory.
    pub(super) path: String,
    /// Bytes of a file; `None` for a directory.
    pub(super) size: Option<u64>,
    /// Seconds since 1970; `None` for granted directories, whose times the server does not send.
    pub(super) modified: Option<i64>,
}

impl RemoteEntry {
    fn new(directory: &str, entry: &DetailsEntry<'_>) -> RemoteEntry {
        RemoteEntry {
            path: format!("{directory}/{}", entry.name),
            size: entry.size,
            modified: Some(entry.modified),
        }
    }
}

/// Lists directories of a server, with a limit for all listings together.
pub(super) struct RemoteTree<'a> {
    connection: &'a mut ClientConnection,
    entries: u64,
    /// Bytes of the paths that were returned.
    path_bytes: usize,
    /// Bytes of the names that `SHOW DIRECTORY` sends, which are ignored.
    ignored_bytes: usize,
}

impl<'a> RemoteTree<'a> {
    pub(super) fn new(connection: &'a mut ClientConnection) -> RemoteTree<'a> {
        RemoteTree {
            connection,
            entries: 0,
            path_bytes: 0,
            ignored_bytes: 0,
        }
    }

    /// Lists directories. Calls `on_entry` with the index of the directory in `paths` for each
    /// entry. Returns for each directory the reason why it could not be listed, if any.
    pub(super) fn list(
        &mut self,
        paths: &[String],
        mut on_entry: impl FnMut(usize, DetailsEntry<'_>),
    ) -> Result<Vec<Option<&'static str>>, ClientError> {
        let mut requested = 0;
        let mut refusals = Vec::with_capacity(paths.len());
        for index in 0..paths.len() {
            while requested < paths.len().min(index + PIPELINED_LISTINGS_MAX) {
                let path = &paths[requested];
                self.connection
                    .send_command(|session, out| session.show_directory(path, out))?;
                self.connection.send_command(|session, out| {
                    session.show_details(out);
                    Ok(())
                })?;
                requested += 1;
            }
            let refusal = self.receive_choice()?;
            // After a refusal, the details describe the directory chosen before, if any.
            let details_refusal = self.receive_details(|entry| {
                if refusal.is_none() {
                    on_entry(index, entry);
                }
            })?;
            refusals.push(refusal.or(details_refusal));
        }
        Ok(refusals)
    }

    /// Lists the granted directories.
    pub(super) fn granted_directories(&mut self) -> Result<Vec<RemoteEntry>, ClientError> {
        let invalid = || ClientError::Fatal("the server sent an invalid directory name".into());
        let names = self.receive_granted_names()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names = String::from_utf8(names).map_err(|_| invalid())?;
        let mut directories = Vec::new();
        for name in names.split(SEPARATOR) {
            if !is_name(name) {
                return Err(invalid());
            }
            self.count(1, name.len())?;
            directories.push(RemoteEntry {
                path: name.to_owned(),
                size: None,
                modified: None,
            });
        }
        Ok(directories)
    }

    fn receive_granted_names(&mut self) -> Result<Vec<u8>, ClientError> {
        self.connection.send_command(|session, out| {
            session.show_directories(out);
            Ok(())
        })?;
        let mut names = Vec::new();
        loop {
            let is_last = self.connection.receive_reply(|event| match event {
                ClientEvent::Names { piece, is_last } => {
                    names.extend_from_slice(piece);
                    Some(is_last)
                }
                _ => None,
            })?;
            if names.len() > CLIENT_LISTING_BYTES_MAX {
                return Err(listing_too_large());
            }
            if is_last {
                return Ok(names);
            }
        }
    }

    /// Returns the entries that match `pattern`, a path in which any component may contain `*` (any
    /// characters) and `?` (any one character).
    ///
    /// Calls `on_refusal` for each matched directory that cannot be listed. It is an error if the
    /// directory before the first pattern component cannot be listed.
    pub(super) fn expand(
        &mut self,
        pattern: &str,
        mut on_refusal: impl FnMut(&str, &'static str),
    ) -> Result<Vec<RemoteEntry>, ClientError> {
        let mut fixed: Vec<&str> = pattern.split('/').collect();
        let first = fixed.iter().position(|part| glob::is_pattern(part));
        let patterns = fixed.split_off(first.expect("the caller checked is_pattern"));
        let parent = fixed.join("/");
        let mut entries = if parent.is_empty() {
            let mut directories = self.granted_directories()?;
            directories.retain(|entry| matches(patterns[0], &entry.path));
            directories
        } else {
            let mut refusal = None;
            let entries = self.matching(&[parent], patterns[0], |_, why| refusal = Some(why))?;
            if let Some(reason) = refusal {
                return Err(ClientError::Refused(reason));
            }
            entries
        };
        for pattern in &patterns[1..] {
            let directories = entries.into_iter().filter(|entry| entry.size.is_none());
            let directories: Vec<String> = directories.map(|entry| entry.path).collect();
            entries = self.matching(&directories, pattern, |path, reason| {
                // Removed since its parent was listed, so it contains no match.
                if reason != text::refusal(ErrorCode::NoSuchDirectory) {
                    on_refusal(path, reason);
                }
            })?;
        }
        Ok(entries)
    }

    /// Returns the entry of this path from the listing of its directory.
    pub(super) fn find(&mut self, path: &str) -> Result<RemoteEntry, ClientError> {
        let Some((directory, name)) = path.rsplit_once('/') else {
            let reason = text::refusal(ErrorCode::NoSuchDirectory);
            return Err(ClientError::Refused(reason));
        };
        let mut found = None;
        let refusals = self.list(&[directory.to_owned()], |_, entry| {
            if entry.name == name {
                found = Some(RemoteEntry::new(directory, &entry));
            }
        })?;
        let missing = text::refusal(ErrorCode::NoSuchFile);
        found.ok_or(ClientError::Refused(refusals[0].unwrap_or(missing)))
    }

    /// Lists everything below `directories`, level by level. Calls `on_entry` for each entry, a
    /// directory before its content, and `on_refusal` for each directory that cannot be listed.
    pub(super) fn walk(
        &mut self,
        directories: Vec<String>,
        mut on_entry: impl FnMut(RemoteEntry),
        mut on_refusal: impl FnMut(&str, &'static str),
    ) -> Result<(), ClientError> {
        let mut level = directories;
        while !level.is_empty() {
            let mut next_level = Vec::new();
            let mut path_bytes = 0;
            let refusals = self.list(&level, |index, entry| {
                let entry = RemoteEntry::new(&level[index], &entry);
                path_bytes += entry.path.len();
                if path_bytes > CLIENT_LISTING_BYTES_MAX {
                    return;
                }
                if entry.size.is_none() {
                    next_level.push(entry.path.clone());
                }
                on_entry(entry);
            })?;
            self.count(0, path_bytes)?;
            report_refusals(&level, refusals, &mut on_refusal);
            level = next_level;
        }
        Ok(())
    }

    /// Returns the entries of `directories` that match `pattern`. Calls `on_refusal` for each
    /// directory that cannot be listed.
    fn matching(
        &mut self,
        directories: &[String],
        pattern: &str,
        on_refusal: impl FnMut(&str, &'static str),
    ) -> Result<Vec<RemoteEntry>, ClientError> {
        let mut found = Vec::new();
        let mut path_bytes = 0;
        let refusals = self.list(directories, |index, entry| {
            if matches(pattern, entry.name) && path_bytes <= CLIENT_LISTING_BYTES_MAX {
                let entry = RemoteEntry::new(&directories[index], &entry);
                path_bytes += entry.path.len();
                found.push(entry);
            }
        })?;
        self.count(0, path_bytes)?;
        report_refusals(directories, refusals, on_refusal);
        Ok(found)
    }

    /// Receives the reply to `SHOW DIRECTORY` and returns the refusal, if any. The names are
    /// ignored, since the details have them too.
    fn receive_choice(&mut self) -> Result<Option<&'static str>, ClientError> {
        loop {
            let ignored_bytes = &mut self.ignored_bytes;
            let is_last = self.connection.receive_reply(|event| match event {
                ClientEvent::Names { piece, is_last } => {
                    *ignored_bytes = ignored_bytes.saturating_add(piece.len());
                    Some(is_last)
                }
                _ => None,
            });
            self.check_limits()?;
            match is_last {
                Ok(true) => return Ok(None),
                Ok(false) => {}
                Err(ClientError::Refused(reason)) => return Ok(Some(reason)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives the reply to `SHOW DETAILS` and returns the refusal, if any.
    fn receive_details(
        &mut self,
        mut on_entry: impl FnMut(DetailsEntry<'_>),
    ) -> Result<Option<&'static str>, ClientError> {
        let count = self.connection.receive_reply(|event| match event {
            ClientEvent::Entries(count) => Some(count),
            _ => None,
        });
        let count = match count {
            Ok(count) => count,
            Err(ClientError::Refused(reason)) => return Ok(Some(reason)),
            Err(error) => return Err(error),
        };
        self.count(count, 0)?;
        for _ in 0..count {
            self.connection.receive_reply(|event| match event {
                ClientEvent::Entry(entry) => {
                    on_entry(entry);
                    Some(())
                }
                _ => None,
            })?;
        }
        Ok(None)
    }

    fn count(&mut self, entries: u64, path_bytes: usize) -> Result<(), ClientError> {
        self.entries = self.entries.saturating_add(entries);
        self.path_bytes = self.path_bytes.saturating_add(path_bytes);
        self.check_limits()
    }

    fn check_limits(&self) -> Result<(), ClientError> {
        let bytes = self.path_bytes.max(self.ignored_bytes);
        match self.entries > CLIENT_LISTING_ENTRIES_MAX || bytes > CLIENT_LISTING_BYTES_MAX {
            true => Err(listing_too_large()),
            false => Ok(()),
        }
    }
}

/// Returns whether a component of the path is a pattern.
pub(super) fn is_pattern(path: &str) -> bool {
    path.split('/').any(glob::is_pattern)
}

/// Returns the components of a pattern before the first one with `*` or `?`.
pub(super) fn fixed_part(pattern: &str) -> &str {
    let mut end = 0;
    for part in pattern.split('/') {
        if glob::is_pattern(part) {
            break;
        }
        end += part.len() + 1;
    }
    pattern[..end.min(pattern.len())].trim_end_matches('/')
}

fn report_refusals(
    paths: &[String],
    refusals: Vec<Option<&'static str>>,
    mut on_refusal: impl FnMut(&str, &'static str),
) {
    for (path, refusal) in paths.iter().zip(refusals) {
        if let Some(reason) = refusal {
            on_refusal(path, reason);
        }
    }
}

fn listing_too_large() -> ClientError {
    ClientError::Fatal(format!(
        "the listing exceeds {CLIENT_LISTING_ENTRIES_MAX} entries or {CLIENT_LISTING_BYTES_MAX} bytes of names; choose a smaller directory"
    ))
}
