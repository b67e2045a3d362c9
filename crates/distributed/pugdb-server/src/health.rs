//! Whether the server can do its work, for `/readyz`.

use std::path::Path;

use crate::limits::DISK_FREE_BYTES_MIN;
use crate::shared::Shared;

/// What decides whether a server is ready.
#[derive(Clone, Debug, Default)]
struct State {
    is_ending: bool,
    is_closed: bool,
    /// What the database says of its failure.
    failure: Option<String>,
    /// The reserve is spent.
    is_disk_full: bool,
    disk_free_bytes: Option<u64>,
}

/// `Ok` when it takes reads and writes; else one sentence that says why not.
pub(crate) fn readiness(shared: &Shared) -> Result<(), String> {
    let stats = shared.db.stats();
    judge(&State {
        is_ending: shared.is_ending(),
        is_closed: stats.is_err(),
        is_disk_full: stats.is_ok_and(|stats| stats.is_disk_full),
        failure: shared.db.failure().map(|failure| failure.to_string()),
        disk_free_bytes: disk_free_bytes(shared),
    })
}

/// What is free where the data lies.
pub(crate) fn disk_free_bytes(shared: &Shared) -> Option<u64> {
    shared.options.data_dir.as_deref().and_then(free_bytes)
}

fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn judge(state: &State) -> Result<(), String> {
    if state.is_ending {
        return Err("the server is shutting down".into());
    }
    if state.is_closed {
        return Err("the database is closed".into());
    }
    if let Some(failure) = &state.failure {
        return Err(format!("the database refuses writes: {failure}"));
    }
    if state.is_disk_full {
        return Err("the disk is full: only deletes and reads go on".into());
    }
    match state.disk_free_bytes {
        Some(free) if free < DISK_FREE_BYTES_MIN => {
            Err(format!("the disk is full: {free} bytes are free, at least {DISK_FREE_BYTES_MIN} are needed"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_not_to_be_ready_is_told() {
        let ready = State { disk_free_bytes: Some(DISK_FREE_BYTES_MIN), ..State::default() };
        assert_eq!(judge(&ready), Ok(()));
        assert_eq!(judge(&State::default()), Ok(()), "on no disk nothing is full");
        let cases = [
            (State { is_ending: true, ..ready.clone() }, "shutting down"),
            (State { is_closed: true, ..ready.clone() }, "closed"),
            (State { failure: Some("a sync failed".into()), ..ready.clone() }, "a sync failed"),
            (State { is_disk_full: true, ..ready.clone() }, "the disk is full: only deletes"),
            (
                State { disk_free_bytes: Some(DISK_FREE_BYTES_MIN - 1), ..ready },
                "the disk is full: 134217727 ",
            ),
        ];
        for (state, reason) in cases {
            assert!(judge(&state).unwrap_err().contains(reason), "{state:?}");
        }
    }

    #[test]
    fn the_room_on_a_disk_is_asked_for() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert_eq!(free_bytes(Path::new("/nowhere/at/all")), None);
    }
}
