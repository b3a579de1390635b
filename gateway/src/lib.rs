//! One Roomcast node: sockets in, frames out.
//!
//! Modules are declared outermost first, and a module imports only modules declared below it: the
//! order is the reading order, and the tests hold it.

pub mod server;
mod relay;
mod http;
pub mod connection;
mod command;
mod answering;
mod submitting;
mod crediting;
mod removal;
mod reading;
mod changing;
mod posting;
mod access;
mod proof;
mod node;
mod roster;
mod spending;
mod rate_limit;
mod hub;
pub mod presence;
pub mod stream;
pub mod broker;
mod wire;
mod validation;
mod metrics;
pub mod config;
pub mod auth;
