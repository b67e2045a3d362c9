//! Stdin as a signal ends it: whoever waits for the next byte of a pipe, or for a person, is woken by Ctrl-C.

use std::io::{self, Read};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::interrupt::Interrupt;

/// A signal that comes between the look at the flag and the wait is seen after so long.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Unbuffered stdin. Once the signal has come a read fails: what a pipe still brings may be cut off, since the same
/// Ctrl-C ends who writes to it.
pub(crate) struct PatientStdin {
    interrupt: Interrupt,
}

impl PatientStdin {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        Self { interrupt }
    }
}

impl Read for PatientStdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        loop {
            if self.interrupt.came() {
                // Not `Interrupted`: that kind asks to try again.
                return Err(io::Error::other("stopped on request"));
            }
            let mut waited = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut waited, Some(&LOOK_EVERY)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(&stdin, &mut *buffer)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
