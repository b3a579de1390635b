//! Free ports on 127.0.0.1.
//!
//! Ports are taken from below the kernel's ephemeral range. From inside it, a client that keeps
//! reconnecting while its server is down can be given the server's own port as its source port:
//! it then connects to itself, and the restarted server finds its port in use.

use crate::FleetError;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The lowest port handed out; well-known services lie below it.
const PORT_MIN: u32 = 10_000;
/// Where the ephemeral range starts where `/proc` does not say.
const EPHEMERAL_MIN_DEFAULT: u32 = 32_768;

/// Each process starts at a random place, so that tests in parallel processes rarely meet;
/// within a process no port is handed out twice.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| {
    let random = RandomState::new().hash_one(std::process::id());
    AtomicU32::new(u32::try_from(random % 1_000_000).unwrap_or(0))
});

/// A port that was free a moment ago. Whoever binds it must be ready to find it taken.
pub fn free_port() -> Result<u16, FleetError> {
    let span = ephemeral_min().saturating_sub(PORT_MIN);
    for _ in 0..span.min(1_000) {
        let candidate = PORT_MIN + NEXT.fetch_add(1, Ordering::Relaxed) % span;
        if let Ok(port) = u16::try_from(candidate)
            && !is_taken(port)
        {
            return Ok(port);
        }
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(FleetError::NoFreePort)?;
    Ok(listener.local_addr().map_err(FleetError::NoFreePort)?.port())
}

/// Whether somebody has the port now.
pub(crate) fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err()
}

fn ephemeral_min() -> u32 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(EPHEMERAL_MIN_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        let distinct: std::collections::HashSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), ports.len());
    }

    #[test]
    fn a_bound_port_is_taken() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(is_taken(listener.local_addr().unwrap().port()));
    }
}
