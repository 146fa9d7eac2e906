//! The protocol as a value: bytes and facts go in, bytes and one wish come out.
//!
//! [`Session::step`] takes one [`Input`], appends its sentences to the buffer it is given and returns exactly one
//! [`Action`]. Every effect is asked for ([`Action::Ask`]) and answered ([`Input::Answer`]); whether at once or later
//! the session cannot tell.
//!
//! Must not know: descriptors, clocks, the file system, threads.

pub mod line;
pub mod menu;
pub mod menu_client;
pub mod menu_command;
mod menu_place;
pub mod menu_sentence;
pub mod menu_text;

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::home::Access;
use crate::home::directories::Grant;

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// The connection stands; the first input, once.
    Begin,
    /// There is no room for this session; instead of `Begin`.
    Full,
    /// A line without its end, after [`Action::ReadLine`].
    Line(&'a [u8]),
    /// More than [`crate::limits::LINE_BYTES_MAX`] bytes came without a line end.
    LineTooLong,
    /// The answer to the one open [`Action::Ask`].
    Answer(Answer),
    /// What [`Action::Send`], [`Action::Receive`] or [`Action::Discard`] asked for is done: every byte is on its way, an
    /// incoming file is durable under its name, or why it is not.
    Moved(Result<(), Refusal>),
    /// Nothing was moved for too long, or no login came in time; only while a line is awaited.
    Idle,
    /// The server stops; only while a line is awaited.
    Stopping,
}

/// The one wish of a step.
#[derive(Debug)]
pub enum Action {
    /// The next line, please.
    ReadLine,
    /// Put this to the house; nothing else happens before its answer.
    Ask(Request),
    /// Send `length` bytes of what [`Answer::Opened`] or [`Answer::Listing`] opened, from byte `from` on.
    Send {
        /// On which of the two connections.
        over: Over,
        /// The first byte that is sent.
        from: u64,
        /// How many bytes are sent.
        length: u64,
    },
    /// Take `length` bytes into what [`Answer::Created`] created, make them durable and publish them.
    Receive {
        /// On which of the two connections.
        over: Over,
        /// How many bytes were announced.
        length: u64,
    },
    /// Take `length` bytes and throw them away.
    Discard {
        /// How many bytes were announced.
        length: u64,
    },
    /// Send what is owed, then close.
    Close(Ending),
}

/// Why a connection ended; for the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client said goodbye.
    Quit,
    /// The client closed its sending half, and all it had asked for was done.
    ClientLeft,
    /// The connection was reset.
    Reset,
    /// Nothing was moved for too long, or no login came in time.
    Idle,
    /// Too many failed logins.
    LoginFailures,
    /// A line was too long.
    LineTooLong,
    /// The account was removed or changed.
    LoginRevoked,
    /// What follows a refused `PUT FILE` could not be told from commands.
    PutRefused,
    /// There was no room for the session.
    Full,
    /// The server stops.
    Stopping,
    /// The server stopped before the work was done.
    CutOff,
    /// A file became shorter than what was announced of it.
    FileShrank,
    /// Sending failed for a reason that the log tells.
    Broken,
}

impl Ending {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            Ending::Quit => "quit",
            Ending::ClientLeft => "client-left",
            Ending::Reset => "reset",
            Ending::Idle => "idle",
            Ending::LoginFailures => "login-failures",
            Ending::LineTooLong => "line-too-long",
            Ending::LoginRevoked => "login-revoked",
            Ending::PutRefused => "put-refused",
            Ending::Full => "full",
            Ending::Stopping => "stopping",
            Ending::CutOff => "cut-off",
            Ending::FileShrank => "file-shrank",
            Ending::Broken => "broken",
        }
    }
}

/// Which connection a transfer goes over (RFC 959 has two; the menu has only the first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The one that the commands come on.
    Control,
}

/// A place in what a user may see: a granted directory and a path below it, parts parted by one `/`, as the client
/// gave it and not checked in any way; empty for the granted directory itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The granted directory in which the path begins.
    pub grant: Arc<Grant>,
    /// The path below it.
    pub below: String,
}

/// In which form a listing is wanted; `menu_text` knows how each looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Names on one line.
    Names,
    /// An entry a line, for programs.
    Details,
}

/// What a session asks of the house.
#[derive(Debug)]
pub enum Request {
    /// Is there such a user? Where usernames are hidden the house says yes to every name.
    Account {
        /// As the client gave it.
        user: String,
    },
    /// Is this his password?
    Verify {
        /// As the client gave it.
        user: String,
        /// As the client gave it; wiped when dropped.
        password: Zeroizing<Vec<u8>>,
    },
    /// The listing of a directory, as text.
    List {
        /// The directory.
        place: Place,
        /// How it is written.
        form: Form,
    },
    /// Open a file to read.
    OpenRead {
        /// The file.
        place: Place,
    },
    /// May a file of this name be made there?
    Judge {
        /// The file to be.
        place: Place,
    },
    /// Is there room for an upload of this length, as far as can be known?
    Room {
        /// Where it would lie; without one the home's own file system counts.
        grant: Option<Arc<Grant>>,
        /// Announced bytes.
        length: u64,
    },
    /// Make ready to receive a file.
    Create {
        /// The file to be.
        place: Place,
        /// Announced bytes.
        length: u64,
    },
    /// Make a directory.
    MakeDirectory {
        /// The directory to be.
        place: Place,
    },
    /// The SHA-256 of a file.
    Checksum {
        /// The file.
        place: Place,
    },
}

/// What the house answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To `Account`: whether a password is worth asking for.
    Account(bool),
    /// To `Verify`: what the user may do, or `None` for a wrong name or password.
    Verified(Option<Arc<Access>>),
    /// To `List`: the text of so many bytes waits to be sent; how many entries it tells of.
    Listing {
        /// Bytes of the text.
        length: u64,
        /// Entries in it.
        entries: usize,
    },
    /// To `OpenRead`: the file of so many bytes waits to be sent.
    Opened {
        /// Its size at this moment.
        length: u64,
    },
    /// To `Judge` and `Room`: nothing speaks against it now.
    Free,
    /// To `Create`: the bytes can come.
    Created,
    /// To `MakeDirectory`: it is there, and durable.
    Made,
    /// To `Checksum`.
    Checksum([u8; 32]),
    /// To any but `Account` and `Verify`.
    Refused(Refusal),
}

/// Why the house does not do what it was asked. Carries nothing of the client's; the dialects put it into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The directory does not exist, is no directory, or leads outside.
    NoSuchDirectory,
    /// The directory is there, and the server may not read it.
    DirectoryUnreadable,
    /// The file does not exist, is not a regular file, cannot be a name, or leads outside.
    NoSuchFile,
    /// The file is there, and the server may not read it, or reading failed.
    FileUnreadable,
    /// The server may not write there, or writing failed.
    FileUnwritable,
    /// No right to upload here.
    MayNotUpload,
    /// The name is taken, and the user may not change it, or it is nothing that can be replaced.
    FileExists,
    /// A directory of that name is there.
    DirectoryExists,
    /// Not a name that a file can be given.
    BadName,
    /// No room, or over the size limit.
    NoRoom,
}

/// The dialogue with one client: one of the dialects.
#[derive(Debug)]
pub enum Session {
    /// The menu, for people and programs with a socket.
    Menu(menu::Menu),
}

impl Session {
    /// Takes one input, appends to `out` what is to be sent before anything else happens, and says what it wants.
    pub fn step(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Action {
        match self {
            Session::Menu(menu) => menu.step(input, out),
        }
    }

    /// Tells a logged-in session after a reload what its user may do now, or `None` where the login no longer holds.
    /// It counts from the next command on.
    pub fn reloaded(&mut self, access: Option<Arc<Access>>) {
        match self {
            Session::Menu(menu) => menu.reloaded(access),
        }
    }

    /// Whether a login has been proved, even if it no longer holds.
    pub fn is_logged_in(&self) -> bool {
        match self {
            Session::Menu(menu) => menu.is_logged_in(),
        }
    }

    /// What the logged-in user may do, as of the last reload; `None` before a login and after one that was revoked.
    pub fn access(&self) -> Option<&Arc<Access>> {
        match self {
            Session::Menu(menu) => menu.access(),
        }
    }
}
