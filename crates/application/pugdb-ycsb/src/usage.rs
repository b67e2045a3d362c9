//! What a run takes: time by the wall, and time of all the processor's cores that this process got.

use std::time::Duration;

use pugdb::env::Clock as _;
use pugdb::env::os::OsClock;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The wall's clock, as a stopwatch.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(OsClock);

impl Stopwatch {
    /// A stopwatch that starts now.
    #[expect(clippy::new_without_default, reason = "it starts to run: that is an act, not a default")]
    pub fn new() -> Self {
        Self(OsClock::new())
    }

    /// The time since it was made.
    pub fn elapsed(&self) -> Duration {
        self.0.monotonic()
    }
}

/// Now, by the clock that all processes of the machine share: what one of them notes, another can put beside its own.
pub fn moment() -> Duration {
    as_duration(clock_gettime(ClockId::Monotonic))
}

/// A moment in both times.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    wall: Duration,
    processor: Duration,
}

impl Usage {
    /// The moment that is now.
    pub fn now(stopwatch: &Stopwatch) -> Self {
        Self { wall: stopwatch.elapsed(), processor: processor_time() }
    }

    /// The wall's time since an earlier moment.
    pub fn wall_since(&self, earlier: &Self) -> Duration {
        self.wall.saturating_sub(earlier.wall)
    }

    /// The processor's time since an earlier moment: every thread of the process, those in the background included.
    pub fn processor_since(&self, earlier: &Self) -> Duration {
        self.processor.saturating_sub(earlier.processor)
    }
}

/// What all threads of this process have used since it began, in user and in system mode.
fn processor_time() -> Duration {
    as_duration(clock_gettime(ClockId::ProcessCPUTime))
}

fn as_duration(time: Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).expect("neither a machine nor a process began after now"),
        u32::try_from(time.tv_nsec).expect("nanoseconds within a second fit"),
    )
}

/// Waits until the process has been idle for `idle`: what the store put off is done, and belongs to the run that caused it.
/// Ends after `patience` in any case.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no event to wait for: it watches a clock while nothing runs"
)]
pub(crate) fn wait_until_idle(patience: Duration, idle: Duration) {
    const LOOK_EVERY: Duration = Duration::from_millis(25);
    /// A process that does nothing wakes up now and then.
    const NOTHING: Duration = Duration::from_micros(500);
    let stopwatch = Stopwatch::new();
    let mut last_busy = Duration::ZERO;
    while stopwatch.elapsed() < patience.min(last_busy + idle) {
        let before = processor_time();
        std::thread::sleep(LOOK_EVERY);
        if processor_time().saturating_sub(before) >= NOTHING {
            last_busy = stopwatch.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_another_thread_is_counted() {
        let stopwatch = Stopwatch::new();
        let before = Usage::now(&stopwatch);
        let wanted = Duration::from_millis(20);
        std::thread::scope(|scope| {
            scope.spawn(|| while processor_time() < before.processor + wanted {});
        });
        let after = Usage::now(&stopwatch);
        assert!(after.processor_since(&before) >= wanted);
        assert!(after.wall_since(&before) > Duration::ZERO);
    }
}
