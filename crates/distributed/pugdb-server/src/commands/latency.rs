//! `LATENCY`: what took long, by kind of event, and how long each command takes.

use std::fmt::Write;

use bytes::Bytes;
use pugdb_wire::resp::Reply;

use super::table::{Command, commands};
use super::{count, text, verbatim};
use crate::arguments::{at, is};
use crate::call::Call;
use crate::failure::Failure;
use crate::slowlog::Event;
use crate::stats::CommandStats;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "latency|doctor" 2 [Admin Dangerous Loading] [] Server "2.8.13" Run(doctor) "" "Says what is slow and what can be done." "A short text.";
    "latency|graph" 3 [Admin Dangerous Loading] [] Server "2.8.13" Run(graph) "event" "Draws an event." "A line for each second, with a bar.";
    "latency|histogram" -2 [Admin Dangerous Loading] [] Server "7.0.0" Run(histogram) "[command [command ...]]" "Shows how long commands took." "";
    "latency|history" 3 [Admin Dangerous Loading] [] Server "2.8.13" Run(history) "event" "Shows an event by the second." "The events are command and fast-command.";
    "latency|latest" 2 [Admin Dangerous Loading] [] Server "2.8.13" Run(latest) "" "Shows all events, as they last came." "The events are command and fast-command.";
    "latency|reset" -2 [Admin Dangerous Loading] [] Server "2.8.13" Run(reset) "[event [event ...]]" "Forgets events." "";
};

/// The widest bar of a graph.
const BAR: u64 = 60;

fn number(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The event of an argument, if there is one of that name.
fn event_named(call: &Call<'_>, name: &[u8]) -> Option<(&'static str, Event)> {
    call.shared.latency.all().into_iter().find(|(known, _)| is(name, known))
}

/// `LATENCY LATEST`
fn latest(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let describe = |(name, event): (&str, Event)| {
        let (at, milliseconds) = event.samples.back().copied().unwrap_or_default();
        Reply::Array(vec![text(name), number(at), number(milliseconds), number(event.milliseconds_max)])
    };
    Ok(Reply::Array(call.shared.latency.all().into_iter().map(describe).collect()))
}

/// `LATENCY HISTORY event`
fn history(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let samples = event_named(call, at(arguments, 2)?).map(|(_, event)| event.samples).unwrap_or_default();
    let describe = |(at, milliseconds)| Reply::Array(vec![number(at), number(milliseconds)]);
    Ok(Reply::Array(samples.into_iter().map(describe).collect()))
}

/// `LATENCY RESET [event ...]`
fn reset(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let asked = arguments.get(2..).unwrap_or_default();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|word| is(word, name));
    Ok(count(call.shared.latency.forget(is_asked)))
}

/// `LATENCY GRAPH event`
fn graph(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let found = event_named(call, at(arguments, 2)?);
    let (name, event) = found.ok_or(Failure::new("ERR there are no samples of this event"))?;
    let highest = event.samples.iter().map(|(_, milliseconds)| *milliseconds).max().unwrap_or(1).max(1);
    let mut drawn = format!("{name} - high {highest} ms (all time high {} ms)\n", event.milliseconds_max);
    let now = call.shared.now_s();
    for (at, milliseconds) in &event.samples {
        let bar = "#".repeat(usize::try_from(milliseconds * BAR / highest).unwrap_or(0));
        // Writing to a string does not fail.
        let _ = writeln!(drawn, "{:>8} s ago {milliseconds:>8} ms {bar}", now.saturating_sub(*at));
    }
    Ok(verbatim(drawn))
}

/// `LATENCY DOCTOR`
fn doctor(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let threshold = call.shared.settings.latency_ms.load(std::sync::atomic::Ordering::Relaxed);
    let events = call.shared.latency.all();
    let mut told = String::new();
    // Writing to a string does not fail.
    let _ = match threshold {
        0 => writeln!(
            told,
            "Nothing is watched: CONFIG SET latency-monitor-threshold <milliseconds> begins it."
        ),
        _ if events.is_empty() => writeln!(told, "No command took {threshold} ms or longer."),
        _ => writeln!(told, "Commands that took {threshold} ms or longer, by kind:"),
    };
    for (name, event) in &events {
        let last = event.samples.back().map_or(0, |(_, milliseconds)| *milliseconds);
        let (seconds, worst) = (event.samples.len(), event.milliseconds_max);
        let _ = writeln!(told, "- {name}: in {seconds} seconds, last {last} ms, worst {worst} ms.");
    }
    if !events.is_empty() {
        told.push_str(
            "SLOWLOG GET names the commands. KEYS, SCAN with a large COUNT, FLUSHALL and large values are the usual ones; \
             if plain writes are among them, the disk is slower than the writers.\n",
        );
    }
    Ok(verbatim(told))
}

/// `LATENCY HISTOGRAM [command ...]`
fn histogram(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let asked = arguments.get(2..).unwrap_or_default();
    let is_asked = |name: &str| {
        // A container stands for all commands in it.
        let container = name.split('|').next().unwrap_or(name);
        asked.is_empty() || asked.iter().any(|word| is(word, name) || is(word, container))
    };
    let stats = call.shared.command_stats.all();
    let called = stats.filter(|(name, stats)| stats.calls.get() > 0 && is_asked(name));
    Ok(Reply::Map(called.map(|(name, stats)| (text(name), distribution(stats))).collect()))
}

/// How many calls took at most so many microseconds, where that changes.
fn distribution(stats: &CommandStats) -> Reply {
    let mut seen = 0;
    let mut steps = Vec::new();
    for (microseconds, calls) in stats.histogram() {
        seen += calls;
        if calls > 0 {
            steps.push((number(microseconds.unwrap_or(1 << (crate::stats::BUCKETS - 1))), number(seen)));
        }
    }
    Reply::Map(vec![(text("calls"), number(seen)), (text("histogram_usec"), Reply::Map(steps))])
}
