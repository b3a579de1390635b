//! The listening sockets: opened at the start for both families of addresses, and kept until the
//! last client of a leaving node has gone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use shared::process::operator::{self, BindError};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use crate::auth::unproven::Crowded;
use crate::node::Node;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Takes the port at the first of the addresses that this machine has: a container may be without
/// IPv6. What another process has taken is no reason to go on to the next.
pub(crate) fn bind(addresses: &[IpAddr], port: u16) -> Result<TcpListener, BindError> {
    first(addresses.iter().map(|address| SocketAddr::new(*address, port)), listen)
}

fn first<T>(
    addresses: impl Iterator<Item = SocketAddr>,
    take: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, BindError> {
    let mut addresses = addresses.peekable();
    loop {
        // There is always one: the default, or what was asked for.
        let address = addresses.next().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        match take(address) {
            Ok(taken) => return Ok(taken),
            Err(error) if addresses.peek().is_some() && is_no_address(&error) => {}
            Err(source) => {
                let settings = "PORT (--port) and ROOMCAST_BIND (--bind)";
                return Err(BindError { address, settings, source });
            }
        }
    }
}

fn is_no_address(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    !matches!(error.kind(), AddrInUse | PermissionDenied)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // One socket for both families, whatever the system's default is.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever: a leaving node goes on to answer, that it is leaving.
pub(crate) async fn accept(listener: TcpListener, node: Arc<Node>) {
    loop {
        let (socket, peer) = operator::accept(&listener).await;
        // An IPv4 client of a socket for both families is known by its IPv4 address.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        // Small frames must not wait for one another.
        if socket.set_nodelay(true).is_err() {
            continue;
        }
        let is_leaving = node.leaving.is_cancelled();
        let sockets = node.connections.taken() + node.unproven.taken();
        let place = if is_leaving {
            Err(Crowded::Leaving)
        } else if sockets >= node.sockets_max {
            Err(Crowded::Node)
        } else {
            // What comes through a proxy is counted for its client, who is known later.
            let address = Some(peer.ip()).filter(|address| !node.proxies.contains(*address));
            node.unproven.enter(address)
        };
        match place {
            Ok(place) => drop(tokio::spawn(super::serve(socket, peer, place, Arc::clone(&node)))),
            Err(crowded) => {
                drop(tokio::spawn(super::turn_away(socket, crowded, Arc::clone(&node))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(errors: &[(&str, io::ErrorKind)]) -> Result<SocketAddr, BindError> {
        let addresses = ["[::]:3001", "0.0.0.0:3001"].map(|text| text.parse().unwrap());
        first(addresses.into_iter(), |address| {
            let error = errors.iter().find(|(text, _)| *text == address.to_string());
            error.map_or(Ok(address), |(_, kind)| Err((*kind).into()))
        })
    }

    #[test]
    fn a_machine_without_ipv6_listens_on_ipv4() {
        assert_eq!(taken(&[]).unwrap().to_string(), "[::]:3001");
        for kind in [io::ErrorKind::Unsupported, io::ErrorKind::AddrNotAvailable] {
            assert_eq!(taken(&[("[::]:3001", kind)]).unwrap().to_string(), "0.0.0.0:3001");
        }
        let error = taken(&[("[::]:3001", io::ErrorKind::AddrInUse)]).unwrap_err();
        assert_eq!(error.address.to_string(), "[::]:3001", "nobody else's port is shared");
        let neither =
            [("[::]:3001", io::ErrorKind::Unsupported), ("0.0.0.0:3001", io::ErrorKind::AddrInUse)];
        assert_eq!(taken(&neither).unwrap_err().address.to_string(), "0.0.0.0:3001");
    }

    #[tokio::test]
    async fn one_socket_is_for_both_families() {
        let listener = listen("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in ["127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            tokio::net::TcpStream::connect((address, port)).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip().to_canonical(), address);
        }
    }
}
