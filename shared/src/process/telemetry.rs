//! Logs: lines on standard error.
//!
//! Its counters are in [`metrics`]; the operator port serves them. From [`start`] on nothing else
//! writes to standard error, panics included, so that no task can be held up or ended by it.

pub mod metrics;
#[cfg(target_os = "linux")]
pub(crate) mod process_figures;
mod log_writer;

use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use clap::ValueEnum;
use prometheus::{IntCounter, Registry};
use serde::Serialize;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use self::log_writer::LogWriter;

/// How long a process that ends waits for its last lines to be written.
const LAST_LINES_PATIENCE: Duration = Duration::from_secs(2);

/// Where this process's lines go, once it logs.
static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// Log lines that did not fit into the queue, or that nobody could be given.
static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Log lines that could not be written and were dropped.";
    IntCounter::new("roomcast_log_lines_dropped_total", help)
        .expect("the name of a metric is checked by every test that makes it")
});

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Which log lines are written, as `RUST_LOG` has it: `info`, or `info,gateway=debug`.
///
/// A type of its own, so that a filter that says nothing is a problem of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match EnvFilter::try_new(text) {
            Ok(_) if !text.is_empty() => Ok(Self(text.to_owned())),
            Ok(_) | Err(_) => Err("a log filter such as info or info,gateway=debug"),
        }
    }
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A process has one place where its log lines go, and something took it before.
    #[error("logging was started before in this process")]
    StartedBefore(#[source] tracing::subscriber::SetGlobalDefaultError),
    /// The system gives no more threads.
    #[error("the thread that writes log lines cannot be started")]
    Thread(#[source] io::Error),
}

/// Sends the whole process's log lines to standard error; colored only on a terminal. Panics are
/// log lines from now on.
pub fn start(format: LogFormat, filter: &LogFilter) -> Result<(), TelemetryError> {
    let say = |_: &LogWriter, lines| tracing::warn!(lines, "log lines were dropped");
    let writer = LogWriter::start(io::stderr(), DROPPED.clone(), say);
    let writer = writer.map_err(TelemetryError::Thread)?;
    let ansi = io::stderr().is_terminal();
    let subscriber = subscriber(format, filter, ansi, writer.clone());
    tracing::subscriber::set_global_default(subscriber).map_err(TelemetryError::StartedBefore)?;
    // Only the first one gets here.
    let _ = WRITER.set(writer);
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Says on standard error why the process ends, the same way as its log lines where it has begun to
/// log, and waits a moment until everything is written.
pub fn last_words(text: &str) {
    match WRITER.get() {
        Some(writer) => writer.put(text.as_bytes()),
        // Nobody may be listening.
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
    finish();
}

/// Waits a moment until every log line is written: a thread ends with its process.
pub fn finish() {
    if let Some(writer) = WRITER.get() {
        writer.finish(LAST_LINES_PATIENCE);
    }
}

/// Writes to standard output, waiting no longer than a moment for somebody to read.
pub fn print(text: String) {
    let (done, printed) = std::sync::mpsc::sync_channel(1);
    let write = move || {
        // Nobody reads it: then nobody needs it.
        let _ = io::stdout().write_all(text.as_bytes());
        let _ = done.send(());
    };
    if std::thread::Builder::new().name("printer".to_owned()).spawn(write).is_ok() {
        let _ = printed.recv_timeout(LAST_LINES_PATIENCE);
    }
}

/// Adds the count of lines that were dropped to a process's metrics.
pub(super) fn register(registry: &Registry) {
    match registry.register(Box::new(DROPPED.clone())) {
        // There already is as good as there.
        Ok(()) | Err(prometheus::Error::AlreadyReg) => {}
        Err(error) => tracing::warn!(%error, "dropped log lines are not in the metrics"),
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => Some(backtrace.to_string()),
        _ => None,
    };
    tracing::error!(
        thread = thread.name(),
        location = panic.location().map(tracing::field::display),
        backtrace,
        "panicked: {}",
        panic.payload_as_str().unwrap_or("of something that is no text"),
    );
}

fn subscriber<W>(
    format: LogFormat,
    filter: &LogFilter,
    ansi: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&filter.0))
        .with_writer(writer)
        .log_internal_errors(false)
        .with_ansi(ansi);
    match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn text_lines_carry_message_and_fields_and_no_color() {
        let lines = logged(LogFormat::Text, "info");
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("node started node.id=\"n1\""), "{}", lines[0]);
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let lines = logged(LogFormat::Json, "info");
        assert_eq!(lines.len(), 1);
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["message"], "node started");
        assert_eq!(line["node.id"], "n1");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn the_filter_decides_what_is_written() {
        assert_eq!(logged(LogFormat::Text, "debug").len(), 2);
        assert_eq!(logged(LogFormat::Text, "warn,shared=debug").len(), 2);
        assert_eq!(logged(LogFormat::Text, "warn").len(), 0);
    }

    #[test]
    fn a_bad_filter_or_format_says_what_is_expected() {
        assert!(LogFilter::from_str("info,gateway=loud").unwrap_err().contains("gateway=debug"));
        assert!(LogFilter::from_str("").is_err());
        assert!(<LogFormat as ValueEnum>::from_str("xml", false).is_err());
        assert_eq!(<LogFormat as ValueEnum>::from_str("json", false), Ok(LogFormat::Json));
    }

    fn logged(format: LogFormat, filter: &str) -> Vec<String> {
        let written = Written::default();
        let sink = written.clone();
        let filter = filter.parse::<LogFilter>().unwrap();
        let subscriber = subscriber(format, &filter, false, move || sink.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(node.id = "n1", "node started");
            tracing::debug!("connection opened");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
