//! Skips tests on machines that lack a program or a privilege.

use std::io::Write;
use std::process::{Command, Stdio};
use std::{env, io, thread};

use nix::unistd::geteuid;

/// Returns whether a test can use `tool`: a program, or `root`.
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
    match tool {
        "root" => geteuid().is_root(),
        // Other programs of this name close the connection at different times.
        "nc" => {
            let help = output("nc", &["-h"]);
            help.is_some_and(|help| {
                help.contains("OpenBSD netcat") || help.starts_with("usage: nc [-46")
            })
        }
        // The setsid of busybox lacks this option.
        "setsid" => output("setsid", &["--wait", "true"]).is_some_and(|output| output.is_empty()),
        // Part of util-linux, and without effect in most containers.
        "unshare" => {
            let mount = ["-m", "mount", "-t", "tmpfs", "none", "/etc"];
            output("unshare", &mount).is_some_and(|output| output.is_empty())
        }
        // Only the env of GNU coreutils has this option.
        "env" => {
            output("env", &["--default-signal=HUP", "true"]).is_some_and(|output| output.is_empty())
        }
        shell => output(shell, &["-c", ":"]).is_some_and(|output| output.is_empty()),
    }
}

/// Returns the output of a program, or `None` if it does not exist.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let printed = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&printed).into_owned())
}
