//! A folder of results: how they came about, every number of every run, the medians, and plots.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::machine::{self, Pinning};
use crate::measurement::Row;
use crate::rounds::plots;
use crate::rounds::schedule::{self as rounds, Conditions, Run, Skipped};
use crate::server::process::Kind;

/// The numbers that the summary shows; all are in the raw rows.
const SHOWN: [&str; 18] = [
    "downloads_a_second",
    "mebibytes_a_second",
    "server_cpu_microseconds_a_download",
    "server_cpu_seconds_a_gibibyte",
    "interrupt_seconds",
    "least_to_most",
    "download_p99_milliseconds",
    "sessions_a_second",
    "server_cpu_microseconds_a_session",
    "session_p99_milliseconds",
    "bytes_a_session",
    "descriptors_after",
    "tcp_mebibytes_a_stalled",
    "small_p50_milliseconds",
    "small_p99_milliseconds",
    "large_downloads_a_second",
    "listings_a_second",
    "rightful_login_max_milliseconds",
];

/// What stands in the column of numbers where a case was skipped; the reason takes the value's place.
const SKIPPED: &str = "skipped";

/// Takes up the runs of an earlier call, as far as the set still has their cases, and what it skipped.
pub(crate) fn read(folder: &Path) -> io::Result<(Vec<Run>, Skipped)> {
    let (mut runs, mut skipped) = (Vec::<Run>::new(), Skipped::new());
    let text = match fs::read_to_string(folder.join("raw.tsv")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((runs, skipped)),
        text => text?,
    };
    let wrong = |line: &str| io::Error::other(format!("raw.tsv has a line of its own: {line}"));
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [round, server, case, name, value, disturbed] = fields[..] else {
            return Err(wrong(line));
        };
        let server: Kind = server.parse().map_err(io::Error::other)?;
        let Some(case) = rounds::case(case) else {
            continue;
        };
        if name == SKIPPED {
            skipped.insert((case, server), value.to_owned());
            continue;
        }
        let round = round.parse().map_err(|_| wrong(line))?;
        let value = value.parse().map_err(|_| wrong(line))?;
        match runs.last_mut() {
            Some(run) if (run.round, run.server, run.case) == (round, server, case) => {
                run.row.add(name, value);
            }
            _ => runs.push(Run {
                round,
                case,
                server,
                row: Row(vec![(name.to_owned(), value)]),
                disturbed: disturbed == "1",
            }),
        }
    }
    Ok((runs, skipped))
}

/// Writes README.md, raw.tsv, summary.md and the plots.
pub(crate) fn write(
    folder: &Path,
    conditions: &Conditions,
    runs: &[Run],
    skipped: &Skipped,
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("raw.tsv"), raw(runs, skipped))?;
    fs::write(folder.join("summary.md"), summary(runs, skipped))?;
    let date = folder.file_name().unwrap_or_default().to_string_lossy();
    fs::write(folder.join("README.md"), readme(&date, conditions, runs))?;
    plots::write(folder, &rounds::summary(runs)).map_err(io::Error::other)
}

fn raw(runs: &[Run], skipped: &Skipped) -> String {
    let mut text = String::from("round\tserver\tcase\tnumber\tvalue\tdisturbed\n");
    for run in runs {
        for (name, value) in &run.row.0 {
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{name}\t{value}\t{}",
                run.round,
                run.server.name(),
                run.case,
                u8::from(run.disturbed)
            );
        }
    }
    for ((case, server), why) in skipped {
        let why = why.replace(['\t', '\n'], " ");
        let _ = writeln!(text, "0\t{}\t{case}\t{SKIPPED}\t{why}\t0", server.name());
    }
    text
}

fn summary(runs: &[Run], skipped: &Skipped) -> String {
    let numbers = rounds::summary(runs);
    let mut text = String::from(
        "# Medians\n\nOf the runs that other work did not disturb, or of all where each was disturbed; in brackets the least and the most.\n",
    );
    let mut cases: Vec<&str> = Vec::new();
    for run in runs {
        if !cases.contains(&run.case) {
            cases.push(run.case);
        }
    }
    for case in cases {
        let mut servers: Vec<Kind> = runs
            .iter()
            .filter(|run| run.case == case)
            .map(|run| run.server)
            .collect();
        servers.sort_unstable();
        servers.dedup();
        let _ = write!(text, "\n## {case}\n\n| |");
        for server in &servers {
            let _ = write!(text, " {} |", server.name());
        }
        let _ = write!(text, "\n| --- |{}\n", " --- |".repeat(servers.len()));
        for name in SHOWN {
            let of = |server: &Kind| numbers.get(&(case, *server, name.to_owned()));
            if !servers.iter().any(|server| of(server).is_some()) {
                continue;
            }
            let _ = write!(text, "| {} |", name.replace('_', " "));
            for server in &servers {
                let _ = match of(server) {
                    Some((median, least, most)) => {
                        write!(
                            text,
                            " {} ({} … {}) |",
                            short(*median),
                            short(*least),
                            short(*most)
                        )
                    }
                    None => write!(text, " |"),
                };
            }
            text.push('\n');
        }
        let disturbed = runs
            .iter()
            .filter(|run| run.case == case && run.disturbed)
            .count();
        if disturbed > 0 {
            let all = runs.iter().filter(|run| run.case == case).count();
            let _ = writeln!(
                text,
                "\n{disturbed} of {all} runs were disturbed by other work."
            );
        }
    }
    if !skipped.is_empty() {
        text += "\n## Skipped\n\n";
        for ((case, server), why) in skipped {
            let _ = writeln!(text, "- {case}, {}: {why}", server.name());
        }
    }
    text
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn readme(date: &str, conditions: &Conditions, runs: &[Run]) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .next()
        .unwrap_or_default()
        .replace("MemTotal:", "");
    let where_run = match conditions.pinning {
        Pinning::Apart => "the server on processor 0, the clients on processor 1",
        Pinning::None => "wherever the kernel put them",
    };
    let mut versions = format!("tidegate {}", env!("CARGO_PKG_VERSION"));
    for (kind, arguments) in [
        (Kind::Nginx, &["-v"][..]),
        (Kind::Lighttpd, &["-v"]),
        (Kind::Vsftpd, &["-v"]),
        (Kind::PureFtpd, &["--help"]),
        (
            Kind::Pyftpdlib,
            &[
                "-c",
                "import pyftpdlib; print('pyftpdlib', pyftpdlib.__ver__)",
            ],
        ),
    ] {
        if runs
            .iter()
            .any(|run| run.server.name().starts_with(kind.name()))
        {
            let _ = write!(versions, "; {}", version(kind, arguments));
        }
    }
    let disturbed = runs.iter().filter(|run| run.disturbed).count();
    format!(
        "# Results of {date}\n\n\
         Made by `scripts/bench`, {rounds} interleaved rounds of loads of {seconds} s, {count} runs, of which {disturbed} were disturbed by other work on \
         the machine (more than 15 % of one processor; column `disturbed` of `raw.tsv`, its share under `others_share`). They \
         count only where a case has no others with its server.\n\n\
         | what | which |\n| --- | --- |\n\
         | processor | {processor}, {processors} of them |\n| memory | {memory} |\n| kernel | {kernel} |\n\
         | congestion control | {congestion} |\n| placed | {where_run} |\n| priority (nice) of server and clients | {nice} |\n| servers | {versions} |\n\n\
         All traffic is on loopback. The same client drives every server: one thread, one epoll, real reads of 256 KiB, or with \
         `--discard` reads that the kernel throws away (MSG_TRUNC). It speaks the menu to tidegate, HTTP/1.1 on standing \
         connections to nginx, lighttpd and the floor, and FTP with passive data connections (EPSV) to tidegate-ftp, vsftpd, \
         pure-ftpd and pyftpdlib. The floor is a bare loop around `sendfile` in the bench itself, with the \
         server's own system calls and socket options.\n\n\
         How each server is set is in `benches/load/server.rs`: one worker each, logs of requests off, `sendfile` on, files kept \
         open where a server can, no limit of requests on a connection. `nginx-256k` differs from `nginx` by \
         `sendfile_max_chunk 256k`. vsftpd has only anonymous users, since those get one process a session instead of three; \
         pure-ftpd's passwords are hashed by DES, and pyftpdlib has them in clear. pure-ftpd as Debian builds it does not use \
         `sendfile`, and has two processes a session. tidegate makes each upload durable (fdatasync of the file and of its directory) before it \
         says that it is complete; the peers do not.\n\n\
         Each turn of a client reads to another place of its buffer's page: some processors copy twenty times slower to a place \
         1 to 31 bytes behind the page's own bytes, so that a short header before a file would make the client the brake.\n\n\
         A case's words are those of `cargo bench --bench load -- --server SERVER CASE`, which repeats it alone. Server CPU time \
         is what /proc/PID/task/*/schedstat tells of the server's threads and its children's; what decides where the client is \
         the brake. `interrupt_seconds` is what interrupts took of processors that had nothing else to do: TCP's work that nobody is \
         charged with, as where congestion control paces a socket by timers.\n\n\
         `summary.md` has the medians, `raw.tsv` every number of every run that counted.\n",
        nice = conditions.nice,
        rounds = runs.iter().map(|run| run.round + 1).max().unwrap_or(0),
        seconds = conditions.seconds,
        count = runs.len(),
        processors = std::thread::available_parallelism()
            .map_or(0, usize::from)
            .max(
                fs::read_to_string("/proc/cpuinfo")
                    .unwrap_or_default()
                    .matches("processor\t")
                    .count()
            ),
        kernel = kernel.trim(),
        memory = memory.trim(),
        congestion = machine::congestion_control(),
    )
}

/// What a server says of its version, on its first line.
fn version(kind: Kind, arguments: &[&str]) -> String {
    let output = Command::new(kind.program().expect("a peer"))
        .args(arguments)
        .stdin(std::process::Stdio::null())
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
