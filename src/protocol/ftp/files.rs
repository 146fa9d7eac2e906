//! Commands on files and directories over the control connection, and the responses to requests.

use crate::domain::error::ErrorCode;
use crate::domain::listing::{FileStatus, ListingFormat, ListingTarget, MlstFacts};
use crate::domain::path::GrantedPath;
use crate::domain::request::{Algorithm, Request, Response};
use crate::protocol::ftp::arguments;
use crate::protocol::ftp::arguments::PathRange;
use crate::protocol::ftp::command::FileCommand;
use crate::protocol::ftp::features::algorithm_name;
use crate::protocol::ftp::listing::time;
use crate::protocol::ftp::path::{AbsolutePath, Location};
use crate::protocol::ftp::reply;
use crate::protocol::ftp::reply::Reply;
use crate::protocol::ftp::state::{
    FtpOutcome, FtpPending, Parameters, StatusPurpose, TransferFlags, TransferKind, View,
};
use crate::protocol::step::{Representation, unexpected_input};
use crate::protocol::text::name;

/// Begins a command. The error is the reply.
pub(super) fn begin(
    command: FileCommand,
    argument: &[u8],
    view: &View<'_>,
    out: &mut Vec<u8>,
) -> Result<FtpOutcome, Reply> {
    match command {
        FileCommand::Allo => allocate(argument, view),
        FileCommand::Avbl => space(argument, view),
        FileCommand::Cdup => {
            let current = view.parameters.current.as_ref();
            let parent = current.and_then(GrantedPath::parent);
            Ok(FtpOutcome::ChangeDirectory(parent))
        }
        FileCommand::Checksum(algorithm) => {
            let range = arguments::path_range(argument).ok_or(reply::BAD_RANGE)?;
            checksum(algorithm, range, false, view)
        }
        // Without a path to the home directory, as in a shell.
        FileCommand::Cwd if argument.is_empty() => Ok(FtpOutcome::ChangeDirectory(None)),
        FileCommand::Cwd => status(StatusPurpose::Cwd, argument, view, out),
        FileCommand::Dele => {
            let path = below_top(argument, view)?;
            Ok(FtpOutcome::Request(
                FtpPending::Remove,
                Request::Remove { path },
            ))
        }
        FileCommand::Hash => {
            let range = PathRange {
                path: argument.to_vec(),
                start: 0,
                end: None,
            };
            checksum(view.parameters.algorithm, range, true, view)
        }
        FileCommand::Mdtm => modification_time(argument, view, out),
        FileCommand::Mfmt => {
            let (modified, path) = arguments::time_and_path(argument).ok_or(reply::BAD_TIME)?;
            set_modified(modified, path, view)
        }
        FileCommand::Mkd => {
            let path = below_top(argument, view)?;
            let pending = FtpPending::MakeDirectory(path.clone());
            Ok(FtpOutcome::Request(
                pending,
                Request::MakeDirectory { path },
            ))
        }
        FileCommand::Mlst => status(StatusPurpose::Mlst, argument, view, out),
        FileCommand::Rmd => {
            let path = below_top(argument, view)?;
            let request = Request::RemoveDirectory { path };
            Ok(FtpOutcome::Request(FtpPending::RemoveDirectory, request))
        }
        FileCommand::Rnfr => status(StatusPurpose::Rnfr, argument, view, out),
        FileCommand::Size if view.parameters.representation == Representation::Ascii => {
            Err(reply::SIZE_NEEDS_IMAGE)
        }
        FileCommand::Size => status(StatusPurpose::Size, argument, view, out),
    }
}

/// RNTO after RNFR.
pub(super) fn rename_to(
    from: Option<GrantedPath>,
    argument: &[u8],
    view: &View<'_>,
) -> Result<FtpOutcome, Reply> {
    let from = from.ok_or(reply::RNFR_FIRST)?;
    let to = below_top(argument, view)?;
    Ok(FtpOutcome::Request(
        FtpPending::Rename,
        Request::Rename { from, to },
    ))
}

/// Resolves a path to be created, removed or renamed: never a granted directory itself.
fn below_top(argument: &[u8], view: &View<'_>) -> Result<GrantedPath, Reply> {
    match view.resolve(argument) {
        Location::Path(path) if path.relative.is_empty() => Err(reply::TOP_IS_FIXED),
        Location::Path(path) => Ok(path),
        Location::Top | Location::Unknown(Some(_)) => Err(reply::TOP_IS_FIXED),
        Location::Unknown(None) => Err(reply::error(ErrorCode::NoSuchDirectory)),
    }
}

/// Requests the status of a path, unless the path alone decides.
fn status(
    purpose: StatusPurpose,
    argument: &[u8],
    view: &View<'_>,
    out: &mut Vec<u8>,
) -> Result<FtpOutcome, Reply> {
    match (view.resolve(argument), purpose) {
        (Location::Path(path), StatusPurpose::Rnfr) if path.relative.is_empty() => {
            Err(reply::TOP_IS_FIXED)
        }
        (Location::Path(path), purpose) => Ok(FtpOutcome::Request(
            FtpPending::Status(purpose, path.clone()),
            Request::Status { path },
        )),
        (Location::Top, StatusPurpose::Cwd) => Ok(FtpOutcome::ChangeDirectory(None)),
        (Location::Top, StatusPurpose::Mlst) => {
            reply::append_top_facts(out, view.parameters.facts);
            Ok(FtpOutcome::Ready)
        }
        (Location::Top, StatusPurpose::Rnfr) => Err(reply::TOP_IS_FIXED),
        (Location::Top, _) => Err(reply::IS_DIRECTORY),
        (Location::Unknown(_), StatusPurpose::Cwd) => Err(reply::error(ErrorCode::NoSuchDirectory)),
        (Location::Unknown(_), _) => Err(reply::error(ErrorCode::NoSuchFile)),
    }
}

/// AVBL: reads the space left in a directory.
fn space(argument: &[u8], view: &View<'_>) -> Result<FtpOutcome, Reply> {
    match view.resolve(argument) {
        Location::Top => Err(reply::AVBL_NEEDS_DIRECTORY),
        Location::Path(path) => Ok(FtpOutcome::Request(
            FtpPending::Space,
            Request::Space { path },
        )),
        Location::Unknown(_) => Err(reply::error(ErrorCode::NoSuchDirectory)),
    }
}

/// ALLO: checks the space in the current directory, as nothing is allocated in advance.
fn allocate(argument: &[u8], view: &View<'_>) -> Result<FtpOutcome, Reply> {
    let length = arguments::allocation(argument).ok_or(reply::BAD_NUMBER)?;
    let Some(path) = view.parameters.current.clone() else {
        return Ok(FtpOutcome::Allocation(length));
    };
    let grant = Some(path.grant.clone());
    Ok(FtpOutcome::Request(
        FtpPending::Allocation(path, length),
        Request::CheckSpace { grant, length },
    ))
}

/// MDTM. A time before a path sets that file's time, as clients expect, but the whole argument is
/// a path first (RFC 3659, 3.1).
fn modification_time(
    argument: &[u8],
    view: &View<'_>,
    out: &mut Vec<u8>,
) -> Result<FtpOutcome, Reply> {
    let Some((modified, path)) = arguments::time_and_path(argument) else {
        return status(StatusPurpose::Mdtm, argument, view, out);
    };
    let setting = set_modified(modified, path, view);
    match view.resolve(argument) {
        Location::Path(path) => Ok(FtpOutcome::Request(
            FtpPending::MdtmOrSet(Box::new(setting)),
            Request::Status { path },
        )),
        Location::Top | Location::Unknown(_) => setting,
    }
}

fn set_modified(modified: i64, path: &[u8], view: &View<'_>) -> Result<FtpOutcome, Reply> {
    match view.resolve(path) {
        Location::Path(target) if !target.relative.is_empty() => {
            let pending = FtpPending::SetModified(name(path));
            let request = Request::SetModified {
                path: target,
                modified,
            };
            Ok(FtpOutcome::Request(pending, request))
        }
        Location::Unknown(_) => Err(reply::error(ErrorCode::NoSuchFile)),
        Location::Path(_) | Location::Top => Err(reply::TOP_IS_FIXED),
    }
}

fn checksum(
    algorithm: Algorithm,
    range: PathRange,
    is_hash: bool,
    view: &View<'_>,
) -> Result<FtpOutcome, Reply> {
    let Location::Path(path) = view.resolve(&range.path) else {
        return Err(reply::error(ErrorCode::NoSuchFile));
    };
    let pending = FtpPending::Checksum {
        path: name(&range.path),
        is_hash,
    };
    let request = Request::Checksum {
        path,
        algorithm,
        start: range.start,
        end: range.end,
    };
    Ok(FtpOutcome::Request(pending, request))
}

/// Handles the response to a request. The error is the reply.
pub(super) fn respond(
    pending: FtpPending,
    response: Response,
    parameters: &Parameters,
    out: &mut Vec<u8>,
) -> Result<FtpOutcome, Reply> {
    match (pending, response) {
        (
            FtpPending::MdtmOrSet(setting),
            Response::Refused(ErrorCode::NoSuchFile | ErrorCode::NoSuchDirectory),
        ) => return *setting,
        (FtpPending::MdtmOrSet(_), Response::Status(status)) => append_time(out, &status)?,
        (pending, Response::Refused(code)) => return refused(pending, code, out),
        (FtpPending::Status(purpose, path), Response::Status(status)) => {
            return found(purpose, path, status, parameters, out);
        }
        (FtpPending::Rename, Response::Done) => reply::append(out, reply::RENAMED),
        (FtpPending::Remove, Response::Done) => reply::append(out, reply::DELETED),
        (FtpPending::RemoveDirectory, Response::Done) => {
            reply::append(out, reply::DIRECTORY_REMOVED);
        }
        (FtpPending::MakeDirectory(path), Response::DirectoryCreated) => {
            reply::append_directory_created(out, AbsolutePath(Some(&path)));
        }
        (FtpPending::SetModified(path), Response::Modified(modified)) => {
            reply::append_modified(out, time(modified), &path);
        }
        (FtpPending::Checksum { path, is_hash }, Response::Checksum { digest, end }) => {
            let algorithm = algorithm_name(parameters.algorithm);
            match is_hash {
                true => reply::append_hash(out, algorithm, end, &digest, &path),
                false => reply::append_digest(out, &digest),
            }
        }
        (FtpPending::Space, Response::Space(u64::MAX)) => return Err(reply::SPACE_UNKNOWN),
        (FtpPending::Space, Response::Space(left)) => reply::append_value(out, left),
        (FtpPending::Allocation(_, length), Response::Allowed) => {
            return Ok(FtpOutcome::Allocation(length));
        }
        (FtpPending::SpaceLeft { code, flags }, Response::Space(left)) => {
            match left {
                u64::MAX => reply::append(out, reply::error(code)),
                left => reply::append_no_space(out, code, left),
            }
            return Ok(FtpOutcome::EndTransfer(flags));
        }
        (pending, response) => return opened(pending, response, out),
    }
    Ok(FtpOutcome::Ready)
}

/// Handles the response that opens a file or listing, or creates an upload. The error is the reply.
fn opened(pending: FtpPending, response: Response, out: &mut Vec<u8>) -> Result<FtpOutcome, Reply> {
    match (pending, response) {
        (FtpPending::StatusListing, Response::Listing { length, .. }) => {
            reply::begin_status_listing(out);
            Ok(FtpOutcome::SendStatusListing { length })
        }
        (FtpPending::Listing, Response::Listing { length, .. }) => {
            Ok(FtpOutcome::Connect(TransferKind::Listing(length)))
        }
        (FtpPending::Download { restart }, Response::Opened { length }) => {
            download(restart, length)
        }
        (FtpPending::Upload(path, allocation), Response::Created) => {
            Ok(FtpOutcome::Connect(TransferKind::Upload {
                path,
                unique_name: None,
                allocation,
            }))
        }
        (FtpPending::Upload(path, allocation), Response::CreatedUnique { name }) => {
            Ok(FtpOutcome::Connect(TransferKind::Upload {
                path,
                unique_name: Some(name),
                allocation,
            }))
        }
        (pending, _) => unexpected_input(&pending),
    }
}

fn download(restart: u64, length: u64) -> Result<FtpOutcome, Reply> {
    let length = length.checked_sub(restart).ok_or(reply::BEYOND_END)?;
    let offset = restart;
    Ok(FtpOutcome::Connect(TransferKind::Download {
        offset,
        length,
    }))
}

fn refused(pending: FtpPending, code: ErrorCode, out: &mut Vec<u8>) -> Result<FtpOutcome, Reply> {
    match (pending, code) {
        (
            FtpPending::Status(StatusPurpose::Cwd, _) | FtpPending::RemoveDirectory,
            ErrorCode::NoSuchFile,
        ) => Err(reply::error(ErrorCode::NoSuchDirectory)),
        (FtpPending::MakeDirectory(_), ErrorCode::FileExists) => Err(reply::MKD_FILE_EXISTS),
        (FtpPending::MakeDirectory(_), ErrorCode::InvalidName) => Err(reply::MKD_BAD_NAME),
        (FtpPending::MakeDirectory(_), ErrorCode::HiddenDenied) => Err(reply::MKD_HIDDEN_NAME),
        (
            FtpPending::Allocation(path, _),
            ErrorCode::NoSpace | ErrorCode::OverQuota | ErrorCode::TooLarge,
        ) => {
            let flags = TransferFlags::default();
            let pending = FtpPending::SpaceLeft { code, flags };
            Ok(FtpOutcome::Request(pending, Request::Space { path }))
        }
        // The space left is unknown; the first error stays.
        (FtpPending::SpaceLeft { code, flags }, _) => {
            reply::append(out, reply::error(code));
            Ok(FtpOutcome::EndTransfer(flags))
        }
        (_, code) => Err(reply::error(code)),
    }
}

/// Handles the status of a file or directory.
fn found(
    purpose: StatusPurpose,
    path: GrantedPath,
    status: FileStatus,
    parameters: &Parameters,
    out: &mut Vec<u8>,
) -> Result<FtpOutcome, Reply> {
    match purpose {
        StatusPurpose::Cwd if status.is_directory => Ok(FtpOutcome::ChangeDirectory(Some(path))),
        StatusPurpose::Cwd => Err(reply::error(ErrorCode::NoSuchDirectory)),
        StatusPurpose::Mlsd if status.is_directory => {
            let request = Request::List {
                target: ListingTarget::Directory(path),
                format: ListingFormat::Facts(parameters.facts),
            };
            Ok(FtpOutcome::Request(FtpPending::Listing, request))
        }
        StatusPurpose::Mlsd => Err(reply::NOT_A_DIRECTORY),
        StatusPurpose::Mlst => {
            let facts = MlstFacts {
                of_top: path.relative.is_empty(),
                ..parameters.facts
            };
            let rights = path.grant.rights;
            reply::append_entry_facts(out, facts, &status, rights, AbsolutePath(Some(&path)));
            Ok(FtpOutcome::Ready)
        }
        StatusPurpose::Rnfr => Ok(FtpOutcome::RenameFrom(path)),
        StatusPurpose::Size if status.is_directory => Err(reply::IS_DIRECTORY),
        StatusPurpose::Restart(offset) if offset > status.size => Err(reply::BEYOND_END),
        StatusPurpose::Restart(_) => Err(reply::NO_DATA_ADDRESS),
        StatusPurpose::Size => {
            reply::append_value(out, status.size);
            Ok(FtpOutcome::Ready)
        }
        StatusPurpose::Mdtm => append_time(out, &status).map(|()| FtpOutcome::Ready),
    }
}

/// Appends the reply to MDTM, which has to refuse a directory (RFC 3659, 3.1).
fn append_time(out: &mut Vec<u8>, status: &FileStatus) -> Result<(), Reply> {
    match status.is_directory {
        true => Err(reply::IS_DIRECTORY),
        false => {
            reply::append_value(out, time(status.modified));
            Ok(())
        }
    }
}
