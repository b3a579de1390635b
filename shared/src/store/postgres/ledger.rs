//! Balances, and their comparison with the ledger and the messages.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use tokio_postgres::{Client, Row};

use super::PostgresStore;
use super::pool::{End, WHOLE_TABLES, pipeline, statement};
use super::schema::PATIENCE;
use super::stored::{parsed, scalar};
use super::value::{Moment, count};
use crate::contract::envelope::{EntryKind, Envelope};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::store::reconcile::{Cost, DIFFERENCES_MAX, PAGE_ROWS, Priced, compare_costs, cost_id};
use crate::store::{Ledger, Reconciliation, StoreError};

/// Several rows of one user are one balance.
const BALANCE: &str =
    "SELECT coalesce(sum(balance), 0)::bigint FROM user_credits WHERE user_id = $1";

const FIND: &str = "
    SELECT id FROM credits AS c WHERE id = ANY($1) AND user_id = $2 AND NOT EXISTS (
        SELECT FROM credit_conflicts AS aside WHERE aside.id = c.id AND aside.user_id = $2)";

const FIND_AMOUNTS: &str = "
    SELECT m.n, c.amount FROM unnest($1::text[], $2::text[])
        WITH ORDINALITY AS m (id, user_id, n)
    CROSS JOIN LATERAL (
        SELECT amount FROM credits WHERE id = m.id AND user_id = m.user_id OFFSET 0) AS c";

const COUNTS: &str = "
    SELECT (SELECT count(*) FROM credits), (SELECT count(*) FROM user_credits),
           (SELECT count(*) FROM team_chat_messages WHERE credits IS NOT NULL)";

/// When the youngest message was accepted that may have expired.
const EXPIRED_BEFORE: &str =
    "SELECT max(value)::bigint FROM roomcast_meta WHERE key = 'expired_before_ms'";

const UNBALANCED: &str = "
    WITH sums AS (SELECT user_id, sum(amount)::bigint AS amount FROM credits GROUP BY user_id)
    SELECT user_id, coalesce(balance, 0)::bigint, coalesce(amount, 0)
    FROM user_credits FULL JOIN sums USING (user_id)
    WHERE coalesce(balance, 0) <> coalesce(amount, 0)
    ORDER BY user_id LIMIT $1";

const PRICED: &str = "
    SELECT id, team_chat_id, user_id, coalesce(client_id, id), credits
    FROM team_chat_messages WHERE credits IS NOT NULL AND id > $1 ORDER BY id LIMIT $2";

const AMOUNTS: &str = "SELECT id, amount::bigint FROM credits WHERE id = ANY($1)";

const COSTS: &str = "
    WITH page AS (
        SELECT id, user_id, amount::bigint AS amount, metadata ->> 'roomcast.room' AS room,
               message_id, timestamp AS at
        FROM credits
        WHERE id > $1 AND message_id IS NOT NULL AND metadata ? 'roomcast.room'
        ORDER BY id LIMIT $2
    )
    SELECT page.id, page.user_id, amount, room, page.message_id, at, m.id,
           CASE WHEN m.client_id IS NULL OR m.send_time IS NOT NULL OR m.deleted_at IS NULL
               THEN m.user_id END, m.credits
    FROM page LEFT JOIN team_chat_messages AS m
        ON m.id = page.message_id AND m.team_chat_id = room AND coalesce(m.client_id, m.id) = m.id
    UNION ALL
    SELECT page.id, page.user_id, amount, room, page.message_id, at, m.id,
           CASE WHEN m.send_time IS NOT NULL OR m.deleted_at IS NULL THEN m.user_id END, m.credits
    FROM page JOIN team_chat_messages AS m
        ON m.client_id = page.message_id AND m.team_chat_id = room AND m.client_id <> m.id
    ORDER BY 1";

const CONFLICTS: &str = "SELECT id, user_id, amount FROM credit_conflicts ORDER BY number LIMIT $1";

const LETTERS: &str = "
    SELECT substring(raw FOR 2), coalesce(message_id, ''), coalesce(user_id, '')
    FROM dead_letters ORDER BY id";

#[async_trait]
impl Ledger for PostgresStore {
    async fn balance(&self, user: &UserId) -> Result<i64, StoreError> {
        let user = user.as_str();
        let answers = self.pool.read(&[statement!(BALANCE, user)]).await?;
        scalar(&answers[0])
    }

    async fn find_credits(
        &self,
        user: &UserId,
        ids: &[MessageId],
    ) -> Result<Vec<bool>, StoreError> {
        let rows: Vec<[String; 2]> =
            ids.iter().map(|id| [id.as_str().to_owned(), cost_id(id)]).collect();
        let (asked, user): (Vec<&String>, _) = (rows.iter().flatten().collect(), user.as_str());
        let answers = self.pool.read(&[statement!(FIND, asked, user)]).await?;
        let found = answers[0].iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
        let found: HashSet<&str> = found?;
        Ok(rows.iter().map(|of| of.iter().any(|id| found.contains(id.as_str()))).collect())
    }

    async fn find_movements(
        &self,
        movements: &[(MessageId, UserId)],
    ) -> Result<Vec<Option<i64>>, StoreError> {
        let ids: Vec<&str> = movements.iter().map(|(id, _)| id.as_str()).collect();
        let users: Vec<&str> = movements.iter().map(|(_, user)| user.as_str()).collect();
        let answers = self.pool.read(&[statement!(FIND_AMOUNTS, ids, users)]).await?;
        let mut found = vec![None; movements.len()];
        for row in &answers[0] {
            let number: i64 = row.try_get(0)?;
            let place = usize::try_from(number - 1).ok();
            if let Some(place) = place.and_then(|place| found.get_mut(place)) {
                *place = Some(row.try_get(1)?);
            }
        }
        Ok(found)
    }

    async fn reconcile(&self) -> Result<Reconciliation, StoreError> {
        self.pool
            .write_patiently(PATIENCE, async |transaction| {
                Ok((compare(transaction.client()).await?, End::RollBack))
            })
            .await
    }
}

async fn compare(client: &Client) -> Result<Reconciliation, StoreError> {
    let most = i64::try_from(DIFFERENCES_MAX).expect("it is small");
    let statements = [
        statement!(COUNTS),
        statement!(UNBALANCED, most),
        statement!(CONFLICTS, most),
        statement!(LETTERS),
        statement!(EXPIRED_BEFORE),
    ];
    client.batch_execute(WHOLE_TABLES).await?;
    let answers = pipeline(client, &statements).await?;
    let counted = |column| -> Result<u64, StoreError> {
        Ok(count(answers[0].first().map_or(Ok(0), |row| row.try_get(column))?))
    };
    let mut found = Reconciliation {
        ledger_rows: counted(0)?,
        users: counted(1)?,
        messages: counted(2)?,
        differences: Vec::new(),
    };
    for row in &answers[1] {
        found.balance(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    }
    for row in &answers[2] {
        found.quarantined(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    }
    for row in &answers[3] {
        if Envelope::kind_of(row.try_get(0)?) == Some(EntryKind::Usage) {
            found.dead(row.try_get(1)?, row.try_get(2)?);
        }
    }
    let expired_before_ms: Option<i64> = scalar(&answers[4])?;
    compare_messages(client, &mut found).await?;
    compare_rows(client, expired_before_ms.unwrap_or(i64::MIN), &mut found).await?;
    Ok(found)
}

/// Every message that cost something with its row, page by page.
async fn compare_messages(client: &Client, found: &mut Reconciliation) -> Result<(), StoreError> {
    let mut after = String::new();
    while !found.is_full() {
        let rows = page(client, PRICED, &after).await?;
        let Some(last) = rows.last() else { break };
        after = last.try_get(0)?;
        let messages = rows.iter().map(priced).collect::<Result<Vec<Priced>, _>>()?;
        let ids: Vec<String> = messages.iter().map(Priced::row_id).collect();
        let statement = statement!(AMOUNTS, ids);
        let answers = pipeline(client, &[statement]).await?;
        let amounts = answers[0].iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let amounts: HashMap<&str, i64> = amounts.collect::<Result<_, StoreError>>()?;
        for (message, id) in messages.iter().zip(&ids) {
            if let Some(difference) = message.compare(amounts.get(id.as_str()).copied()) {
                found.differ(difference);
            }
        }
    }
    Ok(())
}

/// Every row that belongs to a message with that message, page by page.
async fn compare_rows(
    client: &Client,
    expired_before_ms: i64,
    found: &mut Reconciliation,
) -> Result<(), StoreError> {
    let mut after = String::new();
    while !found.is_full() {
        let rows = page(client, COSTS, &after).await?;
        let Some(last) = rows.last() else { break };
        after = last.try_get(0)?;
        let mut costs = Vec::with_capacity(rows.len());
        for row in &rows {
            let at = row.try_get::<_, Option<Moment>>(5)?.map_or(i64::MIN, |at| at.timestamp().0);
            if at >= expired_before_ms {
                costs.push(cost(row)?);
            }
        }
        compare_costs(&costs, found);
    }
    Ok(())
}

async fn page(client: &Client, sql: &str, after: &str) -> Result<Vec<Row>, StoreError> {
    let limit = i64::from(PAGE_ROWS);
    Ok(pipeline(client, &[statement!(sql, after, limit)]).await?.remove(0))
}

fn priced(row: &Row) -> Result<Priced, StoreError> {
    let room = parsed(row.try_get(1)?, RoomId::parse)?;
    let sender = parsed(row.try_get(2)?, UserId::parse)?;
    let id = parsed(row.try_get(3)?, MessageId::parse)?;
    Ok(Priced { room, sender, id, credits: row.try_get(4)? })
}

fn cost(row: &Row) -> Result<Cost, StoreError> {
    let there = row.try_get::<_, Option<&str>>(6)?.is_some();
    Ok(Cost {
        row_id: row.try_get(0)?,
        user: row.try_get(1)?,
        amount: row.try_get(2)?,
        room: row.try_get(3)?,
        message: row.try_get(4)?,
        found: there.then_some((row.try_get(7)?, row.try_get(8)?)),
    })
}
