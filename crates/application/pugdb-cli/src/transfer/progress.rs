//! What an import or export has done so far: counts, a bar on a terminal, a list of what is left out, a summary.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pugdb::env::{Clock, Env};

use serde_json::json;

use crate::outcome::{Exit, Failure};
use crate::output::{self, Format, answer_json};
use crate::text::{count, escaped, human_bytes};

/// Lines about single entries; what is more is only counted.
const LISTED_MAX: u64 = 1_000;
/// Entries and bytes between two looks at the bar.
const REDRAW_ENTRIES: u64 = 256;
const REDRAW_BYTES: u64 = 1 << 20;

pub(super) struct Progress {
    /// `imported` or `exported`.
    done: &'static str,
    format: Format,
    bar: ProgressBar,
    clock: Arc<dyn Clock>,
    started: Duration,
    entries: u64,
    bytes: u64,
    drawn: (u64, u64),
    skipped: u64,
    /// What the skipped ones are.
    skipped_are: &'static str,
    left_out: u64,
}

impl Progress {
    /// A bar when the bytes to read are known, else a spinner; neither when stderr is no terminal.
    pub(super) fn start(done: &'static str, input_bytes: Option<u64>, format: Format) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let (bar, template) = match input_bytes {
            Some(bytes) => (
                ProgressBar::with_draw_target(Some(bytes), target),
                "{bar:30} {percent:>3}% {eta:>5} left, {msg}",
            ),
            None => (ProgressBar::with_draw_target(None, target), "{spinner} {msg}"),
        };
        // The templates are the two above; with a wrong one the bar would only look different.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let clock = Env::os().clock;
        Self {
            done,
            format,
            bar,
            started: clock.monotonic(),
            clock,
            entries: 0,
            bytes: 0,
            drawn: (0, 0),
            skipped: 0,
            skipped_are: "no regular files",
            left_out: 0,
        }
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// An entry is through.
    pub(super) fn add(&mut self, bytes: usize) {
        self.entries += 1;
        self.bytes += bytes as u64;
        let (entries, bytes) = self.drawn;
        if self.entries - entries >= REDRAW_ENTRIES || self.bytes - bytes >= REDRAW_BYTES {
            self.drawn = (self.entries, self.bytes);
            if !self.bar.is_hidden() {
                self.bar.set_message(self.counts());
                self.bar.tick();
            }
        }
    }

    /// How far into its input it is, for the bar.
    pub(super) fn set_position(&self, input_bytes: u64) {
        self.bar.set_position(input_bytes);
    }

    /// Not kept, as the rules say: a link, a special file.
    pub(super) fn skip(&mut self, name: &[u8], what: &str) {
        self.skipped += 1;
        self.list("skipped", &escaped(name), what);
    }

    /// Not kept, as the rules say, and not listed: keys that have expired.
    pub(super) fn skip_expired(&mut self) {
        self.skipped += 1;
        self.skipped_are = "expired";
    }

    /// Not kept for want of a type here; listed by type at the end.
    pub(super) fn leave_out_unlisted(&mut self) {
        self.left_out += 1;
    }

    /// Ought to be kept and is not.
    pub(super) fn leave_out(&mut self, name: &[u8], reason: &str) {
        self.leave_out_place(&escaped(name), reason);
    }

    /// As [`leave_out`](Self::leave_out), for what is known by its place.
    pub(super) fn leave_out_place(&mut self, place: &str, reason: &str) {
        self.left_out += 1;
        self.list("left out", place, reason);
    }

    fn list(&self, what_happened: &str, name: &str, reason: &str) {
        let listed = self.skipped + self.left_out;
        if listed <= LISTED_MAX {
            self.bar.suspend(|| output::note(&format!("{what_happened}: {name}: {reason}")));
        }
    }

    fn counts(&self) -> String {
        format!("{} {}, {}", self.done, count(self.entries, "entry", "entries"), human_bytes(self.bytes))
    }

    /// Takes the bar away and prints the summary: a sentence to stderr, or an object to stdout.
    pub(super) fn finish(self) -> Result<Exit, Failure> {
        self.bar.finish_and_clear();
        let listed = self.skipped + self.left_out;
        if listed > LISTED_MAX {
            output::note(&format!("and {} more", listed - LISTED_MAX));
        }
        let seconds = self.clock.monotonic().saturating_sub(self.started).as_secs_f64();
        if self.format == Format::Json {
            answer_json(&json!({
                self.done: self.entries,
                "bytes": self.bytes,
                "seconds": seconds,
                "skipped": self.skipped,
                "left_out": self.left_out,
            }))?;
        } else {
            output::note(&self.summary(seconds));
        }
        Ok(if self.left_out > 0 { Exit::Partial } else { Exit::Done })
    }

    fn summary(&self, seconds: f64) -> String {
        let mut summary = format!("{}, {seconds:.1} s", self.counts());
        if self.skipped > 0 {
            let _ = write!(summary, "; skipped {} that are {}", self.skipped, self.skipped_are);
        }
        if self.left_out > 0 {
            let _ = write!(summary, "; left out {}", self.left_out);
        }
        summary
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
