//! The control thread: sleeps, writes a page, and notes when that took far too long. What is slow meanwhile the machine
//! has held up, and no store.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pugdb_ycsb::moment;

use crate::record::Row;

/// How long it sleeps between two writes.
const SLEEP: Duration = Duration::from_millis(2);
/// It was held up when it woke and wrote so much later than it would have.
const STALL: Duration = Duration::from_millis(5);
/// What it writes at once, and the file that it does so in turn in.
const PAGE: [u8; 4096] = [0x5a; 4096];
const PAGES: u64 = 256;

/// A stretch of time, by [`moment`].
type Stretch = (Duration, Duration);

/// The running thread.
#[derive(Debug)]
pub struct Control {
    stop: Arc<AtomicBool>,
    noted: Arc<Mutex<Noted>>,
    thread: Option<JoinHandle<()>>,
}

/// What it has seen.
#[derive(Debug, Default)]
struct Noted {
    stalls: Vec<Stretch>,
    /// Since somebody asked last.
    slowest: Duration,
}

impl Control {
    /// Starts it, on the disk that `dir` is on.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn start(dir: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(dir)?;
        file.set_len(PAGES * PAGE.len() as u64)?;
        let (stop, noted) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let thread = thread::spawn({
            let (stop, noted) = (Arc::clone(&stop), Arc::clone(&noted));
            move || watch(&file, &stop, &noted)
        });
        Ok(Self { stop, noted, thread: Some(thread) })
    }

    /// Writes into a row what was seen while it was measured: everything since the last row.
    pub fn judge(&self, row: &mut Row) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let slow: Vec<Stretch> = row.slow_us.drain(..).map(|(start, end)| (us(start), us(end))).collect();
        row.control_max_us = Some(in_us(std::mem::take(&mut noted.slowest)));
        row.calm_max_us =
            Some(calm(&slow, &noted.stalls).map_or(row.max_us.min(in_us(pugdb_ycsb::SLOW)), in_us));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

fn watch(file: &File, stop: &AtomicBool, noted: &Mutex<Noted>) {
    for page in (0..PAGES).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let start = moment();
        thread::sleep(SLEEP);
        if file.write_all_at(&PAGE, page * PAGE.len() as u64).is_err() {
            eprintln!("the control thread cannot write, and sees nothing from here on");
            return;
        }
        let end = moment();
        let late = end.saturating_sub(start + SLEEP);
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.slowest = noted.slowest.max(late);
        if late > STALL {
            noted.stalls.push((start, end));
        }
    }
}

/// How long the slowest of these took that no stall overlaps.
fn calm(slow: &[Stretch], stalls: &[Stretch]) -> Option<Duration> {
    let is_calm = |one: &&Stretch| !stalls.iter().any(|stall| one.0 < stall.1 && stall.0 < one.1);
    slow.iter().filter(is_calm).map(|(start, end)| end.saturating_sub(*start)).max()
}

fn us(microseconds: u64) -> Duration {
    Duration::from_micros(microseconds)
}

fn in_us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(ms: &[(u64, u64)]) -> Vec<Stretch> {
        ms.iter().map(|&(start, end)| (us(start * 1000), us(end * 1000))).collect()
    }

    #[test]
    fn what_overlaps_a_stall_is_the_machines_and_the_rest_the_stores() {
        let stalls = stretches(&[(10, 20), (50, 60)]);
        for (slow, slowest) in [
            (&[(0, 9)][..], Some(9)),
            (&[(0, 10), (20, 26)], Some(10)),
            (&[(0, 11), (19, 30), (12, 13), (5, 70)], None),
            (&[(0, 11), (30, 37)], Some(7)),
            (&[], None),
        ] {
            assert_eq!(calm(&stretches(slow), &stalls), slowest.map(|ms| us(ms * 1000)), "{slow:?}");
        }
    }

    #[test]
    fn a_quiet_row_is_judged_by_its_slowest() {
        let control = Control::start(&std::env::temp_dir()).expect("a file can be made");
        let mut row = Row { max_us: 700.0, ..Row::default() };
        thread::sleep(SLEEP * 4);
        control.judge(&mut row);
        assert_eq!(row.calm_max_us, Some(700.0));
        assert!(row.control_max_us.is_some_and(|us| us > 0.0));
    }
}
