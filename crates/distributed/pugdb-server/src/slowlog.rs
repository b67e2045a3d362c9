//! The slowest moments: commands that took long, for `SLOWLOG`, and events over a threshold, for `LATENCY`. Both are
//! bounded rings, and a fast command pays two loads for them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clients::Client;
use crate::limits::{LATENCY_SAMPLES, SLOWLOG_ARGUMENTS};

/// A command that took long.
#[derive(Clone, Debug)]
pub(crate) struct SlowEntry {
    pub(crate) id: i64,
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) microseconds: u64,
    /// Its name in parts, then the lengths of its arguments: what they hold is nobody's business.
    pub(crate) words: Vec<String>,
    pub(crate) address: String,
    pub(crate) client_name: String,
}

#[derive(Debug, Default)]
pub(crate) struct Slowlog {
    /// The newest first.
    entries: Mutex<(i64, VecDeque<SlowEntry>)>,
}

impl Slowlog {
    /// Adds an entry and drops the oldest beyond `entries_max`.
    pub(crate) fn add(
        &self,
        words: Vec<String>,
        microseconds: u64,
        at: u64,
        client: &Arc<Client>,
        entries_max: usize,
    ) {
        let (address, client_name) = (client.address.to_string(), client.see(|state| state.name.clone()));
        let mut guard = self.entries.lock();
        let (next_id, entries) = &mut *guard;
        entries.push_front(SlowEntry { id: *next_id, at, microseconds, words, address, client_name });
        *next_id += 1;
        entries.truncate(entries_max);
    }

    pub(crate) fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.entries.lock().1.iter().take(count).cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.lock().1.len()
    }

    /// Forgets all; numbers go on.
    pub(crate) fn clear(&self) {
        self.entries.lock().1.clear();
    }

    pub(crate) fn truncate(&self, entries_max: usize) {
        self.entries.lock().1.truncate(entries_max);
    }
}

/// A command as `SLOWLOG` shows it: `set`, `(3 bytes)`, `(12 bytes)`.
pub(crate) fn words_of(name: &str, argument_bytes: impl ExactSizeIterator<Item = usize>) -> Vec<String> {
    let mut words: Vec<String> = name.split('|').map(str::to_owned).collect();
    let total = argument_bytes.len() + 1;
    // The name of a container and of its command are two arguments.
    let lengths = argument_bytes.skip(words.len() - 1);
    words.extend(lengths.map(|bytes| format!("({bytes} bytes)")).take(SLOWLOG_ARGUMENTS - words.len()));
    if total > words.len()
        && let Some(last) = words.last_mut()
    {
        *last = format!("... ({} more arguments)", total - SLOWLOG_ARGUMENTS + 1);
    }
    words
}

/// What `LATENCY` knows of an event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    /// Second and milliseconds, the newest last; one for each second, the worst.
    pub(crate) samples: VecDeque<(u64, u64)>,
    pub(crate) milliseconds_max: u64,
}

/// Events over the threshold, by name. The names are ours, so there are few.
#[derive(Debug, Default)]
pub(crate) struct LatencyEvents {
    by_name: Mutex<BTreeMap<&'static str, Event>>,
}

impl LatencyEvents {
    pub(crate) fn add(&self, name: &'static str, at: u64, milliseconds: u64) {
        let mut by_name = self.by_name.lock();
        let event = by_name.entry(name).or_default();
        event.milliseconds_max = event.milliseconds_max.max(milliseconds);
        match event.samples.back_mut() {
            Some((second, worst)) if *second == at => *worst = (*worst).max(milliseconds),
            _ => event.samples.push_back((at, milliseconds)),
        }
        if event.samples.len() > LATENCY_SAMPLES {
            event.samples.pop_front();
        }
    }

    pub(crate) fn all(&self) -> BTreeMap<&'static str, Event> {
        self.by_name.lock().clone()
    }

    /// Forgets the events that `is_asked` names; how many there were.
    pub(crate) fn forget(&self, is_asked: impl Fn(&str) -> bool) -> usize {
        let mut by_name = self.by_name.lock();
        let before = by_name.len();
        by_name.retain(|name, _| !is_asked(name));
        before - by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_command_is_told_by_lengths_and_in_bounded_space() {
        assert_eq!(words_of("set", [1, 12].into_iter()), ["set", "(1 bytes)", "(12 bytes)"]);
        assert_eq!(words_of("config|get", [3, 7].into_iter()), ["config", "get", "(7 bytes)"]);
        let many = words_of("del", std::iter::repeat_n(2, 100));
        assert_eq!(many.len(), SLOWLOG_ARGUMENTS);
        // 101 with the name: 31 are told.
        assert_eq!(many.last().unwrap(), "... (70 more arguments)");
        assert_eq!(words_of("del", std::iter::repeat_n(2, 31)).last().unwrap(), "(2 bytes)");
    }

    #[test]
    fn an_event_keeps_the_worst_of_a_second_and_a_bounded_number() {
        let events = LatencyEvents::default();
        for (second, milliseconds) in [(1, 5), (1, 9), (1, 2), (2, 4)] {
            events.add("command", second, milliseconds);
        }
        let event = events.all().remove("command").unwrap();
        assert_eq!((event.samples.into(), event.milliseconds_max), (vec![(1, 9), (2, 4)], 9));
        for second in 10..1_000 {
            events.add("command", second, 1);
        }
        assert_eq!(events.all()["command"].samples.len(), LATENCY_SAMPLES);
        assert_eq!((events.forget(|name| name == "fork"), events.forget(|_| true)), (0, 1));
    }
}
