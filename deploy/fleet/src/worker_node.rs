//! A sync-worker of the fleet.

use crate::node::{self, Operated, Part};
use crate::run_dir::RunDir;
use crate::{FleetError, Node, port};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::process::Command;

/// What a worker is started with, beside its port.
#[derive(Debug, Clone, Default)]
pub struct WorkerOptions {
    /// Variables; they win over what the fleet sets.
    pub env: BTreeMap<String, String>,
    /// Flags.
    pub flags: Vec<String>,
}

impl WorkerOptions {
    /// The same options with one more variable.
    #[must_use]
    pub fn with_env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.insert(key.to_owned(), value.into());
        self
    }
}

/// A worker: ready when its `/readyz` says so.
pub type WorkerNode = Node<Worker>;

/// What makes a [`Node`] a worker.
#[derive(Debug)]
pub struct Worker {
    options: WorkerOptions,
    operator_port: u16,
}

impl Part for Worker {
    fn configure(&self, command: &mut Command) -> Result<(), FleetError> {
        command.env("ROOMCAST_OPERATOR_PORT", self.operator_port.to_string());
        command.envs(&self.options.env).args(&self.options.flags);
        Ok(())
    }

    async fn is_ready(&self) -> bool {
        node::is_operator_ready(self.operator_port).await
    }

    fn address(&self) -> String {
        format!("operator http://127.0.0.1:{}/metrics", self.operator_port)
    }

    fn ports(&mut self) -> Vec<&mut u16> {
        vec![&mut self.operator_port]
    }
}

impl Operated for Worker {
    fn operator_port(&self) -> u16 {
        self.operator_port
    }
}

impl WorkerNode {
    /// A worker that does not run yet.
    pub(crate) fn worker(
        name: &str,
        program: PathBuf,
        run_dir: &RunDir,
        options: WorkerOptions,
    ) -> Result<WorkerNode, FleetError> {
        let part = Worker { options, operator_port: port::free_port()? };
        Ok(Node::new(name, program, run_dir.clone(), part))
    }

    /// What the next start will use.
    pub fn options_mut(&mut self) -> &mut WorkerOptions {
        &mut self.part_mut().options
    }
}
