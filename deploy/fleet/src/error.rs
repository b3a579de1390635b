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
    /// The package was built, and the program is not there.
    #[error("its package has no program {path}")]
    NotBuilt {
        /// Where it should be.
        path: PathBuf,
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
    /// A port that was asked for cannot be bound.
    #[error("port {port} of 127.0.0.1 cannot be bound")]
    PortTaken {
        /// Which one.
        port: u16,
        /// Why not.
        source: std::io::Error,
    },
    /// A request did not get as far as an answer.
    #[error("{url} gave no answer")]
    NoAnswer {
        /// What was asked.
        url: String,
        /// Why not.
        source: std::io::Error,
    },
    /// An answer was not what this address answers in health.
    #[error("{url} answered {status}: {body}")]
    WrongAnswer {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// Nobody listens in the folder.
    #[error("no fleet runs in {path}; start one with `fleet up`")]
    NoFleet {
        /// Which folder.
        path: PathBuf,
    },
    /// Another fleet runs in the folder.
    #[error("another fleet runs in {path}")]
    FolderInUse {
        /// Which folder.
        path: PathBuf,
    },
    /// A folder is shut for the user a server runs as.
    #[error("{user} cannot enter {path}, and its server cannot run as root: chmod o+x {path}")]
    Shut {
        /// The folder that is shut.
        path: PathBuf,
        /// The user of the server.
        user: String,
    },
    /// There is no user to run a server as, and it refuses to run as root.
    #[error("neither the user postgres nor nobody is in /etc/passwd")]
    NoUser,
    /// A program of another package is not on this machine.
    #[error("{program} is missing; on Debian: {}", install_command(package))]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program that prepares something for a server failed.
    #[error("{program} ended with {status}: {output}")]
    Preparation {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote.
        output: String,
    },
    /// A server answered with an error of its own.
    #[error("{name} refused: {answer}")]
    Refused {
        /// The server.
        name: String,
        /// What it said.
        answer: String,
    },
    /// A part runs already.
    #[error("{name} runs already")]
    AlreadyRuns {
        /// The part.
        name: String,
    },
    /// The fleet has no such part.
    #[error("this fleet has no {name}")]
    NoSuchPart {
        /// The part.
        name: String,
    },
}

/// What a person types to get a missing package.
fn install_command(package: &str) -> String {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    format!("{sudo}apt-get install -y --no-install-recommends {package}")
}
