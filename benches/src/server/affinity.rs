//! Which cores processes run on.

use crate::error::LoadError;
use crate::usage::task_ids;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the server under load.
pub(super) const SERVER: usize = 0;
/// The core of everything else.
pub(super) const OTHERS: usize = 1;

/// Runs all threads of this process on one core, and what it starts from now on.
pub(super) fn pin_self(core: usize) -> Result<(), LoadError> {
    let mut set = CpuSet::new();
    set.set(core);
    for thread in task_ids(std::process::id()) {
        let thread = Pid::from_raw(thread.cast_signed());
        sched_setaffinity(thread, &set).map_err(|errno| {
            LoadError::io(format!("--pin: running on core {core}"), errno.into())
        })?;
    }
    Ok(())
}

/// What is started within runs on the server's core, from its first instruction on: a runtime
/// counts the cores that it may use when it starts.
pub(super) fn on_server_core<T>(
    pin: bool,
    start: impl FnOnce() -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    if pin {
        pin_self(SERVER)?;
    }
    let started = start();
    if pin {
        pin_self(OTHERS)?;
    }
    started
}
