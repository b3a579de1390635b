//! What is under load: where it is, what its processes are, and what of it was started here.

mod started;
mod child_server;
mod affinity;

use crate::dialect::Dialect;
use crate::error::LoadError;
use crate::options::{Options, Start};
use crate::usage::{Usage, Watched};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use started::Started;
use std::net::SocketAddr;

/// Signs tokens where something is started here.
const OWN_SECRET: &str = "a secret of the load generator, and of nobody else";

/// A server, or several of one kind.
#[derive(Debug)]
pub struct Server {
    /// Where connections go, in turn.
    pub addresses: Vec<SocketAddr>,
    /// The path of the WebSocket.
    pub path: String,
    /// What it speaks.
    pub dialect: Dialect,
    /// What tokens are signed with, where there are any.
    pub secret: Option<String>,
    /// What it is called in the result.
    pub name: String,
    /// Its processes; the first is what most figures are about.
    pub watched: Vec<Watched>,
    started: Option<Started>,
}

impl Server {
    /// What the options say, started where it has to be.
    pub fn new(options: &Options) -> Result<Server, LoadError> {
        let most = raise_file_limit();
        if let Some(connections) = options.connections.filter(|count| u64::from(*count) > most) {
            let text =
                format!("--connections {connections}: this system lets a process have {most}");
            return Err(LoadError::Option(text));
        }
        if options.pin {
            affinity::pin_self(affinity::OTHERS)?;
        }
        match options.start {
            Some(start) => Server::start(start, options),
            None => Server::given(options),
        }
    }

    fn given(options: &Options) -> Result<Server, LoadError> {
        if options.url.is_empty() {
            let text = "say what to put under load: --start cluster, or --url ws://127.0.0.1:…";
            return Err(LoadError::Option(text.to_owned()));
        }
        let mut path = String::new();
        let mut addresses = Vec::new();
        for url in &options.url {
            let (address, own_path) = address(url)?;
            addresses.push(address);
            path = own_path;
        }
        let watched = options.pids.iter().map(|text| watched(text)).collect::<Result<_, _>>()?;
        Ok(Server {
            addresses,
            path,
            dialect: options.dialect,
            secret: options.secret.clone(),
            name: options.url.join(", "),
            watched,
            started: None,
        })
    }

    fn start(start: Start, options: &Options) -> Result<Server, LoadError> {
        let secret = options.secret.clone().unwrap_or_else(|| OWN_SECRET.to_owned());
        let started = match start {
            Start::Embedded => Started::embedded(options, &secret)?,
            Start::Cluster => Started::cluster(options, &secret)?,
            Start::LimitDirect => Started::limit("limit-direct", options.pin)?,
            Start::LimitCoalesce => Started::limit("limit-coalesce", options.pin)?,
            Start::Ws => Started::peer(&child_server::WS, options, &secret)?,
            Start::SocketIo => Started::peer(&child_server::SOCKET_IO, options, &secret)?,
            Start::SocketIoStreams => {
                Started::peer(&child_server::SOCKET_IO_STREAMS, options, &secret)?
            }
        };
        let is_limit = matches!(start, Start::LimitDirect | Start::LimitCoalesce);
        let is_socket_io = matches!(start, Start::SocketIo | Start::SocketIoStreams);
        Ok(Server {
            addresses: started.addresses(),
            path: "/ws".to_owned(),
            dialect: if is_socket_io { Dialect::SocketIo } else { Dialect::Roomcast },
            secret: (!is_limit).then_some(secret),
            name: started.name(),
            watched: started.watched(),
            started: Some(started),
        })
    }

    /// What each of its processes has used, in their order.
    pub fn sample(&mut self) -> Vec<Usage> {
        self.watched.iter_mut().map(Watched::sample).collect()
    }

    /// Transactions that the database of the run has committed; none where it was not started
    /// here.
    pub fn transactions(&self) -> Option<u64> {
        self.started.as_ref()?.transactions()
    }

    /// Messages of this run in its database.
    pub fn rows(&self, run: &str) -> Option<u64> {
        self.started.as_ref()?.rows(run)
    }

    /// How many of its messages a second go into a table like theirs by bare inserts.
    pub fn bare_inserts(&self) -> Option<u64> {
        self.started.as_ref()?.bare_inserts()
    }

    /// Has the workers stand still, or go on.
    pub fn stop_workers(&self, stop: bool) -> Result<(), LoadError> {
        let Some(started) = self.started.as_ref().filter(|started| started.has_workers()) else {
            let text = "drain stops the worker for a while: it needs --start cluster";
            return Err(LoadError::Option(text.to_owned()));
        };
        started.stop_workers(stop)
    }

    /// Ends what was started.
    pub fn end(&mut self) {
        if let Some(started) = self.started.take() {
            started.end();
        }
    }
}

/// Files beside sockets that a process has open.
const OTHER_FILES: u64 = 100;
/// What is asked for first, which only root gets.
const MANY_FILES: u64 = 1_048_576;

/// Lets this process, and what it starts, have as many sockets as the system allows. How many
/// connections that is.
pub fn raise_file_limit() -> u64 {
    let allowed = getrlimit(Resource::Nofile).maximum;
    for most in [Some(MANY_FILES), allowed] {
        let limit = Rlimit { current: most, maximum: most };
        if setrlimit(Resource::Nofile, limit).is_ok() {
            break;
        }
    }
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES))
}

/// `ws://127.0.0.1:3001/ws`, as address and path.
fn address(url: &str) -> Result<(SocketAddr, String), LoadError> {
    let wrong = |why: &str| LoadError::Option(format!("--url {url}: {why}"));
    let rest = url.strip_prefix("ws://").ok_or_else(|| wrong("only ws:// is spoken"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, "ws"));
    let host = host.replace("localhost", "127.0.0.1");
    let address: SocketAddr =
        host.parse().map_err(|_not_one| wrong("it has to be an address with a port"))?;
    if !address.ip().is_loopback() {
        return Err(wrong("only this machine is put under load, 127.0.0.1"));
    }
    Ok((address, format!("/{path}")))
}

/// `gateway=4711`.
fn watched(text: &str) -> Result<Watched, LoadError> {
    let wrong = |why: &str| LoadError::Option(format!("--pids {text}: {why}"));
    let (name, pid) = text.split_once('=').ok_or_else(|| wrong("write name=pid"))?;
    let pid: u32 = pid.parse().map_err(|_not_one| wrong("the pid is no number"))?;
    if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
        return Err(wrong("no such process"));
    }
    Ok(Watched::new(name, vec![pid]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_taken_and_errors_name_the_option() {
        let (found, path) = address("ws://127.0.0.1:3001/ws?x=1").unwrap();
        assert_eq!((found.port(), path.as_str()), (3001, "/ws?x=1"));
        assert_eq!(address("ws://localhost:80").unwrap().1, "/ws");
        for wrong in ["http://127.0.0.1:1/ws", "ws://127.0.0.1/ws", "ws://192.0.2.1:80/ws"] {
            let text = address(wrong).unwrap_err().to_string();
            assert!(text.starts_with(&format!("--url {wrong}: ")), "{text}");
        }
        assert!(watched("gateway").unwrap_err().to_string().contains("--pids gateway: "));
        assert!(watched("gateway=0").is_err());
        assert_eq!(watched(&format!("a={}", std::process::id())).unwrap().name, "a");
    }
}
