//! Non-blocking sockets of the clients.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use mio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

/// Starts a connection from `source` to `server`.
///
/// IP_BIND_ADDRESS_NO_PORT lets connections to different servers share a source port. Neither mio
/// nor the standard library can bind a stream before it connects.
pub(crate) fn connect_from(source: Ipv4Addr, server: SocketAddr) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    let source = SocketAddr::from((source, 0));
    bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Returns whether a call can be retried after the next event. A socket that is still connecting
/// fails with `NotConnected` or `WouldBlock`.
pub(crate) fn is_pending(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotConnected | ErrorKind::WouldBlock
    )
}
