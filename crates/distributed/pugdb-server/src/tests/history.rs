//! Is the history of one key linearizable? Every write of it writes another value, so it is decided exactly and fast.
//!
//! The rule is that of Gibbons and Korach, "Testing Shared Memories" (SIAM J. Comput. 26, 1997), section 4: a value's zone
//! reaches from the earliest end to the latest start among its write and reads. A zone is forward when that end comes
//! first, and then the value stood there all the zone long. Nothing may stand there at the same time: two forward
//! zones do not overlap, and no backward zone lies inside a forward one.

use std::collections::HashMap;
use std::time::Duration;

/// A write or a read of the key, as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
    pub(crate) is_write: bool,
    /// 0 stands for no value, which is how a key begins.
    pub(crate) value: u64,
}

/// What a history shows that no single order of its events explains; `None` when there is such an order.
pub(crate) fn contradiction(events: &[Event]) -> Option<String> {
    let mut zones: HashMap<u64, Zone> = HashMap::new();
    // The key was without a value before everything.
    zones.insert(
        0,
        Zone { end: Duration::ZERO, written: Some((Duration::ZERO, Duration::ZERO)), ..Zone::new() },
    );
    for event in events {
        let zone = zones.entry(event.value).or_insert_with(Zone::new);
        zone.add(event);
        if event.is_write && zone.written.replace((event.start, event.end)).is_some() {
            return Some(format!("value {} was written twice: the test is wrong", event.value));
        }
    }
    for (value, zone) in &zones {
        let Some((written, _)) = zone.written else {
            return Some(format!("value {value} was never written"));
        };
        if zone.first_read_end.is_some_and(|end| end < written) {
            return Some(format!("value {value} was read before it was written"));
        }
    }
    let (mut forward, backward): (Vec<_>, Vec<_>) = zones.iter().partition(|(_, zone)| zone.end < zone.start);
    forward.sort_by_key(|(_, zone)| zone.end);
    for pair in forward.windows(2) {
        if pair[1].1.end < pair[0].1.start {
            return Some(format!("values {} and {} stood there at one time", pair[0].0, pair[1].0));
        }
    }
    for (value, zone) in backward {
        let around = forward.iter().find(|(_, around)| around.end < zone.start && zone.end < around.start);
        if let Some((other, _)) = around {
            return Some(format!("value {value} came and went while {other} stood there"));
        }
    }
    None
}

/// From the earliest end to the latest start; backward when they are the other way round.
struct Zone {
    end: Duration,
    start: Duration,
    written: Option<(Duration, Duration)>,
    first_read_end: Option<Duration>,
}

impl Zone {
    fn new() -> Self {
        Self { end: Duration::MAX, start: Duration::ZERO, written: None, first_read_end: None }
    }

    fn add(&mut self, event: &Event) {
        self.end = self.end.min(event.end);
        self.start = self.start.max(event.start);
        if !event.is_write {
            self.first_read_end = Some(self.first_read_end.map_or(event.end, |first| first.min(event.end)));
        }
    }
}

fn event(kind: char, value: u64, start: u64, end: u64) -> Event {
    let at = Duration::from_millis;
    Event { start: at(start), end: at(end), is_write: kind == 'w', value }
}

#[test]
fn histories_that_have_an_order_pass() {
    let sequential = [event('w', 1, 1, 2), event('r', 1, 3, 4), event('w', 2, 5, 6), event('r', 2, 7, 8)];
    // The second read goes before the write that began earlier.
    let overlapping = [event('w', 1, 1, 10), event('r', 0, 2, 3), event('r', 1, 4, 5), event('w', 2, 1, 9)];
    let empty = [event('r', 0, 1, 2)];
    for history in [&sequential[..], &overlapping, &empty] {
        assert_eq!(contradiction(history), None, "{history:?}");
    }
}

#[test]
fn planted_faults_are_found() {
    let stale = [event('w', 1, 1, 2), event('w', 2, 3, 4), event('r', 1, 5, 6)];
    let back_and_forth = [
        event('w', 1, 1, 9),
        event('w', 2, 1, 9),
        event('r', 1, 10, 11),
        event('r', 2, 12, 13),
        event('r', 1, 14, 15),
    ];
    let lost = [event('w', 1, 1, 2), event('r', 0, 3, 4)];
    let invented = [event('r', 7, 1, 2)];
    let early = [event('r', 1, 1, 2), event('w', 1, 3, 4)];
    let inside = [event('w', 1, 1, 2), event('w', 2, 3, 4), event('r', 2, 3, 5), event('r', 1, 6, 7)];
    for history in [&stale[..], &back_and_forth, &lost, &invented, &early, &inside] {
        assert!(contradiction(history).is_some(), "{history:?}");
    }
}
