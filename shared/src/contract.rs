//! The contract between processes, nodes and clients. Pure: no I/O, no clock.

pub mod signal;
pub mod protocol;
pub mod envelope;
pub mod message;
pub mod metadata;
pub mod credit;
pub mod refusal;
pub mod keys;
pub mod position;
pub mod id;
pub mod whole;
pub mod timestamp;
pub mod limits;
