//! A local fleet of Roomcast processes on free ports of 127.0.0.1, for people and for tests.
//!
//! A [`Fleet`] owns a folder and the parts in it; a [`Node`] is a part that keeps its ports and
//! its files over kills and restarts; a [`Process`] is one run of one program. Each of them ends
//! what it started when it is dropped, by process id, so that a test that panics leaves nothing
//! behind.

pub mod cli;
#[cfg(test)]
mod fake_server;
mod local_fleet;
mod gateway_node;
mod worker_node;
mod pg_bouncer;
mod postgres_server;
mod redis_server;
mod node;
mod balancer;
mod os_user;
mod binary;
mod run_dir;
mod process;
mod process_tree;
mod procfs;
mod samples;
mod http;
mod port;
mod error;

pub use balancer::{Balancer, Faults, Link, Proxy, Traffic};
pub use error::FleetError;
pub use gateway_node::{GatewayNode, GatewayOptions};
pub use http::{Answer, get};
pub use local_fleet::{AnyNode, ClusterOptions, Fleet, Place};
pub use node::Node;
pub use pg_bouncer::PgBouncer;
pub use port::free_port;
pub use postgres_server::{PostgresOptions, PostgresServer, Row};
pub use process::Process;
pub use redis_server::{AppendFsync, RedisOptions, RedisServer, Reply};
pub use samples::Samples;
pub use worker_node::{WorkerNode, WorkerOptions};
