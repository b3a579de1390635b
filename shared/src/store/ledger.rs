//! The ledger of credits: rows are only added, and balances are their sums.

use async_trait::async_trait;

use super::StoreError;
use crate::contract::credit::CreditEntry;
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::timestamp::Timestamp;

/// A movement of credits on its way into the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct CreditRow {
    /// Names it; the ledger has it once.
    pub id: MessageId,
    /// Whose credits.
    pub user: UserId,
    /// The room of the message it belongs to; of a movement on its own, named like the user.
    pub room: RoomId,
    /// What moves, and why.
    pub entry: CreditEntry,
    /// When it was accepted.
    pub at: Timestamp,
}

/// What `reconcile` found not to agree, in words for people, and what it looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// Rows of the ledger.
    pub ledger_rows: u64,
    /// Users that have a balance.
    pub users: u64,
    /// Messages that cost something.
    pub messages: u64,
    /// One sentence per difference; empty when everything agrees.
    pub differences: Vec<String>,
}

/// Reads the ledger; [`Batches::commit`](super::Batches::commit) is what writes it.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// What the user's rows add up to; 0 for whoever has none.
    async fn balance(&self, user: &UserId) -> Result<i64, StoreError>;

    /// Which of the ids stand in the ledger as movements of this user's, or as what a message cost
    /// this user, in the order asked. One of which another version was put aside does not count.
    async fn find_credits(&self, user: &UserId, ids: &[MessageId])
    -> Result<Vec<bool>, StoreError>;

    /// With which amounts these movements of these users stand in the ledger, in the order asked.
    /// Another user's is not found: it is for the ledger to put it aside.
    async fn find_movements(
        &self,
        movements: &[(MessageId, UserId)],
    ) -> Result<Vec<Option<i64>>, StoreError>;

    /// Compares every balance with the sum of its rows, every message that cost something with its
    /// row, every row that belongs to a message with that message, and finds rows in quarantine and
    /// movements among the dead letters.
    async fn reconcile(&self) -> Result<Reconciliation, StoreError>;
}
