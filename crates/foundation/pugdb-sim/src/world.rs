//! The world: one disk, one clock, one scheduler and all randomness, from one seed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use pugdb_core::Timestamp;
use pugdb_core::env::{Clock, Env, Random};

use crate::disk::{ContentFate, Disk, NameFate, fate};
use crate::faults::{CallKind, Faults};
use crate::scheduler::Scheduler;

/// The calendar when the stopwatch starts: 2026-01-01.
const EPOCH_MS: u64 = 1_767_225_600_000;
const REBOOT_TIME: Duration = Duration::from_secs(1);
const RESTART_TIME: Duration = Duration::from_millis(10);
const FIRST_PROCESS: u32 = 1000;

/// A simulated world behind an [`Env`]: everything that happens in it follows from its seed and the calls made.
///
/// It lives as long as a handle to it: when the last `World` is dropped, so are its background jobs.
///
/// ```
/// use std::path::Path;
/// use pugdb_sim::World;
///
/// let world = World::new(7);
/// let file = world.env().fs.create(Path::new("file"))?;
/// file.write_at(b"pug", 0)?;
/// drop(file);
/// let world = world.kill();
/// assert_eq!(world.read_file("file")?, b"pug");
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct World(Arc<Keeper>);

/// Ends the jobs with the last handle: they hold the machine, and the machine holds them.
struct Keeper(Arc<Machine>);

/// One life of the machine, from start to kill or power cut.
pub(crate) struct Machine {
    pub(crate) seed: u64,
    pub(crate) process: u32,
    fate: Option<(ContentFate, NameFate)>,
    pub(crate) scheduler: Scheduler,
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) disk: Disk,
    pub(crate) faults: Faults,
    pub(crate) clock: Duration,
    calendar_ms: i64,
    /// Decides what faults do.
    pub(crate) chance: Rng,
    /// Feeds [`Random`]: a stream of its own, so that a fault more does not shift ids.
    random: Rng,
}

/// The machine as each part of an [`Env`].
pub(crate) struct Part(pub(crate) Arc<Machine>);

impl World {
    /// A new world with an empty disk.
    pub fn new(seed: u64) -> Self {
        let mut streams = Rng::with_seed(seed);
        Self::start(Machine {
            seed,
            process: FIRST_PROCESS,
            fate: None,
            scheduler: Scheduler::new(streams.fork()),
            state: Mutex::new(State {
                disk: Disk::new(),
                faults: Faults::default(),
                clock: Duration::ZERO,
                calendar_ms: 0,
                chance: streams.fork(),
                random: streams.fork(),
            }),
        })
    }

    /// The door through which a program sees this world.
    pub fn env(&self) -> Env {
        let part = Arc::new(Part(Arc::clone(&self.0.0)));
        Env { fs: part.clone(), clock: part.clone(), random: part.clone(), executor: part }
    }

    /// The seed that everything follows from.
    pub fn seed(&self) -> u64 {
        self.machine().seed
    }

    // The end of a life.

    /// The power is cut: the world after the reboot, whose disk holds what survived.
    ///
    /// Faults and the count of calls start anew, capacity stays, and so does whether a trace is kept. This world is
    /// off from now on. Cutting it again gives another outcome of the same moment.
    #[must_use]
    pub fn power_cut(&self) -> Self {
        let (content, names) = fate::draw(&mut self.machine().state.lock().chance);
        self.power_cut_as(content, names)
    }

    /// As [`power_cut`](Self::power_cut), with a fate that the test chooses.
    #[must_use]
    pub fn power_cut_as(&self, content: ContentFate, names: NameFate) -> Self {
        self.succeed(Some((content, names)), REBOOT_TIME)
    }

    /// The process dies and the machine lives: all content is there, and what was unsynced still is.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.succeed(None, RESTART_TIME)
    }

    /// What the power cut before this life did to content and names; `None` when there was none.
    pub fn fate(&self) -> Option<(ContentFate, NameFate)> {
        self.machine().fate
    }

    fn succeed(&self, fate: Option<(ContentFate, NameFate)>, pause: Duration) -> Self {
        let old = self.machine();
        old.state.lock().faults.off = true;
        old.scheduler.clear();
        // Predicates may hold the world, too.
        self.heal();
        let scheduler = old.scheduler.successor();
        let mut state = old.state.lock();
        let mut chance = state.chance.fork();
        let mut disk = state.disk.clone();
        match fate {
            Some((content, names)) => disk.settle(content, names, &mut chance),
            None => disk.let_go(),
        }
        let state = State {
            disk,
            faults: Faults {
                reads_uncounted: state.faults.reads_uncounted,
                trace: state.faults.trace.as_ref().map(|_| Vec::new()),
                ..Faults::default()
            },
            clock: state.clock + pause,
            calendar_ms: state.calendar_ms,
            chance,
            random: state.random.fork(),
        };
        let (seed, process) = (old.seed, old.process + 1);
        Self::start(Machine { seed, process, fate, scheduler, state: Mutex::new(state) })
    }

    // Background jobs.

    /// Runs one slice of a job that can run now, the seed choosing which. False when there is none.
    pub fn step(&self) -> bool {
        self.machine().step()
    }

    /// Runs a few slices or none, as the seed wants it.
    pub fn maybe_step(&self) {
        self.machine().maybe_step(3);
    }

    /// Runs jobs until none can run now. Time does not pass for timers.
    ///
    /// # Panics
    /// When they never come to rest.
    pub fn run_until_idle(&self) {
        self.machine().run_until_idle();
    }

    // Time.

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.machine().advance(time);
    }

    /// Moves the calendar, forward or back. The stopwatch does not notice.
    pub fn jump_calendar(&self, milliseconds: i64) {
        let mut state = self.machine().state.lock();
        state.calendar_ms = state.calendar_ms.saturating_add(milliseconds);
    }

    // Faults.

    /// How many calls to the disk were counted so far. The first call has number 1.
    pub fn calls(&self) -> u64 {
        self.machine().state.lock().faults.calls
    }

    /// Whether calls that only read (open, list, read, length) have a number; at first they do.
    pub fn count_reads(&self, count: bool) {
        self.machine().state.lock().faults.reads_uncounted = !count;
    }

    /// Starts or ends the keeping of a [trace](Self::trace).
    pub fn keep_trace(&self, keep: bool) {
        self.machine().state.lock().faults.trace = keep.then(Vec::new);
    }

    /// The counted calls since [`keep_trace`](Self::keep_trace), each a line as `17 sync_data log/0-1.log`.
    pub fn trace(&self) -> Vec<String> {
        self.machine().state.lock().faults.trace.clone().unwrap_or_default()
    }

    /// Fails call number `call`, once.
    pub fn fail_call(&self, call: u64, kind: io::ErrorKind) {
        self.machine().state.lock().faults.once.insert(call, kind);
    }

    /// Fails every call from number `call` on.
    pub fn fail_from(&self, call: u64, kind: io::ErrorKind) {
        self.machine().state.lock().faults.from = Some((call, kind));
    }

    /// Fails every call for which `when` names an error. It sees paths without a root, as the trace shows them.
    pub fn fail_when(&self, when: impl Fn(CallKind, &Path) -> Option<io::ErrorKind> + Send + Sync + 'static) {
        let old = self.machine().state.lock().faults.when.replace(Arc::new(when));
        drop(old);
    }

    /// Takes back [`fail_call`](Self::fail_call), [`fail_from`](Self::fail_from), [`fail_when`](Self::fail_when) and
    /// [`ignore_syncs`](Self::ignore_syncs).
    pub fn heal(&self) {
        let mut state = self.machine().state.lock();
        let faults = &mut state.faults;
        faults.once.clear();
        faults.from = None;
        let old = (faults.when.take(), faults.ignore_syncs.take());
        drop(state);
        drop(old);
    }

    /// Stops the machine in call number `call`: a write may be done in part, anything else is not done, and every
    /// later call fails. The test then drops its handles and goes on with [`power_cut`](Self::power_cut) or
    /// [`kill`](Self::kill).
    pub fn stop_at(&self, call: u64) {
        self.machine().state.lock().faults.stop = Some(call);
    }

    /// True once the machine has stopped.
    pub fn is_off(&self) -> bool {
        self.machine().state.lock().faults.off
    }

    /// Makes the disk lie: a sync for which `lie` is true says yes and makes nothing durable.
    pub fn ignore_syncs(&self, lie: impl Fn(CallKind, &Path) -> bool + Send + Sync + 'static) {
        let old = self.machine().state.lock().faults.ignore_syncs.replace(Arc::new(lie));
        drop(old);
    }

    /// How many bytes all files together may take; `None` is no limit. A file takes the greatest length it has had.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine().state.lock().disk.set_capacity(bytes);
    }

    /// How many files the process may have open; 1,024 when nothing is said. To open one more fails.
    pub fn set_open_files_max(&self, files: usize) {
        self.machine().state.lock().disk.set_handles_max(files);
    }

    /// How many bytes all files together take.
    pub fn used(&self) -> u64 {
        self.machine().state.lock().disk.used()
    }

    // The disk behind the program's back: never counted, never failing, durable at once.

    /// Every file with its length, by path (without a root).
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.machine().state.lock().disk.list_files()
    }

    /// A file's content as the program would read it.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.machine().state.lock().disk.read_file(path.as_ref())
    }

    /// Makes or replaces a file and its directories. All other names in these become durable too.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.machine().state.lock().disk.write_file(path.as_ref(), bytes)
    }

    /// Removes a file. All other names in its directory become durable too.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let disk = &mut self.machine().state.lock().disk;
        disk.remove(path)?;
        disk.sync_dir(path.parent().unwrap_or(Path::new("")))
    }

    /// Cuts a file off, or extends it with zeros. All of its content becomes durable.
    pub fn truncate_file(&self, path: impl AsRef<Path>, length: u64) -> io::Result<()> {
        self.machine().state.lock().disk.truncate_file(path.as_ref(), length)
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`, in the cache and on the medium.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> io::Result<()> {
        self.machine().state.lock().disk.flip_bit(path.as_ref(), offset, bit)
    }

    fn start(machine: Machine) -> Self {
        Self(Arc::new(Keeper(Arc::new(machine))))
    }

    fn machine(&self) -> &Machine {
        &self.0.0
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World(seed {}, process {})", self.machine().seed, self.machine().process)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.scheduler.clear();
    }
}

impl Machine {
    pub(crate) fn now(&self) -> Duration {
        self.state.lock().clock
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.state.lock().clock += time;
    }

    pub(crate) fn advance_to(&self, at: Duration) {
        let mut state = self.state.lock();
        state.clock = state.clock.max(at);
    }
}

impl Clock for Part {
    fn now(&self) -> Timestamp {
        let state = self.0.state.lock();
        let passed = u64::try_from(state.clock.as_millis()).unwrap_or(u64::MAX);
        Timestamp(EPOCH_MS.saturating_add(passed).saturating_add_signed(state.calendar_ms))
    }

    fn monotonic(&self) -> Duration {
        Machine::now(&self.0)
    }
}

impl Random for Part {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.state.lock().random.fill(bytes);
    }
}
