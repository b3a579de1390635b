//! A `PostgreSQL` of the tests' own, as long as some test uses it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio_postgres::NoTls;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Keeps the server running.
pub(super) struct Guard {
    _server: Arc<Server>,
}

/// An empty database, its URL, and what keeps it alive.
pub(super) async fn fresh_database() -> (String, Guard) {
    let server = server();
    let name = format!("test{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let admin = server.connect().await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    (format!("postgres://postgres@127.0.0.1:{}/{name}", server.port), Guard { _server: server })
}

struct Server {
    process: Child,
    port: u16,
    _folder: TempDir,
}

fn server() -> Arc<Server> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = running.upgrade() {
        return server;
    }
    let server = Arc::new(Server::start());
    *running = Arc::downgrade(&server);
    server
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        if rustix::process::getuid().is_root() {
            let owned = Command::new("chown").arg("postgres").arg(folder.path()).status().unwrap();
            assert!(owned.success());
        }
        let data = folder.path().join("data");
        let made = as_postgres("initdb", folder.path())
            .args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust"])
            .args(["--username=postgres", "--pgdata"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb: {made}");
        let port = fleet::free_port().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = as_postgres("postgres", folder.path())
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
            .args(["-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=64MB"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Server { process, port, _folder: folder }
    }

    /// Waits until it answers.
    async fn connect(&self) -> tokio_postgres::Client {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio_postgres::connect(&url, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.process, Signal::QUIT);
    }
}

/// Ends a process that was started here, and waits for it; the signal lets it end its children.
pub(super) fn stop(process: &mut Child, signal: Signal) {
    let pid = Pid::from_child(process);
    let _gone = rustix::process::kill_process(pid, signal);
    let deadline = std::time::SystemTime::now() + PATIENCE;
    while let Ok(None) = process.try_wait() {
        if std::time::SystemTime::now() > deadline {
            let _gone = process.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program of `PostgreSQL`'s, which refuses to run as root.
pub(super) fn as_postgres(program: &str, folder: &Path) -> Command {
    let program = installed(program);
    let mut command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder);
    command
}

/// Debian keeps the server's programs out of the path.
fn installed(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(program));
    found.filter(|path| path.exists()).max().unwrap_or_else(|| program.into())
}
