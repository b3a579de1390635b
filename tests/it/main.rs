//! Placeholder.
mod store_contract;
mod one_gateway;
mod raw_frames;
mod handshakes;
mod bad_commands;
mod slow_clients;
mod limits;
