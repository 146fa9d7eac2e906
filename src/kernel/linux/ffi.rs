//! The calls that need `unsafe`: those that nix does not wrap, maps, and descriptors that arrive
//! from other processes. No other file contains `unsafe`.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::kernel::types::{PIECES_MAX, Piece};
use crate::limits;

/// The mapped first bytes of a file. User space cannot read them, since a read beyond the end of a
/// truncated file raises SIGBUS. The kernel reads them for `send` and returns EFAULT instead.
#[derive(Debug)]
pub struct Map(memmap2::Mmap);

impl Map {
    pub(super) fn new(file: &File, length: usize) -> io::Result<Map> {
        assert!(length > 0, "mmap(2) maps no empty range");
        // SAFETY: the bytes may change or vanish at any time. Only `send_pieces` uses the map, and
        // it passes addresses to the kernel without reading them.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(file) }?;
        Ok(Map(map))
    }
}

/// Repeats a call while a signal interrupts it (EINTR).
pub(super) fn retry<T, E: Into<io::Error>>(
    mut call: impl FnMut() -> Result<T, E>,
) -> io::Result<T> {
    loop {
        match call().map_err(Into::into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Ignores a signal (SIG_IGN).
pub(super) fn ignore_signal(number: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { signal(number, SigHandler::SigIgn) }?;
    Ok(())
}

/// Adds a Landlock rule for everything below a directory (landlock_add_rule(2)). Makes no call on
/// the directory's file system.
pub fn add_landlock_rule(ruleset: &OwnedFd, directory: &File, access: u64) -> io::Result<()> {
    const PATH_BENEATH: nix::libc::c_int = 1;
    /// `struct landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct PathBeneath {
        allowed_access: u64,
        parent: RawFd,
    }
    let rule = PathBeneath {
        allowed_access: access,
        parent: directory.as_raw_fd(),
    };
    // SAFETY: both descriptors are open, and the kernel copies `rule`.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            PATH_BENEATH,
            &raw const rule,
            0,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// Ends the process by SIGPIPE, as programs that do not ignore it end when the reader of their
/// output has gone. Returns if the signal is blocked.
pub fn end_by_broken_pipe() {
    // SAFETY: SIG_DFL installs no handler.
    let default = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let _ = default.and_then(|_| nix::sys::signal::raise(Signal::SIGPIPE));
}

/// Takes ownership of a descriptor that this process inherited from the one that started it. Call
/// it once for each.
///
/// # Errors
/// If the descriptor is not open.
pub fn own_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers, and fails if the descriptor is not open.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open. It was inherited, so no other code of this process uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Receives the next bytes of a stream and the descriptors that come with them (SCM_RIGHTS,
/// unix(7)). No bytes are the end of the stream.
pub fn receive_descriptors(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; limits::CONTROL_LINE_BYTES_MAX];
    let mut space = nix::cmsg_space!([RawFd; limits::HANDOVER_DESCRIPTORS_MAX]);
    let mut received = Vec::new();
    let length = {
        let mut vectors = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut vectors, Some(&mut space), flags)?;
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = part {
                // SAFETY: the kernel has just opened them for this process, and no other code of
                // this process uses them.
                let owned = descriptors
                    .into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
                received.extend(owned);
            }
        }
        message.bytes
    };
    bytes.truncate(length);
    Ok((bytes, received))
}

/// Limits the bytes that a socket accepts beyond those already sent (TCP_NOTSENT_LOWAT, tcp(7)).
pub(super) fn limit_unsent(socket: &impl AsRawFd, bytes: usize) -> io::Result<()> {
    let bytes = bytes as libc::c_int;
    // SAFETY: the kernel reads one number of the given size, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    Errno::result(set)?;
    Ok(())
}

/// Bytes that the peer's kernel has not acknowledged (SIOCOUTQ, tcp(7), which is TIOCOUTQ).
pub(super) fn unacknowledged(socket: &impl AsRawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one number, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Sends pieces of memory and of maps by one sendmsg(2).
pub(super) fn send_pieces(
    socket: &impl AsRawFd,
    pieces: &[Piece<'_, Map>],
    more: bool,
) -> io::Result<usize> {
    assert!(pieces.len() <= PIECES_MAX, "{} pieces", pieces.len());
    let empty = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let mut vectors = [empty; PIECES_MAX];
    for (vector, piece) in vectors.iter_mut().zip(pieces) {
        let (base, length) = match *piece {
            Piece::Bytes(bytes) => (bytes.as_ptr(), bytes.len()),
            Piece::Mapped { map, from, length } => {
                assert!(
                    from <= map.0.len() && length <= map.0.len() - from,
                    "the slice is outside its map"
                );
                (map.0.as_ptr().wrapping_add(from), length)
            }
        };
        vector.iov_base = base.cast_mut().cast();
        vector.iov_len = length;
    }
    let message = libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: vectors.as_mut_ptr(),
        msg_iovlen: pieces.len(),
        msg_control: std::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    };
    let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    retry(|| {
        // SAFETY: each vector is a live slice or lies within a live map, and the kernel only reads
        // it.
        Errno::result(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) })
    })
    .map(|sent| sent as usize)
}

/// Reads one byte if it is in the page cache, else fails with `WouldBlock` (preadv2(2),
/// RWF_NOWAIT).
pub(super) fn read_nowait(file: &File, offset: libc::off_t) -> io::Result<usize> {
    let mut byte = 0_u8;
    let vector = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    retry(|| {
        // SAFETY: one vector of one byte, which outlives the call.
        Errno::result(unsafe {
            libc::preadv2(file.as_raw_fd(), &vector, 1, offset, libc::RWF_NOWAIT)
        })
    })
    .map(|read| read as usize)
}

/// readahead(2).
pub(super) fn read_ahead(file: &File, offset: libc::off_t, count: usize) -> io::Result<()> {
    // SAFETY: takes a descriptor and two numbers.
    retry(|| Errno::result(unsafe { libc::readahead(file.as_raw_fd(), offset, count) })).map(drop)
}

/// Sets the nice value of the calling thread, and its time slice, which Linux before 6.12 ignores.
/// A failure leaves the priority as it is.
pub(super) fn lower_priority(nice: i32, time_slice: Duration) {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: time_slice.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a live value; process 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}
