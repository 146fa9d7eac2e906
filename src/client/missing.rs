//! Why the server has nothing at a path: a directory where a file is expected, or a mistyped name.

use crate::client::error::ClientError;
use crate::client::sanitized::Sanitized;
use crate::client::tree::RemoteTree;
use crate::domain::error::ErrorCode;
use crate::domain::suggestion::Suggestion;
use crate::protocol::menu::text;

/// The failure of a path that begins with `/`.
pub(super) const LEADING_SLASH: &str =
    "a path begins with the name of a directory; omit the leading '/'";

const NO_DIRECTORY: &str = text::refusal(ErrorCode::NoSuchDirectory);

/// The names of a directory that are compared with a missing one.
const COMPARED_NAMES_MAX: usize = 10_000;

/// What the server has at a path where it has no file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// A directory.
    IsDirectory,
    /// Nothing: the server's refusal, with the missing part and a similar name.
    Nothing(String),
}

impl Missing {
    /// Finds out why the server refused `path` for this reason.
    pub(super) fn explain(
        tree: &mut RemoteTree<'_>,
        path: &str,
        refusal: &'static str,
    ) -> Result<Missing, ClientError> {
        if ![NO_DIRECTORY, text::refusal(ErrorCode::NoSuchFile)].contains(&refusal) {
            return Ok(Missing::Nothing(refusal.to_owned()));
        }
        let (first, below) = path.split_once('/').unwrap_or((path, ""));
        let granted = tree.granted_directories()?;
        let names = || granted.iter().map(|entry| entry.path.as_str());
        if !names().any(|name| name == first) {
            let suggestion = sanitized(&Suggestion::new(first, names()));
            let first = Sanitized(first);
            let what = match below {
                "" => format!("{refusal}{suggestion}"),
                _ if refusal == NO_DIRECTORY => format!("{refusal}: '{first}'{suggestion}"),
                _ => format!("{refusal}: there is no directory '{first}'{suggestion}"),
            };
            return Ok(Missing::Nothing(what));
        }
        let is_listed = |refusals: Vec<Option<&'static str>>| refusals == [None];
        if is_listed(tree.list(&[path.to_owned()], |_, _| ())?) {
            return Ok(Missing::IsDirectory);
        }
        let Some((parent, name)) = path.rsplit_once('/') else {
            return Ok(Missing::Nothing(refusal.to_owned()));
        };
        let mut names = Vec::new();
        tree.list(&[parent.to_owned()], |_, entry| {
            if names.len() < COMPARED_NAMES_MAX {
                names.push(entry.name.to_owned());
            }
        })?;
        let suggestion = Suggestion::new(name, names.iter().map(String::as_str));
        let suggestion = sanitized(&suggestion);
        Ok(Missing::Nothing(format!("{refusal}{suggestion}")))
    }
}

/// The name that is suggested comes from the server.
fn sanitized(suggestion: &Suggestion) -> Suggestion {
    match suggestion.candidate() {
        Some(name) => Suggestion::of(Sanitized(name).to_string()),
        None => Suggestion::default(),
    }
}
