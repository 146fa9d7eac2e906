//! How an entry of a listing, or of MLST, is written.
//!
//! Pure, and used by whoever reads the directory. Must not know: how an entry was found.

use std::fmt::Display;
use std::io::Write;

use jiff::Timestamp;

use crate::domain::access::Rights;
use crate::domain::listing::{FileStatus, ListingFormat, MlstFacts};

/// Half a mean year: what was changed earlier, or is yet to come, is listed with its year instead of the hour.
const SIX_MONTHS_SECONDS: i64 = 31_556_952 / 2;

/// Appends one entry and the line end: a name a line, as `ls -l` writes it, or as RFC 3659 does. `rights` are those of the grant
/// that it lies in; `now` is in seconds since 1970. The other forms are the menu's.
pub fn append_entry(
    out: &mut Vec<u8>,
    form: ListingFormat,
    name: &str,
    found: &FileStatus,
    rights: Rights,
    now: i64,
) {
    match form {
        ListingFormat::Lines => {}
        ListingFormat::Long => append_long(out, found, rights, now),
        ListingFormat::Facts(facts) => {
            append_facts(out, facts, found, rights);
            out.push(b' ');
        }
        ListingFormat::Names | ListingFormat::Details => {
            unreachable!("menu_text writes the menu's forms")
        }
    }
    append(out, format_args!("{name}\r\n"));
}

/// Appends the facts of MLST and MLSD (RFC 3659, 7.5), each with a `;` behind it.
pub fn append_facts(out: &mut Vec<u8>, facts: MlstFacts, found: &FileStatus, rights: Rights) {
    if facts.kind {
        let kind = if found.is_directory { "dir" } else { "file" };
        append(out, format_args!("type={kind};"));
    }
    if facts.size && !found.is_directory {
        append(out, format_args!("size={};", found.size));
    }
    if facts.modify {
        append(out, format_args!("modify={};", time(found.modified)));
    }
    if facts.perm {
        append(
            out,
            format_args!("perm={};", perm(found, rights, facts.of_top)),
        );
    }
    if facts.unique {
        let (device, inode) = found.identity;
        append(out, format_args!("unique={device:x}g{inode:x};"));
    }
}

/// A time as MDTM and `modify` have it: `YYYYMMDDHHMMSS`, in UTC.
pub fn time(seconds: i64) -> impl Display {
    timestamp(seconds).strftime("%Y%m%d%H%M%S")
}

/// What may be done with it (RFC 3659, 7.5.5).
fn perm(found: &FileStatus, rights: Rights, is_of_top: bool) -> String {
    let letters: &[(&str, bool)] = match found.is_directory {
        true => &[
            ("c", rights.may_add()),
            ("df", rights.change && !is_of_top),
            ("p", rights.change),
            ("el", true),
            ("m", rights.may_add()),
        ],
        false => &[("adfw", rights.change), ("r", rights.read)],
    };
    letters
        .iter()
        .filter(|(_, may)| *may)
        .map(|(letters, _)| *letters)
        .collect()
}

/// Type, mode, links, owner, group, size and time; the mode tells the rights, the owner nothing.
fn append_long(out: &mut Vec<u8>, found: &FileStatus, rights: Rights, now: i64) {
    let (kind, write, run) = match found.is_directory {
        true => ('d', rights.may_add(), 'x'),
        false => ('-', rights.change, '-'),
    };
    let read = if rights.read { 'r' } else { '-' };
    let write = if write { 'w' } else { '-' };
    let time = timestamp(found.modified);
    let age = now.saturating_sub(found.modified);
    let time = match (0..SIX_MONTHS_SECONDS).contains(&age) {
        true => time.strftime("%b %e %H:%M"),
        false => time.strftime("%b %e  %Y"),
    };
    append(
        out,
        format_args!(
            "{kind}{read}{write}{run}{read}-{run}{read}-{run} 1 ftp ftp {:>12} {time} ",
            found.size
        ),
    );
}

/// The time, or the nearest one that has a year of four digits.
fn timestamp(seconds: i64) -> Timestamp {
    /// `0001-01-01T00:00:00Z`.
    const MIN: i64 = -62_135_596_800;
    /// `9999-12-30T22:00:00Z`, the last second that jiff knows.
    const MAX: i64 = 253_402_207_200;
    Timestamp::from_second(seconds.clamp(MIN, MAX)).expect("the clamp keeps it within jiff's years")
}

fn append(out: &mut Vec<u8>, text: impl Display) {
    write!(out, "{text}").expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_370_400; // 2026-11-22T18:00:00Z
    const READ: Rights = Rights {
        quota: None,
        read: true,
        upload: false,
        change: false,
    };
    const CHANGE: Rights = Rights {
        quota: None,
        read: true,
        upload: false,
        change: true,
    };
    const ALL: MlstFacts = MlstFacts {
        kind: true,
        size: true,
        modify: true,
        perm: true,
        unique: true,
        of_top: false,
    };

    fn entry(form: ListingFormat, is_directory: bool, modified: i64, rights: Rights) -> String {
        let found = FileStatus {
            is_directory,
            size: 4096,
            modified,
            identity: (0xfe01, 12),
        };
        let mut out = Vec::new();
        append_entry(&mut out, form, "a b", &found, rights, NOW);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn long_entries_look_like_those_of_ls() {
        let long = |is_directory, modified, rights| {
            entry(ListingFormat::Long, is_directory, modified, rights)
        };
        assert_eq!(
            long(false, NOW - 60, READ),
            "-r--r--r-- 1 ftp ftp         4096 Nov 22 17:59 a b\r\n"
        );
        assert_eq!(
            long(true, NOW - 20 * 86_400, CHANGE),
            "drwxr-xr-x 1 ftp ftp         4096 Nov  2 18:00 a b\r\n"
        );
    }

    #[test]
    fn a_time_of_another_half_year_has_its_year() {
        let shown = |modified| entry(ListingFormat::Long, false, modified, READ)[34..46].to_owned();
        assert_eq!(shown(NOW), "Nov 22 18:00");
        assert_eq!(shown(NOW - SIX_MONTHS_SECONDS + 1), "May 24 03:05");
        assert_eq!(shown(NOW - SIX_MONTHS_SECONDS), "May 24  2026");
        assert_eq!(shown(NOW + 1), "Nov 22  2026", "what is yet to come");
        assert_eq!(shown(1_709_164_800), "Feb 29  2024");
        assert_eq!(shown(i64::MAX), "Dec 30  9999");
        assert_eq!(shown(i64::MIN), "Jan  1  0001");
    }

    #[test]
    fn facts_are_those_that_were_asked_for() {
        assert_eq!(
            entry(ListingFormat::Facts(ALL), false, NOW, READ),
            "type=file;size=4096;modify=20261122180000;perm=r;unique=fe01gc; a b\r\n"
        );
        assert_eq!(
            entry(ListingFormat::Facts(ALL), true, NOW, CHANGE),
            "type=dir;modify=20261122180000;perm=cdfpelm;unique=fe01gc; a b\r\n"
        );
        let none = MlstFacts {
            kind: false,
            size: false,
            modify: false,
            perm: false,
            unique: false,
            of_top: false,
        };
        assert_eq!(
            entry(ListingFormat::Facts(none), true, NOW, CHANGE),
            " a b\r\n"
        );
        assert_eq!(entry(ListingFormat::Lines, true, NOW, CHANGE), "a b\r\n");
    }
}
