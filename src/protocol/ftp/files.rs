//! What FTP does with files and directories over the control connection alone, and what the house answers.
//!
//! Must not know: what a reply reads like (`ftp_reply`), how a line is parsed (`ftp_command`).

use crate::domain::error::ErrorCode;
use crate::domain::listing::{FileStatus, ListingFormat, ListingTarget, MlstFacts};
use crate::domain::path::GrantedPath;
use crate::domain::request::{Algorithm, Request, Response};
use crate::protocol::ftp::command;
use crate::protocol::ftp::command::FtpCommand;
use crate::protocol::ftp::listing::time;
use crate::protocol::ftp::path as place;
use crate::protocol::ftp::path::{Location, Shown};
use crate::protocol::ftp::reply;
use crate::protocol::ftp::reply::say;
use crate::protocol::ftp::session::{FtpSession, State};
use crate::protocol::ftp::transfer::Behind;
use crate::protocol::step::{Action, Representation};
use crate::protocol::text::name;

/// What the house was asked, and what its answer does not tell again.
#[derive(Debug)]
pub(crate) enum Question {
    /// What is at this place, for that.
    Status(Wanted, GrantedPath),
    Rename,
    Remove,
    RemoveDirectory,
    /// The directory to be.
    MakeDirectory(GrantedPath),
    SetModified {
        modified: i64,
        path: String,
    },
    /// The checksum of this file, for HASH or in the short form of XCRC and its like.
    Checksum {
        path: String,
        short: bool,
    },
    Space,
    Room {
        place: GrantedPath,
    },
    /// How much room is left, after a transfer was refused for want of it.
    Left {
        why: ErrorCode,
        behind: Behind,
    },
    /// A listing over the control connection.
    Stat,
    /// A listing over a data connection.
    List,
    Retr {
        restart: u64,
    },
    /// An upload to this place, or with a name of the house's choice in it.
    Stor(GrantedPath),
}

/// For what something was looked at.
#[derive(Debug)]
pub(crate) enum Wanted {
    Cwd,
    Mdtm,
    Mlsd,
    Mlst,
    Rnfr,
    /// A transfer from there on, to which no data connection will come.
    Restart(u64),
    Size,
}

impl FtpSession {
    pub(crate) fn file_command(
        &mut self,
        command: FtpCommand,
        argument: &[u8],
        out: &mut Vec<u8>,
    ) -> Action {
        match command {
            FtpCommand::Allo => self.allo(argument, out),
            FtpCommand::Cdup => {
                self.current = self.current.take().and_then(place::parent);
                reply::directory_changed(out, Shown(self.current.as_ref()));
                self.ready()
            }
            FtpCommand::Hash => {
                self.checksum(self.algorithm, argument.to_vec(), (0, None), false, out)
            }
            FtpCommand::Xcrc => self.short_checksum(Algorithm::Crc32, argument, out),
            FtpCommand::Xmd5 => self.short_checksum(Algorithm::Md5, argument, out),
            FtpCommand::Xsha => self.short_checksum(Algorithm::Sha1, argument, out),
            FtpCommand::Xsha256 => self.short_checksum(Algorithm::Sha256, argument, out),
            FtpCommand::Xsha512 => self.short_checksum(Algorithm::Sha512, argument, out),
            FtpCommand::Mdtm => match timed_path(argument) {
                Some((modified, path)) => self.set_modified(modified, path, out),
                None => self.status(Wanted::Mdtm, argument, out),
            },
            FtpCommand::Mfmt => match timed_path(argument) {
                Some((modified, path)) => self.set_modified(modified, path, out),
                None => self.reply(reply::BAD_TIME, out),
            },
            FtpCommand::Stat => match self.listed(command::without_options(argument)) {
                Ok(listed) => {
                    let form = ListingFormat::Long;
                    self.ask(
                        Question::Stat,
                        Request::List {
                            target: listed,
                            format: form,
                        },
                    )
                }
                Err(refusal) => self.reply(reply::refusal(refusal), out),
            },
            FtpCommand::Size if self.representation == Representation::Ascii => {
                self.reply(reply::SIZE_NEEDS_IMAGE, out)
            }
            FtpCommand::Size => self.status(Wanted::Size, argument, out),
            // As at home in a shell.
            FtpCommand::Cwd if argument.is_empty() => self.enter(None, out),
            FtpCommand::Cwd => self.status(Wanted::Cwd, argument, out),
            FtpCommand::Mlst => self.status(Wanted::Mlst, argument, out),
            FtpCommand::Rnfr => self.status(Wanted::Rnfr, argument, out),
            FtpCommand::Avbl => match self.resolve(argument) {
                Location::Top => self.reply(reply::NO_SPACE_AT_TOP, out),
                Location::At(place) => self.ask(Question::Space, Request::Space { path: place }),
                Location::Nowhere(_) => self.reply(reply::refusal(ErrorCode::NoSuchDirectory), out),
            },
            FtpCommand::Mkd => match self.below_top(argument) {
                Ok(place) => self.ask(
                    Question::MakeDirectory(place.clone()),
                    Request::MakeDirectory { path: place },
                ),
                Err(reply) => self.reply(reply, out),
            },
            FtpCommand::Rmd => match self.below_top(argument) {
                Ok(place) => self.ask(
                    Question::RemoveDirectory,
                    Request::RemoveDirectory { path: place },
                ),
                Err(reply) => self.reply(reply, out),
            },
            _ => match self.below_top(argument) {
                Ok(place) => self.ask(Question::Remove, Request::Remove { path: place }),
                Err(reply) => self.reply(reply, out),
            },
        }
    }

    /// The place of what is to be made, removed or renamed: never a granted directory itself.
    fn below_top(&self, argument: &[u8]) -> Result<GrantedPath, reply::Reply> {
        match self.resolve(argument) {
            Location::At(place) if place.relative.is_empty() => Err(reply::TOP_IS_FIXED),
            Location::At(place) => Ok(place),
            Location::Top | Location::Nowhere(Some(_)) => Err(reply::TOP_IS_FIXED),
            Location::Nowhere(None) => Err(reply::refusal(ErrorCode::NoSuchDirectory)),
        }
    }

    fn status(&mut self, wanted: Wanted, argument: &[u8], out: &mut Vec<u8>) -> Action {
        match (self.resolve(argument), wanted) {
            (Location::At(place), Wanted::Rnfr) if place.relative.is_empty() => {
                self.reply(reply::TOP_IS_FIXED, out)
            }
            (Location::At(place), wanted) => {
                let question = Question::Status(wanted, place.clone());
                self.ask(question, Request::Status { path: place })
            }
            (Location::Top, Wanted::Cwd) => self.enter(None, out),
            (Location::Top, Wanted::Mlst) => {
                reply::facts_of_top(out, self.facts);
                self.ready()
            }
            (Location::Top, Wanted::Rnfr) => self.reply(reply::TOP_IS_FIXED, out),
            (Location::Top, _) => self.reply(reply::NO_FILE, out),
            (Location::Nowhere(_), Wanted::Cwd | Wanted::Mlsd) => {
                self.reply(reply::refusal(ErrorCode::NoSuchDirectory), out)
            }
            (Location::Nowhere(_), _) => self.reply(reply::refusal(ErrorCode::NoSuchFile), out),
        }
    }

    fn enter(&mut self, place: Option<GrantedPath>, out: &mut Vec<u8>) -> Action {
        self.current = place;
        reply::directory_changed(out, Shown(self.current.as_ref()));
        self.ready()
    }

    pub(crate) fn rename_to(
        &mut self,
        renamed: Option<GrantedPath>,
        argument: &[u8],
        out: &mut Vec<u8>,
    ) -> Action {
        let Some(from) = renamed else {
            return self.reply(reply::RNFR_FIRST, out);
        };
        match self.below_top(argument) {
            Ok(to) => self.ask(Question::Rename, Request::Rename { from, to }),
            Err(reply) => self.reply(reply, out),
        }
    }

    /// Whether there is room for an upload of that many bytes; a record size behind it is of no interest.
    fn allo(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let mut fields = argument.split(|&byte| byte == b' ');
        let bytes = command::number(fields.next().unwrap_or_default());
        let record = match (fields.next(), fields.next(), fields.next()) {
            (None, None, None) => true,
            (Some(b"R" | b"r"), Some(record), None) => command::number(record).is_some(),
            _ => false,
        };
        let (Some(length), true) = (bytes, record) else {
            return self.reply(reply::BAD_NUMBER, out);
        };
        match self.current.clone() {
            Some(place) => {
                let grant = Some(place.grant.clone());
                self.ask(
                    Question::Room { place },
                    Request::CheckSpace { grant, length },
                )
            }
            None => self.reply(reply::ROOM_ENOUGH, out),
        }
    }

    fn set_modified(&mut self, modified: i64, path: &[u8], out: &mut Vec<u8>) -> Action {
        match self.resolve(path) {
            Location::At(place) if !place.relative.is_empty() => {
                let path = name(path);
                let question = Question::SetModified { modified, path };
                self.ask(
                    question,
                    Request::SetModified {
                        path: place,
                        modified,
                    },
                )
            }
            Location::Nowhere(_) => self.reply(reply::refusal(ErrorCode::NoSuchFile), out),
            Location::At(_) | Location::Top => self.reply(reply::TOP_IS_FIXED, out),
        }
    }

    fn short_checksum(
        &mut self,
        algorithm: Algorithm,
        argument: &[u8],
        out: &mut Vec<u8>,
    ) -> Action {
        match command::path_and_range(argument) {
            Some((path, from, end)) => self.checksum(algorithm, path, (from, end), true, out),
            None => self.reply(reply::BAD_RANGE, out),
        }
    }

    fn checksum(
        &mut self,
        algorithm: Algorithm,
        path: Vec<u8>,
        (from, end): (u64, Option<u64>),
        short: bool,
        out: &mut Vec<u8>,
    ) -> Action {
        let Location::At(place) = self.resolve(&path) else {
            return self.reply(reply::refusal(ErrorCode::NoSuchFile), out);
        };
        let path = name(&path);
        let request = Request::Checksum {
            path: place,
            algorithm,
            start: from,
            end,
        };
        self.ask(Question::Checksum { path, short }, request)
    }

    /// Takes the house's answer.
    pub(crate) fn answered(
        &mut self,
        question: Question,
        answer: Response,
        out: &mut Vec<u8>,
    ) -> Action {
        match (question, answer) {
            (Question::Status(wanted, place), Response::Status(found)) => {
                self.found(wanted, place, found, out)
            }
            (Question::Rename, Response::Done) => self.reply(reply::RENAMED, out),
            (Question::Remove, Response::Done) => self.reply(reply::DELETED, out),
            (Question::RemoveDirectory, Response::Done) => {
                self.reply(reply::DIRECTORY_REMOVED, out)
            }
            (Question::MakeDirectory(place), Response::DirectoryCreated) => {
                reply::path(out, Shown(Some(&place)), true);
                self.ready()
            }
            (Question::SetModified { modified, path }, Response::Done) => {
                reply::modified(out, time(modified), &path);
                self.ready()
            }
            (Question::Checksum { path, short }, Response::Checksum { digest, end }) => {
                match short {
                    true => reply::digest(out, &digest),
                    false => reply::hash(out, self.algorithm, (0, end), &digest, &path),
                }
                self.ready()
            }
            (Question::Space, Response::Space(left)) => {
                reply::value(out, left);
                self.ready()
            }
            (Question::Room { .. }, Response::Allowed) => self.reply(reply::ROOM_ENOUGH, out),
            (
                Question::Room { place },
                Response::Refused(
                    why @ (ErrorCode::NoSpace | ErrorCode::OverQuota | ErrorCode::TooLarge),
                ),
            ) => {
                let behind = Behind::default();
                self.ask(
                    Question::Left { why, behind },
                    Request::Space { path: place },
                )
            }
            (Question::Left { why, behind }, Response::Space(left)) => {
                reply::no_room(out, why, left);
                self.behind(behind, out)
            }
            (Question::Left { why, behind }, Response::Refused(_)) => {
                say(out, reply::refusal(why));
                self.behind(behind, out)
            }
            (Question::Stat, Response::Listing { length, .. }) => {
                reply::begin_listing(out);
                self.state = State::Status;
                Action::Send { offset: 0, length }
            }
            (Question::List, Response::Listing { length, .. }) => self.send_listing(length),
            (Question::Retr { restart }, Response::Opened { length }) => {
                self.send_file(restart, length, out)
            }
            (Question::Stor(place), Response::Created) => self.receive_file(place, None),
            (Question::Stor(place), Response::CreatedUnique { name }) => {
                self.receive_file(place, Some(name))
            }
            (
                Question::List
                | Question::Retr { .. }
                | Question::Stor(_)
                | Question::Status(Wanted::Mlsd, _),
                Response::Refused(refusal),
            ) => self.refuse(refusal, out),
            (
                Question::Status(Wanted::Cwd, _) | Question::RemoveDirectory,
                Response::Refused(ErrorCode::NoSuchFile),
            ) => self.reply(reply::refusal(ErrorCode::NoSuchDirectory), out),
            (Question::MakeDirectory(_), Response::Refused(ErrorCode::FileExists)) => {
                self.reply(reply::NAME_TAKEN, out)
            }
            (Question::MakeDirectory(_), Response::Refused(ErrorCode::InvalidName)) => {
                self.reply(reply::NO_NAME, out)
            }
            (_, Response::Refused(refusal)) => self.reply(reply::refusal(refusal), out),
            (question, answer) => unreachable!("{answer:?} to {question:?}"),
        }
    }

    fn found(
        &mut self,
        wanted: Wanted,
        place: GrantedPath,
        found: FileStatus,
        out: &mut Vec<u8>,
    ) -> Action {
        match wanted {
            Wanted::Cwd if found.is_directory => return self.enter(Some(place), out),
            Wanted::Cwd => say(out, reply::refusal(ErrorCode::NoSuchDirectory)),
            Wanted::Mlsd if found.is_directory => {
                let listed = ListingTarget::Directory(place);
                let form = ListingFormat::Facts(self.facts);
                return self.ask(
                    Question::List,
                    Request::List {
                        target: listed,
                        format: form,
                    },
                );
            }
            Wanted::Mlsd => {
                say(out, reply::NO_DIRECTORY);
                return self.hang_up();
            }
            Wanted::Mlst => {
                let facts = MlstFacts {
                    of_top: place.relative.is_empty(),
                    ..self.facts
                };
                let rights = place.grant.rights;
                reply::facts(out, facts, &found, rights, Shown(Some(&place)));
            }
            Wanted::Rnfr => {
                self.renamed = Some(place);
                say(out, reply::RNTO_PLEASE);
            }
            Wanted::Size | Wanted::Mdtm if found.is_directory => say(out, reply::NO_FILE),
            Wanted::Restart(from) if from > found.size => say(out, reply::BEYOND_END),
            Wanted::Restart(_) => say(out, reply::NO_DATA_ADDRESS),
            Wanted::Size => reply::value(out, found.size),
            Wanted::Mdtm => reply::value(out, time(found.modified)),
        }
        self.ready()
    }
}

/// A time and, behind one blank, a path.
fn timed_path(argument: &[u8]) -> Option<(i64, &[u8])> {
    let (first, path) = command::split(argument);
    let modified = command::time(first)?;
    (!path.is_empty()).then_some((modified, path))
}
