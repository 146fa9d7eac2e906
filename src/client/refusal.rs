//! Refused uploads whose reason the server's message does not tell completely.

use crate::client::connection::ClientConnection;
use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::missing::Missing;
use crate::client::progress::TransferProgress;
use crate::client::quota::{explain_no_room, request_quotas};
use crate::client::sanitized::Sanitized;
use crate::client::tree::RemoteTree;
use crate::domain::error::ErrorCode;
use crate::domain::request::QuotaUsage;
use crate::protocol::menu::text;

const NO_ROOM: &str = text::refusal(ErrorCode::NoSpace);
const NO_DIRECTORY: &str = text::refusal(ErrorCode::NoSuchDirectory);

/// An upload that the server refused.
#[derive(Debug)]
pub(super) struct RefusedUpload {
    /// The path on the server.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// Why it was refused.
    pub(super) refusal: Refusal,
}

/// The reasons that are explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A disk or a quota is full.
    NoRoom,
    /// The directory does not exist, as far as the user may know.
    NoDirectory,
}

impl Refusal {
    /// Recognizes a refusal that can be explained.
    pub(super) fn of(error: &ClientError) -> Option<Refusal> {
        match error {
            ClientError::Refused(NO_ROOM) => Some(Refusal::NoRoom),
            ClientError::Aborted(reason) if reason == NO_ROOM => Some(Refusal::NoRoom),
            ClientError::Refused(NO_DIRECTORY) => Some(Refusal::NoDirectory),
            _ => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Refusal::NoRoom => NO_ROOM,
            Refusal::NoDirectory => NO_DIRECTORY,
        }
    }
}

/// Reports refused uploads with what the server says about quotas and directories. The server may
/// have closed the connections on which it refused them, so another one is opened.
pub(super) fn report(login: &RemoteLogin, refused: &[RefusedUpload], progress: &TransferProgress) {
    if refused.is_empty() {
        return;
    }
    let mut explainer = Explainer {
        connection: ClientConnection::open(login).ok(),
        quotas: None,
        directory: None,
    };
    for upload in refused {
        let reason = explainer.explain(upload);
        progress.report_failure(Sanitized(&upload.path), reason);
    }
    if let Some(connection) = explainer.connection {
        connection.quit();
    }
}

/// A connection and what the server has said over it.
struct Explainer {
    /// `None` if it could not be opened.
    connection: Option<ClientConnection>,
    quotas: Option<Vec<QuotaUsage>>,
    /// The directory that was explained last, since the files of a run share one.
    directory: Option<(String, String)>,
}

impl Explainer {
    fn explain(&mut self, upload: &RefusedUpload) -> String {
        let fallback = upload.refusal.text().to_owned();
        let parent = parent_of(&upload.path);
        match (upload.refusal, &self.quotas, &self.directory) {
            (Refusal::NoRoom, Some(quotas), _) => {
                return explain_no_room(&upload.path, upload.size, quotas);
            }
            (Refusal::NoDirectory, _, Some((directory, reason))) if directory == parent => {
                return reason.clone();
            }
            _ => {}
        }
        let Some(connection) = &mut self.connection else {
            return fallback;
        };
        let explained = match upload.refusal {
            Refusal::NoRoom => request_quotas(connection).map(|quotas| {
                let explained = explain_no_room(&upload.path, upload.size, &quotas);
                self.quotas = Some(quotas);
                explained
            }),
            Refusal::NoDirectory => explain_directory(connection, parent).inspect(|reason| {
                self.directory = Some((parent.to_owned(), reason.clone()));
            }),
        };
        explained.unwrap_or_else(|_| {
            self.connection = None;
            fallback
        })
    }
}

fn explain_directory(
    connection: &mut ClientConnection,
    directory: &str,
) -> Result<String, ClientError> {
    let mut tree = RemoteTree::new(connection);
    Ok(
        match Missing::explain(&mut tree, directory, NO_DIRECTORY)? {
            Missing::Nothing(reason) => reason,
            // It was created since.
            Missing::IsDirectory => NO_DIRECTORY.to_owned(),
        },
    )
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
