//! The listeners of a server: inherited from the service manager or the previous server, or new.

use std::io;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::kernel::Kernel;
use crate::kernel::linux::Linux;
use crate::process::handover::Handover;
use crate::process::systemd::activation_sockets;
use crate::protocol::session::Dialect;
use crate::server;

/// The default listener.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2100);

/// A listener and its dialect.
pub(super) type Listening = (<Linux as Kernel>::Listener, Dialect);

/// Opens the listeners at the given addresses. With a previous server, uses its listeners where the
/// address and the dialect match, or all of them if no address is given. The sockets of the service
/// manager come first. `ftp` is the FTP dialect with its settings.
pub(super) fn open(
    kernel: &Linux,
    handover: &mut Handover,
    given: Vec<(SocketAddr, Dialect)>,
    ftp: Dialect,
) -> io::Result<Vec<Listening>> {
    let mut opened: Vec<Listening> = Vec::new();
    for (socket, name) in activation_sockets()? {
        let dialect = if name == "ftp" { ftp } else { Dialect::Menu };
        let listener = kernel.adopt(socket, server::listener_token(opened.len()))?;
        opened.push((listener, dialect));
    }
    let addresses = match handover.inherited_addresses() {
        _ if !given.is_empty() => given,
        Some(inherited) => inherited
            .into_iter()
            .map(|(address, tag)| (address, from_tag(tag, ftp)))
            .collect(),
        None if opened.is_empty() => vec![(DEFAULT_ADDRESS, Dialect::Menu)],
        None => Vec::new(),
    };
    for (address, dialect) in addresses {
        let token = server::listener_token(opened.len());
        let listener = match handover.claim(address, to_tag(dialect)) {
            Some(socket) => kernel.adopt(socket, token)?,
            None => server::listen(kernel, address, token).map_err(with_advice)?,
        };
        opened.push((listener, dialect));
    }
    Ok(opened)
}

fn with_advice(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => io::Error::new(
            error.kind(),
            format!("{error}; another server may be running, or choose another port"),
        ),
        _ => error,
    }
}

/// The tags of the dialects in a handover.
const MENU_TAG: u8 = b'm';
const FTP_TAG: u8 = b'f';

pub(super) fn to_tag(dialect: Dialect) -> u8 {
    match dialect {
        Dialect::Menu => MENU_TAG,
        Dialect::Ftp(_) => FTP_TAG,
    }
}

fn from_tag(tag: u8, ftp: Dialect) -> Dialect {
    match tag {
        FTP_TAG => ftp,
        _ => Dialect::Menu,
    }
}

/// Prints one line per listener, once all are ready.
pub(super) fn announce<'a>(
    listening: impl Iterator<Item = (&'a SocketAddr, Dialect)>,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (address, dialect) in listening {
        let name = match dialect {
            Dialect::Menu => "menu",
            Dialect::Ftp(_) => "ftp",
        };
        writeln!(out, "listening on {address} ({name})")?;
    }
    out.flush()
}
