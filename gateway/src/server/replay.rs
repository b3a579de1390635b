//! `gateway journal replay`: offers to the log what the journal of a dead node holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use shared::process::clock::Clock;
use shared::process::readiness::Readiness;
use shared::process::tasks::Tasks;
use shared::store::sqlite::journal::JournalOpenError;
use tokio::time::MissedTickBehavior;
use tracing::info;

use super::{StartError, cluster, parts};
use crate::broker::epochs::Epochs;
use crate::config::{GatewaySettings, JournalMode};
use crate::metrics::Metrics;

/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// Which journal.
#[derive(Debug, Clone, Args, Serialize)]
pub struct ReplayRequest {
    /// The data folder of the node that is gone, or the folder `journal` in it.
    pub folder: PathBuf,
}

/// Offers everything to the log, and waits until the database has it; says how much it was.
///
/// # Errors
/// When the journal cannot be opened, or the servers are not those of this deployment.
pub async fn run(
    mut settings: GatewaySettings,
    request: &ReplayRequest,
) -> Result<u64, StartError> {
    let is_journal = request.folder.file_name().is_some_and(|name| name == "journal");
    let data = if is_journal { request.folder.parent() } else { Some(&*request.folder) };
    settings.data_dir = data.unwrap_or(Path::new(".")).to_owned();
    let folder = settings.data_dir.join("journal");
    if !folder.is_dir() {
        // To make it would look as if nothing were left.
        let source = std::io::ErrorKind::NotADirectory.into();
        return Err(JournalOpenError::Folder { folder, source }.into());
    }
    // What the log takes stays in the file until the database has it.
    settings.journal = JournalMode::Outage;
    let (readiness, clock) = (Readiness::new(), Clock::system());
    let tasks = Tasks::new(&readiness);
    let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()));
    let mut backend = cluster::start(&settings, &clock, &metrics, (&readiness, &tasks))?;
    for (name, task) in std::mem::take(&mut backend.background_tasks) {
        tasks.spawn(name, task);
    }
    let epochs = Arc::new(Epochs::new(Arc::clone(&backend.log), Arc::clone(&backend.store)));
    let (queue, _refused) =
        parts::append_queue((&settings, &clock), &metrics, (&backend, &epochs), &tasks)?;
    let entries = queue.journal().map_or(0, |journal| journal.held().entries);
    let mut progress = tokio::time::interval(PROGRESS);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = progress.tick() => {}
            fatal = &mut backend.fatal => {
                if let Ok(fatal) = fatal {
                    return Err(fatal);
                }
            }
        }
        let left = queue.journal().map_or(0, |journal| journal.held().entries);
        info!(entries, left, "the journal is replayed");
        if left == 0 {
            break;
        }
    }
    tasks.abort();
    Ok(entries)
}
