//! One run of one program: its log, the signals it is sent, its end.

use crate::FleetError;
use crate::procfs::Identity;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How much of a log's end is shown when something went wrong.
const LOG_TAIL_BYTES: u64 = 6 * 1024;
/// How long a process may take to vanish after SIGKILL when its handle is dropped.
const REAP_WITHIN: Duration = Duration::from_secs(5);
/// How long all threads of a process may take to stand still.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A child process whose output goes to a file. It stays in the process group of whoever started
/// it, so that a test runner that kills the group after a time limit takes it along.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    /// Says which process this is, for whoever finds the folder after this one was killed.
    pid_file: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command`, in an environment that holds only what `command` sets and the few
    /// variables no program should miss: a `REDIS_URL` of the caller must not reach a test.
    /// Beside the log lies a `.pid` file as long as the handle lives.
    pub fn spawn(name: &str, command: Command, log: &Path) -> Result<Process, FleetError> {
        Process::spawn_with(name, command, log, None)
    }

    /// As [`Process::spawn`], with standard error going elsewhere.
    pub(crate) fn spawn_with(
        name: &str,
        mut command: Command,
        log: &Path,
        errors: Option<Stdio>,
    ) -> Result<Process, FleetError> {
        let folder = |source| FleetError::Folder { path: log.to_owned(), source };
        let output = OpenOptions::new().create(true).append(true).open(log).map_err(folder)?;
        let errors = match errors {
            Some(errors) => errors,
            None => output.try_clone().map_err(folder)?.into(),
        };
        let own: Vec<_> = command
            .as_std()
            .get_envs()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
            .collect();
        command.env_clear();
        for key in ["PATH", "HOME", "TMPDIR", "TZ", "RUST_LOG", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        command.envs(own).stdin(Stdio::null()).stdout(output).stderr(errors).kill_on_drop(true);
        let child = command
            .spawn()
            .map_err(|source| FleetError::Spawn { name: name.to_owned(), source })?;
        let pid_file = log.with_extension("pid");
        let process = Process { name: name.to_owned(), log: log.to_owned(), pid_file, child };
        // One that has ended already needs no file.
        if let Some(identity) = process.identity() {
            let written = std::fs::write(&process.pid_file, identity.to_string());
            written
                .map_err(|source| FleetError::Folder { path: process.pid_file.clone(), source })?;
        }
        Ok(process)
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Which process it is, while it runs.
    pub(crate) fn identity(&self) -> Option<Identity> {
        Identity::of(self.pid()?)
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>, FleetError> {
        self.child.try_wait().map_err(|source| self.signal_error(source))
    }

    /// SIGKILL, and waits until the process is gone.
    pub async fn kill_9(&mut self) -> Result<ExitStatus, FleetError> {
        if self.exited()?.is_none() {
            self.signal(Signal::KILL)?;
        }
        self.wait_exit(REAP_WITHIN).await
    }

    /// SIGSTOP, and waits until every thread stands still; the sockets stay open. The signal alone
    /// is not enough: until the thread that takes it has run, the others go on answering.
    pub async fn stop(&self) -> Result<(), FleetError> {
        let pid = self.signal(Signal::STOP)?;
        let deadline = Instant::now() + STOP_WITHIN;
        let question = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            let answer = waitid(WaitId::Pid(pid), question);
            if answer.map_err(|errno| self.signal_error(errno.into()))?.is_some() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.too_slow("standing still", STOP_WITHIN));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// SIGCONT: a stopped process goes on.
    pub fn cont(&self) -> Result<(), FleetError> {
        self.signal(Signal::CONT).map(|_pid| ())
    }

    /// SIGTERM, and waits. A process that outlives `grace` is killed, which is an error.
    pub async fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, FleetError> {
        self.end(Signal::TERM, grace).await
    }

    /// As [`Process::terminate`], for programs that end best on another signal.
    pub(crate) async fn end(
        &mut self,
        signal: Signal,
        grace: Duration,
    ) -> Result<ExitStatus, FleetError> {
        self.signal(signal)?;
        let ended = self.wait_exit(grace).await;
        if ended.is_err() {
            self.kill_9().await?;
        }
        ended
    }

    /// An error with the end of the log where the process has ended.
    pub(crate) fn check_runs(&mut self) -> Result<(), FleetError> {
        match self.exited()? {
            Some(status) => Err(self.ended(status)),
            None => Ok(()),
        }
    }

    /// Waits until the process ends by itself.
    pub async fn wait_exit(&mut self, within: Duration) -> Result<ExitStatus, FleetError> {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(ended) => ended.map_err(|source| self.signal_error(source)),
            Err(_elapsed) => Err(self.too_slow("its end", within)),
        }
    }

    /// The end of what it wrote.
    pub fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("(its log cannot be read: {error})"))
    }

    pub(crate) fn too_slow(&self, what: &'static str, within: Duration) -> FleetError {
        FleetError::TooSlow { name: self.name.clone(), what, within, log: self.log_tail() }
    }

    fn ended(&self, status: ExitStatus) -> FleetError {
        FleetError::Ended { name: self.name.clone(), status, log: self.log_tail() }
    }

    /// `Child::id` is none once the process has been reaped, so a recycled id is never signalled.
    fn signal(&self, signal: Signal) -> Result<Pid, FleetError> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or_else(|| FleetError::NotRunning { name: self.name.clone() })?;
        kill_process(pid, signal).map_err(|errno| self.signal_error(errno.into()))?;
        Ok(pid)
    }

    pub(crate) fn signal_error(&self, source: std::io::Error) -> FleetError {
        FleetError::Signal { name: self.name.clone(), source }
    }
}

impl Drop for Process {
    /// Kills and reaps, without a runtime. Ports and locks are free once this returns.
    fn drop(&mut self) {
        if std::thread::panicking() {
            show(&format!("--- the end of the log of {} ---\n{}", self.name, self.log_tail()));
        }
        // It fails only where the process has ended already.
        let _ended = self.child.start_kill();
        let step = Duration::from_millis(2);
        let mut waited = Duration::ZERO;
        while matches!(self.child.try_wait(), Ok(None)) && waited < REAP_WITHIN {
            std::thread::sleep(step);
            waited += step;
        }
        // It is missing where the process ended at once.
        let _removed = std::fs::remove_file(&self.pid_file);
    }
}

#[expect(clippy::print_stderr, reason = "the test runner shows it beside the panic")]
fn show(text: &str) {
    eprintln!("{text}");
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str, folder: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("GREETING", "hello");
        Process::spawn("shell", command, &folder.join("shell.log")).unwrap()
    }

    fn is_alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn a_killed_process_is_reaped() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("exec sleep 60", folder.path());
        let pid = process.pid().unwrap();
        process.stop().await.unwrap();
        process.stop().await.unwrap();
        assert_eq!(process.kill_9().await.unwrap().signal(), Some(9));
        assert!(!is_alive(pid));
        assert!(matches!(process.cont(), Err(FleetError::NotRunning { .. })));
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell("exec sleep 60", folder.path());
        let pid = process.pid().unwrap();
        let pid_file = folder.path().join("shell.pid");
        assert!(pid_file.exists());
        drop(process);
        assert!(!is_alive(pid));
        assert!(!pid_file.exists());
    }

    #[tokio::test]
    async fn a_polite_process_ends_on_terminate_and_a_deaf_one_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let polite = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done";
        let mut process = shell(polite, folder.path());
        until_log(&process, "up").await;
        assert_eq!(process.terminate(SOON).await.unwrap().code(), Some(3));
        assert!(process.log_tail().contains("bye"));

        let mut deaf =
            shell("trap '' TERM; echo deaf; while :; do sleep 0.02; done", folder.path());
        until_log(&deaf, "deaf").await;
        let ended = deaf.terminate(Duration::from_millis(50)).await;
        assert!(matches!(ended, Err(FleetError::TooSlow { .. })));
        assert!(deaf.exited().unwrap().is_some());
    }

    #[tokio::test]
    async fn the_environment_holds_what_was_set_and_nothing_of_the_caller() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo $GREETING; env | grep -c CARGO", folder.path());
        process.wait_exit(SOON).await.unwrap();
        assert_eq!(process.log_tail(), "hello\n0\n");
    }

    async fn until_log(process: &Process, text: &str) {
        let written = async {
            while !process.log_tail().contains(text) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, written).await.unwrap();
    }
}
