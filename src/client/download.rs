//! Downloads files over one connection, with pipelining and resume.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use crate::client::connection::ClientConnection;
use crate::client::error::ClientError;
use crate::client::missing::Missing;
use crate::client::part_file;
use crate::client::part_file::PartFile;
use crate::client::progress::{FileProgress, TransferProgress};
use crate::client::sanitized::Sanitized;
use crate::client::transfer_queue::TransferQueue;
use crate::client::tree::RemoteTree;
use crate::domain::error::ErrorCode;
use crate::limits::DISCARD_BYTES_MAX;
use crate::protocol::menu::client::ClientEvent;
use crate::protocol::menu::text;

/// The error for a path whose last component cannot be the name of a local file.
pub(super) const INVALID_NAME: &str =
    "not a valid file name (1 to 255 bytes, no leading dot, no control characters)";

const NO_SUCH_FILE: &str = text::refusal(ErrorCode::NoSuchFile);

/// Missing files of one connection that are explained; an explanation takes up to three listings.
const EXPLAINED_FILES_MAX: usize = 8;

/// A file to download.
#[derive(Debug)]
pub(super) struct FileDownload {
    /// The path on the server.
    pub(super) path: String,
    /// The local file.
    pub(super) target: PathBuf,
    /// Bytes according to the listing, if one was requested.
    pub(super) listed_size: Option<u64>,
}

impl FileDownload {
    fn listed_bytes(&self) -> u64 {
        self.listed_size.unwrap_or(0)
    }
}

/// Downloads files over one connection.
pub(super) struct Downloader<'a> {
    pub(super) connection: &'a mut ClientConnection,
    pub(super) progress: &'a TransferProgress,
    /// Whether existing files are replaced.
    pub(super) force: bool,
    /// Whether part files are resumed and complete files verified.
    pub(super) resume: bool,
    /// Files that the server does not have. They are reported at the end, when the server can be
    /// asked what it has instead.
    pub(super) missing: Vec<String>,
}

impl<'a> Downloader<'a> {
    /// Downloads files until the queue is empty.
    ///
    /// Requests are pipelined, except for files that are resumed: their next command depends on the
    /// reply to the one before, so they wait for the pipeline to drain.
    pub(super) fn run(
        mut self,
        queue: &TransferQueue<'_, FileDownload>,
    ) -> Result<(), ClientError> {
        let result = self.run_queue(queue);
        let missing = std::mem::take(&mut self.missing);
        match result {
            Ok(()) => self.explain_missing(missing),
            Err(_) => missing.iter().for_each(|path| self.report_missing(path)),
        }
        result
    }

    fn run_queue(&mut self, queue: &TransferQueue<'_, FileDownload>) -> Result<(), ClientError> {
        let mut pipeline = VecDeque::new();
        loop {
            let resumed = self.fill_pipeline(queue, &mut pipeline);
            if let Err(error) = self.receive_pipeline(queue, &mut pipeline, resumed.is_some()) {
                queue.put_back(pipeline.into_iter().chain(resumed));
                return Err(error);
            }
            match resumed {
                Some(file) => {
                    let result = self.resume(&file);
                    if let Err(error) = self.handle_result(&file.path, result) {
                        let unfinished = matches!(error, ClientError::Idle).then_some(file);
                        queue.put_back(unfinished.into_iter());
                        return Err(error);
                    }
                }
                None if pipeline.is_empty() && queue.is_empty() => return Ok(()),
                None => {}
            }
        }
    }

    /// Sends requests for files from the queue. Returns a file that has to be resumed instead, if
    /// one is next.
    fn fill_pipeline(
        &mut self,
        queue: &TransferQueue<'_, FileDownload>,
        pipeline: &mut VecDeque<FileDownload>,
    ) -> Option<FileDownload> {
        if !pipeline.is_empty() && !queue.needs_refill(pipeline.len()) {
            return None;
        }
        while let Some(file) = queue.next(pipeline.len()) {
            let part = part_file::part_path(&file.target);
            if self.resume && (part_file::exists(&file.target) || part_file::exists(&part)) {
                return Some(file);
            }
            match self.request(&file) {
                Ok(()) => pipeline.push_back(file),
                Err(error) => (self.progress).report_failure(Sanitized(&file.path), error),
            }
        }
        None
    }

    /// Receives the requested files, oldest first: all of them if `drains`, otherwise until the
    /// pipeline needs a refill. On an error, the files left in the pipeline were not begun.
    fn receive_pipeline(
        &mut self,
        queue: &TransferQueue<'_, FileDownload>,
        pipeline: &mut VecDeque<FileDownload>,
        drains: bool,
    ) -> Result<(), ClientError> {
        while let Some(file) = pipeline.pop_front() {
            let result = self.download(&file);
            if let Err(error) = self.handle_result(&file.path, result) {
                if matches!(error, ClientError::Idle) {
                    pipeline.push_front(file);
                }
                return Err(error);
            }
            if !drains && queue.needs_refill(pipeline.len()) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reports a failure. Returns it if the connection is unusable or given up. The idle timeout is
    /// not reported, because the file is requested again.
    fn handle_result(
        &mut self,
        path: &str,
        result: Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let Err(error) = result else { return Ok(()) };
        if matches!(error, ClientError::Idle) {
            return Err(error);
        }
        if matches!(error, ClientError::Refused(NO_SUCH_FILE))
            && self.missing.len() < EXPLAINED_FILES_MAX
        {
            self.missing.push(path.to_owned());
            return Ok(());
        }
        self.progress.report_failure(Sanitized(path), &error);
        match error {
            ClientError::Refused(_) | ClientError::Local(_) => self.discard_file(&error),
            _ => Err(error),
        }
    }

    /// Reports the files that the server does not have, with what it has instead. After an error
    /// the others are reported as they are.
    fn explain_missing(&mut self, missing: Vec<String>) {
        let mut is_usable = true;
        for path in &missing {
            if !is_usable {
                self.report_missing(path);
                continue;
            }
            let mut tree = RemoteTree::new(self.connection);
            match Missing::explain(&mut tree, path, NO_SUCH_FILE) {
                Ok(Missing::IsDirectory) => self.progress.report_directory(path),
                Ok(Missing::Nothing(reason)) => {
                    self.progress.report_failure(Sanitized(path), reason);
                }
                Err(_) => {
                    self.report_missing(path);
                    is_usable = false;
                }
            }
        }
    }

    fn report_missing(&self, path: &str) {
        (self.progress).report_failure(Sanitized(path), NO_SUCH_FILE);
    }

    /// Reads the rest of a file that cannot be stored. If that takes longer than a new connection,
    /// it returns an error instead.
    fn discard_file(&mut self, cause: &ClientError) -> Result<(), ClientError> {
        if self.connection.file_bytes_left() > DISCARD_BYTES_MAX {
            return Err(ClientError::Aborted(cause.to_string()));
        }
        while self.connection.read_file_chunk()?.len() > 0 {}
        Ok(())
    }

    /// Sends the request for a file, unless its target exists and must not be replaced.
    pub(super) fn request(&mut self, file: &FileDownload) -> Result<(), ClientError> {
        self.check_target(&file.target)?;
        self.connection
            .send_command(|session, out| session.download(&file.path, out))
    }

    fn check_target(&self, target: &Path) -> Result<(), ClientError> {
        match !self.force && part_file::exists(target) {
            true => Err(part_file::already_exists(target)),
            false => Ok(()),
        }
    }

    /// Receives a requested file.
    pub(super) fn download(&mut self, file: &FileDownload) -> Result<(), ClientError> {
        let length = self.receive_length()?;
        let mut part = PartFile::open(&file.target)?;
        part.restart()?;
        let bar = (self.progress).begin_file(&file.path, file.listed_bytes(), 0, length);
        self.receive_content(&mut part, length, &bar)?;
        self.publish(part, bar)
    }

    /// Continues the part file of an interrupted download and verifies the result by its checksum.
    /// A complete local file is verified, too.
    pub(super) fn resume(&mut self, file: &FileDownload) -> Result<(), ClientError> {
        let path = &file.path;
        if part_file::exists(&file.target) {
            if self.is_complete(file)? {
                self.progress.skip_file(file.listed_bytes());
                return Ok(());
            }
            self.check_target(&file.target)?;
        }
        let mut part = PartFile::open(&file.target)?;
        let offset = part.length();
        let Some(rest) = self.request_rest(path, offset)? else {
            let bar = self.download_again(&mut part, path, file.listed_bytes())?;
            return self.publish(part, bar);
        };
        let total = offset.saturating_add(rest);
        let bar = (self.progress).begin_file(path, file.listed_bytes(), offset, total);
        self.receive_content(&mut part, rest, &bar)?;
        if self.checksum_matches(path, part.length(), || part.checksum())? {
            return self.publish(part, bar);
        }
        // The file on the server is not the one that the part came from.
        drop(bar);
        let bar = self.download_again(&mut part, path, 0)?;
        match self.checksum_matches(path, part.length(), || part.checksum())? {
            true => self.publish(part, bar),
            false => Err(ClientError::Local(
                "the file on the server changes while it is downloaded; try again later".into(),
            )),
        }
    }

    /// Requests a file from `offset` on and returns the number of bytes that follow. Returns `None`
    /// if there is nothing to resume, or the file on the server is shorter.
    fn request_rest(&mut self, path: &str, offset: u64) -> Result<Option<u64>, ClientError> {
        if offset == 0 {
            return Ok(None);
        }
        self.connection
            .send_command(|session, out| session.resume(path, offset, out))?;
        match self.receive_length() {
            Ok(length) => Ok(Some(length)),
            Err(ClientError::Refused(text::BAD_NUMBER)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Empties the part file and downloads from the first byte.
    fn download_again(
        &mut self,
        part: &mut PartFile,
        path: &str,
        listed_bytes: u64,
    ) -> Result<FileProgress<'a>, ClientError> {
        part.restart()?;
        self.connection
            .send_command(|session, out| session.download(path, out))?;
        let length = self.receive_length()?;
        let bar = self.progress.begin_file(path, listed_bytes, 0, length);
        self.receive_content(part, length, &bar)?;
        Ok(bar)
    }

    fn publish(&self, part: PartFile, bar: FileProgress<'_>) -> Result<(), ClientError> {
        part.publish(self.force)?;
        bar.finish();
        Ok(())
    }

    /// Receives the content of an announced file into the part file.
    fn receive_content(
        &mut self,
        part: &mut PartFile,
        length: u64,
        bar: &FileProgress<'_>,
    ) -> Result<(), ClientError> {
        part.check_space(length)?;
        loop {
            let chunk = self.connection.read_file_chunk()?;
            let count = chunk.len() as u64;
            if count == 0 {
                return Ok(());
            }
            part.append(chunk)?;
            bar.advance(count);
        }
    }

    /// Receives the reply to a request: the number of bytes that follow.
    fn receive_length(&mut self) -> Result<u64, ClientError> {
        self.connection.receive_reply(|event| match event {
            ClientEvent::File { length } => Some(length),
            _ => None,
        })
    }

    fn is_complete(&mut self, file: &FileDownload) -> Result<bool, ClientError> {
        // If the local file is complete, the file on the server has its size.
        let local = fs::metadata(&file.target).map_or(0, |metadata| metadata.len());
        let size = file.listed_bytes().max(local);
        self.checksum_matches(&file.path, size, || part_file::checksum_of(&file.target))
    }

    /// Returns whether the server's checksum of a file of about `size` bytes equals that of
    /// `local_checksum`. Both are computed at the same time.
    fn checksum_matches(
        &mut self,
        path: &str,
        size: u64,
        local_checksum: impl FnOnce() -> Result<[u8; 32], ClientError>,
    ) -> Result<bool, ClientError> {
        self.connection
            .send_command(|session, out| session.checksum(path, out))?;
        self.connection.flush()?;
        let local = local_checksum();
        self.connection.set_server_work(size);
        let remote = self.connection.receive_reply(|event| match event {
            ClientEvent::Checksum(hash) => Some(hash),
            _ => None,
        });
        self.connection.set_server_work(0);
        Ok(remote? == local?)
    }
}
