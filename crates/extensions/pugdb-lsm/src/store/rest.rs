//! Which memtables have come to rest: nothing has been written to them for a while, so they are flushed though they are not
//! full. Reads of tables in one run are cheaper than those that merge it with half of what was loaded in memory, and a log that
//! is not needed has not to be replayed. Pure: moments and seqnos in, keyspaces and a moment out.

use std::collections::BTreeMap;
use std::time::Duration;

use pugdb_core::{KeyspaceId, Seqno};

use super::quiet::Quiet;

/// Nothing was written for so long.
const REST: Duration = Duration::from_secs(1);
/// One part in so many of a full memtable is worth a table of its own,
const WORTH_PART: usize = 16;
/// and less than this never is: many keyspaces may hold a little.
const WORTH_BYTES_MIN: usize = 1 << 20;

/// How large a memtable at rest has to be, where `full` is the size at which it is flushed in any case.
pub(super) fn worth_bytes(full: usize) -> usize {
    (full / WORTH_PART).max(WORTH_BYTES_MIN)
}

/// What was seen when the flush job looked last.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Of all flushes: who writes now and then is flushed the less often the more often it happens.
    quiet: Quiet,
    /// The last seqno of each memtable that is large enough, and since when it is that.
    seen: BTreeMap<KeyspaceId, (Seqno, Duration)>,
}

impl Rest {
    /// A flush has ended, or the store was opened.
    pub(super) fn flushed(&mut self, now: Duration) {
        self.quiet.flushed(now);
    }

    /// Looks at the last seqnos of all memtables that are large enough. Tells which are at rest, and when to look again.
    pub(super) fn look(
        &mut self,
        now: Duration,
        large: impl Iterator<Item = (KeyspaceId, Seqno)>,
    ) -> (Vec<KeyspaceId>, Option<Duration>) {
        let before = std::mem::take(&mut self.seen);
        let since = |id: &KeyspaceId, last: Seqno| match before.get(id) {
            Some(&(seqno, since)) if seqno == last => since,
            _ => now,
        };
        self.seen = large.map(|(id, last)| (id, (last, since(&id, last)))).collect();
        let quiet = self.quiet.since();
        let due = |since: Duration| quiet.max(since + REST);
        let at_rest =
            self.seen.iter().filter(|(_, (_, since))| due(*since) <= now).map(|(id, _)| *id).collect();
        let next = self.seen.values().map(|(_, since)| due(*since)).filter(|due| *due > now).min();
        (at_rest, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: KeyspaceId = KeyspaceId(1);
    const OTHER: KeyspaceId = KeyspaceId(2);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_nobody_has_written_to_for_a_second_is_at_rest() {
        let mut rest = Rest::default();
        let mut look = |at, large: &[(KeyspaceId, u64)]| {
            rest.look(millis(at), large.iter().map(|&(id, seqno)| (id, Seqno(seqno))))
        };
        assert_eq!(look(5000, &[]), (vec![], None));
        assert_eq!(look(5100, &[(ONE, 7)]), (vec![], Some(millis(6100))));
        // It was written to.
        assert_eq!(look(6100, &[(ONE, 8), (OTHER, 3)]), (vec![], Some(millis(7100))));
        assert_eq!(look(6500, &[(ONE, 9), (OTHER, 3)]), (vec![], Some(millis(7100))));
        assert_eq!(look(7100, &[(ONE, 9), (OTHER, 3)]), (vec![OTHER], Some(millis(7500))));
        assert_eq!(look(7500, &[(ONE, 9)]), (vec![ONE], None));
    }

    #[test]
    fn who_writes_now_and_then_is_flushed_less_and_less_often() {
        let (mut rest, mut now, mut flushes) = (Rest::default(), 0, Vec::new());
        rest.flushed(millis(0));
        for seqno in 0..200 {
            // A burst every five seconds.
            for at in [0, 1000, 2000, 3000, 4000] {
                let (at_rest, _) = rest.look(millis(now + at), [(ONE, Seqno(seqno))].into_iter());
                if !at_rest.is_empty() {
                    flushes.push(now + at);
                    rest.flushed(millis(now + at));
                    break;
                }
            }
            now += 5000;
        }
        let gaps: Vec<u64> = flushes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            flushes[0] == 2000 && gaps.iter().skip(2).all(|gap| (60_000..70_000).contains(gap)),
            "{gaps:?}"
        );
    }

    #[test]
    fn small_memtables_stay_where_they_are() {
        assert_eq!((worth_bytes(64 << 20), worth_bytes(8 << 10)), (4 << 20, 1 << 20));
    }
}
