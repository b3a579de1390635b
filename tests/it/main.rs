//! Placeholder.
mod store_contract;
mod tidy;
mod protocol_md;
mod readme;
