//! The FTP session, with the server's services and the data connections simulated. The session
//! never panics and keeps the rules of tests/it's FTP dialogue, which is compiled into this target.
//! Equal inputs give equal output.
//!
//! The bytes of the first line of an input decide the responses of the services, repeatedly. The
//! rest is what the client sends. A line of one control character is an event: 1 is the idle
//! timeout, 2 the shutdown, 3 a reload that changes the user's rights, 4 one that removes the user,
//! 5 the end of the transfer on the data connection.

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

/// Returns everything that the session sends.
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
    dialogue.sent().to_vec()
}
