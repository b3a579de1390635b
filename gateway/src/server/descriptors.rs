//! Derives the most client sockets from the file descriptors that the system allows.

use shared::contract::limits::TURNED_AWAY_MAX;
use shared::process::operator;
use tracing::warn;

use crate::config::GatewaySettings;

/// Kept back for Redis, the database, the log, key sets and the listeners, beside what the operator
/// port may take and what is being told that there is no place.
const OTHERS: usize = 64;

const KEPT_BACK: usize = OTHERS + operator::CONNECTIONS_MAX + TURNED_AWAY_MAX;

/// Sockets of clients, those that speak HTTP among them, of a process that may open so many files.
fn sockets(open_files_max: Option<usize>) -> usize {
    let Some(max) = open_files_max else { return usize::MAX };
    // Where there are hardly any, half of them have to do for everything else.
    max.saturating_sub(KEPT_BACK.min(max / 2)).max(1)
}

/// The limit that the system has set; `None` where there is none, or it does not say.
fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the system allows, and what was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors {
    open_files_max: Option<usize>,
    /// Sockets of clients that there may be in all.
    pub(super) sockets: usize,
    asked: usize,
}

/// Lowers `connections_max` to what the system allows.
pub(super) fn settle(settings: &mut GatewaySettings) -> Descriptors {
    let (open_files_max, asked) = (open_files_max(), settings.connections_max);
    let sockets = sockets(open_files_max);
    settings.connections_max = asked.min(sockets);
    Descriptors { open_files_max, sockets, asked }
}

impl Descriptors {
    /// Says where that is less than was asked for.
    pub(super) fn tell(self) {
        let Descriptors { open_files_max, sockets, asked } = self;
        if sockets < asked {
            warn!(
                open_files_max,
                connections_max = sockets,
                asked,
                "the system lets this process open too few files for ROOMCAST_CONNECTIONS_MAX; \
                 raise its limit (ulimit -n, LimitNOFILE, --ulimit nofile)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_back_and_some_are_left() {
        assert_eq!(sockets(None), usize::MAX);
        assert_eq!(sockets(Some(65_536)), 65_536 - KEPT_BACK);
        assert_eq!(sockets(Some(1024)), 1024 - KEPT_BACK);
        assert_eq!(sockets(Some(256)), 128);
        assert_eq!((sockets(Some(2)), sockets(Some(0))), (1, 1));
    }
}
