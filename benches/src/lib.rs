//! The load generator: many WebSocket clients on one thread, and the scenarios they play.
//!
//! It is written so that it costs far less than the server it loads. One epoll loop reads every
//! connection into one buffer, frames are looked at where they lie, and the few fields that a
//! scenario needs are found by byte search. Every delivery is checked all the same: see
//! [`Ledger`](ledger::Ledger).

pub mod cli;
pub mod compare;
pub mod plan;
pub mod limits;
pub mod scenario;
pub mod crowd;
pub mod server;
pub mod report;
pub mod ledger;
pub mod swarm;
pub mod options;
pub mod dialect;
pub mod frame;
pub mod token;
pub mod usage;
pub mod latency;
pub mod stop;
pub mod clock;
pub mod error;
