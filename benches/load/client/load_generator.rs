//! Thousands of clients in one thread and one epoll instance.
//!
//! The same client drives every server. The scenario chooses the requests: [`LoadGenerator::tick`]
//! passes it each [`ClientEvent`] and executes its [`Reaction`]. Clients are served round-robin,
//! one read each.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::{setsockopt, sockopt};
use slab::Slab;

use crate::client::load_client::{LoadClient, Shared, SliceEnd};
use crate::client::message::{ClientEvent, ClientRequest, Reaction, ReadMode};
use crate::client::socket::connect_from;
use crate::client::wire_protocol::WireProtocol;

/// Bytes requested by one read.
const READ_BYTES: usize = 256 * 1024;

/// Number of positions within a page at which a read can start. Some processors, AMD EPYC among
/// them, copy a page twenty times slower to an address that lies 1 to 31 bytes further in its page
/// than the source does in its own. File content that follows a short header is such a case. Each
/// time slice starts elsewhere, so that no server's header length makes the client the bottleneck.
const READ_OFFSETS: usize = 4096;

/// Distance between successive read positions; coprime to [`READ_OFFSETS`], so that all are used.
const READ_OFFSET_STEP: usize = 1237;

/// Bytes of an upload passed to one write.
const WRITE_BYTES: usize = 256 * 1024;

/// Time between two reads of a slow reader.
const SLOW_READ_INTERVAL: Duration = Duration::from_millis(100);

/// Source addresses to spread clients over. One address has some 28,000 ports, of which those of
/// the last minute are in TIME_WAIT.
const SOURCE_ADDRESSES: u32 = 64;

/// The clients of one scenario.
pub(crate) struct LoadGenerator {
    poll: Poll,
    events: Events,
    clients: Slab<Entry>,
    /// Keys of the clients that may be able to read or write, each at most once.
    run_queue: VecDeque<usize>,
    /// Keys of the slow readers.
    slow_readers: Vec<usize>,
    next_slow_read: Instant,
    buffer: Vec<u8>,
    read_offset: usize,
    content: Vec<u8>,
    server: SocketAddr,
    protocol: WireProtocol,
    read_mode: ReadMode,
    receive_buffer: Option<usize>,
    opened: u32,
}

struct Entry {
    client: LoadClient,
    is_queued: bool,
    /// Bytes per [`SLOW_READ_INTERVAL`] of a slow reader.
    slow_read_bytes: Option<usize>,
}

impl LoadGenerator {
    /// A load generator without clients.
    pub(crate) fn new(
        server: SocketAddr,
        protocol: WireProtocol,
        read_mode: ReadMode,
    ) -> io::Result<LoadGenerator> {
        Ok(LoadGenerator {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Slab::new(),
            run_queue: VecDeque::new(),
            slow_readers: Vec::new(),
            next_slow_read: Instant::now(),
            buffer: vec![0; READ_OFFSETS + READ_BYTES],
            read_offset: 0,
            content: (0..WRITE_BYTES).map(|at| at as u8).collect(),
            server,
            protocol,
            read_mode,
            receive_buffer: None,
            opened: 0,
        })
    }

    /// Sets SO_RCVBUF of the clients opened from now on. With the default, thousands of clients on
    /// the server's own machine exhaust the kernel's memory for TCP, and the kernel drops received
    /// segments.
    pub(crate) fn set_receive_buffer(&mut self, bytes: usize) {
        self.receive_buffer = Some(bytes);
    }

    /// The protocol that the clients speak.
    pub(crate) fn protocol(&self) -> &WireProtocol {
        &self.protocol
    }

    /// Opens a client that connects and sends `request`. Returns its key, which is reused after
    /// [`ClientEvent::Closed`].
    pub(crate) fn open(&mut self, request: ClientRequest) -> io::Result<usize> {
        let [_, _, high, low] = (self.opened % SOURCE_ADDRESSES + 2).to_be_bytes();
        self.opened = self.opened.wrapping_add(1);
        let source = Ipv4Addr::new(127, 0, high, low);
        let mut socket = connect_from(source, self.server)?;
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, control_token(key), both)?;
        socket.set_nodelay(true)?;
        if let Some(bytes) = self.receive_buffer {
            setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
        }
        entry.insert(Entry {
            client: LoadClient::new(socket, source, self.protocol.clone(), request),
            is_queued: false,
            slow_read_bytes: None,
        });
        Ok(key)
    }

    /// Queues a request, sent by the next tick.
    pub(crate) fn send(&mut self, key: usize, request: &ClientRequest) {
        let entry = &mut self.clients[key];
        entry.client.request(request.clone());
        enqueue(entry, key, &mut self.run_queue);
    }

    /// Makes a client a slow reader of `bytes` ten times a second. Zero never reads.
    pub(crate) fn slow_down(&mut self, key: usize, bytes: usize) {
        self.clients[key].slow_read_bytes = Some(bytes);
        self.slow_readers.push(key);
    }

    /// Number of clients.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Bytes of files received by each client, in the order of their keys.
    pub(crate) fn received(&self) -> Vec<u64> {
        self.clients
            .iter()
            .map(|(_, entry)| entry.client.traffic().received())
            .collect()
    }

    /// Bytes of files sent by all clients.
    pub(crate) fn sent(&self) -> u64 {
        self.clients
            .iter()
            .map(|(_, entry)| entry.client.traffic().sent())
            .sum()
    }

    /// Waits up to `timeout` for events and gives each ready client one time slice.
    pub(crate) fn tick(
        &mut self,
        timeout: Duration,
        scenario: &mut dyn FnMut(usize, ClientEvent) -> Reaction,
    ) -> io::Result<()> {
        self.poll(timeout)?;
        for _ in 0..self.run_queue.len() {
            let key = self.run_queue.pop_front().expect("bounded by the length");
            if let Some(entry) = self.clients.get_mut(key) {
                entry.is_queued = false;
                self.run_client(key, false, scenario);
            }
        }
        if !self.slow_readers.is_empty() && Instant::now() >= self.next_slow_read {
            self.next_slow_read = Instant::now() + SLOW_READ_INTERVAL;
            self.slow_readers.retain(|key| self.clients.contains(*key));
            for key in self.slow_readers.clone() {
                self.run_client(key, true, scenario);
            }
        }
        Ok(())
    }

    /// Waits for events and queues the clients that they belong to.
    fn poll(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = match self.run_queue.is_empty() {
            true if self.slow_readers.is_empty() => timeout,
            true => timeout.min(
                self.next_slow_read
                    .saturating_duration_since(Instant::now()),
            ),
            false => Duration::ZERO,
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            let key = event.token().0 / 2;
            if let Some(entry) = self.clients.get_mut(key) {
                let is_control = event.token() == control_token(key);
                if is_control && (event.is_read_closed() || event.is_error()) {
                    entry.client.set_peer_closed();
                }
                enqueue(entry, key, &mut self.run_queue);
            }
        }
        Ok(())
    }

    /// Gives a client one time slice. A slow reader reads only when `is_slow_read_due`.
    fn run_client(
        &mut self,
        key: usize,
        is_slow_read_due: bool,
        scenario: &mut dyn FnMut(usize, ClientEvent) -> Reaction,
    ) {
        let entry = &mut self.clients[key];
        self.read_offset = (self.read_offset + READ_OFFSET_STEP) % READ_OFFSETS;
        let size = match entry.slow_read_bytes {
            None => READ_BYTES,
            Some(bytes) if is_slow_read_due => bytes.min(READ_BYTES),
            Some(_) => 0,
        };
        let buffer = &mut self.buffer[self.read_offset..self.read_offset + size];
        let shared = Shared {
            content: &self.content,
            read_mode: self.read_mode,
            connect_data: &|source, port| {
                let mut socket = connect_from(source, SocketAddr::new(self.server.ip(), port))?;
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll
                    .registry()
                    .register(&mut socket, data_token(key), both)?;
                Ok(socket)
            },
        };
        let scenario = &mut |event: ClientEvent| scenario(key, event);
        match entry.client.run_slice(buffer, &shared, scenario) {
            Ok(SliceEnd::Again) if entry.slow_read_bytes.is_none() => {
                enqueue(entry, key, &mut self.run_queue);
            }
            Ok(SliceEnd::Again | SliceEnd::Blocked) => {}
            Ok(SliceEnd::Disconnected) => drop(self.clients.remove(key)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                let entry = self.clients.remove(key);
                scenario(entry.client.closed());
            }
        }
    }
}

/// The token of a client's control connection.
fn control_token(key: usize) -> Token {
    Token(key * 2)
}

/// The token of a client's data connection.
fn data_token(key: usize) -> Token {
    Token(key * 2 + 1)
}

fn enqueue(entry: &mut Entry, key: usize, run_queue: &mut VecDeque<usize>) {
    if !entry.is_queued {
        entry.is_queued = true;
        run_queue.push_back(key);
    }
}
