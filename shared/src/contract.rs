//! What every process, node and client must agree on: pure, without I/O and without a clock.

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
