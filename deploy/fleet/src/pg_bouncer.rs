//! A `PgBouncer` of the fleet, in transaction mode in front of its Postgres.

use crate::binary::find_installed;
use crate::node::Part;
use crate::os_user::OsUser;
use crate::postgres_server::{self, OWNER};
use crate::run_dir::RunDir;
use crate::{FleetError, Node, port};
use std::path::PathBuf;
use tokio::process::Command;

/// A pool of connections: ready when the database answers through it.
pub type PgBouncer = Node<Bouncer>;

/// What makes a [`Node`] a `PgBouncer`.
#[derive(Debug)]
pub struct Bouncer {
    user: Option<OsUser>,
    port: u16,
    postgres_port: u16,
    size: u16,
    config: PathBuf,
}

impl Part for Bouncer {
    fn configure(&self, command: &mut Command) -> Result<(), FleetError> {
        // After a failed login it would refuse everybody for 15 s, whatever Postgres does.
        let text = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={} user={OWNER}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {}\n\
             max_client_conn = 500\n\
             server_login_retry = 1\n",
            self.postgres_port, self.port, self.size
        );
        std::fs::write(&self.config, text)
            .map_err(|source| FleetError::Folder { path: self.config.clone(), source })?;
        command.arg(&self.config).current_dir("/");
        if let Some(user) = &self.user {
            user.give(&self.config)?;
            user.apply(command);
        }
        Ok(())
    }

    async fn is_ready(&self) -> bool {
        postgres_server::answers(self.port, "postgres").await
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn ports(&mut self) -> Vec<&mut u16> {
        vec![&mut self.port]
    }
}

impl PgBouncer {
    /// One that does not run yet, in front of the Postgres on `postgres_port`, which has to have
    /// made a database already: its owner is whom clients become. It opens `size` connections at
    /// most.
    pub(crate) fn bouncer(
        run_dir: &RunDir,
        postgres_port: u16,
        size: u16,
    ) -> Result<PgBouncer, FleetError> {
        let program = find_installed("pgbouncer", "pgbouncer", &[])?;
        let part = Bouncer {
            user: OsUser::find()?,
            port: port::free_port()?,
            postgres_port,
            size,
            config: run_dir.path("pgbouncer.ini"),
        };
        Ok(Node::new("pgbouncer", program, run_dir.clone(), part))
    }

    /// The port on 127.0.0.1, for [`PostgresServer::url_at`](crate::PostgresServer::url_at).
    pub fn port(&self) -> u16 {
        self.part().port
    }
}
