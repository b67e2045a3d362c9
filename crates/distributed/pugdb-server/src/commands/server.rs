//! Commands about the server as a whole: its time, its saves, its end. Those that take long hold no thread.

use std::time::Duration;

use bytes::Bytes;
use pugdb_wire::resp::Reply;
use tokio::task::spawn_blocking;

use super::table::{Command, commands};
use super::text;
use crate::arguments::{at, is, need_integer};
use crate::call::Call;
use crate::failure::Failure;
use crate::limits::DELAY_MAX;

const SAVE_RUNS: Failure = Failure::new("ERR Background save already in progress");

#[rustfmt::skip]
pub(super) const DEBUG: &[Command] = commands! {
    "debug|sleep" 3 [Admin Loading] [] Server "1.0.0" Run(sleep) "seconds" "Answers after some time." "It holds up its own connection only, an hour at most.";
};

/// `TIME`
pub(super) fn time(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let now = call.now().0;
    let (seconds, microseconds) = (now / 1000, now % 1000 * 1000);
    Ok(Reply::Array(vec![text(seconds.to_string()), text(microseconds.to_string())]))
}

/// `LASTSAVE`
pub(super) fn lastsave(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Integer(i64::try_from(call.shared.saves.last_s()).unwrap_or(i64::MAX)))
}

/// `SAVE`
pub(super) fn save(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    call.shared.begin_save().ok_or(SAVE_RUNS)?.save()?;
    Ok(Reply::OK)
}

/// `BGSAVE [SCHEDULE]`
pub(super) fn bgsave(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    match arguments.get(1..).unwrap_or_default() {
        [] => {}
        [word] if is(word, "schedule") => {}
        _ => return Err(Failure::SYNTAX),
    }
    let turn = call.shared.begin_save().ok_or(SAVE_RUNS)?;
    // INFO tells how it went.
    drop(spawn_blocking(move || turn.save()));
    Ok(Reply::simple("Background saving started"))
}

/// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`
pub(super) fn shutdown(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (mut saves, mut others, mut aborts) = (0, 0, 0);
    for word in arguments.iter().skip(1) {
        match word {
            word if is(word, "save") || is(word, "nosave") => saves += 1,
            word if is(word, "now") || is(word, "force") => others += 1,
            word if is(word, "abort") => aborts += 1,
            _ => return Err(Failure::SYNTAX),
        }
    }
    if saves > 1 || (aborts > 0 && saves + others > 0) {
        return Err(Failure::SYNTAX);
    }
    if aborts > 0 {
        // Whoever could ask is not served any more once one has begun.
        return Err(Failure::new("ERR No shutdown in progress."));
    }
    // Its end is the answer.
    call.silent = true;
    call.closing = true;
    call.shared.end.notify_one();
    Ok(Reply::OK)
}

/// `ROLE`
pub(super) fn role(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Array(vec![text("master"), Reply::Integer(0), Reply::Array(Vec::new())]))
}

/// `WAIT numreplicas timeout`
pub(super) fn wait(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let replicas = need_integer(at(arguments, 1)?)?;
    let timeout = need_integer(at(arguments, 2)?)
        .map_err(|_| Failure::new("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| Failure::new("ERR timeout is negative"))?;
    if replicas > 0 && !call.is_in_transaction() {
        call.wait_before_reply(Duration::from_millis(timeout));
    }
    Ok(Reply::Integer(0))
}

/// `DEBUG SLEEP seconds`
fn sleep(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let refused = Failure::new("ERR the time to sleep is a number of seconds from 0 to 3600");
    let seconds = std::str::from_utf8(at(arguments, 2)?).ok().and_then(|text| text.parse::<f64>().ok());
    let delay = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    call.wait_before_reply(delay.filter(|delay| *delay <= DELAY_MAX).ok_or(refused)?);
    Ok(Reply::OK)
}
