//! The fleet itself: a folder, and the parts in it.

mod any_node;
mod start;

use crate::balancer::{Balancer, Proxy};
use crate::pg_bouncer::PgBouncer;
use crate::postgres_server::PostgresServer;
use crate::redis_server::RedisServer;
use crate::run_dir::Folder;
use crate::{FleetError, GatewayNode, GatewayOptions, WorkerNode, WorkerOptions};
use futures_util::future::join_all;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use any_node::AnyNode;
pub use start::{ClusterOptions, Place};

/// The database that the gateways and workers of a cluster share.
const DATABASE: &str = "roomcast";

/// Parts that belong together. Dropping it kills them, and removes the folder if it is temporary.
#[derive(Debug)]
pub struct Fleet {
    // A field is dropped before the ones below it: clients before servers, the folder last.
    balancer: Option<Balancer>,
    gateways: Vec<GatewayNode>,
    workers: Vec<WorkerNode>,
    servers: Option<Servers>,
    programs: Programs,
    folder: Folder,
    own_groups: bool,
}

/// What a cluster has beside its nodes.
#[derive(Debug)]
struct Servers {
    redis_proxy: Option<Proxy>,
    postgres_proxy: Option<Proxy>,
    pg_bouncer: Option<PgBouncer>,
    postgres: PostgresServer,
    redis: RedisServer,
}

/// Where the programs of nodes are that are added later; none before the first of a kind.
#[derive(Debug, Default)]
struct Programs {
    gateway: Option<PathBuf>,
    worker: Option<PathBuf>,
}

impl Servers {
    /// Where nodes find Redis: the proxy where there is one.
    fn redis_url(&self) -> String {
        let proxy = self.redis_proxy.as_ref().map(Proxy::port);
        self.redis.url_at(proxy.unwrap_or(self.redis.port()))
    }

    /// Where nodes find the database: the proxy, else the pool, else the server.
    fn database_url(&self) -> String {
        let proxy = self.postgres_proxy.as_ref().map(Proxy::port);
        let pool = self.pg_bouncer.as_ref().map(PgBouncer::port);
        self.postgres.url_at(proxy.or(pool).unwrap_or(self.postgres.port()), DATABASE)
    }
}

impl Fleet {
    /// The first gateway, which every fleet has unless it was told to have none.
    pub fn gateway(&self) -> &GatewayNode {
        &self.gateways[0]
    }

    /// The first gateway, to be killed or restarted.
    pub fn gateway_mut(&mut self) -> &mut GatewayNode {
        &mut self.gateways[0]
    }

    /// All gateways, in the order of their names.
    pub fn gateways(&self) -> &[GatewayNode] {
        &self.gateways
    }

    /// All gateways, to be killed or restarted.
    pub fn gateways_mut(&mut self) -> &mut [GatewayNode] {
        &mut self.gateways
    }

    /// All workers, in the order of their names.
    pub fn workers(&self) -> &[WorkerNode] {
        &self.workers
    }

    /// All workers, to be killed or restarted.
    pub fn workers_mut(&mut self) -> &mut [WorkerNode] {
        &mut self.workers
    }

    /// The Redis of a cluster. Panics in an embedded fleet, which has none.
    pub fn redis(&self) -> &RedisServer {
        &self.servers().redis
    }

    /// The Redis of a cluster, to be killed or restarted. Panics in an embedded fleet.
    pub fn redis_mut(&mut self) -> &mut RedisServer {
        &mut self.servers_mut().redis
    }

    /// The Postgres of a cluster. Panics in an embedded fleet, which has none.
    pub fn postgres(&self) -> &PostgresServer {
        &self.servers().postgres
    }

    /// The Postgres of a cluster, to be killed or restarted. Panics in an embedded fleet.
    pub fn postgres_mut(&mut self) -> &mut PostgresServer {
        &mut self.servers_mut().postgres
    }

    /// The pool in front of Postgres. Panics where [`ClusterOptions::pg_bouncer`] was off.
    pub fn pg_bouncer_mut(&mut self) -> &mut PgBouncer {
        self.servers_mut().pg_bouncer.as_mut().expect("the cluster was started with a PgBouncer")
    }

    /// What stands between the nodes and Redis. Panics where [`ClusterOptions::proxies`] was off.
    pub fn redis_proxy(&self) -> &Proxy {
        self.servers().redis_proxy.as_ref().expect("the cluster was started with proxies")
    }

    /// What stands between the nodes and Postgres. Panics where [`ClusterOptions::proxies`] was
    /// off.
    pub fn postgres_proxy(&self) -> &Proxy {
        self.servers().postgres_proxy.as_ref().expect("the cluster was started with proxies")
    }

    /// What stands in front of the gateways of a cluster. Panics in an embedded fleet.
    pub fn balancer(&self) -> &Balancer {
        self.balancer.as_ref().expect("only a cluster has a balancer")
    }

    /// Where clients of a cluster connect; none in an embedded fleet.
    pub(crate) fn balancer_port(&self) -> Option<u16> {
        self.balancer.as_ref().map(Balancer::port)
    }

    /// The name of the database in the cluster's Postgres.
    pub fn database(&self) -> &'static str {
        DATABASE
    }

    /// `REDIS_URL` of the nodes. Panics in an embedded fleet.
    pub fn redis_url(&self) -> String {
        self.servers().redis_url()
    }

    /// `DATABASE_URL` of the nodes. Panics in an embedded fleet.
    pub fn database_url(&self) -> String {
        self.servers().database_url()
    }

    /// The folder with logs and data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One more gateway, which does not run yet. The balancer does not know it.
    pub async fn add_gateway(
        &mut self,
        mut options: GatewayOptions,
    ) -> Result<&mut GatewayNode, FleetError> {
        let program = start::program(&mut self.programs.gateway, "gateway").await?;
        start::point_at(self.servers.as_ref(), &mut options.env);
        let name = format!("gateway-{}", self.gateways.len() + 1);
        let run_dir = self.folder.run_dir(self.own_groups);
        self.gateways.push(GatewayNode::gateway(&name, program, &run_dir, options)?);
        let last = self.gateways.len() - 1;
        Ok(&mut self.gateways[last])
    }

    /// One more worker, which does not run yet.
    pub async fn add_worker(
        &mut self,
        mut options: WorkerOptions,
    ) -> Result<&mut WorkerNode, FleetError> {
        let program = start::program(&mut self.programs.worker, "sync-worker").await?;
        start::point_at(self.servers.as_ref(), &mut options.env);
        let name = format!("worker-{}", self.workers.len() + 1);
        let run_dir = self.folder.run_dir(self.own_groups);
        self.workers.push(WorkerNode::worker(&name, program, &run_dir, options)?);
        let last = self.workers.len() - 1;
        Ok(&mut self.workers[last])
    }

    /// All parts that are processes: the gateways, the workers, then the servers.
    pub fn nodes_mut(&mut self) -> Vec<&mut dyn AnyNode> {
        let mut nodes: Vec<&mut dyn AnyNode> = Vec::new();
        nodes.extend(self.gateways.iter_mut().map(|node| node as &mut dyn AnyNode));
        nodes.extend(self.workers.iter_mut().map(|node| node as &mut dyn AnyNode));
        if let Some(servers) = &mut self.servers {
            nodes.extend(servers.pg_bouncer.as_mut().map(|node| node as &mut dyn AnyNode));
            nodes.push(&mut servers.postgres);
            nodes.push(&mut servers.redis);
        }
        nodes
    }

    /// The part with this name: `gateway-2`, `redis`.
    pub fn node_mut(&mut self, name: &str) -> Result<&mut dyn AnyNode, FleetError> {
        let mut nodes = self.nodes_mut().into_iter();
        let found = nodes.find(|node| node.name() == name);
        found.ok_or_else(|| FleetError::NoSuchPart { name: name.to_owned() })
    }

    /// Ends everything politely: gateways, then workers, then the servers they need. Each step may
    /// take `grace`. All are asked; the first that had to be killed is the error.
    pub async fn shut_down(&mut self, grace: Duration) -> Result<(), FleetError> {
        self.balancer = None;
        let mut ended = join_all(self.gateways.iter_mut().map(|node| finish(node, grace))).await;
        ended.extend(join_all(self.workers.iter_mut().map(|node| finish(node, grace))).await);
        if let Some(servers) = &mut self.servers {
            if let Some(pool) = &mut servers.pg_bouncer {
                ended.push(finish(pool, grace).await);
            }
            ended.push(finish(&mut servers.postgres, grace).await);
            ended.push(finish(&mut servers.redis, grace).await);
        }
        ended.into_iter().collect()
    }

    fn servers(&self) -> &Servers {
        self.servers.as_ref().expect("only a cluster has servers")
    }

    fn servers_mut(&mut self) -> &mut Servers {
        self.servers.as_mut().expect("only a cluster has servers")
    }
}

async fn finish(node: &mut dyn AnyNode, grace: Duration) -> Result<(), FleetError> {
    match node.terminate(grace).await {
        Ok(_) | Err(FleetError::NotRunning { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
