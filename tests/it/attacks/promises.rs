//! docs/security.md names the tests that hold its promises: they exist.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn each_test_that_the_security_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/security.md")).expect("it is there");
    let mut sources = String::new();
    let mut folders: Vec<PathBuf> = vec![root.join("src"), root.join("tests/it")];
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
