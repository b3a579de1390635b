//! What every process needs: settings, logs, metrics, health, an orderly end.
//!
//! Outermost first: a module imports only modules declared below it.

pub mod operator;
pub mod tasks;
pub mod loopback_host;
pub mod readiness;
pub mod signals;
pub mod telemetry;
pub mod trouble;
pub mod backoff;
pub mod byte_budget;
pub mod memory;
pub mod settings;
pub mod tls;
pub mod changes;
pub mod clock;
pub mod error_chain;
