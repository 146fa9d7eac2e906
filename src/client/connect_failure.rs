//! Why there is no session with a server: messages with the next step.

use std::io;

use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::remote::Remote;
use crate::client::sanitized::Sanitized;
use crate::domain::io_reason::io_reason;

/// The next step if another program has the port.
const CORRECT_PORT: &str = "connect to the menu's port (default 2100)";

/// The host could not be resolved.
pub(super) fn unknown_host(remote: &Remote, error: &io::Error) -> ClientError {
    let reason = error.to_string();
    let reason = match reason.split_once("lookup address information: ") {
        Some((_, reason)) => reason,
        None => &reason,
    };
    ClientError::NoServer(format!(
        "cannot find the host of {}: {reason}. Check the name, or give an address.",
        remote.server()
    ))
}

/// No address of the host accepted a connection.
pub(super) fn no_connection(login: &RemoteLogin, error: &io::Error) -> ClientError {
    let seconds = login.timeout.as_secs();
    let (reason, advice) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            "connection refused".into(),
            "Check the port and that the server is running.",
        ),
        io::ErrorKind::TimedOut => (
            format!("no answer within {seconds} s"),
            "Check the address and firewalls; --timeout waits longer.",
        ),
        _ => (io_reason(error), "Check the address and the network."),
    };
    let server = login.remote.server();
    ClientError::NoServer(format!("cannot connect to {server}: {reason}. {advice}"))
}

/// The server did not begin as tidegate's menu does, with `received`; `None` if these bytes may
/// come from a menu.
pub(super) fn not_a_menu(remote: &Remote, received: &[u8]) -> Option<ClientError> {
    let server = remote.server();
    let what = match protocol_of(received) {
        Some(protocol) => format!("{server} speaks {protocol}, not tidegate's menu"),
        None if received.starts_with(b"Please ") => return None,
        None => {
            const SHOWN_BYTES_MAX: usize = 60;
            let line = received.split(|&byte| byte == b'\n').next().unwrap_or(b"");
            let line = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES_MAX)]);
            let line = Sanitized(line.trim_end());
            format!("{server} is not tidegate's menu: it sent '{line}'")
        }
    };
    Some(ClientError::NoServer(format!("{what}; {CORRECT_PORT}")))
}

/// The server sent nothing, for the given reason.
pub(super) fn no_greeting(remote: &Remote, reason: &str) -> ClientError {
    let server = remote.server();
    ClientError::NoServer(format!(
        "{server} sent no greeting: {reason}; {CORRECT_PORT}"
    ))
}

/// Recognizes the first bytes of a server of another protocol.
fn protocol_of(received: &[u8]) -> Option<&'static str> {
    let has_code = |codes: [&[u8]; 3]| codes.iter().any(|code| received.starts_with(code));
    let contains = |word: &[u8]| received.windows(word.len()).any(|part| part == word);
    if received.starts_with(b"SSH-") {
        Some("SSH")
    } else if received.starts_with(b"HTTP/") || received.starts_with(b"<!DOCTYPE") {
        Some("HTTP")
    } else if has_code([b"220", b"421", b"554"]) && contains(b"SMTP") {
        Some("SMTP")
    } else if has_code([b"220", b"120", b"421"]) {
        Some("FTP")
    } else if received.starts_with(&[0x15, 0x03]) || received.starts_with(&[0x16, 0x03]) {
        Some("TLS")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_recognized_by_their_first_bytes() {
        let remote: Remote = "user1@127.0.0.1:2121".parse().unwrap();
        for (received, what) in [
            (
                &b"220 ready.\r\n"[..],
                Some("speaks FTP, not tidegate's menu"),
            ),
            (
                b"220-Welcome\r\n220 ",
                Some("speaks FTP, not tidegate's menu"),
            ),
            (
                b"421 Too many connections\r\n",
                Some("speaks FTP, not tidegate's menu"),
            ),
            (
                b"220 mail ESMTP\r\n",
                Some("speaks SMTP, not tidegate's menu"),
            ),
            (
                b"SSH-2.0-OpenSSH_9.6\r\n",
                Some("speaks SSH, not tidegate's menu"),
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n",
                Some("speaks HTTP, not tidegate's menu"),
            ),
            (
                b"\x15\x03\x03\0\x02\x02\x32",
                Some("speaks TLS, not tidegate's menu"),
            ),
            (
                b"* OK \x1b[2J\n",
                Some("is not tidegate's menu: it sent '* OK \\u{1b}[2J'"),
            ),
            (b"Please choose\n", None),
        ] {
            let error = not_a_menu(&remote, received).map(|error| error.to_string());
            let expected = what.map(|what| {
                format!("127.0.0.1:2121 {what}; connect to the menu's port (default 2100)")
            });
            assert_eq!(error, expected);
        }
    }
}
