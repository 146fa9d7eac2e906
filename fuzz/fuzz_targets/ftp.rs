//! FTP's session, by operations: a client's lines, a house that answers as it is told, and what befalls its data
//! connections. It never panics, and what else has to hold is in the dialogue, which the seeds of tests/it play too.
//!
//! The first line of an input is the house's: a byte of it decides each answer, over and over. What follows is the
//! client's. A line of one control character is none: 1 is an idle input, 2 the stop, 3 a reload that leaves other
//! rights, 4 one that ends the login, 5 the end of what the data connection is doing.

#![no_main]

#[path = "../../tests/it/simulation/ftp_dialogue.rs"]
mod ftp_dialogue;

use libfuzzer_sys::fuzz_target;
use tidegate::protocol::line::{LineSplit, split};

use ftp_dialogue::Dialogue;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == b'\n');
    let (decisions, rest) = input.split_at(end.unwrap_or(0));
    let bytes = rest.get(1..).unwrap_or_default();
    let transcript = play(decisions, bytes);
    let again = play(decisions, bytes);
    assert_eq!(again, transcript, "not a function of its inputs");
});

/// What the client hears.
fn play(decisions: &[u8], mut bytes: &[u8]) -> Vec<u8> {
    let mut decisions = decisions.iter().cycle();
    let decide = || decisions.next().copied().unwrap_or_default();
    let mut dialogue = Dialogue::begin(decide);
    while !dialogue.is_closed() {
        match split(bytes) {
            LineSplit::Line { line, used } => {
                bytes = &bytes[used..];
                match line {
                    b"\x01" => dialogue.idle(),
                    b"\x02" => dialogue.stop(),
                    b"\x03" => dialogue.reload(true),
                    b"\x04" => dialogue.reload(false),
                    b"\x05" => dialogue.data_ends(),
                    line => dialogue.line(line),
                }
            }
            LineSplit::TooLong => {
                let end = bytes.iter().position(|&byte| byte == b'\n');
                bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
                dialogue.line_too_long();
            }
            LineSplit::Incomplete => break,
        }
    }
    dialogue.said().to_vec()
}
