//! A part of whatever kind, for whoever treats all parts alike.

use crate::FleetError;
use crate::node::{Node, Part};
use async_trait::async_trait;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

/// What every [`Node`] can do, whatever it is. The methods are those of [`Node`].
#[async_trait]
pub trait AnyNode: Send + Sync {
    /// `gateway-1`, `redis`.
    fn name(&self) -> &str;
    /// Where it is reached.
    fn address(&self) -> String;
    /// The process id, while one runs.
    fn pid(&self) -> Option<u32>;
    /// The file that takes the output.
    fn log(&self) -> &Path;
    /// How the process ended, if it did so by itself; told once.
    fn ended(&mut self) -> Result<Option<ExitStatus>, FleetError>;
    /// Starts a process, after the end of the one before.
    fn start(&mut self) -> Result<(), FleetError>;
    /// Whether it does its work at this moment.
    async fn is_ready(&self) -> bool;
    /// SIGKILL, also for its children.
    async fn kill_9(&mut self) -> Result<ExitStatus, FleetError>;
    /// An orderly end.
    async fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, FleetError>;
    /// SIGSTOP, also for its children.
    async fn stop(&self) -> Result<(), FleetError>;
    /// SIGCONT, also for its children.
    fn cont(&self) -> Result<(), FleetError>;
}

#[async_trait]
impl<P: Part> AnyNode for Node<P> {
    fn name(&self) -> &str {
        self.name()
    }

    fn address(&self) -> String {
        self.part().address()
    }

    fn pid(&self) -> Option<u32> {
        self.pid()
    }

    fn log(&self) -> &Path {
        self.log()
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, FleetError> {
        self.ended()
    }

    fn start(&mut self) -> Result<(), FleetError> {
        self.start()
    }

    async fn is_ready(&self) -> bool {
        self.is_ready().await
    }

    async fn kill_9(&mut self) -> Result<ExitStatus, FleetError> {
        self.kill_9().await
    }

    async fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, FleetError> {
        self.terminate(grace).await
    }

    async fn stop(&self) -> Result<(), FleetError> {
        self.stop().await
    }

    fn cont(&self) -> Result<(), FleetError> {
        self.cont()
    }
}
