//! The menu's commands and how a line is parsed into one.

use crate::domain::access::Access;
use crate::protocol::text::first_word;

/// A command of the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MenuCommand {
    /// Prompts for the username, then for the password.
    Login,
    /// Lists the granted directories.
    ShowDirectories,
    /// Chooses a directory and lists it.
    ShowDirectory,
    /// Lists the chosen directory with sizes and times, for programs.
    ShowDetails,
    /// Sends a file.
    DownloadFile,
    /// Sends the rest of a file from an offset.
    ResumeDownload,
    /// Receives a file, with prompts.
    UploadFile,
    /// Receives a file whose length, name and bytes follow without prompts.
    PutFile,
    /// Creates a directory.
    MakeDirectory,
    /// Shows the SHA-256 of a file.
    ChecksumFile,
    /// Shows the usage of the user's quotas.
    ShowQuota,
    /// Lists the commands.
    Help,
    /// Ends the session.
    Quit,
}

impl MenuCommand {
    /// All commands, in the order of `HELP`.
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

    /// The words of the command, in upper case.
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

    /// Returns whether an argument may follow on the line. `LOGIN` takes none, so that users do not
    /// get into the habit of typing a password there.
    pub fn takes_argument(self) -> bool {
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

    /// Returns whether `HELP` lists the command for a user with this access, or before a login.
    pub(crate) fn is_offered_to(self, access: Option<&Access>) -> bool {
        match (self, access) {
            (MenuCommand::Help | MenuCommand::Quit, _) => true,
            (MenuCommand::Login, access) => access.is_none(),
            (_, None) => false,
            (
                MenuCommand::UploadFile | MenuCommand::PutFile | MenuCommand::MakeDirectory,
                Some(access),
            ) => access.may_add(),
            (_, Some(_)) => true,
        }
    }
}

/// Parses a line into a command and its argument, without the blanks around it. `None` if there is
/// no such command, or if it takes no argument and has one.
pub fn parse(line: &[u8]) -> Option<(MenuCommand, &[u8])> {
    let (first, rest) = first_word(line);
    MenuCommand::ALL.into_iter().find_map(|command| {
        let mut words = command.words().split(' ');
        if !first.eq_ignore_ascii_case(words.next()?.as_bytes()) {
            return None;
        }
        let argument = words.try_fold(rest, strip_word)?;
        (command.takes_argument() || argument.is_empty()).then_some((command, argument))
    })
}

/// Strips `word`, in any letter case, from the start of `line`.
fn strip_word<'a>(line: &'a [u8], word: &str) -> Option<&'a [u8]> {
    let (first, rest) = first_word(line);
    first.eq_ignore_ascii_case(word.as_bytes()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letter_case_and_extra_blanks_are_ignored() {
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
    fn argument_keeps_inner_blanks() {
        assert_eq!(
            parse(b"download file  Free \t Fire \t"),
            Some((MenuCommand::DownloadFile, &b"Free \t Fire"[..]))
        );
        assert_eq!(
            parse(b"put file 11  Free Fire"),
            Some((MenuCommand::PutFile, &b"11  Free Fire"[..]))
        );
    }

    #[test]
    fn commands_without_argument_reject_one() {
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

    proptest! {
        #[test]
        fn every_command_is_parsed_in_any_case_and_spacing(
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
