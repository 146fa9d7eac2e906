//! A session of any dialect.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::domain::access::Access;
use crate::protocol::ftp::command;
use crate::protocol::ftp::session::{FtpSession, FtpSettings};
use crate::protocol::login::LoginState;
use crate::protocol::menu::session::MenuSession;
use crate::protocol::step::{Action, Input, LineAhead};

/// The dialogue with one client.
#[derive(Debug)]
pub enum Session {
    /// The menu.
    Menu(MenuSession),
    /// FTP. Boxed, so that idle menu sessions do not have its size.
    Ftp(Box<FtpSession>),
}

impl Session {
    /// Handles one input: appends output to `out`, which is sent before anything else happens, and
    /// returns the next action.
    pub fn step(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Action {
        match self {
            Session::Menu(menu) => menu.step(input, out),
            Session::Ftp(ftp) => ftp.step(input, out),
        }
    }

    /// Reports a reload to a logged-in session: the user's new access, or `None` if the login was
    /// revoked. It takes effect at the next command.
    pub fn reloaded(&mut self, access: Option<Arc<Access>>) {
        match self {
            Session::Menu(menu) => menu.set_reloaded(access),
            Session::Ftp(ftp) => ftp.set_reloaded(access),
        }
    }

    /// Returns whether a login has succeeded, even if it was revoked since.
    pub fn is_logged_in(&self) -> bool {
        self.login().has_succeeded()
    }

    /// Returns whether a user is logged in.
    pub fn has_user(&self) -> bool {
        self.login().access().is_some()
    }

    /// Returns whether the client sent QUIT during a transfer, which ends the session after it.
    pub fn is_quitting(&self) -> bool {
        match self {
            Session::Menu(_) => false,
            Session::Ftp(ftp) => ftp.is_quitting(),
        }
    }

    /// Returns whether an upload over a data connection has begun.
    pub fn is_receiving_data(&self) -> bool {
        match self {
            Session::Menu(_) => false,
            Session::Ftp(ftp) => ftp.is_receiving_data(),
        }
    }

    /// Returns what a line means that is not handled yet, if it matters before.
    pub fn line_ahead(&self, line: &[u8]) -> Option<LineAhead> {
        match self {
            Session::Menu(_) => None,
            Session::Ftp(_) => command::line_ahead(line),
        }
    }

    /// Returns the user's access as of the last reload; `None` before a login and after a
    /// revocation.
    pub fn access(&self) -> Option<&Arc<Access>> {
        self.login().latest_access()
    }

    fn login(&self) -> &LoginState {
        match self {
            Session::Menu(menu) => menu.login(),
            Session::Ftp(ftp) => ftp.login(),
        }
    }
}

/// The dialect of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// [`Session::Menu`].
    Menu,
    /// [`Session::Ftp`].
    Ftp(FtpSettings),
}

impl Dialect {
    /// Creates a session with the client at `peer`, the remote end of the control connection, which
    /// `is_local` if it comes from the server's own machine. It waits for [`Input::Begin`].
    pub fn session(self, peer: SocketAddr, is_local: bool) -> Session {
        match self {
            Dialect::Menu => Session::Menu(MenuSession::new()),
            Dialect::Ftp(settings) => {
                Session::Ftp(Box::new(FtpSession::new(settings, peer, is_local)))
            }
        }
    }
}
