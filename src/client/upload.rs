//! Uploads files over one connection, with pipelining.

use std::collections::VecDeque;
use std::env;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use nix::fcntl::OFlag;

use crate::client::connection::{ClientConnection, FILE_SHRANK, UploadTarget};
use crate::client::error::ClientError;
use crate::client::progress::{FileProgress, TransferProgress};
use crate::client::refusal::{Refusal, RefusedUpload};
use crate::client::sanitized::Sanitized;
use crate::client::transfer_queue::TransferQueue;
use crate::domain::io_reason::io_reason;
use crate::limits::BATCHED_FILE_BYTES_MAX;
use crate::protocol::menu::client::ClientEvent;

/// A file to upload.
#[derive(Debug)]
pub(super) struct FileUpload {
    /// The local file.
    pub(super) source: PathBuf,
    /// The path on the server.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
}

/// An upload that was sent and has no reply yet.
struct PendingUpload<'a> {
    upload: FileUpload,
    bar: FileProgress<'a>,
}

/// Uploads without a reply, oldest first.
type Pipeline<'a> = VecDeque<PendingUpload<'a>>;

/// Uploads files over one connection.
pub(super) struct Uploader<'a> {
    pub(super) connection: &'a mut ClientConnection,
    pub(super) progress: &'a TransferProgress,
    /// Whether existing files are replaced.
    pub(super) force: bool,
    /// Uploads whose refusal is explained at the end, when the server can be asked for more.
    pub(super) refused: &'a Mutex<Vec<RefusedUpload>>,
}

impl<'a> Uploader<'a> {
    /// Uploads files until the queue is empty. Replies are awaited only while the pipeline is full.
    pub(super) fn run(mut self, queue: &TransferQueue<'_, FileUpload>) -> Result<(), ClientError> {
        let mut pipeline = Pipeline::new();
        loop {
            if let Err(error) = self.fill_pipeline(queue, &mut pipeline) {
                return self.finish_after_send_error(pipeline, error, queue);
            }
            let Some(oldest) = pipeline.pop_front() else {
                match queue.is_empty() {
                    true => return Ok(()),
                    false => continue,
                }
            };
            let reply = self.receive_reply(oldest.upload.size);
            if let Err(error) = self.handle_reply(oldest, reply, &mut pipeline) {
                return abandon(self.progress, pipeline, error, queue);
            }
        }
    }

    /// Sends files from the queue. After an error, the last upload in the pipeline is incomplete.
    fn fill_pipeline(
        &mut self,
        queue: &TransferQueue<'_, FileUpload>,
        pipeline: &mut Pipeline<'a>,
    ) -> Result<(), ClientError> {
        while (pipeline.is_empty() || queue.needs_refill(pipeline.len()))
            && let Some(mut upload) = queue.next(pipeline.len())
        {
            let (file, size) = match open(&upload.source) {
                Ok(opened) => opened,
                Err(error) => {
                    (self.progress).report_failure(Sanitized(&upload.path), error);
                    continue;
                }
            };
            let bar = (self.progress).begin_file(&upload.path, upload.size, 0, size);
            upload.size = size;
            let pending_sizes = pipeline.iter().map(|pending| pending.upload.size);
            let pending_bytes = pending_sizes.fold(0, u64::saturating_add);
            match self.send(&file, &upload, pending_bytes, &bar) {
                Ok(()) => pipeline.push_back(PendingUpload { upload, bar }),
                Err(error @ (ClientError::Local(_) | ClientError::Refused(_))) => {
                    (self.progress).report_failure(Sanitized(&upload.path), error);
                }
                Err(error) => {
                    pipeline.push_back(PendingUpload { upload, bar });
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Uploads one file and waits for the reply.
    pub(super) fn upload(&mut self, source: &Path, path: &str) -> Result<(), ClientError> {
        let (file, size) = open(source)?;
        let upload = FileUpload {
            source: source.to_owned(),
            path: path.to_owned(),
            size,
        };
        let bar = self.progress.begin_file(path, size, 0, size);
        self.send(&file, &upload, 0, &bar)?;
        self.receive_reply(size)?;
        bar.finish();
        Ok(())
    }

    /// Sends a file while `pending_bytes` of earlier uploads have no reply yet. After a `Local`
    /// error nothing was sent.
    fn send(
        &mut self,
        file: &File,
        upload: &FileUpload,
        pending_bytes: u64,
        bar: &FileProgress<'_>,
    ) -> Result<(), ClientError> {
        let FileUpload { source, path, size } = upload;
        let target = UploadTarget {
            path,
            replaces: self.force,
        };
        self.connection.set_server_work(pending_bytes);
        if *size > BATCHED_FILE_BYTES_MAX {
            return (self.connection).send_file(target, file, *size, |count| bar.advance(count));
        }
        let mut content = Vec::with_capacity(*size as usize + 1);
        let read = file.take(*size).read_to_end(&mut content);
        read.map_err(|error| local_error(source, io_reason(&error)))?;
        if content.len() as u64 != *size {
            return Err(ClientError::Local(FILE_SHRANK.into()));
        }
        self.connection.send_small_file(target, &content)?;
        bar.advance(*size);
        Ok(())
    }

    /// Receives the reply to the oldest upload, of `size` bytes.
    fn receive_reply(&mut self, size: u64) -> Result<(), ClientError> {
        self.connection.set_server_work(size);
        let reply = self.connection.receive_reply(|event| match event {
            ClientEvent::Uploaded => Some(()),
            _ => None,
        });
        self.connection.set_server_work(0);
        reply
    }

    /// Reports the result of an upload. Returns the error if the connection is unusable. After the
    /// idle timeout, the upload goes back to the pipeline.
    fn handle_reply(
        &self,
        pending: PendingUpload<'a>,
        reply: Result<(), ClientError>,
        pipeline: &mut Pipeline<'a>,
    ) -> Result<(), ClientError> {
        match reply {
            Ok(()) => {
                pending.bar.finish();
                Ok(())
            }
            Err(ClientError::Idle) => {
                pipeline.push_front(pending);
                Err(ClientError::Idle)
            }
            Err(error) => {
                let FileUpload { path, size, .. } = pending.upload;
                match Refusal::of(&error) {
                    Some(refusal) => self.lock_refused().push(RefusedUpload {
                        path,
                        size,
                        refusal,
                    }),
                    None => self.progress.report_failure(Sanitized(&path), &error),
                }
                match error {
                    ClientError::Refused(_) => Ok(()),
                    _ => Err(error),
                }
            }
        }
    }

    fn lock_refused(&self) -> MutexGuard<'_, Vec<RefusedUpload>> {
        self.refused.lock().expect("no thread panics with the lock")
    }

    /// Receives the remaining replies after the last upload could not be sent completely. If the
    /// server sent a reason before it closed, that reason is reported instead of `error`.
    fn finish_after_send_error(
        mut self,
        mut pipeline: Pipeline<'a>,
        error: ClientError,
        queue: &TransferQueue<'_, FileUpload>,
    ) -> Result<(), ClientError> {
        while pipeline.len() > 1 || matches!(error, ClientError::Fatal(_)) {
            let Some(oldest) = pipeline.pop_front() else {
                break;
            };
            let reply = self.receive_reply(oldest.upload.size);
            if let Err(error) = self.handle_reply(oldest, reply, &mut pipeline) {
                return abandon(self.progress, pipeline, error, queue);
            }
        }
        for last in pipeline {
            (self.progress).report_failure(Sanitized(&last.upload.path), &error);
        }
        Err(error)
    }
}

/// Handles the uploads without a reply when their connection becomes unusable. If the server closed
/// it because of an earlier request, it has not begun them and they are repeated over another
/// connection. Otherwise their state is unknown and they are reported as failed.
fn abandon(
    progress: &TransferProgress,
    pipeline: Pipeline<'_>,
    error: ClientError,
    queue: &TransferQueue<'_, FileUpload>,
) -> Result<(), ClientError> {
    match error {
        ClientError::Aborted(_) | ClientError::Idle => {
            queue.put_back(pipeline.into_iter().map(|pending| pending.upload));
        }
        _ => {
            for pending in pipeline {
                progress.report_failure(Sanitized(&pending.upload.path), &error);
            }
        }
    }
    Err(error)
}

/// Opens a regular file and returns its size.
fn open(source: &Path) -> Result<(File, u64), ClientError> {
    // O_NONBLOCK, because opening a FIFO that replaced the file would block.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(source)
        .map_err(|error| local_error(source, source_failure(source, &error)))?;
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| local_error(source, io_reason(&error)))?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(local_error(source, "not a regular file")),
    }
}

/// Describes why a local file cannot be opened. A relative path is completed by its directory.
pub(super) fn source_failure(source: &Path, error: &io::Error) -> String {
    let reason = io_reason(error);
    let directory = env::current_dir().unwrap_or_default();
    match error.kind() {
        io::ErrorKind::NotFound if source.is_relative() && directory.is_absolute() => {
            let directory = directory.to_string_lossy();
            format!("{reason} in {}", Sanitized(&directory))
        }
        io::ErrorKind::PermissionDenied => format!("{reason}; change its permissions"),
        _ => reason,
    }
}

fn local_error(source: &Path, reason: impl Display) -> ClientError {
    let source = source.to_string_lossy();
    ClientError::Local(format!("{}: {reason}", Sanitized(&source)))
}
