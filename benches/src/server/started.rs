//! What was started for a run, and ends with it.

use super::affinity::on_server_core;
use super::child_server::{ChildServer, Peer};
use crate::error::LoadError;
use crate::options::Options;
use crate::stop;
use crate::usage::Watched;
use fleet::{ClusterOptions, Fleet, GatewayOptions, Place};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long each step of an orderly end may take.
const GRACE: Duration = Duration::from_secs(10);
/// How long a gateway may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Limits that a run would meet: it says in a second what people say in a day.
const OUT_OF_THE_WAY: [(&str, &str); 11] = [
    ("ROOMCAST_CONNECTIONS_MAX", "1000000"),
    ("ROOMCAST_CONNECTS_PER_SECOND", "1000000"),
    ("ROOMCAST_UNAUTHENTICATED_MAX", "1000000"),
    ("ROOMCAST_UNAUTHENTICATED_PER_ADDRESS", "0"),
    ("ROOMCAST_RATE_LIMIT_LOOKUP", "1000000"),
    ("ROOMCAST_RATE_LIMIT_COMMAND", "1000000"),
    ("ROOMCAST_BLOCK_AFTER", "0"),
    ("ROOMCAST_LOG_ENTRIES_MAX", "10000000"),
    ("ROOMCAST_REBALANCE_PERCENT", "0"),
    ("ROOMCAST_DRAIN_NOTICE_MS", "0"),
    ("ROOMCAST_DRAIN_SPREAD_MS", "0"),
];

/// The rows of the table once more, a thousand at a time, into one that has the same indexes and is
/// empty: how many a second. Nothing is looked up, sent, read out of JSON or committed.
const BARE_INSERTS: &str = "
    CREATE TABLE bare (LIKE team_chat_messages INCLUDING ALL);
    DO $$
    DECLARE
        part team_chat_messages[];
        began timestamptz;
        seconds double precision := 0;
        rows bigint := 0;
    BEGIN
        FOR part IN SELECT array_agg(m ORDER BY n) FROM (
            SELECT m, row_number() OVER (ORDER BY created_at, id) - 1 AS n
            FROM team_chat_messages AS m) AS numbered GROUP BY n / 1000 ORDER BY n / 1000
        LOOP
            began := clock_timestamp();
            INSERT INTO bare SELECT * FROM unnest(part);
            seconds := seconds + extract(epoch FROM clock_timestamp() - began);
            rows := rows + cardinality(part);
        END LOOP;
        PERFORM set_config('roomcast.bare', (rows / seconds)::bigint::text, false);
    END $$;
    SELECT current_setting('roomcast.bare')";

/// A server of this run.
#[derive(Debug)]
pub(super) enum Started {
    /// Gateways and what they need.
    Fleet {
        /// All of it.
        fleet: Box<Fleet>,
        /// What its orders run on.
        runtime: Runtime,
        /// The mode, for people.
        name: String,
        is_cluster: bool,
    },
    /// A limit or a peer.
    Child(ChildServer),
}

impl Started {
    pub(super) fn embedded(options: &Options, secret: &str) -> Result<Started, LoadError> {
        let runtime = runtime()?;
        let gateway = gateway_options(options, secret)?;
        let place = place(options);
        let fleet = on_server_core(options.pin, || {
            until_stopped(&runtime, Fleet::embedded_at(place, gateway))
        })?;
        let name = "Roomcast, embedded".to_owned();
        Ok(Started::Fleet { fleet: Box::new(fleet), runtime, name, is_cluster: false })
    }

    pub(super) fn cluster(options: &Options, secret: &str) -> Result<Started, LoadError> {
        let runtime = runtime()?;
        let gateway = gateway_options(options, secret)?;
        let cluster = ClusterOptions {
            gateways: 0,
            workers: options.workers as usize,
            place: place(options),
            ..ClusterOptions::default()
        };
        let mut fleet = until_stopped(&runtime, Fleet::cluster(cluster))?;
        on_server_core(options.pin, || {
            let nodes = async {
                for _ in 0..options.gateways {
                    let node = fleet.add_gateway(gateway.clone()).await?;
                    node.start()?;
                    node.ready(READY_WITHIN).await?;
                }
                Ok(())
            };
            until_stopped(&runtime, nodes)
        })?;
        let name =
            format!("Roomcast, cluster of {} with {} workers", options.gateways, options.workers);
        Ok(Started::Fleet { fleet: Box::new(fleet), runtime, name, is_cluster: true })
    }

    /// A limit: this program, started again.
    pub(super) fn limit(name: &'static str, pin: bool) -> Result<Started, LoadError> {
        let program = std::env::current_exe();
        let program = program.map_err(|source| LoadError::io("finding this program", source))?;
        let program = program.with_file_name("load");
        let mut command = Command::new(program);
        command.args([name, "--port", "0"]);
        let child = on_server_core(pin, || ChildServer::start(name, command))?;
        Ok(Started::Child(child))
    }

    /// A server that others write, over a Redis like that of a cluster.
    pub(super) fn peer(peer: &Peer, options: &Options, secret: &str) -> Result<Started, LoadError> {
        let mut command = peer.command(options.peers.as_deref())?;
        let runtime = runtime()?;
        let cluster = ClusterOptions { place: place(options), ..ClusterOptions::only_servers() };
        let fleet = until_stopped(&runtime, Fleet::cluster(cluster))?;
        command.env("REDIS_URL", fleet.redis_url()).env("JWT_SECRET", secret);
        let mut child = on_server_core(options.pin, || ChildServer::start(peer.name, command))?;
        child.redis = fleet.redis().pid();
        child.needs = Some((Box::new(fleet), runtime));
        Ok(Started::Child(child))
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let ports: Vec<u16> = match self {
            Started::Fleet { fleet, .. } => {
                fleet.gateways().iter().map(fleet::GatewayNode::port).collect()
            }
            Started::Child(child) => vec![child.port],
        };
        ports.into_iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect()
    }

    pub(super) fn name(&self) -> String {
        match self {
            Started::Fleet { name, .. } => name.clone(),
            Started::Child(child) => child.name.to_owned(),
        }
    }

    pub(super) fn watched(&self) -> Vec<Watched> {
        match self {
            Started::Child(child) => child.watched(),
            Started::Fleet { fleet, is_cluster, .. } => {
                let gateways = fleet.gateways().iter().filter_map(fleet::Node::pid).collect();
                let mut watched = vec![Watched::new("gateway", gateways)];
                if *is_cluster {
                    let workers = fleet.workers().iter().filter_map(fleet::Node::pid).collect();
                    let pids = |pid: Option<u32>| pid.into_iter().collect();
                    watched.push(Watched::new("redis", pids(fleet.redis().pid())));
                    watched.push(Watched::new("worker", workers));
                    watched.push(Watched::new("postgres", pids(fleet.postgres().pid())));
                }
                watched
            }
        }
    }

    pub(super) fn transactions(&self) -> Option<u64> {
        // Asked in another database, so that the question is not counted.
        self.number(
            "postgres",
            "SELECT xact_commit FROM pg_stat_database WHERE datname = 'roomcast'",
        )
    }

    pub(super) fn rows(&self, run: &str) -> Option<u64> {
        let sql =
            format!("SELECT count(*) FROM team_chat_messages WHERE team_chat_id LIKE '{run}%'");
        self.number("roomcast", &sql)
    }

    pub(super) fn bare_inserts(&self) -> Option<u64> {
        self.number("roomcast", BARE_INSERTS)
    }

    /// The one number that a question to the cluster's Postgres is answered with.
    fn number(&self, database: &str, sql: &str) -> Option<u64> {
        let Started::Fleet { fleet, runtime, is_cluster: true, .. } = self else { return None };
        let rows = runtime.block_on(fleet.postgres().query(database, sql)).ok()?;
        rows.first()?.first()?.as_ref()?.parse().ok()
    }

    pub(super) fn has_workers(&self) -> bool {
        matches!(self, Started::Fleet { fleet, .. } if !fleet.workers().is_empty())
    }

    pub(super) fn stop_workers(&self, stop: bool) -> Result<(), LoadError> {
        let Started::Fleet { fleet, runtime, .. } = self else { return Ok(()) };
        for worker in fleet.workers() {
            match stop {
                true => runtime.block_on(worker.stop())?,
                false => worker.cont()?,
            }
        }
        Ok(())
    }

    /// Ends it in order; what does not end is killed.
    pub(super) fn end(self) {
        match self {
            Started::Child(child) => drop(child),
            Started::Fleet { mut fleet, runtime, .. } => {
                // Whoever cannot end in time is killed when the fleet is dropped.
                let _ = runtime.block_on(fleet.shut_down(GRACE));
            }
        }
    }
}

fn runtime() -> Result<Runtime, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| LoadError::io("making a runtime", source))
}

/// Does what takes a while, unless somebody asks for the end.
fn until_stopped<T>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, fleet::FleetError>>,
) -> Result<T, LoadError> {
    runtime.block_on(async {
        tokio::select! {
            done = work => Ok(done?),
            () = stop::stopped() => Err(LoadError::Stopped),
        }
    })
}

fn place(options: &Options) -> Place {
    Place {
        own_groups: true,
        gateway_program: options.gateway_program.clone(),
        worker_program: options.worker_program.clone(),
        ..Place::default()
    }
}

fn gateway_options(options: &Options, secret: &str) -> Result<GatewayOptions, LoadError> {
    if secret.len() < 32 {
        let length = secret.len();
        let text = format!("--secret: it has {length} bytes, a gateway wants at least 32");
        return Err(LoadError::Option(text));
    }
    let mut gateway = GatewayOptions::default().with_jwt_secret(secret);
    for (name, value) in OUT_OF_THE_WAY {
        gateway = gateway.with_env(name, value);
    }
    for text in &options.set {
        let Some((name, value)) = text.split_once('=') else {
            return Err(LoadError::Option(format!("--set {text}: write NAME=VALUE")));
        };
        gateway = gateway.with_env(name, value);
    }
    Ok(gateway)
}
