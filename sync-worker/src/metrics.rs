//! Metrics of the worker, served by whichever process runs it.

use shared::process::telemetry::metrics::SECONDS;
use shared::store::Committed;

shared::metrics! {
    /// Counts of one worker.
    pub struct Metrics, prefix "roomcast_sync_" {
        /// Batches committed.
        batches_total: counter,
        /// Rows inserted or changed.
        rows_total: counter,
        /// Entries whose row stood already.
        duplicates_total: counter,
        /// Messages stored under a random id, because theirs stood with another room or sender.
        renamed_total: counter,
        /// Edits whose message does not stand.
        orphaned_total: counter,
        /// Movements of credits whose id stands in the ledger with another user or amount.
        quarantined_total: counter,
        /// Messages that were old enough to leave the database.
        expired_total: counter,
        /// Entries that the database refused for good.
        dead_letters_total: counter,
        /// Batches that have to be tried again.
        retries_total: counter,
        /// Stretches of a shard that neither the log nor the database has any more: lost.
        log_gaps_total: counter,
        /// Times a shard stopped because the database refused every row of a large batch.
        shards_stopped_total: counter,
        /// Seconds from a batch's first try to its commit.
        commit_seconds: histogram(SECONDS),
        /// Seconds from the acceptance of an entry to its commit.
        persist_seconds: histogram(SECONDS),
        /// Entries of the log that are not in the database.
        log_lag_entries: gauge,
        /// Seconds since the oldest entry that is not in the database was accepted.
        log_lag_seconds: gauge_seconds,
    }
}

impl Metrics {
    /// A transaction was committed.
    pub(crate) fn count(&self, committed: &Committed) {
        self.batches_total.inc();
        let messages = committed.inserted + committed.changed + committed.renamed;
        self.rows_total.inc_by(messages + committed.read + committed.credited);
        self.duplicates_total.inc_by(committed.duplicates);
        self.renamed_total.inc_by(committed.renamed);
        self.orphaned_total.inc_by(committed.orphaned);
        self.quarantined_total.inc_by(committed.quarantined);
    }
}
