//! FTP's commands: the table of verbs, and how a line is split into verb and argument.

use crate::domain::request::Algorithm;
use crate::protocol::step::LineAhead;
use crate::protocol::telnet;

/// A command. Synonyms, such as XCWD for CWD, are the same command. docs/rfc959.md describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FtpCommand {
    Abor,
    Acct,
    Auth,
    Clnt,
    DataAddress(DataAddressCommand),
    Feat,
    File(FileCommand),
    Help,
    Host,
    Lang,
    Mode,
    Noop,
    Opts,
    Pass,
    Pbsz,
    Prot,
    Pwd,
    Quit,
    Rein,
    Rest,
    Rnto,
    Site,
    Smnt,
    Stat,
    Stru,
    Syst,
    Transfer(TransferCommand),
    Type,
    User,
}

impl FtpCommand {
    /// Returns whether clients send the command between REST or ALLO and the transfer, so that the
    /// offset and the length stay.
    pub(super) fn prepares_transfer(self) -> bool {
        matches!(
            self,
            FtpCommand::DataAddress(_)
                | FtpCommand::Mode
                | FtpCommand::Stru
                | FtpCommand::Type
                | FtpCommand::Noop
                | FtpCommand::File(FileCommand::Size | FileCommand::Mdtm)
        )
    }
}

/// A command that says how the next data connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DataAddressCommand {
    Eprt,
    Epsv,
    Pasv,
    Port,
}

/// A command that transfers something over a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TransferCommand {
    Appe,
    List,
    Mlsd,
    Nlst,
    Retr,
    Stor,
    Stou,
}

/// A command on files and directories that needs only the control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FileCommand {
    Allo,
    Avbl,
    Cdup,
    /// XCRC, XMD5, XSHA and the like.
    Checksum(Algorithm),
    Cwd,
    Dele,
    Hash,
    Mdtm,
    Mfmt,
    Mkd,
    Mlst,
    Rmd,
    Rnfr,
    Size,
}

/// A verb of the command table.
#[derive(Debug)]
pub struct Verb {
    /// The word in upper case.
    pub word: &'static str,
    /// The command.
    pub command: FtpCommand,
    /// The syntax of the argument for HELP: in brackets if optional, empty if there is none.
    pub argument: &'static str,
    /// Whether the command is allowed before a login.
    pub is_open: bool,
}

/// All verbs, sorted.
pub const VERBS: &[Verb] = &[
    verb("ABOR", FtpCommand::Abor, "", false),
    verb("ACCT", FtpCommand::Acct, "account", true),
    file("ALLO", FileCommand::Allo, "bytes [R bytes]"),
    transfer("APPE", TransferCommand::Appe, "path"),
    verb("AUTH", FtpCommand::Auth, "mechanism", true),
    file("AVBL", FileCommand::Avbl, "[path]"),
    file("CDUP", FileCommand::Cdup, ""),
    verb("CLNT", FtpCommand::Clnt, "name", true),
    file("CWD", FileCommand::Cwd, "[path]"),
    file("DELE", FileCommand::Dele, "path"),
    address("EPRT", DataAddressCommand::Eprt, "|family|address|port|"),
    address("EPSV", DataAddressCommand::Epsv, "[family or ALL]"),
    verb("FEAT", FtpCommand::Feat, "", true),
    file("HASH", FileCommand::Hash, "path"),
    verb("HELP", FtpCommand::Help, "[command]", true),
    verb("HOST", FtpCommand::Host, "name", true),
    verb("LANG", FtpCommand::Lang, "[language]", true),
    transfer("LIST", TransferCommand::List, "[path]"),
    checksum("MD5", Algorithm::Md5),
    file("MDTM", FileCommand::Mdtm, "[time] path"),
    file("MFMT", FileCommand::Mfmt, "time path"),
    file("MKD", FileCommand::Mkd, "path"),
    transfer("MLSD", TransferCommand::Mlsd, "[path]"),
    file("MLST", FileCommand::Mlst, "[path]"),
    verb("MODE", FtpCommand::Mode, "S", false),
    transfer("NLST", TransferCommand::Nlst, "[path]"),
    verb("NOOP", FtpCommand::Noop, "", true),
    verb("OPTS", FtpCommand::Opts, "command [options]", true),
    address("P@SW", DataAddressCommand::Pasv, ""),
    verb("PASS", FtpCommand::Pass, "[password]", true),
    address("PASV", DataAddressCommand::Pasv, ""),
    verb("PBSZ", FtpCommand::Pbsz, "size", true),
    address("PORT", DataAddressCommand::Port, "h1,h2,h3,h4,p1,p2"),
    verb("PROT", FtpCommand::Prot, "level", true),
    verb("PWD", FtpCommand::Pwd, "", false),
    verb("QUIT", FtpCommand::Quit, "", true),
    verb("REIN", FtpCommand::Rein, "", true),
    verb("REST", FtpCommand::Rest, "bytes", false),
    transfer("RETR", TransferCommand::Retr, "path"),
    file("RMD", FileCommand::Rmd, "path"),
    file("RNFR", FileCommand::Rnfr, "path"),
    verb("RNTO", FtpCommand::Rnto, "path", false),
    verb("SITE", FtpCommand::Site, "HELP", true),
    file("SIZE", FileCommand::Size, "path"),
    verb("SMNT", FtpCommand::Smnt, "path", false),
    verb("STAT", FtpCommand::Stat, "[path]", true),
    transfer("STOR", TransferCommand::Stor, "path"),
    transfer("STOU", TransferCommand::Stou, "[path]"),
    verb("STRU", FtpCommand::Stru, "F", false),
    verb("SYST", FtpCommand::Syst, "", true),
    verb("TYPE", FtpCommand::Type, "A or I", false),
    verb("USER", FtpCommand::User, "name", true),
    checksum("XCRC", Algorithm::Crc32),
    file("XCUP", FileCommand::Cdup, ""),
    file("XCWD", FileCommand::Cwd, "[path]"),
    checksum("XMD5", Algorithm::Md5),
    file("XMKD", FileCommand::Mkd, "path"),
    verb("XPWD", FtpCommand::Pwd, "", false),
    file("XRMD", FileCommand::Rmd, "path"),
    checksum("XSHA", Algorithm::Sha1),
    checksum("XSHA1", Algorithm::Sha1),
    checksum("XSHA256", Algorithm::Sha256),
    checksum("XSHA512", Algorithm::Sha512),
];

const fn verb(
    word: &'static str,
    command: FtpCommand,
    argument: &'static str,
    is_open: bool,
) -> Verb {
    Verb {
        word,
        command,
        argument,
        is_open,
    }
}

const fn address(word: &'static str, command: DataAddressCommand, argument: &'static str) -> Verb {
    verb(word, FtpCommand::DataAddress(command), argument, false)
}

const fn file(word: &'static str, command: FileCommand, argument: &'static str) -> Verb {
    verb(word, FtpCommand::File(command), argument, false)
}

const fn checksum(word: &'static str, algorithm: Algorithm) -> Verb {
    file(word, FileCommand::Checksum(algorithm), "path")
}

const fn transfer(word: &'static str, command: TransferCommand, argument: &'static str) -> Verb {
    verb(word, FtpCommand::Transfer(command), argument, false)
}

impl Verb {
    /// Finds a verb, in any letter case.
    pub fn find(word: &[u8]) -> Option<&'static Verb> {
        VERBS
            .iter()
            .find(|verb| verb.word.as_bytes().eq_ignore_ascii_case(word))
    }

    /// Returns whether an argument is present if it has to be, and absent if it must not be.
    pub(super) fn accepts(&self, argument: &[u8]) -> bool {
        match self.argument {
            "" => argument.is_empty(),
            optional if optional.starts_with('[') && optional.ends_with(']') => true,
            _ => !argument.is_empty(),
        }
    }
}

/// Splits a line at the first blank into verb and argument. The argument is not trimmed.
pub(super) fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|&byte| byte == b' ') {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => (line, b""),
    }
}

/// Returns what a line means for a transfer that it has to wait for.
pub(crate) fn line_ahead(line: &[u8]) -> Option<LineAhead> {
    let line = telnet::strip(line, &mut Vec::new());
    let (word, argument) = split(&line);
    let verb = Verb::find(word).filter(|verb| verb.accepts(argument))?;
    match verb.command {
        FtpCommand::Abor => Some(LineAhead::Abort),
        FtpCommand::Quit => Some(LineAhead::Quit),
        _ => None,
    }
}

/// Returns whether a verb belongs to another protocol: HTTP, or TLS without AUTH.
pub(super) fn is_foreign(verb: &[u8]) -> bool {
    const HTTP: [&[u8]; 10] = [
        b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"PATCH", b"TRACE",
        b"PRI",
    ];
    HTTP.contains(&verb) || verb.starts_with(b"\x16\x03")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_sorted_and_found_in_any_case() {
        assert!(VERBS.is_sorted_by(|one, next| one.word < next.word));
        let cwd = FtpCommand::File(FileCommand::Cwd);
        assert_eq!(Verb::find(b"xCwD").unwrap().command, cwd);
        assert!(Verb::find(b"").is_none() && Verb::find(b"RETRO").is_none());
    }
}
