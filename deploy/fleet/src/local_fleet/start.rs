//! How a fleet comes to be: servers first, then all nodes at once, then the balancer.

use super::{DATABASE, Fleet, Programs, Servers};
use crate::balancer::{Balancer, Proxy};
use crate::binary::find_or_build;
use crate::pg_bouncer::PgBouncer;
use crate::postgres_server::{PostgresOptions, PostgresServer};
use crate::redis_server::{RedisOptions, RedisServer};
use crate::run_dir::{Folder, RunDir};
use crate::{FleetError, GatewayNode, GatewayOptions, WorkerOptions};
use futures_util::future::try_join_all;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How long a part may take from its start to its readiness.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Where a fleet lives and what it runs. By default: a temporary folder, and the programs of this
/// workspace, built where they are missing or older than their sources.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// A folder that is kept, with its data; none for a temporary one.
    pub folder: Option<PathBuf>,
    /// Whether what lies in the folder is removed first.
    pub empty_first: bool,
    /// Whether Ctrl-C in a terminal spares the parts, so that the fleet can end them in order.
    pub own_groups: bool,
    /// The port of the balancer; a free one by default.
    pub balancer_port: Option<u16>,
    /// Another gateway program, such as one of another version.
    pub gateway_program: Option<PathBuf>,
    /// Another worker program.
    pub worker_program: Option<PathBuf>,
}

impl Place {
    async fn folder(&self) -> Result<Folder, FleetError> {
        let Some(path) = &self.folder else { return Folder::temporary() };
        let folder = Folder::named(path).await?;
        if self.empty_first {
            folder.empty()?;
        }
        Ok(folder)
    }
}

/// What a cluster consists of. By default: two gateways that trust everybody, one worker, Redis
/// and Postgres.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// How many gateways. With none and no workers, a cluster is just its servers.
    pub gateways: usize,
    /// How many workers.
    pub workers: usize,
    /// What each gateway is started with; `REDIS_URL` and `DATABASE_URL` come by themselves.
    pub gateway: GatewayOptions,
    /// What each worker is started with; `REDIS_URL` and `DATABASE_URL` come by themselves.
    pub worker: WorkerOptions,
    /// What Redis is started with.
    pub redis: RedisOptions,
    /// What Postgres is started with.
    pub postgres: PostgresOptions,
    /// Whether the nodes reach Postgres through a `PgBouncer` in transaction mode, and with how
    /// many connections at most it serves them.
    pub pg_bouncer: Option<u16>,
    /// Whether the nodes reach Redis and Postgres through proxies that can do them harm.
    pub proxies: bool,
    /// Where it lives.
    pub place: Place,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            gateways: 2,
            workers: 1,
            gateway: GatewayOptions::default(),
            worker: WorkerOptions::default(),
            redis: RedisOptions::default(),
            postgres: PostgresOptions::default(),
            pg_bouncer: None,
            proxies: false,
            place: Place::default(),
        }
    }
}

impl ClusterOptions {
    /// Redis and Postgres, and nobody who uses them.
    pub fn only_servers() -> ClusterOptions {
        ClusterOptions { gateways: 0, workers: 0, ..ClusterOptions::default() }
    }
}

impl Fleet {
    /// One gateway that is its own database, in a temporary folder, ready.
    pub async fn embedded(options: GatewayOptions) -> Result<Fleet, FleetError> {
        Fleet::embedded_at(Place::default(), options).await
    }

    /// One gateway that is its own database, ready.
    pub async fn embedded_at(place: Place, options: GatewayOptions) -> Result<Fleet, FleetError> {
        let mut fleet = Fleet::without_parts(place).await?;
        fleet.add_gateway(options).await?.start_anywhere(READY_WITHIN).await?;
        Ok(fleet)
    }

    /// Gateways and workers over Redis and Postgres, all of them ready.
    pub async fn cluster(mut options: ClusterOptions) -> Result<Fleet, FleetError> {
        let balancer_port = options.place.balancer_port;
        let mut fleet = Fleet::without_parts(std::mem::take(&mut options.place)).await?;
        // What takes longest and fails most often comes before anything runs.
        for _ in 0..options.gateways {
            fleet.add_gateway(options.gateway.clone()).await?;
        }
        for _ in 0..options.workers {
            fleet.add_worker(options.worker.clone()).await?;
        }
        tracing::info!("starting Redis and Postgres");
        let run_dir = fleet.folder.run_dir(fleet.own_groups);
        let servers = Servers::start(&run_dir, &options).await?;
        for gateway in &mut fleet.gateways {
            point_at(Some(&servers), &mut gateway.options_mut().env);
        }
        for worker in &mut fleet.workers {
            point_at(Some(&servers), &mut worker.options_mut().env);
        }
        fleet.servers = Some(servers);

        tracing::info!(gateways = options.gateways, workers = options.workers, "starting nodes");
        let gateways = fleet.gateways.iter_mut().map(|node| node.start_anywhere(READY_WITHIN));
        let workers = fleet.workers.iter_mut().map(|node| node.start_anywhere(READY_WITHIN));
        tokio::try_join!(try_join_all(gateways), try_join_all(workers))?;

        let targets: Vec<u16> = fleet.gateways.iter().map(GatewayNode::port).collect();
        fleet.balancer = Some(match balancer_port {
            Some(port) => Balancer::start_on(port, &targets).await?,
            None => Balancer::start(&targets).await?,
        });
        Ok(fleet)
    }

    async fn without_parts(place: Place) -> Result<Fleet, FleetError> {
        let folder = place.folder().await?;
        Ok(Fleet {
            balancer: None,
            gateways: Vec::new(),
            workers: Vec::new(),
            servers: None,
            programs: Programs { gateway: place.gateway_program, worker: place.worker_program },
            folder,
            own_groups: place.own_groups,
        })
    }
}

impl Servers {
    async fn start(run_dir: &RunDir, options: &ClusterOptions) -> Result<Servers, FleetError> {
        let mut redis = RedisServer::redis(run_dir, options.redis.clone())?;
        let mut postgres = PostgresServer::postgres(run_dir, options.postgres.clone()).await?;
        tokio::try_join!(
            redis.start_anywhere(READY_WITHIN),
            postgres.start_anywhere(READY_WITHIN)
        )?;
        postgres.create_database(DATABASE).await?;
        let mut pg_bouncer = None;
        if let Some(size) = options.pg_bouncer {
            let mut pool = PgBouncer::bouncer(run_dir, postgres.port(), size)?;
            pool.start_anywhere(READY_WITHIN).await?;
            pg_bouncer = Some(pool);
        }
        let (mut redis_proxy, mut postgres_proxy) = (None, None);
        if options.proxies {
            let database = pg_bouncer.as_ref().map_or(postgres.port(), PgBouncer::port);
            redis_proxy = Some(Proxy::start(redis.port()).await?);
            postgres_proxy = Some(Proxy::start(database).await?);
        }
        Ok(Servers { redis_proxy, postgres_proxy, pg_bouncer, postgres, redis })
    }
}

/// The program to run, found or built the first time somebody asks.
pub(super) async fn program(
    known: &mut Option<PathBuf>,
    package: &str,
) -> Result<PathBuf, FleetError> {
    if let Some(program) = known {
        return Ok(program.clone());
    }
    let program = find_or_build(package).await?;
    *known = Some(program.clone());
    Ok(program)
}

/// Tells a node where its servers are, unless it was told by the caller.
pub(super) fn point_at(servers: Option<&Servers>, env: &mut BTreeMap<String, String>) {
    let Some(servers) = servers else { return };
    env.entry("REDIS_URL".to_owned()).or_insert_with(|| servers.redis_url());
    env.entry("DATABASE_URL".to_owned()).or_insert_with(|| servers.database_url());
}
