//! The interactive session: parses the user's lines, executes them over a connection and prints the
//! results.
//!
//! Commands that the menu has are parsed here and sent as protocol commands, with the server's own
//! prompts. Ctrl-C during a command aborts it and replaces the connection.

use std::fmt::Display;
use std::fs;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Mutex;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::client::connect::completion::{InputKind, UPLOAD};
use crate::client::connect::line_editor::LineEditor;
use crate::client::connection::ClientConnection;
use crate::client::download::{Downloader, FileDownload, INVALID_NAME};
use crate::client::error::ClientError;
use crate::client::list;
use crate::client::list::ListFormat;
use crate::client::login::RemoteLogin;
use crate::client::missing::LEADING_SLASH;
use crate::client::part_file;
use crate::client::progress::TransferProgress;
use crate::client::quota::request_quotas;
use crate::client::refusal;
use crate::client::refusal::{Refusal, RefusedUpload};
use crate::client::sanitized::Sanitized;
use crate::client::tree::{RemoteEntry, RemoteTree};
use crate::client::upload::{Uploader, source_failure};
use crate::domain::path::is_name;
use crate::protocol::menu::client::ClientEvent;
use crate::protocol::menu::command;
use crate::protocol::menu::command::MenuCommand;
use crate::protocol::menu::text;

/// The options of `connect`.
pub struct ConnectOptions {
    /// The download folder.
    pub into: PathBuf,
    /// Whether existing files are replaced, here and on the server.
    pub force: bool,
}

/// Runs an interactive session until the user or the server ends it. Errors of single commands are
/// printed by `report`.
pub fn connect(
    login: Rc<RemoteLogin>,
    options: ConnectOptions,
    report: fn(&str),
) -> Result<(), ClientError> {
    let system_error = |error: nix::Error| ClientError::Local(error.desc().into());
    let interrupts = SigSet::from(Signal::SIGINT);
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let interrupt = SignalFd::with_flags(&interrupts, flags).map_err(system_error)?;
    let interrupt = Rc::new(interrupt);
    let connection = ClientConnection::open_interruptible(&login, Rc::clone(&interrupt))?;
    let mut session = InteractiveSession {
        connection,
        options,
        report,
        editor: LineEditor::new(Rc::clone(&login))?,
        login,
        interrupt,
        directory: None,
        answer: None,
    };
    print_line(text::MENU_WITH_UPLOAD)?;
    while let Some(line) = session.read_line(InputKind::Command)? {
        // SIGINT is blocked while a command runs, where the connection reads it from the signalfd.
        // The line editor reads Ctrl-C as a key. At other times the signal ends the program.
        interrupts.thread_block().map_err(system_error)?;
        let result = session.run_line(&line);
        session.discard_interrupts();
        interrupts.thread_unblock().map_err(system_error)?;
        if !result? {
            break;
        }
    }
    session.connection.quit();
    print_line(text::GOODBYE_LOGGED_OUT)
}

struct InteractiveSession {
    connection: ClientConnection,
    options: ConnectOptions,
    report: fn(&str),
    editor: LineEditor,
    login: Rc<RemoteLogin>,
    interrupt: Rc<SignalFd>,
    /// The chosen directory.
    directory: Option<String>,
    /// The answer to the prompt of the current command. If the command is repeated over a new
    /// connection, the user is not asked again.
    answer: Option<String>,
}

impl InteractiveSession {
    fn read_line(&mut self, kind: InputKind) -> Result<Option<String>, ClientError> {
        self.editor.read_line(kind, self.directory.as_deref())
    }

    /// Executes a line and prints its error. Returns whether the session continues; an error means
    /// that there is no usable connection.
    fn run_line(&mut self, line: &str) -> Result<bool, ClientError> {
        self.answer = None;
        let mut result = self.execute(line);
        if matches!(result, Err(ClientError::Idle)) {
            result = self.reconnect().and_then(|()| self.execute(line));
        }
        match result {
            Err(ClientError::Refused(reason)) => print_line(reason)?,
            Err(ClientError::Local(reason)) => {
                (self.report)(&reason);
                // A new connection is faster than receiving the rest of a file.
                if self.connection.file_bytes_left() > 0 {
                    self.reconnect()?;
                }
            }
            Err(error @ (ClientError::Aborted(_) | ClientError::Idle)) => {
                (self.report)(&error.to_string());
                self.reconnect()?;
            }
            result => return result,
        }
        Ok(true)
    }

    fn reconnect(&mut self) -> Result<(), ClientError> {
        self.discard_interrupts();
        let interrupt = Rc::clone(&self.interrupt);
        self.connection = ClientConnection::open_interruptible(&self.login, interrupt)?;
        Ok(())
    }

    fn discard_interrupts(&self) {
        while let Ok(Some(_)) = self.interrupt.read_signal() {}
    }

    /// Executes a line. Returns whether the session continues.
    fn execute(&mut self, line: &str) -> Result<bool, ClientError> {
        if line.trim().is_empty() {
            print_line(text::MENU_WITH_UPLOAD)?;
            return Ok(true);
        }
        let Some((command, argument)) = command::parse(line.as_bytes()) else {
            let (word, argument) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            match word.eq_ignore_ascii_case(UPLOAD) {
                true => self.upload(argument)?,
                false => print_line(text::UNKNOWN_COMMAND)?,
            }
            return Ok(true);
        };
        let argument = str::from_utf8(argument).expect("the line is cut at blanks");
        match command {
            MenuCommand::Login => print_line(text::ALREADY_LOGGED_IN)?,
            MenuCommand::ShowDirectories => self.show_directories()?,
            MenuCommand::ShowDirectory => self.show_directory(argument)?,
            MenuCommand::ShowDetails => self.show_details()?,
            MenuCommand::ShowQuota => self.show_quotas()?,
            MenuCommand::DownloadFile => self.download(argument, false)?,
            MenuCommand::ResumeDownload => self.download(argument, true)?,
            MenuCommand::UploadFile => self.upload(argument)?,
            MenuCommand::PutFile => print_line("Use 'UPLOAD FILE' to send a local file")?,
            MenuCommand::MakeDirectory => self.make_directory(argument)?,
            MenuCommand::ChecksumFile => self.show_checksum(argument)?,
            MenuCommand::Help => print_help()?,
            MenuCommand::Quit => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the argument of a command, or else the answer to its prompt; `None` if that is
    /// empty.
    fn argument_or_answer(
        &mut self,
        argument: &str,
        prompt: &str,
        kind: InputKind,
    ) -> Result<Option<String>, ClientError> {
        if !argument.is_empty() {
            return Ok(Some(argument.to_owned()));
        }
        if self.answer.is_none() {
            print_line(prompt)?;
            self.answer = self.read_line(kind)?;
        }
        Ok(self.answer.clone().filter(|answer| !answer.is_empty()))
    }

    /// Returns a path from the top: a name without `/` is one in the chosen directory.
    fn full_path(&self, name: &str) -> Result<String, ClientError> {
        match &self.directory {
            _ if name.starts_with('/') => Err(leading_slash(name)),
            Some(directory) if !name.contains('/') => Ok(format!("{directory}/{name}")),
            _ => Ok(name.to_owned()),
        }
    }

    fn show_directories(&mut self) -> Result<(), ClientError> {
        self.connection.send_command(|session, out| {
            session.show_directories(out);
            Ok(())
        })?;
        self.print_names(text::DIRECTORIES, text::NO_DIRECTORIES)
    }

    fn show_directory(&mut self, argument: &str) -> Result<(), ClientError> {
        let kind = InputKind::RemoteDirectory;
        let Some(path) = self.argument_or_answer(argument, text::ENTER_DIRECTORY, kind)? else {
            return Ok(());
        };
        if path.starts_with('/') {
            return Err(leading_slash(&path));
        }
        self.connection
            .send_command(|session, out| session.show_directory(&path, out))?;
        self.print_names(text::FILES, text::NO_FILES)?;
        self.directory = Some(path.trim_end_matches('/').to_owned());
        Ok(())
    }

    /// Prints names as they arrive, since their number is not limited.
    fn print_names(&mut self, introduction: &str, nothing: &str) -> Result<(), ClientError> {
        let mut out = io::stdout().lock();
        // Bytes that are not printed yet, because a piece may end inside a character.
        let mut buffer = Vec::new();
        let mut has_begun = false;
        loop {
            let is_last = self.connection.receive_reply(|event| {
                let ClientEvent::Names { piece, is_last } = event else {
                    return None;
                };
                if !has_begun {
                    let is_empty = piece.is_empty();
                    let first = if is_empty { nothing } else { introduction };
                    if let Err(error) = write!(out, "{first}") {
                        return Some(Err(error));
                    }
                    has_begun = !is_empty;
                }
                buffer.extend_from_slice(piece);
                Some(print_characters(&mut out, &mut buffer, is_last).map(|()| is_last))
            })?;
            if is_last.map_err(output_error)? {
                return writeln!(out).map_err(output_error);
            }
        }
    }

    fn show_details(&mut self) -> Result<(), ClientError> {
        // The directory is listed by its path, because a new connection has not chosen it.
        let Some(directory) = self.directory.clone() else {
            return Err(ClientError::Refused(text::CHOOSE_DIRECTORY_FIRST));
        };
        let mut written = Ok(());
        let format = ListFormat::Table { exact: false };
        let refusals = RemoteTree::new(&mut self.connection).list(&[directory], |_, details| {
            let entry = RemoteEntry {
                path: String::new(),
                size: details.size,
                modified: Some(details.modified),
            };
            if written.is_ok() {
                let line = list::format_entry(&entry, details.name, format);
                written = io::stdout().write_all(line.as_bytes());
            }
        })?;
        written.map_err(output_error)?;
        refusals[0].map_or(Ok(()), |reason| Err(ClientError::Refused(reason)))
    }

    fn show_quotas(&mut self) -> Result<(), ClientError> {
        let quotas = request_quotas(&mut self.connection)?;
        if quotas.is_empty() {
            return print_line(text::NO_QUOTA);
        }
        for quota in &quotas {
            let mut line = Vec::new();
            text::append_quota(&mut line, quota);
            print_line(Sanitized(String::from_utf8_lossy(&line).trim_end()))?;
        }
        Ok(())
    }

    fn make_directory(&mut self, argument: &str) -> Result<(), ClientError> {
        let kind = InputKind::RemoteDirectory;
        let Some(path) = self.argument_or_answer(argument, text::ENTER_NEW_DIRECTORY, kind)? else {
            return Ok(());
        };
        let path = self.full_path(&path)?;
        self.connection
            .send_command(|session, out| session.make_directory(&path, out))?;
        self.connection.receive_reply(|event| match event {
            ClientEvent::DirectoryMade => Some(()),
            _ => None,
        })?;
        let name = Sanitized(last_component(&path));
        print_line(format_args!("{}{name}", text::DIRECTORY_MADE))
    }

    fn download(&mut self, argument: &str, resume: bool) -> Result<(), ClientError> {
        let kind = InputKind::RemoteFile;
        let Some(path) = self.argument_or_answer(argument, text::CHOOSE_FILE, kind)? else {
            return Ok(());
        };
        let path = self.full_path(&path)?;
        let name = last_component(&path);
        if !is_name(name) {
            let path = Sanitized(&path);
            return Err(ClientError::Local(format!("{path}: {INVALID_NAME}")));
        }
        let file = FileDownload {
            target: self.options.into.join(name),
            path,
            listed_size: None,
        };
        let progress = TransferProgress::new(self.report, false, 1, 0);
        let mut downloader = Downloader {
            connection: &mut self.connection,
            progress: &progress,
            force: self.options.force,
            resume,
            missing: Vec::new(),
        };
        if resume {
            downloader.resume(&file)?;
        } else {
            downloader.request(&file)?;
            downloader.download(&file)?;
        }
        let target = file.target.to_string_lossy();
        let summary = progress.summary();
        print_line(format_args!("{}: {summary}", Sanitized(&target)))
    }

    fn upload(&mut self, argument: &str) -> Result<(), ClientError> {
        let kind = InputKind::LocalFile;
        let Some(source) = self.argument_or_answer(argument, text::ENTER_UPLOAD, kind)? else {
            return Ok(());
        };
        let source = Path::new(&source);
        let Some(name) = source.file_name().and_then(|name| name.to_str()) else {
            let source = source.to_string_lossy();
            let source = Sanitized(&source);
            return Err(ClientError::Local(format!(
                "{source}: the path has no file name"
            )));
        };
        let size = match fs::metadata(source) {
            Ok(metadata) => metadata.len(),
            Err(error) => {
                let reason = source_failure(source, &error);
                let source = source.to_string_lossy();
                return Err(ClientError::Local(format!(
                    "{}: {reason}",
                    Sanitized(&source)
                )));
            }
        };
        let Some(directory) = self.directory.clone() else {
            return Err(ClientError::Refused(text::CHOOSE_DIRECTORY_FIRST));
        };
        if !self.options.force {
            self.check_no_such_file(directory, name)?;
        }
        let path = self.full_path(name)?;
        let progress = TransferProgress::new(self.report, false, 1, 0);
        let mut uploader = Uploader {
            connection: &mut self.connection,
            progress: &progress,
            force: self.options.force,
            refused: &Mutex::new(Vec::new()),
        };
        if let Err(error) = uploader.upload(source, &path) {
            return self.handle_refused_upload(path, size, error);
        }
        let summary = progress.summary();
        print_line(format_args!("{}: {summary}", Sanitized(name)))
    }

    /// Explains a lack of room on the server by the user's quotas. Returns any other error.
    fn handle_refused_upload(
        &mut self,
        path: String,
        size: u64,
        error: ClientError,
    ) -> Result<(), ClientError> {
        let Some(refusal @ Refusal::NoRoom) = Refusal::of(&error) else {
            return Err(error);
        };
        let upload = RefusedUpload {
            path,
            size,
            refusal,
        };
        let progress = TransferProgress::new(self.report, true, 1, 0);
        refusal::report(&self.login, &[upload], &progress);
        match error {
            ClientError::Aborted(_) => self.reconnect(),
            _ => Ok(()),
        }
    }

    /// Fails if the directory has an entry of this name.
    fn check_no_such_file(&mut self, directory: String, name: &str) -> Result<(), ClientError> {
        let mut exists = false;
        let mut tree = RemoteTree::new(&mut self.connection);
        let refusals = tree.list(&[directory], |_, entry| exists |= entry.name == name)?;
        match refusals[0] {
            Some(reason) => Err(ClientError::Refused(reason)),
            None if exists => Err(part_file::already_exists(Path::new(name))),
            None => Ok(()),
        }
    }

    fn show_checksum(&mut self, argument: &str) -> Result<(), ClientError> {
        let kind = InputKind::RemoteFile;
        let Some(path) = self.argument_or_answer(argument, text::CHOOSE_CHECKSUM, kind)? else {
            return Ok(());
        };
        let path = self.full_path(&path)?;
        self.connection
            .send_command(|session, out| session.checksum(&path, out))?;
        // The size of the file is unknown. The user can press Ctrl-C.
        self.connection.set_server_work(u64::MAX);
        let hash = self.connection.receive_reply(|event| match event {
            ClientEvent::Checksum(hash) => Some(hash),
            _ => None,
        });
        self.connection.set_server_work(0);
        let hash: String = hash?.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = Sanitized(last_component(&path));
        print_line(format_args!("{}{hash} {name}", text::SHA_256))
    }
}

/// Prints the complete characters of the buffer and removes them from it. At the end of the input,
/// prints an incomplete one as U+FFFD.
fn print_characters(out: &mut impl Write, buffer: &mut Vec<u8>, is_last: bool) -> io::Result<()> {
    let complete = match str::from_utf8(buffer) {
        Err(error) if error.error_len().is_none() && !is_last => error.valid_up_to(),
        _ => buffer.len(),
    };
    let characters = String::from_utf8_lossy(&buffer[..complete]);
    write!(out, "{}", Sanitized(&characters))?;
    buffer.drain(..complete);
    Ok(())
}

fn leading_slash(path: &str) -> ClientError {
    ClientError::Local(format!("{}: {LEADING_SLASH}", Sanitized(path)))
}

fn print_help() -> Result<(), ClientError> {
    for command in MenuCommand::ALL {
        if !matches!(command, MenuCommand::Login | MenuCommand::PutFile) {
            print_line(text::help(command))?;
        }
    }
    Ok(())
}

fn last_component(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Prints a line on standard output.
fn print_line(line: impl Display) -> Result<(), ClientError> {
    writeln!(io::stdout(), "{line}").map_err(output_error)
}

fn output_error(error: io::Error) -> ClientError {
    ClientError::output(&error)
}
