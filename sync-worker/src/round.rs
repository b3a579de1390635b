//! A round: what several shards have, read together and committed in one transaction.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::join_all;
use shared::contract::envelope::Envelope;
use shared::contract::id::{Shard, UserId};
use shared::contract::limits::BATCH_ENTRY_BYTES;
use shared::log::{LogError, PageLimit, Waiting};
use shared::store::{Batch, Committed, Cursor, StoreError};
use tokio::time::Instant;

use crate::batch::Entries;
use crate::deps::Deps;

/// What of one shard goes into a round.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) shard: Shard,
    /// Where it was read from.
    pub(crate) from: Cursor,
    pub(crate) entries: Entries,
    /// Entries that were read.
    pub(crate) count: u64,
    /// More of the shard waits.
    more: bool,
}

impl Part {
    /// Where the shard is after it.
    pub(crate) fn upto(&self) -> Cursor {
        Cursor { upto: self.entries.upto(), epoch: self.from.epoch }
    }
}

/// What is committed together.
#[derive(Debug)]
pub(crate) struct Round {
    /// In the order of the shards.
    pub(crate) parts: Vec<Part>,
    /// Shards that have something which is no round's: undecodable, or a later version's.
    pub(crate) odd: Vec<Shard>,
    /// Shards that could not be read.
    pub(crate) unread: Vec<(Shard, LogError)>,
    /// More waits than it could take.
    pub(crate) full: bool,
    /// Bytes of the envelopes.
    pub(crate) bytes: usize,
    pub(crate) entries: usize,
}

/// What came of a round.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) fenced: Vec<Shard>,
    /// Shards that are refused by themselves while others may pass.
    pub(crate) refused: Vec<Shard>,
    /// Why the others were not even tried, or not again.
    pub(crate) failure: Option<StoreError>,
    /// Shards that are in the database up to their parts' ends.
    pub(crate) done: Vec<Shard>,
    /// Whose balance is what now.
    pub(crate) balances: Vec<(UserId, i64)>,
}

/// Reads what the shards have, from where each stands, within `most` for all of them.
pub(crate) async fn read(
    parts: &Deps,
    ready: &[Waiting],
    from: &HashMap<Shard, Cursor>,
    most: PageLimit,
) -> Round {
    let shares = shares(ready, most.entries);
    let bytes = most.bytes / shares.len().max(1);
    let reads = shares.iter().filter_map(|&(shard, waiting, entries)| {
        let from = *from.get(&shard)?;
        let page = PageLimit { entries, bytes };
        Some(async move {
            let read = parts.log.read(shard, from.epoch, from.upto, page).await;
            (shard, waiting, from, read)
        })
    });
    let mut round = Round {
        parts: Vec::with_capacity(shares.len()),
        odd: Vec::new(),
        unread: Vec::new(),
        full: shares.len() < ready.len(),
        bytes: 0,
        entries: 0,
    };
    for (shard, waiting, from, read) in join_all(reads).await {
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                round.unread.push((shard, error));
                continue;
            }
        };
        let count = read.len();
        let is_odd = read.iter().any(|entry| Envelope::is_later(&entry.raw));
        let Some(entries) = Entries::decode(shard, read) else { continue };
        let more = waiting > count as u64;
        parts.lag.set(shard, waiting.max(count as u64), entries.oldest_ms().unwrap_or(0));
        round.full |= more;
        if is_odd || entries.dead() > 0 {
            round.odd.push(shard);
            continue;
        }
        round.bytes += entries.bytes();
        round.entries += count;
        round.parts.push(Part { shard, from, entries, count: count as u64, more });
    }
    round
}

/// How many entries each shard may have, so that all have at most `most`, and at least one each:
/// who has little gets it all, the others the same.
fn shares(ready: &[Waiting], most: usize) -> Vec<(Shard, u64, usize)> {
    let mut by_waiting = ready.to_vec();
    by_waiting.sort_unstable_by_key(|waiting| waiting.entries);
    by_waiting.truncate(most);
    let (mut left, mut rest) = (most, by_waiting.len());
    let mut shares: Vec<(Shard, u64, usize)> = by_waiting
        .into_iter()
        .map(|Waiting { shard, entries: waiting, .. }| {
            let share = (left / rest).min(usize::try_from(waiting).unwrap_or(usize::MAX)).max(1);
            (left, rest) = (left - share, rest - 1);
            (shard, waiting, share)
        })
        .collect();
    shares.sort_unstable_by_key(|&(shard, ..)| shard);
    shares
}

/// Commits the parts, all in one transaction; where that is refused for some of them, by halves,
/// until those are found. Counts what was done.
pub(crate) async fn commit(parts: &Deps, round: &mut [Part]) -> Outcome {
    let Deps { store, metrics, stats, lease, clock, lag, .. } = parts;
    let began = Instant::now();
    let batches: Vec<Arc<Batch>> = round
        .iter_mut()
        .map(|part| Arc::new(part.entries.take_batch(part.from, lease.as_ref())))
        .collect();
    let mut outcome = Outcome::default();
    let mut left: Vec<Range<usize>> = Vec::new();
    left.extend((!round.is_empty()).then_some(0..round.len()));
    while let Some(range) = left.pop() {
        let committed = match store.commit_round(&batches[range.clone()]).await {
            Ok(committed) => committed,
            Err(error) if error.may_pass_in_parts() && range.len() > 1 => {
                let middle = range.start + range.len() / 2;
                left.extend([middle..range.end, range.start..middle]);
                continue;
            }
            Err(error) if error.may_pass_in_parts() => {
                outcome.refused.push(round[range.start].shard);
                continue;
            }
            Err(error) => {
                outcome.failure = Some(error);
                break;
            }
        };
        metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        metrics.count(&committed.done);
        let is_done = |part: &&Part| !committed.fenced.contains(&part.shard);
        let (mut entries, now_ms) = (0, clock.now_ms());
        for part in round[range].iter().filter(is_done) {
            entries += part.entries.len() as u64;
            part.entries.observe_persisted(&metrics.persist_seconds, now_ms);
            stats.recovered(part.shard);
            if !part.more {
                lag.clear(part.shard);
            }
            outcome.done.push(part.shard);
        }
        stats.synced(entries, now_ms, began.elapsed());
        outcome.fenced.extend(committed.fenced);
        let Committed { balances, .. } = committed.done;
        outcome.balances.extend(balances);
    }
    outcome
}

/// How many of these shards can have an entry each within so many bytes; one at least.
pub(crate) fn affordable(ready: &[Waiting], bytes: usize) -> usize {
    let mut cost = 0_usize;
    let fits = |waiting: &&Waiting| {
        let entry = usize::try_from(waiting.entry_bytes).unwrap_or(usize::MAX);
        cost = entry.saturating_add(BATCH_ENTRY_BYTES).saturating_add(cost);
        cost <= bytes
    };
    ready.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(waiting: &[u64], most: usize) -> Vec<usize> {
        let of = |(shard, entries)| Waiting { shard, entries, entry_bytes: 100 };
        let ready: Vec<Waiting> = Shard::all().zip(waiting.iter().copied()).map(of).collect();
        shares(&ready, most).iter().map(|(_, _, share)| *share).collect()
    }

    #[test]
    fn who_has_little_gets_it_all_and_the_others_share_the_rest() {
        assert_eq!(of(&[5, 1, 3], 100), [5, 1, 3]);
        assert_eq!(of(&[1000, 1, 1000], 101), [50, 1, 50]);
        assert_eq!(of(&[1000, 2], 100), [98, 2]);
        assert_eq!(of(&[7, 7, 7], 2).len(), 2, "the third waits");
        assert_eq!(of(&[], 10), [0; 0]);
    }
}
