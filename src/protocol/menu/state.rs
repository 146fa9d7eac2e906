//! The states of a menu session.

use crate::domain::path::GrantedPath;
use crate::protocol::menu::text;

/// The event that a menu session waits for.
#[derive(Debug)]
pub(super) enum MenuState {
    /// The first input.
    New,
    /// A command.
    Command,
    /// The answer to the prompt for the username.
    Username,
    /// The password of this user.
    Password(String),
    /// The answer to the prompt of a command.
    Prompt(Prompt),
    /// The offset of RESUME DOWNLOAD, in an opened file of this length.
    Offset(u64),
    /// The response to a request.
    Request(MenuPending),
    /// The end of a transfer.
    Transfer(MenuTransfer),
    /// Nothing: the session has closed.
    Closed,
}

impl MenuState {
    /// Whether the session waits for a line and nothing else.
    pub(super) fn awaits_line(&self) -> bool {
        match self {
            MenuState::Command
            | MenuState::Username
            | MenuState::Password(_)
            | MenuState::Prompt(_)
            | MenuState::Offset(_) => true,
            MenuState::New | MenuState::Request(_) | MenuState::Transfer(_) | MenuState::Closed => {
                false
            }
        }
    }
}

/// A prompt of a command; an empty answer cancels the command.
#[derive(Debug)]
pub(super) enum Prompt {
    Directory,
    Download,
    Resume,
    Upload,
    /// The length of an upload to this path.
    Length(GrantedPath),
    MakeDirectory,
    Checksum,
}

impl Prompt {
    /// The prompt's text.
    pub(super) fn text(&self) -> &'static str {
        match self {
            Prompt::Directory => text::ENTER_DIRECTORY,
            Prompt::Download | Prompt::Resume => text::CHOOSE_FILE,
            Prompt::Upload => text::ENTER_UPLOAD,
            Prompt::Length(_) => text::ENTER_LENGTH,
            Prompt::MakeDirectory => text::ENTER_NEW_DIRECTORY,
            Prompt::Checksum => text::CHOOSE_CHECKSUM,
        }
    }
}

/// The open request, with what its response does not repeat.
#[derive(Debug)]
pub(super) enum MenuPending {
    LookUpUser(String),
    Authenticate,
    EnterDirectory(GrantedPath),
    Details,
    Download,
    Resume,
    CheckUpload(GrantedPath),
    Create {
        name: String,
        length: u64,
    },
    Put {
        path: GrantedPath,
        length: u64,
    },
    /// The check whether the bytes of a refused PUT FILE can be discarded; `reason` is the refusal.
    DiscardPut {
        length: u64,
        reason: &'static str,
    },
    Quota,
    /// The name of the new directory.
    MakeDirectory(String),
    /// The name of the file.
    Checksum(String),
}

/// The transfer in progress, with what is needed for the message after it.
#[derive(Debug)]
pub(super) enum MenuTransfer {
    /// The names of a directory, on a line that has been begun.
    Names,
    /// A file, or the details of a directory.
    Download,
    /// An upload.
    Upload { name: String, length: u64 },
    /// The bytes of an upload that was refused for this reason.
    Discard(&'static str),
}
