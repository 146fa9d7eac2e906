//! The system call part of the sandbox: a seccomp filter (seccomp(2)) of the calls that a running
//! server makes.
//!
//! Every other call fails with EPERM. The filter does not kill the process: a call that is missing
//! here by mistake then fails one request instead of all sessions, and a call of an attacker fails
//! either way.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::process::sandbox::rules::SandboxRules;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// Calls allowed with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Memory. `program` allows mmap and mprotect without PROT_EXEC.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Running threads and their exit.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Time and random numbers.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Readiness.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    // Open sockets, and accepted ones.
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendfile,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_splice,
    // Files; Landlock restricts which.
    libc::SYS_close,
    libc::SYS_copy_file_range,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Older forms of these calls, on this architecture only.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// Restricts all threads of the process to these calls.
pub(super) fn restrict_calls(rules: &SandboxRules) -> io::Result<()> {
    let program = program(rules).map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)
}

fn program(sandbox: &SandboxRules) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED
        .iter()
        .chain(OLDER)
        .map(|&call| (call, Vec::new()))
        .collect();
    // No memory becomes executable.
    let not_executed = [bits(2, libc::PROT_EXEC as u64, 0)?];
    rules.insert(libc::SYS_mmap, vec![all(&not_executed)?]);
    rules.insert(libc::SYS_mprotect, vec![all(&not_executed)?]);
    // A panic aborts by a signal to this process; signals to others are forbidden.
    let itself = [equal(0, u64::from(std::process::id()))?];
    rules.insert(libc::SYS_kill, vec![all(&itself)?]);
    rules.insert(libc::SYS_tgkill, vec![all(&itself)?]);
    // The only uses: thread names, non-blocking sockets, and the size of a socket's send queue.
    rules.insert(
        libc::SYS_prctl,
        vec![all(&[equal(0, libc::PR_SET_NAME as u64)?])?],
    );
    let ioctls = [
        all(&[equal(1, libc::FIONBIO)?])?,
        all(&[equal(1, libc::TIOCOUTQ)?])?,
    ];
    rules.insert(libc::SYS_ioctl, ioctls.into());
    // TCP Fast Open connects by sending (MSG_FASTOPEN, tcp(7)), and a datagram may have an address.
    // The address of sendmsg is in memory, where a filter cannot read it.
    let not_fast_open = |argument| bits(argument, libc::MSG_FASTOPEN as u64, 0);
    rules.insert(libc::SYS_sendmsg, vec![all(&[not_fast_open(2)?])?]);
    rules.insert(libc::SYS_sendto, vec![all(&[not_fast_open(3)?, null(4)?])?]);
    if sandbox.listen || sandbox.connect {
        // TCP only: other protocols, such as SCTP, also connect by setsockopt.
        let streams = |family: libc::c_int, protocol: libc::c_int| {
            all(&[
                equal(0, family as u64)?,
                bits(1, 0xf, libc::SOCK_STREAM as u64)?,
                equal(2, protocol as u64)?,
            ])
        };
        rules.insert(
            libc::SYS_socket,
            vec![
                streams(libc::AF_INET, 0)?,
                streams(libc::AF_INET, libc::IPPROTO_TCP)?,
                streams(libc::AF_INET6, 0)?,
                streams(libc::AF_INET6, libc::IPPROTO_TCP)?,
            ],
        );
        rules.insert(libc::SYS_bind, Vec::new());
    }
    if sandbox.listen {
        rules.insert(libc::SYS_listen, Vec::new());
    }
    if sandbox.connect {
        rules.insert(libc::SYS_connect, Vec::new());
    }
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, ARCHITECTURE)?.try_into()
}

/// Requires an argument, counted from 0, to be this number.
fn equal(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// Requires an argument to be a null pointer.
fn null(argument: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

/// Requires the bits of `mask` in an argument to be those of `value`.
fn bits(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(mask),
        value,
    )
}

fn all(conditions: &[SeccompCondition]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systemd_unit_allows_the_calls_of_the_filter() {
        // @resources of systemd 252 without `nice`, which some architectures do not have.
        let resources = [
            ("ioprio_set", libc::SYS_ioprio_set),
            ("mbind", libc::SYS_mbind),
            ("migrate_pages", libc::SYS_migrate_pages),
            ("move_pages", libc::SYS_move_pages),
            ("sched_setaffinity", libc::SYS_sched_setaffinity),
            ("sched_setattr", libc::SYS_sched_setattr),
            ("sched_setparam", libc::SYS_sched_setparam),
            ("sched_setscheduler", libc::SYS_sched_setscheduler),
            ("set_mempolicy", libc::SYS_set_mempolicy),
            ("setpriority", libc::SYS_setpriority),
        ];
        let unit = include_str!("../../../packaging/tidegate.service");
        let allowed: Vec<&str> = (unit.lines())
            .filter_map(|line| line.strip_prefix("SystemCallFilter="))
            .flat_map(str::split_whitespace)
            .collect();
        assert!(allowed.contains(&"~@resources"));
        for (name, call) in resources {
            let is_needed = ALLOWED.contains(&call);
            assert_eq!(is_needed, allowed.contains(&name), "{name}");
        }
    }
}
