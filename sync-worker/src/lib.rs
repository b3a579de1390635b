//! The sync-worker: one loop from the log to the database, each entry exactly once.
//!
//! The gateway's embedded mode runs it in its own process; modules are declared outermost first.

pub mod cli;
pub mod dead_letters;
pub mod erase;
pub mod reconcile;
pub mod rename;
pub mod config;
pub mod worker;
mod retention;
mod additions;
mod pace;
mod shard_reader;
mod round;
mod batch;
mod refusing;
mod kept;
mod deps;
mod lag;
pub mod metrics;
pub mod stats;
