//! The one thread that has the connection. It takes all requests that wait, runs each in a savepoint of one transaction, commits,
//! tells the listener, and then answers: one fsync serves them all.
//!
//! Invariant: nobody is answered `Ok` before the commit; a request that fails takes no other with it.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use landfast_identity::UnixTime;
use rusqlite::Connection;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::datastore::{Change, CommitListener, Committed, DatastoreError, Failure};
use crate::registry::Revision;

pub(super) struct Writer {
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Box<dyn Work>>>,
    thread: Option<JoinHandle<()>>,
    listener: Arc<OnceLock<Arc<dyn CommitListener>>>,
    /// A write has failed.
    doubt: Arc<Notify>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, DatastoreError> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let listener = Arc::new(OnceLock::new());
        let doubt = Arc::new(Notify::new());
        let (told, doubtful) = (Arc::clone(&listener), Arc::clone(&doubt));
        let thread = std::thread::Builder::new()
            .name("datastore".to_owned())
            .spawn(move || run(&connection, requests, &told, &doubtful))
            .map_err(|source| DatastoreError::Failed {
                source: Arc::new(source),
            })?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            listener,
            doubt,
        })
    }

    pub(super) fn follow(&self, listener: Arc<dyn CommitListener>) {
        if self.listener.set(listener).is_err() {
            tracing::error!("the datastore has a listener already");
        }
    }

    /// Returns once a write has failed since the last call.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Runs `work` in the next transaction. When the queue is full this waits; when the caller goes away the work is done all the same.
    pub(super) async fn write<T, E>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Failure,
    {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            work: Some(work),
            result: None,
            reply,
        };
        let queue = self.queue.as_ref().ok_or(DatastoreError::Stopped)?;
        queue
            .send(Box::new(request))
            .await
            .map_err(|_closed| DatastoreError::Stopped)?;
        answer.await.unwrap_or(Err(DatastoreError::Stopped.into()))
    }
}

/// Waits for the last transaction and the closing of the file.
impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the datastore thread panicked");
        }
    }
}

/// A transaction, as one request sees it.
pub(super) struct Tx<'c> {
    conn: &'c Connection,
    commits: Vec<Committed>,
    settles: Cell<bool>,
}

impl<'c> Tx<'c> {
    /// Where nothing is written.
    pub(super) fn reading(conn: &'c Connection) -> Self {
        Self {
            conn,
            commits: Vec::new(),
            settles: Cell::new(false),
        }
    }

    pub(super) fn conn(&self) -> &'c Connection {
        self.conn
    }

    pub(super) fn revision(&self) -> Result<Revision, DatastoreError> {
        let mut state = self.conn.prepare_cached("SELECT epoch, revision FROM state")?;
        let (epoch, number) =
            state.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        Ok(Revision {
            epoch: epoch.unsigned_abs(),
            number: number.unsigned_abs(),
        })
    }

    /// Begins the first epoch, when there is none yet.
    pub(super) fn begin_epoch(&self, now: Option<UnixTime>) -> Result<(), DatastoreError> {
        if self.revision()?.epoch == 0 {
            let epoch = now.map_or(1, UnixTime::as_secs).max(1);
            let mut begin = self.conn.prepare_cached("UPDATE state SET epoch = ?1")?;
            begin.execute([epoch])?;
        }
        Ok(())
    }

    /// The next revision; for one change.
    pub(super) fn next_revision(&self) -> Result<i64, DatastoreError> {
        let mut next = self
            .conn
            .prepare_cached("UPDATE state SET revision = revision + 1 RETURNING revision")?;
        Ok(next.query_row([], |row| row.get(0))?)
    }

    /// Goes into the main file once it is committed: what would be begun anew if the log were lost.
    pub(super) fn settle(&self) {
        self.settles.set(true);
    }

    /// Tells of a change once it is committed.
    pub(super) fn changed(&mut self, revision: i64, change: Change) {
        self.commits.push(Committed {
            revision: revision.unsigned_abs(),
            change,
        });
    }
}

trait Work: Send {
    /// Whether its changes are to be kept; else the failure of the datastore, if that is why not.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Option<DatastoreError>>;
    fn answer(self: Box<Self>, committed: Result<(), DatastoreError>);
}

struct Request<F, T, E> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Work for Request<F, T, E>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: Failure,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Option<DatastoreError>> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        let result = work(tx);
        let kept = result
            .as_ref()
            .map(|_| ())
            .map_err(|refused| refused.storage().cloned());
        self.result = Some(result);
        kept
    }

    fn answer(self: Box<Self>, committed: Result<(), DatastoreError>) {
        let answer = match (committed, self.result) {
            // A request that was refused was refused, whatever became of the others.
            (_, Some(Err(refused))) => Err(refused),
            (Ok(()), Some(Ok(done))) => Ok(done),
            (Ok(()), None) => Err(DatastoreError::Stopped.into()),
            (Err(failed), _) => Err(failed.into()),
        };
        // Whoever asked may have gone away; what was done stays done.
        let _nobody_waits = self.reply.send(answer);
    }
}

fn run(
    conn: &Connection,
    mut requests: mpsc::Receiver<Box<dyn Work>>,
    listener: &OnceLock<Arc<dyn CommitListener>>,
    doubt: &Notify,
) {
    while let Some(first) = requests.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = requests.try_recv()
        {
            group.push(next);
        }
        let mut refused = false;
        let outcome = transact(conn, &mut group, &mut refused);
        if refused || outcome.is_err() {
            doubt.notify_one();
        }
        if let Ok(commits) = &outcome
            && let Some(listener) = listener.get()
        {
            commits.iter().for_each(|commit| listener.committed(commit));
        }
        let outcome = outcome.map(|_| ());
        for request in group {
            request.answer(outcome.clone());
        }
    }
}

/// Sets `refused` when the database refused a request, even though the others are committed.
fn transact(
    conn: &Connection,
    group: &mut [Box<dyn Work>],
    refused: &mut bool,
) -> Result<Vec<Committed>, DatastoreError> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let mut tx = Tx {
        conn,
        commits: Vec::new(),
        settles: Cell::new(false),
    };
    let committed = run_group(&mut tx, group, refused).and_then(|()| Ok(conn.execute_batch("COMMIT")?));
    if committed.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    if committed.is_ok() && tx.settles.get() {
        // It is durable as it is; while the disk is full, say, it stays in the log.
        let settled = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = settled {
            tracing::debug!(%error, "the log of the database stays as long as it is");
        }
    }
    committed.map(|()| tx.commits)
}

fn run_group(tx: &mut Tx<'_>, group: &mut [Box<dyn Work>], refused: &mut bool) -> Result<(), DatastoreError> {
    for request in group {
        tx.conn.execute_batch("SAVEPOINT request")?;
        let before = tx.commits.len();
        let done = request.run(tx);
        *refused |= matches!(done, Err(Some(_)));
        if tx.conn.is_autocommit() {
            // SQLite has rolled everything back by itself, as it may when the disk is full.
            return Err(done.err().flatten().unwrap_or(DatastoreError::Full));
        }
        if done.is_err() {
            tx.conn.execute_batch("ROLLBACK TO request")?;
            tx.commits.truncate(before);
        }
        tx.conn.execute_batch("RELEASE request")?;
    }
    Ok(())
}

/// Requests that wait; more callers wait outside.
const QUEUE: usize = 1024;
/// Requests in one commit.
const GROUP: usize = 256;
