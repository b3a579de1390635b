//! The `fleet` program: a cluster in one terminal, and words to it from another.

mod arguments;
mod supervisor;
mod control;

use crate::{Fleet, FleetError};
use arguments::{Arguments, Request, Up};
use clap::{CommandFactory, Parser};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use supervisor::Supervisor;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Does what the command line says. Wants a multi-threaded runtime.
pub async fn run() -> ExitCode {
    let done = match Arguments::parse().request {
        Request::Up(up) => run_fleet(*up).await,
        Request::Tell(asked) => {
            let (folder, words) = asked.folder_and_words();
            tell(&folder, &words).await
        }
        Request::Completions { shell } => {
            let (mut command, mut script) = (Arguments::command(), Vec::new());
            clap_complete::generate(shell, &mut command, "fleet", &mut script);
            say(&String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        complain(&*error);
        ExitCode::FAILURE
    })
}

async fn run_fleet(up: Up) -> Result<ExitCode, Box<dyn Error>> {
    log_to_stderr();
    let mut signals = Signals::new()?;
    say(&format!("folder {}", up.folder().display()));
    let fleet = tokio::select! {
        started = start(&up) => started?,
        // What runs so far is killed: nobody has used it yet.
        () = signals.next() => return Ok(INTERRUPTED.into()),
    };
    let mut supervisor = Supervisor::new(fleet)?;
    say(&supervisor.table().await);
    say("ready; Ctrl-C ends everything");
    supervisor.follow(&mut signals).await;
    say("ending everything in order; Ctrl-C again kills it");
    tokio::select! {
        ended = supervisor.shut_down() => ended?,
        () = signals.next() => return Ok(INTERRUPTED.into()),
    }
    say("all parts have ended");
    Ok(ExitCode::SUCCESS)
}

async fn start(up: &Up) -> Result<Fleet, FleetError> {
    let cluster = up.cluster();
    if up.embedded {
        return Fleet::embedded_at(cluster.place, cluster.gateway).await;
    }
    Fleet::cluster(cluster).await
}

async fn tell(folder: &Path, words: &str) -> Result<ExitCode, Box<dyn Error>> {
    let answer = control::ask(folder, words).await?;
    match answer {
        Ok(text) => say(&text),
        Err(text) => return Err(text.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// What asks the program to end: Ctrl-C, `kill`, a terminal that is closed.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Where a fleet lives that was given no folder: the same place each time, so that `status` finds
/// it. It is emptied by the next `up`.
fn default_folder() -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    std::env::temp_dir().join(format!("roomcast-fleet-of-{user}"))
}

fn log_to_stderr() {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time();
    // It fails only where there is one already.
    let _set = log.with_target(false).with_max_level(tracing::Level::INFO).try_init();
}

fn say(text: &str) {
    // Whoever has closed the output wants to hear no more.
    let _closed = writeln!(std::io::stdout(), "{text}");
}

fn complain(error: &dyn Error) {
    let mut text = format!("fleet: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    let _closed = writeln!(std::io::stderr(), "{text}");
}
