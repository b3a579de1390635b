//! A process together with everything it started, for servers that are more than one process.
//!
//! The root is always stopped first: while it stands it can neither start another child nor
//! answer the death of one, so the list of children is complete when they are signalled.

use crate::procfs::Identity;
use rustix::process::Signal;
use std::io;
use std::time::Duration;
use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long SIGSTOP and SIGKILL may take to show.
const OBEYED_WITHIN: Duration = Duration::from_secs(5);

/// SIGKILL for the root and all below it; returns once they are gone.
pub(crate) async fn kill_9(root: Identity) -> io::Result<()> {
    root.signal(Signal::STOP)?;
    until("standing still", || root.is_stopped()).await?;
    let mut members = root.descendants();
    members.push(root);
    for member in &members {
        member.signal(Signal::KILL)?;
    }
    until("an end", || !members.iter().any(|member| member.is_alive())).await
}

/// SIGSTOP for the root and all below it; returns once every thread stands still.
pub(crate) async fn stop(root: Identity) -> io::Result<()> {
    root.signal(Signal::STOP)?;
    until("standing still", || root.is_stopped()).await?;
    let members = root.descendants();
    for member in &members {
        member.signal(Signal::STOP)?;
    }
    until("standing still", || members.iter().all(|member| member.is_stopped())).await
}

/// SIGCONT for all below the root, then for the root.
pub(crate) fn cont(root: Identity) -> io::Result<()> {
    for member in root.descendants() {
        member.signal(Signal::CONT)?;
    }
    root.signal(Signal::CONT)
}

/// What [`kill_9`] does, for a destructor: without a runtime, and it reports nothing.
pub(crate) fn kill_9_now(root: Identity) {
    let _gone = root.signal(Signal::STOP);
    wait(|| root.is_stopped());
    let mut members = root.descendants();
    members.push(root);
    for member in &members {
        let _gone = member.signal(Signal::KILL);
    }
    // The root is reaped by its `Process`, afterwards.
    members.pop();
    wait(|| !members.iter().any(|member| member.is_alive()));
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + OBEYED_WITHIN;
    while !is_so() {
        if Instant::now() >= deadline {
            let text = format!("{what} took longer than {OBEYED_WITHIN:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn wait(mut is_so: impl FnMut() -> bool) {
    let mut waited = Duration::ZERO;
    while !is_so() && waited < OBEYED_WITHIN {
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    /// A shell with a child that runs until it is killed.
    fn family() -> (Child, Identity, Identity) {
        let mut root = Command::new("sh");
        root.args(["-c", "sleep 60 & echo $!; wait"]).stdout(Stdio::piped());
        let mut root = root.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(root.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let identity = Identity::of(root.id()).unwrap();
        (root, identity, Identity::of(line.trim().parse().unwrap()).unwrap())
    }

    #[tokio::test]
    async fn children_are_stopped_and_killed_with_their_root() {
        let (mut root, parent, child) = family();
        stop(parent).await.unwrap();
        assert!(parent.is_stopped() && child.is_stopped());
        cont(parent).unwrap();
        assert!(child.is_alive());
        kill_9(parent).await.unwrap();
        assert!(!parent.is_alive() && !child.is_alive());
        root.wait().unwrap();
    }

    #[test]
    fn a_destructor_ends_children_too() {
        let (mut root, parent, child) = family();
        kill_9_now(parent);
        root.wait().unwrap();
        assert!(!parent.is_alive() && !child.is_alive());
    }
}
