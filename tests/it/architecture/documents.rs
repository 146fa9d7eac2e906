//! Links and source paths in the documentation must exist.

use std::fs;
use std::path::PathBuf;

use super::sources::{files, root};

#[test]
fn relative_links_lead_to_files_that_exist() {
    let mut broken = Vec::new();
    let mut links = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).expect("documentation is UTF-8");
        for after in text.split("](").skip(1) {
            let target = after.split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let folder = path.parent().expect("it lies in a folder");
            if !folder.join(file).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(
        links > 20 && broken.is_empty(),
        "{links}: {}",
        broken.join("\n")
    );
}

#[test]
fn source_paths_in_the_documentation_exist() {
    let mut broken = Vec::new();
    for path in documents() {
        if path.ends_with("CHANGELOG.md") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("documentation is UTF-8");
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path = [
                "src/",
                "tests/",
                "benches/",
                "scripts/",
                "docs/",
                "fuzz/",
                "packaging/",
            ]
            .iter()
            .any(|folder| quoted.starts_with(folder));
            let is_plain = quoted
                .chars()
                .all(|c| c.is_alphanumeric() || "/._-".contains(c));
            if is_path && is_plain && !root().join(quoted).exists() {
                broken.push(format!("{}: {quoted}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn prose_is_wrapped_at_100_columns() {
    let mut long = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).expect("documentation is UTF-8");
        let mut is_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            is_code ^= line.trim_start().starts_with("```");
            let is_table = line.trim_start().starts_with('|');
            let is_link = line.contains("](");
            if !is_code && !is_table && !is_link && line.chars().count() > 100 {
                long.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

fn documents() -> Vec<PathBuf> {
    let mut documents = files(&root().join("docs"), "md");
    let top = fs::read_dir(root()).expect("the root can be read");
    let top = top.map(|entry| entry.expect("its entries can be read").path());
    documents.extend(top.filter(|path| path.extension().is_some_and(|found| found == "md")));
    assert!(documents.len() > 8, "only {} documents", documents.len());
    documents
}
