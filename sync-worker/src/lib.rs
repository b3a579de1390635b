//! One loop: log to database, each entry exactly once.
//!
//! The gateway's embedded mode runs it in its own process; modules are declared outermost first.

pub mod asked;
pub mod dead_letter;
pub mod erasing;
pub mod reconciling;
pub mod renaming;
pub mod config;
pub mod worker;
mod expiry;
mod additions;
mod shard_reader;
mod batch;
mod refusing;
mod kept;
mod parts;
mod lag;
pub mod metrics;
pub mod stats;
