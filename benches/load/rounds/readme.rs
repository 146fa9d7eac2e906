//! `README.md` of a folder of results: the machine, the servers and the method.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use crate::machine::{self, Pinning};
use crate::rounds::run::{Conditions, Run};
use crate::server::kind::ServerKind;

/// The method, the same for all results.
const METHOD: &str = "\
All traffic is on loopback. The same client drives every server: one thread, one epoll instance,
reads of 256 KiB into memory, or with `--discard` reads that the kernel discards (MSG_TRUNC). It
speaks the menu to tidegate, HTTP/1.1 on persistent connections to nginx, lighttpd and the baseline,
and FTP with passive data connections (EPSV) to tidegate-ftp, vsftpd, pure-ftpd and pyftpdlib. The
baseline is a minimal loop around `sendfile` in the bench itself, with tidegate's own system calls
and socket options.

`benches/load/server/` has the configuration of each server: one worker, no request log, `sendfile`,
an open-file cache where the server has one, no limit of requests per connection. `nginx-256k`
differs from `nginx` by `sendfile_max_chunk 256k`. vsftpd has only anonymous users, because these
need one process per session instead of three. pure-ftpd hashes passwords with DES, and pyftpdlib
stores them in clear text. pure-ftpd as built by Debian does not use `sendfile` and has two
processes per session. tidegate makes each upload durable (fdatasync of the file and of its
directory) before it reports the upload as complete; the peers do not.

The client reads to a different offset within a page each time. Some processors copy twenty times
slower to an address 1 to 31 bytes further in its page than the source, so that a short header
before a file would make the client the bottleneck.

`cargo bench --bench load -- --server SERVER CASE` repeats a case alone. Server CPU time is the sum
of /proc/PID/task/*/schedstat over the server's threads and its children's. It is the number to
compare where the client is the bottleneck. `interrupt_seconds` is the time of interrupts on
otherwise idle processors. It is charged to no process, for example where congestion control paces a
socket by timers.

`summary.md` has the medians, `raw.tsv` every number of every run.
";

/// Returns the content of `README.md`.
pub(crate) fn text(title: &str, conditions: &Conditions, runs: &[Run]) -> String {
    let disturbed = runs.iter().filter(|run| run.disturbed).count();
    format!(
        "# Results of {title}\n\n\
         Written by `scripts/bench`: {rounds} interleaved rounds of loads of {seconds} s, {count} \
         runs.\n\
         {disturbed} runs were disturbed by other processes, which used more than 15 % of one \
         processor\n\
         (column `disturbed` of `raw.tsv`; the share is `other_cpu_share`). A disturbed run counts \
         only if\nthe case has no other with the same server.\n\n\
         {machine}\n{METHOD}",
        rounds = runs.iter().map(|run| run.round + 1).max().unwrap_or(0),
        seconds = conditions.seconds,
        count = runs.len(),
        machine = machine_table(conditions, runs),
    )
}

fn machine_table(conditions: &Conditions, runs: &[Run]) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    // The process may be pinned, so that its own parallelism is lower than the machine's.
    let processors = thread::available_parallelism()
        .map_or(0, usize::from)
        .max(cpuinfo.matches("processor\t").count());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo.lines().next().unwrap_or_default();
    let placement = match conditions.pinning {
        Pinning::Separate => "the server on processor 0, the clients on processor 1",
        Pinning::None => "chosen by the kernel",
    };
    format!(
        "| | |\n| --- | --- |\n\
         | processors | {processors} × {processor} |\n\
         | memory | {memory} |\n\
         | kernel | {kernel} |\n\
         | congestion control | {congestion} |\n\
         | placement | {placement} |\n\
         | priority (nice) of server and clients | {nice} |\n\
         | servers | {versions} |\n",
        memory = memory.replace("MemTotal:", "").trim(),
        kernel = kernel.trim(),
        congestion = machine::congestion_control(),
        nice = conditions.nice,
        versions = versions(runs),
    )
}

/// The versions of the servers that were measured.
fn versions(runs: &[Run]) -> String {
    let pyftpdlib = "import pyftpdlib; print('pyftpdlib', pyftpdlib.__ver__)";
    let peers: [(ServerKind, &[&str]); 5] = [
        (ServerKind::Nginx, &["-v"]),
        (ServerKind::Lighttpd, &["-v"]),
        (ServerKind::Vsftpd, &["-v"]),
        (ServerKind::PureFtpd, &["--help"]),
        (ServerKind::Pyftpdlib, &["-c", pyftpdlib]),
    ];
    let mut versions = vec![format!("tidegate {}", env!("CARGO_PKG_VERSION"))];
    for (kind, arguments) in peers {
        let is_measured = |run: &Run| run.server.name().starts_with(kind.name());
        if runs.iter().any(is_measured) {
            versions.push(version(kind, arguments));
        }
    }
    versions.join("; ")
}

/// The first line that a peer prints about its version, or its name.
fn version(kind: ServerKind, arguments: &[&str]) -> String {
    let program = kind.peer_program().unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let text = output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    );
    let first = text.lines().next().unwrap_or_default();
    match first.is_empty() {
        true => kind.name().to_owned(),
        false => first.replace("nginx version: ", "").trim().to_owned(),
    }
}
