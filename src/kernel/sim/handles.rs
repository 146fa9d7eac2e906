//! The handles that the server gets from the simulated kernel.

use crate::kernel::sim::devices::SimDevice;
use crate::kernel::sim::files::SimFiles;
use crate::kernel::sim::simulator::Sim;

/// A listener. Its drop closes it.
pub struct SimListener {
    pub(super) sim: Sim,
    pub(super) id: usize,
}

/// A socket. Its drop closes it.
pub struct SimSocket {
    pub(super) sim: Sim,
    pub(super) id: usize,
}

/// An open file or directory. Its drop closes it.
pub struct SimFile {
    pub(super) sim: Sim,
    pub(super) handle: u64,
}

/// A map. Its drop unmaps it.
pub struct SimMap {
    pub(super) sim: Sim,
    pub(super) inode: u64,
    pub(super) length: usize,
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

impl SimFile {
    pub(super) fn new(sim: &Sim, handle: u64) -> SimFile {
        let sim = sim.clone();
        SimFile { sim, handle }
    }

    /// Returns its device, for [`Sim::file_call`].
    pub(super) fn device(&self) -> impl FnOnce(&SimFiles) -> Vec<SimDevice> {
        let handle = self.handle;
        move |files| vec![files.device(handle)]
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.sim.close(self.handle);
    }
}

impl Drop for SimMap {
    fn drop(&mut self) {
        self.sim.unmap(self.inode);
    }
}
