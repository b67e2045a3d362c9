//! The signals that ask a server to end.

use std::future::{pending, poll_fn};
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Done when the process is asked to end, by SIGTERM or SIGINT. For [`Server::run`](crate::Server::run).
///
/// The signals keep their usual effect, the death of the process, until the future is first polled.
pub async fn shutdown_signal() {
    let mut signals: Vec<Signal> = [SignalKind::terminate(), SignalKind::interrupt()]
        .into_iter()
        .filter_map(|kind| signal(kind).ok())
        .collect();
    if signals.is_empty() {
        // Without handlers the signals keep their usual effect, and there is nothing to wait for.
        return pending().await;
    }
    poll_fn(|context| {
        // Each is polled, for each has to know whom to wake.
        let came = signals
            .iter_mut()
            .filter_map(|signal| signal.poll_recv(context).is_ready().then_some(()))
            .count();
        if came > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
