//! The routes of the API, by path and method.

use hyper::Method;

use super::problem::Problem;

/// What the API can be asked, by name; the names are the `operationId`s of its description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Publish,
    PublishBatch,
    EditMessage,
    DeleteMessage,
    History,
    Stream,
    Presence,
    UpdatePresence,
    Members,
    AddMember,
    RemoveMember,
    MintTicket,
    MintSession,
    Revoke,
    Disconnect,
    TrackCredits,
    Credits,
    UnsyncedCredits,
    SyncedCredits,
    Erase,
    Description,
}

/// Every route; `{…}` stands for one segment.
pub(super) const ROUTES: [(&str, Method, Operation); 21] = [
    ("/rooms/{room}/messages", Method::GET, Operation::History),
    ("/rooms/{room}/messages", Method::POST, Operation::Publish),
    ("/rooms/{room}/messages/batch", Method::POST, Operation::PublishBatch),
    ("/rooms/{room}/messages/{id}", Method::PATCH, Operation::EditMessage),
    ("/rooms/{room}/messages/{id}", Method::DELETE, Operation::DeleteMessage),
    ("/rooms/{room}/stream", Method::GET, Operation::Stream),
    ("/rooms/{room}/presence", Method::GET, Operation::Presence),
    ("/rooms/{room}/presence", Method::POST, Operation::UpdatePresence),
    ("/rooms/{room}/members", Method::GET, Operation::Members),
    ("/rooms/{room}/members/{user}", Method::PUT, Operation::AddMember),
    ("/rooms/{room}/members/{user}", Method::DELETE, Operation::RemoveMember),
    ("/tickets", Method::POST, Operation::MintTicket),
    ("/sessions", Method::POST, Operation::MintSession),
    ("/revoke", Method::POST, Operation::Revoke),
    ("/disconnect", Method::POST, Operation::Disconnect),
    ("/credits/track", Method::POST, Operation::TrackCredits),
    ("/credits/synced", Method::POST, Operation::SyncedCredits),
    ("/credits/{user}", Method::GET, Operation::Credits),
    ("/credits/{user}/unsynced", Method::GET, Operation::UnsyncedCredits),
    ("/erase", Method::POST, Operation::Erase),
    ("/openapi.json", Method::GET, Operation::Description),
];

/// An operation, and what stands in the path where its template has names, not decoded yet.
#[derive(Debug)]
pub(super) struct RouteMatch<'a> {
    pub(super) operation: Operation,
    pub(super) segments: Vec<&'a str>,
}

/// Looks a path below `/api` up. A head is asked for like the whole. Of several templates that a
/// path matches, the one counts that has the most in plain text, as `OpenAPI` has it: whoever means
/// a user who is called `track` writes a letter of it percent-encoded.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<RouteMatch<'a>, Problem> {
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    let mut allowed: Vec<&str> = Vec::new();
    let names = ROUTES.iter().filter_map(|(template, ..)| Some(matches(template, path)?.len()));
    let fewest = names.min();
    for (template, has, operation) in &ROUTES {
        let Some(segments) = matches(template, path) else { continue };
        if Some(segments.len()) != fewest {
            continue;
        }
        if has == wanted {
            return Ok(RouteMatch { operation: *operation, segments });
        }
        allowed.push(has.as_str());
        if *has == Method::GET {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() {
        Err(Problem::no_route())
    } else {
        Err(Problem::no_method(allowed.join(", ")))
    }
}

/// The segments that stand for the template's names, in their order.
fn matches<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut segments = Vec::new();
    let mut parts = path.split('/');
    for wanted in template.split('/') {
        let part = parts.next()?;
        if wanted.starts_with('{') {
            segments.push(part);
        } else if wanted != part {
            return None;
        }
    }
    parts.next().is_none().then_some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> Option<(Operation, Vec<&str>)> {
        find(&method, path).ok().map(|found| (found.operation, found.segments))
    }

    #[test]
    fn a_path_and_a_method_mean_one_operation() {
        let publish = found(Method::POST, "/rooms/a%2Fb/messages");
        assert_eq!(publish, Some((Operation::Publish, vec!["a%2Fb"])));
        let batch = found(Method::POST, "/rooms/a/messages/batch");
        assert_eq!(batch, Some((Operation::PublishBatch, vec!["a"])));
        // A message and a user may be called like a route, and are written otherwise then.
        let edit = found(Method::PATCH, "/rooms/a/messages/%62atch");
        assert_eq!(edit, Some((Operation::EditMessage, vec!["a", "%62atch"])));
        let credits = found(Method::HEAD, "/credits/%74rack");
        assert_eq!(credits, Some((Operation::Credits, vec!["%74rack"])));
        for nothing in ["", "/", "/rooms", "/rooms/a/", "/tickets/", "/rooms/a/messages/b/c"] {
            assert_eq!(found(Method::GET, nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_route_without_the_method_names_those_it_has() {
        let answer = find(&Method::PUT, "/rooms/a/messages").unwrap_err().answer();
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "GET, HEAD, POST");
        for path in ["/credits/track", "/credits/synced", "/rooms/a/messages/batch"] {
            for method in [Method::GET, Method::HEAD, Method::PATCH, Method::DELETE] {
                let answer = find(&method, path).unwrap_err().answer();
                assert_eq!(answer.status(), 405, "{method} {path}");
                assert_eq!(answer.headers()["allow"], "POST", "{method} {path}");
            }
        }
    }
}
