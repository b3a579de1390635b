//! What the gateway and the sync-worker share.
//!
//! Modules are declared outermost first, and a module imports only modules declared below it: the
//! order is the reading order, and the tests hold it.

pub mod dependency;
pub mod erase;
pub mod adding;
pub mod epoch;
pub mod store;
pub mod log;
pub mod process;
pub mod contract;
