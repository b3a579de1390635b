//! Refusals (why a command was not done) and close reasons (why a connection ended): two closed
//! lists, never mixed.

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;

/// What a refused command is answered with; the connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The frame is no command: not JSON, no object, no event.
    BadRequest,
    /// No command has this name.
    UnknownEvent,
    /// A field is missing, unknown, of another type or out of its limits.
    InvalidField,
    /// A message's id is no id, or its `UUIDv7` time is too far ahead.
    BadId,
    /// A field or the command is larger than its limit.
    TooLarge,
    /// Say who you are first.
    Unauthenticated,
    /// Not yours; also said of what does not exist.
    Forbidden,
    /// Join the room first.
    NotJoined,
    /// No such message.
    NotFound,
    /// This id stands already, with other content.
    Conflict,
    /// Too often; `retryAfterMs` says when again.
    RateLimited,
    /// Too often for too long.
    Blocked,
    /// Leave a room first.
    TooManyRooms,
    /// The balance does not cover it.
    InsufficientCredits,
    /// The log is at its cap; `retryAfterMs` says when again.
    Backpressure,
    /// Something this needs is away; try again under the same id.
    Unavailable,
    /// The database refused it for good.
    Rejected,
    /// A fault of ours.
    Internal,
}

impl RefusalCode {
    /// Each of them, once.
    pub const ALL: [RefusalCode; 18] = [
        RefusalCode::BadRequest,
        RefusalCode::UnknownEvent,
        RefusalCode::InvalidField,
        RefusalCode::BadId,
        RefusalCode::TooLarge,
        RefusalCode::Unauthenticated,
        RefusalCode::Forbidden,
        RefusalCode::NotJoined,
        RefusalCode::NotFound,
        RefusalCode::Conflict,
        RefusalCode::RateLimited,
        RefusalCode::Blocked,
        RefusalCode::TooManyRooms,
        RefusalCode::InsufficientCredits,
        RefusalCode::Backpressure,
        RefusalCode::Unavailable,
        RefusalCode::Rejected,
        RefusalCode::Internal,
    ];

    /// As the wire spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalCode::BadRequest => "bad_request",
            RefusalCode::UnknownEvent => "unknown_event",
            RefusalCode::InvalidField => "invalid_field",
            RefusalCode::BadId => "bad_id",
            RefusalCode::TooLarge => "too_large",
            RefusalCode::Unauthenticated => "unauthenticated",
            RefusalCode::Forbidden => "forbidden",
            RefusalCode::NotJoined => "not_joined",
            RefusalCode::NotFound => "not_found",
            RefusalCode::Conflict => "conflict",
            RefusalCode::RateLimited => "rate_limited",
            RefusalCode::Blocked => "blocked",
            RefusalCode::TooManyRooms => "too_many_rooms",
            RefusalCode::InsufficientCredits => "insufficient_credits",
            RefusalCode::Backpressure => "backpressure",
            RefusalCode::Unavailable => "unavailable",
            RefusalCode::Rejected => "rejected",
            RefusalCode::Internal => "internal",
        }
    }
}

/// Why a command was not done, with what helps to do it better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub message: String,
    /// The field that is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The limit that was passed, in the field's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// When to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The server's time, where a clock is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<Timestamp>,
}

impl Refusal {
    /// A refusal that says no more than its code and text.
    #[must_use]
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            field: None,
            limit: None,
            retry_after_ms: None,
            server_time: None,
        }
    }

    /// The same, naming the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Refusal {
        self.field = Some(field.into());
        self
    }

    /// The same, naming the limit.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Refusal {
        self.limit = Some(limit as u64);
        self
    }

    /// The same, saying when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Refusal {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The same, saying what time it is here.
    #[must_use]
    pub fn server_time(mut self, now: Timestamp) -> Refusal {
        self.server_time = Some(now);
        self
    }
}

/// Why the server ended a connection. 4000–4399 ask the client to come back, 4400–4499 not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// The client closed, or left without a word.
    ClientGone,
    /// The client closed in order.
    Normal,
    /// This node is leaving.
    Restart,
    /// RFC 6455 was broken.
    ProtocolError,
    /// A binary message; the protocol is text.
    Unsupported,
    /// Text that is not UTF-8.
    BadText,
    /// Control frames or fragments without end.
    PolicyViolation,
    /// A message over the limit.
    TooLarge,
    /// Full; another node may not be.
    TryLater,
    /// Nothing was heard for the heartbeat timeout.
    HeartbeatMissed,
    /// The client does not read.
    TooSlow,
    /// No proof of who it is, or one that has expired.
    Unauthenticated,
    /// Not allowed to be here.
    Forbidden,
    /// Blocked for asking too often.
    Blocked,
}

impl CloseReason {
    /// Every reason, for metrics.
    pub const ALL: [CloseReason; 14] = [
        CloseReason::ClientGone,
        CloseReason::Normal,
        CloseReason::Restart,
        CloseReason::ProtocolError,
        CloseReason::Unsupported,
        CloseReason::BadText,
        CloseReason::PolicyViolation,
        CloseReason::TooLarge,
        CloseReason::TryLater,
        CloseReason::HeartbeatMissed,
        CloseReason::TooSlow,
        CloseReason::Unauthenticated,
        CloseReason::Forbidden,
        CloseReason::Blocked,
    ];

    /// The close code: RFC 6455 7.4 and the IANA registry below 4000, ours from there.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            CloseReason::ClientGone | CloseReason::Normal => 1000,
            CloseReason::ProtocolError => 1002,
            CloseReason::Unsupported => 1003,
            CloseReason::BadText => 1007,
            CloseReason::PolicyViolation => 1008,
            CloseReason::TooLarge => 1009,
            CloseReason::Restart => 1012,
            CloseReason::TryLater => 1013,
            CloseReason::HeartbeatMissed => 4008,
            CloseReason::TooSlow => 4030,
            CloseReason::Unauthenticated => 4401,
            CloseReason::Forbidden => 4403,
            CloseReason::Blocked => 4429,
        }
    }

    /// One word, for the close frame, metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            CloseReason::ClientGone => "client_gone",
            CloseReason::Normal => "normal",
            CloseReason::Restart => "restart",
            CloseReason::ProtocolError => "protocol_error",
            CloseReason::Unsupported => "unsupported",
            CloseReason::BadText => "bad_text",
            CloseReason::PolicyViolation => "policy_violation",
            CloseReason::TooLarge => "too_large",
            CloseReason::TryLater => "try_later",
            CloseReason::HeartbeatMissed => "heartbeat_missed",
            CloseReason::TooSlow => "too_slow",
            CloseReason::Unauthenticated => "unauthenticated",
            CloseReason::Forbidden => "forbidden",
            CloseReason::Blocked => "blocked",
        }
    }
}
