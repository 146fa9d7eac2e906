//! Documentation that must match the code: the tests in `docs/security.md`, the events in
//! `docs/log.md`.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn tests_named_in_the_security_document_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/security.md")).expect("the document exists");
    let sources = sources(&["src", "tests/it"]);
    let names: Vec<&str> = document
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            word.matches('_').count() > 1
                && word
                    .bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        })
        .collect();
    assert!(names.len() > 40, "only {} tests are named", names.len());
    for name in names {
        let test = format!("#[test]\nfn {name}(");
        let indented = format!("#[test]\n    fn {name}(");
        let property = format!("        fn {name}(");
        let found = [&test, &indented, &property]
            .iter()
            .any(|text| sources.contains(text.as_str()));
        assert!(
            found,
            "docs/security.md names {name}, and there is no such test"
        );
    }
}

#[test]
fn log_events_and_close_reasons_are_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/log.md")).expect("the document exists");
    let sources = sources(&["src"]);
    let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
    let words = |before: &str| {
        let rest = sources.split(before).skip(1);
        rest.map(|rest| rest[..rest.find(|c| !is_word(c)).unwrap()].to_owned())
            .collect::<Vec<_>>()
    };
    let mut expected = words("event=");
    assert!(
        expected.len() > 30,
        "only {} events were found",
        expected.len()
    );
    expected.retain(|event| event != "x"); // in a test only
    expected.extend(words("limit="));
    let endings = sources.split("CloseReason::").skip(1);
    expected.extend(endings.filter_map(|rest| {
        let (ending, word) = rest.split_once(" => \"")?;
        let is_one = ending.chars().all(char::is_alphanumeric);
        is_one.then(|| word.chars().take_while(|&c| is_word(c)).collect())
    }));
    assert!(expected.len() > 50, "only {expected:?} were found");
    for word in expected {
        assert!(
            document.contains(&format!("`{word}`")),
            "docs/log.md does not document {word}"
        );
    }
}

/// Returns the concatenated Rust sources of these folders.
fn sources(folders: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut sources = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    sources
}
