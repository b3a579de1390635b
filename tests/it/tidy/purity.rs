//! What only some places may know: sockets, SQL, bincode, standard error, the world outside.

use super::source::{Source, Without};

/// Names that stay within some places.
struct Fence {
    /// Where the rule holds: paths that begin so.
    holds: &'static [&'static str],
    /// Where the names may be used all the same: paths that begin so.
    except: &'static [&'static str],
    names: &'static [&'static str],
    why: &'static str,
}

const FENCES: [Fence; 5] = [
    Fence {
        holds: &["gateway/src/"],
        except: &[
            "gateway/src/connection.rs",
            "gateway/src/connection/",
            "gateway/src/wire/send_queue",
            "gateway/src/http.rs",
            "gateway/src/http/",
            "gateway/src/server.rs",
        ],
        names: &["TcpStream", "TcpListener", "OwnedReadHalf", "OwnedWriteHalf"],
        why: "only connection/, the send queue, http/ and the server touch sockets",
    },
    Fence {
        holds: &["shared/", "gateway/", "sync-worker/", "benches/", "deploy/"],
        except: &["shared/src/store/"],
        names: &["rusqlite"],
        why: "only store/ knows SQL",
    },
    Fence {
        holds: &["shared/", "gateway/", "sync-worker/", "benches/", "deploy/", "tests/"],
        except: &["shared/src/contract/envelope"],
        names: &["bincode"],
        why: "bincode is unmaintained; only the envelope uses it",
    },
    Fence {
        holds: &["shared/src/", "gateway/src/", "sync-worker/src/"],
        except: &[
            "shared/src/process/telemetry.rs",
            // Before anything runs, and in place of it.
            "shared/src/process/settings/command_line.rs",
            "gateway/src/main.rs",
            "sync-worker/src/dead_letters.rs",
            "sync-worker/src/erase.rs",
            "sync-worker/src/reconcile.rs",
            "sync-worker/src/rename.rs",
        ],
        names: &["println!", "print!", "eprintln!", "eprint!", "dbg!", "stdout", "stderr"],
        why: "log instead: whoever writes there waits for its reader, and panics when that is gone",
    },
    Fence {
        holds: &["shared/src/contract.rs", "shared/src/contract/"],
        except: &[],
        names: &[
            "tokio",
            "std::fs",
            "std::net",
            "std::env",
            "std::io",
            "SystemTime",
            "Instant",
            "crate::process",
            "crate::log",
            "crate::store",
            "crate::epoch",
        ],
        why: "the contract is pure: no I/O, no clock",
    },
];

pub(crate) fn check(source: &Source) -> Vec<String> {
    let under = |prefixes: &[&str]| prefixes.iter().any(|prefix| source.path.starts_with(prefix));
    let mut complaints = Vec::new();
    for fence in FENCES.iter().filter(|fence| under(fence.holds) && !under(fence.except)) {
        for (number, line) in source.production(Without::CommentsAndTexts).lines().enumerate() {
            for name in fence.names.iter().filter(|name| has_word(line, name)) {
                let place = format!("{}:{}", source.path, number + 1);
                complaints.push(format!("{place}: {name}: {}", fence.why));
            }
        }
    }
    complaints
}

/// Whether the name stands there as a whole, not as a part of a longer one.
fn has_word(line: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        !line[..at].ends_with(is_part) && !line[at + name.len()..].starts_with(is_part)
    })
}

#[test]
fn names_outside_their_place_are_found() {
    let found = |path: &str, text: &str| check(&Source::new(path, text)).len();
    let socket = "use tokio::net::TcpStream;";
    assert_eq!(found("gateway/src/hub.rs", socket), 1);
    assert_eq!(found("gateway/src/connection/reader.rs", socket), 0);
    assert_eq!(found("gateway/src/hub.rs", "// TcpStream\nstruct TcpStreams;"), 0);
    assert_eq!(found("sync-worker/src/batch.rs", "use rusqlite::params;"), 1);
    assert_eq!(found("shared/src/store/sqlite.rs", "use rusqlite::params;"), 0);
    assert_eq!(found("shared/src/log.rs", "bincode::encode(x)"), 1);
    assert_eq!(found("shared/src/contract/envelope.rs", "bincode::encode(x)"), 0);
    assert_eq!(found("gateway/src/hub.rs", "eprintln!(\"a\");\nio::stderr().lock();"), 2);
    assert_eq!(found("shared/src/process/telemetry.rs", "io::stderr()"), 0);
    assert_eq!(found("shared/src/contract/id.rs", "use std::fmt;\nuse std::time::Duration;"), 0);
    assert_eq!(found("shared/src/contract/id.rs", "use std::fs;\nlet t = SystemTime::now();"), 2);
}
