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
    /// The server did not do in time what a scenario waits for.
    #[error("{what} after {seconds} s; {seen}")]
    TooSlow {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// How far it came.
        seen: String,
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
