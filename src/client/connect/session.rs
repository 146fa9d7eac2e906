//! `connect`: the dialogue for a person, with line editing, history and completion. What he downloads lands in the download
//! folder, and `upload` sends a file from here.
//!
//! Each line is understood here and said to the server as a command of the dialogue; prompts are asked here, in the server's
//! words. Ctrl-C while something moves ends that, and a new connection takes the old one's place.

use std::fmt::Display;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};

use crate::client::connect::completion::{Completion, UPLOAD, Wanted};
use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::client::get;
use crate::client::get::Getter;
use crate::client::list;
use crate::client::list::Look;
use crate::client::login::Login;
use crate::client::part_file;
use crate::client::progress::Progress;
use crate::client::put::Putter;
use crate::client::sanitized::Sanitized;
use crate::client::tree::{Node, Tree};
use crate::domain::path::is_name;
use crate::protocol::menu::client::ClientEvent;
use crate::protocol::menu::command;
use crate::protocol::menu::command::MenuCommand;
use crate::protocol::menu::text;

/// How transfers are done.
pub struct Options {
    /// The download folder.
    pub into: PathBuf,
    /// What is there may be replaced, here and on the server.
    pub force: bool,
}

/// Talks with a person until he or the server has enough; `tell` says a line on standard error.
pub fn connect(login: Rc<Login>, options: Options, tell: fn(&str)) -> Result<(), Error> {
    let interrupts = SigSet::from(Signal::SIGINT);
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let interrupt = SignalFd::with_flags(&interrupts, flags);
    let interrupt = Rc::new(interrupt.map_err(|error| Error::Here(error.desc().into()))?);
    let connection = Connection::open_interruptible(&login, Some(Rc::clone(&interrupt)))?;
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .build();
    let mut editor = Editor::with_config(config).map_err(|error| Error::Here(error.to_string()))?;
    editor.set_helper(Some(Completion::new(Rc::clone(&login))));
    let mut talk = Talk {
        connection,
        options,
        tell,
        login,
        editor,
        interrupt: Rc::clone(&interrupt),
        chosen: None,
        answered: None,
    };
    say(text::MENU_WITH_UPLOAD)?;
    loop {
        let Some(line) = talk.read(Wanted::Command)? else {
            talk.connection.quit();
            return say(text::GOODBYE_LOGGED_OUT);
        };
        // While a line is edited Ctrl-C is a key, and while a command is at work the connection looks for it; elsewhere it
        // ends the program as ever.
        let failed = |error: nix::Error| Error::Here(error.desc().into());
        interrupts.thread_block().map_err(failed)?;
        talk.answered = None;
        let mut done = talk.line(&line);
        if matches!(done, Err(Error::Idle)) {
            // It was over before the line was typed.
            done = talk.renew().and_then(|()| talk.line(&line));
        }
        let done = talk.settle(done);
        while let Ok(Some(_)) = interrupt.read_signal() {}
        interrupts.thread_unblock().map_err(failed)?;
        if !done? {
            talk.connection.quit();
            return say(text::GOODBYE_LOGGED_OUT);
        }
    }
}

struct Talk {
    connection: Connection,
    options: Options,
    tell: fn(&str),
    login: Rc<Login>,
    editor: Editor<Completion, DefaultHistory>,
    interrupt: Rc<SignalFd>,
    /// The chosen directory.
    chosen: Option<String>,
    /// What was answered to this line's prompt, which is not asked again where the line is done once more.
    answered: Option<String>,
}

impl Talk {
    /// The next line; `None` where there are no more.
    fn read(&mut self, wanted: Wanted) -> Result<Option<String>, Error> {
        let completion = self.editor.helper_mut().expect("it was given one");
        completion.expect(wanted, self.chosen.clone());
        let prompt = match &self.chosen {
            Some(chosen) => format!("{}> ", Sanitized(chosen)),
            None => "> ".to_owned(),
        };
        loop {
            return match self.editor.readline(&prompt) {
                Ok(line) => {
                    if wanted == Wanted::Command {
                        let added = self.editor.add_history_entry(&line);
                        added.map_err(|error| Error::Here(error.to_string()))?;
                    }
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof) => Ok(None),
                Err(ReadlineError::Interrupted) if wanted == Wanted::Command => continue,
                // At a prompt it cancels.
                Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
                Err(error) => Err(Error::Here(error.to_string())),
            };
        }
    }

    /// Does what a line asks for; `false` where that was the end.
    fn line(&mut self, line: &str) -> Result<bool, Error> {
        if line.trim().is_empty() {
            say(text::MENU_WITH_UPLOAD)?;
            return Ok(true);
        }
        let Some((command, rest)) = command::parse(line.as_bytes()) else {
            let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            match word.eq_ignore_ascii_case(UPLOAD) {
                true => self.upload(rest)?,
                false => say(text::UNKNOWN_COMMAND)?,
            }
            return Ok(true);
        };
        let rest = str::from_utf8(rest).expect("parts of a line, cut at blanks");
        match command {
            MenuCommand::Login => say(text::ALREADY_LOGGED_IN)?,
            MenuCommand::ShowDirectories => {
                self.connection.ask(|dialogue, out| {
                    dialogue.show_directories(out);
                    Ok(())
                })?;
                self.names(text::DIRECTORIES, text::NO_DIRECTORIES)?;
            }
            MenuCommand::ShowDirectory => {
                if let Some(path) = self.answer(rest, text::ENTER_DIRECTORY, Wanted::Directory)? {
                    self.connection
                        .ask(|dialogue, out| dialogue.show_directory(&path, out))?;
                    self.names(text::FILES, text::NO_FILES)?;
                    self.chosen = Some(path.trim_end_matches('/').to_owned());
                }
            }
            MenuCommand::ShowDetails => self.details()?,
            MenuCommand::ShowQuota => self.quotas()?,
            MenuCommand::DownloadFile | MenuCommand::ResumeDownload => {
                if let Some(path) = self.answer(rest, text::CHOOSE_FILE, Wanted::File)? {
                    self.download(&path, command == MenuCommand::ResumeDownload)?;
                }
            }
            MenuCommand::UploadFile => self.upload(rest)?,
            MenuCommand::PutFile => say("'UPLOAD FILE' sends a file from here")?,
            MenuCommand::MakeDirectory => {
                if let Some(path) =
                    self.answer(rest, text::ENTER_NEW_DIRECTORY, Wanted::Directory)?
                {
                    let path = self.path(&path);
                    self.connection
                        .ask(|dialogue, out| dialogue.make_directory(&path, out))?;
                    self.hear(|_| ())?;
                    let name = path.rsplit('/').next().unwrap_or(&path);
                    say(format_args!("{}{}", text::DIRECTORY_MADE, Sanitized(name)))?;
                }
            }
            MenuCommand::ChecksumFile => {
                if let Some(path) = self.answer(rest, text::CHOOSE_CHECKSUM, Wanted::File)? {
                    self.checksum(&path)?;
                }
            }
            MenuCommand::Help => {
                for command in MenuCommand::ALL {
                    if !matches!(command, MenuCommand::Login | MenuCommand::PutFile) {
                        say(text::help(command))?;
                    }
                }
            }
            MenuCommand::Quit => return Ok(false),
        }
        Ok(true)
    }

    /// Tells why a line was not done, and puts a new connection in the place of one that was given up.
    fn settle(&mut self, done: Result<bool, Error>) -> Result<bool, Error> {
        match done {
            Err(Error::Refused(refused)) => say(refused)?,
            Err(Error::Here(what)) => {
                (self.tell)(&what);
                self.renew_if_amid()?;
            }
            Err(error @ (Error::Abandoned(_) | Error::Idle)) => {
                (self.tell)(&error.to_string());
                self.renew()?;
            }
            done => return done,
        }
        Ok(true)
    }

    /// What is left of a file that could not be kept is not waited for.
    fn renew_if_amid(&mut self) -> Result<(), Error> {
        match self.connection.left() {
            0 => Ok(()),
            _ => self.renew(),
        }
    }

    fn renew(&mut self) -> Result<(), Error> {
        while let Ok(Some(_)) = self.interrupt.read_signal() {}
        let interrupt = Some(Rc::clone(&self.interrupt));
        self.connection = Connection::open_interruptible(&self.login, interrupt)?;
        Ok(())
    }

    /// What stands behind a command, or the answer to its prompt; `None` where that is empty.
    fn answer(
        &mut self,
        rest: &str,
        prompt: &str,
        wanted: Wanted,
    ) -> Result<Option<String>, Error> {
        if !rest.is_empty() {
            return Ok(Some(rest.to_owned()));
        }
        if self.answered.is_none() {
            say(prompt)?;
            self.answered = self.read(wanted)?;
        }
        Ok(self.answered.clone().filter(|answer| !answer.is_empty()))
    }

    /// A path from the top: a name with a `/` is one, another is a name in the chosen directory.
    fn path(&self, name: &str) -> String {
        match &self.chosen {
            Some(chosen) if !name.contains('/') => format!("{chosen}/{name}"),
            _ => name.to_owned(),
        }
    }

    /// Hears an answer that may be a refusal.
    fn hear<T>(&mut self, take: impl FnOnce(ClientEvent<'_>) -> T) -> Result<T, Error> {
        self.connection.hear(|event| match event {
            ClientEvent::Refused(refused) => Err(Error::Refused(refused)),
            event => Ok(take(event)),
        })?
    }

    /// Shows names as they come, however many.
    fn names(&mut self, before: &str, nothing: &str) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        // What of a character was cut off at a piece's end.
        let mut kept = Vec::new();
        let mut begun = false;
        loop {
            let is_last = self.hear(|event| {
                let ClientEvent::Names { piece, is_last } = event else {
                    return Ok(true);
                };
                if !begun && piece.is_empty() {
                    return write!(out, "{nothing}").map(|()| is_last);
                }
                if !begun {
                    write!(out, "{before}")?;
                    begun = true;
                }
                kept.extend_from_slice(piece);
                let whole = match str::from_utf8(&kept) {
                    Err(error) if error.error_len().is_none() && !is_last => error.valid_up_to(),
                    _ => kept.len(),
                };
                write!(
                    out,
                    "{}",
                    Sanitized(&String::from_utf8_lossy(&kept[..whole]))
                )?;
                kept.drain(..whole);
                Ok(is_last)
            })?;
            if is_last.map_err(unsayable)? {
                return writeln!(out).map_err(unsayable);
            }
        }
    }

    fn details(&mut self) -> Result<(), Error> {
        // After a new connection the server has forgotten what was chosen.
        if let Some(chosen) = self.chosen.clone() {
            let mut written = Ok(());
            let look = Look::Table { exact: false };
            let refusals = Tree::new(&mut self.connection).list(&[chosen], |_, entry| {
                let node = Node {
                    path: String::new(),
                    size: entry.size,
                    modified: Some(entry.modified),
                };
                if written.is_ok() {
                    written =
                        io::stdout().write_all(list::line(&node, entry.name, look).as_bytes());
                }
            })?;
            written.map_err(unsayable)?;
            return refusals[0].map_or(Ok(()), |refused| Err(Error::Refused(refused)));
        }
        Err(Error::Refused(text::CHOOSE_DIRECTORY_FIRST))
    }

    fn quotas(&mut self) -> Result<(), Error> {
        self.connection.ask(|dialogue, out| {
            dialogue.show_quota(out);
            Ok(())
        })?;
        let mut left = self.hear(|event| match event {
            ClientEvent::Quotas(count) => count,
            _ => 0,
        })?;
        if left == 0 {
            return say(text::NO_QUOTA);
        }
        while left > 0 {
            let mut line = Vec::new();
            self.hear(|event| {
                if let ClientEvent::Quota(quota) = event {
                    text::append_quota(&mut line, &quota);
                }
            })?;
            say(Sanitized(String::from_utf8_lossy(&line).trim_end()))?;
            left -= 1;
        }
        Ok(())
    }

    fn download(&mut self, path: &str, resumes: bool) -> Result<(), Error> {
        let path = self.path(path);
        let name = path.rsplit('/').next().unwrap_or(&path);
        if !is_name(name) {
            return Err(Error::Here(
                "that is not a name that can be downloaded".into(),
            ));
        }
        let name = self.options.into.join(name);
        let progress = Progress::new(self.tell, false, 1, 0);
        let options = get::Options {
            into: self.options.into.clone(),
            force: self.options.force,
            resume: resumes,
            recursive: false,
            jobs: 1,
            quiet: false,
        };
        let mut getter = Getter {
            connection: &mut self.connection,
            options: &options,
            progress: &progress,
        };
        if resumes {
            getter.resume(&path, &name, 0)?;
        } else {
            if !options.force && part_file::is_taken(&name) {
                return Err(part_file::exists(&name));
            }
            getter
                .connection
                .ask(|dialogue, out| dialogue.download(&path, out))?;
            getter.download(&path, &name, 0)?;
        }
        let name = name.to_string_lossy();
        say(format_args!("{}: {}", Sanitized(&name), progress.summary()))
    }

    fn upload(&mut self, rest: &str) -> Result<(), Error> {
        let Some(file) = self.answer(rest, text::ENTER_UPLOAD, Wanted::Local)? else {
            return Ok(());
        };
        let file = Path::new(&file);
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::Here(
                "that is not a name that can be uploaded".into(),
            ));
        };
        let Some(chosen) = self.chosen.clone() else {
            return Err(Error::Refused(text::CHOOSE_DIRECTORY_FIRST));
        };
        if !self.options.force {
            let mut is_taken = false;
            let refusals = Tree::new(&mut self.connection)
                .list(&[chosen], |_, entry| is_taken |= entry.name == name)?;
            if let Some(refused) = refusals[0] {
                return Err(Error::Refused(refused));
            }
            if is_taken {
                return Err(Error::Here(format!(
                    "{}: it exists already; --force replaces it",
                    Sanitized(name)
                )));
            }
        }
        let path = self.path(name);
        let progress = Progress::new(self.tell, false, 1, 0);
        let mut putter = Putter {
            connection: &mut self.connection,
            progress: &progress,
        };
        putter.put(file, &path)?;
        say(format_args!("{}: {}", Sanitized(name), progress.summary()))
    }

    fn checksum(&mut self, path: &str) -> Result<(), Error> {
        let path = self.path(path);
        self.connection
            .ask(|dialogue, out| dialogue.checksum(&path, out))?;
        // Nobody knows how large the file is; the person has Ctrl-C.
        self.connection.set_at_work(u64::MAX);
        let hash = self.hear(|event| match event {
            ClientEvent::Checksum(hash) => hash,
            _ => unreachable!("the dialogue takes no other answer"),
        });
        self.connection.set_at_work(0);
        let name = path.rsplit('/').next().unwrap_or(&path);
        let hash: String = hash?.iter().map(|byte| format!("{byte:02x}")).collect();
        say(format_args!("{}{hash} {}", text::SHA_256, Sanitized(name)))
    }
}

/// A line on standard output.
fn say(line: impl Display) -> Result<(), Error> {
    writeln!(io::stdout(), "{line}").map_err(unsayable)
}

fn unsayable(error: io::Error) -> Error {
    Error::Broken(format!("standard output: {error}"))
}
