//! One binary of scenarios: a file each, against processes that the scenario started.

mod scene;
mod log_contract;
mod store_contract;
mod tidy;
mod readme;
mod protocol_md;
mod full_speed;
mod kills;
mod joins;
mod duplicates;
mod dead_letters;
mod resume;
mod metrics;
mod one_gateway;
mod raw_frames;
mod handshakes;
mod bad_commands;
mod slow_clients;
mod limits;
mod rate_limits;
mod credits;
mod configuration;
mod who_is_asking;
mod cluster;
mod http_api;
mod deploy_files;
