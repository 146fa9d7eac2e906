//! What there is in a simulated world and what may become of it: users and their grants, directories and every content
//! that a path may have, with the step since when it must be there.
//!
//! It knows nothing of the server but what the protocol promises.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fastrand::Rng;
use sha2::{Digest, Sha256};
use tidegate::kernel::sim::{Sim, SimEntry};
use tidegate::limits::{LINE_BYTES_MAX, MAPPED_FILE_BYTES_MAX, NAME_BYTES_MAX, SLICE_BUDGET_BYTES};
use tidegate::protocol::menu::text::{ENTRIES, FILES, NO_FILES, SEPARATOR, append_details};

use crate::support::seeds::{once_in, one_of};

/// Where the granted directories lie.
pub(super) const ROOT: &str = "/srv";

/// The step of what need not have happened.
const NEVER: usize = usize::MAX;

/// The users and the tree, and what else decides what may be said.
pub(super) struct World {
    pub(super) users: Vec<User>,
    nodes: BTreeMap<String, Node>,
    /// The step that the simulation is at.
    pub(super) step: usize,
    /// Usernames are hidden.
    pub(super) hidden: bool,
    pub(super) max_upload: Option<u64>,
    /// The room for files may run out.
    pub(super) tight: bool,
    /// Calls may have failed: each answer may be a refusal, each connection may break.
    pub(super) faulty: bool,
    /// Not everybody gets a session.
    pub(super) crowded: bool,
    /// Who is silent for long is sent away.
    pub(super) impatient: bool,
    /// When the server was told to stop.
    pub(super) stopping: Option<Duration>,
    pub(super) revoked: Option<Revoked>,
    /// Bytes of the next upload; no two have the same length.
    next_length: usize,
}

/// A user who was taken away, and when.
#[derive(Clone, Copy)]
pub(super) struct Revoked {
    pub(super) user: usize,
    pub(super) step: usize,
    pub(super) at: Duration,
}

/// Somebody who may log in.
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: String,
    /// What he may do, and since which step; the last counts.
    rights: Vec<(usize, Vec<Grant>)>,
}

impl User {
    /// The grants that may count for a command that was said in step `sent`, in order.
    pub(super) fn rights(&self, sent: usize) -> impl Iterator<Item = &[Grant]> {
        let first = self.rights.iter().rposition(|(since, _)| *since <= sent);
        let rights = &self.rights[first.expect("he has some from the start")..];
        rights.iter().map(|(_, grants)| &**grants)
    }
}

/// What a user may do in a directory.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) directory: &'static str,
    pub(super) read: bool,
    pub(super) upload: bool,
    pub(super) change: bool,
}

impl Grant {
    pub(super) fn may_add(&self) -> bool {
        self.upload || self.change
    }
}

/// The grant of the directory that a path begins with.
pub(super) fn grant_of<'g>(grants: &'g [Grant], path: &str) -> Option<&'g Grant> {
    let (directory, _) = path.split_once('/').unwrap_or((path, ""));
    grants.iter().find(|grant| grant.directory == directory)
}

pub(super) fn may_add_somewhere(grants: &[Grant]) -> bool {
    grants.iter().any(Grant::may_add)
}

/// What may be found at a path.
enum Node {
    /// A directory, there since this step.
    Directory(usize),
    /// A file: its contents in order, the last of them in place where only people change it.
    File(Vec<Version>),
    /// Something that is there and never served.
    Other,
}

/// One content of a file.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) content: Arc<Vec<u8>>,
    /// The step since when it must be there; [`NEVER`] for an upload that nobody was told is complete.
    since: usize,
    /// The file was cut in place after this content was.
    pub(super) cut: bool,
}

impl Version {
    pub(super) fn checksum(&self) -> String {
        let digest = Sha256::digest(&*self.content);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Directories of the world, and who changes what is in them: nobody, people on the server, clients, clients who may not look.
const DIRECTORIES: [&str; 4] = ["Movies", "News", "Mail", "Box"];

/// The first users' passwords, hashed at the least cost.
const HASHES: [&str; 2] = [
    "$argon2id$v=19$m=8,t=1,p=1$K+uIL4298aLp6ARwQwIbUQ$Pxi+DII5ZO+uW4B+caZcVafHuAmjqOGfN2Edqknloe0",
    "$argon2id$v=19$m=8,t=1,p=1$XH0abdngbQl4yllFdtFjFA$W8Z/QXK/RvZLKbcGqksmS3i/slPUh9hn2wvMo7LqC70",
];

/// The files that people change.
const NEWS: [&str; 3] = ["News/Today", "News/Weather", "News/Sport"];

impl World {
    /// A world whose files are put into `sim`, the largest of them of `large` bytes.
    pub(super) fn new(rng: &mut Rng, sim: &Sim, large: usize) -> World {
        let mut world = World {
            users: Vec::new(),
            nodes: BTreeMap::new(),
            step: 0,
            hidden: once_in(rng, 3),
            max_upload: once_in(rng, 5).then(|| rng.u64(1000..40_000)),
            tight: false,
            faulty: false,
            crowded: false,
            impatient: false,
            stopping: None,
            revoked: None,
            next_length: rng.usize(..3000),
        };
        for directory in DIRECTORIES {
            world.add_directory(sim, directory);
        }
        world.add_directory(sim, "Movies/Classics");
        world.add_directory(sim, "Movies/Classics/Silent");
        world.add_directory(sim, "Movies/Empty");
        let around = MAPPED_FILE_BYTES_MAX as usize;
        let sizes = [0, 1, 100, around - 1, around, around + 1, 30_000, 65_536];
        for (number, size) in sizes.into_iter().enumerate() {
            let below = ["", "", "/Classics", "/Classics/Silent"][number / 2];
            world.add_file(rng, sim, &format!("Movies{below}/Film {number}"), size);
        }
        world.add_file(rng, sim, "Movies/Joker", 4096);
        world.add_file(rng, sim, "Movies/WAR", large);
        for name in NEWS {
            let size = rng.usize(..3 * around);
            world.add_file(rng, sim, name, size);
        }
        world.add_links(sim);
        for number in 1..=4 {
            world.users.push(User {
                name: format!("user{number}"),
                password: format!("pass word {number}"),
                rights: vec![(0, grants(rng))],
            });
        }
        world
    }

    /// Links and things that are no files: the first two are served, and the others must not be.
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

    // What changes.

    /// A person on the server changes a file of `News`: replaced by rename, cut, or made longer in place.
    pub(super) fn change_news(&mut self, rng: &mut Rng, sim: &Sim) {
        let name = one_of(rng, &NEWS);
        let step = self.step;
        let Some(Node::File(versions)) = self.nodes.get_mut(name) else {
            unreachable!("the world has news");
        };
        // What was cut in place may not grow again in place: what is sent would be neither.
        let was_cut = versions.len() > 1 && versions[versions.len() - 2].cut;
        let last = versions.last().expect("a file has content");
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
                // And so are those from before it was made longer in place.
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

    /// Everybody may do everything, and nothing is hidden or bounded.
    pub(super) fn grant_everything(&mut self) {
        (self.hidden, self.max_upload) = (false, None);
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

    /// Some users may do other things from this step on.
    pub(super) fn change_rights(&mut self, rng: &mut Rng) {
        for user in &mut self.users {
            if rng.bool() {
                let mut grants = grants(rng);
                for grant in grants.iter_mut().filter(|grant| grant.directory == "Mail") {
                    grant.read = rng.bool();
                }
                user.rights.push((self.step, grants));
            }
        }
    }

    /// The last user is taken away.
    pub(super) fn revoke(&mut self, at: Duration) {
        let (user, step) = (self.users.len() - 1, self.step);
        self.revoked = Some(Revoked { user, step, at });
    }

    /// Notes an upload that somebody will try; which content of the path it is.
    pub(super) fn plan_upload(&mut self, rng: &mut Rng, path: &str, longest: usize) -> usize {
        self.next_length += 1;
        // At least a byte: else half a name of one that leaves would be a file already, since a last line needs no end.
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
            _ => panic!("no upload is tried where {path} is"),
        }
    }

    /// Notes a directory that somebody will try to make.
    pub(super) fn plan_directory(&mut self, path: &str) {
        // Or one with a part of the name, where a client leaves in the midst of it: a last line needs no end.
        let (directory, _) = path.split_once('/').expect("below a granted directory");
        for length in directory.len() + 2..=path.len() {
            let node = self.nodes.entry(path[..length].into());
            node.or_insert(Node::Directory(NEVER));
        }
    }

    /// Somebody was told that it is complete.
    pub(super) fn completed(&mut self, path: &str, version: usize) {
        let step = self.step;
        match self.nodes.get_mut(path) {
            Some(Node::File(versions)) => {
                let since = &mut versions[version].since;
                *since = step.min(*since);
            }
            _ => panic!("an upload to {path} was planned"),
        }
    }

    /// Somebody was told that it is made.
    pub(super) fn made(&mut self, path: &str) {
        match self.nodes.get_mut(path) {
            Some(Node::Directory(since)) => *since = self.step.min(*since),
            _ => panic!("the making of {path} was planned"),
        }
    }

    // What may be found.

    /// Whether a path may be a directory for who asked in step `sent`: `None` where both can be.
    pub(super) fn is_directory(&self, path: &str, sent: usize) -> Option<bool> {
        match self.nodes.get(path) {
            Some(Node::Directory(since)) if *since <= sent => Some(true),
            Some(Node::Directory(_)) => None,
            _ => Some(false),
        }
    }

    /// The contents that a path may have for who asked in step `sent`, each with its number.
    pub(super) fn contents(
        &self,
        path: &str,
        sent: usize,
    ) -> impl Iterator<Item = (usize, &Version)> {
        let versions = self.versions(path);
        // Clients who replace a file do it in an order of their own.
        let first = match path.starts_with("News/") {
            true => versions.iter().rposition(|version| version.since <= sent),
            false => None,
        };
        versions.iter().enumerate().skip(first.unwrap_or(0))
    }

    pub(super) fn content(&self, path: &str, version: usize) -> Arc<Vec<u8>> {
        self.versions(path)[version].content.clone()
    }

    /// Whether something must be at a path for who asked in step `sent`; `None` where it may.
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

    /// Whether a line lists a directory's names as one who asked in step `sent` may see them.
    pub(super) fn lists_names(&self, directory: &str, sent: usize, line: &str) -> bool {
        let told: Vec<&str> = match line.strip_prefix(FILES) {
            Some(names) => names.split(SEPARATOR).collect(),
            None if line == NO_FILES => Vec::new(),
            None => return false,
        };
        let mut expected = self.entries(directory, sent).peekable();
        for name in told {
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

    /// How many entries the first line of a directory's details tells of.
    pub(super) fn counts_entries(&self, directory: &str, sent: usize, line: &str) -> Option<usize> {
        let count = line.strip_prefix(ENTRIES)?.parse().ok()?;
        let most = self.entries(directory, sent).count();
        let least = self.entries(directory, sent).filter(|(_, must)| *must);
        let least = if self.faulty { 0 } else { least.count() };
        (least..=most).contains(&count).then_some(count)
    }

    /// Whether a line tells of one entry of a directory as one who asked in step `sent` may see it.
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
                let modified = status.expect("it is there").modified.0;
                is(false, versions[0].content.len(), modified)
            }
            Some(Node::Directory(_)) if fixed => {
                is(true, 0, status.expect("it is there").modified.0)
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

    /// What may be listed of a directory, in order, and whether it must be.
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

    /// Whether somebody may enter the directory that a path begins with.
    pub(super) fn is_granted(&self, path: &str) -> bool {
        let revoked = self.revoked.map(|revoked| revoked.user);
        let users = self.users.iter().enumerate();
        let mut users = users.filter(|(number, _)| Some(*number) != revoked);
        users.any(|(_, user)| {
            let mut rights = user.rights(self.step);
            rights.any(|grants| grant_of(grants, path).is_some())
        })
    }

    /// Checks every file of a tree: what is published is whole, and what was told to be complete is there. The temporary
    /// files that there are.
    pub(super) fn audit(&self, sim: &Sim) -> Vec<String> {
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
                        "{path} is torn: {} bytes that nobody has sent",
                        content.len()
                    );
                }
                (Some(_), _) => {}
                (None, _) => {
                    let (_, name) = path.rsplit_once('/').expect("below a granted directory");
                    assert!(name.starts_with('.'), "{path} came from nowhere");
                    temporary.push(path.to_owned());
                }
            }
        }
        for (path, node) in &self.nodes {
            let is_there = tree.get(&real(path));
            match node {
                Node::Directory(since) if *since != NEVER => {
                    assert_eq!(is_there, Some(&None), "the directory {path} is lost");
                }
                Node::File(versions) if versions.iter().any(|version| version.since != NEVER) => {
                    assert!(is_there.is_some(), "the complete file {path} is lost");
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

    /// Whether a file can be given this name.
    pub(super) fn is_name(name: &str) -> bool {
        !name.is_empty()
            && !name.starts_with('.')
            && name.len() <= NAME_BYTES_MAX
            && !name.contains(char::is_control)
    }

    /// A line of this many bytes with its end.
    pub(super) fn long_line(more: isize) -> Vec<u8> {
        let mut line = vec![b'x'; LINE_BYTES_MAX.strict_add_signed(more) - 1];
        line.push(b'\n');
        line
    }

    /// The home's two files.
    pub(super) fn home(&self) -> (String, String) {
        let mut credentials = String::new();
        let mut directories = String::new();
        let revoked = self.revoked.map(|revoked| revoked.user);
        for (number, user) in self.users.iter().enumerate() {
            if Some(number) == revoked {
                continue;
            }
            let secret = match HASHES.get(number) {
                Some(hash) => (*hash).to_owned(),
                None => format!("plain:{}", user.password),
            };
            credentials += &format!("{}:{secret}\n", user.name);
            let (_, grants) = user.rights.last().expect("he has some from the start");
            for grant in grants {
                let rights = [
                    ("read", grant.read),
                    ("upload", grant.upload),
                    ("change", grant.change),
                ];
                let rights = rights.iter().filter(|(_, has)| *has).map(|(name, _)| *name);
                let rights = rights.collect::<Vec<_>>().join(",");
                let (user, name) = (&user.name, grant.directory);
                directories += &format!("{user}:{name}:{rights}:{}\n", real(name));
            }
        }
        (credentials, directories)
    }
}

/// Where a path of the world lies.
pub(super) fn real(path: &str) -> String {
    format!("{ROOT}/{path}")
}

fn grants(rng: &mut Rng) -> Vec<Grant> {
    let grants = DIRECTORIES.iter();
    let grants = grants.filter_map(|name| match rng.u8(..4) {
        0 => None,
        _ => Some(grant(rng, name)),
    });
    grants.collect()
}

fn grant(rng: &mut Rng, directory: &'static str) -> Grant {
    let change = rng.bool();
    match directory {
        "Box" => Grant {
            directory,
            read: false,
            upload: true,
            change: false,
        },
        "Mail" => Grant {
            directory,
            read: true,
            upload: !change || rng.bool(),
            change,
        },
        _ => Grant {
            directory,
            read: true,
            upload: false,
            change: false,
        },
    }
}

/// Bytes cut out of a random piece at a random place.
fn bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
    static RANDOM: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut bytes = vec![0; 8 * SLICE_BUDGET_BYTES];
        Rng::with_seed(0).fill(&mut bytes);
        bytes
    });
    let from = rng.usize(..=RANDOM.len() - count);
    RANDOM[from..from + count].to_vec()
}
