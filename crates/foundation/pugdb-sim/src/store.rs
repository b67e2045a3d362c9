//! Table stores that misbehave: one is slow, as a far tier is; one fails or lies on demand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pugdb_core::env::{Env, Event};
use pugdb_core::seam::{RangeRequest, TableStore, Wait};
use pugdb_core::{Error, ErrorKind, FileId, Result};

/// What one call to a far tier takes, whatever it asks for.
pub const SLOW_READ: Duration = Duration::from_millis(20);

/// A store in front of another that takes [`SLOW_READ`] for each call, not for each range, and has nothing at hand.
pub struct SlowStore {
    inner: Arc<dyn TableStore>,
    env: Env,
    calls: AtomicU64,
    ranges: AtomicU64,
    bytes: AtomicU64,
    refusals: AtomicU64,
}

impl SlowStore {
    /// Slows `inner` down by the clock of `env`.
    pub fn new(inner: Arc<dyn TableStore>, env: Env) -> Self {
        let (calls, ranges, bytes, refusals) = Default::default();
        Self { inner, env, calls, ranges, bytes, refusals }
    }

    /// How many calls waited.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many ranges they asked for, all together.
    pub fn ranges(&self) -> u64 {
        self.ranges.load(Ordering::Relaxed)
    }

    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many calls would not wait and got nothing.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

impl TableStore for SlowStore {
    fn read_ranges(&self, requests: &[RangeRequest], wait: Wait) -> Result<Option<Vec<Bytes>>> {
        if wait == Wait::Never {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.ranges.fetch_add(requests.len() as u64, Ordering::Relaxed);
        let bytes: usize = requests.iter().map(|request| request.length).sum();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let deadline = self.env.clock.monotonic() + SLOW_READ;
        self.env.executor.block_until(&Event::default(), Some(deadline), &mut || false);
        self.inner.read_ranges(requests, wait)
    }

    fn forget(&self, file: FileId) {
        self.inner.forget(file);
    }
}

/// What goes wrong with a read of a [`FlakyStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with an error of this kind.
    Error(ErrorKind),
    /// One bit of what it brings is flipped: the one with this number, counted over all ranges and modulo their bits.
    Flip(u64),
}

/// A store in front of another whose reads go wrong when a test says so.
pub struct FlakyStore {
    inner: Arc<dyn TableStore>,
    state: Mutex<Flaky>,
}

#[derive(Default)]
struct Flaky {
    reads: u64,
    /// What goes wrong, by the number of the read.
    faults: BTreeMap<u64, Fault>,
}

impl FlakyStore {
    /// Works as `inner` does until told otherwise.
    pub fn new(inner: Arc<dyn TableStore>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Makes the `nth` read from now on go wrong; 1 is the next one. Reads that bring nothing are not counted.
    pub fn break_read(&self, nth: u64, fault: Fault) {
        let mut state = self.state.lock();
        let number = state.reads + nth;
        state.faults.insert(number, fault);
    }

    /// How many reads brought bytes or went wrong.
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// How many faults are still to come.
    pub fn pending(&self) -> usize {
        self.state.lock().faults.len()
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut state = self.state.lock();
        state.reads += 1;
        let number = state.reads;
        state.faults.remove(&number)
    }
}

impl TableStore for FlakyStore {
    fn read_ranges(&self, requests: &[RangeRequest], wait: Wait) -> Result<Option<Vec<Bytes>>> {
        let Some(pieces) = self.inner.read_ranges(requests, wait)? else { return Ok(None) };
        match self.next_fault() {
            None => Ok(Some(pieces)),
            Some(Fault::Error(kind)) => Err(error(kind)),
            Some(Fault::Flip(bit)) => Ok(Some(flip(pieces, bit))),
        }
    }

    fn forget(&self, file: FileId) {
        self.inner.forget(file);
    }
}

fn error(kind: ErrorKind) -> Error {
    let message = "the test made this read fail";
    match kind {
        ErrorKind::Invalid => Error::invalid(message),
        ErrorKind::NotFound => Error::not_found(message),
        ErrorKind::Conflict => Error::conflict(message),
        ErrorKind::Unavailable => Error::unavailable(message),
        ErrorKind::Denied => Error::denied(message),
        ErrorKind::Corrupt => Error::corrupt(message),
        ErrorKind::Unsupported => Error::unsupported(message),
        ErrorKind::Erased => Error::erased(message),
        ErrorKind::Closed => Error::closed(message),
        ErrorKind::Internal => Error::internal(message),
    }
}

fn flip(mut pieces: Vec<Bytes>, bit: u64) -> Vec<Bytes> {
    let bits = pieces.iter().map(|piece| piece.len() as u64 * 8).sum::<u64>();
    let mut left = pugdb_core::coding::index(bit.checked_rem(bits).unwrap_or(0));
    for piece in &mut pieces {
        if left < piece.len() * 8 {
            let mut bytes = piece.to_vec();
            bytes[left / 8] ^= 1 << (left % 8);
            *piece = bytes.into();
            break;
        }
        left -= piece.len() * 8;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::Timestamp;
    use pugdb_core::env::{Clock, Executor, Job, JobHandle};
    use pugdb_core::seam::FileKind;

    /// Brings zeros.
    struct Zeros;

    impl TableStore for Zeros {
        fn read_ranges(&self, requests: &[RangeRequest], _: Wait) -> Result<Option<Vec<Bytes>>> {
            Ok(Some(requests.iter().map(|request| vec![0; request.length].into()).collect()))
        }

        fn forget(&self, _: FileId) {}
    }

    /// A clock that stands still until somebody waits for a moment.
    #[derive(Default)]
    struct StillTime(Mutex<Duration>);

    impl Clock for StillTime {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock()
        }
    }

    impl Executor for StillTime {
        fn spawn(&self, _: &'static str, _: Box<dyn Job>) -> JobHandle {
            panic!("a store has no jobs")
        }

        fn processors(&self) -> usize {
            1
        }

        fn block_until(&self, _: &Event, until: Option<Duration>, ready: &mut dyn FnMut() -> bool) -> bool {
            *self.0.lock() = until.unwrap();
            ready()
        }
    }

    fn requests(lengths: &[usize]) -> Vec<RangeRequest> {
        lengths
            .iter()
            .map(|&length| RangeRequest { kind: FileKind::Table, file: FileId([0; 16]), offset: 0, length })
            .collect()
    }

    #[test]
    fn a_slow_call_waits_once_for_all_its_ranges() {
        let time = Arc::new(StillTime::default());
        let env = Env { clock: time.clone(), executor: time.clone(), ..Env::os() };
        let store = SlowStore::new(Arc::new(Zeros), env);
        assert!(store.read_ranges(&requests(&[1, 2, 3]), Wait::Never).unwrap().is_none());
        assert_eq!(time.monotonic(), Duration::ZERO);
        assert_eq!(store.read_ranges(&requests(&[1, 2, 3]), Wait::Always).unwrap().unwrap().len(), 3);
        assert_eq!(time.monotonic(), SLOW_READ);
        assert_eq!((store.calls(), store.ranges(), store.refusals()), (1, 3, 1));
    }

    #[test]
    fn a_fault_meets_exactly_the_read_it_was_meant_for() {
        let store = FlakyStore::new(Arc::new(Zeros));
        let read = || store.read_ranges(&requests(&[1, 0, 2]), Wait::Always).map(Option::unwrap);
        let zeros = read().unwrap();
        store.break_read(1, Fault::Error(ErrorKind::Unavailable));
        store.break_read(3, Fault::Flip(24 + 8 + 3));
        assert_eq!(read().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(read().unwrap(), zeros);
        assert_eq!(read().unwrap(), [&[0][..], &[], &[8, 0]]);
        assert_eq!((read().unwrap(), store.reads(), store.pending()), (zeros, 5, 0));
    }
}
