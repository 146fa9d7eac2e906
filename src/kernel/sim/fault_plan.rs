//! What goes wrong in a simulated kernel, and when: by chance, or at the n-th call.

use fastrand::Rng;
use nix::errno::Errno;

/// The calls that can fail, named after the methods of [`Kernel`](crate::kernel::Kernel).
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Listen,
    Accept,
    Register,
    Receive,
    Send,
    SendFile,
    ShutSending,
    OpenRoot,
    OpenBeneath,
    Status,
    StatusByPath,
    StatusAt,
    Entries,
    ReadAt,
    WriteAt,
    Map,
    IsCached,
    ReadAhead,
    CreateUnnamed,
    CreateNamed,
    Lock,
    Reserve,
    Room,
    Sync,
    Link,
    Rename,
    Remove,
    MakeDirectory,
    Dial,
    RemoveDirectory,
    SetModified,
    Copy,
}

/// How many there are.
const CALLS: usize = Call::Copy as usize + 1;

/// One way in which a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails.
    Error(Errno),
    /// It moves one byte of those that it could.
    Short,
}

impl Call {
    /// How it can go wrong, as its man page says and as far as a server must live with it: nothing is interrupted, since
    /// the seam has that done again, and nothing untrue is said of a name, but that somebody was there first or that
    /// people have taken it away.
    pub fn faults(self) -> &'static [Fault] {
        use Errno::*;
        use Fault::{Error, Short};
        match self {
            Call::Listen => &[Error(EADDRINUSE), Error(EMFILE)],
            Call::Accept => &[
                Error(EMFILE),
                Error(ENFILE),
                Error(ENOBUFS),
                Error(ENOMEM),
                Error(ECONNABORTED),
                Error(EPROTO),
                Error(EAGAIN),
            ],
            Call::Register => &[Error(ENOMEM), Error(ENOSPC)],
            Call::Receive => &[Short, Error(EAGAIN), Error(ECONNRESET), Error(ETIMEDOUT)],
            Call::Send => &[
                Short,
                Error(EAGAIN),
                Error(ECONNRESET),
                Error(EPIPE),
                Error(ETIMEDOUT),
            ],
            Call::SendFile => &[
                Short,
                Error(EAGAIN),
                Error(EIO),
                Error(ECONNRESET),
                Error(EPIPE),
            ],
            Call::ShutSending => &[Error(ENOTCONN)],
            Call::OpenRoot => &[Error(EMFILE), Error(ENFILE), Error(EACCES), Error(EIO)],
            Call::OpenBeneath => &[
                Error(EMFILE),
                Error(ENFILE),
                Error(ENOENT),
                Error(EACCES),
                Error(EIO),
                Error(EAGAIN),
            ],
            Call::Status => &[Error(EIO)],
            Call::StatusByPath => &[Error(ENOENT), Error(EACCES), Error(EIO)],
            Call::StatusAt => &[Error(EACCES), Error(EIO)],
            Call::Entries => &[Error(EIO), Error(EMFILE), Error(ENOMEM)],
            Call::ReadAt => &[Short, Error(EIO)],
            Call::WriteAt => &[
                Short,
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EFBIG),
                Error(EIO),
            ],
            Call::Map => &[Error(ENOMEM), Error(ENODEV)],
            Call::IsCached => &[Error(EOPNOTSUPP), Error(EIO)],
            Call::ReadAhead => &[Error(EINVAL), Error(EIO)],
            Call::CreateUnnamed => &[
                Error(EOPNOTSUPP),
                Error(EMFILE),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EACCES),
                Error(EROFS),
                Error(EIO),
            ],
            Call::CreateNamed => &[
                Error(EMFILE),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EACCES),
                Error(EROFS),
                Error(EIO),
                Error(EEXIST),
            ],
            Call::Lock => &[Error(ENOLCK)],
            Call::Reserve => &[
                Error(EOPNOTSUPP),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EFBIG),
                Error(EIO),
            ],
            Call::Room => &[Error(EIO), Error(ENOSYS)],
            Call::Sync => &[Error(EIO), Error(ENOSPC), Error(EDQUOT)],
            Call::Link => &[Error(EEXIST), Error(ENOSPC), Error(EDQUOT), Error(EIO)],
            Call::Rename => &[Error(ENOSPC), Error(EDQUOT), Error(EIO)],
            Call::Remove => &[Error(EROFS), Error(EIO)],
            Call::MakeDirectory => &[
                Error(EEXIST),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EROFS),
                Error(EIO),
            ],
            Call::Dial => &[
                Error(EMFILE),
                Error(EADDRNOTAVAIL),
                Error(ENETUNREACH),
                Error(ENOBUFS),
            ],
            Call::RemoveDirectory => &[Error(EBUSY), Error(EROFS), Error(EIO)],
            Call::SetModified => &[Error(EPERM), Error(EROFS), Error(EIO)],
            Call::Copy => &[
                Short,
                Error(EXDEV),
                Error(EOPNOTSUPP),
                Error(ENOSPC),
                Error(EDQUOT),
                Error(EIO),
            ],
        }
    }
}

/// Which calls go wrong.
#[derive(Clone, Debug, Default)]
pub enum Plan {
    /// None.
    #[default]
    Clean,
    /// The n-th call from now on, counted from 1, fails in the way of this index among its [`Call::faults`].
    Nth(u64, usize),
    /// Each by chance, between 0 and 1, in one of its ways; the order is that of [`Call`].
    Chance(Box<[f64; CALLS]>),
}

impl Plan {
    /// These calls fail by these chances.
    pub fn chances(of: &[(Call, f64)]) -> Plan {
        let mut chances = [0.0; CALLS];
        for (call, chance) in of {
            chances[*call as usize] = *chance;
        }
        Plan::Chance(Box::new(chances))
    }

    /// A few kinds of calls fail, some once in a long while and some often.
    pub fn from_seed(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed);
        let mut chances = [0.0; CALLS];
        for _ in 0..rng.usize(1..8) {
            let chance = [0.002, 0.02, 0.2];
            chances[rng.usize(..chances.len())] = chance[rng.usize(..chance.len())];
        }
        chances[Call::Listen as usize] = 0.0;
        Plan::Chance(Box::new(chances))
    }
}

/// The plan at work, and what came of it.
#[derive(Default)]
pub(crate) struct Faults {
    plan: Plan,
    /// Calls that could have failed since the plan was set.
    calls: u64,
    pub(crate) fired: Vec<(Call, Fault)>,
}

impl Faults {
    pub(crate) fn set(&mut self, plan: Plan) {
        self.plan = plan;
        self.calls = 0;
    }

    /// Counts a call and says how it goes wrong, if it does.
    pub(crate) fn strike(&mut self, rng: &mut Rng, call: Call) -> Option<Fault> {
        self.calls += 1;
        let fault = match &self.plan {
            Plan::Clean => None,
            Plan::Nth(n, which) => call
                .faults()
                .get(*which)
                .filter(|_| self.calls == *n)
                .copied(),
            Plan::Chance(chances) => {
                (rng.f64() < chances[call as usize]).then(|| rng.choice(call.faults()).copied())?
            }
        };
        self.fired.extend(fault.map(|fault| (call, fault)));
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
        let (mut faults, mut rng) = (Faults::default(), Rng::with_seed(1));
        faults.set(Plan::Nth(2, 1));
        assert_eq!(faults.strike(&mut rng, Call::Sync), None);
        let second = faults.strike(&mut rng, Call::Sync);
        assert_eq!(second, Some(Fault::Error(Errno::ENOSPC)));
        assert_eq!(faults.strike(&mut rng, Call::Sync), None);
        assert_eq!(faults.fired.len(), 1);
    }
}
