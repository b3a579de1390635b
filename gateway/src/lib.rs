//! One Roomcast node: sockets in, frames out.
//!
//! Modules are declared outermost first, and a module imports only modules declared below it: the
//! order is the reading order, and the tests hold it.

#[doc(hidden)]
pub mod micro;
pub mod server;
mod relay;
mod http;
pub mod connection;
mod command;
mod operation;
mod node;
mod spending;
mod rate_limit;
mod hub;
pub mod presence;
pub mod stream;
pub mod broker;
mod wire;
mod metrics;
pub mod config;
pub mod auth;
