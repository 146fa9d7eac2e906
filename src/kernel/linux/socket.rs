//! Listening and connected TCP sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::net::{TcpListener, TcpStream};
use nix::errno::Errno;
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockopt, listen,
    setsockopt, socket, sockopt,
};

use crate::kernel::linux::ffi;
use crate::kernel::linux::ffi::retry;
use crate::kernel::linux::file::{File, to_off_t};
use crate::limits;

/// Opens a listener. mio would use a backlog of 128, and no IPv6 socket at a port that an IPv4
/// socket has.
pub(super) fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    bind_listener(address, true)
}

/// Opens a listener at a port of all IPv6 and IPv4 addresses, or of all IPv4 addresses where the
/// kernel has no IPv6.
pub(super) fn listen_on_all_addresses(port: u16) -> io::Result<TcpListener> {
    match bind_listener((Ipv6Addr::UNSPECIFIED, port).into(), false) {
        Err(error) if error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) => {
            bind_listener((Ipv4Addr::UNSPECIFIED, port).into(), true)
        }
        opened => opened,
    }
}

/// `v6_only` refuses IPv4 clients at an IPv6 address.
fn bind_listener(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let fd = new_socket(address)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &v6_only)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::MAXCONN)?;
    Ok(TcpListener::from_std(fd.into()))
}

/// Checks and prepares a listener that was opened by another process.
pub(super) fn adopt_listener(fd: OwnedFd) -> io::Result<TcpListener> {
    if !getsockopt(&fd, sockopt::AcceptConn)? {
        return Err(io::Error::other("an inherited socket is not a listener"));
    }
    set_options(&fd)?;
    let listener = std::net::TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener))
}

pub(super) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = retry(|| listener.accept())?;
    Ok((socket, canonical(peer)))
}

/// Begins a connection from any port of a local address.
pub(super) fn connect(mut from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let fd = new_socket(to)?;
    from.set_port(0);
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
    match nix::sys::socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        // After EINTR the connection is made in the background too (connect(2)).
        Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(TcpStream::from_std(fd.into())),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn connect_result(socket: &TcpStream) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        result => result.map(drop),
    }
}

pub(super) fn local_address(socket: &TcpStream) -> io::Result<SocketAddr> {
    socket.local_addr().map(canonical)
}

pub(super) fn send_file(
    socket: &TcpStream,
    file: &File,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let offset = to_off_t(offset)?;
    retry(|| {
        let mut from = offset; // the kernel advances it
        sendfile64(socket, &file.0, Some(&mut from), count)
    })
}

/// A socket of the family of `address`.
fn new_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    set_options(&fd)?;
    Ok(fd)
}

/// Sets the options that accepted sockets inherit from their listener.
fn set_options(socket: &OwnedFd) -> io::Result<()> {
    // Writes are sent at once, unless MSG_MORE announces another one.
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    // The urgent byte of a telnet Synch (RFC 854) is read in its place.
    setsockopt(socket, sockopt::OobInline, &true)?;
    ffi::limit_unsent(socket, limits::UNSENT_BYTES_MAX)
}

/// Converts an IPv4-mapped IPv6 address, as a socket for both families reports it, to IPv4. Other
/// addresses keep their scope.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
