//! One loop: log to database, each entry exactly once.
//!
//! The gateway's embedded mode runs it in its own process; modules are declared outermost first.

pub mod config;
pub mod dead_letter;
pub mod worker;
mod shard_reader;
mod batch;
mod parts;
mod lag;
pub mod metrics;
pub mod stats;
