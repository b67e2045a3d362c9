//! When little is written, so that merging for the sake of space takes nothing from anybody. Pure: moments in, a moment
//! out.

use std::time::Duration;

/// Nothing was flushed for this many times as long as lay between the last two flushes.
const TIMES: u32 = 4;
const QUIET_MIN: Duration = Duration::from_secs(2);
/// Who flushes once in an hour is quiet in between.
const QUIET_MAX: Duration = Duration::from_mins(1);

/// Remembers the flushes.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    last: Option<Duration>,
    /// Between the last two.
    gap: Duration,
}

impl Quiet {
    /// A flush has ended, or the store was opened, when the stopwatch says `now`.
    pub(super) fn flushed(&mut self, now: Duration) {
        self.gap = self.last.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.last = Some(now);
    }

    /// When it is quiet, if nothing more is flushed.
    pub(super) fn since(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |last| last + (self.gap * TIMES).clamp(QUIET_MIN, QUIET_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_quiet_when_the_next_flush_is_long_overdue() {
        let seconds = Duration::from_secs;
        let mut quiet = Quiet::default();
        assert_eq!(quiet.since(), seconds(0), "nothing was ever written");
        quiet.flushed(seconds(100));
        assert_eq!(quiet.since(), seconds(102));
        quiet.flushed(seconds(105));
        assert_eq!(quiet.since(), seconds(125));
        quiet.flushed(seconds(1000));
        assert_eq!(quiet.since(), seconds(1060));
    }
}
