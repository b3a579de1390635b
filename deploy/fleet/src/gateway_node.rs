//! One gateway of the fleet: its ports and its folder outlive its processes.

use crate::process::Process;
use crate::{Answer, FleetError, Samples, http, port};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// How often a node that is not ready is asked again.
const POLL_EVERY: Duration = Duration::from_millis(10);
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long one answer about readiness may take before the question is asked again.
const READY_ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What a gateway is started with, beside its ports and its folder.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// `--dev`: anybody is who they say they are. On by default.
    pub dev: bool,
    /// `ROOMCAST_JWT_SECRET`; none by default.
    pub jwt_secret: Option<String>,
    /// Further variables; they win over what the fleet sets.
    pub env: BTreeMap<String, String>,
    /// Further flags.
    pub flags: Vec<String>,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self { dev: true, jwt_secret: None, env: BTreeMap::new(), flags: Vec::new() }
    }
}

impl GatewayOptions {
    /// The same options with one more variable.
    #[must_use]
    pub fn with_env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.insert(key.to_owned(), value.into());
        self
    }

    /// Tokens signed with `secret` instead of `--dev`.
    #[must_use]
    pub fn with_jwt_secret(mut self, secret: &str) -> Self {
        self.jwt_secret = Some(secret.to_owned());
        self.dev = false;
        self
    }
}

/// A gateway that can be killed, stopped and started again on the same ports and the same folder.
#[derive(Debug)]
pub struct GatewayNode {
    name: String,
    program: PathBuf,
    options: GatewayOptions,
    port: u16,
    operator_port: u16,
    data_dir: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl GatewayNode {
    /// A node that does not run yet. Its log and its data lie in `folder`, under its name.
    pub(crate) fn new(
        name: &str,
        program: PathBuf,
        folder: &Path,
        options: GatewayOptions,
    ) -> Result<GatewayNode, FleetError> {
        Ok(GatewayNode {
            name: name.to_owned(),
            program,
            options,
            port: port::free_port()?,
            operator_port: port::free_port()?,
            data_dir: folder.join(format!("{name}-data")),
            log: folder.join(format!("{name}.log")),
            process: None,
        })
    }

    /// Starts a process on the node's ports and folder, after the end of the one before.
    pub fn start(&mut self) -> Result<(), FleetError> {
        // The process before has to be gone first: it holds the ports and the lock on the folder.
        self.process = None;
        let mut command = Command::new(&self.program);
        command
            .env("PORT", self.port.to_string())
            .env("ROOMCAST_OPERATOR_PORT", self.operator_port.to_string())
            .env("ROOMCAST_DATA_DIR", &self.data_dir)
            .env("ROOMCAST_BIND", "127.0.0.1");
        if let Some(secret) = &self.options.jwt_secret {
            command.env("ROOMCAST_JWT_SECRET", secret);
        }
        if self.options.dev {
            command.arg("--dev");
        }
        command.envs(&self.options.env).args(&self.options.flags);
        self.process = Some(Process::spawn(&self.name, command, &self.log)?);
        Ok(())
    }

    /// Starts and waits; where somebody else took a port first, tries others.
    pub(crate) async fn start_anywhere(&mut self, within: Duration) -> Result<(), FleetError> {
        for _ in 0..4 {
            self.start()?;
            match self.ready(within).await {
                Err(FleetError::Ended { .. })
                    if port::is_taken(self.port) || port::is_taken(self.operator_port) =>
                {
                    self.port = port::free_port()?;
                    self.operator_port = port::free_port()?;
                }
                settled => return settled,
            }
        }
        self.start()?;
        self.ready(within).await
    }

    /// Waits until `/readyz` answers 200. A node that ends meanwhile is an error at once.
    pub async fn ready(&mut self, within: Duration) -> Result<(), FleetError> {
        let deadline = Instant::now() + within;
        loop {
            let process = self.process.as_mut().ok_or_else(|| not_running(&self.name))?;
            if let Some(status) = process.exited()? {
                return Err(process.ended(status));
            }
            let answer = http::get(self.operator_port, "/readyz", READY_ANSWER_WITHIN).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(process.too_slow("readiness", within));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub async fn kill_9(&mut self) -> Result<ExitStatus, FleetError> {
        let mut process = self.process.take().ok_or_else(|| not_running(&self.name))?;
        process.kill_9().await
    }

    /// Ends what runs, with SIGKILL, starts again on the same ports and folder, and waits.
    pub async fn restart(&mut self, within: Duration) -> Result<(), FleetError> {
        self.start()?;
        self.ready(within).await
    }

    /// SIGTERM, and waits for the orderly end.
    pub async fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, FleetError> {
        let mut process = self.process.take().ok_or_else(|| not_running(&self.name))?;
        process.terminate(grace).await
    }

    /// SIGSTOP: the node stands still, with its sockets open, once this returns.
    pub async fn stop(&self) -> Result<(), FleetError> {
        self.running()?.stop().await
    }

    /// SIGCONT: a stopped node goes on.
    pub fn cont(&self) -> Result<(), FleetError> {
        self.running()?.cont()
    }

    /// The process that runs now, for what the node itself does not offer.
    pub fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// The process id, while one runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref()?.pid()
    }

    /// The port of sockets, page and API.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of health, metrics and figures.
    pub fn operator_port(&self) -> u16 {
        self.operator_port
    }

    /// The folder with the database and the journal.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The file that takes the output of all its processes, one after the other.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What the next start will use.
    pub fn options_mut(&mut self) -> &mut GatewayOptions {
        &mut self.options
    }

    /// Where the WebSocket is; the caller adds `?user=…` where the node runs with `--dev`.
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port)
    }

    /// A page of the public port.
    pub async fn get(&self, path: &str) -> Result<Answer, FleetError> {
        http::get(self.port, path, ANSWER_WITHIN).await
    }

    /// A page of the operator port, whatever its status.
    pub async fn operator_get(&self, path: &str) -> Result<Answer, FleetError> {
        http::get(self.operator_port, path, ANSWER_WITHIN).await
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
        let url = format!("http://127.0.0.1:{}{path}", self.operator_port);
        FleetError::WrongAnswer { url, status, body: body.chars().take(300).collect() }
    }

    fn running(&self) -> Result<&Process, FleetError> {
        self.process.as_ref().ok_or_else(|| not_running(&self.name))
    }
}

fn not_running(name: &str) -> FleetError {
    FleetError::NotRunning { name: name.to_owned() }
}

#[cfg(test)]
mod tests;
