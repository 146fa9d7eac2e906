//! The baseline: a minimal server that shows the cost of a bare loop around `sendfile`.
//!
//! It makes tidegate's own system calls with the same socket options, and has no sessions, users,
//! open-file cache or scheduling. It speaks only the subset of HTTP that the load generator needs.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use argh::FromArgs;
use slab::Slab;
use tidegate::kernel::linux::{self, Linux};
use tidegate::kernel::{Kernel, OpenMode, Piece};
use tidegate::limits::{MAPPED_FILE_BYTES_MAX, SLICE_BUDGET_BYTES};

/// The token of the listener. Connections use the slab's keys.
const LISTENER: usize = usize::MAX / 2;

/// Serve files with a minimal loop around sendfile; started by the scenarios.
#[derive(FromArgs)]
#[argh(subcommand, name = "baseline")]
pub(crate) struct Baseline {
    /// the directory to serve
    #[argh(positional)]
    directory: PathBuf,
}

/// A file and its prepared response.
struct ServedFile {
    /// The header, followed by the content of a small file.
    response: Vec<u8>,
    handle: <Linux as Kernel>::File,
    length: u64,
}

/// The files by request line.
type ServedFiles = HashMap<Vec<u8>, Arc<ServedFile>>;

struct BaselineConnection {
    socket: <Linux as Kernel>::Socket,
    /// The file in transfer and its offset. No request is read until it is complete.
    sending: Option<(Arc<ServedFile>, u64)>,
    is_queued: bool,
}

impl Baseline {
    /// Serves the directory until SIGTERM.
    pub(crate) fn run(&self) -> io::Result<()> {
        linux::raise_descriptor_limit()?;
        let kernel = Linux::new()?;
        let files = open_files(&kernel, &self.directory)?;
        let listener = kernel.listen(SocketAddr::from(([127, 0, 0, 1], 0)), LISTENER)?;
        println!("listening on {}", kernel.listener_address(&listener)?);
        io::stdout().flush()?;

        let mut connections: Slab<BaselineConnection> = Slab::new();
        let mut run_queue = VecDeque::new();
        let mut events = Vec::new();
        let mut buffer = vec![0; 8192];
        while kernel.next_signal().is_none() {
            let timeout = match run_queue.is_empty() {
                true => Duration::from_secs(1),
                false => Duration::ZERO,
            };
            kernel.poll(&mut events, Some(timeout))?;
            for event in &events {
                if event.token == LISTENER {
                    accept_all(&kernel, &listener, &mut connections)?;
                } else if let Some(connection) = connections.get_mut(event.token)
                    && !connection.is_queued
                {
                    connection.is_queued = true;
                    run_queue.push_back(event.token);
                }
            }
            for _ in 0..run_queue.len() {
                let key = run_queue.pop_front().expect("bounded by the length");
                let connection = &mut connections[key];
                connection.is_queued = false;
                match connection.run_slice(&kernel, &files, &mut buffer) {
                    Ok(()) => {
                        connection.is_queued = true;
                        run_queue.push_back(key);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => drop(connections.remove(key)),
                }
            }
        }
        Ok(())
    }
}

fn accept_all(
    kernel: &Linux,
    listener: &<Linux as Kernel>::Listener,
    connections: &mut Slab<BaselineConnection>,
) -> io::Result<()> {
    while let Ok((mut socket, _)) = kernel.accept(listener) {
        let entry = connections.vacant_entry();
        kernel.register(&mut socket, entry.key())?;
        entry.insert(BaselineConnection {
            socket,
            sending: None,
            is_queued: false,
        });
    }
    Ok(())
}

/// Opens all files of `directory`.
fn open_files(kernel: &Linux, directory: &Path) -> io::Result<ServedFiles> {
    let root = kernel.open_root(directory)?;
    let mut files = HashMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if !entry.metadata()?.is_file() {
            continue;
        }
        let length = entry.metadata()?.len();
        let mut response =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        if length <= MAPPED_FILE_BYTES_MAX {
            response.extend(fs::read(entry.path())?);
        }
        let handle = kernel.open_beneath(&root, &name, OpenMode::Read)?;
        let file = ServedFile {
            response,
            handle,
            length,
        };
        let request_line = format!("GET /{name} HTTP/1.1");
        files.insert(request_line.into_bytes(), Arc::new(file));
    }
    Ok(files)
}

impl BaselineConnection {
    /// Continues a transfer or reads a request. `Ok` means that there may be more to do.
    fn run_slice(
        &mut self,
        kernel: &Linux,
        files: &ServedFiles,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let (file, mut offset) = match self.sending.take() {
            Some(sending) => sending,
            None => (self.read_request(kernel, files, buffer)?, 0),
        };
        let mut budget = SLICE_BUDGET_BYTES;
        while budget > 0 {
            let count = budget.min((file.length - offset) as usize);
            let sent = match kernel.send_file(&self.socket, &file.handle, offset, count) {
                Ok(sent) => sent,
                Err(error) => {
                    self.sending = Some((file, offset));
                    return Err(error);
                }
            };
            offset += sent as u64;
            budget -= sent;
            if offset == file.length {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        self.sending = Some((file, offset));
        Ok(())
    }

    /// Reads a request and sends the response. Returns the file if its content is still to be sent,
    /// `WouldBlock` if the response is complete.
    fn read_request(
        &mut self,
        kernel: &Linux,
        files: &ServedFiles,
        buffer: &mut [u8],
    ) -> io::Result<Arc<ServedFile>> {
        let count = kernel.receive(&self.socket, buffer)?;
        // The load generator sends one request per segment.
        let line = buffer[..count].split(|&byte| byte == b'\r').next();
        let file = line
            .and_then(|line| files.get(line))
            .ok_or(ErrorKind::NotFound)?;
        let is_small = file.length <= MAPPED_FILE_BYTES_MAX;
        kernel.send(&self.socket, &[Piece::Bytes(&file.response)], !is_small)?;
        match is_small {
            // The next request is an event.
            true => Err(ErrorKind::WouldBlock.into()),
            false => Ok(file.clone()),
        }
    }
}
