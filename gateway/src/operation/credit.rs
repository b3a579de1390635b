//! Queues movements of credits, reads balances, and notifies users of theirs. Callers authorize
//! first.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use shared::contract::credit::CreditEntry;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, UserId};
use shared::contract::limits::SPENDING_SETTLE_MS;
use shared::contract::message::MessageType;
use shared::contract::protocol::{Cost, Credits, CreditsTrack, EventName, TrackReply};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;
use shared::log::{Append, Pending};
use shared::trouble;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::auth::Identity;
use crate::broker::append_queue::Outcome;
use crate::node::Node;
use crate::operation::post::{self, Charge, away};
use crate::operation::validate;
use crate::spending::{NoTurn, Turn};
use crate::wire::codec;

/// Balances that are read at a time.
const READ_TOGETHER: usize = 8;

/// Pause after a balance could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks again this often whether what was used has come into the database.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A movement that was put in line.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) id: MessageId,
    user: UserId,
    amount: i64,
    outcome: oneshot::Receiver<Outcome>,
}

/// Puts a movement in line.
pub(crate) fn track(node: &Node, data: CreditsTrack) -> Result<Tracked, Refusal> {
    let now_ms = node.clock.now_ms();
    let CreditsTrack { user_id: user, amount, kind, id, message_id, metadata } = data;
    let id = id.unwrap_or_else(|| post::new_id(now_ms));
    validate::id("id", &id, now_ms)?;
    let amount = validate::amount("amount", amount)?;
    validate::attached("metadata", &metadata)?;
    let digest = post::digest(&[user.as_str(), &amount.to_string(), kind.as_str()]);
    let amount = kind.signed(amount);
    let entry = CreditEntry { amount, kind, room_id: None, message_id, metadata };
    let envelope = Envelope {
        kind: EntryKind::Usage,
        // A movement on its own belongs to no room, and has a shard all the same.
        room: user.ledger_room(),
        user: user.clone(),
        id: id.clone(),
        change_id: None,
        accepted_at: Timestamp(now_ms),
        body: Bytes::from(codec::json(&entry)),
    };
    let append = Append { envelope, digest, cost: None, author: None };
    Ok(Tracked { id, user, amount, outcome: node.append_queue.append(append, None)? })
}

/// What became of a movement that was put in line.
pub(crate) async fn settled(node: &Node, tracked: Tracked) -> Result<TrackReply, Refusal> {
    let Tracked { id, user, amount, outcome } = tracked;
    let accepted = match post::answered(outcome).await {
        // It was a dead letter, and may have been driven again since.
        Err(refusal) if refusal.code == RefusalCode::Rejected => {
            let found = node.store.find_movements(&[(id.clone(), user)]).await;
            return match found.is_ok_and(|found| found == [Some(amount)]) {
                true => Ok(TrackReply { id, duplicate: true, durability: None }),
                false => Err(refusal),
            };
        }
        answered => answered?,
    };
    let (duplicate, durability) = (accepted.is_duplicate(), accepted.only_journaled());
    node.metrics.credits_in_total.inc_by((!duplicate).into());
    Ok(TrackReply { id, duplicate, durability })
}

/// Whether this one may say what a message costs.
pub(crate) fn may_charge(identity: &Identity) -> Result<(), Refusal> {
    if identity.may_track() {
        return Ok(());
    }
    let text = "your role may not say what a message costs";
    Err(Refusal::new(RefusalCode::Forbidden, text).field("credits"))
}

/// What a message costs, checked; the sender pays where nobody else is named.
pub(crate) fn charge(sender: &UserId, cost: Cost) -> Result<Charge, Refusal> {
    let Cost { amount, user_id, metadata } = cost;
    let amount = validate::amount("credits.amount", amount)?;
    validate::attached("credits.metadata", &metadata)?;
    Ok(Charge { user: user_id.unwrap_or_else(|| sender.clone()), amount, metadata })
}

/// A user's balance, and what of it was used already.
pub(crate) async fn balance(node: &Node, user: &UserId) -> Result<Credits, Refusal> {
    // In this order a movement on its way into the database may count twice, and never not at all.
    let unsynced = unsynced(node, user).await?;
    let balance = node.store.balance(user).await.map_err(|_| away())?;
    Ok(Credits { user_id: user.clone(), balance, unsynced })
}

/// What a user has used that is not in the ledger yet; below 0 where more was bought than used.
pub(crate) async fn unsynced(node: &Node, user: &UserId) -> Result<i64, Refusal> {
    let moved = node.log.unsynced(user).await.map_err(|_| away())?;
    Ok(moved.saturating_neg())
}

/// Which of the user's movements are in the ledger, in the order asked. Nothing else makes them
/// synced.
pub(crate) async fn synced(
    node: &Node,
    user: &UserId,
    ids: &[MessageId],
) -> Result<Vec<bool>, Refusal> {
    node.store.find_credits(user, ids).await.map_err(|_| away())
}

/// Refuses a message of an assistant whose cost is not covered, where a budget is kept. What is
/// given back is to be kept until the message is in the log, or is not: until then nobody else
/// spends of the same credits.
pub(crate) async fn afford_message(
    node: &Node,
    kind: MessageType,
    cost: Option<&Charge>,
) -> Result<Option<Turn>, Refusal> {
    match cost {
        Some(cost) if node.settings.credits_budget && kind == MessageType::Assistant => {
            let turn = node.spending.turn(&cost.user).await.map_err(|NoTurn| away())?;
            afford(node, &cost.user, cost.amount).await?;
            // Else somebody may have come to believe that this node is gone.
            if turn.is_fresh() { Ok(Some(turn)) } else { Err(away()) }
        }
        Some(_) | None => Ok(None),
    }
}

/// Refuses what a user's credits do not cover, where a budget is kept.
pub(crate) async fn afford(node: &Node, user: &UserId, amount: u64) -> Result<(), Refusal> {
    if !node.settings.credits_budget {
        return Ok(());
    }
    let amount = i64::try_from(amount).unwrap_or(i64::MAX);
    let patience = Instant::now() + Duration::from_millis(SPENDING_SETTLE_MS);
    loop {
        // In this order what was used is counted once or twice, and never not at all; and what was
        // bought counts when the database has it.
        let Pending { used, gained } = node.log.pending(user).await.map_err(|_| away())?;
        let balance = node.store.balance(user).await.map_err(|_| away())?;
        if amount <= balance.saturating_sub(used) {
            return Ok(());
        }
        let at_best = balance.saturating_add(gained);
        if amount > at_best || (used, gained) == (0, 0) || Instant::now() >= patience {
            let text = "the credits do not cover it";
            return Err(Refusal::new(RefusalCode::InsufficientCredits, text));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Users whose balances have moved and who are to be told.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    state: Mutex<MovedState>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct MovedState {
    users: HashSet<UserId>,
    /// What moved was missed: whoever was told before is told again.
    is_gap: bool,
}

impl Moved {
    /// A balance has moved. Only who is connected here is remembered.
    pub(crate) fn note(&self, node: &Node, users: &[(UserId, i64)]) {
        let here = users.iter().map(|(user, _)| user).filter(|user| node.connections.has(user));
        let here: Vec<UserId> = here.cloned().collect();
        if !here.is_empty() {
            self.state.lock().users.extend(here);
            self.wake.notify_one();
        }
    }

    /// Some balances may have moved.
    pub(crate) fn gap(&self) {
        self.state.lock().is_gap = true;
        self.wake.notify_one();
    }

    /// Tells users of their balances, each as it is when it is read, for ever. What moves in
    /// between is told once.
    pub(crate) async fn tell(&self, node: &Node) {
        let mut told: HashMap<UserId, Credits> = HashMap::new();
        loop {
            self.wake.notified().await;
            let MovedState { mut users, is_gap } = std::mem::take(&mut *self.state.lock());
            told.retain(|user, _| node.connections.has(user));
            if is_gap {
                users.extend(told.keys().cloned());
            }
            let read = async |user: UserId| (balance(node, &user).await, user);
            let mut balances = stream::iter(users).map(read).buffer_unordered(READ_TOGETHER);
            let mut failed = Vec::new();
            while let Some((balance, user)) = balances.next().await {
                match balance {
                    Ok(credits) if told.get(&user) == Some(&credits) => {}
                    Ok(credits) => {
                        let frame = codec::event(EventName::UserCredits, &credits);
                        for handle in node.connections.of(&user) {
                            handle.queue.offer_ephemeral(&frame);
                        }
                        told.insert(user, credits);
                    }
                    Err(_) => failed.push(user),
                }
            }
            if !failed.is_empty() {
                trouble!(users = failed.len(), "balances cannot be read; they are told later");
                tokio::time::sleep(PAUSE).await;
                self.state.lock().users.extend(failed);
                self.wake.notify_one();
            }
        }
    }
}
