//! How much memory a process may use, and what its parts may have of it.
//!
//! Bounds of parts that know nothing of one another add up to more than a small container has.
//! Every part that grows with what comes in therefore gets its share of one bound. What the parts
//! do not count (the program itself, idle connections, copies on their way) is why the shares
//! together are well below the whole.

use procfs::Current;

use super::settings::Problem;

/// The setting's variable.
pub const VARIABLE: &str = "ROOMCAST_MEMORY_BYTES_MAX";

/// A mebibyte.
pub const MIB: usize = 1024 * 1024;

/// Where a container's bound stands: cgroup 2 and 1.
const CONTAINER_BOUNDS: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Where nobody says how much there is.
const UNKNOWN: u64 = 2 * 1024 * 1024 * 1024;

/// The smaller of what a container is allowed and what the machine has, in bytes.
#[must_use]
pub fn available() -> Option<u64> {
    let read = |path: &&str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = procfs::Meminfo::current().ok().map(|memory| memory.mem_total);
    CONTAINER_BOUNDS.iter().filter_map(read).chain(machine).min()
}

/// What is wrong with the setting, where a process needs `least` bytes.
#[must_use]
pub fn problem(setting: u64, least: u64) -> Option<Problem> {
    let text = format!("{setting} bytes are not enough: {least} at least, or 0");
    (setting != 0 && setting < least).then(|| Problem::new(VARIABLE, text))
}

/// The bytes that a process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBound(u64);

impl MemoryBound {
    /// What the setting says; 0 is half of what there is.
    #[must_use]
    pub fn new(setting: u64) -> MemoryBound {
        MemoryBound(match setting {
            0 => available().unwrap_or(UNKNOWN) / 2,
            bytes => bytes,
        })
    }

    /// All of it.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The share of one part, one in so many, and never more than `most`.
    #[must_use]
    pub fn share(self, one_in: u64, most: usize) -> usize {
        usize::try_from(self.0 / one_in).unwrap_or(usize::MAX).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_what_is_set_and_half_of_what_there_is_by_default() {
        let bound = MemoryBound::new(128 * MIB as u64);
        assert_eq!((bound.share(4, usize::MAX), bound.share(4, 10)), (32 * MIB, 10));
        assert_eq!(Some(MemoryBound::new(0).bytes()), available().map(|bytes| bytes / 2));
        assert!(problem(0, 10).is_none() && problem(10, 10).is_none());
        assert!(problem(9, 10).is_some());
    }
}
