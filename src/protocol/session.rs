//! A session of either dialect.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::domain::access::Access;
use crate::protocol::ftp::session::{FtpSession, FtpSettings};
use crate::protocol::menu::session::MenuSession;
use crate::protocol::step::{Action, Input};

/// The dialogue with one client: one of the dialects.
#[derive(Debug)]
pub enum Session {
    /// The menu, for people and programs with a socket.
    Menu(MenuSession),
    /// FTP, for every program that speaks it. Boxed, since it holds more and those who wait at the menu should not pay for that.
    Ftp(Box<FtpSession>),
}

impl Session {
    /// Takes one input, appends to `out` what is to be sent before anything else happens, and says what it wants.
    pub fn step(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Action {
        match self {
            Session::Menu(menu) => menu.step(input, out),
            Session::Ftp(ftp) => ftp.step(input, out),
        }
    }

    /// Tells a logged-in session after a reload what its user may do now, or `None` where the login no longer holds.
    /// It counts from the next command on.
    pub fn reloaded(&mut self, access: Option<Arc<Access>>) {
        match self {
            Session::Menu(menu) => menu.reloaded(access),
            Session::Ftp(ftp) => ftp.reloaded(access),
        }
    }

    /// Whether a login has been proved, even if it no longer holds.
    pub fn is_logged_in(&self) -> bool {
        match self {
            Session::Menu(menu) => menu.is_logged_in(),
            Session::Ftp(ftp) => ftp.is_logged_in(),
        }
    }

    /// Whether the client has said amid a transfer that it goes behind it.
    pub fn is_quitting(&self) -> bool {
        match self {
            Session::Menu(_) => false,
            Session::Ftp(ftp) => ftp.is_quitting(),
        }
    }

    /// What the logged-in user may do, as of the last reload; `None` before a login and after one that was revoked.
    pub fn access(&self) -> Option<&Arc<Access>> {
        match self {
            Session::Menu(menu) => menu.access(),
            Session::Ftp(ftp) => ftp.access(),
        }
    }
}

/// Which dialogue a listener begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// [`Session::Menu`].
    Menu,
    /// [`Session::Ftp`].
    Ftp(FtpSettings),
}

impl Dialect {
    /// A session with the client at this other end of a control connection; it waits for [`Input::Begin`].
    pub fn session(self, peer: SocketAddr) -> Session {
        match self {
            Dialect::Menu => Session::Menu(MenuSession::new()),
            Dialect::Ftp(settings) => Session::Ftp(Box::new(FtpSession::new(settings, peer))),
        }
    }
}
