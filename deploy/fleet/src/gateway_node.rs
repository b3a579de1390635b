//! A gateway of the fleet.

use crate::node::{self, Operated, Part};
use crate::run_dir::RunDir;
use crate::{Answer, FleetError, Node, port};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// What a gateway is started with, beside its ports and its folder.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// `--dev`: anybody is who they say they are. On by default.
    pub dev: bool,
    /// `ROOMCAST_JWT_SECRET`; none by default.
    pub jwt_secret: Option<String>,
    /// Further variables; they win over what the fleet sets. By default those that take rate
    /// limits out of the way.
    pub env: BTreeMap<String, String>,
    /// Further flags.
    pub flags: Vec<String>,
}

/// Tests say in a second what people say in an hour: limits are out of their way, unless a test is
/// about them.
const OUT_OF_THE_WAY: [(&str, &str); 7] = [
    ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "1000000"),
    ("WEBSOCKET_RATE_LIMIT_TYPING_EVENTS", "1000000"),
    ("WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "1000000"),
    ("WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE", "1000000"),
    ("ROOMCAST_RATE_LIMIT_RESUME", "1000000"),
    ("ROOMCAST_RATE_LIMIT_STREAM", "1000000"),
    ("ROOMCAST_RATE_LIMIT_HISTORY", "1000000"),
];

impl Default for GatewayOptions {
    fn default() -> Self {
        let env = OUT_OF_THE_WAY.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { env: env.into(), ..Self::plain() }
    }
}

impl GatewayOptions {
    /// `--dev`, and the gateway's own defaults for everything else.
    #[must_use]
    pub fn plain() -> Self {
        Self { dev: true, jwt_secret: None, env: BTreeMap::new(), flags: Vec::new() }
    }

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

/// A gateway: ready when its `/readyz` says so.
pub type GatewayNode = Node<Gateway>;

/// What makes a [`Node`] a gateway.
#[derive(Debug)]
pub struct Gateway {
    options: GatewayOptions,
    port: u16,
    operator_port: u16,
    data_dir: PathBuf,
}

impl Part for Gateway {
    fn configure(&self, command: &mut Command) -> Result<(), FleetError> {
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
        Ok(())
    }

    async fn is_ready(&self) -> bool {
        node::is_operator_ready(self.operator_port).await
    }

    fn address(&self) -> String {
        let (port, operator_port) = (self.port, self.operator_port);
        format!("http://127.0.0.1:{port}/  operator http://127.0.0.1:{operator_port}/metrics")
    }

    fn ports(&mut self) -> Vec<&mut u16> {
        vec![&mut self.port, &mut self.operator_port]
    }
}

impl Operated for Gateway {
    fn operator_port(&self) -> u16 {
        self.operator_port
    }
}

impl GatewayNode {
    /// A gateway that does not run yet. Its log and its data lie under its name.
    pub(crate) fn gateway(
        name: &str,
        program: PathBuf,
        run_dir: &RunDir,
        options: GatewayOptions,
    ) -> Result<GatewayNode, FleetError> {
        let part = Gateway {
            options,
            port: port::free_port()?,
            operator_port: port::free_port()?,
            data_dir: run_dir.path(format!("{name}-data")),
        };
        Ok(Node::new(name, program, run_dir.clone(), part))
    }

    /// The port of sockets, page and API.
    pub fn port(&self) -> u16 {
        self.part().port
    }

    /// The folder with the database and the journal.
    pub fn data_dir(&self) -> &Path {
        &self.part().data_dir
    }

    /// What the next start will use.
    pub fn options_mut(&mut self) -> &mut GatewayOptions {
        &mut self.part_mut().options
    }

    /// Where the WebSocket is; the caller adds `?user=…` where the node runs with `--dev`.
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port())
    }

    /// A page of the public port.
    pub async fn get(&self, path: &str) -> Result<Answer, FleetError> {
        node::get(self.port(), path).await
    }
}

#[cfg(test)]
mod tests;
