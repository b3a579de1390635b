//! One Roomcast node: sockets in, frames out.

pub mod http;
pub mod connection;
pub mod frame;
