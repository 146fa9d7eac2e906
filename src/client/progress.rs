//! What a person sees of transfers: a bar for each file and one for the whole, where standard error is a terminal; failures, a
//! line each; and the sum of it all.
//!
//! Must not know: connections, files.

use std::fmt::Display;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::client::sanitized::Sanitized;

/// Files of which the full bars stay on the screen; of more, only those on their way are shown.
const BARS_KEPT_MAX: usize = 10;

const FILE_STYLE: &str = "{prefix:24!} {percent:>3}% [{wide_bar}] {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4} left";

/// How all of a run's transfers go.
pub struct Progress {
    /// Says a line on standard error.
    tell: fn(&str),
    bars: MultiProgress,
    whole: Option<ProgressBar>,
    /// Read from its template once, since there may be a bar for each of many thousand files.
    style: ProgressStyle,
    keeps_bars: bool,
    start: Instant,
    files: AtomicU64,
    bytes: AtomicU64,
    has_failed: AtomicBool,
}

/// How one file goes. Dropped before [`Bar::done`], it vanishes.
pub(super) struct Bar<'a> {
    progress: &'a Progress,
    bar: ProgressBar,
    is_done: bool,
}

impl Progress {
    /// Of so many files of so many bytes, as far as that is known.
    pub(super) fn new(tell: fn(&str), is_quiet: bool, files: usize, bytes: u64) -> Progress {
        let bars = match is_quiet {
            true => MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            false => MultiProgress::new(),
        };
        let style = ProgressStyle::with_template(FILE_STYLE)
            .expect("a template without faults")
            .progress_chars("=> ");
        let whole =
            (files > 1).then(|| bars.add(bar(bytes, &style).with_prefix(format!("{files} files"))));
        Progress {
            tell,
            bars,
            whole,
            style,
            keeps_bars: files <= BARS_KEPT_MAX,
            start: Instant::now(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        }
    }

    /// A file's bytes begin to move: `had` of `length` were there before, and the whole was told that there are `known`.
    pub(super) fn begin(&self, name: &str, known: u64, had: u64, length: u64) -> Bar<'_> {
        let bar = bar(length, &self.style);
        let bar = bar
            .with_prefix(Sanitized(name).to_string())
            .with_position(had);
        let bar = match &self.whole {
            Some(whole) => {
                whole.dec_length(known);
                whole.inc_length(length - had);
                self.bars.insert_before(whole, bar)
            }
            None => self.bars.add(bar),
        };
        bar.reset_eta();
        bar.tick();
        Bar {
            progress: self,
            bar,
            is_done: false,
        }
    }

    /// A file of which the whole was told that it has `known` bytes need not move.
    pub(super) fn spare(&self, known: u64) {
        if let Some(whole) = &self.whole {
            whole.dec_length(known);
        }
    }

    /// Something was not done.
    pub(super) fn fail(&self, what: impl Display, why: impl Display) {
        self.has_failed.store(true, Relaxed);
        self.warn(format_args!("{what}: {why}"));
    }

    /// Something to know, all the same.
    pub(super) fn warn(&self, line: impl Display) {
        self.bars.suspend(|| (self.tell)(&line.to_string()));
    }

    /// Whether all was done.
    pub fn is_whole(&self) -> bool {
        !self.has_failed.load(Relaxed)
    }

    /// What came of it, in a line.
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

    /// Takes the bars of what is not done from the screen, so that what is said next stands below the others.
    pub(super) fn end(&self) {
        if let Some(whole) = &self.whole {
            whole.abandon();
        }
    }
}

impl Bar<'_> {
    pub(super) fn moved(&self, bytes: u64) {
        self.progress.bytes.fetch_add(bytes, Relaxed);
        self.bar.inc(bytes);
        if let Some(whole) = &self.progress.whole {
            whole.inc(bytes);
        }
    }

    /// The file is whole, and where it belongs.
    pub(super) fn done(mut self) {
        self.progress.files.fetch_add(1, Relaxed);
        self.is_done = true;
        match self.progress.keeps_bars {
            true => self.bar.finish(),
            false => self.bar.finish_and_clear(),
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.bar.finish_and_clear();
        }
    }
}

/// A bar that is to be added to the others. On its own it would look anew each time whether there is a terminal.
fn bar(length: u64, style: &ProgressStyle) -> ProgressBar {
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden())
        .with_style(style.clone())
}
