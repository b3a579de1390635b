//! The API for the application's backend, below `/api`.
//!
//! A request is done in this order: the route is looked up, the key is checked, the body is read
//! within its limits, path and query and fields are checked, and then it is done. Whatever goes
//! wrong is answered with a [`Problem`]. The routes are described, once and for all, by
//! `assets/openapi.json`; tests compare it with [`route::ROUTES`] and with real answers.

mod credits;
mod people;
mod messages;
mod changes;
mod history;
mod access;
mod erasure;
mod request;
mod route;
mod problem;

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Request, StatusCode};
use serde::Serialize;
use shared::contract::id::UserId;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::process::loopback_host::HostError;

use self::problem::Problem;
use self::request::ApiRequest;
use self::route::{Operation, RouteMatch};
use super::encoding::bearer;
use super::{HttpResponse, typed};
use crate::node::Node;
use crate::wire::codec;

/// Where the API lies.
pub(super) const PREFIX: &str = "/api";

/// The routes, for programs: `OpenAPI` 3.1.
const DESCRIPTION: &str = include_str!("../../assets/openapi.json");

/// Does what a request asks for.
pub(super) async fn answer(request: Request<Incoming>, node: &Arc<Node>) -> HttpResponse {
    node.metrics.api_requests_total.inc();
    match respond(request, node).await {
        Ok(answer) => answer,
        Err(problem) => {
            node.metrics.api_refusals_total.inc();
            problem.answer()
        }
    }
}

async fn respond(request: Request<Incoming>, node: &Arc<Node>) -> Result<HttpResponse, Problem> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let found = route::find(&head.method, path);
    let open = found.as_ref().is_ok_and(|found| found.operation == Operation::Description);
    if !open {
        may_ask(node, &head.headers)?;
    }
    let RouteMatch { operation, segments } = found?;
    if open {
        return Ok(typed(StatusCode::OK, "application/json", DESCRIPTION));
    }
    // Held until the answer is made: what a request asks for is kept meanwhile.
    let mut share = node.bodies.share();
    let body = request::body(body, &mut share).await?;
    let query = head.uri.query().unwrap_or_default();
    let asked = ApiRequest { segments, query, headers: &head.headers, body };
    perform(operation, node, &asked).await
}

async fn perform(
    operation: Operation,
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    match operation {
        Operation::Publish => messages::publish(node, asked).await,
        Operation::PublishBatch => messages::publish_batch(node, asked).await,
        Operation::EditMessage => changes::edit(node, asked).await,
        Operation::DeleteMessage => changes::delete(node, asked).await,
        Operation::History => history::history(node, asked).await,
        Operation::Stream => history::stream(node, asked).await,
        Operation::Presence => people::presence(node, asked).await,
        Operation::UpdatePresence => people::update_presence(node, asked).await,
        Operation::Members => people::members(node, asked).await,
        Operation::AddMember => people::add_member(node, asked).await,
        Operation::RemoveMember => people::remove_member(node, asked).await,
        Operation::MintTicket => access::mint_ticket(node, asked).await,
        Operation::MintSession => access::mint_session(node, asked).await,
        Operation::Revoke => access::revoke(node, asked).await,
        Operation::Disconnect => access::disconnect(node, asked).await,
        Operation::TrackCredits => credits::track(node, asked).await,
        Operation::Credits => credits::balance(node, asked).await,
        Operation::UnsyncedCredits => credits::unsynced(node, asked).await,
        Operation::SyncedCredits => credits::synced(node, asked).await,
        Operation::Erase => erasure::everything(node, asked).await,
        // Answered before: no key is needed for it.
        Operation::Description => Err(Problem::no_route()),
    }
}

/// Refuses whoever brings no key that holds. Where none is configured, the development mode is open
/// to programs on this machine, and any other mode has no API.
fn may_ask(node: &Node, headers: &HeaderMap) -> Result<(), Problem> {
    if node.api_keys.is_empty() {
        return open_to_this_machine(node.settings.is_dev());
    }
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let key = given.next().and_then(|value| value.to_str().ok()).and_then(bearer);
    // Of two, a proxy on the way may have looked at the other one.
    if given.next().is_none() && key.is_some_and(|key| node.api_keys.holds(key)) {
        return Ok(());
    }
    let text = "bring an API key that holds, as Authorization: Bearer rck_…";
    Err(Problem::new(RefusalCode::Unauthenticated, text))
}

fn open_to_this_machine(dev: bool) -> Result<(), Problem> {
    if dev {
        return Ok(());
    }
    let text = "this node has no API keys: `gateway api-key` makes one, and \
                ROOMCAST_API_KEYS takes its digest";
    Err(Problem::new(RefusalCode::Forbidden, text))
}

/// The answer to a request that was sent to a name of another machine, or to none.
pub(super) fn elsewhere(error: HostError, node: &Node) -> HttpResponse {
    node.metrics.api_requests_total.inc();
    node.metrics.api_refusals_total.inc();
    no_loopback(error).answer()
}

fn no_loopback(error: HostError) -> Problem {
    let code = match error {
        HostError::Malformed => RefusalCode::BadRequest,
        HostError::Foreign => RefusalCode::Forbidden,
    };
    Refusal::new(code, error.to_string()).field("Host").into()
}

/// In whose name the backend does what it does in nobody's.
fn backend() -> UserId {
    UserId::parse("api").expect("three letters are an id")
}

/// An answer in JSON.
fn json(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    raw(status, codec::json(value))
}

/// An answer that is JSON already.
fn raw(status: StatusCode, body: impl Into<Bytes>) -> HttpResponse {
    typed(status, "application/json", body)
}

#[cfg(test)]
mod tests;
