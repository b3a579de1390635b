//! Credits: movements and balances.

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::contract::id::{MessageId, UserId};
use shared::contract::protocol::{CreditsTrack, TrackReply};
use shared::contract::refusal::Refusal;

use super::super::HttpResponse;
use super::json;
use super::messages::{BatchReply, BatchResult, within_batch};
use super::problem::Problem;
use super::request::{ApiRequest, object};
use crate::node::Node;
use crate::operation::credit::{self, Tracked};

/// Whether a request brings one movement or several.
#[derive(Debug, Deserialize)]
struct Either {
    #[serde(default)]
    items: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrackBatch {
    /// Read one by one: what is wrong with one is not the others' fault.
    items: Vec<Box<RawValue>>,
}

/// `POST /credits/track`
pub(super) async fn track(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let Either { items } = asked.json()?;
    if items.is_some() {
        return track_batch(node, asked).await;
    }
    let mut data: CreditsTrack = asked.json()?;
    name(asked, &mut data, None)?;
    let tracked = credit::track(node, data)?;
    let counted = credit::settled(node, tracked).await?;
    let status = if counted.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    Ok(json(status, &counted))
}

/// A movement without an id of its own is named by the request's `Idempotency-Key`, for its user,
/// and in a batch by its place.
fn name(
    asked: &ApiRequest<'_>,
    data: &mut CreditsTrack,
    place: Option<usize>,
) -> Result<(), Problem> {
    let named = asked.idempotent_id(&data.user_id.ledger_room(), &data.user_id, place)?;
    data.id = data.id.take().or(named);
    Ok(())
}

async fn track_batch(node: &Node, asked: &ApiRequest<'_>) -> Result<HttpResponse, Problem> {
    asked.idempotency_key()?;
    let TrackBatch { items } = asked.json()?;
    within_batch("items", items.len())?;
    let mut waiting = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        waiting.push(PendingTrack::begin(node, asked, (place, item))?);
    }
    let mut results = Vec::with_capacity(waiting.len());
    for one in waiting {
        results.push(one.settled(node).await);
    }
    Ok(json(StatusCode::OK, &BatchReply { results }))
}

/// A movement of a batch that is in line, or is not.
struct PendingTrack {
    id: Option<MessageId>,
    tracked: Result<Tracked, Refusal>,
}

impl PendingTrack {
    /// Only what is wrong with the request as a whole is a problem.
    fn begin(
        node: &Node,
        asked: &ApiRequest<'_>,
        (place, item): (usize, &RawValue),
    ) -> Result<PendingTrack, Problem> {
        let mut data: CreditsTrack = match object(item.get().as_bytes()) {
            Ok(data) => data,
            Err(refusal) => return Ok(PendingTrack { id: None, tracked: Err(refusal) }),
        };
        let id = data.id.clone();
        name(asked, &mut data, Some(place))?;
        Ok(match credit::track(node, data) {
            Ok(tracked) => PendingTrack { id: Some(tracked.id.clone()), tracked: Ok(tracked) },
            Err(refusal) => PendingTrack { id, tracked: Err(refusal) },
        })
    }

    async fn settled(self, node: &Node) -> BatchResult<TrackReply> {
        let counted = match self.tracked {
            Ok(tracked) => credit::settled(node, tracked).await,
            Err(refusal) => Err(refusal),
        };
        match counted {
            Ok(counted) => BatchResult::Stands(counted),
            Err(error) => BatchResult::Refused { id: self.id, error },
        }
    }
}

/// `GET /credits/{user}`
pub(super) async fn balance(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let user = asked.user(0)?;
    asked.query(&[])?;
    Ok(json(StatusCode::OK, &credit::balance(node, &user).await?))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Unsynced {
    user_id: UserId,
    unsynced: i64,
}

/// `GET /credits/{user}/unsynced`
pub(super) async fn unsynced(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let user_id = asked.user(0)?;
    asked.query(&[])?;
    let unsynced = credit::unsynced(node, &user_id).await?;
    Ok(json(StatusCode::OK, &Unsynced { user_id, unsynced }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AskSynced {
    user_id: UserId,
    ids: Vec<MessageId>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Synced {
    user_id: UserId,
    synced: Vec<MessageId>,
    unsynced: Vec<MessageId>,
}

/// `POST /credits/synced`
pub(super) async fn synced(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let AskSynced { user_id, ids } = asked.json()?;
    within_batch("ids", ids.len())?;
    let stand = credit::synced(node, &user_id, &ids).await?;
    let (mut synced, mut unsynced) = (Vec::new(), Vec::new());
    for (id, stands) in ids.into_iter().zip(stand) {
        if stands { synced.push(id) } else { unsynced.push(id) }
    }
    Ok(json(StatusCode::OK, &Synced { user_id, synced, unsynced }))
}
