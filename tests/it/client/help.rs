//! `--help`, the manual page, the completions and the documentation must agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::run::{Output, client, finish};
use crate::support::needs;

/// The commands with tables of options in `docs/operation.md` and `docs/client.md`.
const DOCUMENTED: [&str; 5] = ["serve", "get", "put", "ls", "connect"];

fn run(args: &[&str]) -> Output {
    let ran = finish(client(Path::new("."), 1, args));
    ran.assert_ended(0, "");
    ran
}

/// Returns the options that `--help` lists.
fn options_of(command: &[&str]) -> BTreeSet<String> {
    let help = run(&[command, &["--help"]].concat()).stdout;
    let lines = help.lines().filter_map(|line| line.strip_prefix("  --"));
    lines
        .map(|line| format!("--{}", line.split_whitespace().next().unwrap()))
        .collect()
}

/// Returns the commands that `--help` lists.
fn commands(above: &[&str]) -> Vec<String> {
    let help = run(&[above, &["--help"]].concat()).stdout;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let deeper = help.lines().filter(|line| line.starts_with("   ")).count();
    assert!(deeper < help.lines().count());
    names
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase()))
        .filter(|name| help.contains(&format!("\n  {name} ")))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_manual_page_matches_help() {
    let manual = run(&["manual"]).stdout;
    let mut seen = 0;
    for command in commands(&[]) {
        let subs = commands(&[&command]);
        let levels: Vec<Vec<&str>> = match subs.is_empty() {
            true => vec![vec![&command]],
            false => subs.iter().map(|sub| vec![command.as_str(), sub]).collect(),
        };
        for level in levels {
            let title = format!(".SS tidegate {}\n", level.join(" "));
            let (_, section) = manual
                .split_once(&title)
                .unwrap_or_else(|| panic!("{title}"));
            let section = section.split(".SS ").next().unwrap();
            let section = section.split(".SH ").next().unwrap();
            let options: BTreeSet<String> = section
                .lines()
                .filter_map(|line| line.strip_prefix("\\fB"))
                .map(|line| line.split("\\fR").next().unwrap().replace("\\-", "-"))
                .collect();
            assert_eq!(options, options_of(&level), "{title}");
            seen += options.len();
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn every_option_is_documented() {
    let docs = ["operation.md", "client.md"].map(|name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(name);
        fs::read_to_string(path).unwrap()
    });
    let documented: BTreeSet<String> = docs
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.strip_prefix("| `--"))
        .map(|line| format!("--{}", line.split(['`', ' ']).next().unwrap()))
        .collect();
    let options: BTreeSet<String> = DOCUMENTED
        .iter()
        .flat_map(|command| options_of(&[command]))
        .collect();
    assert_eq!(documented, options);
}

#[test]
fn completions_cover_every_command_and_option() {
    for shell in ["bash", "zsh", "fish", "nushell"] {
        let script = run(&["completions", shell]).stdout;
        for command in commands(&[]) {
            assert!(script.contains(&command), "{shell} {command}");
            for option in options_of(&[&command]) {
                // fish has `-l into`.
                assert!(
                    script.contains(option.trim_start_matches('-')),
                    "{shell} {command} {option}"
                );
            }
        }
    }
}

#[test]
fn completions_are_valid_in_each_shell() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, only_parse) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = folder.path().join(shell);
        fs::write(&script, run(&["completions", shell]).stdout).unwrap();
        if needs::has(shell) {
            let parsed = Command::new(shell).arg(only_parse).arg(&script).output();
            let parsed = parsed.unwrap();
            assert!(parsed.status.success(), "{shell}: {parsed:?}");
        }
    }
}
