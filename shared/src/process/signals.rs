//! The signals that end a process.
//!
//! The first SIGTERM or SIGINT begins the drain. A second one means that whoever sent it does not
//! want to wait: the process exits at once, with the code a shell would give (143 or 130).

use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::telemetry;

/// Which signal asked the process to leave.
#[derive(Clone, Copy)]
enum LeaveRequest {
    /// SIGTERM: a supervisor.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

impl LeaveRequest {
    /// What a shell reports for a process that the signal ended: 128 and the signal's number.
    fn exit_code(self) -> i32 {
        match self {
            Self::Terminate => 128 + 15,
            Self::Interrupt => 128 + 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// Takes over SIGTERM and SIGINT; the future resolves at the first of them, and from then on the
/// second ends the process.
///
/// The handlers stand when this returns, not when the future is first polled, so that no signal
/// falls between. Fails where the system refuses a handler. Needs a tokio runtime.
pub fn shutdown() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let first = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = first.name(), "asked to leave");
        tokio::spawn(async move {
            let second = either(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = second.name(), "asked twice, leaving at once");
            telemetry::finish();
            std::process::exit(second.exit_code());
        });
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> LeaveRequest {
    tokio::select! {
        _ = terminate.recv() => LeaveRequest::Terminate,
        _ = interrupt.recv() => LeaveRequest::Interrupt,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Lines};
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    #[test]
    fn a_second_signal_ends_the_process_with_the_code_of_that_signal() {
        for (first, second, code) in [("TERM", "INT", 130), ("INT", "TERM", 143)] {
            let (mut child, mut lines) = start_child();
            wait_for(&mut lines, "listening");
            kill(&child, first);
            wait_for(&mut lines, "draining");
            kill(&child, second);
            assert_eq!(child.wait().unwrap().code(), Some(code));
        }
    }

    /// Not a test: the process that the test above sends signals to.
    #[test]
    #[ignore = "runs as the child of another test"]
    fn child_that_waits_for_signals() {
        if std::env::var_os("DRAIN_TEST_CHILD").is_none() {
            return;
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
            async {
                let signal = shutdown().unwrap();
                println!("\nlistening");
                signal.await;
                println!("\ndraining");
                std::future::pending::<()>().await;
            },
        );
    }

    fn start_child() -> (Child, Lines<BufReader<ChildStdout>>) {
        let name = "process::signals::tests::child_that_waits_for_signals";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", name])
            .env("DRAIN_TEST_CHILD", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    }

    fn wait_for(lines: &mut Lines<BufReader<ChildStdout>>, wanted: &str) {
        assert!(lines.any(|line| line.unwrap() == wanted), "the child never said {wanted}");
    }

    fn kill(child: &Child, signal: &str) {
        let command = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }
}
