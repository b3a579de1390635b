//! A Redis of the fleet, with its append-only file on.

mod reply;

use crate::binary::find_installed;
use crate::node::{Part, READY_ANSWER_WITHIN};
use crate::run_dir::RunDir;
use crate::{FleetError, Node, port};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;

pub use reply::Reply;

/// How long one command may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// When Redis forces what it wrote to the disk. A process that is killed loses nothing either
/// way; a machine that loses power does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AppendFsync {
    /// Once a second, as most servers run.
    #[default]
    EverySecond,
    /// Before each answer.
    Always,
}

/// What a Redis is started with.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// When it forces the append-only file to the disk.
    pub append_fsync: AppendFsync,
    /// What clients have to say first; nothing by default.
    pub password: Option<String>,
    /// Further lines of `redis.conf` by their first word; they win over what the fleet sets
    /// (`maxmemory-policy` is `noeviction`).
    pub settings: BTreeMap<String, String>,
}

impl RedisOptions {
    /// The same options with one more line of `redis.conf`.
    #[must_use]
    pub fn with_setting(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// A redis-server: ready when it answers `PING`, which it does not while it loads its file.
pub type RedisServer = Node<Redis>;

/// What makes a [`Node`] a Redis.
#[derive(Debug)]
pub struct Redis {
    options: RedisOptions,
    port: u16,
    folder: PathBuf,
    config: PathBuf,
}

impl Redis {
    fn config(&self) -> String {
        let mut lines: BTreeMap<&str, String> = [
            ("bind", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            ("dir", format!("\"{}\"", self.folder.display())),
            ("save", "\"\"".to_owned()),
            ("appendonly", "yes".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
        ]
        .into();
        let fsync = match self.options.append_fsync {
            AppendFsync::EverySecond => "everysec",
            AppendFsync::Always => "always",
        };
        lines.insert("appendfsync", fsync.to_owned());
        if let Some(password) = &self.options.password {
            let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
            lines.insert("requirepass", format!("\"{quoted}\""));
        }
        for (key, value) in &self.options.settings {
            lines.insert(key, value.clone());
        }
        lines.iter().fold(String::new(), |mut text, (key, value)| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} {value}");
            text
        })
    }

    fn url_at(&self, port: u16) -> String {
        let password = self.options.password.as_deref();
        let login = password
            .map(|password| format!(":{}@", utf8_percent_encode(password, NON_ALPHANUMERIC)))
            .unwrap_or_default();
        format!("redis://{login}127.0.0.1:{port}")
    }
}

impl Part for Redis {
    fn configure(&self, command: &mut Command) -> Result<(), FleetError> {
        let unusable = |source| FleetError::Folder { path: self.folder.clone(), source };
        std::fs::create_dir_all(&self.folder).map_err(unusable)?;
        std::fs::write(&self.config, self.config()).map_err(unusable)?;
        command.arg(&self.config);
        Ok(())
    }

    async fn is_ready(&self) -> bool {
        let url = self.url_at(self.port);
        let ping = reply::ask(&url, &["PING"]);
        let answer = tokio::time::timeout(READY_ANSWER_WITHIN, ping).await;
        matches!(answer, Ok(Ok(reply)) if reply.text() == Some("PONG"))
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn ports(&mut self) -> Vec<&mut u16> {
        vec![&mut self.port]
    }
}

impl RedisServer {
    /// A Redis that does not run yet. Data that lies in the site is used.
    pub(crate) fn redis(
        run_dir: &RunDir,
        options: RedisOptions,
    ) -> Result<RedisServer, FleetError> {
        let program = find_installed("redis-server", "redis-server", &[])?;
        let part = Redis {
            options,
            port: port::free_port()?,
            folder: run_dir.path("redis"),
            config: run_dir.path("redis.conf"),
        };
        Ok(Node::new("redis", program, run_dir.clone(), part))
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.part().port
    }

    /// The address with the password, for `REDIS_URL`.
    pub fn url(&self) -> String {
        self.url_at(self.port())
    }

    /// As [`RedisServer::url`] for a proxy in front.
    pub fn url_at(&self, port: u16) -> String {
        self.part().url_at(port)
    }

    /// What the next start will use.
    pub fn options_mut(&mut self) -> &mut RedisOptions {
        &mut self.part_mut().options
    }

    /// One command on a connection of its own; an error that Redis answers is an error.
    pub async fn command(&self, words: &[&str]) -> Result<Reply, FleetError> {
        let url = self.url();
        let no_answer = |source| FleetError::NoAnswer { url: url.clone(), source };
        let ask = reply::ask(&url, words);
        match tokio::time::timeout(ANSWER_WITHIN, ask).await {
            Ok(Ok(Reply::Error(answer))) => {
                Err(FleetError::Refused { name: self.name().to_owned(), answer })
            }
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(source)) => Err(no_answer(source)),
            Err(_elapsed) => Err(no_answer(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

#[cfg(test)]
mod tests;
