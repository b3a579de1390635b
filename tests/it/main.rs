//! What Roomcast promises, scenario by scenario, against processes that these tests started.

mod scene;
mod store_contract;
mod full_speed;
mod kills;
mod joins;
mod duplicates;
mod dead_letters;
mod resume;
mod metrics;
