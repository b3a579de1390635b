//! How often something is done, and by whom.

use crate::clock;

/// Something that is done at a rate.
#[derive(Debug)]
pub(super) struct Rhythm {
    start: u64,
    rate: u64,
    taken: u64,
}

impl Rhythm {
    /// So many times a second, from now on.
    pub(super) fn new(rate: u64) -> Rhythm {
        Rhythm { start: clock::now(), rate: rate.max(1), taken: 0 }
    }

    /// When it is due next.
    pub(super) fn next(&self) -> u64 {
        self.start + (self.taken + 1) * clock::SECOND / self.rate
    }

    /// How many times it was due until now, and was not taken.
    pub(super) fn take(&mut self, now: u64) -> u64 {
        let due = (now.saturating_sub(self.start) * self.rate / clock::SECOND).max(self.taken);
        due - std::mem::replace(&mut self.taken, due)
    }
}

/// The same choices in every run.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new() -> Dice {
        Dice(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rhythm_is_taken_as_often_as_it_was_due_however_seldom_it_is_asked() {
        let mut rhythm = Rhythm { start: 0, rate: 10, taken: 0 };
        assert_eq!(rhythm.next(), clock::SECOND / 10);
        assert_eq!(rhythm.take(clock::SECOND / 10 - 1), 0);
        assert_eq!(rhythm.take(clock::SECOND / 10), 1);
        assert_eq!(rhythm.take(clock::SECOND), 9);
        assert_eq!(rhythm.take(clock::SECOND), 0);
    }

    #[test]
    fn dice_fall_everywhere() {
        let mut dice = Dice::new();
        let mut seen = [0; 10];
        (0..10_000).for_each(|_| seen[dice.below(10)] += 1);
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
