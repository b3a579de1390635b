//! One query to Postgres on a connection of its own, in the simple protocol.

use std::io;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// One row: each value as text, none for NULL.
pub type Row = Vec<Option<String>>;

/// Runs SQL and collects the rows of all statements; an error of the server is the inner one, as
/// `42P01 relation "x" does not exist`.
pub(super) async fn query(
    port: u16,
    user: &str,
    database: &str,
    sql: &str,
) -> io::Result<Result<Vec<Row>, String>> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(user).dbname(database);
    let answer = async {
        let (client, connection) = config.connect(NoTls).await?;
        let queried = client.simple_query(sql);
        tokio::pin!(queried, connection);
        // The connection lives for as long as the query, and what it fails by is its outcome.
        tokio::select! {
            biased;
            answer = &mut queried => answer,
            ended = &mut connection => { ended?; queried.await }
        }
    };
    match answer.await {
        Ok(messages) => Ok(Ok(messages.iter().filter_map(row).collect())),
        Err(error) => match error.as_db_error() {
            Some(refusal) => Ok(Err(format!("{} {}", refusal.code().code(), refusal.message()))),
            None => Err(io::Error::other(error)),
        },
    }
}

fn row(message: &SimpleQueryMessage) -> Option<Row> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
}
