//! The state that all parts of the services share.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Home;
use crate::domain::access::Grant;
use crate::kernel::Kernel;
use crate::kernel::devices::{Device, Devices};
use crate::server::service::response::Handled;
use crate::server::session_id::SessionId;
use crate::server::workers::file_task::FileTask;
use crate::server::workers::job::{Job, Lane, Task};
use crate::server::workers::lanes::Workers;
use crate::server::workers::query::Query;
use crate::storage::StorageError;

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
        self.lane_of(&grant.path)
    }

    /// Returns the lane for requests in the granted directory at a path, or in the home.
    pub(crate) fn lane_of(&self, root: &Path) -> Lane {
        Lane::Granted {
            device: self.device(root),
            beyond: self.devices.beyond(root),
        }
    }

    /// Answers a query: at once on a device that the event loop may call, else by a worker.
    pub(crate) fn query(
        &self,
        session_id: SessionId,
        query: Query,
    ) -> Result<Handled<K>, StorageError> {
        match self.call_inline(&self.device(query.root()), || query.run(&*self.kernel)) {
            Some(Err(error)) if error.is_elsewhere() => {}
            Some(result) => return result.map(Handled::now),
            None => {}
        }
        let lane = self.lane_of(query.root());
        let task = Task::File(FileTask::Query(query));
        self.workers.submit(Job::owned(session_id, lane, task));
        Ok(Handled::Later)
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
        let devices = Devices::default();
        for root in home.granted_paths().iter().chain([&home.path().to_owned()]) {
            crate::storage::find_device(&*kernel, root, &devices);
        }
        Context {
            workers: Workers::without_threads(kernel.clone()),
            devices: Arc::new(devices),
            now: kernel.now(),
            kernel,
            home: Arc::new(home),
        }
    }
}
