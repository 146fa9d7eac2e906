//! The listeners of a server: inherited from the service manager or the previous server, or new.

use std::io;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::kernel::Kernel;
use crate::kernel::linux::Linux;
use crate::process::handover::Handover;
use crate::process::systemd::activation_sockets;
use crate::protocol::ftp::active_mode::ActiveMode;
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
            .map(|(address, name)| Ok((address, from_name(&name, ftp)?)))
            .collect::<io::Result<_>>()?,
        None if opened.is_empty() => vec![(DEFAULT_ADDRESS, Dialect::Menu)],
        None => Vec::new(),
    };
    for &(address, dialect) in &addresses {
        let token = server::listener_token(opened.len());
        let listener = match handover.claim(address, name_of(dialect)) {
            Some(socket) => kernel.adopt(socket, token)?,
            None => {
                let listener = match is_dual_stack(address, &addresses) {
                    true => kernel.listen_on_all_addresses(address.port(), token),
                    false => kernel.listen(address, token),
                };
                listener.map_err(|error| {
                    io::Error::new(error.kind(), listen_failure(address, dialect, &error))
                })?
            }
        };
        opened.push((listener, dialect));
    }
    Ok(opened)
}

/// Allows active mode to clients of other machines only, if such clients can reach an FTP listener.
/// Then a loopback address as the client's is that of a tunnel, which any client may be using.
pub(super) fn restrict_active_mode(kernel: &Linux, listeners: &mut [Listening]) -> io::Result<()> {
    let mut is_reachable = false;
    for (listener, dialect) in &*listeners {
        let ip = kernel.listener_address(listener)?.ip().to_canonical();
        is_reachable |= *dialect != Dialect::Menu && !ip.is_loopback();
    }
    for (_, dialect) in listeners {
        if let Dialect::Ftp(settings) = dialect
            && settings.active == ActiveMode::Enabled
            && is_reachable
        {
            settings.active = ActiveMode::Remote;
        }
    }
    Ok(())
}

/// Returns whether a listener serves IPv4 clients, too: at `[::]`, unless another listener has the
/// same port of all IPv4 addresses.
fn is_dual_stack(address: SocketAddr, all: &[(SocketAddr, Dialect)]) -> bool {
    let is_v4_of_port = |(other, _): &(SocketAddr, Dialect)| {
        other.is_ipv4() && other.port() == address.port() && address.port() != 0
    };
    let is_any = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    is_any && !all.iter().any(is_v4_of_port)
}

/// Describes why an address cannot be listened on, and what the operator can do.
fn listen_failure(address: SocketAddr, dialect: Dialect, error: &io::Error) -> String {
    let option = match dialect {
        Dialect::Menu => "--listen",
        Dialect::Ftp(_) => "--ftp",
    };
    let port = address.port();
    let (what, advice) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "address in use".to_owned(),
            format!(
                "Another server may be running ('ss -ltnp sport = :{port}' shows it); choose \
                 another port with {option}."
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            format!(
                "A port below 1024 needs root (and --user), CAP_NET_BIND_SERVICE or socket \
                 activation; choose another port with {option}."
            ),
        ),
        io::ErrorKind::AddrNotAvailable => (
            "this machine does not have the address".to_owned(),
            format!("'ip address' lists those it has; {option} :{port} listens on all of them."),
        ),
        _ => (
            error.to_string(),
            format!("Choose another address with {option}."),
        ),
    };
    format!("cannot listen on {address}: {what}. {advice}")
}

/// The names of the dialects, on standard output and in a handover.
const MENU: &str = "menu";
const FTP: &str = "ftp";

/// Returns the name of a dialect.
pub(super) fn name_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Menu => MENU,
        Dialect::Ftp(_) => FTP,
    }
}

fn from_name(name: &str, ftp: Dialect) -> io::Result<Dialect> {
    match name {
        MENU => Ok(Dialect::Menu),
        FTP => Ok(ftp),
        _ => Err(io::Error::other(format!(
            "the running server has a listener for {name}, which this version does not serve"
        ))),
    }
}

/// Prints one line per listener, once all are ready.
pub(super) fn announce<'a>(
    listening: impl Iterator<Item = (&'a SocketAddr, Dialect)>,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (address, dialect) in listening {
        writeln!(out, "listening on {address} ({})", name_of(dialect))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ftp::session::FtpSettings;

    #[test]
    fn failures_to_listen_say_what_to_do_next() {
        let ftp = Dialect::Ftp(FtpSettings {
            active: ActiveMode::Enabled,
        });
        for (address, dialect, kind, expected) in [
            (
                "127.0.0.1:2100",
                Dialect::Menu,
                io::ErrorKind::AddrInUse,
                "cannot listen on 127.0.0.1:2100: address in use. Another server may be running \
                 ('ss -ltnp sport = :2100' shows it); choose another port with --listen.",
            ),
            (
                "[::]:80",
                ftp,
                io::ErrorKind::PermissionDenied,
                "cannot listen on [::]:80: permission denied. A port below 1024 needs root (and \
                 --user), CAP_NET_BIND_SERVICE or socket activation; choose another port with \
                 --ftp.",
            ),
            (
                "192.0.2.1:2100",
                Dialect::Menu,
                io::ErrorKind::AddrNotAvailable,
                "cannot listen on 192.0.2.1:2100: this machine does not have the address. \
                 'ip address' lists those it has; --listen :2100 listens on all of them.",
            ),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(listen_failure(address, dialect, &kind.into()), expected);
        }
    }

    #[test]
    fn any_ipv6_address_serves_ipv4_unless_another_listener_does() {
        let menu = |address: &str| (address.parse().unwrap(), Dialect::Menu);
        let any = "[::]:2100".parse().unwrap();
        assert!(is_dual_stack(
            any,
            &[menu("[::]:2100"), menu("0.0.0.0:2121")]
        ));
        assert!(!is_dual_stack(
            any,
            &[menu("0.0.0.0:2100"), menu("[::]:2100")]
        ));
        assert!(!is_dual_stack(
            any,
            &[menu("127.0.0.1:2100"), menu("[::]:2100")]
        ));
        assert!(!is_dual_stack(
            "[::1]:2100".parse().unwrap(),
            &[menu("[::1]:2100")]
        ));
    }
}
