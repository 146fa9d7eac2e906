//! The client's side of the menu dialogue, against a server that sends anything. The client never
//! panics, its events do not depend on how the bytes are split into fragments, and no name or
//! message is dangerous to a folder or a terminal.
//!
//! The letters of the first line of an input are the client's commands. The second byte after them
//! is the length of the fragments; the bytes of the server follow.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::limits::SERVER_LINE_BYTES_MAX;
use tidegate::protocol::menu::client::{ClientEvent, ClientSession, Violation};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == b'\n');
    let (commands, rest) = input.split_at(end.unwrap_or(0));
    let [_, cut, bytes @ ..] = rest else { return };
    let whole = run_client(commands, bytes, usize::MAX);
    assert_eq!(run_client(commands, bytes, 1 + usize::from(*cut)), whole);
});

/// Returns the events of a client, and the violation that ends the session.
fn run_client(commands: &[u8], bytes: &[u8], size: usize) -> (Vec<String>, Option<Violation>) {
    let mut dialogue = ClientSession::new();
    let mut commands = commands.iter();
    let mut is_logged_in = false;
    let mut events: Vec<String> = Vec::new();
    let mut names = String::new();
    // Bytes of a file that have not arrived yet.
    let mut left = 0;
    let mut buffer = Vec::new();
    send_commands(&mut dialogue, &mut commands, is_logged_in);
    for fragment in bytes.chunks(size.min(bytes.len()).max(1)) {
        buffer.extend_from_slice(fragment);
        loop {
            let taken = buffer.len().min(left);
            buffer.drain(..taken);
            left -= taken;
            if left > 0 {
                break;
            }
            let received = match dialogue.receive(&buffer) {
                Ok(received) => received,
                Err(violation) => {
                    let shown = violation.to_string();
                    assert!(
                        shown
                            .bytes()
                            .all(|byte| byte == b' ' || byte.is_ascii_graphic()),
                        "{shown:?}"
                    );
                    return (events, Some(violation));
                }
            };
            assert!(received.used <= buffer.len());
            let used = received.used;
            let is_nothing = received.event.is_none();
            match received.event {
                None => {}
                Some(ClientEvent::Names { piece, is_last }) => {
                    names += &piece.escape_ascii().to_string();
                    if is_last {
                        events.push(std::mem::take(&mut names));
                    }
                }
                Some(ClientEvent::PasswordWanted) => {
                    dialogue
                        .password(b"1234", &mut Vec::new())
                        .expect("a password");
                }
                Some(ClientEvent::Goodbye(goodbye)) => {
                    events.push(goodbye.to_owned());
                    return (events, None);
                }
                Some(event) => {
                    match &event {
                        ClientEvent::LoggedIn => is_logged_in = true,
                        ClientEvent::File { length } => {
                            left = usize::try_from(*length).unwrap_or(usize::MAX)
                        }
                        ClientEvent::Entry(entry) => {
                            assert!(!entry.name.contains('/') && !entry.name.starts_with('.'));
                            assert!(
                                !entry.name.contains(char::is_control) && !entry.name.is_empty()
                            );
                        }
                        _ => {}
                    }
                    events.push(format!("{event:?}"));
                }
            }
            buffer.drain(..used);
            if is_nothing {
                break;
            }
            if dialogue.unanswered() == 0 {
                send_commands(&mut dialogue, &mut commands, is_logged_in);
            }
        }
        assert!(
            left > 0 || buffer.len() <= SERVER_LINE_BYTES_MAX,
            "the client keeps more than one line"
        );
    }
    (events, None)
}

/// Sends commands: a login only after all replies, the others without waiting.
fn send_commands<'a>(
    dialogue: &mut ClientSession,
    commands: &mut (impl Iterator<Item = &'a u8> + Clone),
    is_logged_in: bool,
) {
    let mut out = Vec::new();
    loop {
        let mut next = commands.clone();
        match next.next() {
            Some(b'l') if is_logged_in => Ok(()),
            Some(b'l') if dialogue.unanswered() > 0 => return,
            Some(b'l') => {
                *commands = next;
                return dialogue.login("user1", &mut out).expect("a name");
            }
            Some(b'd') => {
                dialogue.show_directories(&mut out);
                Ok(())
            }
            Some(b's') => dialogue.show_directory("Movies", &mut out),
            Some(b'S') => dialogue.show_directory(" Movies ", &mut out),
            Some(b't') => {
                dialogue.show_details(&mut out);
                Ok(())
            }
            Some(b'u') => {
                dialogue.show_quota(&mut out);
                Ok(())
            }
            Some(b'f') => dialogue.download("Movies/Joker", &mut out),
            Some(b'F') => dialogue.download("Movies/ Joker ", &mut out),
            Some(b'r') => dialogue.resume("Movies/Joker", 100, &mut out),
            Some(b'R') => dialogue.resume("Movies/ Joker ", 100, &mut out),
            Some(b'p') => dialogue.put("Uploads/Notes", 11, &mut out),
            Some(b'P') => dialogue.put_new("Uploads/Notes", 11, &mut out),
            Some(b'm') => dialogue.make_directory("Uploads/New", &mut out),
            Some(b'c') => dialogue.checksum("Movies/Joker", &mut out),
            Some(b'q') => {
                dialogue.quit(&mut out);
                Ok(())
            }
            Some(_) => Ok(()),
            None => return,
        }
        .expect("names that can be said");
        *commands = next;
    }
}
