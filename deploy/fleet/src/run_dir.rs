//! The folder of a fleet: who may use it, what a fleet that was killed left in it.

use crate::procfs::Identity;
use crate::{FleetError, Process, process_tree};
use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;

/// Servers that run as another user have to get to their own folder below.
const FOLDER_MODE: u32 = 0o711;
const LOCK_FILE: &str = "fleet.lock";

/// A folder that belongs to one fleet as long as this lives.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    // The kernel releases it with the last process that holds it, however that ends.
    _lock: Option<File>,
    _temporary: Option<TempDir>,
}

impl Folder {
    /// A new folder that is removed in the end.
    pub(crate) fn temporary() -> Result<Folder, FleetError> {
        let failed = |source| FleetError::Folder { path: std::env::temp_dir(), source };
        let folder = tempfile::Builder::new()
            .prefix("roomcast-fleet-")
            .permissions(Permissions::from_mode(FOLDER_MODE))
            .tempdir()
            .map_err(failed)?;
        let path = folder.path().to_owned();
        Ok(Folder { path, _lock: None, _temporary: Some(folder) })
    }

    /// A folder that is kept, made where it is missing. Processes that an earlier fleet left in it
    /// are ended: they hold its data and its locks.
    pub(crate) async fn named(path: &Path) -> Result<Folder, FleetError> {
        let path = std::path::absolute(path).map_err(|source| unusable(path, source))?;
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(FOLDER_MODE);
        builder.create(&path).map_err(|source| unusable(&path, source))?;
        check_ours(&path)?;
        let lock = File::create(path.join(LOCK_FILE)).map_err(|source| unusable(&path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FleetError::FolderInUse { path }),
            Err(TryLockError::Error(source)) => return Err(unusable(&path, source)),
        }
        end_leftovers(&path).await?;
        Ok(Folder { path, _lock: Some(lock), _temporary: None })
    }

    /// Removes what earlier fleets left in the folder.
    pub(crate) fn empty(&self) -> Result<(), FleetError> {
        let failed = |source| unusable(&self.path, source);
        for entry in self.path.read_dir().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let removed = match entry.file_type() {
                _ if entry.file_name() == LOCK_FILE => Ok(()),
                Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(&path),
                Ok(_) => std::fs::remove_file(&path),
                Err(error) => Err(error),
            };
            removed.map_err(|source| unusable(&path, source))?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn run_dir(&self, own_groups: bool) -> RunDir {
        RunDir { folder: self.path.clone(), own_groups }
    }
}

/// Where a part of the fleet keeps its files and starts its processes.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    folder: PathBuf,
    /// Whether Ctrl-C in a terminal spares the parts, so that they can be ended in order. In
    /// tests they stay in the group of the test, for a runner that kills the group.
    own_groups: bool,
}

impl RunDir {
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// The file that takes the output of all processes of a part, one after the other.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path(format!("{name}.log"))
    }

    pub(crate) fn spawn(
        &self,
        name: &str,
        mut command: Command,
        errors: Option<Stdio>,
    ) -> Result<Process, FleetError> {
        if self.own_groups {
            command.process_group(0);
        }
        Process::spawn_with(name, command, &self.log(name), errors)
    }
}

/// Ends the processes whose identity lies in the folder, and nobody else.
async fn end_leftovers(folder: &Path) -> Result<(), FleetError> {
    let failed = |source| unusable(folder, source);
    for entry in folder.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|source| unusable(&path, source))?;
        if let Ok(identity) = text.parse::<Identity>()
            && identity.is_alive()
        {
            tracing::info!(path = %path.display(), "ending a process of an earlier fleet");
            process_tree::kill_9(identity).await.map_err(|source| unusable(&path, source))?;
        }
        std::fs::remove_file(&path).map_err(|source| unusable(&path, source))?;
    }
    Ok(())
}

/// In a place where anybody may write, somebody else could have put a link to what is dear to us.
fn check_ours(folder: &Path) -> Result<(), FleetError> {
    let data = folder.symlink_metadata().map_err(|source| unusable(folder, source))?;
    if data.is_dir() && data.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let text = "it is a link or belongs to somebody else";
    Err(unusable(folder, std::io::Error::new(std::io::ErrorKind::PermissionDenied, text)))
}

fn unusable(path: &Path, source: std::io::Error) -> FleetError {
    FleetError::Folder { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_serves_one_fleet_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = Folder::named(&path).await.unwrap();
        let second = Folder::named(&path).await;
        assert!(matches!(second, Err(FleetError::FolderInUse { .. })));
        drop(first);
        Folder::named(&path).await.unwrap();

        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(Folder::named(&link).await, Err(FleetError::Folder { .. })));
    }

    #[tokio::test]
    async fn what_a_killed_fleet_left_is_ended_and_strangers_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let mut left = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(left.id()).unwrap();
        // The same number with another start time is somebody else.
        let stranger = format!("{} 1", std::process::id());
        std::fs::write(parent.path().join("redis.pid"), identity.to_string()).unwrap();
        std::fs::write(parent.path().join("gateway-1.pid"), stranger).unwrap();
        std::fs::write(parent.path().join("gateway-1.log"), "kept").unwrap();

        let folder = Folder::named(parent.path()).await.unwrap();
        left.wait().unwrap();
        assert!(!parent.path().join("redis.pid").exists());
        assert!(parent.path().join("gateway-1.log").exists());
        folder.empty().unwrap();
        assert!(!parent.path().join("gateway-1.log").exists());
        drop(folder);
    }
}
