//! The wire: frames, their codec, and the send queue of each connection.

pub(crate) mod connections;
pub(crate) mod connect_rate;
pub(crate) mod codec;
pub(crate) mod send_queue;
pub(crate) mod frame;
