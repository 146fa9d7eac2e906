//! The text of FTP listings: NLST, LIST and the facts of MLSD and MLST.

use std::fmt::Display;
use std::io::Write;

use jiff::Timestamp;

use crate::domain::access::Rights;
use crate::domain::listing::{FileStatus, MlstFacts};

/// Half a mean Gregorian year. As `ls -l` does, LIST shows the year instead of the time of day for
/// entries that are older than this or lie in the future.
const SIX_MONTHS_SECONDS: i64 = 31_556_952 / 2;

/// Appends an entry of NLST: a name on a line.
pub fn append_name(out: &mut Vec<u8>, prefix: &str, name: &str) {
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends an entry of LIST: type, mode, links, owner, group, size, time and name. The mode shows
/// the rights of the grant; links, owner and group are constant. `now` is in seconds since 1970.
pub fn append_long(out: &mut Vec<u8>, name: &str, status: &FileStatus, rights: Rights, now: i64) {
    let (kind, write, execute) = match status.is_directory {
        true => ('d', rights.may_add(), 'x'),
        false => ('-', rights.change, '-'),
    };
    let read = if rights.read { 'r' } else { '-' };
    let write = if write { 'w' } else { '-' };
    let time = timestamp(status.modified);
    let age = now.saturating_sub(status.modified);
    let time = match (0..SIX_MONTHS_SECONDS).contains(&age) {
        true => time.strftime("%b %e %H:%M"),
        false => time.strftime("%b %e  %Y"),
    };
    append(
        out,
        format_args!(
            "{kind}{read}{write}{execute}{read}-{execute}{read}-{execute} 1 ftp ftp {:>12} {time} ",
            status.size
        ),
    );
    append_name(out, "", name);
}

/// Appends the facts of an entry, each followed by `;` (RFC 3659, 7.5).
pub fn append_facts(out: &mut Vec<u8>, facts: MlstFacts, status: &FileStatus, rights: Rights) {
    if facts.kind {
        let kind = if status.is_directory { "dir" } else { "file" };
        append(out, format_args!("type={kind};"));
    }
    if facts.size && !status.is_directory {
        append(out, format_args!("size={};", status.size));
    }
    if facts.modify {
        append(out, format_args!("modify={};", time(status.modified)));
    }
    if facts.perm {
        out.extend_from_slice(b"perm=");
        append_perm(out, status, rights, facts.of_top);
        out.push(b';');
    }
    // Zero is no identity: a client would take all such files for one.
    if facts.unique && status.identity.1 != 0 {
        let (device, inode) = status.identity;
        append(out, format_args!("unique={device:x}g{inode:x};"));
    }
}

/// Returns a time in the format of MDTM and the `modify` fact: `YYYYMMDDHHMMSS` in UTC (RFC 3659,
/// 2.3).
pub fn time(seconds: i64) -> impl Display {
    timestamp(seconds).strftime("%Y%m%d%H%M%S")
}

/// Appends the value of the `perm` fact (RFC 3659, 7.5.5).
fn append_perm(out: &mut Vec<u8>, status: &FileStatus, rights: Rights, is_granted: bool) {
    let letters: &[(&str, bool)] = match status.is_directory {
        true => &[
            ("c", rights.may_add()),
            ("df", rights.change && !is_granted),
            ("p", rights.change),
            ("el", true),
            ("m", rights.may_add()),
        ],
        false => &[("adfw", rights.change), ("r", rights.read)],
    };
    for (letters, _) in letters.iter().filter(|(_, may)| *may) {
        out.extend_from_slice(letters.as_bytes());
    }
}

/// Returns the timestamp, clamped to years of four digits.
fn timestamp(seconds: i64) -> Timestamp {
    /// `0001-01-01T00:00:00Z`.
    const MIN: i64 = -62_135_596_800;
    /// `9999-12-30T22:00:00Z`, the largest second that jiff supports.
    const MAX: i64 = 253_402_207_200;
    Timestamp::from_second(seconds.clamp(MIN, MAX)).expect("the clamp keeps it in jiff's range")
}

fn append(out: &mut Vec<u8>, text: impl Display) {
    write!(out, "{text}").expect("writing to a Vec cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::listing::{ListingEntry, ListingFormat};
    use crate::protocol::listing;

    const NOW: i64 = 1_795_370_400; // 2026-11-22T18:00:00Z
    const READ: Rights = Rights {
        quota: None,
        read: true,
        upload: false,
        change: false,
        hidden: false,
    };
    const CHANGE: Rights = Rights {
        quota: None,
        read: true,
        upload: false,
        change: true,
        hidden: false,
    };
    const ALL: MlstFacts = MlstFacts {
        kind: true,
        size: true,
        modify: true,
        perm: true,
        unique: true,
        of_top: false,
    };

    fn entry(format: ListingFormat, is_directory: bool, modified: i64, rights: Rights) -> String {
        let status = FileStatus {
            is_directory,
            size: 4096,
            modified,
            identity: (0xfe01, 12),
        };
        let mut out = Vec::new();
        let entry = ListingEntry {
            prefix: "",
            name: "a b",
            status,
            rights,
        };
        listing::append(&mut out, format, &entry, NOW);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn long_entries_look_like_ls_output() {
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
    fn times_outside_the_last_six_months_show_the_year() {
        let time = |modified| entry(ListingFormat::Long, false, modified, READ)[34..46].to_owned();
        assert_eq!(time(NOW), "Nov 22 18:00");
        assert_eq!(time(NOW - SIX_MONTHS_SECONDS + 1), "May 24 03:05");
        assert_eq!(time(NOW - SIX_MONTHS_SECONDS), "May 24  2026");
        assert_eq!(time(NOW + 1), "Nov 22  2026", "in the future");
        assert_eq!(time(1_709_164_800), "Feb 29  2024");
        assert_eq!(time(i64::MAX), "Dec 30  9999");
        assert_eq!(time(i64::MIN), "Jan  1  0001");
    }

    #[test]
    fn inode_zero_is_no_unique_fact() {
        let unique = |inode| {
            let status = FileStatus {
                is_directory: true,
                size: 0,
                modified: 0,
                identity: (5, inode),
            };
            let mut out = Vec::new();
            append_facts(&mut out, ALL, &status, READ);
            String::from_utf8(out).unwrap()
        };
        let [known, unknown] = [unique(1), unique(0)];
        assert!(known.contains("unique=5g1;"), "{known}");
        assert!(!unknown.contains("unique"), "{unknown}");
    }

    #[test]
    fn only_requested_facts_are_written() {
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
