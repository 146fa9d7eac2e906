//! Names of tests are facts, short enough to be read in a list.

use std::fs;
use std::path::Path;

use super::sources::{files, root};

/// The longest name of a test, in characters.
const NAME_MAX: usize = 60;

#[test]
fn test_names_have_at_most_60_characters() {
    let mut long = Vec::new();
    let mut tests = 0;
    for folder in ["src", "tests", "benches"] {
        for path in files(&root().join(folder), "rs") {
            for name in test_names(&path) {
                tests += 1;
                if name.len() > NAME_MAX {
                    long.push(format!("{}: {name}", path.display()));
                }
            }
        }
    }
    assert!(tests > 500, "only {tests} tests found");
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// The functions after a `#[test]` attribute, those in `proptest!` included.
fn test_names(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("sources are UTF-8");
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]");
        if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
            names.push(rest.split(['(', '<']).next().unwrap_or(rest).to_owned());
            is_test = false;
        }
    }
    names
}
