//! Placeholder.
mod log_contract;
mod store_contract;
