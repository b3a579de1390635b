//! The harness of the integration tests: clients that know nothing of the gateway's own code.
//!
//! [`client::Client`] is a hand-driven connection, [`raw::RawSocket`] sends what no library would.

pub mod client;
pub mod wire;
pub mod raw;
pub mod rows;
pub mod identity;
pub mod eventually;
pub mod position;

pub use client::Client;
pub use eventually::eventually;
pub use identity::{token, unique_id, unique_name};
pub use position::Position;
pub use raw::RawSocket;
pub use rows::Row;
pub use wire::Proof;
