//! The log: a line an event, the session number first, to standard error by a helper thread.
//!
//! Who logs never waits: a line that finds the buffer full is dropped, and the next that finds room says how many were.
//!
//! Must not know: what the lines say.

pub(crate) mod format;
pub(crate) mod transfer_log;

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use log::{LevelFilter, Metadata, Record};

use crate::limits::LOG_LINES_MAX;
pub use crate::server::log::format::Format;
use crate::server::log::format::line;

/// Bytes that one write to standard error gathers at most, give or take a line.
const WRITE_BYTES: usize = 64 * 1024;

/// Starts the helper thread and makes it the process's log. The handle flushes it.
///
/// Fails where the process has a log already, or no thread can be started.
pub fn start(level: LevelFilter, format: Format) -> std::io::Result<Handle> {
    let (lines, queue) = sync_channel(LOG_LINES_MAX);
    spawn_writer("log", move || write_lines(&queue))?;
    let log = Log {
        format,
        lines: lines.clone(),
        dropped: AtomicU64::new(0),
    };
    log::set_boxed_logger(Box::new(log)).map_err(std::io::Error::other)?;
    log::set_max_level(level);
    Ok(Handle { lines })
}

/// Starts a helper thread that writes a log.
pub(crate) fn spawn_writer(
    name: &str,
    life: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(life).map(|_| ())
}

/// The end of the log that can wait for it.
pub struct Handle {
    lines: SyncSender<Entry>,
}

impl Handle {
    /// Waits until what was logged before has been written, or `patience` is over: nobody may read it.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        if self.lines.try_send(Entry::Flush(done)).is_ok() {
            // Not written in time is what patience is for.
            let _ = written.recv_timeout(patience);
        }
    }
}

enum Entry {
    Line(String),
    Flush(SyncSender<()>),
}

struct Log {
    format: Format,
    lines: SyncSender<Entry>,
    dropped: AtomicU64,
}

impl log::Log for Log {
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
        if self.lines.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The helper thread's life: gathers what is there, then writes it at once.
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
            next = match text.len() < WRITE_BYTES {
                true => queue.try_recv().ok(),
                false => None,
            };
        }
        // There is nowhere to say that the log cannot be written.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        text.clear();
        for done in flushed {
            let _ = done.try_send(());
        }
    }
}

/// A client's or a file's own words as the log shows them: in quotes where they have blanks, quotes or control
/// characters, those escaped, so that nobody can forge a line or a field.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What Debug leaves alone is no quote, backslash, control character or direction mark.
        let plain = |c: char| c.escape_debug().count() == 1 && !c.is_whitespace() && c != '=';
        match !self.0.is_empty() && self.0.chars().all(plain) {
            true => f.write_str(self.0),
            false => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Escaped;

    #[test]
    fn what_a_client_says_stays_one_field_of_one_line() {
        assert_eq!(Escaped("user1").to_string(), "user1");
        assert_eq!(Escaped("").to_string(), "\"\"");
        assert_eq!(Escaped("a b").to_string(), "\"a b\"");
        assert_eq!(
            Escaped("x\nsession=1 event=login").to_string(),
            "\"x\\nsession=1 event=login\""
        );
        assert_eq!(
            Escaped("\u{1b}[2J\u{9b}1m").to_string(),
            "\"\\u{1b}[2J\\u{9b}1m\""
        );
        assert_eq!(Escaped("ä\u{202e}").to_string(), "\"ä\\u{202e}\"");
    }
}
