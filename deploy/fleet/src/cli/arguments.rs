//! What the command line asks for.

use super::default_folder;
use crate::{ClusterOptions, GatewayOptions, Place, PostgresOptions};
use clap::{Args, Parser, Subcommand, value_parser};
use clap_complete::Shell;
use std::path::PathBuf;

/// A local fleet of Roomcast processes on free ports of 127.0.0.1
#[derive(Debug, Parser)]
#[command(name = "fleet")]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) request: Request,
}

/// What the program shall do.
#[derive(Debug, Subcommand)]
pub(super) enum Request {
    /// Starts a fleet, follows its health, and ends it on Ctrl-C
    Up(Box<Up>),
    #[command(flatten)]
    Tell(Tell),
    /// Prints a completion script for a shell
    Completions {
        /// The shell that is to complete commands
        shell: Shell,
    },
}

/// Words for the fleet that runs in a folder.
#[derive(Debug, Subcommand)]
pub(super) enum Tell {
    /// Shows what runs, where, and whether it is ready
    Status(Folder),
    /// Kills a part with SIGKILL
    Kill(Part),
    /// Lets a part stand still, with its sockets open (SIGSTOP)
    Stop(Part),
    /// Lets a stopped part go on (SIGCONT)
    Cont(Part),
    /// Starts a part that has ended, on the same ports and files
    Start(Part),
}

#[derive(Debug, Args)]
pub(super) struct Part {
    /// `gateway 2`, `worker 1`, `redis`, `postgres` or `pgbouncer`
    #[arg(required = true, num_args = 1..=2)]
    part: Vec<String>,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
pub(super) struct Folder {
    /// Where logs and data are kept; by default a fixed folder for temporary files, which the next
    /// `up` empties
    #[arg(long = "folder", value_name = "DIR")]
    path: Option<PathBuf>,
}

/// The fleet to start.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// How many gateways
    #[arg(long, value_name = "N", default_value_t = 2)]
    gateways: u8,
    /// How many sync-workers
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u8,
    /// One gateway that is its own database, and nothing else
    #[arg(long)]
    pub(super) embedded: bool,
    /// Put a PgBouncer in transaction mode in front of Postgres
    #[arg(long)]
    pgbouncer: bool,
    /// The port of the balancer; a free one by default
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Ask for tokens signed with this instead of trusting everybody
    #[arg(long, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// A variable for the gateways; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    gateway_env: Vec<(String, String)>,
    /// A variable for the workers; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    worker_env: Vec<(String, String)>,
    /// Run this instead of building the gateway
    #[arg(long, value_name = "FILE")]
    gateway_program: Option<PathBuf>,
    /// Run this instead of building the sync-worker
    #[arg(long, value_name = "FILE")]
    worker_program: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
}

impl Tell {
    /// Where the fleet is, and the words for it.
    pub(super) fn folder_and_words(self) -> (PathBuf, String) {
        let (verb, Part { part, folder }) = match self {
            Tell::Status(folder) => return (folder.path(), "status".to_owned()),
            Tell::Kill(part) => ("kill", part),
            Tell::Stop(part) => ("stop", part),
            Tell::Cont(part) => ("cont", part),
            Tell::Start(part) => ("start", part),
        };
        (folder.path(), format!("{verb} {}", part.join("-")))
    }
}

impl Folder {
    fn path(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(default_folder)
    }
}

impl Up {
    /// Where the fleet is kept.
    pub(super) fn folder(&self) -> PathBuf {
        self.folder.path()
    }

    /// The cluster to start; of an embedded fleet only the place and the gateway count.
    pub(super) fn cluster(&self) -> ClusterOptions {
        let empty_first = self.folder.path.is_none();
        let mut cluster = ClusterOptions {
            gateways: self.gateways.into(),
            workers: self.workers.into(),
            pg_bouncer: self.pgbouncer.then_some(20),
            // A folder of somebody who wants to keep it.
            postgres: PostgresOptions { fsync: !empty_first, ..PostgresOptions::default() },
            place: Place {
                folder: Some(self.folder()),
                empty_first,
                own_groups: true,
                balancer_port: self.port,
                gateway_program: self.gateway_program.clone(),
                worker_program: self.worker_program.clone(),
            },
            // People see the limits that they would have anywhere else.
            gateway: GatewayOptions::plain(),
            ..ClusterOptions::default()
        };
        if let Some(secret) = &self.jwt_secret {
            cluster.gateway = cluster.gateway.with_jwt_secret(secret);
        }
        cluster.gateway.env = self.gateway_env.iter().cloned().collect();
        cluster.worker.env = self.worker_env.iter().cloned().collect();
        cluster
    }
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.request)
    }

    #[test]
    fn a_part_may_be_written_as_two_words() {
        let told = |line| match parsed(line).unwrap() {
            Request::Tell(tell) => tell.folder_and_words(),
            other => panic!("{other:?}"),
        };
        for line in ["fleet kill gateway 2 --folder /f", "fleet kill gateway-2 --folder /f"] {
            assert_eq!(told(line), (PathBuf::from("/f"), "kill gateway-2".to_owned()));
        }
        assert_eq!(told("fleet status"), (default_folder(), "status".to_owned()));
        for line in ["fleet", "fleet kill", "fleet up --gateways many", "fleet up --gateway-env X"]
        {
            parsed(line).unwrap_err();
        }
    }

    #[test]
    fn only_a_folder_that_was_not_named_is_emptied() {
        let up = |line| match parsed(line).unwrap() {
            Request::Up(up) => up.cluster(),
            other => panic!("{other:?}"),
        };
        assert!(up("fleet up").place.empty_first);
        let named = up("fleet up --folder here --gateways 3 --gateway-env A=b=c --jwt-secret s");
        assert!(!named.place.empty_first);
        assert!(named.postgres.fsync);
        assert_eq!(named.gateways, 3);
        assert_eq!(named.gateway.env["A"], "b=c");
        assert!(!named.gateway.dev);
    }
}
