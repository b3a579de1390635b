//! What can go wrong while a fleet is started or spoken to.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why the fleet could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// A file or folder of the fleet could not be used.
    #[error("{path} cannot be used")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system did not start the program.
    #[error("{name} could not be spawned")]
    Spawn {
        /// The part of the fleet.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// `cargo build` did not make the program.
    #[error("cargo build -p {package} ended with {status}")]
    Build {
        /// The package that was built.
        package: String,
        /// How cargo ended.
        status: ExitStatus,
    },
    /// The part is not running, so it can neither be signalled nor waited for.
    #[error("{name} is not running")]
    NotRunning {
        /// The part of the fleet.
        name: String,
    },
    /// The part ended before it did what was waited for.
    #[error("{name} ended with {status} before it was ready; the end of its log:\n{log}")]
    Ended {
        /// The part of the fleet.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        log: String,
    },
    /// A deadline passed.
    #[error("{name}: {what} took longer than {within:?}; the end of its log:\n{log}")]
    TooSlow {
        /// The part of the fleet.
        name: String,
        /// What was waited for.
        what: &'static str,
        /// The deadline.
        within: Duration,
        /// The last lines it wrote.
        log: String,
    },
    /// A signal could not be sent or an exit not be waited for.
    #[error("{name} cannot be signalled or waited for")]
    Signal {
        /// The part of the fleet.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// No port could be bound on 127.0.0.1.
    #[error("no free port on 127.0.0.1")]
    NoFreePort(#[source] std::io::Error),
    /// A request did not get as far as an answer.
    #[error("GET {url} got no answer")]
    NoAnswer {
        /// What was asked.
        url: String,
        /// Why not.
        source: std::io::Error,
    },
    /// An answer was not what this address answers in health.
    #[error("GET {url} answered {status}: {body}")]
    WrongAnswer {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The start of the body.
        body: String,
    },
}
