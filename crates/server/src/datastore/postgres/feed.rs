//! Reads what others have changed. Invariant: a look is one statement, so it sees one state; what was pruned or lost is never stepped over.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::follower::{Follower, Next, Position};
use super::link::{Link, Session};
use super::row::get;
use super::target::PostgresConfig;
use super::text;
use crate::datastore::{DatastoreError, Snapshot};

/// Who waits for a snapshot.
pub(super) type Load = oneshot::Sender<Result<Snapshot, DatastoreError>>;

pub(super) struct Feed {
    pub(super) target: PostgresConfig,
    pub(super) follower: Rc<Follower>,
    pub(super) link: Option<Link>,
    pub(super) loads: mpsc::Receiver<Load>,
    /// What was said of the database last.
    pub(super) said: bool,
}

impl Feed {
    /// For ever.
    pub(super) async fn run(mut self) {
        loop {
            match self.look().await {
                Ok(Next::More) => {}
                Ok(Next::Rest) => {
                    if std::mem::take(&mut self.said) {
                        tracing::info!("the database answers again");
                    }
                    self.wait().await;
                }
                Ok(Next::Reload) => self.reload().await,
                Ok(Next::Lost) => self.begin_epoch().await,
                Err(error) => self.failed(&error).await,
            }
            self.follower.expire();
        }
    }

    async fn look(&mut self) -> Result<Next, DatastoreError> {
        let link = match &mut self.link {
            Some(link) => link,
            None => {
                let mut link = Link::connect(&self.target).await?;
                if link.session.notifies {
                    let session = Rc::clone(&link.session);
                    link.run(LOOK, async move { Ok(session.batch("LISTEN landfast").await?) })
                        .await?;
                }
                self.link.insert(link)
            }
        };
        let (asked, session, from) = (
            Instant::now(),
            Rc::clone(&link.session),
            self.follower.at().revision,
        );
        let rows = link
            .run(LOOK, async move { Ok(session.rows(SINCE, &[&from, &PAGE]).await?) })
            .await?;
        let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
        self.follower.read(&rows, page, asked)
    }

    /// Until there may be something new. NOTIFY, and a commit of our own, are hints to look sooner.
    async fn wait(&mut self) {
        let Some(link) = &mut self.link else { return };
        let load = tokio::select! {
            heard = link.hear() => {
                if heard.is_err() {
                    self.link = None;
                }
                return;
            }
            () = self.follower.poke.notified() => return,
            load = self.loads.recv() => load,
            () = tokio::time::sleep(EVERY) => return,
        };
        let Some(load) = load else {
            return tokio::time::sleep(EVERY).await;
        };
        let loaded = self.snapshot().await.map(|(snapshot, at)| {
            self.follower.loaded(at);
            snapshot
        });
        if loaded.is_err() {
            self.link = None;
        }
        // Whoever asked may have gone.
        drop(load.send(loaded));
    }

    async fn reload(&mut self) {
        let began = Instant::now();
        match self.snapshot().await {
            Ok((snapshot, at)) => {
                tracing::warn!(
                    revision = at.revision,
                    epoch = at.epoch,
                    "the registry was read anew: the changes that led to it are no longer in the database"
                );
                self.follower.reloaded(snapshot, at, began);
            }
            Err(error) => self.failed(&error).await,
        }
    }

    /// After a fail-over to a replica that had not everything: what it has is the truth, with a new epoch, so that nobody takes it for older.
    async fn begin_epoch(&mut self) {
        let known = self.follower.at();
        let Some(link) = &mut self.link else { return };
        let (session, epoch) = (Rc::clone(&link.session), known.epoch);
        let begun = link
            .run(LOOK, async move {
                // Nothing happens when another server was faster.
                session.execute(NEW_EPOCH, &[&epoch, &LEAP]).await?;
                Ok(())
            })
            .await;
        tracing::error!(
            revision = known.revision,
            "the database has lost commits that were acknowledged, up to this revision: it has failed over to a replica that lagged; what it has is \
             in force from now on, in a new epoch. Look for what is missing, and make its replication synchronous"
        );
        match begun {
            Ok(()) => self.reload().await,
            Err(error) => self.failed(&error).await,
        }
    }

    async fn failed(&mut self, error: &DatastoreError) {
        self.link = None;
        self.follower.trouble(error);
        if !std::mem::replace(&mut self.said, true) {
            let error = landfast_daemon::error_chain(error);
            tracing::error!(error, "the database does not serve; trying again");
        }
        tokio::time::sleep(EVERY).await;
    }

    async fn snapshot(&mut self) -> Result<(Snapshot, Position), DatastoreError> {
        let Some(link) = &mut self.link else {
            return Err(DatastoreError::unreachable("the connection is over"));
        };
        let session = Rc::clone(&link.session);
        link.run(LOAD, async move {
            session.batch(BEGIN_LOAD).await?;
            let loaded = load(&session).await?;
            session.batch("COMMIT").await?;
            Ok(loaded)
        })
        .await
    }
}

async fn load(session: &Session) -> Result<(Snapshot, Position), DatastoreError> {
    let state = session.rows("SELECT epoch, revision, mark FROM state", &[]).await?;
    let Some(state) = state.first() else {
        return Err(super::row::damage("state", "the table is empty"));
    };
    let at = Position {
        epoch: get(state, "epoch")?,
        revision: get(state, "revision")?,
        mark: get(state, "mark")?,
    };
    let mut snapshot = Snapshot {
        revision: at.revision.unsigned_abs(),
        ..Snapshot::default()
    };
    for row in session.rows("SELECT body FROM entries", &[]).await? {
        snapshot.entries.push(text::read_entry(get(&row, "body")?)?);
    }
    for row in session.rows("SELECT body FROM agents", &[]).await? {
        snapshot.agents.push(text::read_agent(get(&row, "body")?)?);
    }
    for row in session
        .rows("SELECT trust_domain, body FROM federated_bundles", &[])
        .await?
    {
        let td = super::row::domain(&row, "trust_domain")?;
        snapshot.bundles.push(text::read_bundle(td, get(&row, "body")?)?);
    }
    for row in session.rows("SELECT body FROM federation_relationships", &[]).await? {
        let relationship = text::read_relationship(get(&row, "body")?)?;
        snapshot.relationships.push(relationship);
    }
    Ok((snapshot, at))
}

/// From the revision that is known on, so that its mark is seen again.
const SINCE: &str = "SELECT s.epoch, s.revision AS newest, s.mark AS newest_mark, s.journal_version, c.revision, c.kind, c.object, \
    CASE WHEN c.revision > $1 THEN c.body END AS body, c.mark \
    FROM state s LEFT JOIN changes c ON c.revision >= $1 ORDER BY c.revision LIMIT $2";
const BEGIN_LOAD: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '60s'";
/// The counters leap over whatever was lost, for nobody takes what is numbered lower than what he knows.
const NEW_EPOCH: &str = "UPDATE state SET epoch = greatest(epoch + 1, floor(extract(epoch FROM now()))::bigint), mark = mark || '+', \
    journal_version = journal_version + $2, bundle_sequence = bundle_sequence + $2 WHERE epoch = $1";
const LEAP: i64 = 1_000_000;
/// Changes of one look.
const PAGE: i64 = 500;
const EVERY: Duration = Duration::from_millis(200);
/// For one look.
const LOOK: Duration = Duration::from_secs(2);
/// For a snapshot.
const LOAD: Duration = Duration::from_secs(60);
