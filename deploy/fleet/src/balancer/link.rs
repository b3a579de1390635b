//! The way to one target: its switch, its faults, its scissors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Traffic {
    /// They arrive.
    #[default]
    Flows,
    /// Connections are accepted and nothing is read from them until it flows again: a network
    /// that comes back.
    Held,
    /// Connections are accepted and whatever is sent on them is lost. One that lost bytes is
    /// reset once it flows again.
    Swallowed,
}

/// What is wrong with a link. By default nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// What becomes of the bytes.
    pub traffic: Traffic,
    /// How much later bytes arrive, in each direction.
    pub latency: Duration,
    /// How many more bytes of each connection reach the target before it is reset, counted from
    /// when the faults were set. With 0 the first request is lost.
    pub reset_to_target_after: Option<u64>,
    /// The same towards the client. With 0 the request arrives and its answer is lost.
    pub reset_to_client_after: Option<u64>,
}

/// The way to one target, as a test sees it.
#[derive(Debug)]
pub struct Link {
    target: AtomicU16,
    on: AtomicBool,
    faults: watch::Sender<Faults>,
    cuts: watch::Sender<u64>,
    connections: Arc<AtomicUsize>,
}

impl Link {
    pub(super) fn new(target: u16) -> Link {
        Link {
            target: AtomicU16::new(target),
            on: AtomicBool::new(true),
            faults: watch::Sender::default(),
            cuts: watch::Sender::default(),
            connections: Arc::default(),
        }
    }

    /// The port on 127.0.0.1.
    pub fn target(&self) -> u16 {
        self.target.load(Ordering::Relaxed)
    }

    /// Leads new connections to another port, as a service's address does after a failover. Those
    /// that exist stay where they are.
    pub fn set_target(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
    }

    /// Whether new connections may come here. Those that exist stay.
    pub fn set_on(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Whether new connections may come here.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Replaces the faults, for connections that exist and for new ones.
    pub fn set_faults(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// No faults from now on.
    pub fn heal(&self) {
        self.set_faults(Faults::default());
    }

    /// Resets all connections that exist now.
    pub fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The same link as one connection sees it.
    pub(super) fn watch(&self) -> Watch {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Watch {
            faults: self.faults.subscribe(),
            cuts: self.cuts.subscribe(),
            connections: Arc::clone(&self.connections),
        }
    }
}

/// What one connection knows of its link. It is counted as long as this lives.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) faults: watch::Receiver<Faults>,
    pub(super) cuts: watch::Receiver<u64>,
    connections: Arc<AtomicUsize>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
