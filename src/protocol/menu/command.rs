//! The menu's commands: how a line becomes one, how an answer becomes a number or a name.
//!
//! Must not know: states; what a command does.

use crate::limits::NUMBER_DIGITS_MAX;

/// What a line can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MenuCommand {
    /// Asks for the username, then the password.
    Login,
    /// Lists the granted directories.
    ShowDirectories,
    /// Enters a directory and lists it.
    ShowDirectory,
    /// Lists the chosen directory for programs.
    ShowDetails,
    /// Sends a file.
    DownloadFile,
    /// Sends a file's rest.
    ResumeDownload,
    /// Takes a file, step by step.
    UploadFile,
    /// Takes a file, all on one line.
    PutFile,
    /// Makes a directory.
    MakeDirectory,
    /// Tells a file's SHA-256.
    ChecksumFile,
    /// Tells how much of his quotas the user has taken.
    ShowQuota,
    /// Lists the commands.
    Help,
    /// Says goodbye.
    Quit,
}

impl MenuCommand {
    /// Every command, in the order in which `HELP` lists them.
    pub const ALL: [MenuCommand; 13] = [
        MenuCommand::Login,
        MenuCommand::ShowDirectories,
        MenuCommand::ShowDirectory,
        MenuCommand::ShowDetails,
        MenuCommand::DownloadFile,
        MenuCommand::ResumeDownload,
        MenuCommand::UploadFile,
        MenuCommand::PutFile,
        MenuCommand::MakeDirectory,
        MenuCommand::ChecksumFile,
        MenuCommand::ShowQuota,
        MenuCommand::Help,
        MenuCommand::Quit,
    ];

    /// Its words, as a client may send them.
    pub const fn words(self) -> &'static str {
        match self {
            MenuCommand::Login => "LOGIN",
            MenuCommand::ShowDirectories => "SHOW DIRECTORIES",
            MenuCommand::ShowDirectory => "SHOW DIRECTORY",
            MenuCommand::ShowDetails => "SHOW DETAILS",
            MenuCommand::DownloadFile => "DOWNLOAD FILE",
            MenuCommand::ResumeDownload => "RESUME DOWNLOAD",
            MenuCommand::UploadFile => "UPLOAD FILE",
            MenuCommand::PutFile => "PUT FILE",
            MenuCommand::MakeDirectory => "MAKE DIRECTORY",
            MenuCommand::ChecksumFile => "CHECKSUM FILE",
            MenuCommand::ShowQuota => "SHOW QUOTA",
            MenuCommand::Help => "HELP",
            MenuCommand::Quit => "QUIT",
        }
    }

    /// Whether something may follow it on its line. `LOGIN` takes nothing, so that nobody learns to put a password there.
    pub fn takes_words(self) -> bool {
        match self {
            MenuCommand::ShowDirectory
            | MenuCommand::DownloadFile
            | MenuCommand::ResumeDownload
            | MenuCommand::UploadFile
            | MenuCommand::PutFile
            | MenuCommand::MakeDirectory
            | MenuCommand::ChecksumFile => true,
            MenuCommand::Login
            | MenuCommand::ShowDirectories
            | MenuCommand::ShowDetails
            | MenuCommand::ShowQuota
            | MenuCommand::Help
            | MenuCommand::Quit => false,
        }
    }
}

/// The command on a line and what follows it, without the blanks around; `None` where there is no such command.
pub fn parse(line: &[u8]) -> Option<(MenuCommand, &[u8])> {
    let (first, rest) = first_word(line);
    MenuCommand::ALL.into_iter().find_map(|command| {
        let mut words = command.words().split(' ');
        let known = words.next()?;
        // Most are none of it by their first word.
        if !first.eq_ignore_ascii_case(known.as_bytes()) {
            return None;
        }
        let rest = words.try_fold(rest, behind)?;
        (command.takes_words() || rest.is_empty()).then_some((command, rest))
    })
}

/// A line or a part of it without the blanks around.
pub(crate) fn trim(line: &[u8]) -> &[u8] {
    let (_, line) = line.split_at(line.iter().take_while(|byte| is_blank(byte)).count());
    let (line, _) =
        line.split_at(line.len() - line.iter().rev().take_while(|byte| is_blank(byte)).count());
    line
}

/// Splits off the first word; what follows it comes without the blanks around.
pub(crate) fn first_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = trim(text);
    let (word, rest) = text.split_at(text.iter().take_while(|byte| !is_blank(byte)).count());
    (word, trim(rest))
}

/// A number as the protocol has them: 1 to 19 ASCII digits, nothing else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let fits = (1..=NUMBER_DIGITS_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    fits.then(|| {
        text.iter()
            .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    })
}

/// A name as the client sent it. What is not UTF-8 becomes a NUL: a control character, so that it stays a name which
/// nothing and nobody can have.
pub(crate) fn name(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(name) => name.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).replace(char::REPLACEMENT_CHARACTER, "\0"),
    }
}

/// What stands behind `word` in `line`, in any letter case.
fn behind<'a>(line: &'a [u8], word: &str) -> Option<&'a [u8]> {
    let (first, rest) = first_word(line);
    first.eq_ignore_ascii_case(word.as_bytes()).then_some(rest)
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_and_blanks_are_folded() {
        let rest = &b""[..];
        assert_eq!(
            parse(b"show   Directories"),
            Some((MenuCommand::ShowDirectories, rest))
        );
        assert_eq!(
            parse(b"\t sHoW\t \tDETAILS \t"),
            Some((MenuCommand::ShowDetails, rest))
        );
        assert_eq!(
            parse(b"SHOW DIRECTORY"),
            Some((MenuCommand::ShowDirectory, rest))
        );
        assert_eq!(parse(b"SHOWDIRECTORY"), None);
        assert_eq!(parse(b"SHOW"), None);
        assert_eq!(parse(b"SHOW DIRECTORYMovies"), None);
        assert_eq!(
            parse("SHOW\u{a0}DIRECTORY".as_bytes()),
            None,
            "only spaces and tabs are blanks"
        );
        assert_eq!(parse(b"SHOW\rDIRECTORY"), None);
    }

    #[test]
    fn what_follows_keeps_its_inner_blanks() {
        assert_eq!(
            parse(b"download file  Free \t Fire \t"),
            Some((MenuCommand::DownloadFile, &b"Free \t Fire"[..]))
        );
        assert_eq!(
            parse(b"put file 11  Free Fire"),
            Some((MenuCommand::PutFile, &b"11  Free Fire"[..]))
        );
        assert_eq!(
            first_word(b"11  Free Fire"),
            (&b"11"[..], &b"Free Fire"[..])
        );
        assert_eq!(first_word(b"11"), (&b"11"[..], &b""[..]));
    }

    #[test]
    fn a_command_that_asks_nothing_takes_no_words() {
        for line in [
            "LOGIN user1",
            "SHOW DIRECTORIES all",
            "SHOW DETAILS Movies",
            "HELP me",
            "QUIT now",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn numbers_are_digits_alone() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"0000000000000000011"), Some(11));
        assert_eq!(
            number(b"9999999999999999999"),
            Some(9_999_999_999_999_999_999)
        );
        let none = [
            "",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1e9",
            "0x10",
            "10000000000000000000",
            "00000000000000000000",
            "1_000",
            "\u{661}",
        ];
        for text in none {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_become_impossible() {
        assert_eq!(name("Ünïcode \u{fffd}".as_bytes()), "Ünïcode \u{fffd}");
        assert_eq!(name(b"Movies/\xff\xfeJoker"), "Movies/\0\0Joker");
    }

    proptest! {
        #[test]
        fn every_command_is_known_in_every_dress(
            index in 0..MenuCommand::ALL.len(),
            blanks in prop::collection::vec("[ \t]{1,3}", 3),
            upper in any::<[bool; 16]>(),
        ) {
            let command = MenuCommand::ALL[index];
            let mut line = blanks[0].clone();
            for (at, letter) in command.words().chars().enumerate() {
                match letter {
                    ' ' => line.push_str(&blanks[1]),
                    _ if upper[at] => line.push(letter.to_ascii_uppercase()),
                    _ => line.push(letter.to_ascii_lowercase()),
                }
            }
            line.push_str(&blanks[2]);
            prop_assert_eq!(parse(line.as_bytes()), Some((command, &b""[..])));
        }
    }
}
