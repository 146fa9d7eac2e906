//! Commands that only report: HELP, FEAT, STAT, SYST and the like; and OPTS.

use std::net::IpAddr;

use crate::protocol::ftp::arguments::FtpOption;
use crate::protocol::ftp::command::{FtpCommand, Verb, split};
use crate::protocol::ftp::features;
use crate::protocol::ftp::path::AbsolutePath;
use crate::protocol::ftp::reply;
use crate::protocol::ftp::reply::append as append_reply;
use crate::protocol::ftp::state::Parameters;
use crate::protocol::step::Representation;
use crate::protocol::text::trim;

/// The part of a session that is reported.
pub(super) struct SessionInformation<'a> {
    /// The logged-in user.
    pub(super) user: Option<&'a str>,
    /// USER was sent, but not PASS.
    pub(super) is_login_begun: bool,
    /// The client's address.
    pub(super) peer: IpAddr,
    pub(super) parameters: &'a Parameters,
}

/// Appends the reply to a command that changes nothing.
pub(super) fn append(
    command: FtpCommand,
    argument: &[u8],
    session: &SessionInformation<'_>,
    out: &mut Vec<u8>,
) {
    let word = trim(argument);
    let reply = match command {
        FtpCommand::Acct => reply::NO_ACCOUNT,
        FtpCommand::Auth => reply::NO_TLS,
        FtpCommand::Clnt | FtpCommand::Noop => reply::OK,
        FtpCommand::Feat => {
            let (facts, algorithm) = (session.parameters.facts, session.parameters.algorithm);
            return features::append_features(out, facts, algorithm);
        }
        FtpCommand::Help => return append_help(word, out),
        FtpCommand::Host if session.user.is_some() || session.is_login_begun => {
            reply::HOST_TOO_LATE
        }
        FtpCommand::Host => reply::HOST_ACCEPTED,
        FtpCommand::Lang => match argument.get(..2).unwrap_or(argument) {
            tag if tag.is_empty() || tag.eq_ignore_ascii_case(b"en") => reply::ENGLISH,
            _ => reply::ENGLISH_ONLY,
        },
        FtpCommand::Mode if word.eq_ignore_ascii_case(b"S") => reply::MODE,
        FtpCommand::Mode => reply::MODE_UNSUPPORTED,
        FtpCommand::Pbsz | FtpCommand::Prot => reply::AUTH_FIRST,
        FtpCommand::Pwd => {
            let current = AbsolutePath(session.parameters.current.as_ref());
            return reply::append_current_directory(out, current);
        }
        FtpCommand::Site => return append_site(word, out),
        FtpCommand::Stat => {
            let is_ascii = session.parameters.representation == Representation::Ascii;
            let data_mode = session.parameters.data_mode;
            return reply::append_status(out, session.user, session.peer, is_ascii, data_mode);
        }
        FtpCommand::Stru if word.eq_ignore_ascii_case(b"F") => reply::STRUCTURE,
        FtpCommand::Stru => reply::STRUCTURE_UNSUPPORTED,
        FtpCommand::Syst => reply::SYSTEM,
        _ => reply::NOT_IMPLEMENTED,
    };
    append_reply(out, reply);
}

/// Sets an option of OPTS and appends the reply.
pub(super) fn set_option(option: FtpOption, parameters: &mut Parameters, out: &mut Vec<u8>) {
    match option {
        FtpOption::Utf8 => append_reply(out, reply::UTF8_ON),
        FtpOption::Facts(facts) => {
            parameters.facts = facts;
            features::append_selected_facts(out, facts);
        }
        FtpOption::Hash(algorithm) => {
            let algorithm = algorithm.unwrap_or(parameters.algorithm);
            parameters.algorithm = algorithm;
            features::append_selected_algorithm(out, algorithm);
        }
    }
}

fn append_help(word: &[u8], out: &mut Vec<u8>) {
    match Verb::find(word) {
        _ if word.is_empty() => features::append_help(out),
        _ if word.eq_ignore_ascii_case(b"SITE") => features::append_site_help(out),
        Some(verb) => features::append_command_help(out, verb),
        None => append_reply(out, reply::HELP_UNKNOWN),
    }
}

fn append_site(argument: &[u8], out: &mut Vec<u8>) {
    let (word, argument) = split(argument);
    match &*word.to_ascii_uppercase() {
        b"HELP" => match &*trim(argument).to_ascii_uppercase() {
            b"" | b"HELP" => features::append_site_help(out),
            _ => append_reply(out, reply::HELP_UNKNOWN),
        },
        b"CHMOD" if argument.is_empty() => append_reply(out, reply::WRONG_ARGUMENT),
        b"CHMOD" => append_reply(out, reply::NO_CHMOD),
        _ => append_reply(out, reply::SITE_UNKNOWN),
    }
}
