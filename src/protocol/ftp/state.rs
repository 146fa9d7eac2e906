//! All state of an FTP session, and the results of commands that change it.
//!
//! The functions of `files` and `transfer` read the state and return an [`FtpOutcome`]; only the
//! session changes the state.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::domain::access::Access;
use crate::domain::error::ErrorCode;
use crate::domain::listing::MlstFacts;
use crate::domain::path::GrantedPath;
use crate::domain::request::{Algorithm, Request};
use crate::protocol::ftp::arguments::FtpOption;
use crate::protocol::ftp::path::{Location, resolve};
use crate::protocol::ftp::reply::Reply;
use crate::protocol::step::{Allocation, DataMode, Representation};

/// The event that an FTP session waits for.
#[derive(Debug)]
pub(super) enum FtpState {
    /// The first input.
    New,
    /// A command.
    Ready,
    /// The response to an authentication.
    Authenticating,
    /// The response to another request.
    Request(FtpPending),
    /// The passive address, for the reply to EPSV if `extended`, otherwise to PASV.
    Listening { extended: bool },
    /// The data connection or the end of the transfer. Lines are still read.
    Transferring(FtpTransfer),
    /// The number of bytes transferred, for STAT during a transfer.
    Progress(FtpTransfer),
    /// The end of a listing over the control connection, for STAT with a path.
    StatusListing,
    /// The release of a passive port that is no longer needed.
    ReleasingData,
    /// Nothing: the session has closed.
    Closed,
}

/// The parameters that commands set for later commands.
#[derive(Debug)]
pub(super) struct Parameters {
    /// The current directory; `None` is `/`.
    pub(super) current: Option<GrantedPath>,
    pub(super) representation: Representation,
    /// How the next data connection is made.
    pub(super) data_mode: Option<DataMode>,
    /// EPSV ALL was sent.
    pub(super) is_epsv_only: bool,
    /// The offset of REST, for the next transfer.
    pub(super) restart: u64,
    /// The bytes of ALLO, for the next upload.
    pub(super) allocation: Option<u64>,
    /// The path of RNFR, for RNTO.
    pub(super) rename_from: Option<GrantedPath>,
    /// The facts of MLST and MLSD.
    pub(super) facts: MlstFacts,
    /// The algorithm of HASH.
    pub(super) algorithm: Algorithm,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            current: None,
            representation: Representation::Ascii,
            data_mode: None,
            is_epsv_only: false,
            restart: 0,
            allocation: None,
            rename_from: None,
            facts: MlstFacts {
                kind: true,
                size: true,
                modify: true,
                perm: true,
                unique: false,
                of_top: false,
            },
            algorithm: Algorithm::Sha256,
        }
    }
}

/// The part of the state that the commands of a logged-in user read.
pub(super) struct View<'a> {
    pub(super) access: &'a Arc<Access>,
    pub(super) parameters: &'a Parameters,
}

impl View<'_> {
    /// Resolves a path relative to the current directory.
    pub(super) fn resolve(&self, path: &[u8]) -> Location {
        resolve(self.access, self.parameters.current.as_ref(), path)
    }

    /// Returns the announced length of an upload from the offset `restart` on.
    pub(super) fn allocation(&self, restart: u64) -> Option<Allocation> {
        let bytes = self.parameters.allocation?;
        Some(Allocation { bytes, restart })
    }
}

/// The open request, with what its response does not repeat.
#[derive(Debug)]
pub(super) enum FtpPending {
    Status(StatusPurpose, GrantedPath),
    Rename,
    Remove,
    RemoveDirectory,
    MakeDirectory(GrantedPath),
    /// The path as the client wrote it.
    SetModified(String),
    /// The status of MDTM's whole argument; if there is no such file, this outcome, which sets a
    /// time.
    MdtmOrSet(Box<Result<FtpOutcome, Reply>>),
    Checksum {
        path: String,
        /// HASH, which has a longer reply than XCRC and the like.
        is_hash: bool,
    },
    Space,
    /// ALLO of so many bytes in the directory of this path.
    Allocation(GrantedPath, u64),
    /// The space left, after a refusal for lack of space.
    SpaceLeft {
        code: ErrorCode,
        flags: TransferFlags,
    },
    /// A listing over the control connection.
    StatusListing,
    /// A listing over the data connection.
    Listing,
    Download {
        restart: u64,
    },
    /// An upload to this path, or into this directory for STOU.
    Upload(GrantedPath, Option<Allocation>),
}

/// The command that needs the status of a file.
#[derive(Debug)]
pub(super) enum StatusPurpose {
    Cwd,
    Mdtm,
    Mlsd,
    Mlst,
    Rnfr,
    /// A transfer from this offset without a data connection, which fails in any case.
    Restart(u64),
    Size,
}

/// A transfer, from the start of its data connection.
#[derive(Debug)]
pub(super) struct FtpTransfer {
    pub(super) kind: TransferKind,
    pub(super) representation: Representation,
    pub(super) flags: TransferFlags,
}

impl FtpTransfer {
    /// Returns whether the data of an upload is on its way.
    pub(super) fn is_receiving(&self) -> bool {
        self.flags.has_begun && matches!(self.kind, TransferKind::Upload { .. })
    }
}

/// The kind of data in a transfer.
#[derive(Debug)]
pub(super) enum TransferKind {
    /// A listing of this length.
    Listing(u64),
    /// A range of a file.
    Download { offset: u64, length: u64 },
    /// An upload to this path; for STOU into this directory under the name that the server chose.
    Upload {
        path: GrantedPath,
        unique_name: Option<String>,
        allocation: Option<Allocation>,
    },
}

/// Events during a transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TransferFlags {
    /// The data connection is established and 150 was sent.
    pub(super) has_begun: bool,
    /// The client sent ABOR.
    pub(super) is_aborted: bool,
    /// The client sent QUIT: the session closes after the transfer.
    pub(super) is_quitting: bool,
}

/// The result of a command or response, which the session applies.
#[derive(Debug)]
pub(super) enum FtpOutcome {
    /// The replies are complete.
    Ready,
    /// Send this reply and forget how the next data connection is made; a passive port is released.
    Release(Reply),
    /// Open a request.
    Request(FtpPending, Request),
    /// Change the current directory.
    ChangeDirectory(Option<GrantedPath>),
    /// Set the path for RNTO.
    RenameFrom(GrantedPath),
    /// Set the offset for the next transfer.
    Restart(u64),
    /// Set the announced length for the next upload.
    Allocation(u64),
    /// Set the type.
    Representation(Representation),
    /// Set an option.
    Option(FtpOption),
    /// Reserve a passive port.
    Listen { extended: bool },
    /// Accept only EPSV from now on.
    EpsvOnly,
    /// Connect to this address for the next transfer; a passive port is released.
    ActiveAddress(SocketAddr),
    /// Make the data connection for a transfer.
    Connect(TransferKind),
    /// Send a listing over the control connection.
    SendStatusListing { length: u64 },
    /// Send the replies after a transfer.
    EndTransfer(TransferFlags),
}
