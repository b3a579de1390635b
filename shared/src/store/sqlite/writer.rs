//! The writing thread: group commit.

use std::fs::File;
use std::io;
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, Error};
use tokio::sync::mpsc;

use super::connection::ReopeningConnection;
use super::request::{BoxedRequest, Queue, REQUESTS_WAITING_MAX, RequestResult, TransactionFailed};

/// Starts the thread; it ends, closes the file and drops `lock` when no way to it is left.
pub(super) fn start(
    mut link: ReopeningConnection,
    lock: File,
) -> io::Result<(Queue, JoinHandle<()>)> {
    let (queue, mut waiting) = mpsc::channel::<BoxedRequest>(REQUESTS_WAITING_MAX);
    let run = move || {
        let mut group = Vec::with_capacity(REQUESTS_WAITING_MAX);
        while waiting.blocking_recv_many(&mut group, REQUESTS_WAITING_MAX) > 0 {
            write_group(&mut link, &mut group);
        }
        finish(link);
        drop(lock);
    };
    let thread = thread::Builder::new().name("sqlite-writer".to_owned()).spawn(run)?;
    Ok((queue, thread))
}

/// Nothing of a group was done.
struct GroupLost {
    why: TransactionFailed,
    /// The request whose own data took the transaction with them: it is told so, because that
    /// would come again however often it were tried.
    culprit: Option<usize>,
}

impl From<Error> for GroupLost {
    fn from(error: Error) -> GroupLost {
        GroupLost { why: error.into(), culprit: None }
    }
}

fn write_group(link: &mut ReopeningConnection, group: &mut Vec<BoxedRequest>) {
    let written = link
        .connection()
        .map_err(GroupLost::from)
        .and_then(|connection| commit_group(connection, group));
    match written {
        Ok(sound) => {
            group.drain(..).for_each(|request| request.answer());
            if !sound {
                link.cut();
            }
        }
        Err(lost) => {
            link.cut();
            for (index, request) in group.drain(..).enumerate() {
                if lost.culprit == Some(index) {
                    request.answer();
                } else {
                    request.fail(&lost.why);
                }
            }
        }
    }
}

/// Does the group in one transaction; says whether the connection is sound still. After an error
/// the connection must be cut, which rolls back.
fn commit_group(connection: &Connection, group: &mut [BoxedRequest]) -> Result<bool, GroupLost> {
    let run = |sql: &str| connection.prepare_cached(sql)?.execute([]);
    let mut sound = true;
    run("BEGIN IMMEDIATE")?;
    for (index, request) in group.iter_mut().enumerate() {
        run("SAVEPOINT request")?;
        let verdict = request.run(connection);
        if connection.is_autocommit() {
            let culprit = (verdict == RequestResult::Refused).then_some(index);
            return Err(GroupLost { why: TransactionFailed::RolledBack, culprit });
        }
        if verdict != RequestResult::Done {
            sound &= verdict != RequestResult::Failed;
            run("ROLLBACK TO request")?;
        }
        run("RELEASE request")?;
    }
    run("COMMIT")?;
    Ok(sound)
}

/// Moves the WAL into the file, so that the file alone is the database.
fn finish(mut link: ReopeningConnection) {
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    let done = link.connection().and_then(|connection| {
        // (busy, frames in the WAL, frames moved)
        connection.query_row(checkpoint, [], |row| row.get::<_, bool>(0))
    });
    match done {
        Ok(false) => {}
        Ok(true) => tracing::warn!("another process reads the database, its WAL stays"),
        // Nothing is lost: the next start reads the WAL.
        Err(error) => tracing::warn!(error = %error, "cannot move the WAL into the database"),
    }
}
