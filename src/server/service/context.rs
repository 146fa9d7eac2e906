//! The state that all parts of the services share.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Home;
use crate::domain::access::Grant;
use crate::kernel::Kernel;
use crate::kernel::devices::{Device, Devices};
use crate::server::workers::job::Lane;
use crate::server::workers::lanes::Workers;

/// The surroundings of every call, owned by the services and lent to the parts.
pub(crate) struct Context<K: Kernel> {
    pub(crate) kernel: Arc<K>,
    /// The configuration in force.
    pub(crate) home: Arc<Home>,
    pub(crate) workers: Workers<K>,
    /// The file systems, and which of them the event loop may call.
    pub(crate) devices: Arc<Devices>,
    /// The time of the event loop's tick.
    pub(crate) now: Instant,
}

impl<K: Kernel> Context<K> {
    /// Returns the device of a granted directory.
    pub(crate) fn device(&self, root: &Path) -> Arc<Device> {
        self.devices
            .of_root(root, |path| self.kernel.mount_of(path))
    }

    /// Returns the lane for requests in a granted directory.
    pub(crate) fn lane(&self, grant: &Grant) -> Lane {
        Lane::Device(self.device(&grant.path))
    }

    /// Makes calls on the event loop if the device allows that; `None` if a worker has to make
    /// them.
    pub(crate) fn call_inline<T>(&self, device: &Device, calls: impl FnOnce() -> T) -> Option<T> {
        if !device.is_inline() {
            return None;
        }
        let result = calls();
        device.record(self.kernel.take_call_stats(), self.now);
        Some(result)
    }
}

#[cfg(test)]
impl Context<crate::kernel::linux::Linux> {
    /// A context without threads, for the tests of the parts.
    pub(crate) fn for_tests(home: Home) -> Self {
        let kernel = Arc::new(crate::kernel::linux::Linux::new().expect("a kernel"));
        Context {
            workers: Workers::without_threads(kernel.clone()),
            devices: Arc::default(),
            now: kernel.now(),
            kernel,
            home: Arc::new(home),
        }
    }
}
