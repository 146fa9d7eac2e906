//! `put`: uploads files and trees.
//!
//! Local files are collected, missing directories created and existing files excluded before the
//! first transfer begins.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::client::connection::ClientConnection;
use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::missing::LEADING_SLASH;
use crate::client::progress::TransferProgress;
use crate::client::refusal;
use crate::client::sanitized::Sanitized;
use crate::client::transfer_queue::TransferQueue;
use crate::client::tree::RemoteTree;
use crate::client::upload::{FileUpload, Uploader, source_failure};
use crate::domain::error::ErrorCode;
use crate::limits::PIPELINED_COMMANDS_MAX;
use crate::protocol::menu::client::ClientEvent;
use crate::protocol::menu::text;

/// The options of `put`.
pub struct PutOptions {
    /// Whether existing files are replaced.
    pub force: bool,
    /// Whether folders are uploaded and missing directories created.
    pub recursive: bool,
    /// Number of parallel connections.
    pub jobs: usize,
    /// Whether only failures are printed.
    pub quiet: bool,
}

/// The files to upload.
#[derive(Default)]
struct UploadPlan {
    files: Vec<FileUpload>,
    /// Directories to create, parents first.
    directories: Vec<String>,
    /// Files that cannot be uploaded, with reasons.
    failures: Vec<(String, String)>,
}

/// Uploads `files` into `directory`. Failures of single files are printed by `report` and recorded
/// in the returned progress.
pub fn put(
    login: &RemoteLogin,
    directory: &str,
    files: &[PathBuf],
    options: &PutOptions,
    report: fn(&str),
) -> Result<TransferProgress, ClientError> {
    if directory.starts_with('/') {
        let directory = Sanitized(directory);
        return Err(ClientError::Local(format!("{directory}: {LEADING_SLASH}")));
    }
    let directory = directory.trim_end_matches('/');
    let mut plan = collect(directory, files, options.recursive)?;
    let mut connection = ClientConnection::open(login)?;
    let created = match options.recursive {
        true => create_directories(&mut connection, &mut plan)?,
        false => HashSet::new(),
    };
    if !options.force {
        exclude_existing(&mut connection, directory, &mut plan, &created)?;
    }
    let sizes = plan.files.iter().map(|upload| upload.size);
    let total = sizes.fold(0, u64::saturating_add);
    let progress = TransferProgress::new(report, options.quiet, plan.files.len(), total);
    for (path, reason) in &plan.failures {
        progress.report_failure(Sanitized(path), reason);
    }
    let files = VecDeque::from(plan.files);
    let queue = TransferQueue::new(files, options.jobs, login, &progress);
    let refused = Mutex::new(Vec::new());
    queue.run(connection, |connection, queue| {
        let uploader = Uploader {
            connection,
            progress: &progress,
            force: options.force,
            refused: &refused,
        };
        uploader.run(queue)
    });
    let refused = refused
        .into_inner()
        .expect("no thread panics with the lock");
    refusal::report(login, &refused, &progress);
    progress.end();
    Ok(progress)
}

/// Collects the local files and the directories that they need.
fn collect(directory: &str, files: &[PathBuf], recursive: bool) -> Result<UploadPlan, ClientError> {
    let mut plan = UploadPlan::default();
    if recursive {
        plan.directories = creatable_ancestors(directory);
    }
    let mut sources: HashMap<String, &Path> = HashMap::new();
    for file in files {
        let name = match file_name(file) {
            Ok(name) => name,
            Err(error) => {
                plan.fail(file, source_failure(file, &error));
                continue;
            }
        };
        let Some(name) = name.to_str() else {
            plan.fail(file, "the name is not valid UTF-8; rename the file");
            continue;
        };
        let path = format!("{directory}/{name}");
        if let Some(other) = sources.insert(path.clone(), file) {
            let (other, file) = (other.to_string_lossy(), file.to_string_lossy());
            let (other, file, path) = (Sanitized(&other), Sanitized(&file), Sanitized(&path));
            return Err(ClientError::Local(format!(
                "{other} and {file} would both be uploaded as {path}; nothing was uploaded, rename one of them"
            )));
        }
        plan.add(file.clone(), path, recursive, true);
    }
    Ok(plan)
}

/// Returns the part of a path below its granted directory, component by component: `a/b` and
/// `a/b/c` for `a/b/c`. A granted directory cannot be created.
fn creatable_ancestors(directory: &str) -> Vec<String> {
    directory
        .match_indices('/')
        .map(|(end, _)| end)
        .skip(1)
        .chain([directory.len()])
        .map(|end| directory[..end].to_owned())
        .filter(|path| path.contains('/'))
        .collect()
}

/// Returns the name of a file, also if its path ends in `..`.
fn file_name(file: &Path) -> io::Result<OsString> {
    let path = match file.file_name() {
        Some(_) => file.to_owned(),
        None => file.canonicalize()?,
    };
    let name = path.file_name().map(ToOwned::to_owned);
    name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))
}

impl UploadPlan {
    /// Adds a file, or a folder with its content. A symbolic link to a folder is followed only if
    /// it is named on the command line, because a link inside a tree may form a loop.
    fn add(&mut self, source: PathBuf, path: String, recursive: bool, is_named: bool) {
        let metadata = match fs::metadata(&source) {
            Ok(metadata) => metadata,
            Err(error) => return self.fail(&source, source_failure(&source, &error)),
        };
        if metadata.is_file() {
            let size = metadata.len();
            return self.files.push(FileUpload { source, path, size });
        }
        if !metadata.is_dir() {
            return self.fail(&source, "not a regular file or directory");
        }
        if !recursive {
            return self.fail(&source, "is a directory; use --recursive to upload it");
        }
        if !is_named && source.is_symlink() {
            return self.fail(
                &source,
                "not following the symbolic link to a directory; name it on the command line",
            );
        }
        let entries = fs::read_dir(&source).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.fail(&source, source_failure(&source, &error)),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        self.directories.push(path.clone());
        for entry in entries {
            match entry.file_name().to_str() {
                Some(name) => self.add(entry.path(), format!("{path}/{name}"), true, false),
                None => self.fail(
                    &entry.path(),
                    "the name is not valid UTF-8; rename the file",
                ),
            }
        }
    }

    /// Records failed directories, only the topmost of each tree, and keeps what is not below one.
    fn remove_failed(&mut self, directories: Vec<String>, failed: &HashMap<String, String>) {
        for path in &directories {
            if let Some(reason) = failed.get(path)
                && !has_ancestor(path, failed)
            {
                self.failures.push((path.clone(), reason.clone()));
            }
        }
        self.files
            .retain(|upload| !has_ancestor(&upload.path, failed));
        self.directories = directories;
        self.directories.retain(|path| !failed.contains_key(path));
    }

    fn fail(&mut self, file: &Path, reason: impl ToString) {
        self.failures
            .push((file.to_string_lossy().into_owned(), reason.to_string()));
    }
}

/// Creates the planned directories and returns those that did not exist. Removes from the plan
/// everything below a directory that could not be created.
fn create_directories(
    connection: &mut ClientConnection,
    plan: &mut UploadPlan,
) -> Result<HashSet<String>, ClientError> {
    let directories = std::mem::take(&mut plan.directories);
    let mut created = HashSet::new();
    let mut failed: HashMap<String, String> = HashMap::new();
    // The server executes commands in order, so a parent exists when its children are created.
    for batch in directories.chunks(PIPELINED_COMMANDS_MAX) {
        let mut sent = Vec::with_capacity(batch.len());
        for path in batch {
            match connection.send_command(|session, out| session.make_directory(path, out)) {
                Ok(()) => sent.push(path),
                Err(error) => {
                    failed.insert(path.clone(), error.to_string());
                }
            }
        }
        for path in sent {
            let reply = connection.receive_reply(|event| match event {
                ClientEvent::DirectoryMade => Some(()),
                _ => None,
            });
            let exists = text::refusal(ErrorCode::DirectoryExists);
            match reply {
                Ok(()) => {
                    created.insert(path.clone());
                }
                Err(ClientError::Refused(reason)) if reason == exists => {}
                Err(ClientError::Refused(reason)) => {
                    failed.insert(path.clone(), reason.to_owned());
                }
                Err(error) => return Err(error),
            }
        }
    }
    plan.remove_failed(directories, &failed);
    Ok(created)
}

/// Returns whether one of `directories` contains `path`.
fn has_ancestor(path: &str, directories: &HashMap<String, String>) -> bool {
    path.match_indices('/')
        .any(|(end, _)| directories.contains_key(&path[..end]))
}

/// Removes from the plan the files that exist on the server, and those in directories that the
/// server cannot list, since an upload might replace a file there. `created` directories are empty.
fn exclude_existing(
    connection: &mut ClientConnection,
    directory: &str,
    plan: &mut UploadPlan,
    created: &HashSet<String>,
) -> Result<(), ClientError> {
    let below = plan.directories.iter();
    let below = below.filter(|path| path.len() > directory.len()).cloned();
    let mut listed = vec![directory.to_owned()];
    listed.extend(below);
    listed.retain(|path| !created.contains(path));
    let planned: HashMap<&str, usize> = plan
        .files
        .iter()
        .enumerate()
        .map(|(index, upload)| (upload.path.as_str(), index))
        .collect();
    let mut existing: HashSet<usize> = HashSet::new();
    let refusals = RemoteTree::new(connection).list(&listed, |index, entry| {
        let path = format!("{}/{}", listed[index], entry.name);
        existing.extend(planned.get(path.as_str()));
    })?;
    // A directory that does not exist has no files to replace; the upload itself will be refused.
    let missing = text::refusal(ErrorCode::NoSuchDirectory);
    let unlisted: HashMap<&str, &str> = listed
        .iter()
        .zip(refusals)
        .filter_map(|(path, refusal)| Some((path.as_str(), refusal?)))
        .filter(|(_, reason)| *reason != missing)
        .collect();
    let mut index = 0;
    let failures = &mut plan.failures;
    plan.files.retain(|upload| {
        let exists = existing.contains(&index);
        index += 1;
        let parent = upload.path.rsplit_once('/').map(|(parent, _)| parent);
        let reason = match parent.and_then(|parent| unlisted.get(parent)) {
            _ if exists => "already exists; use --force to replace it",
            Some(reason) => reason,
            None => return true,
        };
        failures.push((upload.path.clone(), reason.into()));
        false
    });
    Ok(())
}
