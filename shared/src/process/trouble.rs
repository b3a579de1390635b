//! Throttled warnings about a server that is away.
//!
//! Whoever watches the server says that it is, since when and what happens meanwhile; all that
//! follows from it would drown that line, and is only said for those who debug. What goes wrong by
//! itself is said once a minute by each place in the code.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How often one place says that something goes wrong.
const SAY_INTERVAL: Duration = Duration::from_secs(60);

/// Servers that are known to be away.
static AWAY: AtomicUsize = AtomicUsize::new(0);

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Held while a server is known to be away.
#[derive(Debug)]
pub struct Away(());

impl Away {
    /// It was said that a server is away.
    #[must_use]
    pub fn known() -> Away {
        AWAY.fetch_add(1, Ordering::Relaxed);
        Away(())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        AWAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When one place last said something; for [`trouble!`](crate::trouble!).
#[derive(Debug)]
pub struct Said {
    /// Milliseconds since the process began, plus one; 0 for never.
    at: AtomicU64,
}

impl Said {
    /// Never yet.
    #[must_use]
    pub const fn never() -> Said {
        Said { at: AtomicU64::new(0) }
    }

    /// Whether it may be said now; then it counts as said.
    pub fn may_say(&self) -> bool {
        if AWAY.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let now = u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let interval = u64::try_from(SAY_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let last = self.at.load(Ordering::Relaxed);
        let may = last == 0 || now >= last.saturating_add(interval);
        // Of several at once, one says it.
        may && self.at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Warns, as `tracing::warn!` does, unless a server is known to be away or this place did so within
/// the last minute.
#[macro_export]
macro_rules! trouble {
    ($($line:tt)+) => {{
        static SAID: $crate::process::trouble::Said = $crate::process::trouble::Said::never();
        if SAID.may_say() {
            ::tracing::warn!($($line)+);
        } else {
            ::tracing::debug!($($line)+);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_speaks_once_a_minute_and_not_while_a_server_is_away() {
        let said = Said::never();
        assert!(said.may_say());
        assert!(!said.may_say());
        tokio::time::advance(SAY_INTERVAL).await;
        let away = Away::known();
        assert!(!said.may_say());
        drop(away);
        assert!(said.may_say());
        assert!(Said::never().may_say(), "another place");
    }
}
