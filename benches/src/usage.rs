//! CPU time and memory of processes, with their children.

use crate::clock;
use std::collections::BTreeMap;
use std::fs;

/// The kernel's unit of time in `/proc/stat`.
const TICK_NS: u64 = 10_000_000;

/// A process that is watched, with its children: a Postgres is many processes.
#[derive(Debug)]
pub struct Watched {
    /// What it is called in the result.
    pub name: String,
    /// The process ids; several gateways are one name.
    pub pids: Vec<u32>,
    /// CPU nanoseconds by thread, those of ended ones too, as seen last.
    threads: BTreeMap<u32, u64>,
    with_children: bool,
}

/// What a process has used at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// When, by [`clock::now`].
    pub at: u64,
    /// CPU time of all its threads, in nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Resident memory with shared pages divided among those who share them, in KiB.
    pub pss_kib: u64,
}

impl Watched {
    /// A process under a name.
    pub fn new(name: &str, pids: Vec<u32>) -> Watched {
        Watched { name: name.to_owned(), pids, threads: BTreeMap::new(), with_children: true }
    }

    /// A process without its children.
    pub fn alone(name: &str, pid: u32) -> Watched {
        Watched { with_children: false, ..Watched::new(name, vec![pid]) }
    }

    /// What it has used. Asked now and then, so that threads that ended since are counted.
    pub fn sample(&mut self) -> Usage {
        let mut usage = Usage { cpu_ns: self.cpu_ns(), at: clock::now(), ..Usage::default() };
        for pid in self.family() {
            let (rss, pss) = memory(pid);
            usage.rss_kib += rss;
            usage.pss_kib += pss;
        }
        usage
    }

    /// Its CPU time alone, which is cheap to ask.
    pub fn cpu_ns(&mut self) -> u64 {
        for pid in self.family() {
            for (thread, nanos) in threads(pid) {
                self.threads.insert(thread, nanos);
            }
        }
        self.threads.values().sum()
    }

    /// Its processes and their children, and so on.
    fn family(&self) -> Vec<u32> {
        let mut family = self.pids.clone();
        if !self.with_children {
            return family;
        }
        let mut next = 0;
        while let Some(pid) = family.get(next).copied() {
            for thread in task_ids(pid) {
                let children = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
                let children = children.unwrap_or_default();
                family.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            }
            next += 1;
        }
        family
    }
}

/// CPU nanoseconds that all processes of this machine have used, to the tick of 10 ms.
pub fn machine_cpu_ns() -> u64 {
    busy_ticks(&fs::read_to_string("/proc/stat").unwrap_or_default()) * TICK_NS
}

/// All but idle and waiting of the first line: user, nice, system, irq, softirq and steal. What a
/// guest uses is in user already.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let fields = line.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0));
    fields
        .take(8)
        .enumerate()
        .filter(|(place, _)| !matches!(place, 3 | 4))
        .map(|field| field.1)
        .sum()
}

/// The threads of a process; none of one that is gone.
pub fn task_ids(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// CPU nanoseconds of each thread, the first number of its `schedstat`.
fn threads(pid: u32) -> Vec<(u32, u64)> {
    let of_thread = |thread: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
        Some((thread, text.split_whitespace().next()?.parse().ok()?))
    };
    task_ids(pid).into_iter().filter_map(of_thread).collect()
}

/// Resident KiB, and the same with shared pages divided.
fn memory(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    (field("Rss:").unwrap_or(0), field("Pss:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_burns_is_counted_when_it_has_ended_too() {
        let mut own = Watched::new("own", vec![std::process::id()]);
        let before = own.sample();
        assert!(before.rss_kib > 500 && before.pss_kib > 0, "{before:?}");
        let burn = std::thread::spawn(|| {
            let until = clock::now() + 60 * clock::MILLISECOND;
            while clock::now() < until {}
            std::thread::park();
        });
        let until = clock::now() + 10 * clock::SECOND;
        while own.cpu_ns() < before.cpu_ns + 20 * clock::MILLISECOND {
            assert!(clock::now() < until, "no CPU time is seen");
        }
        let seen = own.cpu_ns();
        burn.thread().unpark();
        burn.join().unwrap();
        assert!(own.cpu_ns() >= seen);
    }

    #[test]
    fn the_machine_is_busy_with_everything_but_idling_and_waiting() {
        let stat = "cpu  100 20 3 9000 800 4 5 6 70 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), 100 + 20 + 3 + 4 + 5 + 6);
        assert!(machine_cpu_ns() > 0);
    }

    #[test]
    fn children_are_counted_with_their_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = Watched::new("own", vec![std::process::id()]);
        assert!(own.family().contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
