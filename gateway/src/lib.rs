//! One Roomcast node: sockets in, frames out.
//!
//! Modules are declared outermost first, and a module imports only modules declared below it: the
//! order is the reading order, and the tests hold it.

pub mod server;
mod relay;
mod http;
mod connection;
mod command;
mod reply;
mod session;
mod posting;
mod node;
mod connections;
mod roster;
mod hub;
pub mod presence;
pub mod broker;
mod codec;
mod send_queue;
mod frame;
mod validation;
mod auth;
mod metrics;
pub mod config;
mod handshake;
