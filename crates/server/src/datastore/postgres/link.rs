//! One connection, driven by whoever uses it. Invariant: nothing waits for the database for longer than it said; a link that failed is never used again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, Row, Socket, Statement};

use super::row::get;
use super::target::PostgresConfig;
use super::tls::{MakeTls, Secured};
use super::{gauges, migrate};
use crate::datastore::DatastoreError;

/// A connection.
pub(super) struct Link {
    pub(super) session: Rc<Session>,
    connection: Connection<Socket, Secured<Socket>>,
}

/// What statements are sent to.
pub(super) struct Session {
    client: Client,
    prepared: RefCell<HashMap<&'static str, Statement>>,
    /// Whether the database has LISTEN and NOTIFY.
    pub(super) notifies: bool,
}

pub(super) type Params<'p> = &'p [&'p (dyn ToSql + Sync)];

impl Link {
    /// Tries each host in turn; the first that writes is taken. When none does, one that has answered says more than one that has not.
    pub(super) async fn connect(target: &PostgresConfig) -> Result<Self, DatastoreError> {
        let mut last = None;
        for config in target.attempts().map_err(DatastoreError::unreachable)? {
            let attempt = async {
                let connected = config.connect(MakeTls(target.tls())).await;
                let (client, connection) = connected.map_err(not_connected)?;
                let mut link = Self {
                    session: Rc::new(Session {
                        client,
                        prepared: RefCell::default(),
                        notifies: true,
                    }),
                    connection,
                };
                link.set_up().await?;
                Ok(link)
            };
            let error = match tokio::time::timeout(CONNECT, attempt).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) => error,
                Err(_elapsed) => DatastoreError::unreachable("it does not answer"),
            };
            last = last
                .filter(|before| has_answered(before) || !has_answered(&error))
                .or(Some(error));
        }
        Err(last.unwrap_or_else(|| DatastoreError::unreachable("no host is named")))
    }

    /// For a server that runs: others may have been replaced by newer ones meanwhile.
    pub(super) async fn again(target: &PostgresConfig) -> Result<Self, DatastoreError> {
        let mut link = Self::connect(target).await?;
        let session = Rc::clone(&link.session);
        let found = link.run(CONNECT, async move {
            let rows = session.rows(SCHEMA, &[]).await?;
            rows.first().map_or(Ok(None), |row| get(row, "number"))
        });
        migrate::not_newer(found.await?)?;
        gauges::connected();
        Ok(link)
    }

    async fn set_up(&mut self) -> Result<(), DatastoreError> {
        let session = Rc::clone(&self.session);
        let version = self
            .run(CONNECT, async move {
                session.batch(SETTINGS).await?;
                let row = session.client.query_one("SELECT version()", &[]).await?;
                Ok(row.try_get::<_, String>(0)?)
            })
            .await?;
        let notifies = !version.contains("CockroachDB") && !version.contains("-YB-");
        if let Some(session) = Rc::get_mut(&mut self.session) {
            session.notifies = notifies;
        }
        Ok(())
    }

    /// Does `work`, which uses the session, for `limit` at most. After an error that is no answer of the database the link is over.
    pub(super) async fn run<T>(
        &mut self,
        limit: Duration,
        work: impl Future<Output = Result<T, DatastoreError>>,
    ) -> Result<T, DatastoreError> {
        let until = Instant::now() + limit;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                heard = self.hear() => heard?,
                () = tokio::time::sleep_until(until) => {
                    return Err(DatastoreError::unreachable("it does not answer in time"));
                }
            }
        }
    }

    /// Returns when the database says that something has changed.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) async fn hear(&mut self) -> Result<(), DatastoreError> {
        loop {
            match poll_fn(|cx| self.connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notification(_))) => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(DatastoreError::unreachable("it has closed the connection")),
            }
        }
    }
}

impl Session {
    pub(super) async fn rows(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = self.prepared(sql).await?;
        self.client.query(&statement, params).await
    }

    pub(super) async fn execute(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<u64, tokio_postgres::Error> {
        let statement = self.prepared(sql).await?;
        self.client.execute(&statement, params).await
    }

    pub(super) async fn batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    async fn prepared(&self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(known) = self.prepared.borrow().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.borrow_mut().insert(sql, statement.clone());
        Ok(statement)
    }
}

/// A replica, or a database that was made to: it is there, and this is what is wrong with it.
fn not_connected(error: tokio_postgres::Error) -> DatastoreError {
    let source = std::error::Error::source(&error);
    let refused = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    match refused.is_some_and(|refused| refused.to_string() == NO_WRITES) {
        true => DatastoreError::ReadOnly,
        false => error.into(),
    }
}

fn has_answered(error: &DatastoreError) -> bool {
    !matches!(error, DatastoreError::Unreachable { .. })
}

/// As tokio-postgres says it of a session that is not read-write.
const NO_WRITES: &str = "database does not allow writes";
const SCHEMA: &str = "SELECT max(number) AS number FROM schema_migrations";
/// To connect, log in and set up, with one host.
const CONNECT: Duration = Duration::from_secs(2);
/// What the database does when it is we who hang, and what a commit has to mean whatever its configuration says.
const SETTINGS: &str = "SET statement_timeout = '5s'; SET lock_timeout = '4s'; SET idle_in_transaction_session_timeout = '1500ms'; \
    SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'";
