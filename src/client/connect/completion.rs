//! Tab completion: commands, directories and files of the server, and local files.
//!
//! The server is queried over a second connection, because `SHOW DIRECTORY` on the first one would
//! change the chosen directory.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use crate::client::connection::ClientConnection;
use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::sanitized::Sanitized;
use crate::client::tree::RemoteTree;
use crate::protocol::menu::command::MenuCommand;

/// The command of `connect` that uploads a local file, in addition to the menu's commands.
pub(super) const UPLOAD: &str = "UPLOAD";

/// Candidates shown at most.
const CANDIDATES_MAX: usize = 1000;

/// Time for all requests of one completion, which the user cannot interrupt.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(5);

/// The kind of input that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputKind {
    Command,
    RemoteDirectory,
    RemoteFile,
    LocalFile,
}

/// Completes the line that is being edited.
pub(super) struct LineCompleter {
    login: Rc<RemoteLogin>,
    /// Opened by the first completion that needs it.
    connection: RefCell<Option<ClientConnection>>,
    kind: InputKind,
    /// The chosen directory.
    directory: Option<String>,
}

impl LineCompleter {
    pub(super) fn new(login: Rc<RemoteLogin>) -> LineCompleter {
        LineCompleter {
            login,
            connection: RefCell::new(None),
            kind: InputKind::Command,
            directory: None,
        }
    }

    /// Sets the kind of the next line and the chosen directory.
    pub(super) fn set_context(&mut self, kind: InputKind, directory: Option<String>) {
        self.kind = kind;
        self.directory = directory;
    }

    /// Returns the completions of `typed`, each including `typed` itself.
    fn candidates(&self, kind: InputKind, typed: &str) -> Vec<String> {
        let mut candidates = match kind {
            InputKind::Command => commands(),
            InputKind::RemoteDirectory | InputKind::RemoteFile => {
                self.remote_paths(kind, typed).unwrap_or_default()
            }
            InputKind::LocalFile => local_paths(typed),
        };
        candidates.retain(|candidate| match kind {
            InputKind::Command => is_prefix(typed, candidate),
            // A name with escaped characters could not be typed as it is shown.
            _ => candidate.starts_with(typed) && Sanitized(candidate).to_string() == *candidate,
        });
        candidates.truncate(CANDIDATES_MAX);
        candidates
    }

    /// Lists the directory that the path `typed` is in. Repeats the request once if the server has
    /// closed the idle connection.
    fn remote_paths(&self, kind: InputKind, typed: &str) -> Result<Vec<String>, ClientError> {
        let deadline = Instant::now() + COMPLETION_TIMEOUT;
        match self.request_paths(kind, typed, deadline) {
            Err(ClientError::Idle) => self.request_paths(kind, typed, deadline),
            result => result,
        }
    }

    fn request_paths(
        &self,
        kind: InputKind,
        typed: &str,
        deadline: Instant,
    ) -> Result<Vec<String>, ClientError> {
        // Taken out of the cell, so that it is dropped after an error.
        let mut connection = match self.connection.take() {
            Some(mut connection) => {
                connection.set_deadline(deadline);
                connection
            }
            None => {
                let login = RemoteLogin {
                    remote: self.login.remote.clone(),
                    password: self.login.password.clone(),
                    password_source: None,
                    timeout: COMPLETION_TIMEOUT.min(self.login.timeout),
                };
                ClientConnection::open_with_deadline(&login, deadline)?
            }
        };
        let mut tree = RemoteTree::new(&mut connection);
        let mut paths = Vec::new();
        let mut add = |path: String, is_directory: bool| match is_directory {
            true => paths.push(path + "/"),
            false if kind == InputKind::RemoteFile => paths.push(path),
            false => {}
        };
        match typed.rsplit_once('/') {
            Some((directory, _)) => {
                tree.list(&[directory.to_owned()], |_, entry| {
                    let path = format!("{directory}/{}", entry.name);
                    add(path, entry.size.is_none());
                })?;
            }
            None => {
                for entry in tree.granted_directories()? {
                    add(entry.path, true);
                }
                if let (Some(chosen), InputKind::RemoteFile) = (&self.directory, kind) {
                    tree.list(std::slice::from_ref(chosen), |_, entry| {
                        if entry.size.is_some() {
                            add(entry.name.to_owned(), false);
                        }
                    })?;
                }
            }
        }
        self.connection.replace(Some(connection));
        Ok(paths)
    }
}

impl Completer for LineCompleter {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..position];
        let (kind, start) = match self.kind {
            InputKind::Command => argument(typed).unwrap_or((InputKind::Command, 0)),
            kind => (kind, 0),
        };
        let candidates = self.candidates(kind, &typed[start..]).into_iter();
        let pairs = candidates.map(|candidate| Pair {
            display: candidate.clone(),
            replacement: candidate,
        });
        Ok((start, pairs.collect()))
    }
}

impl Hinter for LineCompleter {
    type Hint = String;
}
impl Highlighter for LineCompleter {}
impl Validator for LineCompleter {}
impl Helper for LineCompleter {}

/// Returns the kind and the start of the argument, if `typed` begins with a command that has one.
fn argument(typed: &str) -> Option<(InputKind, usize)> {
    commands().into_iter().find_map(|command| {
        let kind = match command.trim_end() {
            "SHOW DIRECTORY" | "MAKE DIRECTORY" => InputKind::RemoteDirectory,
            "DOWNLOAD FILE" | "RESUME DOWNLOAD" | "CHECKSUM FILE" => InputKind::RemoteFile,
            "UPLOAD FILE" | UPLOAD => InputKind::LocalFile,
            _ => return None,
        };
        let is_typed = is_prefix(&command, typed.get(..command.len())?);
        (is_typed && command.ends_with(' ')).then_some((kind, command.len()))
    })
}

/// Returns the commands that can be completed, with a trailing blank if they have an argument. A
/// command precedes its own prefix: `UPLOAD FILE` precedes `UPLOAD`.
fn commands() -> Vec<String> {
    let mut commands: Vec<String> = MenuCommand::ALL
        .into_iter()
        .filter(|command| !matches!(command, MenuCommand::Login | MenuCommand::PutFile))
        .map(|command| match command.takes_argument() {
            true => format!("{} ", command.words()),
            false => command.words().to_owned(),
        })
        .collect();
    commands.push(format!("{UPLOAD} "));
    commands
}

fn is_prefix(typed: &str, candidate: &str) -> bool {
    candidate
        .get(..typed.len())
        .is_some_and(|beginning| beginning.eq_ignore_ascii_case(typed))
}

/// Lists the local folder that the path `typed` is in.
fn local_paths(typed: &str) -> Vec<String> {
    let (prefix, folder) = match typed.rsplit_once('/') {
        Some((folder, _)) => (format!("{folder}/"), format!("{folder}/")),
        None => (String::new(), ".".to_owned()),
    };
    let entries = std::fs::read_dir(Path::new(&folder));
    let mut paths: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let suffix = if entry.path().is_dir() { "/" } else { "" };
            Some(format!("{prefix}{name}{suffix}"))
        })
        .take(CANDIDATES_MAX)
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_determine_the_kind_of_their_argument() {
        let argument_of = |typed| argument(typed).map(|(kind, start)| (start, kind));
        assert_eq!(
            argument_of("show directory Mo"),
            Some((15, InputKind::RemoteDirectory))
        );
        assert_eq!(
            argument_of("DOWNLOAD FILE "),
            Some((14, InputKind::RemoteFile))
        );
        assert_eq!(
            argument_of("upload file No"),
            Some((12, InputKind::LocalFile))
        );
        assert_eq!(argument_of("upload No"), Some((7, InputKind::LocalFile)));
        assert_eq!(argument_of("show dir"), None);
        assert_eq!(argument_of("ü"), None);
    }
}
