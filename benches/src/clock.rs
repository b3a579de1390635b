//! Nanoseconds since the start of this process.

use std::sync::OnceLock;

#[expect(clippy::disallowed_types, reason = "no runtime and no paused time here")]
static START: OnceLock<std::time::Instant> = OnceLock::new();

/// One second.
pub const SECOND: u64 = 1_000_000_000;
/// One millisecond.
pub const MILLISECOND: u64 = 1_000_000;

/// Nanoseconds since this was asked first; a call takes about 30 ns.
#[expect(clippy::disallowed_types, reason = "no runtime and no paused time here")]
pub fn now() -> u64 {
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970, for ids and tokens.
pub fn unix_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Nanoseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "a measurement, not a count")]
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Milliseconds since 1970 at which this process asked first: the time in the ids of a run, so
/// that an id can be written again from its numbers.
pub fn run_ms() -> u64 {
    static RUN: OnceLock<u64> = OnceLock::new();
    *RUN.get_or_init(unix_ms)
}
