//! `get`: downloads files and trees.
//!
//! All paths are resolved and checked for conflicts before the first transfer begins.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use crate::client::connection::ClientConnection;
use crate::client::download::{Downloader, FileDownload, INVALID_NAME};
use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::missing::{LEADING_SLASH, Missing};
use crate::client::part_file;
use crate::client::progress::TransferProgress;
use crate::client::sanitized::Sanitized;
use crate::client::transfer_queue::TransferQueue;
use crate::client::tree::{RemoteTree, fixed_part, is_pattern};
use crate::domain::error::ErrorCode;
use crate::domain::path::is_name;
use crate::protocol::menu::text;

/// The options of `get`.
pub struct GetOptions {
    /// The download folder.
    pub into: PathBuf,
    /// Whether existing files are replaced.
    pub force: bool,
    /// Whether interrupted downloads are resumed (`--continue`).
    pub resume: bool,
    /// Whether directories are downloaded.
    pub recursive: bool,
    /// Number of parallel connections.
    pub jobs: usize,
    /// Whether only failures are printed.
    pub quiet: bool,
}

/// The files to download. Targets are relative to the download folder.
#[derive(Default)]
struct DownloadPlan {
    files: VecDeque<FileDownload>,
    directories: Vec<PathBuf>,
    /// Paths that cannot be downloaded, with reasons.
    failures: Vec<(String, String)>,
    /// Directories that are named without `--recursive`.
    skipped_directories: Vec<String>,
}

/// Downloads `paths`. Failures of single files are printed by `report` and recorded in the returned
/// progress.
pub fn get(
    login: &RemoteLogin,
    paths: &[String],
    options: &GetOptions,
    report: fn(&str),
) -> Result<TransferProgress, ClientError> {
    let mut connection = ClientConnection::open(login)?;
    let mut plan = resolve(&mut connection, paths, options.recursive)?;
    check_conflicts(&plan)?;
    let sizes = plan.files.iter().filter_map(|file| file.listed_size);
    let total = sizes.fold(0, u64::saturating_add);
    let progress = TransferProgress::new(report, options.quiet, plan.files.len(), total);
    for (path, reason) in &plan.failures {
        progress.report_failure(Sanitized(path), reason);
    }
    for path in &plan.skipped_directories {
        progress.report_directory(path);
    }
    for directory in &plan.directories {
        let directory = options.into.join(directory);
        if let Err(error) = fs::create_dir_all(&directory) {
            let reason = part_file::folder_failure(&error);
            progress.report_failure(Sanitized(&directory.to_string_lossy()), reason);
        }
    }
    for file in &mut plan.files {
        file.target = options.into.join(&file.target);
    }
    let queue = TransferQueue::new(plan.files, options.jobs, login, &progress);
    queue.run(connection, |connection, queue| {
        let downloader = Downloader {
            connection,
            progress: &progress,
            force: options.force,
            resume: options.resume,
            missing: Vec::new(),
        };
        downloader.run(queue)
    });
    progress.end();
    Ok(progress)
}

/// Resolves the given paths to files.
fn resolve(
    connection: &mut ClientConnection,
    paths: &[String],
    recursive: bool,
) -> Result<DownloadPlan, ClientError> {
    let mut resolver = PathResolver {
        tree: RemoteTree::new(connection),
        recursive,
        plan: DownloadPlan::default(),
        roots: Vec::new(),
        sources: HashMap::new(),
    };
    for given in paths {
        let path = given.trim_end_matches('/');
        match is_pattern(path) {
            _ if given.starts_with('/') => resolver.plan.fail(given, LEADING_SLASH),
            true => resolver.add_pattern(given, path)?,
            false => resolver.add_path(given, path)?,
        }
    }
    resolver.walk_roots()?;
    Ok(resolver.plan)
}

/// Adds the files that the given paths denote to a plan.
struct PathResolver<'a> {
    tree: RemoteTree<'a>,
    recursive: bool,
    plan: DownloadPlan,
    /// Paths that are or may be directories, with their targets.
    roots: Vec<(String, PathBuf)>,
    /// The path for each target of a given path or a match.
    sources: HashMap<PathBuf, String>,
}

impl PathResolver<'_> {
    /// Adds the matches of a pattern: files, with `--recursive` also directories.
    fn add_pattern(&mut self, given: &str, pattern: &str) -> Result<(), ClientError> {
        let plan = &mut self.plan;
        let failures_before = plan.failures.len();
        let found = self.tree.expand(pattern, |path, why| plan.fail(path, why));
        let found = match found {
            Ok(found) => found,
            Err(ClientError::Refused(reason)) => {
                let fixed = fixed_part(pattern);
                let explained = Missing::explain(&mut self.tree, fixed, reason)?;
                self.plan.fail_missing(given, explained);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut has_match = false;
        for entry in found {
            if entry.size.is_none() && !self.recursive {
                continue;
            }
            has_match = true;
            let Some(target) = self.claim_target(given, &entry.path)? else {
                continue;
            };
            match entry.size {
                Some(_) => self.plan.add_file(entry.path, target, entry.size),
                None => self.roots.push((entry.path, target)),
            }
        }
        if !has_match && self.plan.failures.len() == failures_before {
            self.plan.fail(given, "nothing matches the pattern");
        }
        Ok(())
    }

    /// Adds a path without a pattern. Whether it is a file is not known yet.
    fn add_path(&mut self, given: &str, path: &str) -> Result<(), ClientError> {
        let Some(target) = self.claim_target(given, path)? else {
            return Ok(());
        };
        if self.recursive {
            self.roots.push((path.to_owned(), target));
        } else if !path.contains('/') || given.ends_with('/') {
            let refusal = text::refusal(ErrorCode::NoSuchDirectory);
            match Missing::explain(&mut self.tree, path, refusal)? {
                Missing::Nothing(reason) if !path.contains('/') => {
                    let form = "name a file as DIRECTORY/FILE";
                    self.plan.fail(given, format_args!("{reason}; {form}"));
                }
                explained => self.plan.fail_missing(path, explained),
            }
        } else {
            self.plan.add_file(path.to_owned(), target, None);
        }
        Ok(())
    }

    /// Returns the target of a path: its last component. Returns `None` after a failure was
    /// recorded.
    fn claim_target(&mut self, given: &str, path: &str) -> Result<Option<PathBuf>, ClientError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        if !is_name(name) {
            self.plan.fail(given, INVALID_NAME);
            return Ok(None);
        }
        let target = PathBuf::from(name);
        match self.sources.insert(target.clone(), path.to_owned()) {
            Some(other) => Err(conflict(&other, path, &target)),
            None => Ok(Some(target)),
        }
    }

    /// Adds everything below the roots. A root that is not a directory is added as a file.
    fn walk_roots(&mut self) -> Result<(), ClientError> {
        for (root, target) in std::mem::take(&mut self.roots) {
            let plan = &mut self.plan;
            let mut refusal = None;
            let (mut files, mut directories) = (Vec::new(), vec![target.clone()]);
            let target_of = |path: &str| target.join(path[root.len()..].trim_start_matches('/'));
            self.tree.walk(
                vec![root.clone()],
                |entry| match entry.size {
                    Some(_) => files.push((target_of(&entry.path), entry)),
                    None => directories.push(target_of(&entry.path)),
                },
                |path, reason| match path == root {
                    true => refusal = Some(reason),
                    false => plan.fail(path, reason),
                },
            )?;
            let not_a_directory = text::refusal(ErrorCode::NoSuchDirectory);
            match refusal {
                None => {
                    plan.directories.extend(directories);
                    for (target, entry) in files {
                        plan.add_file(entry.path, target, entry.size);
                    }
                }
                Some(reason) if reason == not_a_directory && root.contains('/') => {
                    plan.add_file(root, target, None);
                }
                Some(reason) if reason == not_a_directory => {
                    let explained = Missing::explain(&mut self.tree, &root, reason)?;
                    plan.fail_missing(&root, explained);
                }
                Some(reason) => plan.fail(&root, reason),
            }
        }
        Ok(())
    }
}

impl DownloadPlan {
    fn add_file(&mut self, path: String, target: PathBuf, listed_size: Option<u64>) {
        self.files.push_back(FileDownload {
            path,
            target,
            listed_size,
        });
    }

    fn fail(&mut self, path: &str, reason: impl ToString) {
        self.failures.push((path.to_owned(), reason.to_string()));
    }

    fn fail_missing(&mut self, path: &str, explained: Missing) {
        match explained {
            Missing::IsDirectory => self.skipped_directories.push(path.to_owned()),
            Missing::Nothing(reason) => self.fail(path, reason),
        }
    }
}

/// Fails if two files have the same target, or the target of one is the part file or a folder of
/// another.
fn check_conflicts(plan: &DownloadPlan) -> Result<(), ClientError> {
    let mut sources: HashMap<PathBuf, &str> = HashMap::with_capacity(2 * plan.files.len());
    let folders: HashSet<&Path> = plan.directories.iter().map(PathBuf::as_path).collect();
    for file in &plan.files {
        for target in [file.target.clone(), part_file::part_path(&file.target)] {
            if folders.contains(target.as_path()) {
                return Err(conflict("a directory", &file.path, &target));
            }
            if let Some(other) = sources.insert(target.clone(), &file.path) {
                return Err(conflict(other, &file.path, &target));
            }
        }
    }
    Ok(())
}

fn conflict(one: &str, other: &str, target: &Path) -> ClientError {
    let target = target.to_string_lossy();
    let (one, other, target) = (Sanitized(one), Sanitized(other), Sanitized(&target));
    ClientError::Local(format!(
        "{one} and {other} would both be stored as {target}; nothing was downloaded, use another --into for one of them"
    ))
}
