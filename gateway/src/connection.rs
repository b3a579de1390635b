//! A connection's life, from the upgrade to its close.

pub mod assembler;
pub mod control_budget;
