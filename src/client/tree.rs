//! What a server has: listings, patterns with `*` and `?`, and whole trees.
//!
//! A listing is taken an entry at a time, and all of them together are bounded. Must not know: where anything lands.

use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::domain::error::ErrorCode;
use crate::domain::glob;
use crate::domain::glob::matches;
use crate::domain::path::is_name;
use crate::limits::{CLIENT_LISTING_BYTES_MAX, CLIENT_LISTING_ENTRIES_MAX};
use crate::protocol::menu::client::ClientEvent;
use crate::protocol::menu::reply_parser::DetailsEntry;
use crate::protocol::menu::text;
use crate::protocol::menu::text::SEPARATOR;

/// Directories whose listings are asked for ahead.
const LISTINGS_AHEAD: usize = 16;

/// Something that a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The path from the top.
    pub(super) path: String,
    /// Bytes of a file; `None` for a directory.
    pub(super) size: Option<u64>,
    /// Seconds since 1970; `None` where the server does not tell, as of the granted directories.
    pub(super) modified: Option<i64>,
}

/// Looks around on a server, until it has told enough.
pub(super) struct Tree<'a> {
    connection: &'a mut Connection,
    entries: u64,
    bytes: usize,
    /// Bytes of names that were passed over.
    skipped: usize,
}

impl<'a> Tree<'a> {
    pub(super) fn new(connection: &'a mut Connection) -> Tree<'a> {
        Tree {
            connection,
            entries: 0,
            bytes: 0,
            skipped: 0,
        }
    }

    /// Lists directories; `take` is given an index into `paths` and an entry of that directory. Returns for each directory why
    /// it was not listed, if it was not.
    pub(super) fn list(
        &mut self,
        paths: &[String],
        mut take: impl FnMut(usize, DetailsEntry<'_>),
    ) -> Result<Vec<Option<&'static str>>, Error> {
        let mut asked = 0;
        let mut refusals = Vec::with_capacity(paths.len());
        for index in 0..paths.len() {
            while asked < paths.len().min(index + LISTINGS_AHEAD) {
                let path = &paths[asked];
                self.connection
                    .ask(|dialogue, out| dialogue.show_directory(path, out))?;
                self.connection.ask(|dialogue, out| {
                    dialogue.show_details(out);
                    Ok(())
                })?;
                asked += 1;
            }
            let refused = self.skip_names()?;
            // Where it was refused, the details are those of a directory before, or none.
            let details = self.details(|entry| {
                if refused.is_none() {
                    take(index, entry);
                }
            })?;
            refusals.push(refused.or(details));
        }
        Ok(refusals)
    }

    /// The granted directories.
    pub(super) fn directories(&mut self) -> Result<Vec<Node>, Error> {
        self.connection.ask(|dialogue, out| {
            dialogue.show_directories(out);
            Ok(())
        })?;
        let mut names = Vec::new();
        loop {
            let is_last = self.connection.hear(|event| match event {
                ClientEvent::Names { piece, is_last } => {
                    names.extend_from_slice(piece);
                    Ok(is_last)
                }
                ClientEvent::Refused(refused) => Err(Error::Refused(refused)),
                _ => Ok(false),
            })??;
            if names.len() > CLIENT_LISTING_BYTES_MAX {
                return Err(too_much());
            }
            if is_last {
                break;
            }
        }
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let strange = || Error::Broken("the server sent a name that cannot be one".into());
        let names = String::from_utf8(names).map_err(|_| strange())?;
        let mut directories = Vec::new();
        for name in names.split(SEPARATOR) {
            if !is_name(name) {
                return Err(strange());
            }
            self.count(1, name.len())?;
            directories.push(Node {
                path: name.to_owned(),
                size: None,
                modified: None,
            });
        }
        Ok(directories)
    }

    /// All that matches `pattern`, a path from the top in which any part may have `*` (any characters) and `?` (any one
    /// character). What cannot be listed among the directories that it goes through is given to `fail`; the place in which it
    /// begins is the whole that is asked for, so that one is an error.
    pub(super) fn expand(
        &mut self,
        pattern: &str,
        mut fail: impl FnMut(&str, &'static str),
    ) -> Result<Vec<Node>, Error> {
        let mut parts: Vec<&str> = pattern.split('/').collect();
        let first = parts.iter().position(|part| glob::is_pattern(part));
        let rest = parts.split_off(first.expect("a pattern has one in it"));
        let mut refused = None;
        let mut found: Vec<Node> = match parts.join("/") {
            top if top.is_empty() => self.directories()?,
            top => self.children(&[top], rest[0], |_, why| refused = Some(why))?,
        };
        if let Some(refused) = refused {
            return Err(Error::Refused(refused));
        }
        if parts.is_empty() {
            found.retain(|node| matches(rest[0], &node.path));
        }
        for part in &rest[1..] {
            let directories = found.into_iter().filter(|node| node.size.is_none());
            let directories: Vec<String> = directories.map(|node| node.path).collect();
            found = self.children(&directories, part, |path, why| {
                // One that has gone meanwhile has nothing that could match.
                if why != text::refusal(ErrorCode::NoSuchDirectory) {
                    fail(path, why);
                }
            })?;
        }
        Ok(found)
    }

    /// The one thing of this path, as its directory's listing shows it.
    pub(super) fn find(&mut self, path: &str) -> Result<Node, Error> {
        let Some((directory, name)) = path.rsplit_once('/') else {
            return Err(Error::Refused(text::refusal(ErrorCode::NoSuchDirectory)));
        };
        let mut found = None;
        let refusals = self.list(&[directory.to_owned()], |_, entry| {
            if entry.name == name {
                found = Some(node(directory, &entry));
            }
        })?;
        match (found, refusals[0]) {
            (Some(found), _) => Ok(found),
            (None, Some(refused)) => Err(Error::Refused(refused)),
            (None, None) => Err(Error::Refused(text::refusal(ErrorCode::NoSuchFile))),
        }
    }

    /// Everything below `directories`, which exist: `take` is given each thing, a directory before what is in it. What cannot
    /// be listed is given to `fail`.
    pub(super) fn walk(
        &mut self,
        directories: Vec<String>,
        mut take: impl FnMut(Node),
        mut fail: impl FnMut(&str, &'static str),
    ) -> Result<(), Error> {
        let mut level = directories;
        while !level.is_empty() {
            let mut below = Vec::new();
            let mut bytes = 0;
            let refusals = self.list(&level, |index, entry| {
                let node = node(&level[index], &entry);
                bytes += node.path.len();
                if bytes > CLIENT_LISTING_BYTES_MAX {
                    return;
                }
                if node.size.is_none() {
                    below.push(node.path.clone());
                }
                take(node);
            })?;
            self.count(0, bytes)?;
            for (path, refused) in level.iter().zip(refusals) {
                if let Some(refused) = refused {
                    fail(path, refused);
                }
            }
            level = below;
        }
        Ok(())
    }

    /// What is in `directories` and matches `pattern`; those that cannot be listed are given to `fail`.
    fn children(
        &mut self,
        directories: &[String],
        pattern: &str,
        mut fail: impl FnMut(&str, &'static str),
    ) -> Result<Vec<Node>, Error> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let refusals = self.list(directories, |index, entry| {
            if matches(pattern, entry.name) && bytes <= CLIENT_LISTING_BYTES_MAX {
                let node = node(&directories[index], &entry);
                bytes += node.path.len();
                found.push(node);
            }
        })?;
        self.count(0, bytes)?;
        for (path, refused) in directories.iter().zip(refusals) {
            if let Some(refused) = refused {
                fail(path, refused);
            }
        }
        Ok(found)
    }

    /// Hears the answer to `SHOW DIRECTORY`, whose names the details tell better.
    fn skip_names(&mut self) -> Result<Option<&'static str>, Error> {
        loop {
            let skipped = &mut self.skipped;
            let heard = self.connection.hear(|event| match event {
                ClientEvent::Names { piece, is_last } => {
                    *skipped = skipped.saturating_add(piece.len());
                    is_last.then_some(None)
                }
                ClientEvent::Refused(refused) => Some(Some(refused)),
                _ => None,
            })?;
            self.check()?;
            if let Some(refused) = heard {
                return Ok(refused);
            }
        }
    }

    /// Hears the answer to `SHOW DETAILS`.
    fn details(
        &mut self,
        mut take: impl FnMut(DetailsEntry<'_>),
    ) -> Result<Option<&'static str>, Error> {
        let count = self.connection.hear(|event| match event {
            ClientEvent::Entries(count) => Ok(count),
            ClientEvent::Refused(refused) => Err(refused),
            _ => Ok(0),
        })?;
        let count = match count {
            Ok(count) => count,
            Err(refused) => return Ok(Some(refused)),
        };
        self.entries = self.entries.saturating_add(count);
        self.check()?;
        for _ in 0..count {
            self.connection.hear(|event| match event {
                ClientEvent::Entry(entry) => take(entry),
                _ => unreachable!("the dialogue gives as many entries as it announced"),
            })?;
        }
        Ok(None)
    }

    fn count(&mut self, entries: u64, bytes: usize) -> Result<(), Error> {
        self.entries = self.entries.saturating_add(entries);
        self.bytes = self.bytes.saturating_add(bytes);
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        let bytes = self.bytes.max(self.skipped);
        match self.entries > CLIENT_LISTING_ENTRIES_MAX || bytes > CLIENT_LISTING_BYTES_MAX {
            true => Err(too_much()),
            false => Ok(()),
        }
    }
}

/// Whether one of a path's parts is a pattern.
pub(super) fn is_pattern(path: &str) -> bool {
    path.split('/').any(glob::is_pattern)
}

fn node(directory: &str, entry: &DetailsEntry<'_>) -> Node {
    Node {
        path: format!("{directory}/{}", entry.name),
        size: entry.size,
        modified: Some(entry.modified),
    }
}

fn too_much() -> Error {
    Error::Broken(format!(
        "the server lists too much: more than {CLIENT_LISTING_ENTRIES_MAX} entries or {CLIENT_LISTING_BYTES_MAX} bytes of names"
    ))
}
