//! The transfer log in the format of wu-ftpd that tools for FTP servers read (xferlog(5)): one line
//! of 18 blank-separated fields per transfer.
//!
//! Logging never blocks: lines go to a writer thread, and lines that find its queue full are
//! dropped and counted.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use log::error;

use crate::limits::{LOG_LINES_MAX, TRANSFER_LOG_TIMEOUT};
use crate::server::log::escape::Escaped;
use crate::server::log::writer::spawn_writer;

/// The open transfer log. Its drop waits up to `TRANSFER_LOG_TIMEOUT` for the last lines.
#[derive(Debug)]
pub struct TransferLog {
    /// Set to `None` by the drop, which ends the writer thread.
    lines: Option<SyncSender<String>>,
    written: Mutex<Receiver<()>>,
    reopen: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

impl TransferLog {
    /// Opens `path` for appending, creates it if needed, and starts the writer thread.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub fn open(path: &Path) -> io::Result<TransferLog> {
        let (lines, queue) = sync_channel(LOG_LINES_MAX);
        let (done, written) = sync_channel(1);
        let reopen = Arc::new(AtomicBool::new(false));
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            file: append(path)?,
            path: path.to_owned(),
            queue,
            reopen: reopen.clone(),
            dropped: dropped.clone(),
        };
        spawn_writer("xferlog", move || {
            writer.run();
            let _ = done.try_send(());
        })?;
        Ok(TransferLog {
            lines: Some(lines),
            written: Mutex::new(written),
            reopen,
            dropped,
        })
    }

    /// Reopens the path before the next line, for log rotation.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    fn write(&self, line: String) {
        let lines = self.lines.as_ref().expect("set until the drop");
        if lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for TransferLog {
    fn drop(&mut self) {
        self.lines = None;
        if let Ok(written) = self.written.get_mut() {
            let _ = written.recv_timeout(TRANSFER_LOG_TIMEOUT);
        }
    }
}

/// The state of the writer thread.
struct Writer {
    path: PathBuf,
    file: File,
    queue: Receiver<String>,
    reopen: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self) {
        loop {
            let line = match self.queue.recv_timeout(TRANSFER_LOG_TIMEOUT) {
                Ok(line) => Some(line),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.reopen.swap(false, Ordering::Relaxed) {
                match append(&self.path) {
                    Ok(file) => self.file = file,
                    Err(error) => self.report("opening", &error),
                }
            }
            if let Some(line) = line
                && let Err(error) = self.file.write_all(line.as_bytes())
            {
                self.report("writing", &error);
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                error!("event=fault what=xferlog dropped-lines={dropped}");
            }
        }
    }

    fn report(&self, doing: &str, error: &io::Error) {
        let what = format!("{doing} {}: {error}", self.path.display());
        error!("event=fault what={}", Escaped(&what));
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Download,
    Upload,
}

/// A transfer in progress. Its drop writes the line, as incomplete unless
/// [`TransferRecord::complete`] was called.
#[derive(Debug)]
pub(crate) struct TransferRecord {
    log: Arc<TransferLog>,
    began: Timestamp,
    peer: IpAddr,
    user: String,
    path: PathBuf,
    direction: Direction,
    bytes: u64,
    is_complete: bool,
}

impl TransferRecord {
    /// Begins the record of a transfer that starts now.
    pub(crate) fn begin(
        log: Arc<TransferLog>,
        peer: IpAddr,
        user: &str,
        path: &Path,
        direction: Direction,
    ) -> Box<TransferRecord> {
        Box::new(TransferRecord {
            log,
            began: Timestamp::now(),
            peer,
            user: user.to_owned(),
            path: path.to_owned(),
            direction,
            bytes: 0,
            is_complete: false,
        })
    }

    /// Adds transferred bytes.
    pub(crate) fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Marks the transfer as complete: all bytes sent, or the upload durable.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    fn line(&self, now: Timestamp) -> String {
        let seconds = now.duration_since(self.began).as_secs().max(0);
        let direction = match self.direction {
            Direction::Download => 'o',
            Direction::Upload => 'i',
        };
        let end = match self.is_complete {
            true => 'c',
            false => 'i',
        };
        let time = now.strftime("%a %b %e %H:%M:%S %Y");
        format!(
            "{time} {seconds} {} {} {} b _ {direction} r {} tidegate 0 * {end}\n",
            self.peer,
            self.bytes,
            field(&self.path.to_string_lossy()),
            field(&self.user),
        )
    }
}

impl Drop for TransferRecord {
    fn drop(&mut self) {
        self.log.write(self.line(Timestamp::now()));
    }
}

/// Returns a name as one field: blanks and non-printable characters become `_`.
fn field(name: &str) -> String {
    let mut field = String::with_capacity(name.len());
    for c in name.chars() {
        let is_plain = !c.is_whitespace()
            && (c == '\'' || c == '"' || c == '\\' || c.escape_debug().count() == 1);
        let _ = field.write_char(if is_plain { c } else { '_' });
    }
    match field.is_empty() {
        true => "_".to_owned(),
        false => field,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open() -> (tempfile::TempDir, PathBuf, Arc<TransferLog>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xferlog");
        let log = Arc::new(TransferLog::open(&path).unwrap());
        (folder, path, log)
    }

    fn record(
        log: &Arc<TransferLog>,
        user: &str,
        path: &str,
        direction: Direction,
    ) -> Box<TransferRecord> {
        let peer = "2001:db8::1".parse().unwrap();
        TransferRecord::begin(log.clone(), peer, user, Path::new(path), direction)
    }

    #[test]
    fn a_line_has_the_fields_of_xferlog() {
        let (_folder, path, log) = open();
        let mut download = record(&log, "user 1", "/srv/Free Fire", Direction::Download);
        download.add_bytes(4000);
        download.add_bytes(96);
        download.complete();
        drop(download);
        record(&log, "u", "/srv/x", Direction::Upload).add_bytes(7);
        drop(log);
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        let [download, upload] = &lines[..] else {
            panic!("{text}")
        };
        assert!(
            download[3].contains(':') && download[4].starts_with("20"),
            "{text}"
        );
        let fields = "2001:db8::1 4096 /srv/Free_Fire b _ o r user_1 tidegate 0 * c";
        assert_eq!(download[6..].join(" "), fields);
        assert_eq!(
            upload[6..].join(" "),
            "2001:db8::1 7 /srv/x b _ i r u tidegate 0 * i"
        );
    }

    #[test]
    fn reopen_creates_a_rotated_log_again() {
        let (folder, path, log) = open();
        drop(record(&log, "a", "/first", Direction::Download));
        let old = folder.path().join("xferlog.1");
        while !std::fs::read_to_string(&path).unwrap().contains("/first") {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &old).unwrap();
        log.reopen();
        drop(record(&log, "a", "/second", Direction::Download));
        drop(log);
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert!(read(&old).contains("/first") && !read(&old).contains("/second"));
        assert!(read(&path).contains("/second"));
    }

    proptest! {
        #[test]
        fn names_cannot_forge_a_field(user in "(?s).*", path in "(?s).*") {
            let (_folder, _, log) = open();
            let record = record(&log, &user, &path, Direction::Upload);
            let line = record.line(Timestamp::UNIX_EPOCH);
            prop_assert_eq!(line.split_whitespace().count(), 18, "{}", line);
            prop_assert_eq!(line.matches(char::is_control).count(), 1);
        }
    }
}
