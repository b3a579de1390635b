//! The native protocol `roomcast.v1`: commands, replies, events.
//!
//! Every wire name is written once, here. What follows is `PROTOCOL.md`, the same by example; a
//! test reads its examples with these types.
//!
#![doc = include_str!("../../PROTOCOL.md")]

mod command;
mod reply;
mod event;

pub use self::command::*;
pub use self::event::*;
pub use self::reply::*;

/// The WebSocket subprotocol that these frames are.
pub const SUBPROTOCOL: &str = "roomcast.v1";

/// Largest `ref` a client may choose: the largest integer JavaScript holds exactly.
pub const REF_MAX: u64 = (1 << 53) - 1;
