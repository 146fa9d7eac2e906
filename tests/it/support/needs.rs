//! Skips tests on machines that lack a program or a privilege.

use std::io::Write;
use std::net::{Ipv6Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, io, thread};

use nix::unistd::geteuid;

/// Returns whether a test can use `tool`: a program, `root` or `IPv6`.
///
/// If it cannot, prints that the test is skipped, or panics if `TIDEGATE_NO_SKIP` is set.
pub(crate) fn has(tool: &str) -> bool {
    if is_usable(tool) {
        return true;
    }
    let name = match tool {
        "nc" => "nc (OpenBSD netcat)",
        "setsid" => "setsid (util-linux)",
        other => other,
    };
    assert!(
        env::var_os("TIDEGATE_NO_SKIP").is_none_or(|value| value == "0"),
        "needs {name}, and TIDEGATE_NO_SKIP is set"
    );
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not by eprintln!, whose output the test harness captures.
    let _ = writeln!(io::stderr(), "{test} skipped: needs {name}");
    false
}

/// Returns whether a program exists and is the right one, or whether the tests run as root.
pub(crate) fn is_usable(tool: &str) -> bool {
    is_usable_in(None, tool)
}

/// Returns the same for programs in one folder; `None` is PATH.
fn is_usable_in(folder: Option<&Path>, tool: &str) -> bool {
    let output = |arguments: &[&str]| output(folder, tool, arguments);
    let is_silent = |arguments: &[&str]| output(arguments).is_some_and(|output| output.is_empty());
    match tool {
        "root" => geteuid().is_root(),
        "IPv6" => TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok(),
        // Other programs of this name close the connection at different times.
        "nc" => output(&["-h"]).is_some_and(|help| {
            help.contains("OpenBSD netcat") || help.starts_with("usage: nc [-46")
        }),
        // The setsid of busybox lacks this option.
        "setsid" => is_silent(&["--wait", "true"]),
        // Part of util-linux, and without effect in most containers.
        "unshare" => is_silent(&["-m", "mount", "-t", "tmpfs", "none", "/etc"]),
        // Only the env of GNU coreutils has this option.
        "env" => is_silent(&["--default-signal=HUP", "true"]),
        "git" => output(&["--version"]).is_some_and(|version| version.starts_with("git version")),
        _shell => is_silent(&["-c", ":"]),
    }
}

/// Returns the output of a program, or `None` if it does not exist.
fn output(folder: Option<&Path>, program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = match folder {
        Some(folder) => Command::new(folder.join(program)),
        None => Command::new(program),
    };
    let output = command.args(arguments).stdin(Stdio::null()).output().ok()?;
    let printed = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn other_programs_of_the_same_name_are_not_used() {
    const OPENBSD: &str = "OpenBSD netcat (Debian patchlevel 1.226-1)\nusage: nc [-46CDdFhklNn";
    const NCAT: &str = "Ncat 7.94 ( https://nmap.org/ncat )\nUsage: ncat [options] [host]";
    const BUSYBOX: &str = "BusyBox v1.36.1 multi-call binary.\n\nUsage: nc [OPTIONS] HOST PORT";
    const UNKNOWN: &str = "setsid: unrecognized option '--wait'";
    for (tool, printed, is_right) in [
        ("nc", Some(OPENBSD), true),
        ("nc", Some(NCAT), false),
        ("nc", Some(BUSYBOX), false),
        ("nc", None, false),
        ("setsid", Some(""), true),
        ("setsid", Some(UNKNOWN), false),
        ("setsid", None, false),
        ("env", Some(UNKNOWN), false),
        ("unshare", Some(UNKNOWN), false),
        ("bash", Some(""), true),
        ("bash", None, false),
        ("zsh", None, false),
        ("fish", None, false),
        ("git", None, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(printed) = printed {
            // Written by another process: a program cannot be started while a child of this one
            // has inherited a descriptor that writes to it.
            let script = match printed {
                "" => "exit".to_owned(),
                _ => format!("cat <<'END' >&2\n{printed}\nEND"),
            };
            let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod 755 \"$1\"";
            let mut sh = Command::new("sh");
            sh.args(["-c", write, "sh"]);
            sh.arg(folder.path().join(tool)).arg(script);
            assert!(sh.status().expect("sh is run").success());
        }
        let found = is_usable_in(Some(folder.path()), tool);
        assert_eq!(found, is_right, "{tool} {printed:?}");
    }
}
