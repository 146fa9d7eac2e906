//! What Tab completes in `connect`: commands, the server's directories and files, and files from here.
//!
//! It looks around over a connection of its own, so that it does not change what is chosen on the other one.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::client::login::Login;
use crate::client::sanitized::Sanitized;
use crate::client::tree::{Node, Tree};
use crate::protocol::menu::command::MenuCommand;

/// What this dialogue has beside the menu's commands.
pub(super) const UPLOAD: &str = "UPLOAD";

/// Candidates that are shown; there may be any number of files.
const CANDIDATES_MAX: usize = 1000;

/// How long Tab waits for the server in all: there is no way to interrupt it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a line may begin with or an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Command,
    /// A directory of the server.
    Directory,
    /// A file of the server.
    File,
    /// A file here.
    Local,
}

pub(super) struct Completion {
    login: Rc<Login>,
    connection: RefCell<Option<Connection>>,
    wanted: Wanted,
    chosen: Option<String>,
}

impl Completion {
    pub(super) fn new(login: Rc<Login>) -> Completion {
        Completion {
            login,
            connection: RefCell::new(None),
            wanted: Wanted::Command,
            chosen: None,
        }
    }

    /// What the next line is.
    pub(super) fn expect(&mut self, wanted: Wanted, chosen: Option<String>) {
        self.wanted = wanted;
        self.chosen = chosen;
    }

    /// What `typed` may become, all of it from where the answer begins.
    fn candidates(&self, wanted: Wanted, typed: &str) -> Vec<String> {
        let mut candidates = match wanted {
            Wanted::Command => commands(),
            Wanted::Directory | Wanted::File => self.remote(wanted, typed).unwrap_or_default(),
            Wanted::Local => local(typed),
        };
        candidates.retain(|candidate| match wanted {
            Wanted::Command => is_prefix(typed, candidate),
            // What would not show as it is cannot be typed either.
            _ => candidate.starts_with(typed) && Sanitized(candidate).to_string() == *candidate,
        });
        candidates.truncate(CANDIDATES_MAX);
        candidates
    }

    /// What the server has in the directory that `typed` has got to.
    fn remote(&self, wanted: Wanted, typed: &str) -> Result<Vec<String>, Error> {
        let deadline = Instant::now() + PATIENCE;
        match self.look(wanted, typed, deadline) {
            // It was over before Tab was typed.
            Err(Error::Idle) => self.look(wanted, typed, deadline),
            found => found,
        }
    }

    fn look(&self, wanted: Wanted, typed: &str, deadline: Instant) -> Result<Vec<String>, Error> {
        let mut connection = self.connection.borrow_mut();
        let mut open = match connection.take() {
            Some(mut open) => {
                open.set_deadline(deadline);
                open
            }
            None => {
                let login = Login {
                    remote: self.login.remote.clone(),
                    password: self.login.password.clone(),
                    timeout: PATIENCE.min(self.login.timeout),
                };
                Connection::open_until(&login, deadline)?
            }
        };
        let mut tree = Tree::new(&mut open);
        let mut found = Vec::new();
        let mut take = |name: String, is_directory: bool| match is_directory {
            true => found.push(name + "/"),
            false if wanted == Wanted::File => found.push(name),
            false => {}
        };
        match (typed.rsplit_once('/'), &self.chosen) {
            (Some((directory, _)), _) => {
                tree.list(&[directory.to_owned()], |_, entry| {
                    take(format!("{directory}/{}", entry.name), entry.size.is_none());
                })?;
            }
            (None, chosen) => {
                for Node { path, .. } in tree.directories()? {
                    take(path, true);
                }
                if let (Some(chosen), Wanted::File) = (chosen, wanted) {
                    tree.list(std::slice::from_ref(chosen), |_, entry| {
                        if entry.size.is_some() {
                            take(entry.name.to_owned(), false);
                        }
                    })?;
                }
            }
        }
        *connection = Some(open);
        Ok(found)
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..position];
        let (wanted, start) = match self.wanted {
            Wanted::Command => argument(typed).unwrap_or((Wanted::Command, 0)),
            wanted => (wanted, 0),
        };
        let pairs = self.candidates(wanted, &typed[start..]).into_iter();
        let pairs = pairs.map(|candidate| Pair {
            display: candidate.clone(),
            replacement: candidate,
        });
        Ok((start, pairs.collect()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

/// What the command that was typed takes, and where that begins.
fn argument(typed: &str) -> Option<(Wanted, usize)> {
    commands().into_iter().find_map(|command| {
        let wanted = match command.trim_end() {
            "SHOW DIRECTORY" => Wanted::Directory,
            "MAKE DIRECTORY" => Wanted::Directory,
            "UPLOAD FILE" => Wanted::Local,
            "DOWNLOAD FILE" | "RESUME DOWNLOAD" | "CHECKSUM FILE" => Wanted::File,
            _ if command.trim_end() == UPLOAD => Wanted::Local,
            _ => return None,
        };
        let is_whole = is_prefix(&command, typed.get(..command.len())?);
        (is_whole && command.ends_with(' ')).then_some((wanted, command.len()))
    })
}

/// The commands as they are completed: with a blank behind those that take something. The longer of two alike comes first.
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

/// What there is here in the folder that `typed` has got to.
fn local(typed: &str) -> Vec<String> {
    let (before, folder) = match typed.rsplit_once('/') {
        Some((folder, _)) => (format!("{folder}/"), format!("{folder}/")),
        None => (String::new(), ".".to_owned()),
    };
    let entries = std::fs::read_dir(Path::new(&folder));
    let mut found: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let end = if entry.path().is_dir() { "/" } else { "" };
            Some(format!("{before}{name}{end}"))
        })
        .take(CANDIDATES_MAX)
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_known_by_its_command() {
        assert_eq!(argument("show directory Mo"), Some((Wanted::Directory, 15)));
        assert_eq!(argument("DOWNLOAD FILE "), Some((Wanted::File, 14)));
        assert_eq!(argument("upload file No"), Some((Wanted::Local, 12)));
        assert_eq!(argument("upload No"), Some((Wanted::Local, 7)));
        assert_eq!(argument("show dir"), None);
        assert_eq!(argument("ü"), None);
    }
}
