//! A pipe through which a file's bytes go from a socket to the disk without a copy through this process (splice(2)); for large
//! files that costs half of reading and writing, or less.
//!
//! Must not know: what the bytes are.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::libc::off64_t;
use nix::unistd::{pipe2, read};

/// Bytes that a pipe is asked to hold; without privileges the kernel allows no more (pipe(7), pipe-max-size).
const PIPE_BYTES: usize = 1024 * 1024;

/// Bytes that are copied at once where a file takes no pages from a pipe.
const COPIED_BYTES: usize = 64 * 1024;

pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

impl Pipe {
    pub(super) fn new() -> io::Result<Pipe> {
        let (out, into) = pipe2(OFlag::O_CLOEXEC)?;
        // Where the user's pipes hold too much already, this one stays smaller.
        let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32));
        Ok(Pipe { out, into, held: 0 })
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes at most `count` bytes from a socket, as many as are there and fit, and returns how many: 0 at the end of input.
    pub(super) fn fill(&mut self, socket: impl AsFd, count: u64) -> io::Result<usize> {
        assert_eq!(self.held, 0, "a full pipe would block");
        let count = count.min(PIPE_BYTES as u64) as usize;
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        self.held = splice(socket, None, &self.into, None, count, flags)?;
        Ok(self.held)
    }

    /// Gives all that it holds to `file`, from `offset` on.
    pub(super) fn drain(&mut self, file: &File, offset: u64) -> io::Result<()> {
        let mut at = offset as off64_t;
        while self.held > 0 {
            let moved = splice(
                &self.out,
                None,
                file,
                Some(&mut at),
                self.held,
                SpliceFFlags::SPLICE_F_MOVE,
            );
            self.held -= match moved {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                // The file takes no pages from a pipe.
                Err(Errno::EINVAL) => {
                    let mut buffer = vec![0; self.held.min(COPIED_BYTES)];
                    let count = read(&self.out, &mut buffer)?;
                    file.write_all_at(&buffer[..count], at as u64)?;
                    at += count as off64_t;
                    count
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_arrive_whole_and_in_place_also_where_a_file_takes_no_pages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..150_000u32).map(|at| (at % 251) as u8).collect();
        for appends in [false, true] {
            std::fs::write(&path, b"abc").unwrap();
            let file = OpenOptions::new()
                .write(true)
                // splice(2) refuses a file that is open to append.
                .append(appends)
                .open(&path)
                .unwrap();
            let (mut here, there) = UnixStream::pair().unwrap();
            let sent = bytes.clone();
            let sender = std::thread::spawn(move || here.write_all(&sent).unwrap());
            let (mut pipe, mut moved) = (Pipe::new().unwrap(), 0);
            while moved < bytes.len() {
                let left = (bytes.len() - moved) as u64;
                match pipe.fill(&there, left) {
                    Ok(count) => {
                        assert!(count > 0 && count == pipe.held());
                        pipe.drain(&file, 3 + moved as u64).unwrap();
                        moved += count;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        std::thread::yield_now();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            sender.join().unwrap();
            assert_eq!(pipe.fill(&there, 1).unwrap(), 0, "the end");
            let came = std::fs::read(&path).unwrap();
            assert!(came[..3] == *b"abc" && came[3..] == bytes);
        }
    }
}
