//! One binary of scenarios: a file each, against processes that the scenario started.

mod log_contract;
mod store_contract;
mod tidy;
mod protocol_md;
mod readme;
mod scene;
mod full_speed;
mod kills;
mod joins;
mod duplicates;
mod dead_letters;
mod resume;
mod metrics;
