//! Data connections and the transfers over them (RFC 959, 4.1.2 and 5.2).

use std::net::{IpAddr, SocketAddr};

use crate::domain::error::ErrorCode;
use crate::domain::glob::is_pattern;
use crate::domain::listing::{ListingFormat, ListingTarget, MlstFacts};
use crate::domain::request::{Request, UploadBase};
use crate::protocol::ftp::arguments;
use crate::protocol::ftp::arguments::ExtendedPort;
use crate::protocol::ftp::command::{DataAddressCommand, TransferCommand};
use crate::protocol::ftp::path::Location;
use crate::protocol::ftp::reply;
use crate::protocol::ftp::reply::Reply;
use crate::protocol::ftp::state::{
    FtpOutcome, FtpPending, FtpTransfer, Parameters, StatusPurpose, TransferKind, View,
};
use crate::protocol::step::{Action, Representation};
use crate::protocol::text::{name, trim};

/// Privileged ports, which active mode never connects to (RFC 2577, 3).
const RESERVED_PORTS_END: u16 = 1024;

/// EPSV, PASV, EPRT or PORT. `peer` is the client's end of the control connection, and
/// `active_allowed` the refusal of EPRT and PORT, if any; the error is the reply.
pub(super) fn data_address(
    command: DataAddressCommand,
    argument: &[u8],
    peer: SocketAddr,
    active_allowed: Result<(), Reply>,
    parameters: &Parameters,
) -> Result<FtpOutcome, Reply> {
    if parameters.is_epsv_only && command != DataAddressCommand::Epsv {
        return Err(reply::EPSV_ONLY);
    }
    match command {
        DataAddressCommand::Epsv => extended_passive(argument, peer.ip()),
        DataAddressCommand::Pasv if peer.is_ipv6() => Err(reply::PASV_NEEDS_IPV4),
        DataAddressCommand::Pasv => Ok(FtpOutcome::Listen { extended: false }),
        DataAddressCommand::Eprt => {
            active_allowed?;
            match arguments::extended_port(argument) {
                None => Err(reply::BAD_ADDRESS),
                Some(ExtendedPort::Address(address)) if address.is_ipv4() == peer.is_ipv4() => {
                    active(address, peer)
                }
                Some(_) => Err(reply::needs_family(peer.ip())),
            }
        }
        DataAddressCommand::Port => {
            active_allowed?;
            let address = arguments::port(argument).ok_or(reply::BAD_ADDRESS)?;
            active(address, peer)
        }
    }
}

/// EPSV (RFC 2428, 3).
fn extended_passive(argument: &[u8], own: IpAddr) -> Result<FtpOutcome, Reply> {
    match (trim(argument), own) {
        (b"", _) | (b"1", IpAddr::V4(_)) | (b"2", IpAddr::V6(_)) => {
            Ok(FtpOutcome::Listen { extended: true })
        }
        (all, _) if all.eq_ignore_ascii_case(b"ALL") => Ok(FtpOutcome::EpsvOnly),
        (family, _) if arguments::number(family).is_none() => Err(reply::BAD_ADDRESS),
        (_, own) => Err(reply::needs_family(own)),
    }
}

/// Accepts an address for active mode: the client's own, and no reserved port (RFC 2577, 3).
fn active(address: SocketAddr, peer: SocketAddr) -> Result<FtpOutcome, Reply> {
    if address.port() < RESERVED_PORTS_END {
        return Err(reply::RESERVED_PORT);
    }
    if address.ip().to_canonical() != peer.ip() {
        return Err(reply::FOREIGN_ADDRESS);
    }
    // From the control connection, as EPRT cannot express the scope of a link-local address.
    let mut own = peer;
    own.set_port(address.port());
    Ok(FtpOutcome::ActiveAddress(own))
}

/// REST (RFC 3659, 5.3).
pub(super) fn restart(
    argument: &[u8],
    representation: Representation,
) -> Result<FtpOutcome, Reply> {
    let offset = arguments::number(argument).ok_or(reply::BAD_NUMBER)?;
    match representation {
        Representation::Ascii if offset > 0 => Err(reply::REST_NEEDS_IMAGE),
        _ => Ok(FtpOutcome::Restart(offset)),
    }
}

/// Begins a command that needs a data connection, which is made only when the request succeeds.
/// `restart` is the offset of REST. The error is the reply; it leaves the data connection to the
/// next command.
pub(super) fn begin(
    command: TransferCommand,
    argument: &[u8],
    restart: u64,
    view: &View<'_>,
) -> Result<FtpOutcome, Reply> {
    let is_ascii = view.parameters.representation == Representation::Ascii;
    match command {
        TransferCommand::Appe | TransferCommand::Stou if restart > 0 => {
            return Err(reply::REST_UNSUPPORTED);
        }
        _ if restart > 0 && is_ascii => return Err(reply::REST_NEEDS_IMAGE),
        _ if view.parameters.data_mode.is_none() => {
            return without_data_address(command, argument, restart, view);
        }
        _ => {}
    }
    match command {
        TransferCommand::List => list(ListingFormat::Long, argument, view),
        TransferCommand::Nlst => list(ListingFormat::Lines, argument, view),
        TransferCommand::Mlsd => list_facts(argument, view),
        TransferCommand::Retr => match view.resolve(argument) {
            Location::Path(path) => Ok(FtpOutcome::Request(
                FtpPending::Download { restart },
                Request::OpenRead { path },
            )),
            Location::Top | Location::Unknown(_) => Err(reply::error(ErrorCode::NoSuchFile)),
        },
        TransferCommand::Stou => store_unique(argument, view),
        TransferCommand::Appe => store(UploadBase::Whole, argument, view),
        TransferCommand::Stor if restart > 0 => store(UploadBase::Prefix(restart), argument, view),
        TransferCommand::Stor => store(UploadBase::Empty, argument, view),
    }
}

/// Refuses a transfer without PASV, EPSV, PORT or EPRT before it. Reasons that these commands would
/// not remove come first.
fn without_data_address(
    command: TransferCommand,
    argument: &[u8],
    restart: u64,
    view: &View<'_>,
) -> Result<FtpOutcome, Reply> {
    match (command, view.resolve(argument)) {
        (
            TransferCommand::Appe | TransferCommand::Stor | TransferCommand::Stou,
            Location::Path(path),
        ) if !path.grant.rights.may_add() => Err(reply::error(ErrorCode::UploadDenied)),
        (TransferCommand::Stor, Location::Path(path)) if restart > 0 && !path.grant.rights.read => {
            Err(reply::error(ErrorCode::ReadDenied))
        }
        (TransferCommand::Retr | TransferCommand::Stor, Location::Path(path)) if restart > 0 => {
            let pending = FtpPending::Status(StatusPurpose::Restart(restart), path.clone());
            Ok(FtpOutcome::Request(pending, Request::Status { path }))
        }
        _ => Err(reply::NO_DATA_ADDRESS),
    }
}

/// STAT with a path: a listing over the control connection.
pub(super) fn status_listing(argument: &[u8], view: &View<'_>) -> Result<FtpOutcome, Reply> {
    let target = listing_target(argument, view).map_err(reply::error)?;
    let format = ListingFormat::Long;
    Ok(FtpOutcome::Request(
        FtpPending::StatusListing,
        Request::List { target, format },
    ))
}

/// LIST or NLST.
fn list(format: ListingFormat, argument: &[u8], view: &View<'_>) -> Result<FtpOutcome, Reply> {
    let target = listing_target(argument, view).map_err(reply::error)?;
    Ok(FtpOutcome::Request(
        FtpPending::Listing,
        Request::List { target, format },
    ))
}

/// Returns the target of LIST, NLST or STAT: a directory, a file or a pattern.
fn listing_target(argument: &[u8], view: &View<'_>) -> Result<ListingTarget, ErrorCode> {
    let argument = arguments::without_options(argument);
    let top = |pattern| ListingTarget::Top {
        access: view.access.clone(),
        pattern,
    };
    match view.resolve(argument) {
        Location::Top => Ok(top(None)),
        Location::Path(path) => {
            let glob = is_pattern(path.file_name());
            let argument = name(argument);
            let prefix = match argument.rsplit_once('/') {
                Some((prefix, last)) if !last.is_empty() => format!("{prefix}/"),
                _ => String::new(),
            };
            Ok(ListingTarget::Path { path, prefix, glob })
        }
        Location::Unknown(Some(pattern)) if is_pattern(&pattern) => Ok(top(Some(pattern))),
        Location::Unknown(_) => Err(ErrorCode::NoSuchDirectory),
    }
}

/// MLSD (RFC 3659, 7), which has to refuse a file.
fn list_facts(argument: &[u8], view: &View<'_>) -> Result<FtpOutcome, Reply> {
    match view.resolve(argument) {
        Location::Top => {
            let facts = MlstFacts {
                of_top: true,
                ..view.parameters.facts
            };
            let request = Request::List {
                target: ListingTarget::Top {
                    access: view.access.clone(),
                    pattern: None,
                },
                format: ListingFormat::Facts(facts),
            };
            Ok(FtpOutcome::Request(FtpPending::Listing, request))
        }
        Location::Path(path) => Ok(FtpOutcome::Request(
            FtpPending::Status(StatusPurpose::Mlsd, path.clone()),
            Request::Status { path },
        )),
        Location::Unknown(_) => Err(reply::error(ErrorCode::NoSuchDirectory)),
    }
}

/// STOR or APPE.
fn store(base: UploadBase, argument: &[u8], view: &View<'_>) -> Result<FtpOutcome, Reply> {
    match view.resolve(argument) {
        Location::Path(path) => {
            let restart = match base {
                UploadBase::Prefix(restart) => restart,
                UploadBase::Empty | UploadBase::Whole => 0,
            };
            let pending = FtpPending::Upload(path.clone(), view.allocation(restart));
            let length = None;
            let request = Request::Create { path, length, base };
            Ok(FtpOutcome::Request(pending, request))
        }
        location => Err(upload_refusal(&location)),
    }
}

/// STOU: in the current directory, or in the one that would contain the named file.
fn store_unique(argument: &[u8], view: &View<'_>) -> Result<FtpOutcome, Reply> {
    let directory = match argument {
        b"" => (view.parameters.current.clone()).map_or(Location::Top, Location::Path),
        argument => match view.resolve(argument) {
            Location::Path(path) => path.parent().map_or(Location::Top, Location::Path),
            location => location,
        },
    };
    match directory {
        Location::Path(directory) => {
            let pending = FtpPending::Upload(directory.clone(), view.allocation(0));
            let request = Request::CreateUnique { directory };
            Ok(FtpOutcome::Request(pending, request))
        }
        location => Err(upload_refusal(&location)),
    }
}

/// Returns the reply to an upload to a location outside the granted directories.
fn upload_refusal(location: &Location) -> Reply {
    match location {
        Location::Unknown(None) => reply::error(ErrorCode::NoSuchDirectory),
        _ => reply::TOP_IS_FIXED,
    }
}

/// Replies to PASV or EPSV with the reserved address. The error is the reply instead.
pub(super) fn append_passive(
    extended: bool,
    address: Result<SocketAddr, ErrorCode>,
    out: &mut Vec<u8>,
) -> Result<(), Reply> {
    match address.map_err(reply::error)? {
        address if extended => reply::append_extended_passive(out, address.port()),
        SocketAddr::V4(address) => reply::append_passive(out, address),
        // The operator may announce an IPv6 address to IPv4 clients.
        SocketAddr::V6(_) => return Err(reply::PASV_NEEDS_IPV4),
    }
    Ok(())
}

/// Starts a transfer over its new data connection: appends the 150 reply and returns the action.
pub(super) fn start(transfer: &FtpTransfer, out: &mut Vec<u8>) -> Action {
    let representation = transfer.representation;
    match &transfer.kind {
        &TransferKind::Listing(length) => {
            reply::append(out, reply::SENDING_LISTING);
            let offset = 0;
            Action::SendData {
                representation,
                offset,
                length,
            }
        }
        &TransferKind::Download { offset, length } => {
            match representation {
                Representation::Image => reply::append_sending(out, length),
                Representation::Ascii => reply::append(out, reply::SENDING_ASCII),
            }
            Action::SendData {
                representation,
                offset,
                length,
            }
        }
        TransferKind::Upload {
            unique_name,
            allocation,
            ..
        } => {
            match unique_name {
                Some(name) => reply::append_receiving_as(out, name),
                None => reply::append(out, reply::READY_TO_RECEIVE),
            }
            Action::ReceiveData {
                representation,
                allocation: *allocation,
            }
        }
    }
}

/// Handles the end of a transfer. For lack of space the reply also has the space that is left.
pub(super) fn end(
    transfer: FtpTransfer,
    result: Result<(), ErrorCode>,
    out: &mut Vec<u8>,
) -> FtpOutcome {
    let flags = transfer.flags;
    match (result, transfer.kind) {
        (
            Err(code @ (ErrorCode::NoSpace | ErrorCode::OverQuota | ErrorCode::TooLarge)),
            TransferKind::Upload { path, .. },
        ) => {
            let pending = FtpPending::SpaceLeft { code, flags };
            return FtpOutcome::Request(pending, Request::Space { path });
        }
        (Err(code), _) => reply::append(out, reply::error(code)),
        (Ok(()), TransferKind::Upload { unique_name, .. }) => match unique_name {
            Some(name) => reply::append_stored_as(out, &name),
            None => reply::append(out, reply::UPLOAD_COMPLETE),
        },
        (Ok(()), TransferKind::Listing(_) | TransferKind::Download { .. }) => {
            reply::append(out, reply::TRANSFER_COMPLETE);
        }
    }
    FtpOutcome::EndTransfer(flags)
}

/// Returns the representation of a transfer: listings have CR LF already.
pub(super) fn representation(kind: &TransferKind, selected: Representation) -> Representation {
    match kind {
        TransferKind::Listing(_) => Representation::Image,
        TransferKind::Download { .. } | TransferKind::Upload { .. } => selected,
    }
}
