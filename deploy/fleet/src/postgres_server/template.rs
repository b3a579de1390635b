//! A template of a data folder, made by initdb once: a copy takes a tenth of the time.

use crate::FleetError;
use crate::os_user::OsUser;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

#[derive(Debug, Clone)]
pub(super) struct Template {
    cache: PathBuf,
    initdb: PathBuf,
    user: Option<OsUser>,
}

impl Template {
    /// Copies lie in `cache`, one per version and user. Only we have to be able to reach them.
    pub(super) fn new(cache: &Path, initdb: PathBuf, user: Option<OsUser>) -> Template {
        Template { cache: cache.to_owned(), initdb, user }
    }

    /// Makes `data`, unless it is there. It appears whole or not at all; its parent belongs to the
    /// user of the server.
    pub(super) async fn place(&self, data: &Path) -> Result<(), FleetError> {
        if data.is_dir() {
            return Ok(());
        }
        let partial = data.with_extension("partial");
        remove(&partial).map_err(|source| unusable(&partial, source))?;
        let template = self.cache.join(self.name().await?);
        // Whoever comes second waits for the first one's initdb rather than run another.
        let lock = self.lock().await?;
        if template.is_dir() {
            drop(lock);
            copy(&template, &partial).await?;
        } else {
            self.initdb(&partial).await?;
            let copied = template.with_extension("partial");
            remove(&copied).map_err(|source| unusable(&copied, source))?;
            copy(&partial, &copied).await?;
            rename(&copied, &template)?;
            drop(lock);
        }
        rename(&partial, data)
    }

    async fn name(&self) -> Result<String, FleetError> {
        let mut command = Command::new(&self.initdb);
        command.arg("--version");
        let version = run("initdb", command).await?;
        let safe = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
        let number: String = version.split_whitespace().nth(2).unwrap_or("").into();
        let number: String = number.chars().filter(|letter| safe(*letter)).collect();
        let uid = self.user.as_ref().map_or(rustix::process::geteuid().as_raw(), OsUser::uid);
        Ok(format!("postgres-{}-of-{uid}", number.replace('.', "-")))
    }

    async fn lock(&self) -> Result<File, FleetError> {
        let path = self.cache.join("lock");
        std::fs::create_dir_all(&self.cache).map_err(|source| unusable(&self.cache, source))?;
        let lock = File::create(&path).map_err(|source| unusable(&path, source))?;
        let waiting = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
        let locked = waiting.await.map_err(io::Error::other).and_then(|locked| locked);
        locked.map_err(|source| unusable(&path, source))
    }

    async fn initdb(&self, data: &Path) -> Result<(), FleetError> {
        tracing::info!("preparing a PostgreSQL database, once");
        let mut command = Command::new(&self.initdb);
        command
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"])
            .args(["--no-sync", "--no-instructions", "-D"])
            .arg(data)
            .current_dir("/");
        if let Some(user) = &self.user {
            user.apply(&mut command);
        }
        run("initdb", command).await.map(|_output| ())
    }
}

async fn copy(from: &Path, to: &Path) -> Result<(), FleetError> {
    let mut command = Command::new("cp");
    // Owners stay as they are.
    command.args(["-a", "--reflink=auto"]).args([from, to].map(OsStr::new));
    run("cp", command).await.map(|_output| ())
}

async fn run(program: &'static str, mut command: Command) -> Result<String, FleetError> {
    let spawn = |source| FleetError::Spawn { name: program.to_owned(), source };
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(spawn)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(FleetError::Preparation { program, status: output.status, output: text })
}

fn rename(from: &Path, to: &Path) -> Result<(), FleetError> {
    std::fs::rename(from, to).map_err(|source| unusable(to, source))
}

/// Removes what one that was killed left.
fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn unusable(path: &Path, source: io::Error) -> FleetError {
    FleetError::Folder { path: path.to_owned(), source }
}
