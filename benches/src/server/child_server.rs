//! A server that is one process and says its port in its first line: a limit, or a peer.

use crate::error::LoadError;
use crate::usage::Watched;
use fleet::Fleet;
use std::io::{BufRead, BufReader, Error};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::runtime::Runtime;

/// A server that others write.
#[derive(Debug)]
pub(super) struct Peer {
    /// What it is called.
    pub(super) name: &'static str,
    script: &'static str,
    adapter: &'static str,
}

/// `ws` and one Redis channel for each room.
pub(super) const WS: Peer = Peer { name: "ws-ioredis", script: "ws-ioredis.mjs", adapter: "" };
/// Socket.IO over Redis channels.
pub(super) const SOCKET_IO: Peer =
    Peer { name: "socket-io", script: "socket-io.mjs", adapter: "redis" };
/// Socket.IO over a Redis stream.
pub(super) const SOCKET_IO_STREAMS: Peer =
    Peer { name: "socket-io-streams", script: "socket-io.mjs", adapter: "redis-streams" };

impl Peer {
    /// How it is started, from the folder with the peers.
    pub(super) fn command(&self, folder: Option<&Path>) -> Result<Command, LoadError> {
        let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let folder: PathBuf = folder.map_or_else(own, Path::to_owned);
        if !folder.join("node_modules").is_dir() {
            let folder = folder.display();
            let text = format!("--peers {folder}: run `npm ci` there first, or name another");
            return Err(LoadError::Option(text));
        }
        let mut command = Command::new("node");
        command.arg(folder.join(self.script)).env("ADAPTER", self.adapter).env("PORT", "0");
        command.env("NODE_ENV", "production");
        Ok(command)
    }
}

/// A process that serves; it is killed when this is dropped.
#[derive(Debug)]
pub(super) struct ChildServer {
    process: Child,
    pub(super) port: u16,
    pub(super) name: &'static str,
    /// The process of its Redis.
    pub(super) redis: Option<u32>,
    /// What has to live as long as it does.
    pub(super) needs: Option<(Box<Fleet>, Runtime)>,
}

impl ChildServer {
    /// Starts it, and waits for its port.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
    ) -> Result<ChildServer, LoadError> {
        let failed = |source| LoadError::io(format!("starting {name}"), source);
        // Ctrl-C in a terminal is for the generator, which then ends its server.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let process = command.spawn().map_err(failed)?;
        let mut server = ChildServer { process, port: 0, name, redis: None, needs: None };
        let mut line = String::new();
        if let Some(output) = server.process.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(failed)?;
        }
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        server.port = port.ok_or_else(|| failed(Error::other("it did not say its port")))?;
        Ok(server)
    }

    pub(super) fn watched(&self) -> Vec<Watched> {
        let own = Watched::new(self.name, vec![self.process.id()]);
        let redis = self.redis.map(|pid| Watched::new("redis", vec![pid]));
        [own].into_iter().chain(redis).collect()
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
