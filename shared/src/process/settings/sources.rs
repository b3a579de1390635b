//! The sources of settings, as found: nothing is judged here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// The environment and the command line, taken once; a test writes them down instead.
#[derive(Clone, Default)]
pub struct Sources {
    variables: BTreeMap<OsString, OsString>,
    /// Without the program's name.
    arguments: Vec<OsString>,
    /// Variables that another process of ours knows.
    elsewhere: Vec<String>,
}

/// Without the values, some of which are secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

impl Sources {
    /// This process's environment and arguments.
    #[must_use]
    pub fn from_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            arguments: std::env::args_os().skip(1).collect(),
            elsewhere: Vec::new(),
        }
    }

    /// An environment, and no arguments.
    #[must_use]
    pub fn from_map(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: variables.collect(), ..Self::default() }
    }

    /// The same with these arguments, the program's name not among them.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(OsString::from).collect();
        self
    }

    /// The same; these variables are not misspelt, they are for another process that is given the
    /// same environment.
    #[must_use]
    pub fn tolerating<N: Into<String>>(mut self, elsewhere: impl IntoIterator<Item = N>) -> Self {
        self.elsewhere.extend(elsewhere.into_iter().map(N::into));
        self
    }

    pub(super) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// A variable that is set to something, and that no orchestrator set by itself.
    pub(super) fn variable(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        let text = value.to_string_lossy();
        let set = !text.trim().is_empty() && !is_service_address(name, &text);
        set.then_some(value)
    }

    /// The variables that claim to be settings of ours: set, and not Kubernetes' own.
    pub(super) fn claimed(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().filter_map(|name| name.to_str()).filter(|name| {
            OURS.iter().any(|prefix| name.starts_with(prefix))
                && !is_service_link(name)
                && !self.elsewhere.iter().any(|known| known == name)
                && self.variable(name).is_some()
        })
    }
}

/// How variables begin that nobody else's program has: one of these that no setting knows is
/// misspelt.
const OURS: [&str; 2] = ["ROOMCAST_", "WEBSOCKET_RATE_LIMIT_"];

/// Whether Kubernetes made this variable of a Service, by its value: `ROOMCAST_GATEWAY_PORT`
/// may be a setting, but not as `tcp://10.0.0.7:3001`.
///
/// For a Service `roomcast-gateway` every pod of its namespace gets such variables, unless
/// `enableServiceLinks: false`.
fn is_service_address(name: &str, value: &str) -> bool {
    let portlike = name.ends_with("_PORT") || name.contains("_PORT_");
    let address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    name.starts_with("ROOMCAST_") && portlike && address
}

/// Whether Kubernetes made this variable of a Service, by its name: `…_SERVICE_HOST`,
/// `…_SERVICE_PORT`, `…_SERVICE_PORT_HTTP`, `…_PORT_3001_TCP`, `…_PORT_3001_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    let service = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_");
    service || name.rsplit_once("_PORT_").is_some_and(|(_, rest)| is_port_and_protocol(rest))
}

/// `3001_TCP`, `3001_TCP_PROTO`, `3001_TCP_PORT`, `3001_TCP_ADDR`.
fn is_port_and_protocol(text: &str) -> bool {
    let (number, rest) = text.split_once('_').unwrap_or((text, ""));
    let protocol = rest.split('_').next().unwrap_or_default();
    number.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].contains(&protocol)
}
