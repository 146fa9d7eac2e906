//! The event log: one line per event, written to standard error by a thread of its own.
//!
//! Logging never blocks. A line that finds the queue full is dropped, and the next line that finds
//! room reports how many were dropped.

use std::io;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use log::{LevelFilter, Metadata, Record};

use crate::limits::{LOG_LINES_MAX, LOG_WRITE_BYTES};
use crate::server::log::format::{Format, line};
use crate::server::log::writer::spawn_writer;

/// Starts the writer thread and installs the process's logger.
///
/// # Errors
/// The process already has a logger, or the thread cannot be started.
pub fn start(level: LevelFilter, format: Format) -> io::Result<EventLog> {
    let (entries, queue) = sync_channel(LOG_LINES_MAX);
    spawn_writer("log", move || write_lines(&queue))?;
    let logger = Logger {
        format,
        entries: entries.clone(),
        dropped: AtomicU64::new(0),
    };
    log::set_boxed_logger(Box::new(logger)).map_err(io::Error::other)?;
    log::set_max_level(level);
    Ok(EventLog { entries })
}

/// A handle to the running event log.
pub struct EventLog {
    entries: SyncSender<Entry>,
}

impl EventLog {
    /// Waits until all earlier lines are written, at most for `timeout`: standard error may be a
    /// pipe that is not read.
    pub fn flush(&self, timeout: Duration) {
        let (done, written) = sync_channel(1);
        if self.entries.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(timeout);
        }
    }
}

enum Entry {
    Line(String),
    Flush(SyncSender<()>),
}

struct Logger {
    format: Format,
    entries: SyncSender<Entry>,
    dropped: AtomicU64,
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = jiff::Timestamp::now();
        let level = match record.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warn",
            log::Level::Info => "info",
            log::Level::Debug | log::Level::Trace => "debug",
        };
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        let event = match dropped {
            0 => record.args().to_string(),
            n => format!("{} dropped-lines={n}", record.args()),
        };
        let line = line(self.format, format_args!("{now:.3}"), level, &event);
        if self.entries.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Runs the writer thread: gathers the queued lines, then writes them at once.
fn write_lines(queue: &Receiver<Entry>) {
    let mut text = String::new();
    while let Ok(first) = queue.recv() {
        let mut flushed = Vec::new();
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => text.push_str(&line),
                Entry::Flush(done) => flushed.push(done),
            }
            next = match text.len() < LOG_WRITE_BYTES {
                true => queue.try_recv().ok(),
                false => None,
            };
        }
        // An error of standard error cannot be reported anywhere.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        text.clear();
        for done in flushed {
            let _ = done.try_send(());
        }
    }
}
