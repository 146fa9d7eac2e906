//! `put`: files and trees from here go into a directory of the server.
//!
//! First all is found out: what there is here, what has to be made there, and what would be replaced. Then it is moved, over
//! several connections, each without waiting for one answer before the next file.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::fs::{File, OpenOptions};
use std::io;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::client::login::Login;
use crate::client::progress::{Bar, Progress};
use crate::client::sanitized::Sanitized;
use crate::client::transfer_queue::Queue;
use crate::client::tree::Tree;
use crate::domain::error::ErrorCode;
use crate::limits::{BATCHED_FILE_BYTES_MAX, PIPELINED_COMMANDS_MAX};
use crate::protocol::menu::client::ClientEvent;
use crate::protocol::menu::text;

/// How files are put.
pub struct Options {
    /// What is there may be replaced.
    pub force: bool,
    /// Folders are taken along, and directories that are missing are made.
    pub recursive: bool,
    /// Connections at once.
    pub jobs: usize,
    /// Nothing is shown but failures.
    pub quiet: bool,
}

/// A file to be moved.
#[derive(Debug)]
struct Sending {
    file: PathBuf,
    /// Its path on the server.
    path: String,
    size: u64,
}

/// What is to be done.
#[derive(Default)]
struct Plan {
    files: Vec<Sending>,
    /// Directories that have to be there, one before those in it.
    directories: Vec<String>,
    /// What cannot be done, and why.
    failures: Vec<(String, String)>,
}

/// Puts `files` into `directory`; `tell` says a line on standard error. Returns how it went, which was told but for the summary.
pub fn put(
    login: &Login,
    directory: &str,
    files: &[PathBuf],
    options: &Options,
    tell: fn(&str),
) -> Result<Progress, Error> {
    let directory = directory.trim_end_matches('/');
    let mut plan = plan(directory, files, options.recursive)?;
    let mut connection = Connection::open(login)?;
    let made = match options.recursive {
        true => make_directories(&mut connection, &mut plan)?,
        false => HashSet::new(),
    };
    if !options.force {
        spare_existing(&mut connection, directory, &mut plan, &made)?;
    }
    let bytes = plan.files.iter().map(|sending| sending.size);
    let bytes = bytes.fold(0, u64::saturating_add);
    let progress = Progress::new(tell, options.quiet, plan.files.len(), bytes);
    for (what, why) in &plan.failures {
        progress.fail(Sanitized(what), why);
    }
    let files = VecDeque::from(plan.files);
    Queue::work_off(
        connection,
        login,
        options.jobs,
        files,
        &progress,
        |connection, queue| {
            Putter {
                connection,
                progress: &progress,
            }
            .work(queue)
        },
    );
    progress.end();
    Ok(progress)
}

/// Finds out what there is here.
fn plan(directory: &str, files: &[PathBuf], recursive: bool) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    if recursive {
        // What is granted is there; only what is below it can be made.
        let ends = directory.match_indices('/').map(|(end, _)| end).skip(1);
        let parts = ends
            .chain([directory.len()])
            .map(|end| directory[..end].to_owned());
        plan.directories
            .extend(parts.filter(|path| path.contains('/')));
    }
    let mut paths: HashMap<String, &Path> = HashMap::new();
    for file in files {
        let name = match own_name(file) {
            Ok(name) => name,
            Err(error) => {
                plan.fail(file, error);
                continue;
            }
        };
        let Some(name) = name.to_str() else {
            plan.fail(file, "its name cannot be sent");
            continue;
        };
        let path = format!("{directory}/{name}");
        if let Some(other) = paths.insert(path.clone(), file) {
            let (other, file) = (other.to_string_lossy(), file.to_string_lossy());
            let (other, file, path) = (Sanitized(&other), Sanitized(&file), Sanitized(&path));
            return Err(Error::Here(format!(
                "{other} and {file} would both land on {path}: nothing was moved"
            )));
        }
        plan.add(file.clone(), path, recursive, true);
    }
    Ok(plan)
}

/// The name that a file goes by, also where it was given as `..` or the like.
fn own_name(file: &Path) -> io::Result<OsString> {
    let whole = match file.file_name() {
        Some(_) => file.to_owned(),
        None => file.canonicalize()?,
    };
    let name = whole.file_name().map(ToOwned::to_owned);
    name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))
}

impl Plan {
    /// Takes up a file, or a folder with all that is in it. A link is followed to a file, and to a folder only where a person
    /// named it: it could lead around in a circle.
    fn add(&mut self, file: PathBuf, path: String, recursive: bool, is_named: bool) {
        let status = match fs::metadata(&file) {
            Ok(status) => status,
            Err(error) => return self.fail(&file, error),
        };
        if status.is_file() {
            let size = status.len();
            return self.files.push(Sending { file, path, size });
        }
        if !status.is_dir() {
            return self.fail(&file, "it is no file");
        }
        if !recursive {
            return self.fail(&file, "a whole folder is taken with --recursive");
        }
        if !is_named && file.is_symlink() {
            return self.fail(&file, "a link to a folder is not followed");
        }
        let entries = fs::read_dir(&file).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.fail(&file, error),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        self.directories.push(path.clone());
        for entry in entries {
            match entry.file_name().to_str() {
                Some(name) => self.add(entry.path(), format!("{path}/{name}"), true, false),
                None => self.fail(&entry.path(), "its name cannot be sent"),
            }
        }
    }

    fn fail(&mut self, file: &Path, why: impl ToString) {
        self.failures
            .push((file.to_string_lossy().into_owned(), why.to_string()));
    }
}

/// Makes the planned directories, and returns those that were not there before. What lies in one that cannot be made is taken
/// from the plan.
fn make_directories(
    connection: &mut Connection,
    plan: &mut Plan,
) -> Result<HashSet<String>, Error> {
    let mut made = HashSet::new();
    let mut failed: HashMap<String, String> = HashMap::new();
    let directories = std::mem::take(&mut plan.directories);
    let mut heard = 0;
    for (index, path) in directories.iter().enumerate() {
        // A level is not asked for before the one above it, but all are asked for ahead: the server keeps the order.
        if let Err(error) = connection.ask(|dialogue, out| dialogue.make_directory(path, out)) {
            failed.insert(path.clone(), error.to_string());
        }
        let is_last = index + 1 == directories.len();
        if index + 1 - heard < PIPELINED_COMMANDS_MAX && !is_last {
            continue;
        }
        for path in directories[heard..=index]
            .iter()
            .filter(|path| !failed.contains_key(*path))
            .collect::<Vec<_>>()
        {
            let refused = connection.hear(|event| match event {
                ClientEvent::Refused(refused) => Some(refused),
                _ => None,
            })?;
            match refused {
                None => {
                    made.insert(path.clone());
                }
                Some(refused) if refused == text::refusal(ErrorCode::DirectoryExists) => {}
                Some(refused) => {
                    failed.insert(path.clone(), refused.to_owned());
                }
            }
        }
        heard = index + 1;
    }
    for path in &directories {
        if let Some(why) = failed.get(path)
            && !has_ancestor(path, &failed)
        {
            plan.failures.push((path.clone(), why.clone()));
        }
    }
    plan.files
        .retain(|sending| !has_ancestor(&sending.path, &failed));
    plan.directories = directories
        .into_iter()
        .filter(|path| !failed.contains_key(path))
        .collect();
    Ok(made)
}

/// Whether one of `directories` lies above `path`.
fn has_ancestor(path: &str, directories: &HashMap<String, String>) -> bool {
    path.match_indices('/')
        .any(|(end, _)| directories.contains_key(&path[..end]))
}

/// Takes from the plan what is there already, as far as the server shows it, and what lies in a directory that cannot be listed:
/// nobody knows what it would replace. One that is not there has nothing to be replaced.
fn spare_existing(
    connection: &mut Connection,
    directory: &str,
    plan: &mut Plan,
    made: &HashSet<String>,
) -> Result<(), Error> {
    let mut looked_at = vec![directory.to_owned()];
    looked_at.extend(
        plan.directories
            .iter()
            .filter(|path| path.len() > directory.len())
            .cloned(),
    );
    looked_at.retain(|path| !made.contains(path));
    let wanted: HashMap<&str, usize> = plan
        .files
        .iter()
        .enumerate()
        .map(|(index, sending)| (sending.path.as_str(), index))
        .collect();
    let mut taken: HashSet<usize> = HashSet::new();
    let refusals = Tree::new(connection).list(&looked_at, |index, entry| {
        let path = format!("{}/{}", looked_at[index], entry.name);
        taken.extend(wanted.get(path.as_str()));
    })?;
    let unlisted: HashMap<&str, &str> = looked_at
        .iter()
        .zip(refusals)
        .filter_map(|(path, refused)| Some((path.as_str(), refused?)))
        .filter(|(_, refused)| *refused != text::refusal(ErrorCode::NoSuchDirectory))
        .collect();
    let mut index = 0;
    let failures = &mut plan.failures;
    plan.files.retain(|sending| {
        let is_taken = taken.contains(&index);
        index += 1;
        let above = sending.path.rsplit_once('/').map(|(above, _)| above);
        let why = match above.and_then(|above| unlisted.get(above)) {
            _ if is_taken => "it exists already; --force replaces it",
            Some(refused) => refused,
            None => return true,
        };
        failures.push((sending.path.clone(), why.into()));
        false
    });
    Ok(())
}

/// Moves files over one connection.
pub(super) struct Putter<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) progress: &'a Progress,
}

/// A file whose upload was begun.
struct Begun<'a> {
    sending: Sending,
    bar: Bar<'a>,
}

impl<'a> Putter<'a> {
    fn work(mut self, queue: &Queue<Sending>) -> Result<(), Error> {
        let mut begun: VecDeque<Begun<'a>> = VecDeque::new();
        loop {
            // Refilled by halves, so that many small files go out at a time.
            while (begun.is_empty() || queue.take_more(begun.len()))
                && let Some(mut sending) = queue.take(begun.len())
            {
                let (file, size) = match open(&sending.file) {
                    Ok(opened) => opened,
                    Err(error) => {
                        self.progress.fail(Sanitized(&sending.path), error);
                        continue;
                    }
                };
                let bar = self.progress.begin(&sending.path, sending.size, 0, size);
                sending.size = size;
                let unanswered = begun.iter().map(|begun| begun.sending.size);
                let unanswered = unanswered.fold(0, u64::saturating_add);
                match self.send(&file, &sending, unanswered, &bar) {
                    Ok(()) => begun.push_back(Begun { sending, bar }),
                    Err(error @ (Error::Here(_) | Error::Refused(_))) => {
                        self.progress.fail(Sanitized(&sending.path), error);
                    }
                    Err(error) => {
                        begun.push_back(Begun { sending, bar });
                        return self.end(begun, error, queue);
                    }
                }
            }
            let Some(now) = begun.pop_front() else {
                match queue.is_empty() {
                    true => return Ok(()),
                    false => continue,
                }
            };
            let answer = self.answer(now.sending.size);
            if let Err(error) = self.settle(now, answer, &mut begun) {
                return give_up(self.progress, begun, error, queue);
            }
        }
    }

    /// Puts one file and waits for its end.
    pub(super) fn put(&mut self, file: &Path, path: &str) -> Result<(), Error> {
        let (opened, size) = open(file)?;
        let sending = Sending {
            file: file.to_owned(),
            path: path.to_owned(),
            size,
        };
        let bar = self.progress.begin(path, size, 0, size);
        self.send(&opened, &sending, 0, &bar)?;
        self.answer(size)?;
        bar.done();
        Ok(())
    }

    /// Sends a file, where the answers to `unanswered` bytes are still to come. Nothing was sent where the connection stands
    /// afterwards.
    fn send(
        &mut self,
        file: &File,
        sending: &Sending,
        unanswered: u64,
        bar: &Bar<'_>,
    ) -> Result<(), Error> {
        self.connection.set_at_work(unanswered);
        if sending.size > BATCHED_FILE_BYTES_MAX {
            let moved = |bytes| bar.moved(bytes);
            return self
                .connection
                .put_file(&sending.path, file, sending.size, moved);
        }
        let mut bytes = Vec::with_capacity(sending.size as usize + 1);
        let read = file.take(sending.size).read_to_end(&mut bytes);
        read.map_err(|error| Error::Here(error.to_string()))?;
        if bytes.len() as u64 != sending.size {
            return Err(Error::Here("it became shorter while it was sent".into()));
        }
        self.connection.put_gathered(&sending.path, &bytes)?;
        bar.moved(sending.size);
        Ok(())
    }

    /// Hears the answer to the oldest upload, of `size` bytes.
    fn answer(&mut self, size: u64) -> Result<(), Error> {
        self.connection.set_at_work(size);
        let answer = self.connection.hear(|event| match event {
            ClientEvent::Refused(refused) => Err(Error::Refused(refused)),
            _ => Ok(()),
        });
        self.connection.set_at_work(0);
        answer?
    }

    /// Tells what became of an upload; fails where the connection is done with. One that the server has not taken up since it
    /// was idle goes back to `begun`.
    fn settle(
        &self,
        now: Begun<'a>,
        answer: Result<(), Error>,
        begun: &mut VecDeque<Begun<'a>>,
    ) -> Result<(), Error> {
        match answer {
            Ok(()) => now.bar.done(),
            Err(Error::Refused(refused)) => {
                self.progress.fail(Sanitized(&now.sending.path), refused)
            }
            Err(Error::Idle) => {
                begun.push_front(now);
                return Err(Error::Idle);
            }
            Err(error) => {
                self.progress.fail(Sanitized(&now.sending.path), &error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The last of `begun` could not be sent whole. What the server has answered before counts, and where it has said why it
    /// closed, that is the reason.
    fn end(
        mut self,
        mut begun: VecDeque<Begun<'a>>,
        error: Error,
        queue: &Queue<Sending>,
    ) -> Result<(), Error> {
        while begun.len() > 1 || matches!(error, Error::Broken(_)) {
            let Some(now) = begun.pop_front() else { break };
            let answer = self.answer(now.sending.size);
            if let Err(error) = self.settle(now, answer, &mut begun) {
                return give_up(self.progress, begun, error, queue);
            }
        }
        for last in begun {
            self.progress.fail(Sanitized(&last.sending.path), &error);
        }
        Err(error)
    }
}

/// The connection is done with before `begun` were answered. Where it closed for what was before them, nobody has taken them
/// up, and they are put over another one; otherwise nobody knows.
fn give_up(
    progress: &Progress,
    begun: VecDeque<Begun<'_>>,
    error: Error,
    queue: &Queue<Sending>,
) -> Result<(), Error> {
    match error {
        Error::Abandoned(_) | Error::Idle => {
            queue.give_back(begun.into_iter().map(|begun| begun.sending))
        }
        _ => begun
            .iter()
            .for_each(|begun| progress.fail(Sanitized(&begun.sending.path), &error)),
    }
    Err(error)
}

/// Opens a file to be sent, and tells its bytes.
fn open(file: &Path) -> Result<(File, u64), Error> {
    let failed = |error: io::Error| Error::Here(error.to_string());
    // A pipe that has taken the file's place would hold us up.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(file)
        .map_err(failed)?;
    let status = opened.metadata().map_err(failed)?;
    match status.is_file() {
        true => Ok((opened, status.len())),
        false => Err(Error::Here("it is no file".into())),
    }
}
