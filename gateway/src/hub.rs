//! Which local connections are in which room.

mod joins;
mod synchronise;
mod catch_up;
mod attendance;
pub(crate) mod room;
mod feed;
pub(crate) mod sources;
mod recent;
mod standing;
mod logged;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::{
    APPEND_TIMEOUT_MS, COMPARE_GRACE_MS, COMPARE_INTERVAL_MS, ROOM_LINGER_MS,
};
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::contract::protocol::Since;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::signal::{ReadMark, Signal};
use shared::log::{Delivery, RingEntry, Watermark};
use shared::process::error_chain::error_chain;
use shared::trouble;
