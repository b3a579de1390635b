//! Placeholder.

pub mod process;
