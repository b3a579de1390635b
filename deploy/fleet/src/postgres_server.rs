//! A Postgres of the fleet: a postmaster and its children, which live and die together.

mod template;
mod query;

use crate::binary::{cache_folder, find_installed};
use crate::node::{Part, READY_ANSWER_WITHIN};
use crate::os_user::OsUser;
use crate::run_dir::RunDir;
use crate::{FleetError, Node, port};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use template::Template;
use tokio::process::Command;

pub use query::Row;

/// Who owns the databases. No superuser, so that a REVOKE holds for the programs under test.
pub(crate) const OWNER: &str = "roomcast";
/// Whom [`PostgresServer::query`] speaks as.
const SUPERUSER: &str = "postgres";
/// How long the answer to one query may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What a Postgres is started with.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Whether commits are forced to the disk. Off by default: processes that are killed lose
    /// nothing either way, and a start after a kill takes a fraction of the time. A machine that
    /// loses power loses the database.
    pub fsync: bool,
    /// Settings of `postgresql.conf`; they win over what the fleet sets.
    pub settings: BTreeMap<String, String>,
}

impl PostgresOptions {
    /// The same options with one more setting.
    #[must_use]
    pub fn with_setting(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// A Postgres: ready when it answers a query, which it does not while it recovers. Signals go to
/// all of its processes. It trusts whoever comes from 127.0.0.1.
pub type PostgresServer = Node<Postgres>;

/// What makes a [`Node`] a Postgres.
#[derive(Debug)]
pub struct Postgres {
    options: PostgresOptions,
    user: Option<OsUser>,
    port: u16,
    data: PathBuf,
}

impl Part for Postgres {
    /// A fast end: SIGTERM would wait for the clients to leave.
    const END_SIGNAL: Signal = Signal::INT;
    const IS_TREE: bool = true;

    fn configure(&self, command: &mut Command) -> Result<(), FleetError> {
        let mut settings: BTreeMap<&str, &str> = [
            ("listen_addresses", "127.0.0.1"),
            // A path in a deep folder would be too long for a socket.
            ("unix_socket_directories", ""),
            ("max_connections", "200"),
            // In its folder, with which it goes: what a killed server has in `/dev/shm` stays.
            ("dynamic_shared_memory_type", "mmap"),
            ("fsync", if self.options.fsync { "on" } else { "off" }),
        ]
        .into();
        settings.extend(self.options.settings.iter().map(|(key, value)| (&**key, &**value)));
        command.arg("-D").arg(&self.data).arg("-p").arg(self.port.to_string());
        for (key, value) in settings {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        // The folder of whoever starts the fleet may be shut for the user of the server.
        command.current_dir("/");
        if let Some(user) = &self.user {
            user.apply(command);
        }
        Ok(())
    }

    async fn is_ready(&self) -> bool {
        let query = query::query(self.port, SUPERUSER, SUPERUSER, "SELECT 1");
        let answer = tokio::time::timeout(READY_ANSWER_WITHIN, query).await;
        matches!(answer, Ok(Ok(Ok(_rows))))
    }

    fn address(&self) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/postgres", self.port)
    }

    fn ports(&mut self) -> Vec<&mut u16> {
        vec![&mut self.port]
    }
}

impl PostgresServer {
    /// A Postgres that does not run yet. Data that lies in the site is used.
    pub(crate) async fn postgres(
        run_dir: &RunDir,
        options: PostgresOptions,
    ) -> Result<PostgresServer, FleetError> {
        let folders = program_folders();
        let find = |program| find_installed(program, "postgresql", &folders);
        let (program, initdb) = (find("postgres")?, find("initdb")?);
        let user = OsUser::find()?;
        let data = own_folder(&run_dir.path("postgres"), user.as_ref())?.join("data");
        let template = Template::new(&cache_folder(), initdb, user.clone());
        template.place(&data).await?;
        let part = Postgres { options, user, port: port::free_port()?, data };
        Ok(Node::new("postgres", program, run_dir.clone(), part))
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.part().port
    }

    /// The address of a database that [`PostgresServer::create_database`] made, as its owner,
    /// who is no superuser; for `DATABASE_URL`.
    pub fn url(&self, database: &str) -> String {
        self.url_at(self.port(), database)
    }

    /// As [`PostgresServer::url`] for a proxy in front.
    pub fn url_at(&self, port: u16, database: &str) -> String {
        format!("postgres://{OWNER}@127.0.0.1:{port}/{database}")
    }

    /// What the next start will use.
    pub fn options_mut(&mut self) -> &mut PostgresOptions {
        &mut self.part_mut().options
    }

    /// Makes an empty database, where there is none of that name.
    pub async fn create_database(&self, name: &str) -> Result<(), FleetError> {
        let role = format!("SELECT 1 FROM pg_roles WHERE rolname = '{OWNER}'");
        if self.query(SUPERUSER, &role).await?.is_empty() {
            self.query(SUPERUSER, &format!("CREATE ROLE {OWNER} LOGIN")).await?;
        }
        let literal = name.replace('\'', "''");
        let database = format!("SELECT 1 FROM pg_database WHERE datname = '{literal}'");
        if self.query(SUPERUSER, &database).await?.is_empty() {
            let identifier = name.replace('"', "\"\"");
            let create = format!("CREATE DATABASE \"{identifier}\" OWNER {OWNER}");
            self.query(SUPERUSER, &create).await?;
        }
        Ok(())
    }

    /// SQL in a database as the superuser, on a connection of its own: one or several statements,
    /// whose rows follow each other.
    pub async fn query(&self, database: &str, sql: &str) -> Result<Vec<Row>, FleetError> {
        let no_answer = |source| FleetError::NoAnswer { url: self.url(database), source };
        let query = query::query(self.port(), SUPERUSER, database, sql);
        match tokio::time::timeout(ANSWER_WITHIN, query).await {
            Ok(Ok(Ok(rows))) => Ok(rows),
            Ok(Ok(Err(answer))) => {
                Err(FleetError::Refused { name: self.name().to_owned(), answer })
            }
            Ok(Err(source)) => Err(no_answer(source)),
            Err(_elapsed) => Err(no_answer(ErrorKind::TimedOut.into())),
        }
    }
}

/// Whether the database answers its owner on this port, whoever stands in between.
pub(crate) async fn answers(port: u16, database: &str) -> bool {
    let query = query::query(port, OWNER, database, "SELECT 1");
    matches!(tokio::time::timeout(READY_ANSWER_WITHIN, query).await, Ok(Ok(Ok(_rows))))
}

/// Where Debian keeps the programs of each version, the newest first.
fn program_folders() -> Vec<PathBuf> {
    let Ok(versions) = Path::new("/usr/lib/postgresql").read_dir() else { return Vec::new() };
    let mut versions: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, path)| path.join("bin")).collect()
}

fn own_folder(path: &Path, user: Option<&OsUser>) -> Result<PathBuf, FleetError> {
    std::fs::create_dir_all(path)
        .map_err(|source| FleetError::Folder { path: path.to_owned(), source })?;
    if let Some(user) = user {
        user.give(path)?;
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests;
