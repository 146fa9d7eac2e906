//! Replies to who reads: directories, details, downloads, checksums.

use tidegate::domain::error::ErrorCode;
use tidegate::protocol::menu::text;

use super::{Part, Replies, Then, line};

impl Replies<'_> {
    pub(super) fn enter(&mut self, path: &str) {
        let path = path.strip_suffix('/').unwrap_or(path);
        let grant = self.grant(path);
        let found = match grant {
            Some(_) => self.world.is_directory(path, self.sent),
            None => Some(false),
        };
        if found != Some(false) {
            let names = match grant {
                Some(grant) if grant.read => Part::Names(path.into()),
                _ => line(text::NO_FILES),
            };
            self.reply([names, self.menu()], Then::Chosen(path.into()));
        }
        if found != Some(true) {
            self.refusal(ErrorCode::NoSuchDirectory);
        }
        self.faults(&[ErrorCode::NoSuchDirectory, ErrorCode::DirectoryUnreadable]);
    }

    pub(super) fn details(&mut self) {
        let Some(chosen) = self.chosen else {
            return self.sentence(text::CHOOSE_DIRECTORY_FIRST);
        };
        let grant = self
            .grant(chosen)
            .expect("it is chosen as long as it is granted");
        let details = match grant.read {
            true => Part::Details(chosen.to_owned()),
            false => Part::Line(format!("{}0", text::ENTRIES)),
        };
        self.reply([details, self.menu()], Then::Nothing);
        self.faults(&[ErrorCode::NoSuchDirectory, ErrorCode::DirectoryUnreadable]);
    }

    /// A download of the whole file, or of what comes behind its first bytes.
    pub(super) fn download(&mut self, path: &str, from: Option<u64>) {
        // Where there is no file, the number that was meant for it is no command.
        let behind = match from {
            Some(_) => vec![line(text::UNKNOWN_COMMAND), self.next_menu()],
            None => Vec::new(),
        };
        let refused = |sentence: &str, menu: Part| {
            let mut parts = vec![line(sentence), menu];
            parts.extend(behind.clone());
            parts
        };
        match self.readable(path) {
            Err(sentence) => self.reply(refused(sentence, self.menu()), Then::Nothing),
            Ok((path, must)) => {
                for (_, version) in self.world.contents(&path, self.sent) {
                    let mut parts = Vec::new();
                    let length = version.content.len() as u64;
                    parts.extend(from.map(|_| line(text::ENTER_OFFSET)));
                    match length.checked_sub(from.unwrap_or(0)) {
                        None => parts.push(line(text::BAD_NUMBER)),
                        Some(left) => {
                            parts.push(Part::Line(format!("{}{left}", text::LENGTH)));
                            let first = (length - left) as usize;
                            parts.push(Part::Body(version.content.clone(), first));
                        }
                    }
                    parts.push(self.menu());
                    self.reply(parts, Then::Nothing);
                    self.all.last_mut().expect("just added").may_be_cut |= version.cut;
                }
                if !must {
                    let sentence = text::refusal(ErrorCode::NoSuchFile);
                    self.reply(refused(sentence, self.menu()), Then::Nothing);
                }
            }
        }
        self.are_faults = true;
        for refusal in self.faulty(&READING) {
            self.reply(refused(refusal, self.menu()), Then::Nothing);
        }
    }

    pub(super) fn checksum(&mut self, path: &str) {
        match self.readable(path) {
            Err(sentence) => self.sentence(sentence),
            Ok((path, must)) => {
                let (_, name) = path.rsplit_once('/').expect("below a granted directory");
                for (_, version) in self.world.contents(&path, self.sent) {
                    if version.cut {
                        self.reply([Part::Begins(text::SHA_256), self.menu()], Then::Nothing);
                    }
                    let sum = version.checksum();
                    self.sentence(&format!("{}{sum} {name}", text::SHA_256));
                }
                if !must {
                    self.refusal(ErrorCode::NoSuchFile);
                }
            }
        }
        self.faults(&READING);
    }

    /// The file that a path stands for, and whether it must be there; or what is said instead.
    fn readable(&self, path: &str) -> Result<(String, bool), &'static str> {
        let (grant, path) = self.place(path, ErrorCode::NoSuchFile)?;
        match grant.read && self.world.is_file(&path) {
            true => {
                let must = self.world.is_taken(&path, self.sent, None) == Some(true);
                Ok((path, must))
            }
            false => Err(text::refusal(ErrorCode::NoSuchFile)),
        }
    }
}

/// What a fault may make of reading.
pub(super) const READING: [ErrorCode; 3] = [
    ErrorCode::NoSuchFile,
    ErrorCode::FileUnreadable,
    ErrorCode::DirectoryUnreadable,
];
