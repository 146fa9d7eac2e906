//! Builds the requests of menu commands from their arguments.

use std::sync::Arc;

use crate::domain::access::{Access, Grant, Rights};
use crate::domain::error::ErrorCode;
use crate::domain::listing::{ListingFormat, ListingTarget};
use crate::domain::path::GrantedPath;
use crate::domain::request::{Algorithm, Request, UploadBase};
use crate::protocol::menu::path;
use crate::protocol::menu::state::{MenuPending, Prompt};
use crate::protocol::menu::text;
use crate::protocol::text::{first_word, number};

/// Builds the request for a command from the answer to its prompt. The error is the message that
/// ends the command.
pub(super) fn from_answer(
    prompt: Prompt,
    answer: &[u8],
    access: &Access,
    chosen: Option<&GrantedPath>,
) -> Result<(MenuPending, Request), &'static str> {
    let resolve = |unknown| path::resolve(access, chosen, answer, unknown);
    Ok(match prompt {
        Prompt::Directory => {
            let path = path::directory(access, answer)?;
            let request = Request::List {
                target: ListingTarget::Directory(path.clone()),
                format: ListingFormat::Names,
            };
            (MenuPending::EnterDirectory(path), request)
        }
        Prompt::Download => {
            let path = resolve(ErrorCode::NoSuchFile)?;
            (MenuPending::Download, Request::OpenRead { path })
        }
        Prompt::Resume => {
            let path = resolve(ErrorCode::NoSuchFile)?;
            (MenuPending::Resume, Request::OpenRead { path })
        }
        Prompt::Upload => {
            let path = resolve(ErrorCode::NoSuchDirectory)?;
            let pending = MenuPending::CheckUpload(path.clone());
            (pending, Request::CheckUpload { path })
        }
        Prompt::Length(path) => {
            let length = number(answer).ok_or(text::BAD_NUMBER)?;
            let name = path.file_name().to_owned();
            let pending = MenuPending::Create { name, length };
            (pending, create(path, length))
        }
        Prompt::MakeDirectory => {
            let path = resolve(ErrorCode::NoSuchDirectory)?;
            let pending = MenuPending::MakeDirectory(path.file_name().to_owned());
            (pending, Request::MakeDirectory { path })
        }
        Prompt::Checksum => {
            let path = resolve(ErrorCode::NoSuchFile)?;
            let pending = MenuPending::Checksum(path.file_name().to_owned());
            let request = Request::Checksum {
                path,
                algorithm: Algorithm::Sha256,
                start: 0,
                end: None,
            };
            (pending, request)
        }
    })
}

/// Builds the request for PUT FILE from the words after it. If the upload is refused already, its
/// bytes have to be discarded, as they follow without waiting. `None` if there is no valid length.
/// After `NEW`, no existing file is replaced, whatever the user's rights are.
pub(super) fn put_file(
    words: &[u8],
    access: &Access,
    chosen: Option<&GrantedPath>,
) -> Option<(MenuPending, Request)> {
    let (is_new, words) = match first_word(words) {
        (word, rest) if word.eq_ignore_ascii_case(text::NEW.as_bytes()) => (true, rest),
        _ => (false, words),
    };
    let (length, name) = first_word(words);
    let length = number(length)?;
    if name.is_empty() {
        let grant = chosen.map(|path| path.grant.clone());
        let reason = text::refusal(ErrorCode::InvalidName);
        let pending = MenuPending::DiscardPut { length, reason };
        return Some((pending, Request::CheckSpace { grant, length }));
    }
    Some(
        match path::resolve(access, chosen, name, ErrorCode::NoSuchDirectory) {
            Ok(path) => {
                let path = if is_new { without_change(path) } else { path };
                let request = create(path.clone(), length);
                (MenuPending::Put { path, length }, request)
            }
            Err(reason) => {
                let grant = None;
                let pending = MenuPending::DiscardPut { length, reason };
                (pending, Request::CheckSpace { grant, length })
            }
        },
    )
}

/// The same path with the right to upload in place of the right to change, so that nothing is
/// replaced there.
fn without_change(mut path: GrantedPath) -> GrantedPath {
    let Grant {
        name,
        rights,
        path: root,
    } = &*path.grant;
    if rights.change {
        path.grant = Arc::new(Grant {
            name: name.clone(),
            rights: Rights {
                upload: true,
                change: false,
                ..*rights
            },
            path: root.clone(),
        });
    }
    path
}

fn create(path: GrantedPath, length: u64) -> Request {
    Request::Create {
        path,
        length: Some(length),
        base: UploadBase::Empty,
    }
}
