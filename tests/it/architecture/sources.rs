//! Reads the Rust sources and splits each into code and comments.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file of the tree, without its unit tests.
pub(super) struct Source {
    /// Relative to the root of the repository, for example `src/server/mod.rs`.
    pub path: String,
    /// Lines of code with their numbers; comments and unit tests removed.
    pub code: Vec<(usize, String)>,
    /// Lines of comments with their numbers, without the comment marker; unit tests removed.
    pub comments: Vec<(usize, String)>,
    /// All lines, unit tests included.
    pub text: String,
}

impl Source {
    /// The module path, for example `server::net::stream`; `mod.rs` and `lib.rs` are their folder.
    pub(super) fn module(&self) -> String {
        let path = self.path.trim_end_matches(".rs");
        let (_, path) = path.split_once('/').expect("sources lie in a folder");
        let path = path.trim_end_matches("/mod");
        match path {
            "lib" | "main" => String::new(),
            path => path.replace('/', "::"),
        }
    }
}

/// The root of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder` but files of unit tests, sorted by path.
pub(super) fn sources(folder: &str) -> Vec<Source> {
    let mut sources: Vec<Source> = files(&root().join(folder), "rs")
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs") && !path.ends_with("testing.rs"))
        .filter(|path| {
            !path
                .parent()
                .is_some_and(|folder| folder.ends_with("tests"))
        })
        .map(|path| {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let path = path.strip_prefix(root()).expect("it lies below the root");
            let (code, comments) = split(&text);
            Source {
                path: path.to_str().expect("names are UTF-8").to_owned(),
                code,
                comments,
                text,
            }
        })
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 5, "{folder}: only {} files", sources.len());
    sources
}

/// Every file with one of these extensions below a folder.
pub(super) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("its entries can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

/// The offset of the unit tests inside a file, or its length if it has none.
pub(super) fn unit_tests(text: &str) -> usize {
    text.find("\n#[cfg(test)]\nmod tests {")
        .map_or(text.len(), |at| at + 1)
}

type Lines = Vec<(usize, String)>;

fn split(text: &str) -> (Lines, Lines) {
    let (mut code, mut comments) = (Lines::new(), Lines::new());
    let lines = &text[..unit_tests(text)];
    for (number, line) in (1..).zip(lines.lines()) {
        let trimmed = line.trim_start();
        if let Some(comment) = trimmed.strip_prefix("//") {
            let comment = comment.trim_start_matches(['/', '!']);
            comments.push((number, comment.to_owned()));
            continue;
        }
        match line.split_once(" // ") {
            Some((before, comment)) => {
                comments.push((number, comment.to_owned()));
                code.push((number, before.to_owned()));
            }
            None => code.push((number, line.to_owned())),
        }
    }
    (code, comments)
}
