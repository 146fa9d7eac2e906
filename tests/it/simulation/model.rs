//! A model of the users and the file tree: the grants, and every content that a path can have, with
//! the step from which it must exist.
//!
//! It is independent of the server and contains only what the protocol guarantees.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fastrand::Rng;
use sha2::{Digest, Sha256};
use tidegate::kernel::sim::{Sim, SimEntry};
use tidegate::limits::{LINE_BYTES_MAX, MAPPED_FILE_BYTES_MAX, NAME_BYTES_MAX, SLICE_BUDGET_BYTES};
use tidegate::protocol::menu::text::{ENTRIES, FILES, NO_FILES, SEPARATOR, append_details};

use super::users::{DIRECTORIES, Grant, Revoked, User, grant_of, home_files, random_grants};
use crate::support::seeds::{once_in, one_of};

/// The parent of the granted directories.
pub(super) const ROOT: &str = "/srv";

/// The step of events that may not have happened.
const NEVER: usize = usize::MAX;

/// The users, the tree, and the settings that affect the server's responses.
pub(super) struct Model {
    pub(super) users: Vec<User>,
    nodes: BTreeMap<String, Node>,
    /// The current step of the simulation.
    pub(super) step: usize,
    pub(super) hides_usernames: bool,
    pub(super) max_upload: Option<u64>,
    /// The disk may fill up.
    pub(super) disk_may_fill: bool,
    /// System calls may have failed, so that any request may be refused and any connection lost.
    pub(super) faulty: bool,
    /// The server has fewer session slots than clients.
    pub(super) limits_sessions: bool,
    /// The idle timeout can expire.
    pub(super) closes_idle: bool,
    /// The time at which the server was stopped.
    pub(super) stopping: Option<Duration>,
    pub(super) revoked: Option<Revoked>,
    /// Determines the length of the next upload. All uploads differ in length.
    next_length: usize,
}

/// The possible states of a path.
enum Node {
    /// A directory that exists from this step on.
    Directory(usize),
    /// A file with all its contents in order. Only the last one counts if clients cannot change it.
    File(Vec<Version>),
    /// An entry that is never served.
    Other,
}

/// One content of a file.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) content: Arc<Vec<u8>>,
    /// The step from which it must exist, or [`NEVER`] for an upload not reported as complete.
    since: usize,
    /// Whether the file was truncated in place after it had this content.
    pub(super) cut: bool,
}

impl Version {
    pub(super) fn checksum(&self) -> String {
        let digest = Sha256::digest(&*self.content);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The files that the operator changes.
const NEWS: [&str; 3] = ["News/Today", "News/Weather", "News/Sport"];

impl Model {
    /// Creates a random model and its files in `sim`. The largest file has `large` bytes.
    pub(super) fn new(rng: &mut Rng, sim: &Sim, large: usize) -> Model {
        let mut model = Model {
            users: Vec::new(),
            nodes: BTreeMap::new(),
            step: 0,
            hides_usernames: once_in(rng, 3),
            max_upload: once_in(rng, 5).then(|| rng.u64(1000..40_000)),
            disk_may_fill: false,
            faulty: false,
            limits_sessions: false,
            closes_idle: false,
            stopping: None,
            revoked: None,
            next_length: rng.usize(..3000),
        };
        for directory in DIRECTORIES {
            model.add_directory(sim, directory);
        }
        model.add_directory(sim, "Movies/Classics");
        model.add_directory(sim, "Movies/Classics/Silent");
        model.add_directory(sim, "Movies/Empty");
        let around = MAPPED_FILE_BYTES_MAX as usize;
        let sizes = [0, 1, 100, around - 1, around, around + 1, 30_000, 65_536];
        for (number, size) in sizes.into_iter().enumerate() {
            let below = ["", "", "/Classics", "/Classics/Silent"][number / 2];
            model.add_file(rng, sim, &format!("Movies{below}/Film {number}"), size);
        }
        model.add_file(rng, sim, "Movies/Joker", 4096);
        model.add_file(rng, sim, "Movies/WAR", large);
        for name in NEWS {
            let size = rng.usize(..3 * around);
            model.add_file(rng, sim, name, size);
        }
        model.add_links(sim);
        for number in 1..=4 {
            model.users.push(User {
                name: format!("user{number}"),
                password: format!("pass word {number}"),
                rights: vec![(0, random_grants(rng))],
            });
        }
        model
    }

    /// Adds links and special files, of which only the first two may be served.
    fn add_links(&mut self, sim: &Sim) {
        for (path, target) in [
            ("Movies/inside", "Classics/../Joker"),
            ("Movies/Classics/up", "../Joker"),
        ] {
            sim.put(&real(path), SimEntry::Link(target.into()));
            let versions = self.versions("Movies/Joker").to_vec();
            self.nodes.insert(path.into(), Node::File(versions));
        }
        for (path, entry) in [
            ("Movies/outside", SimEntry::Link(b"../News/Today".to_vec())),
            (
                "Movies/absolute",
                SimEntry::Link(real("Movies/Joker").into()),
            ),
            ("Movies/round", SimEntry::Link(b"round".to_vec())),
            ("Movies/nowhere", SimEntry::Link(b"none".to_vec())),
            ("Movies/pipe", SimEntry::Other),
            ("Movies/.hidden", SimEntry::File(vec![1])),
            ("Movies/bell\u{7}", SimEntry::File(vec![1])),
            ("Movies/next\u{85}line", SimEntry::File(vec![1])),
        ] {
            sim.put(&real(path), entry);
            self.nodes.insert(path.into(), Node::Other);
        }
    }

    fn add_directory(&mut self, sim: &Sim, path: &str) {
        sim.put(&real(path), SimEntry::Directory);
        self.nodes.insert(path.into(), Node::Directory(0));
    }

    fn add_file(&mut self, rng: &mut Rng, sim: &Sim, path: &str, size: usize) {
        let version = Version {
            content: Arc::new(bytes(rng, size)),
            since: 0,
            cut: false,
        };
        sim.put(&real(path), SimEntry::File(version.content.to_vec()));
        self.nodes.insert(path.into(), Node::File(vec![version]));
    }

    // Changes.

    /// Changes a file of `News` as an operator does: replaces it by rename, truncates it, or
    /// extends it.
    pub(super) fn change_news(&mut self, rng: &mut Rng, sim: &Sim) {
        let name = one_of(rng, &NEWS);
        let step = self.step;
        let Some(Node::File(versions)) = self.nodes.get_mut(name) else {
            unreachable!("the files of the operator exist");
        };
        // A truncated file is not extended again, because a download could receive a mixture.
        let was_cut = versions.len() > 1 && versions[versions.len() - 2].cut;
        let last = versions.last().expect("a file has a content");
        let mut content = last.content.to_vec();
        match rng.u8(..3) {
            change if was_cut || change == 0 => {
                let size = rng.usize(..30_000);
                content = bytes(rng, size);
                sim.put(&real(name), SimEntry::File(content.clone()));
            }
            1 if !content.is_empty() => {
                content.truncate(rng.usize(..content.len()));
                sim.modify_file(&real(name), |file| file.truncate(content.len()));
                // This includes contents from before it was extended in place.
                versions.iter_mut().for_each(|version| version.cut = true);
            }
            _ => {
                let more = bytes(rng, 100);
                content.extend(&more);
                sim.modify_file(&real(name), |file| file.extend(&more));
            }
        }
        versions.push(Version {
            content: Arc::new(content),
            since: step,
            cut: false,
        });
    }

    /// Grants all rights to all users and removes all limits.
    pub(super) fn grant_everything(&mut self) {
        (self.hides_usernames, self.max_upload) = (false, None);
        for user in &mut self.users {
            let grants = DIRECTORIES.iter().map(|directory| Grant {
                directory,
                read: true,
                upload: true,
                change: true,
            });
            user.rights = vec![(0, grants.collect())];
        }
    }

    /// Changes the grants of some users from this step on.
    pub(super) fn change_rights(&mut self, rng: &mut Rng) {
        for user in &mut self.users {
            if rng.bool() {
                let mut grants = random_grants(rng);
                for grant in grants.iter_mut().filter(|grant| grant.directory == "Mail") {
                    grant.read = rng.bool();
                }
                user.rights.push((self.step, grants));
            }
        }
    }

    /// Removes the last user.
    pub(super) fn revoke(&mut self, at: Duration) {
        let (user, step) = (self.users.len() - 1, self.step);
        self.revoked = Some(Revoked { user, step, at });
    }

    /// Adds an upload that a client will attempt, and returns its number among the path's contents.
    pub(super) fn plan_upload(&mut self, rng: &mut Rng, path: &str, longest: usize) -> usize {
        self.next_length += 1;
        // An empty upload would be complete after a part of its name, since the last line of a
        // client
        // that leaves needs no line end.
        let length = 1 + self.next_length % 3000 + rng.usize(..=longest / 3000) * 3000;
        let version = Version {
            content: Arc::new(bytes(rng, length)),
            since: NEVER,
            cut: false,
        };
        let node = self.nodes.entry(path.into());
        match node.or_insert(Node::File(Vec::new())) {
            Node::File(versions) => {
                versions.push(version);
                versions.len() - 1
            }
            _ => panic!("{path} is not a file"),
        }
    }

    /// Adds a directory that a client will attempt to create.
    pub(super) fn plan_directory(&mut self, path: &str) {
        // If the client leaves early, a prefix of the name is a complete line.
        let (directory, _) = path
            .split_once('/')
            .expect("the path is below a granted directory");
        for length in directory.len() + 2..=path.len() {
            let node = self.nodes.entry(path[..length].into());
            node.or_insert(Node::Directory(NEVER));
        }
    }

    /// Records that an upload was reported as complete.
    pub(super) fn completed(&mut self, path: &str, version: usize) {
        let step = self.step;
        match self.nodes.get_mut(path) {
            Some(Node::File(versions)) => {
                let since = &mut versions[version].since;
                *since = step.min(*since);
            }
            _ => panic!("no upload to {path} was planned"),
        }
    }

    /// Records that a directory was reported as created.
    pub(super) fn made(&mut self, path: &str) {
        match self.nodes.get_mut(path) {
            Some(Node::Directory(since)) => *since = self.step.min(*since),
            _ => panic!("the directory {path} was not planned"),
        }
    }

    // Queries.

    /// Returns whether a path is a directory for a command sent in step `sent`, or `None` if both
    /// are
    /// possible.
    pub(super) fn is_directory(&self, path: &str, sent: usize) -> Option<bool> {
        match self.nodes.get(path) {
            Some(Node::Directory(since)) if *since <= sent => Some(true),
            Some(Node::Directory(_)) => None,
            _ => Some(false),
        }
    }

    /// Returns the contents that a path can have for a command sent in step `sent`, with their
    /// numbers.
    pub(super) fn contents(
        &self,
        path: &str,
        sent: usize,
    ) -> impl Iterator<Item = (usize, &Version)> {
        let versions = self.versions(path);
        // The order in which clients replace a file is unknown.
        let first = match path.starts_with("News/") {
            true => versions.iter().rposition(|version| version.since <= sent),
            false => None,
        };
        versions.iter().enumerate().skip(first.unwrap_or(0))
    }

    pub(super) fn content(&self, path: &str, version: usize) -> Arc<Vec<u8>> {
        self.versions(path)[version].content.clone()
    }

    /// Returns whether a path exists for a command sent in step `sent`, or `None` if both are
    /// possible.
    /// Ignores the content `mine`.
    pub(super) fn is_taken(&self, path: &str, sent: usize, mine: Option<usize>) -> Option<bool> {
        match self.nodes.get(path) {
            None => Some(false),
            Some(Node::Other) => Some(true),
            Some(Node::Directory(since)) => (*since <= sent).then_some(true),
            Some(Node::File(versions)) => {
                if versions.iter().any(|version| version.since <= sent) {
                    return Some(true);
                }
                let others = (0..versions.len()).any(|version| Some(version) != mine);
                if others { None } else { Some(false) }
            }
        }
    }

    pub(super) fn is_file(&self, path: &str) -> bool {
        matches!(self.nodes.get(path), Some(Node::File(_)))
    }

    /// Returns whether a line is a correct list of names for a command sent in step `sent`.
    pub(super) fn lists_names(&self, directory: &str, sent: usize, line: &str) -> bool {
        let listed: Vec<&str> = match line.strip_prefix(FILES) {
            Some(names) => names.split(SEPARATOR).collect(),
            None if line == NO_FILES => Vec::new(),
            None => return false,
        };
        let mut expected = self.entries(directory, sent).peekable();
        for name in listed {
            loop {
                match expected.next() {
                    Some((entry, _)) if entry == name => break,
                    Some((_, must)) if !must || self.faulty => {}
                    _ => return false,
                }
            }
        }
        expected.all(|(_, must)| !must || self.faulty)
    }

    /// Returns the number of entries in the first line of a detailed listing, or `None` if it is
    /// wrong.
    pub(super) fn counts_entries(&self, directory: &str, sent: usize, line: &str) -> Option<usize> {
        let count = line.strip_prefix(ENTRIES)?.parse().ok()?;
        let most = self.entries(directory, sent).count();
        let least = self.entries(directory, sent).filter(|(_, must)| *must);
        let least = if self.faulty { 0 } else { least.count() };
        (least..=most).contains(&count).then_some(count)
    }

    /// Returns whether a line of a detailed listing is correct for a command sent in step `sent`.
    pub(super) fn details(&self, sim: &Sim, directory: &str, sent: usize, line: &str) -> bool {
        let Some((_, name)) = line.split_once("Z ") else {
            return false;
        };
        let path = format!("{directory}/{name}");
        let status = sim.status_of(&real(&path));
        let is = |is_directory: bool, size: usize, seconds: i64| {
            let mut text = Vec::new();
            append_details(&mut text, name, is_directory, size as u64, seconds);
            text == format!("{line}\n").as_bytes()
        };
        let fixed = directory.starts_with("Movies");
        match self.nodes.get(&path) {
            Some(Node::File(versions)) if fixed => {
                let modified = status.expect("the entry exists").modified.0;
                is(false, versions[0].content.len(), modified)
            }
            Some(Node::Directory(_)) if fixed => {
                is(true, 0, status.expect("the entry exists").modified.0)
            }
            Some(Node::File(_)) => {
                let size = line
                    .strip_prefix("file ")
                    .and_then(|rest| rest.split(' ').next());
                let size = size.and_then(|size| size.parse().ok());
                self.contents(&path, sent)
                    .any(|(_, version)| Some(version.content.len()) == size)
            }
            Some(Node::Directory(_)) => line.starts_with("directory - "),
            _ => false,
        }
    }

    /// Returns the entries that a listing can contain, in order, each with whether it must.
    fn entries(&self, directory: &str, sent: usize) -> impl Iterator<Item = (String, bool)> {
        let prefix = format!("{directory}/");
        let mut entries = Vec::new();
        for (path, node) in self.nodes.range(prefix.clone()..) {
            let Some(name) = path.strip_prefix(&prefix) else {
                break;
            };
            if name.contains('/') {
                continue;
            }
            match node {
                Node::Directory(since) => entries.push((format!("{name}/"), *since <= sent)),
                Node::File(versions) => {
                    let must = versions.iter().any(|version| version.since <= sent);
                    entries.push((name.to_owned(), must));
                }
                Node::Other => {}
            }
        }
        entries.sort_by(|(one, _), (other, _)| {
            one.trim_end_matches('/').cmp(other.trim_end_matches('/'))
        });
        entries.into_iter()
    }

    /// Returns whether any user has a grant for the directory at the start of a path.
    pub(super) fn is_granted(&self, path: &str) -> bool {
        let revoked = self.revoked.map(|revoked| revoked.user);
        let users = self.users.iter().enumerate();
        let mut users = users.filter(|(number, _)| Some(*number) != revoked);
        users.any(|(_, user)| {
            let mut rights = user.rights(self.step);
            rights.any(|grants| grant_of(grants, path).is_some())
        })
    }

    /// Checks that every published file is complete and that every upload reported as complete
    /// exists.
    /// Returns the paths of the temporary files.
    pub(super) fn check_tree(&self, sim: &Sim) -> Vec<String> {
        let tree = sim.tree();
        let mut temporary = Vec::new();
        for (path, content) in &tree {
            let Some(path) = path
                .strip_prefix(ROOT)
                .and_then(|path| path.strip_prefix('/'))
            else {
                continue;
            };
            match (self.nodes.get(path), content) {
                (Some(Node::File(versions)), Some(content)) => {
                    let last = versions.len() - 1;
                    let known = |(number, version): (usize, &Version)| {
                        version.content == *content
                            && (version.since == NEVER
                                || !path.starts_with("News/")
                                || number == last)
                    };
                    assert!(
                        versions.iter().enumerate().any(known),
                        "{path} has {} bytes that no client has sent",
                        content.len()
                    );
                }
                (Some(_), _) => {}
                (None, _) => {
                    let (_, name) = path
                        .rsplit_once('/')
                        .expect("the path is below a granted directory");
                    assert!(name.starts_with('.'), "{path} is unexpected");
                    temporary.push(path.to_owned());
                }
            }
        }
        for (path, node) in &self.nodes {
            let found = tree.get(&real(path));
            match node {
                Node::Directory(since) if *since != NEVER => {
                    assert_eq!(found, Some(&None), "the directory {path} is lost");
                }
                Node::File(versions) if versions.iter().any(|version| version.since != NEVER) => {
                    assert!(found.is_some(), "the complete file {path} is lost");
                }
                _ => {}
            }
        }
        temporary
    }

    fn versions(&self, path: &str) -> &[Version] {
        match self.nodes.get(path) {
            Some(Node::File(versions)) => versions,
            _ => &[],
        }
    }

    /// Returns whether a file can have this name.
    pub(super) fn is_name(name: &str) -> bool {
        !name.is_empty()
            && !name.starts_with('.')
            && name.len() <= NAME_BYTES_MAX
            && !name.contains(char::is_control)
    }

    /// Returns a line whose length with its end exceeds the limit by `more` bytes.
    pub(super) fn long_line(more: isize) -> Vec<u8> {
        let mut line = vec![b'x'; LINE_BYTES_MAX.strict_add_signed(more) - 1];
        line.push(b'\n');
        line
    }

    /// Returns `Credentials` and `Directories`.
    pub(super) fn home(&self) -> (String, String) {
        let revoked = self.revoked.map(|revoked| revoked.user);
        home_files(&self.users, revoked)
    }
}

/// Returns the path in the simulated file tree.
pub(super) fn real(path: &str) -> String {
    format!("{ROOT}/{path}")
}

/// Returns a random part of fixed random bytes.
fn bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
    static RANDOM: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut bytes = vec![0; 8 * SLICE_BUDGET_BYTES];
        Rng::with_seed(0).fill(&mut bytes);
        bytes
    });
    let from = rng.usize(..=RANDOM.len() - count);
    RANDOM[from..from + count].to_vec()
}
