//! The client's side of the menu with correct and incorrect output of a server.

use proptest::prelude::*;
use tidegate::domain::request::QuotaUsage;
use tidegate::limits::{LINE_BYTES_MAX, SERVER_LINE_BYTES_MAX};
use tidegate::protocol::menu::client::{ClientEvent, ClientSession, InvalidName, Violation};
use tidegate::protocol::menu::text;

#[test]
fn invalid_names_are_not_sent() {
    let long = "x".repeat(LINE_BYTES_MAX);
    let fits = "x".repeat(LINE_BYTES_MAX - "DOWNLOAD FILE \n".len());
    let mut dialogue = ClientSession::new();
    let mut out = Vec::new();
    for path in ["", "a\nQUIT", "a\rb", "a\tb", "\u{1b}[2J", "\u{9b}", &long] {
        assert_eq!(
            dialogue.download(path, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
        assert_eq!(
            dialogue.resume(path, 1, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
        assert_eq!(
            dialogue.put(path, 1, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
        assert_eq!(
            dialogue.checksum(path, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
    }
    for path in ["Uploads/x ", " Uploads/x"] {
        assert_eq!(
            dialogue.put(path, 1, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
    }
    let one_more = fits.clone() + "x";
    assert_eq!(dialogue.download(&one_more, &mut out), Err(InvalidName));
    assert_eq!(
        dialogue.put("Uploads/x", u64::MAX, &mut out),
        Err(InvalidName)
    );
    assert_eq!(
        dialogue.resume("Movies/x", u64::MAX, &mut out),
        Err(InvalidName)
    );
    assert_eq!(dialogue.login("a\nQUIT", &mut out), Err(InvalidName));
    assert_eq!(dialogue.password(b"a\nQUIT", &mut out), Err(InvalidName));
    assert_eq!(dialogue.password(b"a\r", &mut out), Err(InvalidName));
    assert!(out.is_empty() && dialogue.unanswered() == 0);
    dialogue.download(&fits, &mut out).unwrap();
    assert_eq!(out.len(), LINE_BYTES_MAX);
}

/// Returns a client session that has logged in and sent a command.
fn after_command(send: impl Fn(&mut ClientSession, &mut Vec<u8>)) -> ClientSession {
    let mut dialogue = ClientSession::new();
    let mut out = Vec::new();
    dialogue.login("user1", &mut out).unwrap();
    let greeting = [
        text::FIRST_CHOICE,
        text::ENTER_USERNAME,
        text::ENTER_PASSWORD,
        "",
    ]
    .join("\n");
    let parsed = dialogue.receive(greeting.as_bytes()).unwrap();
    assert_eq!(
        (parsed.used, parsed.event),
        (greeting.len(), Some(ClientEvent::PasswordWanted))
    );
    dialogue.password(b"1234", &mut out).unwrap();
    let welcome = [text::LOGIN_SUCCESSFUL, text::MENU, ""].join("\n");
    let parsed = dialogue.receive(welcome.as_bytes()).unwrap();
    assert_eq!(parsed.event, Some(ClientEvent::LoggedIn));
    assert_eq!(
        dialogue
            .receive(&welcome.as_bytes()[parsed.used..])
            .unwrap()
            .event,
        None
    );
    send(&mut dialogue, &mut out);
    dialogue
}

#[test]
fn protocol_violations_are_detected() {
    type Command = fn(&mut ClientSession, &mut Vec<u8>);
    let nothing: Command = |_, _| {};
    let download: Command = |dialogue, out| dialogue.download("Movies/Joker", out).unwrap();
    let checksum: Command = |dialogue, out| dialogue.checksum("Movies/Joker", out).unwrap();
    let details: Command = |dialogue, out| dialogue.show_details(out);
    let put: Command = |dialogue, out| dialogue.put("Uploads/x", 3, out).unwrap();
    let make: Command = |dialogue, out| dialogue.make_directory("Uploads/x", out).unwrap();
    let hash = "0".repeat(64);
    let cases: Vec<(Command, String)> = vec![
        (nothing, "LENGTH 5".into()),
        (nothing, text::MENU.into()),
        (download, "LENGTH -1".into()),
        (download, "LENGTH 10000000000000000000".into()),
        (download, "LENGTH 5 ".into()),
        (download, "LENGTH".into()),
        (download, "length 5".into()),
        (download, "LENGTH 5\r".into()),
        (download, "ENTRIES 5".into()),
        (download, text::MENU.into()),
        (download, text::ENTER_PASSWORD.into()),
        (download, text::FIRST_CHOICE.into()),
        (download, "No such luck".into()),
        (download, "No such file \u{1b}[2J".into()),
        (download, "Upload failed: No such file".into()),
        (download, String::new()),
        (checksum, format!("SHA-256 {hash} Riddler")),
        (checksum, format!("SHA-256 {hash}0 Joker")),
        (
            checksum,
            format!("SHA-256 {} Joker", hash.replace('0', "A")),
        ),
        (checksum, format!("SHA-256 {}é Joker", &hash[2..])),
        (put, "Upload complete: y, 3 bytes".into()),
        (put, "Upload complete: x, 4 bytes".into()),
        (put, "Upload complete: x, 3".into()),
        (put, "Upload failed: because".into()),
        (put, "Ready to receive 3 bytes".into()),
        (make, "Directory made: ../x".into()),
        (details, "ENTRIES many".into()),
        (
            details,
            "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z ../../etc/passwd".into(),
        ),
        (details, "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z ..".into()),
        (details, "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z ..".into()),
        (
            details,
            "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z a\u{1b}b".into(),
        ),
        (
            details,
            "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z a\u{85}b".into(),
        ),
        (details, "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z ".into()),
        (
            details,
            format!("ENTRIES 1\nfile 1 2026-11-22T18:00:00Z {}", "x".repeat(256)),
        ),
        (details, "ENTRIES 1\nfile -1 2026-11-22T18:00:00Z x".into()),
        (details, "ENTRIES 1\nfile - 2026-11-22T18:00:00Z x".into()),
        (
            details,
            "ENTRIES 1\ndirectory 1 2026-11-22T18:00:00Z x".into(),
        ),
        (details, "ENTRIES 1\nlink - 2026-11-22T18:00:00Z x".into()),
        (details, "ENTRIES 1\nfile 1 2026-11-22 x".into()),
        (details, "ENTRIES 1\nfile 1 2026-13-22T18:00:00Z x".into()),
        (details, "ENTRIES 1\nfile 1 2026-11-22T18:00:00.5Z x".into()),
        (
            details,
            format!(
                "ENTRIES 2\ndirectory - 2026-11-22T18:00:00Z x\n{}",
                text::MENU
            ),
        ),
    ];
    for (command, output) in cases {
        let mut dialogue = after_command(command);
        let output = output + "\n";
        let mut rest = output.as_bytes();
        let violation = loop {
            match dialogue.receive(rest) {
                Err(violation) => break violation,
                Ok(parsed) => {
                    assert!(parsed.event.is_some(), "accepted: {output}");
                    rest = &rest[parsed.used..];
                }
            }
        };
        assert!(!violation.to_string().contains(char::is_control));
    }
}

#[test]
fn server_lines_are_bounded_except_name_lists() {
    let mut dialogue =
        after_command(|dialogue, out| dialogue.download("Movies/Joker", out).unwrap());
    let long = vec![b'x'; SERVER_LINE_BYTES_MAX];
    assert_eq!(dialogue.receive(&long).unwrap().event, None);
    assert_eq!(
        dialogue.receive(&[&long[..], b"x"].concat()),
        Err(Violation::LineTooLong)
    );

    let mut dialogue =
        after_command(|dialogue, out| dialogue.show_directory("Movies", out).unwrap());
    let parsed = dialogue.receive(text::FILES.as_bytes()).unwrap();
    assert_eq!((parsed.used, parsed.event), (text::FILES.len(), None));
    for _ in 0..3 {
        let parsed = dialogue.receive(&long).unwrap();
        assert_eq!(
            parsed.event,
            Some(ClientEvent::Names {
                piece: &long,
                is_last: false
            })
        );
        assert_eq!(parsed.used, long.len());
    }
    let end = dialogue.receive(b"y\nPlease").unwrap();
    assert_eq!(
        (end.used, end.event),
        (
            2,
            Some(ClientEvent::Names {
                piece: b"y",
                is_last: true
            })
        )
    );
}

#[test]
fn quotas_are_parsed_as_formatted() {
    let quotas = [None, Some("Free Films"), Some("of 1 bytes")].map(|directory| QuotaUsage {
        directory: directory.map(str::to_owned),
        used: 7,
        limit: 5_000_000_000,
        files: directory.map(|_| (5, 6)),
    });
    let mut output = b"QUOTA 3\n".to_vec();
    for quota in &quotas {
        text::append_quota(&mut output, quota);
    }
    text::append_line(&mut output, text::MENU);
    let mut dialogue = after_command(|dialogue, out| dialogue.show_quota(out));
    let mut rest = &output[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let parsed = dialogue.receive(rest).unwrap();
        rest = &rest[parsed.used..];
        events.extend(parsed.event);
    }
    let expected = [ClientEvent::Quotas(3)]
        .into_iter()
        .chain(quotas.map(ClientEvent::Quota));
    assert_eq!(events, expected.collect::<Vec<_>>());

    let mut none = after_command(|dialogue, out| dialogue.show_quota(out));
    let parsed = none.receive(b"There is no quota for you\n").unwrap();
    assert_eq!(parsed.event, Some(ClientEvent::Quotas(0)));
    for wrong in [
        "user 1 of 2\n",
        "user 1 of x bytes\n",
        "directory 1 of 2 bytes ../x\n",
    ] {
        let mut dialogue = after_command(|dialogue, out| dialogue.show_quota(out));
        dialogue.receive(b"QUOTA 1\n").unwrap();
        assert!(dialogue.receive(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_goodbye_is_accepted_at_any_time_and_is_final() {
    let goodbyes = [text::IDLE, text::STOPPING, text::LOGIN_REVOKED];
    for goodbye in goodbyes
        .into_iter()
        .chain([text::TOO_MANY_SESSIONS, text::LOGIN_BLOCKED])
    {
        let mut dialogue =
            after_command(|dialogue, out| dialogue.download("Movies/Joker", out).unwrap());
        let line = format!("{goodbye}\n");
        assert_eq!(
            dialogue.receive(line.as_bytes()).unwrap().event,
            Some(ClientEvent::Goodbye(goodbye))
        );
        assert!(dialogue.receive(line.as_bytes()).is_err());
    }
    let full = format!("{}\n", text::SERVER_FULL);
    let event = ClientSession::new().receive(full.as_bytes()).unwrap().event;
    assert_eq!(event, Some(ClientEvent::Goodbye(text::SERVER_FULL)));
}

proptest! {
    /// Output is either parsed or rejected, and never parsed twice.
    #[test]
    fn arbitrary_server_output_does_not_panic(
        lines in prop::collection::vec(prop_oneof![
            Just(format!("{}\n", text::MENU)),
            Just(format!("{}\n", text::FILES)),
            Just("LENGTH 3\n".to_owned()),
            Just("ENTRIES 2\n".to_owned()),
            Just("directory - 2026-11-22T18:00:00Z x\n".to_owned()),
            Just("No such file\n".to_owned()),
            Just("Unknown command. 'HELP' lists them.\n".to_owned()),
            Just(format!("{}\n", text::ENTER_OFFSET)),
            "\\PC{0,20}\n",
            "[A-Z]{3,7} [0-9]{0,20}\n",
        ], 0..20),
    ) {
        let mut dialogue = after_command(|dialogue, out| {
            dialogue.resume("Movies/Joker", 3, out).unwrap();
            dialogue.show_directory(" Movies", out).unwrap();
            dialogue.show_details(out);
            dialogue.checksum("Movies/Joker", out).unwrap();
            dialogue.download("Movies/Joker", out).unwrap();
        });
        let bytes = lines.concat().into_bytes();
        let mut rest = &bytes[..];
        while let Ok(parsed) = dialogue.receive(rest) {
            rest = &rest[parsed.used..];
            if parsed.event.is_none() {
                break;
            }
            prop_assert!(parsed.used > 0);
        }
    }
}
