//! The ledger, balances, and their comparison with each other and the messages.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::failure::MISMATCH;
use super::stored::{checked, text};
use crate::contract::envelope::{EntryKind, Envelope};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::store::reconcile::{self, Cost, DIFFERENCES_MAX, PAGE_ROWS, Priced, compare_costs};
use crate::store::{CreditRow, Ledger, Reconciliation, StoreError};

/// What came of a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It is in the ledger now and was not before.
    Credited,
    /// It stood there already, or was put aside before.
    Stands,
    /// Its id stands there with another user or amount: put aside.
    Quarantined,
}

/// Adds a movement to the ledger, which has each id once.
pub(super) fn add(
    connection: &Connection,
    row: &CreditRow,
    now_ms: i64,
) -> Result<Added, StoreError> {
    let (id, user, amount) = (reconcile::row_id(row), row.user.as_str(), row.entry.amount);
    let message_id = row.entry.message_id.as_ref().map(MessageId::as_str);
    let metadata = reconcile::metadata(row);
    let added = connection
        .prepare_cached(
            "INSERT INTO credits (id, user_id, message_id, amount, timestamp, metadata)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![id, user, message_id, amount, row.at.0, metadata])?;
    if added > 0 {
        return Ok(Added::Credited);
    }
    let aside = connection
        .prepare_cached(
            "INSERT INTO credit_conflicts
                 (id, user_id, message_id, amount, accepted_at, metadata, seen_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 FROM credits
             WHERE id = ?1 AND (user_id, amount) <> (?2, ?4)
             ON CONFLICT (id, user_id, amount) DO NOTHING",
        )?
        .execute(params![id, user, message_id, amount, row.at.0, metadata, now_ms])?;
    Ok(if aside > 0 { Added::Quarantined } else { Added::Stands })
}

/// Moves a balance; gives what it is then.
pub(super) fn balance_by(
    connection: &Connection,
    user: &UserId,
    sum: i64,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let held = balance(connection, user)?;
    let balance = held.checked_add(sum).ok_or_else(overflow)?;
    connection
        .prepare_cached(
            "INSERT INTO user_credits (user_id, balance, last_updated) VALUES (?1, ?2, ?3)
             ON CONFLICT (user_id) DO UPDATE SET balance = excluded.balance,
                 last_updated = excluded.last_updated",
        )?
        .execute(params![user.as_str(), balance, now_ms])?;
    Ok(balance)
}

/// A sum that the database's integers do not reach.
pub(super) fn overflow() -> StoreError {
    StoreError::Data { code: MISMATCH.to_owned(), detail: "a balance is out of range".to_owned() }
}

fn balance(connection: &Connection, user: &UserId) -> Result<i64, StoreError> {
    let balance = connection
        .prepare_cached("SELECT balance FROM user_credits WHERE user_id = ?1")?
        .query_row([user.as_str()], |row| row.get(0))
        .optional()?;
    Ok(balance.unwrap_or(0))
}

#[async_trait]
impl Ledger for SqliteStore {
    async fn balance(&self, user: &UserId) -> Result<i64, StoreError> {
        let user = user.clone();
        self.read(move |connection| balance(connection, &user)).await
    }

    async fn find_credits(
        &self,
        user: &UserId,
        ids: &[MessageId],
    ) -> Result<Vec<bool>, StoreError> {
        let (user, ids) = (user.clone(), ids.to_vec());
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT 1 FROM credits AS c
                 WHERE id IN (?1, ?2) AND user_id = ?3 AND NOT EXISTS (
                     SELECT 1 FROM credit_conflicts AS aside
                     WHERE aside.id = c.id AND aside.user_id = ?3)",
            )?;
            let found = ids.iter().map(|id| {
                Ok(statement.exists(params![id.as_str(), reconcile::cost_id(id), user.as_str()])?)
            });
            found.collect()
        })
        .await
    }

    async fn find_movements(
        &self,
        movements: &[(MessageId, UserId)],
    ) -> Result<Vec<Option<i64>>, StoreError> {
        let movements = movements.to_vec();
        self.read(move |connection| {
            let sql = "SELECT amount FROM credits WHERE id = ?1 AND user_id = ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let found = movements.iter().map(|(id, user)| {
                let row =
                    statement.query_row(params![id.as_str(), user.as_str()], |row| row.get(0));
                Ok(row.optional()?)
            });
            found.collect()
        })
        .await
    }

    async fn reconcile(&self) -> Result<Reconciliation, StoreError> {
        self.read(compare).await
    }
}

/// In one transaction, which sees one state.
fn compare(connection: &Connection) -> Result<Reconciliation, StoreError> {
    let count = |table| {
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
    };
    let mut found = Reconciliation {
        ledger_rows: count("credits")?,
        users: count("user_credits")?,
        messages: count("team_chat_messages WHERE credits IS NOT NULL")?,
        differences: Vec::new(),
    };
    compare_balances(connection, &mut found)?;
    let mut conflicts = connection.prepare_cached(
        "SELECT id, user_id, amount FROM credit_conflicts ORDER BY number LIMIT ?1",
    )?;
    let mut rows = conflicts.query([DIFFERENCES_MAX])?;
    while let Some(row) = rows.next()? {
        found.quarantined(text(row, 0)?, text(row, 1)?, row.get(2)?);
    }
    let mut letters = connection.prepare_cached(
        "SELECT substr(raw, 1, 2), coalesce(message_id, ''), coalesce(user_id, '')
         FROM dead_letters ORDER BY id",
    )?;
    let mut rows = letters.query([])?;
    while let Some(row) = rows.next()? {
        let prefix: Vec<u8> = row.get(0)?;
        if Envelope::kind_of(&prefix) == Some(EntryKind::Usage) {
            found.dead(text(row, 1)?, text(row, 2)?);
        }
    }
    compare_messages(connection, &mut found)?;
    compare_rows(connection, &mut found)?;
    Ok(found)
}

fn compare_balances(connection: &Connection, found: &mut Reconciliation) -> Result<(), StoreError> {
    let mut unbalanced = connection.prepare_cached(
        "WITH sums AS (SELECT user_id, sum(amount) AS amount FROM credits GROUP BY user_id)
         SELECT user_id, coalesce(balance, 0), coalesce(amount, 0)
         FROM user_credits FULL JOIN sums USING (user_id)
         WHERE coalesce(balance, 0) <> coalesce(amount, 0) ORDER BY user_id LIMIT ?1",
    )?;
    let mut rows = unbalanced.query([DIFFERENCES_MAX])?;
    while let Some(row) = rows.next()? {
        found.balance(text(row, 0)?, row.get(1)?, row.get(2)?);
    }
    Ok(())
}

/// Every message that cost something with its row, page by page.
fn compare_messages(connection: &Connection, found: &mut Reconciliation) -> Result<(), StoreError> {
    let mut page = connection.prepare_cached(
        "SELECT id, team_chat_id, user_id, client_id, credits FROM team_chat_messages
         WHERE credits IS NOT NULL AND id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut amount = connection.prepare_cached("SELECT amount FROM credits WHERE id = ?1")?;
    let mut after = String::new();
    while !found.is_full() {
        let rows = page.query_map(params![after, PAGE_ROWS], priced)?;
        let rows = rows.collect::<Result<Vec<(String, Priced)>, _>>()?;
        let Some((last, _)) = rows.last() else { break };
        after.clone_from(last);
        for (_, message) in &rows {
            let amount = amount.query_row([message.row_id()], |row| row.get(0)).optional()?;
            if let Some(difference) = message.compare(amount) {
                found.differ(difference);
            }
        }
    }
    Ok(())
}

fn priced(row: &Row<'_>) -> Result<(String, Priced), rusqlite::Error> {
    let row_id: String = row.get(0)?;
    let room = checked(text(row, 1)?, 1, RoomId::parse)?;
    let sender = checked(text(row, 2)?, 2, UserId::parse)?;
    let id = checked(text(row, 3)?, 3, MessageId::parse)?;
    Ok((row_id, Priced { room, sender, id, credits: row.get(4)? }))
}

/// Every row that belongs to a message with that message, page by page.
fn compare_rows(connection: &Connection, found: &mut Reconciliation) -> Result<(), StoreError> {
    let expired_before_ms: Option<i64> = connection
        .prepare_cached("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'expired_before_ms'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let mut page = connection.prepare_cached(
        "WITH page AS (
             SELECT id, user_id, amount, metadata ->> '$.\"roomcast.room\"' AS room, message_id,
                 timestamp
             FROM credits
             WHERE id > ?1 AND message_id IS NOT NULL AND room IS NOT NULL
             ORDER BY id LIMIT ?2
         )
         SELECT page.id, page.user_id, amount, room, page.message_id, timestamp, m.id,
                iif(m.send_time IS NULL, NULL, m.user_id), m.credits
         FROM page LEFT JOIN team_chat_messages AS m
             ON m.team_chat_id = room AND m.client_id = page.message_id
         ORDER BY 1",
    )?;
    let mut after = String::new();
    while !found.is_full() {
        let rows = page.query_map(params![after, PAGE_ROWS], cost)?;
        let mut costs = rows.collect::<Result<Vec<(i64, Cost)>, _>>()?;
        let Some((_, last)) = costs.last() else { break };
        after.clone_from(&last.row_id);
        costs.retain(|(at, _)| expired_before_ms.is_none_or(|expired| *at >= expired));
        let costs: Vec<Cost> = costs.into_iter().map(|(_, cost)| cost).collect();
        compare_costs(&costs, found);
    }
    Ok(())
}

fn cost(row: &Row<'_>) -> Result<(i64, Cost), rusqlite::Error> {
    let there: Option<String> = row.get(6)?;
    let found = match there {
        Some(_) => Some((row.get(7)?, row.get(8)?)),
        None => None,
    };
    let cost = Cost {
        row_id: row.get(0)?,
        user: row.get(1)?,
        amount: row.get(2)?,
        room: row.get(3)?,
        message: row.get(4)?,
        found,
    };
    Ok((row.get(5)?, cost))
}
