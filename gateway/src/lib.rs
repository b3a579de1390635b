//! One Roomcast node: sockets in, frames out.

pub mod frame;
