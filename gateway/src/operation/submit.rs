//! Decides about everything that is to go into the log: what stands already is answered, what is
//! new passes every check.
//!
//! Whoever offers something again, under the id that it has, is told where it stands, though they
//! may have left the room since, be over their limit or out of credits. Only what is not known
//! needs a membership and a role, and is counted and charged. To find out which it is costs a look
//! at Redis or the database, and those are counted too: generously, and given back where something
//! new was done.

use shared::contract::id::{MessageKey, UserId};
use shared::contract::message::MessageType;
use shared::contract::refusal::{Refusal, RefusalCode};
use tokio::sync::oneshot;

use crate::auth::Identity;
use crate::broker::append_queue::{Accepted, Outcome};
use crate::broker::waiters::Waiter;
use crate::config::RateClass;
use crate::node::Node;
use crate::operation::change::{self, Asker, ChangeEntry, ChangeProgress, ChangeRequest};
use crate::operation::credit;
use crate::operation::post::{self, Charge, MessageDraft, Said};
use crate::rate_limit::RatePermit;
use crate::spending::Turn;

/// Who wants it.
#[derive(Debug)]
pub(crate) enum Author<'a> {
    /// Somebody on a connection.
    Client {
        /// Who.
        identity: &'a Identity,
        /// Whether the connection is in the room.
        membership: Result<(), Refusal>,
        /// The connection, which is told when the database has what they said.
        waiter: Waiter,
    },
    /// The application's backend, in the name of a user; it may do everything.
    Backend(&'a UserId),
}

impl Author<'_> {
    /// In whose name.
    pub(crate) fn user(&self) -> &UserId {
        match self {
            Author::Client { identity, .. } => &identity.user,
            Author::Backend(user) => user,
        }
    }

    fn asker(&self) -> Asker {
        let moderates = match self {
            Author::Client { identity, .. } => identity.role.moderates(),
            Author::Backend(_) => true,
        };
        Asker { user: self.user().clone(), moderates, waiter: self.waiter() }
    }

    /// Who waits for the database to have it.
    pub(crate) fn waiter(&self) -> Option<Waiter> {
        match self {
            Author::Client { waiter, .. } => Some(waiter.clone()),
            Author::Backend(_) => None,
        }
    }

    /// Whether they may say something of this type, at this cost, in the room.
    pub(crate) fn may_say(&self, kind: MessageType, cost: Option<&Charge>) -> Result<(), Refusal> {
        let Author::Client { identity, .. } = self else { return Ok(()) };
        self.may_change(cost)?;
        if identity.may_send(kind) {
            return Ok(());
        }
        let text = format!("your role may not send messages of type {}", kind.as_str());
        Err(Refusal::new(RefusalCode::Forbidden, text).field("type"))
    }

    /// Whether they may change something, at this cost, in the room.
    fn may_change(&self, cost: Option<&Charge>) -> Result<(), Refusal> {
        let Author::Client { identity, membership, .. } = self else { return Ok(()) };
        membership.clone()?;
        cost.map_or(Ok(()), |_| credit::may_charge(identity))
    }

    /// Has them told when the database has what stands, where it does not yet.
    pub(crate) fn wait(&self, node: &Node, key: MessageKey, known: &Accepted) {
        if let (Author::Client { waiter, .. }, Accepted::Placed(place)) = (self, known)
            && !place.persisted
        {
            node.append_queue.wait(key, place, waiter.clone());
        }
    }

    async fn count(&self, node: &Node) -> Result<RatePermit, Refusal> {
        match self {
            Author::Client { identity, .. } => {
                node.limiter.count(identity, RateClass::Messages).await
            }
            Author::Backend(_) => Ok(RatePermit::nothing()),
        }
    }

    async fn look_up(&self, node: &Node) -> Result<RatePermit, Refusal> {
        match self {
            Author::Client { identity, .. } => node.limiter.look_up(identity).await,
            Author::Backend(_) => Ok(RatePermit::nothing()),
        }
    }

    /// Somebody was told that they do this too often, and nothing else.
    fn heard(&self, node: &Node, refusal: &Refusal) {
        if let Author::Client { identity, .. } = self
            && refusal.code == RefusalCode::RateLimited
        {
            node.limiter.refused(&identity.user, RateClass::Messages);
        }
    }
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// In line for the log, and counted.
    InLine(InLine),
    /// It stood already.
    Stands(Accepted),
}

/// Something new on its way into the log.
#[derive(Debug)]
pub(crate) struct InLine {
    outcome: oneshot::Receiver<Outcome>,
    counted: RatePermit,
    looked_up: RatePermit,
    what: SubmittedEntry,
    /// Until it is settled nobody else spends of the credits that it costs.
    turn: Option<Box<Turn>>,
}

/// What it is, to be compared with what stands under its id.
#[derive(Debug)]
enum SubmittedEntry {
    Message(Said),
    Change(ChangeEntry),
}

impl Submitted {
    /// Whether others wait until it is settled.
    pub(crate) fn has_a_turn(&self) -> bool {
        matches!(self, Submitted::InLine(InLine { turn: Some(_), .. }))
    }

    /// What became of it in the end.
    pub(crate) async fn settled(self, node: &Node) -> Outcome {
        let InLine { outcome, counted, looked_up, what, turn } = match self {
            Submitted::InLine(line) => line,
            Submitted::Stands(accepted) => return Ok(accepted),
        };
        let outcome = match what {
            SubmittedEntry::Message(said) => post::settled(node, &said, outcome).await,
            SubmittedEntry::Change(made) => change::settled(node, &made, outcome).await,
        };
        drop(turn);
        let unused = if post::is_nothing_new(&outcome) { counted } else { looked_up };
        node.limiter.refund(unused);
        outcome
    }
}

/// Puts a message in line.
pub(crate) async fn message(
    node: &Node,
    author: &Author<'_>,
    draft: MessageDraft,
) -> Result<Submitted, Refusal> {
    let looked_up = author.look_up(node).await?;
    let said = Said::of(&draft);
    let (counted, turn) = match admit(node, author, &draft).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            let MessageDraft { room, id, user, .. } = draft;
            let key = MessageKey { room, user, id };
            let known = known_or(node, author, key.clone(), refusal).await?;
            let known = post::standing(node, &said, known).await?;
            author.wait(node, key, &known);
            return Ok(Submitted::Stands(known));
        }
    };
    match post::post(node, draft, author.waiter()) {
        Ok(outcome) => {
            let what = SubmittedEntry::Message(said);
            Ok(Submitted::InLine(InLine { outcome, counted, looked_up, what, turn }))
        }
        Err(refusal) => {
            node.limiter.refund(counted);
            Err(refusal)
        }
    }
}

/// Whether a fresh message may be said now; it is counted then.
async fn admit(
    node: &Node,
    author: &Author<'_>,
    draft: &MessageDraft,
) -> Result<(RatePermit, Option<Box<Turn>>), Refusal> {
    author.may_say(draft.kind, draft.cost.as_ref())?;
    let turn = credit::afford_message(node, draft.kind, draft.cost.as_ref()).await?;
    Ok((author.count(node).await?, turn.map(Box::new)))
}

/// Where a message stands that may not be said now.
async fn known_or(node: &Node, author: &Author<'_>, key: MessageKey, refusal: Refusal) -> Outcome {
    let known = post::known(node, key).await?;
    known.ok_or_else(|| {
        author.heard(node, &refusal);
        refusal
    })
}

/// Puts a change in line, which may cost what the message itself would have.
pub(crate) async fn change(
    node: &Node,
    author: &Author<'_>,
    wanted: ChangeRequest,
    cost: Option<Charge>,
) -> Result<Submitted, Refusal> {
    let looked_up = author.look_up(node).await?;
    let admitted = match author.may_change(cost.as_ref()) {
        Ok(()) => author.count(node).await,
        Err(refusal) => Err(refusal),
    };
    let (room, id) = (wanted.room.clone(), wanted.change_id.clone());
    let key = MessageKey { room, user: author.user().clone(), id };
    let (allowed, counted) = match admitted {
        Ok(counted) => (Ok(()), counted),
        Err(refusal) => (Err(refusal), RatePermit::nothing()),
    };
    match change::change(node, &author.asker(), wanted, cost, allowed).await {
        Ok(ChangeProgress::Waiting(outcome, made)) => {
            let what = SubmittedEntry::Change(made);
            let line = InLine { outcome, counted, looked_up, what, turn: None };
            Ok(Submitted::InLine(line))
        }
        Ok(ChangeProgress::Made(place)) => {
            node.limiter.refund(counted);
            author.wait(node, key, &place);
            Ok(Submitted::Stands(place))
        }
        // Not waited for: the database will never know of its id.
        Ok(ChangeProgress::Needless(place)) => {
            node.limiter.refund(counted);
            Ok(Submitted::Stands(Accepted::Placed(place)))
        }
        Err(refusal) => {
            if post::was_not_taken(&refusal) {
                node.limiter.refund(counted);
            }
            author.heard(node, &refusal);
            Err(refusal)
        }
    }
}
