//! Replies to commands that write: uploads and new directories.

use tidegate::domain::error::ErrorCode;
use tidegate::protocol::menu::text;

use super::super::model::Model;
use super::super::script::Item;
use super::super::users::Grant;
use super::reading::READING;
use super::{Effect, Part, Replies, line};

impl<'a> Replies<'a> {
    pub(super) fn upload(&mut self, path: &str, version: usize) {
        for refusal in self.check_upload(path, version) {
            match refusal {
                Some(message) => self.message(message),
                None => {
                    let path = path.to_owned();
                    let next = Item::UploadLength { path, version };
                    self.reply([line(text::ENTER_LENGTH)], Effect::Continue(next));
                }
            }
        }
        self.faults(&WRITING);
    }

    pub(super) fn upload_length(&mut self, path: &str, version: usize) {
        let length = self.model.content(path, version).len();
        for refusal in self.create(path, version) {
            match refusal {
                Some(message) => self.message(message),
                None => {
                    let path = path.to_owned();
                    let next = Item::UploadBytes { path, version };
                    let ready = format!("{}{length}{}", text::READY, text::BYTES);
                    self.reply([Part::Line(ready)], Effect::Continue(next));
                }
            }
        }
        self.faults(&WRITING);
    }

    /// Adds the replies to the content of an upload.
    pub(super) fn upload_bytes(&mut self, path: &str, version: usize) {
        self.received(path, version);
        self.failed_by_faults();
    }

    pub(super) fn put(&mut self, name: &str, version: usize) {
        let no_space = || [line(text::refusal(ErrorCode::NoSpace))];
        let over = self.is_over(name, version);
        for refusal in self.check_upload(name, version) {
            match refusal {
                _ if over => self.reply(no_space(), Effect::Closed),
                Some(message) => self.failed(message),
                None => self.received(name, version),
            }
        }
        if self.model.disk_may_fill {
            self.reply(no_space(), Effect::Closed);
        }
        self.failed_by_faults();
        // The server closes the connection if it cannot discard the content.
        for message in self
            .fault_messages(&WRITING)
            .chain(self.fault_messages(&READING))
        {
            self.reply([line(message)], Effect::Closed);
        }
    }

    pub(super) fn make_directory(&mut self, name: &str) {
        match self.check_new(name) {
            Err(message) => self.message(message),
            Ok((_, path)) => {
                let (_, last) = path
                    .rsplit_once('/')
                    .expect("the path is below a granted directory");
                let taken = self.model.is_taken(&path, self.sent, None);
                if taken != Some(true) {
                    let made = format!("{}{last}", text::DIRECTORY_MADE);
                    self.reply([Part::Line(made), self.menu()], Effect::Made(path.clone()));
                }
                if taken != Some(false) {
                    self.refusal(match self.model.is_directory(&path, self.sent) {
                        Some(false) => ErrorCode::FileExists,
                        _ => ErrorCode::DirectoryExists,
                    });
                }
            }
        }
        self.faults(&WRITING);
    }

    /// Returns the possible results for a new name: accepted, or the message of a refusal.
    fn check_upload(&self, name: &str, version: usize) -> Vec<Option<&'static str>> {
        match self.check_new(name) {
            Err(message) => vec![Some(message)],
            Ok((grant, path)) => {
                let replaceable = grant.change && self.model.is_file(&path);
                let exists = Some(text::refusal(ErrorCode::FileExists));
                match self.model.is_taken(&path, self.sent, Some(version)) {
                    _ if replaceable => vec![None],
                    Some(true) => vec![exists],
                    Some(false) => vec![None],
                    None => vec![None, exists],
                }
            }
        }
    }

    /// Returns the possible results for a new name and a length.
    fn create(&self, name: &str, version: usize) -> Vec<Option<&'static str>> {
        let mut refusals = self.check_upload(name, version);
        let no_space = Some(text::refusal(ErrorCode::NoSpace));
        if self.is_over(name, version) {
            for accepted in refusals.iter_mut().filter(|refusal| refusal.is_none()) {
                *accepted = no_space;
            }
        }
        if self.model.disk_may_fill {
            refusals.push(no_space);
        }
        refusals
    }

    fn is_over(&self, path: &str, version: usize) -> bool {
        let length = self.model.content(path, version).len() as u64;
        self.model.max_upload.is_some_and(|max| length > max)
    }

    fn check_new(&self, name: &str) -> Result<(&'a Grant, String), &'static str> {
        let (grant, path) = self.resolve(name, ErrorCode::NoSuchDirectory)?;
        let (directory, name) = path
            .rsplit_once('/')
            .expect("the path is below a granted directory");
        if self.model.is_directory(directory, self.sent) != Some(true) {
            return Err(text::refusal(ErrorCode::NoSuchDirectory));
        }
        if !grant.may_add() {
            return Err(text::refusal(ErrorCode::UploadDenied));
        }
        if !Model::is_name(name) {
            return Err(text::refusal(ErrorCode::InvalidName));
        }
        Ok((grant, path))
    }

    /// Adds the replies to a complete upload.
    fn received(&mut self, name: &str, version: usize) {
        let Ok((grant, path)) = self.resolve(name, ErrorCode::NoSuchDirectory) else {
            // The name was accepted with other rights.
            return;
        };
        let (_, last) = path
            .rsplit_once('/')
            .expect("the path is below a granted directory");
        let length = self.model.content(&path, version).len();
        let complete = format!("{}{last}, {length}{}", text::UPLOAD_COMPLETE, text::BYTES);
        let taken = self.model.is_taken(&path, self.sent, Some(version));
        if grant.change || taken != Some(true) {
            let parts = [Part::Line(complete), self.menu()];
            self.reply(parts, Effect::Completed(path.clone(), version));
        }
        if !grant.change && taken != Some(false) {
            self.failed(text::refusal(ErrorCode::FileExists));
        }
        if self.model.disk_may_fill {
            self.failed(text::refusal(ErrorCode::NoSpace));
        }
    }

    fn failed(&mut self, message: &str) {
        self.message(&format!("{}{message}", text::UPLOAD_FAILED));
    }

    fn failed_by_faults(&mut self) {
        self.are_faults = true;
        for message in self.fault_messages(&WRITING) {
            self.failed(message);
        }
    }
}

/// Refusals of writes that a fault can cause.
const WRITING: [ErrorCode; 6] = [
    ErrorCode::FileUnwritable,
    ErrorCode::NoSpace,
    ErrorCode::NoSuchDirectory,
    ErrorCode::DirectoryUnreadable,
    ErrorCode::FileExists,
    ErrorCode::DirectoryExists,
];
