//! What `/proc` says about processes: who lives, who is whose child, which are standing still.

use ::procfs::process::{Process, Stat, all_processes};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::str::FromStr;

/// One process, told apart from a later one that was given the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pid: u32,
    /// In clock ticks since the machine was started.
    start: u64,
}

impl Identity {
    /// The process that has this number now; none where nobody has, or a zombie.
    pub(crate) fn of(pid: u32) -> Option<Identity> {
        let stat = Process::new(pid.cast_signed()).and_then(|process| process.stat()).ok()?;
        (!matches!(stat.state, 'Z' | 'X')).then(|| identity(&stat))
    }

    pub(crate) fn is_alive(self) -> bool {
        Identity::of(self.pid) == Some(self)
    }

    /// Whether every thread stands still after SIGSTOP. A process that is gone stands still.
    pub(crate) fn is_stopped(self) -> bool {
        if !self.is_alive() {
            return true;
        }
        let threads = Process::new(self.pid.cast_signed()).and_then(|process| process.tasks());
        let stats = threads.into_iter().flatten().filter_map(|thread| thread.ok()?.stat().ok());
        // A thread that is ending counts as standing.
        stats.into_iter().all(|stat| matches!(stat.state, 'T' | 't' | 'Z' | 'X'))
    }

    /// Signals this process and never another: the handle is taken before the start time is
    /// compared, so the number cannot change hands in between. One that is gone is no error.
    pub(crate) fn signal(self, signal: Signal) -> std::io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid.cast_signed()) else { return Ok(()) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Its children, their children, and so on.
    pub(crate) fn descendants(self) -> Vec<Identity> {
        let all: Vec<Stat> = all_processes()
            .into_iter()
            .flatten()
            .filter_map(|process| process.ok()?.stat().ok())
            .collect();
        let mut found = vec![self];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            let children = all.iter().filter(|stat| stat.ppid == parent.pid.cast_signed());
            found.extend(children.map(identity));
            next += 1;
        }
        found.split_off(1)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.start)
    }
}

/// Reads what `Display` writes; the error says nothing because a file that holds something else
/// is none of ours.
impl FromStr for Identity {
    type Err = ();

    fn from_str(text: &str) -> Result<Identity, ()> {
        let (pid, start) = text.trim().split_once(' ').ok_or(())?;
        let pid = pid.parse().map_err(|_not_a_number| ())?;
        Ok(Identity { pid, start: start.parse().map_err(|_not_a_number| ())? })
    }
}

fn identity(stat: &Stat) -> Identity {
    Identity { pid: stat.pid.cast_unsigned(), start: stat.starttime }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_another_start_time_is_another_process() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert_eq!(own.to_string().parse(), Ok(own));
        let earlier = Identity { start: own.start - 1, ..own };
        assert!(!earlier.is_alive());
        // This would end the test if it reached us.
        earlier.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_child_is_a_descendant_and_gone_once_it_is_reaped() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        assert!(Identity::of(std::process::id()).unwrap().descendants().contains(&identity));
        assert!(!identity.is_stopped());
        identity.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!identity.is_alive());
        assert!("17 sheep".parse::<Identity>().is_err());
    }
}
