//! Placeholder.
mod store_contract;
mod tidy;
