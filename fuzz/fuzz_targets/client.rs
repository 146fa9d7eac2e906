//! The client's side of the dialogue against a server that may say anything: it never panics, what it makes of the bytes
//! does not depend on how the network cut them, and no name or message is dangerous to a folder or a terminal.
//!
//! The first line of an input says, a letter a command, what is asked; the second byte of the rest cuts the server's
//! bytes, which come behind it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::limits::SERVER_LINE_BYTES_MAX;
use tidegate::protocol::menu::client::{ClientEvent, ClientSession, Violation};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == b'\n');
    let (commands, rest) = input.split_at(end.unwrap_or(0));
    let [_, cut, bytes @ ..] = rest else { return };
    let whole = hear(commands, bytes, usize::MAX);
    assert_eq!(hear(commands, bytes, 1 + usize::from(*cut)), whole);
});

/// What a client is told, and how it ends.
fn hear(commands: &[u8], bytes: &[u8], size: usize) -> (Vec<String>, Option<Violation>) {
    let mut dialogue = ClientSession::new();
    let mut commands = commands.iter();
    let mut is_logged_in = false;
    let mut told: Vec<String> = Vec::new();
    let mut names = String::new();
    // Bytes of a file that are still to come.
    let mut left = 0;
    let mut buffer = Vec::new();
    ask(&mut dialogue, &mut commands, is_logged_in);
    for fragment in bytes.chunks(size.min(bytes.len()).max(1)) {
        buffer.extend_from_slice(fragment);
        loop {
            let taken = buffer.len().min(left);
            buffer.drain(..taken);
            left -= taken;
            if left > 0 {
                break;
            }
            let heard = match dialogue.receive(&buffer) {
                Ok(heard) => heard,
                Err(violation) => {
                    let shown = violation.to_string();
                    assert!(
                        shown
                            .bytes()
                            .all(|byte| byte == b' ' || byte.is_ascii_graphic()),
                        "{shown:?}"
                    );
                    return (told, Some(violation));
                }
            };
            assert!(heard.used <= buffer.len());
            let used = heard.used;
            let is_nothing = heard.event.is_none();
            match heard.event {
                None => {}
                Some(ClientEvent::Names { piece, is_last }) => {
                    names += &piece.escape_ascii().to_string();
                    if is_last {
                        told.push(std::mem::take(&mut names));
                    }
                }
                Some(ClientEvent::PasswordWanted) => {
                    dialogue
                        .password(b"1234", &mut Vec::new())
                        .expect("a password");
                }
                Some(ClientEvent::Goodbye(goodbye)) => {
                    told.push(goodbye.to_owned());
                    return (told, None);
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
                    told.push(format!("{event:?}"));
                }
            }
            buffer.drain(..used);
            if is_nothing {
                break;
            }
            if dialogue.unanswered() == 0 {
                ask(&mut dialogue, &mut commands, is_logged_in);
            }
        }
        assert!(
            left > 0 || buffer.len() <= SERVER_LINE_BYTES_MAX,
            "it keeps what it has heard"
        );
    }
    (told, None)
}

/// Asks for what comes next: a login by itself, and all else ahead of its answers.
fn ask<'a>(
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
