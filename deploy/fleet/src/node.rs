//! One part of the fleet that can be killed, stopped and started again: what all parts do alike.
//!
//! A [`Node`] is the lasting side, its ports and files; a [`Process`] is one run of it. What kind
//! of part it is (gateway, worker, Redis, Postgres, `PgBouncer`) is its type parameter.

use crate::procfs::Identity;
use crate::run_dir::RunDir;
use crate::{Answer, FleetError, Process, Samples, http, port, process_tree};
use rustix::process::Signal;
use std::fmt::Debug;
use std::io::PipeWriter;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long one answer about readiness may take before the question is asked again.
pub(crate) const READY_ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How often a part that is not ready is asked again.
const POLL_EVERY: Duration = Duration::from_millis(10);
/// How often a part moves to other ports because somebody took the ones it was given.
const MOVES_MAX: u32 = 4;

/// What differs from one kind of part to the next. Only this crate has kinds.
pub trait Part: Debug + Send + Sync + 'static {
    /// What an orderly end begins with.
    const END_SIGNAL: Signal = Signal::TERM;
    /// Whether signals go to its children too.
    const IS_TREE: bool = false;

    /// Gives the program its flags and variables, and writes the files it reads.
    fn configure(&self, command: &mut Command) -> Result<(), FleetError>;

    /// Whether it does its work now; asked again and again.
    fn is_ready(&self) -> impl Future<Output = bool> + Send;

    /// Where it is reached, for people.
    fn address(&self) -> String;

    /// The ports it binds, to be replaced where somebody else has them.
    fn ports(&mut self) -> Vec<&mut u16>;
}

/// A part whose process has an operator port.
pub trait Operated: Part {
    /// The port of health, metrics and figures.
    fn operator_port(&self) -> u16;
}

/// A part of the fleet. Its ports and its files outlive its processes; dropping it kills the one
/// that runs.
#[derive(Debug)]
pub struct Node<P: Part> {
    name: String,
    program: PathBuf,
    run_dir: RunDir,
    log: PathBuf,
    part: P,
    process: Option<Process>,
    /// Where standard error of the next process goes, if not into the log.
    errors: Option<PipeWriter>,
}

impl<P: Part> Node<P> {
    /// A node that does not run yet.
    pub(crate) fn new(name: &str, program: PathBuf, run_dir: RunDir, part: P) -> Node<P> {
        let log = run_dir.log(name);
        Node { name: name.to_owned(), program, run_dir, log, part, process: None, errors: None }
    }

    /// Starts a process on the node's ports and files, after the end of the one before.
    pub fn start(&mut self) -> Result<(), FleetError> {
        // The process before has to be gone first: it holds the ports and the locks.
        self.end_now();
        let mut command = Command::new(&self.program);
        self.part.configure(&mut command)?;
        let errors = self.errors.take().map(Stdio::from);
        self.process = Some(self.run_dir.spawn(&self.name, command, errors)?);
        Ok(())
    }

    /// Has the next process write its standard error into a pipe, which the caller may leave unread
    /// or close.
    pub fn pipe_errors(&mut self, errors: PipeWriter) {
        self.errors = Some(errors);
    }

    /// Starts and waits; where somebody else took a port first, tries others.
    pub(crate) async fn start_anywhere(&mut self, within: Duration) -> Result<(), FleetError> {
        for _ in 0..MOVES_MAX {
            self.start()?;
            match self.ready(within).await {
                Err(FleetError::Ended { .. }) if self.move_ports()? => {}
                settled => return settled,
            }
        }
        self.start()?;
        self.ready(within).await
    }

    /// Takes other ports where one of them is somebody else's; whether it did.
    fn move_ports(&mut self) -> Result<bool, FleetError> {
        let mut ports = self.part.ports();
        if !ports.iter().any(|port| port::is_taken(**port)) {
            return Ok(false);
        }
        for port in &mut ports {
            **port = port::free_port()?;
        }
        Ok(true)
    }

    /// Waits until it does its work. A node that ends meanwhile is an error at once.
    pub async fn ready(&mut self, within: Duration) -> Result<(), FleetError> {
        let deadline = Instant::now() + within;
        loop {
            let process = self.process.as_mut().ok_or_else(|| not_running(&self.name))?;
            process.check_runs()?;
            if self.part.is_ready().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(process.too_slow("readiness", within));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Whether it does its work at this moment.
    pub async fn is_ready(&self) -> bool {
        self.process.is_some() && self.part.is_ready().await
    }

    /// SIGKILL, also for its children, and waits until all of them are gone.
    pub async fn kill_9(&mut self) -> Result<ExitStatus, FleetError> {
        let mut process = self.process.take().ok_or_else(|| not_running(&self.name))?;
        if let Some(root) = tree::<P>(&process) {
            process_tree::kill_9(root).await.map_err(|source| process.signal_error(source))?;
        }
        process.kill_9().await
    }

    /// Ends what runs, with SIGKILL, starts again on the same ports and files, and waits.
    pub async fn restart(&mut self, within: Duration) -> Result<(), FleetError> {
        if self.process.is_some() {
            self.kill_9().await?;
        }
        self.start()?;
        self.ready(within).await
    }

    /// Asks for an orderly end, and waits; one that stands still is woken. One that outlives
    /// `grace` is killed, which is an error.
    pub async fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, FleetError> {
        self.cont()?;
        let mut process = self.process.take().ok_or_else(|| not_running(&self.name))?;
        process.end(P::END_SIGNAL, grace).await
    }

    /// SIGSTOP: the node stands still, with its sockets open, once this returns.
    pub async fn stop(&self) -> Result<(), FleetError> {
        let process = self.running()?;
        match tree::<P>(process) {
            Some(root) => {
                process_tree::stop(root).await.map_err(|source| process.signal_error(source))
            }
            None => process.stop().await,
        }
    }

    /// SIGCONT: a stopped node goes on.
    pub fn cont(&self) -> Result<(), FleetError> {
        let process = self.running()?;
        match tree::<P>(process) {
            Some(root) => process_tree::cont(root).map_err(|source| process.signal_error(source)),
            None => process.cont(),
        }
    }

    /// How the process ended that was running, if it ended by itself; told once.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, FleetError> {
        let status = match &mut self.process {
            Some(process) => process.exited()?,
            None => None,
        };
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    /// `gateway-1`, `redis`: what its files are called too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process that runs now, for what the node itself does not offer.
    pub fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// The process id, while one runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref()?.pid()
    }

    /// The file that takes the output of all its processes, one after the other.
    pub fn log(&self) -> &Path {
        &self.log
    }

    pub(crate) fn part(&self) -> &P {
        &self.part
    }

    pub(crate) fn part_mut(&mut self) -> &mut P {
        &mut self.part
    }

    fn running(&self) -> Result<&Process, FleetError> {
        self.process.as_ref().ok_or_else(|| not_running(&self.name))
    }

    fn end_now(&mut self) {
        if let Some(process) = self.process.take()
            && let Some(root) = tree::<P>(&process)
        {
            process_tree::kill_9_now(root);
        }
    }
}

impl<P: Part> Drop for Node<P> {
    fn drop(&mut self) {
        self.end_now();
    }
}

impl<P: Operated> Node<P> {
    /// The port of health, metrics and figures.
    pub fn operator_port(&self) -> u16 {
        self.part.operator_port()
    }

    /// A page of the operator port, whatever its status.
    pub async fn operator_get(&self, path: &str) -> Result<Answer, FleetError> {
        http::get(self.operator_port(), path, ANSWER_WITHIN).await
    }

    /// The metrics at this moment.
    pub async fn metrics(&self) -> Result<Samples, FleetError> {
        Ok(Samples::parse(&self.operator_body("/metrics").await?))
    }

    /// The figures of `/stats` at this moment.
    pub async fn stats(&self) -> Result<serde_json::Value, FleetError> {
        let body = self.operator_body("/stats").await?;
        serde_json::from_str(&body).map_err(|_not_json| self.wrong("/stats", 200, &body))
    }

    async fn operator_body(&self, path: &str) -> Result<String, FleetError> {
        let answer = self.operator_get(path).await?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        Err(self.wrong(path, answer.status, &answer.body))
    }

    fn wrong(&self, path: &str, status: u16, body: &str) -> FleetError {
        let url = format!("http://127.0.0.1:{}{path}", self.operator_port());
        FleetError::WrongAnswer { url, status, body: body.chars().take(300).collect() }
    }
}

/// Whether the operator port says that the process is ready.
pub(crate) async fn is_operator_ready(operator_port: u16) -> bool {
    let answer = http::get(operator_port, "/readyz", READY_ANSWER_WITHIN).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// A page of a public port.
pub(crate) async fn get(port: u16, path: &str) -> Result<Answer, FleetError> {
    http::get(port, path, ANSWER_WITHIN).await
}

/// The process whose children have to be signalled with it.
fn tree<P: Part>(process: &Process) -> Option<Identity> {
    if P::IS_TREE { process.identity() } else { None }
}

fn not_running(name: &str) -> FleetError {
    FleetError::NotRunning { name: name.to_owned() }
}
