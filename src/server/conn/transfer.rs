//! Files on their way: one small struct for each direction.
//!
//! Must not know: sessions, sentences, what comes before or after on the socket.

use std::io;
use std::sync::Arc;

use crate::kernel::{Kernel, Piece};
use crate::limits::TEXT_PIECE_BYTES;
use crate::protocol::Refusal;
use crate::server::Ticket;
use crate::server::conn::ascii::Outwards;
use crate::server::conn::control::Scratch;
use crate::server::log::transfer_log::Record;
use crate::server::service::House;
use crate::storage::{Incoming, Listing, SharedFile};

/// What waits in a connection between the answer that opened it and the wish that moves it.
pub(crate) enum Held<K: Kernel> {
    Nothing,
    File(Arc<SharedFile<K>>),
    Text(Arc<Listing>),
    Incoming(Box<Incoming<K>>),
}

/// Where outgoing bytes come from.
pub(crate) enum Source<K: Kernel> {
    File(Arc<SharedFile<K>>),
    Text(Arc<Listing>),
}

/// Bytes on their way to the client: `offset` is where we are, `end` where we stop.
pub(crate) struct Outgoing<K: Kernel> {
    pub(crate) source: Source<K>,
    pub(crate) offset: u64,
    pub(crate) end: u64,
    /// Up to where the bytes are known to be in memory.
    pub(crate) warm_until: u64,
    /// Of a file, where transfers are logged.
    pub(crate) record: Option<Box<Record>>,
}

/// A stretch of a file that a worker is to bring into memory before it is sent.
pub(crate) struct Cold<K: Kernel> {
    pub(crate) file: Arc<SharedFile<K>>,
    pub(crate) offset: u64,
    pub(crate) count: usize,
}

impl<K: Kernel> Outgoing<K> {
    /// `length` bytes from byte `offset` on.
    pub(crate) fn new(source: Source<K>, offset: u64, length: u64) -> Outgoing<K> {
        Outgoing {
            source,
            offset,
            end: offset + length,
            warm_until: offset,
            record: None,
        }
    }

    pub(crate) fn left(&self) -> u64 {
        self.end - self.offset
    }

    /// Notes bytes that have gone, where transfers are logged.
    fn note(&mut self, moved: usize) {
        if let Some(record) = &mut self.record {
            record.moved(moved);
            if self.offset == self.end {
                record.complete();
            }
        }
    }

    /// What of the next `budget` bytes somebody would have to wait for a disk for who sends them, if anything.
    pub(crate) fn cold(&mut self, kernel: &K, budget: usize) -> Option<Cold<K>> {
        let Source::File(file) = &self.source else {
            return None;
        };
        let end = self.offset + self.left().min(budget as u64);
        let offset = self.warm_until;
        if end <= offset {
            return None;
        }
        self.warm_until = end;
        let count = end - offset;
        (!file.is_warm(kernel, offset, count)).then(|| Cold {
            file: file.clone(),
            offset,
            count: count as usize,
        })
    }

    /// Moves up to `budget` bytes by one call and says how many. `UnexpectedEof`: the file has shrunk, and what was
    /// announced cannot be had any more.
    pub(crate) fn advance(
        &mut self,
        kernel: &K,
        socket: &K::Socket,
        budget: usize,
    ) -> io::Result<usize> {
        let most = match self.source {
            Source::File(_) => self.warm_until - self.offset,
            Source::Text(_) => self.left(),
        };
        let count = most.min(budget as u64) as usize;
        let moved = match &self.source {
            Source::File(file) => kernel.send_file(socket, file.file(), self.offset, count)?,
            Source::Text(listing) => {
                let from = self.offset as usize;
                let piece = Piece::Bytes(&listing.text[from..from + count]);
                kernel.send(socket, &[piece], false)?
            }
        };
        if moved == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += moved as u64;
        self.note(moved);
        Ok(moved)
    }

    /// [`Outgoing::advance`] for a file whose line ends are converted: says how many bytes have gone over the wire. One
    /// that did not all go is read again.
    pub(crate) fn advance_text(
        &mut self,
        kernel: &K,
        socket: &K::Socket,
        ascii: &mut Outwards,
        scratch: &mut Scratch<K>,
    ) -> io::Result<usize> {
        let Source::File(file) = &self.source else {
            unreachable!("only a file is converted on its way");
        };
        let most = (self.warm_until - self.offset).min(TEXT_PIECE_BYTES as u64) as usize;
        let read = kernel.read_at(file.file(), &mut scratch.transfer[..most], self.offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = &scratch.transfer[..read];
        scratch.text.clear();
        ascii.convert(bytes, &mut scratch.text);
        let sent = kernel.send(socket, &[Piece::Bytes(&scratch.text)], false)?;
        let moved = ascii.advance(bytes, sent);
        self.offset += moved as u64;
        self.note(moved);
        Ok(sent)
    }
}

/// Announced bytes on their way from the client, into a file or, where there is none or it failed, nowhere.
pub(crate) struct Receiving<K: Kernel> {
    pub(crate) incoming: Option<Box<Incoming<K>>>,
    pub(crate) left: u64,
    /// Why the file failed half-way; the rest is discarded.
    pub(crate) failed: Option<Refusal>,
    /// Of a file, where transfers are logged.
    pub(crate) record: Option<Box<Record>>,
}

impl<K: Kernel> Receiving<K> {
    /// Takes bytes that have come; a file that fails is let go of, and the rest discarded.
    pub(crate) fn take(&mut self, bytes: &[u8], house: &mut House<K>, ticket: Ticket) {
        self.left -= bytes.len() as u64;
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        if let Some(record) = &mut self.record {
            record.moved(bytes.len());
        }
        if let Err(refused) = incoming.write(bytes) {
            self.failed = Some(house.log_refused(ticket, refused));
            house.abandon(self.incoming.take().expect("it was just written to"));
        }
    }
}
