//! Ctrl-C and SIGTERM: the first asks to end cleanly, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::outcome::{Exit, Failure};

/// Tells whether a signal has come. From its making on the signals no longer kill at once.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over both signals.
    pub(crate) fn install() -> Self {
        Self::install_for_signals(&[(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)])
    }

    /// Takes over Ctrl-C only: who waits for a key does not look at the flag.
    pub(crate) fn install_for_keys() -> Self {
        Self::install_for_signals(&[(SIGINT, Exit::Interrupted)])
    }

    /// Takes over none.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        Self::install_for_signals(&[])
    }

    /// As if Ctrl-C had come.
    #[cfg(test)]
    pub(crate) fn that_came() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    fn install_for_signals(signals: &[(i32, Exit)]) -> Self {
        let came = Arc::new(AtomicBool::new(false));
        for &(signal, exit) in signals {
            // In this order: the first signal finds the flag down and only sets it, the second finds it up. Where a
            // handler cannot be installed the signal keeps its usual effect.
            let _ = flag::register_conditional_shutdown(signal, exit as i32, Arc::clone(&came));
            let _ = flag::register(signal, Arc::clone(&came));
        }
        Self(came)
    }

    /// True when a signal has come.
    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// True when a signal has come since the last time, which is forgotten with this: the next one asks again.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    /// A failure when a signal has come.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.came() { Err(Failure::new(Exit::Interrupted, "stopped on request")) } else { Ok(()) }
    }
}
