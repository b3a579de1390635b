//! Placeholder.
mod store_contract;
