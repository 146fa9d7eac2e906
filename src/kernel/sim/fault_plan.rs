//! Fault injection: which calls of a simulated kernel fail, at random or at the n-th call.

use fastrand::Rng;
use nix::errno::Errno;

/// The calls that can fail, named after the methods of [`Kernel`](crate::kernel::Kernel). A seed's
/// faults depend on their order.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCall {
    Listen,
    Accept,
    Register,
    Receive,
    Send,
    SendFile,
    ShutdownWrite,
    OpenRoot,
    OpenBeneath,
    Status,
    StatusByPath,
    StatusAt,
    ReadDirectory,
    ReadAt,
    WriteAt,
    Map,
    IsCached,
    ReadAhead,
    CreateUnnamed,
    CreateNamed,
    Lock,
    Preallocate,
    FreeSpace,
    Sync,
    Link,
    Rename,
    Remove,
    MakeDirectory,
    Connect,
    RemoveDirectory,
    SetModified,
    CopyRange,
    FileSystem,
    CopyAttributes,
}

/// Number of variants.
const CALLS: usize = SystemCall::CopyAttributes as usize + 1;

/// One way in which a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// It returns this error.
    Error(Errno),
    /// It transfers one byte.
    Short,
}

impl SystemCall {
    /// The faults of a call that its man page lists and that a server has to survive. EINTR is not
    /// among them, since the kernel layer repeats the call. About names, the only false result is
    /// that of a race: the name has just been taken or removed.
    pub fn faults(self) -> &'static [InjectedFault] {
        match self {
            SystemCall::Listen
            | SystemCall::Accept
            | SystemCall::Register
            | SystemCall::Receive
            | SystemCall::Send
            | SystemCall::SendFile
            | SystemCall::ShutdownWrite
            | SystemCall::Connect => self.socket_faults(),
            SystemCall::OpenRoot
            | SystemCall::OpenBeneath
            | SystemCall::Status
            | SystemCall::StatusByPath
            | SystemCall::StatusAt
            | SystemCall::ReadDirectory
            | SystemCall::Link
            | SystemCall::Rename
            | SystemCall::Remove
            | SystemCall::MakeDirectory
            | SystemCall::RemoveDirectory
            | SystemCall::SetModified => self.name_faults(),
            _ => self.content_faults(),
        }
    }

    /// Whether it changes the file system.
    pub(super) fn writes(self) -> bool {
        matches!(
            self,
            SystemCall::WriteAt
                | SystemCall::CreateUnnamed
                | SystemCall::CreateNamed
                | SystemCall::Preallocate
                | SystemCall::Link
                | SystemCall::Rename
                | SystemCall::Remove
                | SystemCall::RemoveDirectory
                | SystemCall::MakeDirectory
                | SystemCall::SetModified
                | SystemCall::CopyRange
                | SystemCall::CopyAttributes
        )
    }

    fn socket_faults(self) -> &'static [InjectedFault] {
        use Errno::*;
        use InjectedFault::{Error, Short};
        match self {
            SystemCall::Listen => &[Error(EADDRINUSE), Error(EMFILE)],
            SystemCall::Accept => &[
                Error(EMFILE),
                Error(ENFILE),
                Error(ENOBUFS),
                Error(ENOMEM),
                Error(ECONNABORTED),
                Error(EPROTO),
                Error(EINVAL),
                Error(EAGAIN),
            ],
            SystemCall::Register => &[Error(ENOMEM), Error(ENOSPC)],
            SystemCall::Receive => &[Short, Error(EAGAIN), Error(ECONNRESET), Error(ETIMEDOUT)],
            SystemCall::Send => &[
                Short,
                Error(EAGAIN),
                Error(ECONNRESET),
                Error(EPIPE),
                Error(ETIMEDOUT),
            ],
            SystemCall::SendFile => &[
                Short,
                Error(EAGAIN),
                Error(EIO),
                Error(ECONNRESET),
                Error(EPIPE),
            ],
            SystemCall::ShutdownWrite => &[Error(ENOTCONN)],
            SystemCall::Connect => &[
                Error(EMFILE),
                Error(EADDRNOTAVAIL),
                Error(ENETUNREACH),
                Error(ENOBUFS),
            ],
            _ => &[],
        }
    }

    fn name_faults(self) -> &'static [InjectedFault] {
        use Errno::*;
        use InjectedFault::Error;
        match self {
            SystemCall::OpenRoot => &[Error(EMFILE), Error(ENFILE), Error(EACCES), Error(EIO)],
            SystemCall::OpenBeneath => &[
                Error(EMFILE),
                Error(ENFILE),
                Error(ENOENT),
                Error(EACCES),
                Error(EIO),
                Error(EAGAIN),
            ],
            SystemCall::Status => &[Error(EIO)],
            SystemCall::StatusByPath => &[Error(ENOENT), Error(EACCES), Error(EIO)],
            SystemCall::StatusAt => &[Error(EACCES), Error(EIO)],
            SystemCall::ReadDirectory => &[Error(EIO), Error(EMFILE), Error(ENOMEM)],
            SystemCall::Link => &[Error(EEXIST), Error(ENOSPC), Error(EDQUOT), Error(EIO)],
            SystemCall::Rename => &[Error(ENOSPC), Error(EDQUOT), Error(EIO)],
            SystemCall::Remove => &[Error(EROFS), Error(EIO)],
            SystemCall::MakeDirectory => &[
                Error(EEXIST),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EROFS),
                Error(EIO),
            ],
            SystemCall::RemoveDirectory => &[Error(EBUSY), Error(EROFS), Error(EIO)],
            SystemCall::SetModified => &[Error(EPERM), Error(EROFS), Error(EIO)],
            _ => &[],
        }
    }

    fn content_faults(self) -> &'static [InjectedFault] {
        use Errno::*;
        use InjectedFault::{Error, Short};
        match self {
            SystemCall::ReadAt => &[Short, Error(EIO)],
            SystemCall::WriteAt => &[
                Short,
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EFBIG),
                Error(EIO),
            ],
            SystemCall::Map => &[Error(ENOMEM), Error(ENODEV)],
            SystemCall::IsCached => &[Error(EOPNOTSUPP), Error(EIO)],
            SystemCall::ReadAhead => &[Error(EINVAL), Error(EIO)],
            SystemCall::CreateUnnamed => &[
                Error(EOPNOTSUPP),
                Error(EMFILE),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EACCES),
                Error(EROFS),
                Error(EIO),
            ],
            SystemCall::CreateNamed => &[
                Error(EMFILE),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EACCES),
                Error(EROFS),
                Error(EIO),
                Error(EEXIST),
            ],
            SystemCall::Lock => &[Error(ENOLCK)],
            SystemCall::Preallocate => &[
                Error(EOPNOTSUPP),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EFBIG),
                Error(EIO),
            ],
            SystemCall::FreeSpace => &[Error(EIO), Error(ENOSYS)],
            SystemCall::FileSystem => &[Error(EIO)],
            SystemCall::Sync => &[Error(EIO), Error(ENOSPC), Error(EDQUOT)],
            SystemCall::CopyRange => &[
                Short,
                Error(EXDEV),
                Error(EOPNOTSUPP),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EIO),
            ],
            SystemCall::CopyAttributes => &[Error(ENOSPC), Error(EIO)],
            _ => &[],
        }
    }
}

/// Which calls fail.
#[derive(Clone, Debug, Default)]
pub enum FaultPlan {
    /// None.
    #[default]
    NoFaults,
    /// The n-th call from now on, counted from 1, fails with the fault of this index in
    /// [`SystemCall::faults`].
    NthCall(u64, usize),
    /// Each call fails with a probability of its own, in the order of [`SystemCall`].
    Random(Box<[f64; CALLS]>),
}

impl FaultPlan {
    /// Up to seven kinds of calls fail, rarely or often.
    pub fn from_seed(seed: u64) -> FaultPlan {
        let mut rng = Rng::with_seed(seed);
        let mut chances = [0.0; CALLS];
        for _ in 0..rng.usize(1..8) {
            let chance = [0.002, 0.02, 0.2];
            chances[rng.usize(..chances.len())] = chance[rng.usize(..chance.len())];
        }
        chances[SystemCall::Listen as usize] = 0.0;
        FaultPlan::Random(Box::new(chances))
    }
}

/// Applies a plan, and records the faults.
#[derive(Default)]
pub(crate) struct FaultInjector {
    plan: FaultPlan,
    /// Calls that could have failed since the plan was set.
    calls: u64,
    pub(crate) injected: Vec<(SystemCall, InjectedFault)>,
}

impl FaultInjector {
    pub(crate) fn set(&mut self, plan: FaultPlan) {
        self.plan = plan;
        self.calls = 0;
    }

    /// Counts a call, and returns its fault, if any.
    pub(crate) fn next_fault(&mut self, rng: &mut Rng, call: SystemCall) -> Option<InjectedFault> {
        self.calls += 1;
        let fault = match &self.plan {
            FaultPlan::NoFaults => None,
            FaultPlan::NthCall(n, which) => call
                .faults()
                .get(*which)
                .filter(|_| self.calls == *n)
                .copied(),
            FaultPlan::Random(chances) => {
                (rng.f64() < chances[call as usize]).then(|| rng.choice(call.faults()).copied())?
            }
        };
        self.injected.extend(fault.map(|fault| (call, fault)));
        fault
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nth_call_fails() {
        let (mut faults, mut rng) = (FaultInjector::default(), Rng::with_seed(1));
        faults.set(FaultPlan::NthCall(2, 1));
        assert_eq!(faults.next_fault(&mut rng, SystemCall::Sync), None);
        let second = faults.next_fault(&mut rng, SystemCall::Sync);
        assert_eq!(second, Some(InjectedFault::Error(Errno::ENOSPC)));
        assert_eq!(faults.next_fault(&mut rng, SystemCall::Sync), None);
        assert_eq!(faults.injected.len(), 1);
    }
}
