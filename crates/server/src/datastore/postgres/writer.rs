//! The one writer of this server. It takes all requests that wait, runs each in a savepoint of one transaction, commits, and answers when
//! the follower has told of what was changed.
//!
//! Every transaction begins by locking the counter of revisions, so that those of all servers come one after the other: the answers are those
//! of some serial order, and the order is that of the revisions.
//!
//! Invariant: nobody is answered `Ok` before the commit; a request that fails takes no other with it; a commit whose answer was lost is looked
//! up, never guessed, and never made twice.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Identity;
use super::follower::{Follower, Made};
use super::link::Link;
use super::target::PostgresConfig;
use super::tx::{Fault, Tx};
use crate::datastore::{DatastoreError, Failure};

/// What waits for the next transaction.
pub(super) trait Work: Send {
    /// Whether its changes are to be kept; else the failure of the datastore, if that is why not. May be run again, from the beginning.
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> LocalBoxFuture<'a, Result<(), Option<DatastoreError>>>;
    fn answer(self: Box<Self>, committed: Result<(), DatastoreError>);
    fn since(&self) -> Instant;
}

/// A request and who waits for its answer.
pub(super) struct Request<F, T, E> {
    work: F,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
    since: Instant,
}

impl<F, T, E> Request<F, T, E> {
    pub(super) fn new(work: F, reply: oneshot::Sender<Result<T, E>>) -> Self {
        Self {
            work,
            result: None,
            reply,
            since: Instant::now(),
        }
    }
}

impl<F, T, E> Work for Request<F, T, E>
where
    F: for<'a> Fn(&'a mut Tx) -> LocalBoxFuture<'a, Result<T, E>> + Send,
    T: Send,
    E: Failure,
{
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> LocalBoxFuture<'a, Result<(), Option<DatastoreError>>> {
        Box::pin(async move {
            let result = (self.work)(tx).await;
            let kept = result.as_ref().map(|_| ());
            let kept = kept.map_err(|refused| refused.storage().cloned());
            self.result = Some(result);
            kept
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), DatastoreError>) {
        let answer = match (committed, self.result) {
            // A refusal was one of a transaction that was not made, if that failed.
            (Err(failed), _) => Err(failed.into()),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(DatastoreError::Stopped.into()),
        };
        // Whoever asked may have gone away; what was done stays done.
        let _nobody_waits = self.reply.send(answer);
    }

    fn since(&self) -> Instant {
        self.since
    }
}

pub(super) struct Writer {
    pub(super) target: PostgresConfig,
    pub(super) identity: Identity,
    pub(super) follower: Rc<Follower>,
    pub(super) link: Option<Link>,
    /// Transactions of this process, counted.
    pub(super) commits: i64,
}

type Group = Vec<Box<dyn Work>>;

impl Writer {
    /// Until nobody can ask any more.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Box<dyn Work>>) {
        loop {
            let first = match &mut self.link {
                None => requests.recv().await,
                Some(link) => tokio::select! {
                    biased;
                    first = requests.recv() => first,
                    heard = link.hear() => {
                        if heard.is_err() {
                            self.link = None;
                        }
                        continue;
                    }
                },
            };
            let Some(first) = first else { return };
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = requests.try_recv()
            {
                group.push(next);
            }
            self.serve(group, &mut requests).await;
        }
    }

    /// Brings a group to its end: committed, refused, or given up.
    async fn serve(&mut self, mut group: Group, requests: &mut mpsc::Receiver<Box<dyn Work>>) {
        self.commits += 1;
        // What the last attempt would have committed, once COMMIT was on its way.
        let mut sent: Option<Made> = None;
        while !group.is_empty() {
            let outcome = self.attempt(&mut group, &mut sent).await;
            let error = match outcome {
                Ok(made) => {
                    self.follower.committed(made, group);
                    return;
                }
                Err(Ended::Refused(error)) => {
                    self.follower.doubt(&error);
                    let error = match sent {
                        Some(_) => not_known(&error),
                        None => error,
                    };
                    group
                        .into_iter()
                        .for_each(|request| request.answer(Err(error.clone())));
                    return;
                }
                Err(Ended::Again(error)) => error,
                Err(Ended::Lost(error)) => {
                    self.link = None;
                    self.follower.doubt(&error);
                    // They wait too, and no longer than the others. Not after a COMMIT: the group is then what was committed.
                    while sent.is_none()
                        && group.len() < QUEUE
                        && let Ok(next) = requests.try_recv()
                    {
                        group.push(next);
                    }
                    error
                }
            };
            group = give_up(group, &error, sent.is_some(), self.follower.is_gone());
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&mut self, group: &mut Group, sent: &mut Option<Made>) -> Result<Made, Ended> {
        let follower = Rc::clone(&self.follower);
        let link = match &mut self.link {
            Some(link) => link,
            None => {
                let link = in_time(&follower, CONNECTING, Link::again(&self.target)).await;
                self.link.insert(link.map_err(Ended::Lost)?)
            }
        };
        let tx = Tx::new(Rc::clone(&link.session), self.identity.clone());
        let mut ended = None;
        let work = transact(tx, group, self.commits, sent, &mut ended, &follower);
        let done = in_time(&follower, LEAST, link.run(PATIENCE, work)).await;
        match (done, ended) {
            (Ok(made), _) => Ok(made),
            (Err(error), Some(Fault::Passing)) => {
                let session = Rc::clone(&link.session);
                let undo = link.run(PATIENCE, async move { Ok(session.batch("ROLLBACK").await?) });
                let undone = in_time(&follower, LEAST, undo).await;
                Err(match undone {
                    Ok(()) => Ended::Again(error),
                    Err(_) => Ended::Lost(error),
                })
            }
            // It has answered, and the answer is no.
            (Err(error), Some(Fault::Refused)) => {
                self.link = None;
                Err(Ended::Refused(error))
            }
            (Err(error), _) => Err(Ended::Lost(error)),
        }
    }
}

/// An attempt, but for no longer than agents are kept here: with a database that does not answer they are to be elsewhere in time.
async fn in_time<T>(
    follower: &Follower,
    least: Duration,
    attempt: impl Future<Output = Result<T, DatastoreError>>,
) -> Result<T, DatastoreError> {
    let given_up = async {
        // What begins late has a moment all the same: the feed may be the slower one.
        tokio::time::sleep(least).await;
        follower.gone().await
    };
    tokio::select! {
        biased;
        done = attempt => done,
        why = given_up => Err(why),
    }
}

/// How an attempt ended that committed nothing that is known of.
enum Ended {
    Refused(DatastoreError),
    Again(DatastoreError),
    Lost(DatastoreError),
}

async fn transact(
    mut tx: Tx,
    group: &mut Group,
    number: i64,
    sent: &mut Option<Made>,
    ended: &mut Option<Fault>,
    follower: &Follower,
) -> Result<Made, DatastoreError> {
    // Until the look-up has an answer, nothing that fails here says anything of the COMMIT before.
    let mut looked_up = false;
    let done = async {
        let known = follower.at();
        let last = tx.begin(&known).await?;
        if last == number && sent.is_some() {
            tx.batch("ROLLBACK").await?;
            if let Some(made) = sent.take() {
                // The COMMIT whose answer was lost was made.
                return Ok(made);
            }
        }
        looked_up = true;
        *sent = None;
        follower.admits(&known, &tx.after, &tx.traces)?;
        run_group(&mut tx, group, follower).await?;
        tx.finish(number).await?;
        *sent = Some(tx.made(number));
        tx.batch("COMMIT").await?;
        Ok(tx.made(number))
    }
    .await;
    *ended = match &done {
        Ok(_) => None,
        Err(error) if for_good(error) => Some(Fault::Refused),
        Err(_) => tx.fault(),
    };
    if looked_up && let Some(Fault::Passing | Fault::Refused) = ended {
        // It has answered: nothing was committed.
        *sent = None;
    }
    done
}

async fn run_group(tx: &mut Tx, group: &mut Group, follower: &Follower) -> Result<(), DatastoreError> {
    for request in group {
        tx.batch("SAVEPOINT request").await?;
        let before = tx.savepoint();
        if let Err(failed) = request.run(tx).await {
            if let Some(error) = failed {
                if let Some(Fault::Passing | Fault::Lost) = tx.fault() {
                    return Err(error);
                }
                follower.doubt(&error);
            }
            tx.batch("ROLLBACK TO SAVEPOINT request").await?;
            tx.undo(before);
        }
        tx.batch("RELEASE SAVEPOINT request").await?;
    }
    Ok(())
}

/// Whether another attempt finds it as it is.
fn for_good(error: &DatastoreError) -> bool {
    matches!(
        error,
        DatastoreError::Fenced
            | DatastoreError::WentBack { .. }
            | DatastoreError::JournalWentBack { .. }
            | DatastoreError::NewerSchema { .. }
    )
}

fn not_known(error: &DatastoreError) -> DatastoreError {
    DatastoreError::Undecided {
        source: Arc::new(error.clone()),
    }
}

/// Answers those who have waited for long enough, and all when the database is gone; the rest goes on waiting. Of a group that may have been
/// committed all are answered at once.
fn give_up(group: Group, error: &DatastoreError, undecided: bool, gone: bool) -> Group {
    let late = |request: &dyn Work| gone || request.since().elapsed() >= PATIENCE;
    if undecided {
        if !group.iter().any(|request| late(&**request)) {
            return group;
        }
        let error = not_known(error);
        group
            .into_iter()
            .for_each(|request| request.answer(Err(error.clone())));
        return Vec::new();
    }
    let (late, rest): (Vec<_>, Vec<_>) = group.into_iter().partition(|request| late(&**request));
    late.into_iter()
        .for_each(|request| request.answer(Err(error.clone())));
    rest
}

/// Requests that wait; more callers wait outside.
pub(super) const QUEUE: usize = 1024;
/// Requests in one commit.
const GROUP: usize = 256;
/// For one transaction, and for a request while there is no database, if that is not known to be gone before.
const PATIENCE: Duration = Duration::from_secs(3);
/// For a transaction with a database that may be gone: many servers take turns.
const LEAST: Duration = Duration::from_secs(2);
/// For a connection to it.
const CONNECTING: Duration = Duration::from_secs(1);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
