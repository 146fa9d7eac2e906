//! Replies to who writes: uploads step by step and in one line, directories that are made.

use tidegate::domain::error::ErrorCode;
use tidegate::protocol::menu::text;

use super::super::model::{Grant, World};
use super::super::script::Item;
use super::reading::READING;
use super::{Part, Replies, Then, line};

impl<'a> Replies<'a> {
    pub(super) fn upload(&mut self, path: &str, version: usize) {
        for refusal in self.judge(path, version) {
            match refusal {
                Some(sentence) => self.sentence(sentence),
                None => {
                    let path = path.to_owned();
                    let next = Item::UploadLength { path, version };
                    self.reply([line(text::ENTER_LENGTH)], Then::Say(next));
                }
            }
        }
        self.faults(&WRITING);
    }

    pub(super) fn upload_length(&mut self, path: &str, version: usize) {
        let length = self.world.content(path, version).len();
        for refusal in self.create(path, version) {
            match refusal {
                Some(sentence) => self.sentence(sentence),
                None => {
                    let path = path.to_owned();
                    let next = Item::UploadBytes { path, version };
                    let ready = format!("{}{length}{}", text::READY, text::BYTES);
                    self.reply([Part::Line(ready)], Then::Say(next));
                }
            }
        }
        self.faults(&WRITING);
    }

    /// All bytes of an upload have come.
    pub(super) fn upload_bytes(&mut self, path: &str, version: usize) {
        self.received(path, version);
        self.failed_by_faults();
    }

    pub(super) fn put(&mut self, name: &str, version: usize) {
        let room = || [line(text::refusal(ErrorCode::NoSpace))];
        let over = self.is_over(name, version);
        for refusal in self.judge(name, version) {
            match refusal {
                _ if over => self.reply(room(), Then::Closed),
                Some(sentence) => self.failed(sentence),
                None => self.received(name, version),
            }
        }
        if self.world.tight {
            self.reply(room(), Then::Closed);
        }
        self.failed_by_faults();
        // Or whether the bytes can be thrown away is asked in vain.
        for sentence in self.faulty(&WRITING).chain(self.faulty(&READING)) {
            self.reply([line(sentence)], Then::Closed);
        }
    }

    pub(super) fn make_directory(&mut self, name: &str) {
        match self.may_be_made(name) {
            Err(sentence) => self.sentence(sentence),
            Ok((_, path)) => {
                let (_, last) = path.rsplit_once('/').expect("below a granted directory");
                let taken = self.world.is_taken(&path, self.sent, None);
                if taken != Some(true) {
                    let made = format!("{}{last}", text::DIRECTORY_MADE);
                    self.reply([Part::Line(made), self.menu()], Then::Made(path.clone()));
                }
                if taken != Some(false) {
                    self.refusal(match self.world.is_directory(&path, self.sent) {
                        Some(false) => ErrorCode::FileExists,
                        _ => ErrorCode::DirectoryExists,
                    });
                }
            }
        }
        self.faults(&WRITING);
    }

    /// What may be said to a new name: nothing against it, or a sentence.
    fn judge(&self, name: &str, version: usize) -> Vec<Option<&'static str>> {
        match self.may_be_made(name) {
            Err(sentence) => vec![Some(sentence)],
            Ok((grant, path)) => {
                let replaceable = grant.change && self.world.is_file(&path);
                let exists = Some(text::refusal(ErrorCode::FileExists));
                match self.world.is_taken(&path, self.sent, Some(version)) {
                    _ if replaceable => vec![None],
                    Some(true) => vec![exists],
                    Some(false) => vec![None],
                    None => vec![None, exists],
                }
            }
        }
    }

    /// What may be said to a new name and its length.
    fn create(&self, name: &str, version: usize) -> Vec<Option<&'static str>> {
        let mut refusals = self.judge(name, version);
        let no_room = Some(text::refusal(ErrorCode::NoSpace));
        if self.is_over(name, version) {
            for free in refusals.iter_mut().filter(|refusal| refusal.is_none()) {
                *free = no_room;
            }
        }
        if self.world.tight {
            refusals.push(no_room);
        }
        refusals
    }

    fn is_over(&self, path: &str, version: usize) -> bool {
        let length = self.world.content(path, version).len() as u64;
        self.world.max_upload.is_some_and(|max| length > max)
    }

    fn may_be_made(&self, name: &str) -> Result<(&'a Grant, String), &'static str> {
        let (grant, path) = self.place(name, ErrorCode::NoSuchDirectory)?;
        let (directory, name) = path.rsplit_once('/').expect("below a granted directory");
        if self.world.is_directory(directory, self.sent) != Some(true) {
            return Err(text::refusal(ErrorCode::NoSuchDirectory));
        }
        if !grant.may_add() {
            return Err(text::refusal(ErrorCode::UploadDenied));
        }
        if !World::is_name(name) {
            return Err(text::refusal(ErrorCode::InvalidName));
        }
        Ok((grant, path))
    }

    /// What may be said when all bytes have come.
    fn received(&mut self, name: &str, version: usize) {
        let Ok((grant, path)) = self.place(name, ErrorCode::NoSuchDirectory) else {
            // It was judged with other rights than these.
            return;
        };
        let (_, last) = path.rsplit_once('/').expect("below a granted directory");
        let length = self.world.content(&path, version).len();
        let complete = format!("{}{last}, {length}{}", text::UPLOAD_COMPLETE, text::BYTES);
        let taken = self.world.is_taken(&path, self.sent, Some(version));
        if grant.change || taken != Some(true) {
            let parts = [Part::Line(complete), self.menu()];
            self.reply(parts, Then::Completed(path.clone(), version));
        }
        if !grant.change && taken != Some(false) {
            self.failed(text::refusal(ErrorCode::FileExists));
        }
        if self.world.tight {
            self.failed(text::refusal(ErrorCode::NoSpace));
        }
    }

    fn failed(&mut self, sentence: &str) {
        self.sentence(&format!("{}{sentence}", text::UPLOAD_FAILED));
    }

    fn failed_by_faults(&mut self) {
        self.are_faults = true;
        for sentence in self.faulty(&WRITING) {
            self.failed(sentence);
        }
    }
}

/// What a fault may make of writing.
const WRITING: [ErrorCode; 6] = [
    ErrorCode::FileUnwritable,
    ErrorCode::NoSpace,
    ErrorCode::NoSuchDirectory,
    ErrorCode::DirectoryUnreadable,
    ErrorCode::FileExists,
    ErrorCode::DirectoryExists,
];
