//! Why a request was not done: an RFC 9457 problem document.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;

use super::super::HttpResponse;
use crate::wire::codec;

/// A refusal on its way into an answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    refusal: Box<Refusal>,
    /// The methods that the route has, where another was asked for.
    allow: Option<String>,
    /// The request was not read to its end, so that the connection is of no use any more.
    unread: bool,
}

/// The document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: RefusalCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_time: Option<Timestamp>,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let status = status(refusal.code);
        Problem { status, refusal: Box::new(refusal), allow: None, unread: false }
    }
}

impl Problem {
    /// One that says no more than its code and text.
    pub(super) fn new(code: RefusalCode, text: impl Into<String>) -> Problem {
        Problem::from(Refusal::new(code, text))
    }

    /// Nothing lies under this path.
    pub(super) fn no_route() -> Problem {
        Problem::new(RefusalCode::NotFound, "there is no such route; see /api/openapi.json")
    }

    /// The route has other methods.
    pub(super) fn no_method(allow: String) -> Problem {
        let text = format!("this route has {allow}");
        let problem = Problem::new(RefusalCode::UnknownEvent, text);
        Problem { allow: Some(allow), ..problem }
    }

    /// The body is declared to be something else than JSON.
    pub(super) fn no_json() -> Problem {
        let text = "a body comes with Content-Type: application/json";
        let refusal = Refusal::new(RefusalCode::BadRequest, text).field("Content-Type");
        Problem { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, ..Problem::from(refusal) }.unread()
    }

    /// The body did not come in time.
    pub(super) fn too_slow(limit_ms: u64) -> Problem {
        let text = format!("the body did not come within {limit_ms} ms");
        let problem = Problem::new(RefusalCode::BadRequest, text);
        Problem { status: StatusCode::REQUEST_TIMEOUT, ..problem }.unread()
    }

    /// The same, on a connection that ends with it.
    pub(super) fn unread(self) -> Problem {
        Problem { unread: true, ..self }
    }

    /// The answer.
    pub(super) fn answer(&self) -> HttpResponse {
        let Refusal { code, message, field, limit, retry_after_ms, server_time } = &*self.refusal;
        let document = Document {
            r#type: format!("urn:roomcast:problem:{}", code.as_str()),
            title: title(*code),
            status: self.status.as_u16(),
            detail: message,
            code: *code,
            field: field.as_deref(),
            limit: *limit,
            retry_after_ms: *retry_after_ms,
            server_time: *server_time,
        };
        let mut answer = Response::new(Full::new(Bytes::from(codec::json(&document))));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(ms) = retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| allow.parse().ok()) {
            headers.insert(ALLOW, allow);
        }
        if self.unread {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// The one table of codes and statuses; `docs/API.md` shows it.
pub(super) fn status(code: RefusalCode) -> StatusCode {
    match code {
        RefusalCode::BadRequest | RefusalCode::InvalidField | RefusalCode::BadId => {
            StatusCode::BAD_REQUEST
        }
        RefusalCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        RefusalCode::InsufficientCredits => StatusCode::PAYMENT_REQUIRED,
        RefusalCode::Forbidden => StatusCode::FORBIDDEN,
        RefusalCode::NotFound => StatusCode::NOT_FOUND,
        RefusalCode::UnknownEvent => StatusCode::METHOD_NOT_ALLOWED,
        RefusalCode::Conflict | RefusalCode::NotJoined | RefusalCode::TooManyRooms => {
            StatusCode::CONFLICT
        }
        RefusalCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusalCode::Rejected => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalCode::RateLimited | RefusalCode::Blocked => StatusCode::TOO_MANY_REQUESTS,
        RefusalCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        RefusalCode::Backpressure | RefusalCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What every problem of a code is called.
fn title(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::BadRequest => "The request cannot be read",
        RefusalCode::UnknownEvent => "The route has no such method",
        RefusalCode::InvalidField => "A field is missing, unknown or out of its limits",
        RefusalCode::BadId => "An id is none, or of another time",
        RefusalCode::TooLarge => "Larger than allowed",
        RefusalCode::Unauthenticated => "An API key is needed",
        RefusalCode::Forbidden => "Not allowed",
        RefusalCode::NotJoined => "The room is not joined",
        RefusalCode::NotFound => "Nothing is there",
        RefusalCode::Conflict => "The id stands with other content",
        RefusalCode::RateLimited => "Too often",
        RefusalCode::Blocked => "Too often for too long",
        RefusalCode::TooManyRooms => "In too many rooms",
        RefusalCode::InsufficientCredits => "The balance does not cover it",
        RefusalCode::Backpressure => "Too much waits for the database",
        RefusalCode::Unavailable => "Something this needs is away",
        RefusalCode::Rejected => "The database refused it for good",
        RefusalCode::Internal => "A fault of the server's own",
    }
}
