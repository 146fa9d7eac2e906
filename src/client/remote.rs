//! The address of a user's account: `USER@HOST` or `USER@HOST:PORT`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::client::sanitized::Sanitized;

/// The port if none is given.
const DEFAULT_PORT: u16 = 2100;

/// A user of a server. Parses and displays as `USER@HOST` or `USER@HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The username.
    pub user: String,
    /// A host name or an address, IPv6 without brackets.
    host: String,
    port: u16,
}

impl Remote {
    /// The server as `HOST:PORT`, for messages.
    pub(super) fn server(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| match self.host.contains(':') {
            true => write!(f, "[{}]:{}", Sanitized(&self.host), self.port),
            false => write!(f, "{}:{}", Sanitized(&self.host), self.port),
        })
    }

    /// Resolves the host. Returns at least one address, in the order of preference.
    pub(super) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<SocketAddr> =
            (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        match addresses.is_empty() {
            true => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the host name has no address",
            )),
            false => Ok(addresses),
        }
    }
}

impl FromStr for Remote {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Remote, &'static str> {
        let (user, server) = text
            .rsplit_once('@')
            .ok_or("expected USER@HOST or USER@HOST:PORT")?;
        if user.is_empty() || user.contains(char::is_control) {
            return Err("the user before the @ is missing");
        }
        let (host, port) = match server.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest
                    .split_once(']')
                    .ok_or("the ] after the IPv6 address is missing")?;
                let port = match rest.strip_prefix(':') {
                    None if !rest.is_empty() => return Err("expected :PORT after the ]"),
                    port => port,
                };
                (host, port)
            }
            None => match server.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("write an IPv6 address in brackets: USER@[::1]");
                }
                Some((host, port)) => (host, Some(port)),
                None => (server, None),
            },
        };
        if host.is_empty() || host.contains(char::is_control) {
            return Err("the host after the @ is missing");
        }
        let port = match port {
            Some(port) => Some(port)
                .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|port| port.parse().ok())
                .filter(|&port| port != 0)
                .ok_or(
                    "the port must be a number from 1 to 65535; a path is an argument of its own",
                )?,
            None => DEFAULT_PORT,
        };
        Ok(Remote {
            user: user.to_owned(),
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, host) = (Sanitized(&self.user), Sanitized(&self.host));
        match self.host.contains(':') {
            true => write!(f, "{user}@[{host}]")?,
            false => write!(f, "{user}@{host}")?,
        }
        match self.port {
            DEFAULT_PORT => Ok(()),
            port => write!(f, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_have_a_user_a_host_and_an_optional_port() {
        for (text, user, host, port) in [
            ("user1@127.0.0.1", "user1", "127.0.0.1", 2100),
            ("user1@localhost:2200", "user1", "localhost", 2200),
            ("user1@[::1]", "user1", "::1", 2100),
            ("user1@[fe80::1%lo]:1", "user1", "fe80::1%lo", 1),
            ("a b@c@host", "a b@c", "host", 2100),
        ] {
            let remote: Remote = text.parse().unwrap();
            assert_eq!(
                (remote.user.as_str(), remote.host.as_str(), remote.port),
                (user, host, port)
            );
            assert_eq!(remote.to_string(), text, "displayed as it was parsed");
        }
        for text in [
            "",
            "host",
            "@host",
            "user@",
            "user@:21",
            "user@host:",
            "user@host:0",
            "user@host:65536",
            "user@host:+1",
            "user@::1",
            "user@[::1",
            "user@[::1]x",
            "user@[]:1",
            "a\u{1b}@host",
            "a@b\n",
        ] {
            assert!(text.parse::<Remote>().is_err(), "{text}");
        }
    }
}
