//! One binary of scenarios: a file each, against processes that the scenario started.
mod log_contract;
mod store_contract;
mod tidy;
mod protocol_md;
mod readme;
