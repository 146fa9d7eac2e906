//! [`Kernel`] for a [`Sim`]: each call finds its part of the state, fails if the plan says so, and is done.
//!
//! Must not know: how the parts work.

use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::kernel::sim::fault_plan::{Call, Fault};
use crate::kernel::sim::{Sim, State, tree};
use crate::kernel::{Kernel, Kind, Open, PIECES_MAX, Piece, Readiness, Signal, Status};

/// A listener; closed by its drop.
pub struct SimListener {
    sim: Sim,
    id: usize,
}

/// A socket; closed by its drop.
pub struct SimSocket {
    sim: Sim,
    id: usize,
}

/// An open file or directory; closed by its drop.
pub struct SimFile {
    sim: Sim,
    handle: u64,
}

/// A map; gone with its drop.
pub struct SimMap {
    sim: Sim,
    inode: u64,
    length: usize,
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let state = &mut *self.sim.state();
        state.network.close_listener(&mut state.rng, self.id);
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let state = &mut *self.sim.state();
        state.network.close(&mut state.rng, self.id);
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.sim.state().files.close(self.handle);
    }
}

impl Drop for SimMap {
    fn drop(&mut self) {
        self.sim.state().files.unmap(self.inode);
    }
}

impl Kernel for Sim {
    type Listener = SimListener;
    type Socket = SimSocket;
    type File = SimFile;
    type Map = SimMap;

    fn now(&self) -> Instant {
        let mut state = self.state();
        state.tick();
        state.started + state.elapsed
    }

    fn poll(&self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let state = &mut *self.state();
        state.tick();
        let State { rng, network, .. } = state;
        network.deliver(rng, false);
        network.ready(rng, false, ready);
        let woken = std::mem::take(&mut state.woken);
        if !ready.is_empty() || woken || timeout == Some(Duration::ZERO) {
            return Ok(());
        }
        if !network.deliver(rng, true) {
            // Nothing else is on its way: the time passes, all of it or until something interrupts.
            let longest = timeout.map_or(state.patience, |timeout| timeout.min(state.patience));
            state.elapsed += match rng.bool() {
                true => longest,
                false => longest.mul_f64(rng.f64()),
            };
        }
        network.ready(rng, true, ready);
        Ok(())
    }

    fn wake(&self) {
        self.state().woken = true;
    }

    fn signal(&self) -> Option<Signal> {
        self.state().signals.pop_front()
    }

    fn lower_priority(&self) {}

    fn seconds(&self) -> i64 {
        self.state().time().0
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.state().rng.u64(..))
    }

    fn listen(&self, address: SocketAddr, token: usize) -> io::Result<SimListener> {
        let mut state = self.call(Call::Listen)?;
        state.descriptor()?;
        Ok(SimListener {
            id: state.network.listen(address, token)?,
            sim: self.clone(),
        })
    }

    fn listening_on(&self, listener: &SimListener) -> io::Result<SocketAddr> {
        Ok(self.state().network.listening_on(listener.id))
    }

    fn accept(&self, listener: &SimListener) -> io::Result<(SimSocket, SocketAddr)> {
        let (mut state, fault) = self.call_or_fault(Call::Accept);
        state.descriptor()?;
        let id = state.network.accept(listener.id, fault)?;
        let address = state.network.connections[&id].address;
        let sim = self.clone();
        Ok((SimSocket { sim, id }, address))
    }

    fn dial(&self, from: SocketAddr, to: SocketAddr) -> io::Result<SimSocket> {
        let mut state = self.call(Call::Dial)?;
        state.descriptor()?;
        let State { rng, network, .. } = &mut *state;
        let id = network.dial(rng, from.ip(), to);
        let sim = self.clone();
        Ok(SimSocket { sim, id })
    }

    fn dialled(&self, socket: &SimSocket) -> io::Result<()> {
        Ok(self.state().network.connected(socket.id)?)
    }

    fn local_address(&self, socket: &SimSocket) -> io::Result<SocketAddr> {
        Ok(self.state().network.connections[&socket.id].local)
    }

    fn register(&self, socket: &mut SimSocket, token: usize) -> io::Result<()> {
        let mut state = self.call(Call::Register)?;
        state.network.register(socket.id, token);
        Ok(())
    }

    fn receive(&self, socket: &SimSocket, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut state, fault) = self.call_or_fault(Call::Receive);
        Ok(state.network.receive(socket.id, buffer, fault)?)
    }

    fn send(
        &self,
        socket: &SimSocket,
        pieces: &[Piece<'_, SimMap>],
        _more: bool,
    ) -> io::Result<usize> {
        assert!(
            pieces.len() <= PIECES_MAX,
            "more pieces than one call takes"
        );
        let (mut state, fault) = self.call_or_fault(Call::Send);
        let State {
            rng,
            network,
            files,
            ..
        } = &mut *state;
        let mut bytes = Vec::new();
        let mut bad_address = false;
        for piece in pieces {
            match piece {
                Piece::Bytes(slice) => bytes.extend(*slice),
                Piece::Mapped { map, from, length } => {
                    assert!(from + length <= map.length, "a slice is within its map");
                    let slice = files.mapped(map.inode, *from, *length);
                    bad_address = slice.len() < *length;
                    bytes.extend(slice);
                }
            }
            if bad_address {
                break;
            }
        }
        if bytes.is_empty() && bad_address {
            return Err(Errno::EFAULT.into());
        }
        let count = network.room(rng, socket.id, bytes.len(), fault)?;
        network.write(socket.id, &bytes[..count]);
        Ok(count)
    }

    fn send_file(
        &self,
        socket: &SimSocket,
        file: &SimFile,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let (mut state, fault) = self.call_or_fault(Call::SendFile);
        let State {
            rng,
            network,
            files,
            may_wait,
            ..
        } = &mut *state;
        let bytes = files.read(file.handle, offset, count, *may_wait)?;
        let count = match bytes {
            [] => 0,
            _ => network.room(rng, socket.id, bytes.len(), fault)?,
        };
        network.write(socket.id, &bytes[..count]);
        Ok(count)
    }

    fn unconfirmed(&self, socket: &SimSocket) -> io::Result<usize> {
        Ok(self.state().network.unconfirmed(socket.id)?)
    }

    fn shut_sending(&self, socket: &SimSocket) -> io::Result<()> {
        let mut state = self.call(Call::ShutSending)?;
        Ok(state.network.shut_sending(socket.id)?)
    }

    fn open_root(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.call(Call::OpenRoot)?;
        state.descriptor()?;
        let handle = state.files.open_root(path.as_os_str().as_bytes())?;
        Ok(SimFile {
            sim: self.clone(),
            handle,
        })
    }

    fn open_beneath(&self, root: &SimFile, path: &str, how: Open) -> io::Result<SimFile> {
        let mut state = self.call(Call::OpenBeneath)?;
        state.descriptor()?;
        let handle = state
            .files
            .open_beneath(root.handle, path.as_bytes(), how)?;
        Ok(SimFile {
            sim: self.clone(),
            handle,
        })
    }

    fn status(&self, file: &SimFile) -> io::Result<Status> {
        Ok(self.call(Call::Status)?.files.status(file.handle))
    }

    fn status_by_path(&self, path: &Path) -> io::Result<Status> {
        let state = self.call(Call::StatusByPath)?;
        let tree = &state.files.tree;
        let inode = tree.resolve(tree::ROOT, path.as_os_str().as_bytes(), false)?;
        Ok(tree.status(inode))
    }

    fn status_at(&self, directory: &SimFile, name: &str) -> io::Result<Status> {
        let state = self.call(Call::StatusAt)?;
        Ok(state.files.status_at(directory.handle, name)?)
    }

    fn entries(
        &self,
        directory: &SimFile,
        each: &mut dyn FnMut(&[u8], Option<Kind>) -> bool,
    ) -> io::Result<()> {
        let mut state = self.call(Call::Entries)?;
        let State { rng, files, .. } = &mut *state;
        let entries = files.entries(rng, directory.handle)?;
        drop(state); // `each` may well ask the kernel about a name
        for (name, kind) in entries {
            if !each(&name, kind) {
                break;
            }
        }
        Ok(())
    }

    fn read_at(&self, file: &SimFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, fault) = self.call_or_fault(Call::ReadAt);
        let may_wait = state.may_wait;
        let wanted = cut(fault, buffer.len())?;
        let bytes = state.files.read(file.handle, offset, wanted, may_wait)?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_at(&self, file: &SimFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut state, fault) = self.call_or_fault(Call::WriteAt);
        let now = state.time();
        let wanted = cut(fault, bytes.len())?;
        Ok(state
            .files
            .write(file.handle, &bytes[..wanted], offset, now)?)
    }

    fn map(&self, file: &SimFile, length: usize) -> io::Result<SimMap> {
        assert!(length > 0, "mmap(2) takes no empty map");
        let mut state = self.call(Call::Map)?;
        Ok(SimMap {
            inode: state.files.map(file.handle)?,
            sim: self.clone(),
            length,
        })
    }

    fn is_cached(&self, file: &SimFile, offset: u64) -> io::Result<bool> {
        let mut state = self.call(Call::IsCached)?;
        Ok(state.files.is_cached(file.handle, offset)?)
    }

    fn read_ahead(&self, file: &SimFile, offset: u64, count: usize) -> io::Result<()> {
        let mut state = self.call(Call::ReadAhead)?;
        let State {
            rng,
            files,
            may_wait,
            ..
        } = &mut *state;
        files.read_ahead(rng, file.handle, offset, count, *may_wait);
        Ok(())
    }

    fn create_unnamed(&self, directory: &SimFile) -> io::Result<SimFile> {
        let mut state = self.call(Call::CreateUnnamed)?;
        state.descriptor()?;
        let now = state.time();
        let handle = state.files.create(directory.handle, None, now)?;
        Ok(SimFile {
            sim: self.clone(),
            handle,
        })
    }

    fn create_named(&self, directory: &SimFile, name: &str) -> io::Result<SimFile> {
        let mut state = self.call(Call::CreateNamed)?;
        state.descriptor()?;
        let now = state.time();
        let handle = state.files.create(directory.handle, Some(name), now)?;
        Ok(SimFile {
            sim: self.clone(),
            handle,
        })
    }

    fn lock(&self, file: &SimFile) -> io::Result<()> {
        Ok(self.call(Call::Lock)?.files.lock(file.handle)?)
    }

    fn reserve(&self, file: &SimFile, length: u64) -> io::Result<()> {
        let mut state = self.call(Call::Reserve)?;
        Ok(state.files.reserve(file.handle, length)?)
    }

    fn room(&self, _directory: &SimFile) -> io::Result<u64> {
        Ok(self.call(Call::Room)?.files.room())
    }

    fn sync(&self, file: &SimFile) -> io::Result<()> {
        let (mut state, fault) = self.call_or_fault(Call::Sync);
        let may_wait = state.may_wait;
        state.files.sync(file.handle, fault.is_some(), may_wait)?;
        cut(fault, 0)?;
        Ok(())
    }

    fn link(&self, file: &SimFile, directory: &SimFile, name: &str) -> io::Result<()> {
        let mut state = self.call(Call::Link)?;
        let now = state.time();
        Ok(state.files.link(file.handle, directory.handle, name, now)?)
    }

    fn rename(
        &self,
        from: (&SimFile, &str),
        to: (&SimFile, &str),
        replace: bool,
    ) -> io::Result<()> {
        let mut state = self.call(Call::Rename)?;
        let now = state.time();
        let (from, to) = ((from.0.handle, from.1), (to.0.handle, to.1));
        Ok(state.files.rename(from, to, replace, now)?)
    }

    fn remove(&self, directory: &SimFile, name: &str) -> io::Result<()> {
        let mut state = self.call(Call::Remove)?;
        let now = state.time();
        Ok(state.files.remove(directory.handle, name, now)?)
    }

    fn remove_directory(&self, directory: &SimFile, name: &str) -> io::Result<()> {
        let mut state = self.call(Call::RemoveDirectory)?;
        let now = state.time();
        Ok(state.files.remove_directory(directory.handle, name, now)?)
    }

    fn set_modified(&self, directory: &SimFile, name: &str, modified: i64) -> io::Result<()> {
        let mut state = self.call(Call::SetModified)?;
        let now = state.time();
        let directory = directory.handle;
        Ok(state.files.set_modified(directory, name, modified, now)?)
    }

    fn copy(&self, from: &SimFile, to: &SimFile, offset: u64, count: usize) -> io::Result<usize> {
        let (mut state, fault) = self.call_or_fault(Call::Copy);
        let (now, may_wait) = (state.time(), state.may_wait);
        let wanted = cut(fault, count)?;
        let files = &mut state.files;
        files.stalls += u64::from(!may_wait);
        let bytes = files.read(from.handle, offset, wanted, true)?.to_vec();
        Ok(files.write(to.handle, &bytes, offset, now)?)
    }

    fn make_directory(&self, directory: &SimFile, name: &str) -> io::Result<()> {
        let mut state = self.call(Call::MakeDirectory)?;
        let now = state.time();
        Ok(state.files.make_directory(directory.handle, name, now)?)
    }
}

/// How much of `count` bytes a call on a file moves.
fn cut(fault: Option<Fault>, count: usize) -> Result<usize, Errno> {
    match fault {
        Some(Fault::Error(errno)) => Err(errno),
        Some(Fault::Short) => Ok(count.min(1)),
        None => Ok(count),
    }
}
