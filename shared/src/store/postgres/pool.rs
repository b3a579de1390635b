//! The connection pool; transactions and queries with their retries.
//!
//! Nothing depends on a session, so that `PgBouncer` may give each transaction another one: no
//! prepared statements (each statement is sent whole, with its types, in the unnamed slot), no
//! session settings, no session locks. Statements that do not wait for one another's rows are
//! *pipelined*: sent together, answered in order, one round trip for all.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, RecyclingMethod, Runtime, Transaction};
use futures_util::future::{join, join_all, join3};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, IsolationLevel, NoTls, Row};
use uuid::Uuid;

use super::Settings;
use super::failure::Trouble;
use super::url::Address;
use super::value::Moment;
use crate::store::StoreError;

/// A statement's parameter.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement and what it is given.
pub(super) struct Statement<'a> {
    pub(super) sql: &'a str,
    pub(super) parameters: Vec<Parameter<'a>>,
}

/// A statement and its parameters, each of the database's type for its own.
macro_rules! statement {
    ($sql:expr $(, $parameter:expr)* $(,)?) => {
        $crate::store::postgres::pool::Statement {
            sql: $sql,
            parameters: vec![$($crate::store::postgres::pool::parameter(&$parameter)),*],
        }
    };
}
pub(super) use statement;

/// A value and its type in the database.
pub(super) fn parameter<T: Typed>(value: &T) -> Parameter<'_> {
    (value, T::TYPE)
}

/// What has one type in the database.
pub(super) trait Typed: ToSql + Sync {
    const TYPE: Type;
}

macro_rules! typed {
    ($($rust:ty: $database:ident),+ $(,)?) => {
        $(impl Typed for $rust { const TYPE: Type = Type::$database; })+
    };
}

typed!(
    &str: TEXT, String: TEXT, Uuid: UUID, i16: INT2, i32: INT4, i64: INT8, &[u8]: BYTEA,
    Moment: TIMESTAMPTZ, Vec<&str>: TEXT_ARRAY, Vec<String>: TEXT_ARRAY, Vec<&String>: TEXT_ARRAY,
    Vec<i16>: INT2_ARRAY,
    Vec<i64>: INT8_ARRAY,
);

impl<T: Typed> Typed for Option<T> {
    const TYPE: Type = T::TYPE;
}

impl<T: Typed> Typed for &T {
    const TYPE: Type = T::TYPE;
}

/// The way to the database.
#[derive(Debug)]
pub(super) struct Pool {
    connections: deadpool_postgres::Pool,
    settings: Settings,
}

/// After how long the server ends a transaction in which its client asks for nothing: a process
/// that stands still in the middle of one holds its locks against everybody.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that is asked again and again names its rows by an index. How large a table is does
/// not say how much of it is wanted: a round of a thousand rows would read a table of a hundred
/// thousand from end to end. Nor is any of it worth being compiled.
const PLANNING: &str = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off";

/// For the rest of a transaction that compares tables.
pub(super) const WHOLE_TABLES: &str = "SET LOCAL enable_seqscan = on";

impl Pool {
    /// Connects to nothing yet.
    pub(super) fn new(address: Address, settings: Settings) -> Pool {
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match address.tls {
            Some(tls) => Manager::from_config(address.config, tls, manager_config),
            None => Manager::from_config(address.config, NoTls, manager_config),
        };
        let connections = deadpool_postgres::Pool::builder(manager)
            .max_size(settings.connections_max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings.call_timeout))
            .create_timeout(Some(settings.connect_timeout))
            .recycle_timeout(Some(settings.connect_timeout))
            .build()
            .expect("a runtime is given with the timeouts");
        Pool { connections, settings }
    }

    /// Closes every connection that is idle, and the others when their call ends.
    pub(super) fn close(&self) {
        self.connections.close();
    }

    /// Reads in one transaction and one round trip.
    pub(super) async fn read(
        &self,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        self.call(self.settings.call_timeout, async |connection| {
            let client: &Client = connection.client();
            // One state for all statements: under READ COMMITTED each would see another.
            let begin = format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; {PLANNING}; \
                 SET LOCAL statement_timeout = {}",
                self.settings.statement_timeout.as_millis()
            );
            let answers = join3(
                client.batch_execute(&begin),
                pipeline(client, statements),
                client.batch_execute("COMMIT"),
            );
            let (begun, rows, ended) = answers.await;
            begun?;
            let rows = rows?;
            ended?;
            Ok(rows)
        })
        .await
    }

    /// Does `work` in a transaction; what it answers with [`End::RollBack`] leaves no trace.
    pub(super) async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<(T, End), StoreError>,
    ) -> Result<T, StoreError> {
        self.write_patiently(self.patience(), work).await
    }

    /// That of most calls.
    pub(super) fn patience(&self) -> Patience {
        Patience::of(self.settings.call_timeout, self.settings.statement_timeout)
    }

    /// As [`Pool::write`], with other limits.
    pub(super) async fn write_patiently<T>(
        &self,
        patience: Patience,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<(T, End), StoreError>,
    ) -> Result<T, StoreError> {
        self.call(patience.call, async |connection| {
            // Whatever the database's default: a statement must see what was committed while the
            // one before it waited for a lock.
            let transaction = connection
                .object()
                .build_transaction()
                .isolation_level(IsolationLevel::ReadCommitted)
                .start()
                .await?;
            let limits = format!(
                "{PLANNING}; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
                 SET LOCAL idle_in_transaction_session_timeout = {}",
                patience.statement.as_millis(),
                patience.lock.as_millis(),
                patience.idle.as_millis()
            );
            let (limited, done) =
                join(transaction.batch_execute(&limits), work(&transaction)).await;
            limited?;
            let (answer, end) = done?;
            match end {
                End::Commit => transaction.commit().await?,
                End::RollBack => transaction.rollback().await?,
            }
            Ok(answer)
        })
        .await
    }

    /// Lends `work` a connection for a while. A connection whose call did not come to its end, for
    /// lack of time or because nobody waits for it any more, is closed: whatever it was about to
    /// answer is for nobody, and the server may be stopped.
    async fn call<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let bounded = tokio::time::timeout(limit, async {
            let mut connection =
                Connection { object: Some(self.connections.get().await?), idle: false };
            let done = work(&mut connection).await;
            connection.idle = true;
            done
        });
        bounded.await.unwrap_or_else(|_| Err(Trouble::Timeout { ms: limit.as_millis() }.into()))
    }
}

/// How long a call may take, each statement of it, a statement's wait for one lock, and the
/// client's silence between two statements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) call: Duration,
    pub(super) statement: Duration,
    pub(super) lock: Duration,
    pub(super) idle: Duration,
}

/// Below it, a machine that is busy for a moment is taken for one that waits for others.
const STATEMENT_LEAST: Duration = Duration::from_secs(1);

impl Patience {
    pub(super) const fn of(call: Duration, statement: Duration) -> Patience {
        Patience { call, statement, lock: statement, idle: IDLE_TIMEOUT }
    }

    /// Of who holds the shards of a lease: it lets go of them before others may take them.
    pub(super) fn within(lease: Duration) -> Patience {
        let statement = (lease * 2 / 3).max(STATEMENT_LEAST);
        Patience { call: statement * 2, statement, lock: statement / 2, idle: statement }
    }
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    RollBack,
}

/// A connection on loan.
struct Connection {
    /// `None` only while it is dropped.
    object: Option<Object>,
    /// Its call came to its end.
    idle: bool,
}

impl Connection {
    fn object(&mut self) -> &mut Object {
        self.object.as_mut().expect("it is there until it is dropped")
    }

    fn client(&mut self) -> &Client {
        self.object()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(object) = self.object.take().filter(|_| !self.idle) {
            // Closes it, and makes room in the pool.
            drop(Object::take(object));
        }
    }
}

/// Sends all statements, then waits for all answers; the first refusal counts, since those after
/// it only say that the transaction has failed.
pub(super) async fn pipeline(
    client: &Client,
    statements: &[Statement<'_>],
) -> Result<Vec<Vec<Row>>, StoreError> {
    let sent =
        statements.iter().map(|statement| client.query_typed(statement.sql, &statement.parameters));
    let answers = join_all(sent).await;
    Ok(answers.into_iter().collect::<Result<_, _>>()?)
}
