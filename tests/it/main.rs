//! Placeholder.
mod log_contract;
mod store_contract;
mod tidy;
mod protocol_md;
mod readme;
