//! Entries that are persisted and still in a shard's log, and how many of them may be forgotten by
//! now.

use std::collections::VecDeque;
use std::time::Duration;

use shared::contract::limits::{LOG_KEPT_BYTES_MAX, LOG_KEPT_ENTRIES_MAX};
use shared::log::LogId;
use tokio::time::Instant;

/// A batch that is persisted and still in the log.
#[derive(Debug)]
struct KeptBatch {
    since: Instant,
    upto: LogId,
    entries: u64,
    bytes: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Oldest first.
    batches: VecDeque<KeptBatch>,
    entries: u64,
    bytes: u64,
}

impl Kept {
    /// One more, persisted now.
    pub(crate) fn push(&mut self, upto: LogId, entries: u64, bytes: u64) {
        self.entries += entries;
        self.bytes += bytes;
        self.batches.push_back(KeptBatch { since: Instant::now(), upto, entries, bytes });
    }

    /// The log was not told of the last one.
    pub(crate) fn take_back(&mut self) {
        if let Some(last) = self.batches.pop_back() {
            self.entries -= last.entries;
            self.bytes -= last.bytes;
        }
    }

    /// Up to where the log may forget: what is older than `keep`, and what is too much.
    pub(crate) fn forgettable(&self, keep: Duration) -> LogId {
        let (mut entries, mut bytes, mut upto) = (self.entries, self.bytes, LogId::ZERO);
        for oldest in &self.batches {
            let fits = entries <= LOG_KEPT_ENTRIES_MAX && bytes <= LOG_KEPT_BYTES_MAX;
            if fits && oldest.since.elapsed() < keep {
                break;
            }
            upto = oldest.upto;
            entries -= oldest.entries;
            bytes -= oldest.bytes;
        }
        upto
    }

    /// The log has forgotten up to there.
    pub(crate) fn forget(&mut self, upto: LogId) {
        while let Some(oldest) = self.batches.pop_front_if(|oldest| oldest.upto <= upto) {
            self.entries -= oldest.entries;
            self.bytes -= oldest.bytes;
        }
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(60);

    fn at(n: u64) -> LogId {
        LogId { epoch: 1, n }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_enough_or_too_much_may_go_and_stays_known_until_it_has_gone() {
        let mut kept = Kept::default();
        kept.push(at(1), 1, 10);
        tokio::time::advance(KEEP / 2).await;
        kept.push(at(2), 1, 10);
        assert_eq!(kept.forgettable(KEEP), LogId::ZERO);
        tokio::time::advance(KEEP / 2).await;
        assert_eq!(kept.forgettable(KEEP), at(1));
        assert_eq!(kept.forgettable(KEEP), at(1), "whoever was told so may have failed");
        assert_eq!(kept.forgettable(Duration::ZERO), at(2));
        kept.push(at(3), 1, LOG_KEPT_BYTES_MAX);
        assert_eq!(kept.forgettable(KEEP), at(2), "the third leaves no room for the second");
        kept.take_back();
        kept.push(at(3), LOG_KEPT_ENTRIES_MAX, 10);
        assert_eq!(kept.forgettable(KEEP), at(2));
        kept.forget(at(2));
        assert_eq!((kept.forgettable(KEEP), kept.entries()), (LogId::ZERO, LOG_KEPT_ENTRIES_MAX));
    }
}
