//! Files, locks and jobs of the real system.

use super::*;

#[test]
fn a_lock_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("LOCK");
    let held = OsFileSystem.lock(&path).unwrap();
    let error = OsFileSystem.lock(&path).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(error.to_string(), std::process::id().to_string());
    drop(held);
    assert!(OsFileSystem.lock(&path).is_ok());
}

#[test]
fn allocation_gives_zeros_and_a_real_size() {
    let dir = tempfile::tempdir().unwrap();
    let file = OsFileSystem.create(&dir.path().join("file")).unwrap();
    file.write_at(b"pug", 2).unwrap();
    file.allocate(100).unwrap();
    file.allocate(50).unwrap();
    let mut buffer = [9; 101];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 100);
    assert_eq!(buffer[..6], *b"\0\0pug\0");
    assert!(OsFileSystem.create(&dir.path().join("file")).is_err());
}

/// A file whose sync fails.
struct Broken;

impl File for Broken {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn several_files_are_synced_and_one_that_fails_is_told_wherever_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let sound = |number: usize| OsFileSystem.create(&dir.path().join(number.to_string())).unwrap();
    let mut files: Vec<Arc<dyn File>> = Vec::new();
    for count in 0..20 {
        OsFileSystem.sync_contents(&files).unwrap();
        files.push(sound(count));
    }
    for place in 0..files.len() {
        let whole = std::mem::replace(&mut files[place], Arc::new(Broken));
        let error = OsFileSystem.sync_contents(&files).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "at {place}");
        files[place] = whole;
    }
}

#[test]
fn what_is_stored_through_a_window_is_read_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = OsFileSystem.create(&dir.path().join("file")).unwrap();
    // A file system of an unknown kind gives no window, and there is nothing to see then.
    let Some(mut window) = file.allocate_and_map(8192).unwrap() else { return };
    window.write_at(b"pug", 4094);
    let mut buffer = [9; 5];
    file.read_exact_at(&mut buffer, 4093).unwrap();
    assert_eq!(&buffer, b"\0pug\0");
    let behind = catch_unwind(AssertUnwindSafe(|| window.write_at(b"pug", 8190)));
    assert!(behind.is_err(), "it would have been stored behind the end");
    assert_eq!(file.length().unwrap(), 8192);
}

struct Countdown(u32);

impl Job for Countdown {
    fn run(&mut self) -> Next {
        self.0 -= 1;
        if self.0 == 0 { Next::Done } else { Next::Wait }
    }
}

#[test]
fn a_job_runs_each_time_it_is_woken() {
    let executor = OsExecutor::new(OsClock::new());
    let handle = executor.spawn("countdown", Box::new(Countdown(5)));
    let deadline = executor.clock.monotonic() + Duration::from_mins(1);
    while !executor.block_until(&Event::default(), Some(Duration::ZERO), &mut || handle.is_done()) {
        handle.wake();
        assert!(executor.clock.monotonic() < deadline, "the job did not end");
    }
    handle.join(&executor).unwrap();
}

struct Panics;

impl Job for Panics {
    fn run(&mut self) -> Next {
        panic!("on purpose")
    }
}

#[test]
fn a_panicking_job_is_an_internal_error() {
    let executor = OsExecutor::new(OsClock::new());
    let error = executor.spawn("panics", Box::new(Panics)).join(&executor).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Internal);
}
