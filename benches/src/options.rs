//! The options that all scenarios have.

use crate::dialect::Dialect;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What is started for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Start {
    /// One gateway that is its own database.
    Embedded,
    /// Gateways and workers over Redis and Postgres.
    Cluster,
    /// The limit: one send for each recipient of each message.
    LimitDirect,
    /// The limit: what gathered for a connection in one turn of the loop goes in one send.
    LimitCoalesce,
    /// A peer: ws, and a Redis channel for each room.
    Ws,
    /// A peer: Socket.IO with its redis adapter.
    SocketIo,
    /// A peer: Socket.IO with its redis-streams adapter.
    SocketIoStreams,
}

/// Options of a scenario. What has no default here has one in each scenario's own text.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Start what is to be under load, on free ports and in a temporary folder, and end it after
    #[arg(long, value_enum, help_heading = "Server")]
    pub start: Option<Start>,
    /// WebSocket of a server that runs already, ws://127.0.0.1:PORT/ws; connections are spread
    /// over several
    #[arg(long, value_name = "URL", conflicts_with = "start", help_heading = "Server")]
    pub url: Vec<String>,
    /// Processes of that server, as name=pid; the first is the one that figures are about
    #[arg(long, value_name = "NAME=PID", value_delimiter = ',', help_heading = "Server")]
    pub pids: Vec<String>,
    /// Secret that tokens are signed with, of at least 32 bytes; none with --url means no tokens
    #[arg(long, help_heading = "Server")]
    pub secret: Option<String>,
    /// What the server at --url speaks
    #[arg(long, value_enum, default_value = "roomcast", help_heading = "Server")]
    pub dialect: Dialect,
    /// Gateway to start; by default that of this workspace, built if need be
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub gateway_program: Option<PathBuf>,
    /// Worker to start; by default that of this workspace, built if need be
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub worker_program: Option<PathBuf>,
    /// Folder with the peers, after `npm ci`; by default that of this workspace
    #[arg(long, value_name = "FOLDER", help_heading = "Server")]
    pub peers: Option<PathBuf>,
    /// Gateways of a cluster
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Server",
          value_parser = clap::value_parser!(u32).range(1..=32))]
    pub gateways: u32,
    /// Workers of a cluster
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Server",
          value_parser = clap::value_parser!(u32).range(0..=32))]
    pub workers: u32,
    /// A variable for the gateways, such as `ROOMCAST_LOG=warn`
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Server")]
    pub set: Vec<String>,
    /// Gateways run on core 0; all else, this program too, on core 1
    #[arg(long, help_heading = "Server")]
    pub pin: bool,

    /// Clients, one connection and one user each
    #[arg(long, value_name = "N", help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: Option<u32>,
    /// Rooms that they are spread over
    #[arg(long, value_name = "N", help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rooms: Option<u32>,
    /// Closed loop: what is under way at a time, messages of a room or clients that connect
    #[arg(long, value_name = "N", help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub outstanding: Option<u32>,
    /// Open loop: messages a second, sent when they are due whatever was answered
    #[arg(long, value_name = "N", help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Messages in all
    #[arg(long, value_name = "N", help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub messages: Option<u32>,
    /// Bytes of a message's content
    #[arg(long, value_name = "N", default_value_t = 200, help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(18..=200_000))]
    pub bytes: u32,
    /// For how long is measured
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// For how long the load runs before that
    #[arg(long, value_name = "SECONDS", default_value_t = 2, help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub warmup: u32,

    /// Write the result there too
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// No line of progress each second
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,
}
