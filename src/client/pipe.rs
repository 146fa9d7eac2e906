//! A pipe that moves file content from a socket to a file by `splice(2)`.
//!
//! For large files this takes at most half of the CPU time of `read` and `write`, since the bytes
//! are not copied through this process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::{pipe2, read};

/// Requested capacity; the default maximum for unprivileged users (`pipe-max-size` in pipe(7)).
const PIPE_BYTES: usize = 1024 * 1024;

/// Bytes per copy into a file that does not support `splice`.
const COPY_BYTES: usize = 64 * 1024;

/// A pipe and the number of bytes in it.
pub(super) struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    len: usize,
}

impl Pipe {
    pub(super) fn new() -> io::Result<Pipe> {
        let (output, input) = pipe2(OFlag::O_CLOEXEC)?;
        // Fails if the user's pipes exceed their limit. A smaller pipe works, too.
        let _ = fcntl(&input, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32));
        Ok(Pipe {
            output,
            input,
            len: 0,
        })
    }

    /// Returns the number of bytes in the pipe.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Moves at most `count` available bytes from a socket into the empty pipe. Returns their
    /// number, 0 at the end of input.
    pub(super) fn fill(&mut self, socket: impl AsFd, count: u64) -> io::Result<usize> {
        assert_eq!(self.len, 0, "filling a full pipe would block");
        let count = count.min(PIPE_BYTES as u64) as usize;
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        self.len = splice(socket, None, &self.input, None, count, flags)?;
        Ok(self.len)
    }

    /// Moves all bytes of the pipe to `file` at `offset`.
    pub(super) fn drain(&mut self, file: &File, offset: u64) -> io::Result<()> {
        let mut offset = offset as i64;
        while self.len > 0 {
            let moved = splice(
                &self.output,
                None,
                file,
                Some(&mut offset),
                self.len,
                SpliceFFlags::SPLICE_F_MOVE,
            );
            self.len -= match moved {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                // The file does not support splice, for example because it is open with O_APPEND.
                Err(Errno::EINVAL) => {
                    let mut buffer = vec![0; self.len.min(COPY_BYTES)];
                    let count = read(&self.output, &mut buffer)?;
                    file.write_all_at(&buffer[..count], offset as u64)?;
                    offset += count as i64;
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
    fn bytes_arrive_in_order_with_and_without_splice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..150_000u32).map(|at| (at % 251) as u8).collect();
        for append in [false, true] {
            std::fs::write(&path, b"abc").unwrap();
            let file = OpenOptions::new()
                .write(true)
                // splice(2) fails with EINVAL for a file opened with O_APPEND.
                .append(append)
                .open(&path)
                .unwrap();
            let (mut local, remote) = UnixStream::pair().unwrap();
            let sent = bytes.clone();
            let sender = std::thread::spawn(move || local.write_all(&sent).unwrap());
            let (mut pipe, mut moved) = (Pipe::new().unwrap(), 0);
            while moved < bytes.len() {
                let left = (bytes.len() - moved) as u64;
                match pipe.fill(&remote, left) {
                    Ok(count) => {
                        assert!(count > 0 && count == pipe.len());
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
            assert_eq!(pipe.fill(&remote, 1).unwrap(), 0, "end of input");
            let written = std::fs::read(&path).unwrap();
            assert!(written[..3] == *b"abc" && written[3..] == bytes);
        }
    }
}
