//! The features that the server reports: FEAT, OPTS and HELP.

use std::fmt::Write;

use crate::domain::listing::MlstFacts;
use crate::domain::request::Algorithm;
use crate::protocol::ftp::command::{VERBS, Verb};
use crate::protocol::ftp::reply::line;

/// Appends the reply to OPTS MLST (RFC 3659, 7.9).
pub(super) fn append_selected_facts(out: &mut Vec<u8>, facts: MlstFacts) {
    let mut names = String::new();
    for (name, is_selected) in fact_names(facts) {
        if is_selected {
            let _ = write!(names, "{name};");
        }
    }
    let blank = if names.is_empty() { "" } else { " " };
    line(out, format_args!("200 MLST OPTS{blank}{names}"));
}

/// Appends the reply to OPTS HASH (draft-bryan-ftpext-hash, 3.3).
pub(super) fn append_selected_algorithm(out: &mut Vec<u8>, algorithm: Algorithm) {
    line(out, format_args!("200 {}", algorithm_name(algorithm)));
}

/// The features of FEAT without parameters, except for HASH and MLST.
const FEATURES: [&str; 17] = [
    "AVBL",
    "CLNT",
    "EPRT",
    "EPSV",
    "HOST",
    "LANG EN*",
    "MDTM",
    "MFMT",
    "REST STREAM",
    "SIZE",
    "TVFS",
    "UTF8",
    "XCRC",
    "XMD5",
    "XSHA1",
    "XSHA256",
    "XSHA512",
];

/// Appends the reply to FEAT (RFC 2389, 3.2). An asterisk marks what is selected.
pub(super) fn append_features(out: &mut Vec<u8>, facts: MlstFacts, algorithm: Algorithm) {
    line(out, "211-Features:");
    for feature in FEATURES {
        line(out, format_args!(" {feature}"));
    }
    let mut algorithms = String::new();
    for each in ALGORITHMS {
        let mark = if each == algorithm { "*" } else { "" };
        let _ = write!(algorithms, "{}{mark};", algorithm_name(each));
    }
    line(out, format_args!(" HASH {algorithms}"));
    let mut names = String::new();
    for (name, is_selected) in fact_names(facts) {
        let mark = if is_selected { "*" } else { "" };
        let _ = write!(names, "{name}{mark};");
    }
    line(out, format_args!(" MLST {names}"));
    line(out, "211 End");
}

/// Appends the reply to HELP (4.1.3).
pub(super) fn append_help(out: &mut Vec<u8>) {
    line(out, "214-Commands:");
    for verbs in VERBS.chunks(10) {
        let words: Vec<&str> = verbs.iter().map(|verb| verb.word).collect();
        line(out, format_args!(" {}", words.join(" ")));
    }
    line(out, "214 HELP COMMAND shows the syntax of a command.");
}

/// Appends the reply to HELP for a command.
pub(super) fn append_command_help(out: &mut Vec<u8>, verb: &Verb) {
    let blank = if verb.argument.is_empty() { "" } else { " " };
    line(
        out,
        format_args!("214 {}{blank}{}", verb.word, verb.argument),
    );
}

/// Appends the reply to SITE HELP.
pub(super) fn append_site_help(out: &mut Vec<u8>) {
    line(out, "214-SITE commands:");
    line(out, " HELP");
    line(out, "214 End");
}

/// The algorithms of HASH, strongest first.
pub(super) const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Sha512,
    Algorithm::Sha256,
    Algorithm::Sha1,
    Algorithm::Md5,
    Algorithm::Crc32,
];

/// Returns the name of an algorithm in HASH (draft-bryan-ftpext-hash, registry).
pub(super) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha512 => "SHA-512",
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha1 => "SHA-1",
        Algorithm::Md5 => "MD5",
        Algorithm::Crc32 => "CRC32",
    }
}

/// The names of the facts in the order of FEAT, with whether they are selected.
fn fact_names(facts: MlstFacts) -> [(&'static str, bool); 5] {
    [
        ("type", facts.kind),
        ("perm", facts.perm),
        ("size", facts.size),
        ("modify", facts.modify),
        ("unique", facts.unique),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ftp::reply;

    #[test]
    fn inner_lines_begin_with_a_blank() {
        let facts = MlstFacts {
            kind: true,
            size: true,
            modify: true,
            perm: true,
            unique: false,
            of_top: false,
        };
        let mut out = Vec::new();
        append_features(&mut out, facts, Algorithm::Sha256);
        append_help(&mut out);
        reply::append_status(&mut out, Some("221 me"), "127.0.0.1", true, None);
        reply::append_top_facts(&mut out, facts);
        append_site_help(&mut out);
        let text = String::from_utf8(out).unwrap();
        let mut open: Option<&str> = None;
        for line in text.split_terminator("\r\n") {
            match open {
                None if line.as_bytes()[3] == b'-' => open = Some(&line[..3]),
                None => {}
                Some(code) if line.starts_with(&format!("{code} ")) => open = None,
                Some(_) => assert!(line.starts_with(' '), "{line}"),
            }
        }
        assert_eq!(open, None);
        assert!(text.contains("\r\n MLST type*;perm*;size*;modify*;unique;\r\n"));
        assert!(text.contains(" HASH SHA-512;SHA-256*;SHA-1;MD5;CRC32;\r\n"));
    }
}
