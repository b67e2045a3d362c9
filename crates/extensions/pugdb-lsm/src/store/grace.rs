//! Which moment has been the past for a grace period: what had expired at it may be given up. Pure: clocks in, a moment
//! out.
//!
//! A calendar can be wrong, by a year, for an hour. So it is not believed before it has said the same for the whole
//! grace period, as the stopwatch has it: what counts is the least that it was ahead of the stopwatch meanwhile. When
//! nothing jumps, that is the calendar less the grace.

use std::collections::VecDeque;
use std::time::Duration;

use pugdb_core::Timestamp;

/// So small a part of the grace is no jump: clocks differ in their pace.
const DRIFT_PART: u32 = 64;

#[derive(Debug)]
pub(super) struct Grace {
    grace: Duration,
    /// From a moment of the stopwatch on, until the next one, the calendar was ahead of it by so many milliseconds or
    /// more. Both ascend. Never empty.
    leads: VecDeque<(Duration, i128)>,
}

impl Grace {
    /// Begins when the stopwatch says `stopwatch`. An earlier life has seen the calendar at `known`.
    pub(super) fn new(grace: Duration, stopwatch: Duration, known: Timestamp) -> Self {
        Self { grace, leads: VecDeque::from([(stopwatch, lead(stopwatch, known))]) }
    }

    /// The clocks say this now. Returns the moment that has been the past for the grace period.
    pub(super) fn observe(&mut self, stopwatch: Duration, calendar: Timestamp) -> Timestamp {
        let (lead, mut since) = (lead(stopwatch, calendar), stopwatch);
        // It was ahead by this much or more ever since.
        while let Some((before, _)) = self.leads.pop_back_if(|&mut (_, before)| before > lead) {
            since = before;
        }
        let drift = millis(self.grace / DRIFT_PART);
        if self.leads.back().is_none_or(|&(_, before)| before + drift < lead) {
            self.leads.push_back((since, lead));
        }
        while self.leads.get(1).is_some_and(|&(since, _)| since + self.grace <= stopwatch) {
            self.leads.pop_front();
        }
        let least = self.leads.front().map_or(0, |&(_, lead)| lead);
        timestamp(millis(stopwatch) - millis(self.grace) + least)
    }

    /// When the stopwatch will say that `moment` has been the past for long enough, if the calendar goes on as it does.
    pub(super) fn when(&self, moment: Timestamp) -> Duration {
        let mut at = Duration::ZERO;
        for (number, &(since, lead)) in self.leads.iter().enumerate() {
            let in_force = if number == 0 { Duration::ZERO } else { since + self.grace };
            at = duration(i128::from(moment.0) - lead + millis(self.grace)).max(in_force);
            if self.leads.get(number + 1).is_none_or(|&(next, _)| at < next + self.grace) {
                break;
            }
        }
        at
    }
}

fn lead(stopwatch: Duration, calendar: Timestamp) -> i128 {
    i128::from(calendar.0) - millis(stopwatch)
}

fn millis(duration: Duration) -> i128 {
    i128::try_from(duration.as_millis()).unwrap_or(i128::MAX / 4)
}

fn timestamp(milliseconds: i128) -> Timestamp {
    Timestamp(u64::try_from(milliseconds.max(0)).unwrap_or(u64::MAX))
}

fn duration(milliseconds: i128) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const YEAR: u64 = 8760 * HOUR;

    /// A grace of an hour, from the start of a stopwatch, of a calendar that was at a hundred years.
    fn begin() -> Grace {
        Grace::new(Duration::from_hours(1), Duration::ZERO, Timestamp(100 * YEAR))
    }

    fn observe(grace: &mut Grace, minutes: u64, calendar: u64) -> u64 {
        grace.observe(Duration::from_mins(minutes), Timestamp(calendar)).0
    }

    #[test]
    fn when_nothing_jumps_it_is_the_calendar_less_the_grace() {
        let mut grace = begin();
        for minutes in [0, 1, 59, 60, 61, 1000, 100_000] {
            let calendar = 100 * YEAR + minutes * 60_000;
            assert_eq!(observe(&mut grace, minutes, calendar), calendar - HOUR);
            assert_eq!(grace.when(Timestamp(calendar)), Duration::from_mins(minutes + 60));
        }
    }

    #[test]
    fn a_jump_forward_counts_after_it_has_stood_for_the_grace() {
        let mut grace = begin();
        observe(&mut grace, 10, 100 * YEAR + 10 * 60_000);
        let ahead = |minutes: u64| 101 * YEAR + minutes * 60_000;
        assert_eq!(observe(&mut grace, 20, ahead(20)), 100 * YEAR + 20 * 60_000 - HOUR);
        assert_eq!(grace.when(Timestamp(101 * YEAR)), Duration::from_mins(80));
        assert_eq!(observe(&mut grace, 79, ahead(79)), 100 * YEAR + 79 * 60_000 - HOUR);
        assert_eq!(observe(&mut grace, 80, ahead(80)), ahead(80) - HOUR);
    }

    #[test]
    fn a_jump_forward_and_back_counts_for_nothing() {
        let mut grace = begin();
        observe(&mut grace, 20, 101 * YEAR);
        for minutes in [30, 90, 200] {
            let calendar = 100 * YEAR + minutes * 60_000;
            assert_eq!(observe(&mut grace, minutes, calendar), calendar - HOUR);
        }
    }

    #[test]
    fn a_week_while_it_was_closed_counts_after_the_grace() {
        let mut grace = begin();
        let now = 100 * YEAR + 168 * HOUR;
        assert_eq!(observe(&mut grace, 0, now), 100 * YEAR - HOUR);
        assert_eq!(observe(&mut grace, 60, now + HOUR), now);
    }

    #[test]
    fn without_a_grace_it_is_the_calendar_there_and_back() {
        let mut grace = Grace::new(Duration::ZERO, Duration::ZERO, Timestamp(100 * YEAR));
        for (minutes, calendar) in
            [(0, 100 * YEAR), (0, 101 * YEAR), (1, 99 * YEAR), (2, 0), (3, 100 * YEAR + 1)]
        {
            assert_eq!(observe(&mut grace, minutes, calendar), calendar);
        }
    }

    #[test]
    fn a_jump_counts_though_the_calendar_is_slow() {
        let mut grace = begin();
        observe(&mut grace, 10, 100 * YEAR + 10 * 60_000);
        for minutes in 20..80 {
            assert!(observe(&mut grace, minutes, 101 * YEAR + minutes * 59_990) < 100 * YEAR + HOUR);
        }
        let calendar = 101 * YEAR + 80 * 59_990;
        assert_eq!(observe(&mut grace, 80, calendar), calendar - HOUR);
    }

    #[test]
    fn clocks_of_unlike_pace_are_not_remembered_without_end() {
        let mut grace = begin();
        for minutes in 0..100_000 {
            // The calendar gains a second in every half hour.
            let calendar = 100 * YEAR + minutes * 60_000 + minutes * 1000 / 30;
            let stood = observe(&mut grace, minutes, calendar);
            assert!(stood <= calendar - HOUR && stood + 2 * 60_000 > calendar - HOUR);
            assert!(grace.leads.len() < 10);
        }
    }
}
