//! One Roomcast node: sockets in, frames out.

pub mod connection;
pub mod frame;
