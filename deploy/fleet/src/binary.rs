//! Where the programs of the fleet are, and making those that are missing.

use crate::FleetError;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The program `package`, beside the running executable or one folder above it (where cargo puts
/// programs when the running one is a test). It is built if it is missing, or older than one of
/// its sources: cargo does not build the programs of other packages for a test, and a test that
/// silently runs yesterday's gateway proves nothing.
pub(crate) async fn find_or_build(package: &str) -> Result<PathBuf, FleetError> {
    let folder = program_folder();
    let program = folder.join(package);
    if !is_current(&program) {
        tracing::info!(package, "building");
        build(package, &folder).await?;
    }
    if program.is_file() {
        return Ok(program);
    }
    Err(FleetError::NotBuilt { path: program })
}

/// A program that a Debian package brings: in `folders`, else where `PATH` says.
pub(crate) fn find_installed(
    program: &'static str,
    package: &'static str,
    folders: &[PathBuf],
) -> Result<PathBuf, FleetError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where servers lie, which is not on the path of everybody.
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let folders = folders.iter().cloned().chain(std::env::split_paths(&path)).chain(system);
    let mut programs = folders.map(|folder| folder.join(program));
    programs.find(|path| path.is_file()).ok_or(FleetError::MissingProgram { program, package })
}

/// Where things are kept that serve many fleets of this machine.
pub(crate) fn cache_folder() -> PathBuf {
    program_folder().join("fleet-cache")
}

/// `target/debug` for `target/debug/deps/it-1234` and for `target/debug/fleet`.
fn program_folder() -> PathBuf {
    let own = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    match own {
        Some(folder) if folder.ends_with("deps") || folder.ends_with("examples") => {
            folder.parent().map(Path::to_owned).unwrap_or(folder)
        }
        Some(folder) => folder,
        None => {
            let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
            target.unwrap_or_else(|| workspace().join("target")).join("debug")
        }
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Cargo lists a program's own sources beside it: `gateway.d`, in the form of a makefile.
fn is_current(program: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified());
    let Ok(built) = modified(program) else { return false };
    let Ok(rule) = std::fs::read_to_string(program.with_extension("d")) else { return true };
    let sources = rule.split_once(": ").map_or("", |(_, sources)| sources);
    // A space inside a path is written with a backslash; such a path is then simply not found.
    sources
        .split_whitespace()
        .all(|source| modified(Path::new(source)).map_or(true, |changed| changed <= built))
}

async fn build(package: &str, folder: &Path) -> Result<(), FleetError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["build", "--quiet", "-p", package]);
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let spawn_error = |source| FleetError::Spawn { name: "cargo".to_owned(), source };
    let status = command.kill_on_drop(true).status().await.map_err(spawn_error)?;
    if status.success() {
        return Ok(());
    }
    Err(FleetError::Build { package: package.to_owned(), status })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_folder_of_a_test_is_where_cargo_puts_programs() {
        assert!(!program_folder().ends_with("deps"));
    }

    #[test]
    fn a_program_that_is_not_installed_is_named_with_its_package() {
        let error = find_installed("no-such-server", "no-such-package", &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no-such-server is missing"), "{text}");
        assert!(
            text.ends_with("apt-get install -y --no-install-recommends no-such-package"),
            "{text}"
        );
    }

    #[test]
    fn a_program_older_than_a_source_is_not_current() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (program, source) = (at("gateway"), at("main.rs"));
        assert!(!is_current(&program));
        for path in [&program, &source] {
            std::fs::write(path, "").unwrap();
        }
        let rule = format!("{}: {} /gone.rs\n", program.display(), source.display());
        std::fs::write(at("gateway.d"), rule).unwrap();
        let set = |path: &Path, time| {
            std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        set(&source, hour_ago);
        assert!(is_current(&program));
        set(&program, hour_ago - Duration::from_secs(1));
        assert!(!is_current(&program));
    }
}
