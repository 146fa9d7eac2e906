//! `get`: files and trees of a server land here.
//!
//! First all is found out: what the paths mean, and that no two of them would land on one name. Then it is moved, over several
//! connections, each with requests sent ahead.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::client::login::Login;
use crate::client::part_file;
use crate::client::part_file::PartFile;
use crate::client::progress::Progress;
use crate::client::sanitized::Sanitized;
use crate::client::transfer_queue::Queue;
use crate::client::tree::{Tree, is_pattern};
use crate::domain::error::ErrorCode;
use crate::domain::path::is_name;
use crate::limits::DISCARD_BYTES_MAX;
use crate::protocol::menu::client::ClientEvent;
use crate::protocol::menu::text;

/// How files are got.
pub struct Options {
    /// The download folder.
    pub into: PathBuf,
    /// What is there may be replaced.
    pub force: bool,
    /// What an earlier transfer left is resumed.
    pub resume: bool,
    /// Directories are taken along.
    pub recursive: bool,
    /// Connections at once.
    pub jobs: usize,
    /// Nothing is shown but failures.
    pub quiet: bool,
}

/// A file to be moved.
#[derive(Debug)]
struct Wanted {
    /// Its path on the server.
    path: String,
    /// Its place below the download folder.
    place: PathBuf,
    /// Its bytes, as far as they are known.
    size: Option<u64>,
}

/// What is to be done.
#[derive(Default)]
struct Plan {
    files: VecDeque<Wanted>,
    /// Places of the directories.
    directories: Vec<PathBuf>,
    /// What cannot be done, and why.
    failures: Vec<(String, String)>,
}

/// Gets `paths`; `tell` says a line on standard error. Returns how it went, which was told but for the summary.
pub fn get(
    login: &Login,
    paths: &[String],
    options: &Options,
    tell: fn(&str),
) -> Result<Progress, Error> {
    let mut connection = Connection::open(login)?;
    let plan = plan(&mut connection, paths, options.recursive)?;
    check_places(&plan)?;
    let bytes = plan.files.iter().filter_map(|wanted| wanted.size);
    let bytes = bytes.fold(0, u64::saturating_add);
    let progress = Progress::new(tell, options.quiet, plan.files.len(), bytes);
    for (path, why) in &plan.failures {
        progress.fail(Sanitized(path), why);
    }
    for directory in &plan.directories {
        let directory = options.into.join(directory);
        if let Err(error) = fs::create_dir_all(&directory) {
            progress.fail(Sanitized(&directory.to_string_lossy()), error);
        }
    }
    Queue::work_off(
        connection,
        login,
        options.jobs,
        plan.files,
        &progress,
        |connection, queue| {
            Getter {
                connection,
                options,
                progress: &progress,
            }
            .work(queue)
        },
    );
    progress.end();
    Ok(progress)
}

/// Finds out what `paths` mean.
fn plan(connection: &mut Connection, paths: &[String], recursive: bool) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let mut tree = Tree::new(connection);
    // What may be a directory, with its place.
    let mut roots: Vec<(String, PathBuf)> = Vec::new();
    let mut places = HashMap::new();
    for given in paths {
        let path = given.trim_end_matches('/');
        let failures = plan.failures.len();
        let found = match is_pattern(path) {
            true => match tree.expand(path, |path, why| plan.fail(path, why)) {
                Ok(found) => found,
                Err(Error::Refused(refused)) => {
                    plan.fail(given, refused);
                    continue;
                }
                Err(error) => return Err(error),
            },
            false => Vec::new(),
        };
        let mut matched = 0;
        let single = (!is_pattern(path)).then(|| (path.to_owned(), None));
        for (path, size) in found
            .into_iter()
            // Without --recursive a pattern means files.
            .filter(|node| recursive || node.size.is_some())
            .map(|node| (node.path, Some(node.size)))
            .chain(single)
        {
            matched += 1;
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if !is_name(name) {
                plan.fail(given, "that is not a name that can be downloaded");
                continue;
            }
            let place = PathBuf::from(name);
            if let Some(other) = places.insert(place.clone(), path.clone()) {
                return Err(clash(&other, &path, &place));
            }
            match size {
                Some(Some(size)) => plan.file(path, place, Some(size)),
                Some(None) => roots.push((path, place)),
                None if recursive => roots.push((path, place)),
                None if directory.is_empty() || given.ends_with('/') => {
                    plan.fail(
                        given,
                        "a whole directory is taken with --recursive; a file is DIRECTORY/FILE",
                    );
                }
                None => plan.file(path, place, None),
            }
        }
        if matched == 0 && plan.failures.len() == failures {
            plan.fail(given, "nothing matches");
        }
    }
    plan.walk(&mut tree, roots)?;
    Ok(plan)
}

impl Plan {
    fn file(&mut self, path: String, place: PathBuf, size: Option<u64>) {
        self.files.push_back(Wanted { path, place, size });
    }

    fn fail(&mut self, path: &str, why: impl ToString) {
        self.failures.push((path.to_owned(), why.to_string()));
    }

    /// Takes up what is below `roots`; a root that is no directory is a file, or nothing.
    fn walk(&mut self, tree: &mut Tree<'_>, roots: Vec<(String, PathBuf)>) -> Result<(), Error> {
        for (root, place) in roots {
            let mut refused = None;
            let (mut files, mut directories) = (Vec::new(), vec![place.clone()]);
            let place_of = |path: &str| place.join(path[root.len()..].trim_start_matches('/'));
            tree.walk(
                vec![root.clone()],
                |node| match node.size {
                    Some(_) => files.push((place_of(&node.path), node)),
                    None => directories.push(place_of(&node.path)),
                },
                |path, why| match path == root {
                    true => refused = Some(why),
                    false => self.failures.push((path.to_owned(), why.to_owned())),
                },
            )?;
            match refused {
                None => {
                    self.directories.extend(directories);
                    for (place, node) in files {
                        self.file(node.path, place, node.size);
                    }
                }
                Some(why)
                    if why == text::refusal(ErrorCode::NoSuchDirectory) && root.contains('/') =>
                {
                    self.file(root, place, None);
                }
                Some(why) => self.fail(&root, why),
            }
        }
        Ok(())
    }
}

/// No two files may land on one name, nor one on what another needs: its part, or a folder above it.
fn check_places(plan: &Plan) -> Result<(), Error> {
    let mut places: HashMap<PathBuf, &str> = HashMap::with_capacity(2 * plan.files.len());
    let folders: HashSet<&Path> = plan.directories.iter().map(PathBuf::as_path).collect();
    for wanted in &plan.files {
        for place in [wanted.place.clone(), part_file::part(&wanted.place)] {
            if folders.contains(place.as_path()) {
                return Err(clash("a directory", &wanted.path, &place));
            }
            if let Some(other) = places.insert(place.clone(), &wanted.path) {
                return Err(clash(other, &wanted.path, &place));
            }
        }
    }
    Ok(())
}

fn clash(one: &str, other: &str, place: &Path) -> Error {
    let place = place.to_string_lossy();
    let (one, other, place) = (Sanitized(one), Sanitized(other), Sanitized(&place));
    Error::Here(format!(
        "{one} and {other} would both land on {place}: nothing was moved"
    ))
}

/// Moves files over one connection.
pub(super) struct Getter<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) options: &'a Options,
    pub(super) progress: &'a Progress,
}

impl Getter<'_> {
    fn work(mut self, queue: &Queue<Wanted>) -> Result<(), Error> {
        let mut ahead: VecDeque<Wanted> = VecDeque::new();
        loop {
            // Refilled by halves, so that requests go out many at a time.
            let mut fills = ahead.is_empty() || queue.take_more(ahead.len());
            let mut alone = None;
            while fills && let Some(wanted) = queue.take(ahead.len()) {
                let name = self.options.into.join(&wanted.place);
                if self.options.resume
                    && (part_file::is_taken(&name) || part_file::is_taken(&part_file::part(&name)))
                {
                    alone = Some(wanted);
                    fills = false;
                } else if let Err(error) = self.check(&name).and_then(|()| {
                    self.connection
                        .ask(|dialogue, out| dialogue.download(&wanted.path, out))
                }) {
                    self.progress.fail(Sanitized(&wanted.path), error);
                } else {
                    ahead.push_back(wanted);
                }
            }
            while let Some(wanted) = ahead.pop_front() {
                let name = self.options.into.join(&wanted.place);
                let done = self.download(&wanted.path, &name, wanted.size.unwrap_or(0));
                if let Err(error) = self.settle(&wanted.path, done) {
                    let wanted = matches!(error, Error::Idle).then_some(wanted);
                    queue.give_back(wanted.into_iter().chain(ahead).chain(alone));
                    return Err(error);
                }
                if alone.is_none() && queue.take_more(ahead.len()) {
                    break;
                }
            }
            match alone {
                Some(wanted) => {
                    let name = self.options.into.join(&wanted.place);
                    let done = self.resume(&wanted.path, &name, wanted.size.unwrap_or(0));
                    if let Err(error) = self.settle(&wanted.path, done) {
                        let wanted = matches!(error, Error::Idle).then_some(wanted);
                        queue.give_back(wanted.into_iter());
                        return Err(error);
                    }
                }
                None if ahead.is_empty() && queue.is_empty() => return Ok(()),
                None => {}
            }
        }
    }

    /// Tells of a failure; gives it back where the connection is done with. To have been idle is no failure of the file's.
    fn settle(&mut self, path: &str, done: Result<(), Error>) -> Result<(), Error> {
        let Err(error) = done else { return Ok(()) };
        if matches!(error, Error::Idle) {
            return Err(error);
        }
        self.progress.fail(Sanitized(path), &error);
        match error {
            Error::Refused(_) | Error::Here(_) if self.connection.left() > DISCARD_BYTES_MAX => {
                Err(Error::Abandoned(error.to_string()))
            }
            Error::Refused(_) | Error::Here(_) => {
                while self.connection.take()?.len() > 0 {}
                Ok(())
            }
            Error::Abandoned(_) | Error::Idle | Error::Broken(_) => Err(error),
        }
    }

    fn check(&self, name: &Path) -> Result<(), Error> {
        match !self.options.force && part_file::is_taken(name) {
            true => Err(part_file::exists(name)),
            false => Ok(()),
        }
    }

    /// Gets a file that was asked for, from its first byte on.
    pub(super) fn download(&mut self, path: &str, name: &Path, known: u64) -> Result<(), Error> {
        let length = self.file()?;
        let mut landing = PartFile::open(name)?;
        landing.restart()?;
        self.land(landing, path, known, length, false)
    }

    /// Goes on where an earlier transfer of a file broke, and proves the whole.
    pub(super) fn resume(&mut self, path: &str, name: &Path, known: u64) -> Result<(), Error> {
        if part_file::is_taken(name) {
            // It may be whole already, and then it has as many bytes there.
            let had = fs::metadata(name).map_or(0, |status| status.len());
            match self.is_proved(path, known.max(had), || part_file::checksum_of(name))? {
                true => {
                    self.progress.spare(known);
                    return Ok(());
                }
                false => self.check(name)?,
            }
        }
        let mut landing = PartFile::open(name)?;
        let mut length = Err(text::BAD_NUMBER);
        if landing.length() > 0 {
            let had = landing.length();
            self.connection
                .ask(|dialogue, out| dialogue.resume(path, had, out))?;
            length = match self.file() {
                Err(Error::Refused(refused)) => Err(refused),
                length => Ok(length?),
            };
        }
        let is_resumed = length.is_ok();
        let length = match length {
            Ok(length) => length,
            // There is nothing to go on with, or the file has become shorter.
            Err(text::BAD_NUMBER) => {
                landing.restart()?;
                self.connection
                    .ask(|dialogue, out| dialogue.download(path, out))?;
                self.file()?
            }
            Err(refused) => return Err(Error::Refused(refused)),
        };
        self.land(landing, path, known, length, is_resumed)
    }

    /// Takes a file's bytes behind those that are there, and gives it its name; where it was resumed, after it was proved.
    fn land(
        &mut self,
        mut landing: PartFile,
        path: &str,
        known: u64,
        length: u64,
        is_resumed: bool,
    ) -> Result<(), Error> {
        let had = landing.length();
        let progress = self.progress;
        let mut bar = progress.begin(path, known, had, had.saturating_add(length));
        self.take(&mut landing, length, &bar)?;
        if is_resumed {
            let whole = landing.length();
            if !self.is_proved(path, whole, || landing.checksum())? {
                // It has changed meanwhile, so what was there is worth nothing.
                landing.restart()?;
                self.connection
                    .ask(|dialogue, out| dialogue.download(path, out))?;
                let length = self.file()?;
                drop(bar);
                bar = progress.begin(path, 0, 0, length);
                self.take(&mut landing, length, &bar)?;
                if !self.is_proved(path, length, || landing.checksum())? {
                    return Err(Error::Here(
                        "it is not what the server has now: it changes while it is downloaded"
                            .into(),
                    ));
                }
            }
        }
        landing.finish(self.options.force)?;
        bar.done();
        Ok(())
    }

    /// Takes the bytes of an announced file.
    fn take(
        &mut self,
        landing: &mut PartFile,
        length: u64,
        bar: &crate::client::progress::Bar<'_>,
    ) -> Result<(), Error> {
        landing.expect(length)?;
        loop {
            let piece = self.connection.take()?;
            let length = piece.len() as u64;
            if length == 0 {
                return Ok(());
            }
            landing.write(piece)?;
            bar.moved(length);
        }
    }

    /// Hears the answer to a request for a file: how many bytes come.
    fn file(&mut self) -> Result<u64, Error> {
        self.connection.hear(|event| match event {
            ClientEvent::File { length } => Ok(length),
            ClientEvent::Refused(refused) => Err(Error::Refused(refused)),
            _ => unreachable!("the dialogue takes no other answer"),
        })?
    }

    /// Whether the server's checksum of a file of about `size` bytes is that of `ours`, which is made meanwhile.
    fn is_proved(
        &mut self,
        path: &str,
        size: u64,
        ours: impl FnOnce() -> Result<[u8; 32], Error>,
    ) -> Result<bool, Error> {
        self.connection
            .ask(|dialogue, out| dialogue.checksum(path, out))?;
        self.connection.flush()?;
        let ours = ours();
        self.connection.set_at_work(size);
        let theirs = self.connection.hear(|event| match event {
            ClientEvent::Checksum(hash) => Ok(hash),
            ClientEvent::Refused(refused) => Err(Error::Refused(refused)),
            _ => unreachable!("the dialogue takes no other answer"),
        });
        self.connection.set_at_work(0);
        Ok(theirs?? == ours?)
    }
}
