//! A transaction again and again, until it does not meet others.

use std::sync::Arc;
use std::time::Duration;

use pugdb_core::env::{Env, Event};
use pugdb_core::{Error, Result};

use super::{Transaction, TransactionOptions};
use crate::database::Inner;

/// Whoever loses so many times in a row makes way before it tries again.
const LOSSES_WITHOUT_PAUSE: u32 = 3;
/// The first pause is at most so long, and the next ones twice as long each,
const PAUSE_MIN: Duration = Duration::from_micros(50);
/// up to here.
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// Runs `work` in a transaction and commits it, again when it has met others.
#[track_caller]
pub(crate) fn transact<R>(
    inner: &Arc<Inner>,
    options: TransactionOptions,
    mut work: impl FnMut(&mut Transaction) -> Result<R>,
) -> Result<R> {
    let mut losses = 0;
    loop {
        let mut transaction = Transaction::new(inner, options)?;
        let result = work(&mut transaction);
        let error = match result.and_then(|result| Ok((result, transaction.commit_ticket()?))) {
            Ok((result, ticket)) => {
                ticket.wait()?;
                return Ok(result);
            }
            Err(error) => error,
        };
        losses += 1;
        if !error.is_retry() {
            return Err(error);
        }
        if losses >= options.attempts.max(1) {
            return Err(Error::retry(format!(
                "the transaction has met others {losses} times in a row; try again later, or lock what it changes first \
                 (`get_for_update`)"
            )));
        }
        pause(&inner.options.env, losses);
    }
}

/// A random time, the longer the more often it has lost: those who have met shall not meet again.
fn pause(env: &Env, losses: u32) {
    let Some(pauses) = losses.checked_sub(LOSSES_WITHOUT_PAUSE) else { return };
    let longest = PAUSE_MIN.saturating_mul(1 << pauses.min(10)).min(PAUSE_MAX);
    let mut random = [0; 4];
    env.random.fill(&mut random);
    let longest_ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    let part = (u64::from(u32::from_le_bytes(random)) * longest_ns) >> 32;
    let until = env.clock.monotonic() + Duration::from_nanos(part);
    env.executor.block_until(&Event::default(), Some(until), &mut || false);
}
