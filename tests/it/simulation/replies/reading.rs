//! Replies to commands that read: listings, downloads, checksums.

use tidegate::domain::error::ErrorCode;
use tidegate::protocol::menu::text;

use super::{Effect, Part, Replies, line};

impl Replies<'_> {
    pub(super) fn enter(&mut self, path: &str) {
        let path = path.strip_suffix('/').unwrap_or(path);
        let grant = self.grant(path);
        let found = match grant {
            Some(_) => self.model.is_directory(path, self.sent),
            None => Some(false),
        };
        if found != Some(false) {
            let names = match grant {
                Some(grant) if grant.read => Part::Names(path.into()),
                _ => line(text::NO_FILES),
            };
            self.reply([names, self.menu()], Effect::Chosen(path.into()));
        }
        if found != Some(true) {
            self.refusal(ErrorCode::NoSuchDirectory);
        }
        self.faults(&[
            ErrorCode::NoSuchDirectory,
            ErrorCode::DirectoryUnreadable,
            // The device does not answer.
            ErrorCode::FileUnreadable,
        ]);
    }

    pub(super) fn details(&mut self) {
        let Some(chosen) = self.chosen else {
            return self.message(text::CHOOSE_DIRECTORY_FIRST);
        };
        let grant = self.grant(chosen).expect("the chosen directory is granted");
        let details = match grant.read {
            true => Part::Details(chosen.to_owned()),
            false => Part::Line(format!("{}0", text::ENTRIES)),
        };
        self.reply([details, self.menu()], Effect::Nothing);
        self.faults(&[
            ErrorCode::NoSuchDirectory,
            ErrorCode::DirectoryUnreadable,
            // The device does not answer.
            ErrorCode::FileUnreadable,
        ]);
    }

    /// Adds the replies to a download from an offset.
    pub(super) fn download(&mut self, path: &str, from: Option<u64>) {
        // If the file is refused, the offset is an unknown command.
        let further = match from {
            Some(_) => vec![line(text::UNKNOWN_COMMAND), self.next_menu()],
            None => Vec::new(),
        };
        let refused = |message: &str, menu: Part| {
            let mut parts = vec![line(message), menu];
            parts.extend(further.clone());
            parts
        };
        match self.readable(path) {
            Err(message) => self.reply(refused(message, self.menu()), Effect::Nothing),
            Ok((path, must)) => {
                for (_, version) in self.model.contents(&path, self.sent) {
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
                    self.reply(parts, Effect::Nothing);
                    self.all.last_mut().expect("just added").may_be_cut |= version.cut;
                }
                if !must {
                    let message = text::refusal(ErrorCode::NoSuchFile);
                    self.reply(refused(message, self.menu()), Effect::Nothing);
                }
            }
        }
        self.are_faults = true;
        for refusal in self.fault_messages(&READING) {
            self.reply(refused(refusal, self.menu()), Effect::Nothing);
        }
    }

    pub(super) fn checksum(&mut self, path: &str) {
        match self.readable(path) {
            Err(message) => self.message(message),
            Ok((path, must)) => {
                let (_, name) = path
                    .rsplit_once('/')
                    .expect("the path is below a granted directory");
                for (_, version) in self.model.contents(&path, self.sent) {
                    if version.cut {
                        self.reply([Part::Begins(text::SHA_256), self.menu()], Effect::Nothing);
                    }
                    let sum = version.checksum();
                    self.message(&format!("{}{sum} {name}", text::SHA_256));
                }
                if !must {
                    self.refusal(ErrorCode::NoSuchFile);
                }
            }
        }
        self.faults(&READING);
    }

    /// Returns the path of a readable file and whether it must exist, or the message of the
    /// refusal.
    fn readable(&self, path: &str) -> Result<(String, bool), &'static str> {
        let (grant, path) = self.resolve(path, ErrorCode::NoSuchFile)?;
        match grant.read && self.model.is_file(&path) {
            true => {
                let must = self.model.is_taken(&path, self.sent, None) == Some(true);
                Ok((path, must))
            }
            false => Err(text::refusal(ErrorCode::NoSuchFile)),
        }
    }
}

/// Refusals of reads that a fault can cause.
pub(super) const READING: [ErrorCode; 3] = [
    ErrorCode::NoSuchFile,
    ErrorCode::FileUnreadable,
    ErrorCode::DirectoryUnreadable,
];
