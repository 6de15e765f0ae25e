//! PostgreSQL behind the datastore, for several servers. Invariant: one writer a server, one counter of revisions for all; what a server has answered is
//! committed, and what others have committed it knows within moments or says that it does not.

mod above;
mod adopt;
mod agents;
mod appended;
mod authorities;
mod bundles;
mod chain;
mod entries;
mod feed;
mod follower;
mod gauges;
mod link;
mod migrate;
mod people;
mod policies;
mod position;
mod prune;
mod records;
mod recoveries;
mod relationships;
mod row;
mod rungs;
mod target;
mod text;
mod tls;
mod tokens;
mod trait_impl;
mod tx;
mod writer;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use landfast_identity::TrustDomain;
use landfast_store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{DatastoreError, Failure, OpenError};
use crate::random;
pub(crate) use adopt::{Taken, adopt};
use feed::{Feed, Load};
use follower::{Follower, Shared};
use link::Link;
pub(crate) use migrate::pending;
use position::Position;
pub use target::{PostgresConfig, TargetError};
use tx::Tx;
use writer::{Request, Work, Writer};

/// Which server, and which process of it, writes.
#[derive(Clone)]
struct Identity {
    trust_domain: TrustDomain,
    server: String,
    boot: String,
}

impl Identity {
    /// Names a commit of this process.
    fn mark(&self, number: i64) -> String {
        format!("{}-{number}", self.boot)
    }
}

/// A database that several servers may share.
pub(crate) struct PostgresDatastore {
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Box<dyn Work>>>,
    loads: mpsc::Sender<Load>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Keeps other processes out of the data directory until the connections are closed.
    _lock: Option<Store>,
}

/// What a database is opened with.
pub(crate) struct Opening<'a> {
    pub(crate) target: &'a PostgresConfig,
    pub(crate) trust_domain: &'a TrustDomain,
    /// The name of this server among those that share the database, for ever.
    pub(crate) server: String,
    /// There was a database: then one that is empty is an error.
    pub(crate) initialised: bool,
    pub(crate) lock: Option<Store>,
}

impl PostgresDatastore {
    /// Connects, waiting for a while if need be, and brings the schema up to date.
    pub(crate) async fn open(opening: Opening<'_>) -> Result<Self, OpenError> {
        let Opening {
            target,
            trust_domain,
            server,
            initialised,
            lock,
        } = opening;
        let shown = target.shown();
        let failed = |source: std::io::Error| OpenError::Open {
            path: target.shown(),
            source: DatastoreError::Failed {
                source: Arc::new(source),
            },
        };
        let boot =
            random::hex_id().ok_or_else(|| failed(std::io::Error::other("the random source failed")))?;
        let start = Start {
            target: target.clone(),
            identity: Identity {
                trust_domain: trust_domain.clone(),
                server,
                boot,
            },
            initialised,
            shared: Arc::new(Shared::new()),
            shown,
        };
        let shared = Arc::clone(&start.shared);
        let (queue, requests) = mpsc::channel(writer::QUEUE);
        let (loads, asked) = mpsc::channel(4);
        let (tell, told) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("datastore".to_owned())
            .spawn(move || runtime.block_on(run(start, requests, asked, tell)))
            .map_err(failed)?;
        let opened = told.await;
        let datastore = Self {
            queue: Some(queue),
            loads,
            shared,
            thread: Some(thread),
            _lock: lock,
        };
        match opened {
            Ok(Ok(())) => Ok(datastore),
            Ok(Err(error)) => Err(error),
            Err(_gone) => Err(OpenError::Open {
                path: target.shown(),
                source: DatastoreError::Stopped,
            }),
        }
    }

    /// Runs `work` in the next transaction, perhaps more than once. When the queue is full this waits; when the caller goes away the work is
    /// done all the same.
    async fn write<T, E>(
        &self,
        work: impl for<'a> Fn(&'a mut Tx) -> LocalBoxFuture<'a, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Failure,
    {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(DatastoreError::Stopped)?;
        queue
            .send(Box::new(Request::new(work, reply)))
            .await
            .map_err(|_closed| DatastoreError::Stopped)?;
        answer.await.unwrap_or(Err(DatastoreError::Stopped.into()))
    }
}

/// Waits for the last transaction.
impl Drop for PostgresDatastore {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the datastore thread panicked");
        }
    }
}

struct Start {
    target: PostgresConfig,
    identity: Identity,
    initialised: bool,
    shared: Arc<Shared>,
    shown: PathBuf,
}

async fn run(
    start: Start,
    requests: mpsc::Receiver<Box<dyn Work>>,
    loads: mpsc::Receiver<Load>,
    tell: oneshot::Sender<Result<(), OpenError>>,
) {
    let link = match open(&start).await {
        Ok(link) => link,
        // Whoever waits for it is told; who does not is shutting down.
        Err(error) => return drop(tell.send(Err(error))),
    };
    if tell.send(Ok(())).is_err() {
        return;
    }
    // Nothing is followed yet: the first look says where the database stands.
    let follower = Rc::new(Follower::new(start.shared, Position::default()));
    let writer = Writer {
        target: start.target.clone(),
        identity: start.identity,
        follower: Rc::clone(&follower),
        link: Some(link),
        commits: 0,
    };
    let clock = Rc::clone(&follower);
    let feed = Feed {
        target: start.target,
        follower,
        link: None,
        loads,
        said: false,
    };
    tokio::select! {
        () = writer.run(requests) => {}
        () = feed.run() => {}
        () = clock.keep_time() => {}
    }
}

async fn open(start: &Start) -> Result<Link, OpenError> {
    let (until, migrating) = (Instant::now() + OPENING, Instant::now() + HELD);
    loop {
        let opened = match Link::connect(&start.target).await {
            Ok(mut link) => prepare(&mut link, start).await.map(|()| link),
            Err(source) => Err(migrate::refused(&start.shown, source)),
        };
        match opened {
            Err(OpenError::Open { source, .. }) if Instant::now() < until && may_pass(&source) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            // Each attempt is in the way of all servers for a moment.
            Err(error @ OpenError::Held { .. }) if Instant::now() < migrating => {
                tracing::warn!(error = %error, "waiting to migrate the database");
                let [jitter] = random::bytes().unwrap_or([128]);
                tokio::time::sleep(PAUSE + Duration::from_millis(4 * u64::from(jitter))).await;
            }
            opened => return opened,
        }
    }
}

async fn prepare(link: &mut Link, start: &Start) -> Result<(), OpenError> {
    let session = Rc::clone(&link.session);
    let migrated = async move {
        let migrations = migrate::MIGRATIONS;
        Ok(migrate::run(
            &session,
            &start.shown,
            &start.identity,
            start.initialised,
            migrations,
        )
        .await)
    };
    match link.run(MIGRATING, migrated).await {
        Ok(migrated) => migrated,
        Err(source) => Err(migrate::refused(&start.shown, source)),
    }
}

/// A database that is starting, or one that another server changes at this moment.
fn may_pass(error: &DatastoreError) -> bool {
    matches!(
        error,
        DatastoreError::Unreachable { .. } | DatastoreError::ReadOnly | DatastoreError::Failed { .. }
    )
}

/// Begins a new epoch: what the database has now is to hold, whatever agents and servers have seen. Returns the epoch.
///
/// # Errors
/// It cannot be reached, or is none of ours.
pub async fn accept_loss(target: &PostgresConfig) -> Result<u64, DatastoreError> {
    let mut link = Link::connect(target).await?;
    let session = Rc::clone(&link.session);
    let begun = link.run(MIGRATING, async move {
        session.batch("BEGIN").await?;
        let rows = session.rows(NEW_EPOCH, &[&LEAP]).await?;
        session.execute(DOUBT_ALL, &[]).await?;
        session.execute(MAY_HAVE_SIGNED, &[]).await?;
        session.batch("COMMIT").await?;
        let row = rows
            .first()
            .ok_or_else(|| row::damage("state", "the table is empty"))?;
        row::unsigned(row, "epoch")
    });
    begun.await
}

/// The counters leap over whatever was lost, for nobody takes what is numbered lower than what he knows.
const NEW_EPOCH: &str = "UPDATE state SET epoch = greatest(epoch + 1, floor(extract(epoch FROM now()))::bigint), \
    journal_version = journal_version + $1, bundle_sequence = bundle_sequence + $1 RETURNING epoch";
/// Denials, and what was asked with device keys, may be lost too.
const DOUBT_ALL: &str =
    "UPDATE recoveries SET heard_at = NULL, body = jsonb_set(body::jsonb, '{doubted}', 'true')::text";
/// Records may be lost: an authority may have signed until its end.
const MAY_HAVE_SIGNED: &str = "UPDATE authorities SET last_svid_ends = not_after";
const LEAP: i64 = 1_000_000;
/// For a database that has to come up first.
const OPENING: Duration = Duration::from_secs(10);
/// For who reads it in a transaction that lasts, when it has to be migrated; service managers start us again then.
const HELD: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(1500);
const MIGRATING: Duration = Duration::from_secs(120);

#[cfg(all(test, feature = "postgres-tests"))]
pub(crate) mod tests;
