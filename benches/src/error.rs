//! What can go wrong outside the server under load.

use std::io;

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option that cannot be; the text names it.
    #[error("{0}")]
    Option(String),
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// What was to be started did not start.
    #[error("the server did not start")]
    Start(#[from] fleet::FleetError),
    /// Not everybody who was to be in a room is in it.
    #[error("only {joined} of {members} could join: {why}")]
    Absent {
        /// How many are.
        joined: usize,
        /// How many were to be.
        members: usize,
        /// What the first of them met with.
        why: String,
    },
    /// Ctrl-C, or SIGTERM.
    #[error("stopped by a signal")]
    Stopped,
}

impl LoadError {
    /// An answer of the operating system to `what`.
    pub fn io(what: impl Into<String>, source: io::Error) -> LoadError {
        LoadError::Io { what: what.into(), source }
    }
}
