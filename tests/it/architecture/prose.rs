//! Words of a private idiom that comments and documentation avoid.
//!
//! `CONTRIBUTING.md` lists the words to use instead.

use std::fs;

use super::sources::{files, root, sources};

/// The number of avoided words allowed per thousand words, because quotations may contain some.
const AVOIDED_PER_THOUSAND_MAX: f64 = 1.0;

const AVOIDED: &[&str] = &[
    "he",
    "his",
    "him",
    "himself",
    "she",
    "her",
    "somebody",
    "nobody",
    "anybody",
    "everybody",
    "whoever",
    "told",
    "tells",
    "tell",
    "stands",
    "stand",
    "stood",
    "behind",
    "beside",
    "amid",
    "anew",
    "house",
    "tenant",
    "stranger",
    "wishes",
];

/// Words after which *who* and *what* are relative pronouns without an antecedent, as they are at
/// the beginning of a clause.
const BEFORE_HEADLESS: &[&str] = &[
    "of", "to", "for", "from", "by", "with", "than", "and", "or", "but", "so", "that", "as", "at",
    "on", "in", "is", "are", "knows", "says", "after", "before",
];

#[test]
fn comments_in_the_sources_are_plain() {
    let mut text = String::new();
    for source in sources("src") {
        for (_, line) in &source.comments {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(".\n");
    }
    assert_plain("src", &text);
}

#[test]
fn documentation_is_plain() {
    let mut text = String::new();
    let mut paths = files(&root().join("docs"), "md");
    paths.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)));
    for path in paths {
        let content = fs::read_to_string(&path).expect("documentation is UTF-8");
        let mut is_quoted = false;
        for line in content.lines() {
            if line.trim_start().starts_with("```") {
                is_quoted = !is_quoted;
            } else if !is_quoted {
                // Text in back-quotes is code.
                text.extend(line.split('`').step_by(2));
                text.push('\n');
            }
        }
    }
    assert_plain("README.md and docs", &text);
}

fn assert_plain(what: &str, text: &str) {
    let words: Vec<String> = (text.split_whitespace()).map(str::to_lowercase).collect();
    let mut found = Vec::new();
    let mut before = String::from(".");
    for (at, word) in words.iter().enumerate() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_clause = before.ends_with(['.', ',', ';', ':', '(']) || word.starts_with('(');
        let before_bare = before.trim_matches(|c: char| !c.is_alphanumeric());
        let is_headless = ["who", "what"].contains(&bare)
            && (is_clause || BEFORE_HEADLESS.contains(&before_bare))
            && !word.ends_with(['?', '=']);
        if AVOIDED.contains(&bare) || is_headless {
            let from = at.saturating_sub(4);
            let to = (at + 4).min(words.len());
            found.push(words[from..to].join(" "));
        }
        before.clone_from(word);
    }
    let per_thousand = found.len() as f64 * 1000.0 / words.len() as f64;
    assert!(
        per_thousand < AVOIDED_PER_THOUSAND_MAX,
        "{what}: {per_thousand:.2} avoided words per thousand:\n{}",
        found.join("\n")
    );
}
