//! A small round-robin TCP balancer with faults, in front of gateways or of one server.
//!
//! It runs in the process of the fleet. Everything is bounded: the connections, and per direction
//! of a connection the bytes under way. How a connection is carried is in `balancer/pump.rs`, what
//! a test can do to it in `balancer/link.rs`.

mod pump;
mod link;

use crate::{FleetError, port};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use link::{Faults, Link, Traffic};

/// How many connections are carried at once; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 8_192;
/// How long a target may take to accept before the next one is asked.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// The rest after an accept that failed, which it does where descriptors have run out.
const ACCEPT_REST: Duration = Duration::from_millis(10);
/// How often a port is tried that somebody else took in the meantime.
const BINDS_MAX: u32 = 10;

/// Hands out connections to targets on 127.0.0.1 in turn, skipping those that refuse or are
/// switched off. Dropping it cuts all connections.
#[derive(Debug)]
pub struct Balancer {
    port: u16,
    links: Arc<[Arc<Link>]>,
    accepting: JoinHandle<()>,
}

impl Balancer {
    /// On a free port. The targets need not listen yet.
    pub async fn start(targets: &[u16]) -> Result<Balancer, FleetError> {
        let mut tries = 0;
        loop {
            match Balancer::start_on(port::free_port()?, targets).await {
                Err(_) if tries < BINDS_MAX => tries += 1,
                settled => return settled,
            }
        }
    }

    /// On this port.
    pub async fn start_on(port: u16, targets: &[u16]) -> Result<Balancer, FleetError> {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = bound.map_err(|source| FleetError::PortTaken { port, source })?;
        let links: Arc<[Arc<Link>]> =
            targets.iter().map(|port| Arc::new(Link::new(*port))).collect();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&links)));
        Ok(Balancer { port, links, accepting })
    }

    /// The port on 127.0.0.1 that clients use.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The ways to the targets, in the order they were given.
    pub fn links(&self) -> &[Arc<Link>] {
        &self.links
    }

    /// Resets all connections that exist now.
    pub fn cut(&self) {
        for link in &*self.links {
            link.cut();
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // The task owns the connections.
        self.accepting.abort();
    }
}

/// A balancer with one target: what stands between a server and its clients to do them harm.
#[derive(Debug)]
pub struct Proxy(Balancer);

impl Proxy {
    /// On a free port, in front of a port of 127.0.0.1.
    pub async fn start(target: u16) -> Result<Proxy, FleetError> {
        Ok(Proxy(Balancer::start(&[target]).await?))
    }

    /// The port on 127.0.0.1 that clients use.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// The way to the server.
    pub fn link(&self) -> &Link {
        &self.0.links[0]
    }
}

async fn accept(listener: TcpListener, links: Arc<[Arc<Link>]>) {
    let mut connections = JoinSet::new();
    let mut turn = 0_usize;
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((client, _address)) => {
                connections.spawn(serve(client, Arc::clone(&links), turn));
                turn = turn.wrapping_add(1);
            }
            Err(_out_of_descriptors) => tokio::time::sleep(ACCEPT_REST).await,
        }
    }
}

async fn serve(client: TcpStream, links: Arc<[Arc<Link>]>, turn: usize) {
    for step in 0..links.len() {
        let link = &links[turn.wrapping_add(step) % links.len()];
        if !link.is_on() {
            continue;
        }
        // Before the target is asked: who is cut meanwhile is cut.
        let watch = link.watch();
        let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, link.target()));
        if let Ok(Ok(target)) = tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            return pump::carry(client, target, watch).await;
        }
    }
    // Nobody is there: a reset is as near to a refusal as one who has accepted can get.
    let _gone = client.set_zero_linger();
}

#[cfg(test)]
mod tests;
