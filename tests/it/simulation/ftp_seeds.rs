//! FTP sessions alone, with random input and random responses of the services.
//!
//! For every seed, the session must not panic or send a password, its output must depend on nothing
//! but its input, and the assertions of the dialogue must hold.

use fastrand::Rng;
use tidegate::protocol::ftp::command::VERBS;

use super::ftp_dialogue::{Dialogue, REFUSALS};
use crate::support::seeds::{for_seeds, once_in, one_of};

/// Seeds that have failed.
const FAILED_ONCE: &[u64] = &[];

/// A part of every password.
const SECRET: &str = "s3cret";

#[test]
fn every_ftp_command_gets_one_final_reply() {
    for_seeds(FAILED_ONCE, 256, |seed| {
        let sent = play(seed);
        assert_eq!(sent, play(seed), "repeated");
    });
}

#[test]
fn ftp_seeds_reach_every_refusal() {
    let sent: String = (0..256).map(play).collect();
    for code in [
        "150", "200", "202", "211", "213", "214", "215", "220", "221", "225", "226", "227", "229",
        "230", "250", "257", "331", "350", "421", "425", "426", "450", "451", "452", "500", "501",
        "502", "503", "504", "522", "530", "550", "552", "553", "554",
    ] {
        let line = format!("\n{code} ");
        assert!(sent.contains(&line), "no seed leads to {code}");
    }
}

/// EPRT cannot express the scope of a link-local address, without which it cannot be reached.
#[test]
fn active_mode_keeps_the_ipv6_scope() {
    let mut dialogue = Dialogue::begin(|| b'a');
    for line in ["USER user1", "PASS s3cret", "EPRT |2|::1|2000|", "NLST"] {
        dialogue.line(line.as_bytes());
    }
    dialogue.data_ends();
    dialogue.data_ends();
    let sent = String::from_utf8_lossy(dialogue.sent()).into_owned();
    assert!(sent.contains("\n150 ") && sent.contains("\n226 "), "{sent}");
}

/// Returns the output of a session.
fn play(seed: u64) -> String {
    let mut lines = Rng::with_seed(seed);
    let mut decisions = lines.fork();
    let decide = || match once_in(&mut decisions, 4) {
        true => one_of(&mut decisions, REFUSALS).0,
        false => decisions.u8(b'a'..=b'z'),
    };
    let mut dialogue = Dialogue::begin(decide);
    for _ in 0..250 {
        if dialogue.is_closed() {
            break;
        }
        apply_event(&mut lines, &mut dialogue);
    }
    // Responses to Telnet options are not UTF-8.
    let sent = String::from_utf8_lossy(dialogue.sent()).into_owned();
    assert!(!sent.contains(SECRET), "a password in {sent}");
    sent
}

/// Applies a random event: a line, the end of the current operation, a reload, a timeout.
fn apply_event(random: &mut Rng, dialogue: &mut Dialogue<impl FnMut() -> u8>) {
    match random.u16(..1000) {
        ..3 => dialogue.idle(),
        3..6 => dialogue.stop(),
        6..36 => dialogue.reload(!once_in(random, 8)),
        36..50 => dialogue.line_too_long(),
        50..350 => dialogue.data_ends(),
        _ => dialogue.line(&random_line(random)),
    }
}

/// Returns a random line, usually a command with a plausible argument.
fn random_line(random: &mut Rng) -> Vec<u8> {
    const LIKELY: &[&str] = &[
        "USER user1",
        "PASS s3cret",
        "PASS s3cret",
        "CWD /Movies",
        "CWD a",
        "CDUP",
        "EPSV",
        "PASV",
        "EPSV",
        "EPSV ALL",
        "EPSV 7",
        "PORT 127,0,0,1,200,1",
        "EPRT |2|::1|2000|",
        "TYPE I",
        "TYPE I",
        "REST 5",
        "RETR /Movies/a",
        "RETR /Movies/a",
        "STOR /Movies/b",
        "STOR /Movies/b",
        "STOU",
        "APPE /Movies/c",
        "LIST",
        "NLST /Movies/*",
        "MLSD /Movies",
        "ABOR",
        "\u{7f}ABOR",
        "STAT",
        "STAT /Movies",
        "RNFR /Movies/a",
        "RNTO /Movies/b",
        "XCRC \"/Movies/a\" 1 2",
        "MFMT 20200101000000 /Movies/a",
        "OPTS HASH SHA-1",
        "OPTS MLST unique;",
        "ALLO 10",
    ];
    const ARGUMENTS: &[&str] = &[
        "",
        "/Movies/a",
        "..",
        "/",
        "a\"b",
        "1",
        "-1",
        "18446744073709551615",
        "a\rb",
        "ü",
        "A",
    ];
    let mut line = match once_in(random, 3) {
        false => one_of(random, LIKELY).as_bytes().to_vec(),
        true => {
            let verb = VERBS[random.usize(..VERBS.len())].word;
            // QUIT would make the dialogues short.
            let verb = if verb == "QUIT" { "NOOP" } else { verb };
            format!("{verb} {}", one_of(random, ARGUMENTS)).into_bytes()
        }
    };
    if once_in(random, 100) {
        line = b"QUIT".to_vec();
    }
    if once_in(random, 8) {
        let at = random.usize(..=line.len());
        let telnet: &[u8] = one_of(random, &[&b"\xff\xf4"[..], b"\xff\xfd\x01", b"\xff", b"\0"]);
        line.splice(at..at, telnet.iter().copied());
    }
    line
}
