//! The harness of the integration tests: clients that know nothing of the gateway's own code.
//!
//! [`client::Client`] is a hand-driven connection, [`sim_client::SimClient`] what a good client
//! library does, [`raw::RawSocket`] sends what no library would, [`http::Api`] is the application's
//! own backend. [`checker::check_all`] compares what the chatters saw with what the database holds,
//! and says in sentences what is broken; [`openapi::Description`] compares the API with its
//! description.

pub mod checker;
pub mod sim_client;
pub mod client;
pub mod wire;
pub mod raw;
pub mod openapi;
pub mod http;
pub mod rows;
pub mod identity;
pub mod eventually;
pub mod position;

pub use checker::{Expect, check_all};
pub use client::Client;
pub use eventually::eventually;
pub use http::{Api, ApiAnswer};
pub use identity::{token, unique_id, unique_name};
pub use position::Position;
pub use raw::RawSocket;
pub use rows::Row;
pub use sim_client::{SimClient, SimClientOptions};
pub use wire::Proof;
