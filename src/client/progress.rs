//! The progress of a run: bars on a terminal, failures and the summary.
//!
//! Bars are drawn on standard error, one per file and one for the total, if it is a terminal.

use std::fmt::Display;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::client::sanitized::Sanitized;

/// Up to this many files, the bars of complete files stay on the screen.
const KEPT_BARS_MAX: usize = 10;

const FILE_STYLE: &str = "{prefix:24!} {percent:>3}% [{wide_bar}] {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4} left";

/// The progress of all transfers of a run, shared by its connections.
pub struct TransferProgress {
    /// Prints a line on standard error.
    report: fn(&str),
    bars: MultiProgress,
    total: Option<ProgressBar>,
    /// Parsed once, because a run may have many thousands of files.
    style: ProgressStyle,
    keeps_bars: bool,
    start: Instant,
    files: AtomicU64,
    bytes: AtomicU64,
    has_failed: AtomicBool,
}

/// The progress of one file. If it is dropped before [`FileProgress::finish`], its bar disappears.
pub(super) struct FileProgress<'a> {
    run: &'a TransferProgress,
    bar: ProgressBar,
    is_finished: bool,
}

impl TransferProgress {
    /// Creates the progress of a run with this many files and bytes, as far as they are known.
    pub(super) fn new(
        report: fn(&str),
        is_quiet: bool,
        files: usize,
        bytes: u64,
    ) -> TransferProgress {
        let bars = match is_quiet {
            true => MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            false => MultiProgress::new(),
        };
        let style = ProgressStyle::with_template(FILE_STYLE)
            .expect("the template is valid")
            .progress_chars("=> ");
        let total = (files > 1).then(|| {
            let bar = new_bar(bytes, &style).with_prefix(format!("{files} files"));
            bars.add(bar)
        });
        TransferProgress {
            report,
            bars,
            total,
            style,
            keeps_bars: files <= KEPT_BARS_MAX,
            start: Instant::now(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Begins a file of `length` bytes, of which `offset` were transferred by an earlier run.
    /// `listed` is the number of bytes by which the file counts in the total so far.
    pub(super) fn begin_file(
        &self,
        name: &str,
        listed: u64,
        offset: u64,
        length: u64,
    ) -> FileProgress<'_> {
        let bar = new_bar(length, &self.style)
            .with_prefix(Sanitized(name).to_string())
            .with_position(offset);
        let bar = match &self.total {
            Some(total) => {
                total.dec_length(listed);
                total.inc_length(length - offset);
                self.bars.insert_before(total, bar)
            }
            None => self.bars.add(bar),
        };
        bar.reset_eta();
        bar.tick();
        FileProgress {
            run: self,
            bar,
            is_finished: false,
        }
    }

    /// Removes the `listed` bytes of a file from the total: it is complete already.
    pub(super) fn skip_file(&self, listed: u64) {
        if let Some(total) = &self.total {
            total.dec_length(listed);
        }
    }

    /// Prints and records a failure.
    pub(super) fn report_failure(&self, item: impl Display, reason: impl Display) {
        self.has_failed.store(true, Relaxed);
        self.warn(format_args!("{item}: {reason}"));
    }

    /// Prints and records that a path is a directory and has no `--recursive`.
    pub(super) fn report_directory(&self, path: &str) {
        self.has_failed.store(true, Relaxed);
        let path = Sanitized(path);
        self.warn(format_args!("{path} is a directory; add --recursive"));
    }

    /// Prints a line that is not a failure.
    pub(super) fn warn(&self, line: impl Display) {
        self.bars.suspend(|| (self.report)(&line.to_string()));
    }

    /// Returns whether there was no failure.
    pub fn is_successful(&self) -> bool {
        !self.has_failed.load(Relaxed)
    }

    /// Returns the number of files and bytes, the duration and the rate, in one line.
    pub fn summary(&self) -> String {
        let (files, bytes) = (self.files.load(Relaxed), self.bytes.load(Relaxed));
        let time = self.start.elapsed().max(Duration::from_micros(1));
        let rate = bytes as f64 / time.as_secs_f64();
        format!(
            "{files} {}, {bytes} {}, {:.2} s, {}/s",
            if files == 1 { "file" } else { "files" },
            if bytes == 1 { "byte" } else { "bytes" },
            time.as_secs_f64(),
            BinaryBytes(rate as u64)
        )
    }

    /// Leaves the bar of the total on the screen, so that the next output follows below it.
    pub(super) fn end(&self) {
        if let Some(total) = &self.total {
            total.abandon();
        }
    }
}

impl FileProgress<'_> {
    /// Adds transferred bytes.
    pub(super) fn advance(&self, bytes: u64) {
        self.run.bytes.fetch_add(bytes, Relaxed);
        self.bar.inc(bytes);
        if let Some(total) = &self.run.total {
            total.inc(bytes);
        }
    }

    /// Counts the file as transferred.
    pub(super) fn finish(mut self) {
        self.run.files.fetch_add(1, Relaxed);
        self.is_finished = true;
        match self.run.keeps_bars {
            true => self.bar.finish(),
            false => self.bar.finish_and_clear(),
        }
    }
}

impl Drop for FileProgress<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.bar.finish_and_clear();
        }
    }
}

/// Creates a bar to be added to a [`MultiProgress`]. It is hidden until then, since a bar with a
/// draw target of its own would check for a terminal.
fn new_bar(length: u64, style: &ProgressStyle) -> ProgressBar {
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden())
        .with_style(style.clone())
}
