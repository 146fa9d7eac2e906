//! The running server's side of the control socket.
//!
//! In a handover, the old server sends its listeners as descriptors (SCM_RIGHTS). While both
//! servers have them, clients queue at the same sockets and none is refused. When the new server is
//! ready it says so. The old one then releases its locks, confirms it and stops accepting; the new
//! one serves only after the confirmation. If the new server fails before that, nothing has
//! changed. A later handover request replaces an earlier one that is not complete.
//!
//! Only root and the user of the server are answered: both could end the process or read its memory
//! anyway.

use std::fs;
use std::io;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Weak};

use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use crate::domain::reload_report::ReloadReport;
use crate::kernel::Signal;
use crate::kernel::linux::external::{ControlHandler, PollHandle};
use crate::limits::{
    CONTROL_ANSWER_BYTES_MAX, CONTROL_CLIENTS_MAX, CONTROL_LINE_BYTES_MAX, CONTROL_REQUEST_TICKS,
    HANDOVER_DESCRIPTORS_MAX,
};
use crate::process::control::client::with_short_path;
use crate::process::control::message::{ControlAnswer, ControlRequest};
use crate::process::held_files::HeldFiles;

/// The name of the control socket among the descriptors of a handover.
pub(super) const CONTROL: &str = "control";

/// Binds the control socket at `path` with mode 0600. Removes the one of an earlier server: the
/// caller holds the lock of the run directory. Changes the umask for a moment, so no other thread
/// may run.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = with_short_path(path, |path| UnixListener::bind(path));
    umask(before);
    listener
}

/// The control socket of a running server. `L` is the event loop's listener.
pub struct ControlSocket<L> {
    socket: UnixListener,
    /// Each with the name of its dialect. The event loop owns them and may close them.
    listeners: Vec<(Weak<L>, &'static str)>,
    /// Released in a handover.
    held: HeldFiles,
    clients: Vec<ControlClient>,
    is_handed_over: bool,
    /// The user that is answered, next to root.
    uid: u32,
}

struct ControlClient {
    stream: UnixStream,
    /// Received bytes without the end of a line.
    received: Vec<u8>,
    state: ClientState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientState {
    /// No request yet. It has to come within this many ticks of the server.
    Silent { ticks: u32 },
    /// Waits for the result of a reload.
    Reload { has_begun: bool },
    /// The next server, which has the listeners.
    Successor,
    /// Answered.
    Done,
}

impl<L: AsRawFd> ControlSocket<L> {
    /// Answers requests on `socket`. `held` is released once the next server is ready.
    pub fn new(
        socket: UnixListener,
        listeners: Vec<(Weak<L>, &'static str)>,
        held: HeldFiles,
    ) -> io::Result<ControlSocket<L>> {
        socket.set_nonblocking(true)?;
        Ok(ControlSocket {
            socket,
            listeners,
            held,
            clients: Vec::new(),
            is_handed_over: false,
            uid: geteuid().as_raw(),
        })
    }

    /// Accepts until the socket blocks, or the limit of clients is reached.
    fn accept_clients(&mut self, poll: &PollHandle<'_>) {
        while self.clients.len() < CONTROL_CLIENTS_MAX {
            match self.accept_client(poll) {
                Ok(client) => self.clients.extend(client),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let why = error.to_string();
                    log::warn!("event=control result=failed why={why:?}");
                    return;
                }
            }
        }
    }

    /// Accepts one client; `None` if it is refused.
    fn accept_client(&self, poll: &PollHandle<'_>) -> io::Result<Option<ControlClient>> {
        let (stream, _) = self.socket.accept()?;
        stream.set_nonblocking(true)?;
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        let mut client = ControlClient {
            stream,
            received: Vec::new(),
            state: ClientState::Silent {
                ticks: CONTROL_REQUEST_TICKS,
            },
        };
        if peer.uid() != 0 && peer.uid() != self.uid {
            log::warn!("event=control result=refused uid={}", peer.uid());
            client.finish(&ControlAnswer::error(
                "only root and the user of the server may use the control socket",
            ));
            return Ok(None);
        }
        poll.watch(&client.stream)?;
        Ok(Some(client))
    }

    /// Reads and handles the requests of one client.
    fn handle_client(&mut self, client: &mut ControlClient, poll: &PollHandle<'_>) {
        while client.state != ClientState::Done {
            let line = match client.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(Some(why)) => return client.finish(&ControlAnswer::error(why)),
                Err(None) => return client.state = ClientState::Done,
            };
            match ControlRequest::parse(&line) {
                Err(why) => client.finish(&ControlAnswer::error(why)),
                Ok(request) => self.handle_request(request, client, poll),
            }
        }
    }

    fn handle_request(
        &mut self,
        request: ControlRequest,
        client: &mut ControlClient,
        poll: &PollHandle<'_>,
    ) {
        match (request, client.state) {
            (ControlRequest::Reload, ClientState::Silent { .. }) => {
                client.state = ClientState::Reload { has_begun: false };
                poll.raise(Signal::Reload);
            }
            (ControlRequest::TakeOver, ClientState::Silent { .. }) => {
                let replaced = "another server has requested the handover after this one";
                for earlier in &mut self.clients {
                    if earlier.state == ClientState::Successor {
                        earlier.finish(&ControlAnswer::error(replaced));
                    }
                }
                match self.send_listeners(&client.stream) {
                    Ok(()) => client.state = ClientState::Successor,
                    Err(error) => {
                        let why = error.to_string();
                        log::warn!("event=take-over result=failed why={why:?}");
                        client.finish(&ControlAnswer::error(why));
                    }
                }
            }
            (ControlRequest::Ready, ClientState::Successor) => self.hand_over(client, poll),
            _ => client.finish(&ControlAnswer::error("the request is out of order")),
        }
    }

    /// Sends the control socket and the listeners that are still open.
    fn send_listeners(&self, stream: &UnixStream) -> io::Result<()> {
        let open = self.listeners.iter();
        let open: Vec<(Arc<L>, &str)> = open
            .filter_map(|(listener, name)| Some((listener.upgrade()?, *name)))
            .take(HANDOVER_DESCRIPTORS_MAX - 1)
            .collect();
        let mut descriptors = vec![self.socket.as_raw_fd()];
        descriptors.extend(open.iter().map(|(listener, _)| listener.as_raw_fd()));
        let names = [CONTROL].into_iter();
        let names = names.chain(open.iter().map(|(_, name)| *name));
        let line = ControlAnswer::sockets(names.map(str::to_owned).collect()).to_line();
        let sent = sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(&line)],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        assert_eq!(sent, line.len(), "a new socket buffers a short line");
        Ok(())
    }

    /// Releases the locks and confirms it. If the new server has left without the confirmation,
    /// takes the locks back and serves on.
    fn hand_over(&mut self, client: &mut ControlClient, poll: &PollHandle<'_>) {
        self.held.release();
        client.state = ClientState::Done;
        if !client.send(&ControlAnswer::end().to_line()) {
            log::warn!("event=take-over result=failed why=\"the new server has left\"");
            self.held.restore();
            return;
        }
        self.is_handed_over = true;
        for mut client in self.clients.drain(..) {
            client.finish(&ControlAnswer::error(
                "another server has taken over meanwhile",
            ));
        }
        // The new server has the same sockets open, so closing them here would not end their
        // events.
        for (listener, _) in &self.listeners {
            if let Some(listener) = listener.upgrade() {
                poll.unwatch(&*listener);
            }
        }
        poll.unwatch(&self.socket);
        poll.raise(Signal::Relieved);
    }

    fn remove_finished(&mut self) {
        self.clients
            .retain(|client| client.state != ClientState::Done);
    }
}

impl<L: AsRawFd + Send + Sync> ControlHandler for ControlSocket<L> {
    /// Handles readiness of the socket or of clients.
    fn handle_readable(&mut self, poll: &PollHandle<'_>) {
        if self.is_handed_over {
            return;
        }
        self.accept_clients(poll);
        for _ in 0..self.clients.len() {
            let mut client = self.clients.remove(0);
            self.handle_client(&mut client, poll);
            if self.is_handed_over {
                return;
            }
            self.clients.push(client);
        }
        self.remove_finished();
    }

    fn handle_tick(&mut self, poll: &PollHandle<'_>) {
        for client in &mut self.clients {
            match &mut client.state {
                ClientState::Silent { ticks: 0 } => client.finish_silent(),
                ClientState::Silent { ticks } => *ticks -= 1,
                ClientState::Reload { .. } | ClientState::Successor | ClientState::Done => {}
            }
        }
        self.remove_finished();
        // Clients that were beyond the limit, or for which no descriptor was left.
        self.handle_readable(poll);
    }

    fn handle_reload_begin(&mut self) {
        for client in &mut self.clients {
            if let ClientState::Reload { has_begun } = &mut client.state {
                *has_begun = true;
            }
        }
    }

    fn handle_reload_end(&mut self, report: &ReloadReport) {
        for client in &mut self.clients {
            if client.state == (ClientState::Reload { has_begun: true }) {
                client.report(report);
            }
        }
        self.remove_finished();
    }
}

impl ControlClient {
    /// Returns the next line; `None` until it has arrived. The error is the reason to end the
    /// connection, `None` if the client has left.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Option<&'static str>> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.received.drain(..=end).collect()));
            }
            if self.received.len() > CONTROL_LINE_BYTES_MAX {
                return Err(Some("the request is too long"));
            }
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(None),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(None),
            }
        }
    }

    fn finish_silent(&mut self) {
        self.finish(&ControlAnswer::error("no request has come in time"));
    }

    /// Answers with the result of a reload.
    fn report(&mut self, report: &ReloadReport) {
        let mut answers = Vec::new();
        let faults = report.faults.iter().map(ControlAnswer::fault);
        for answer in faults.chain(report.warnings.iter().map(ControlAnswer::warning)) {
            if answers.len() > CONTROL_ANSWER_BYTES_MAX {
                answers
                    .extend(ControlAnswer::warning("there is more in the server's log").to_line());
                break;
            }
            answers.extend(answer.to_line());
        }
        let last = report
            .summary()
            .map_or_else(ControlAnswer::end, ControlAnswer::error);
        answers.extend(last.to_line());
        self.send(&answers);
        self.state = ClientState::Done;
    }

    /// Sends the last answer.
    fn finish(&mut self, last: &ControlAnswer) {
        self.state = ClientState::Done;
        self.send(&last.to_line());
    }

    /// Returns whether the client has all of `bytes`. The server does not wait for it.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }
}
