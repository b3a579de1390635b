//! A local fleet of Roomcast processes on free ports of 127.0.0.1, for people and for tests.
//!
//! A [`Fleet`] owns a folder and the nodes in it; a [`GatewayNode`] keeps its ports and its data
//! folder over kills and restarts; a [`Process`] is one run of one program. Each of them ends what
//! it started when it is dropped, by process id, so that a test that panics leaves nothing behind.

mod local_fleet;
mod gateway_node;
mod binary;
mod process;
mod samples;
mod http;
mod port;
mod error;

pub use error::FleetError;
pub use gateway_node::{GatewayNode, GatewayOptions};
pub use http::{Answer, get};
pub use local_fleet::Fleet;
pub use port::free_port;
pub use process::Process;
pub use samples::Samples;
