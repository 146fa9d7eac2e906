//! The state that all parts of the services share.

use std::sync::Arc;
use std::time::Instant;

use crate::config::Home;
use crate::kernel::Kernel;
use crate::server::workers::lanes::Workers;

/// The surroundings of every call, owned by the services and lent to the parts.
pub(crate) struct Context<K: Kernel> {
    pub(crate) kernel: Arc<K>,
    /// The configuration in force.
    pub(crate) home: Arc<Home>,
    pub(crate) workers: Workers<K>,
    /// The time of the event loop's tick.
    pub(crate) now: Instant,
}

#[cfg(test)]
impl Context<crate::kernel::linux::Linux> {
    /// A context without threads, for the tests of the parts.
    pub(crate) fn for_tests(home: Home) -> Self {
        let kernel = Arc::new(crate::kernel::linux::Linux::new().expect("a kernel"));
        Context {
            workers: Workers::without_threads(kernel.clone()),
            now: kernel.now(),
            kernel,
            home: Arc::new(home),
        }
    }
}
