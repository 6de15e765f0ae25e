//! Reads what others have changed. Invariant: a look is one statement, so it sees one state; what was pruned or lost is never stepped over.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::follower::{Follower, Next};
use super::link::{Link, Session};
use super::position::Position;
use super::row::{damage, domain, get, unsigned};
use super::target::PostgresConfig;
use super::{people, text};
use crate::datastore::sharing::Sharing;
use crate::datastore::{DatastoreError, Snapshot, people_text};
use crate::registry::{Revision, Versioned};

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
                Err(error) => self.failed(&error).await,
            }
        }
    }

    async fn look(&mut self) -> Result<Next, DatastoreError> {
        let link = match &mut self.link {
            Some(link) => link,
            None => {
                let mut link = Link::again(&self.target).await?;
                if link.session.notifies {
                    let session = Rc::clone(&link.session);
                    link.run(LOOK, async move { Ok(session.batch("LISTEN landfast").await?) })
                        .await?;
                }
                self.link.insert(link)
            }
        };
        let (began, session, asked) = (Instant::now(), Rc::clone(&link.session), self.follower.at());
        let (from, journal) = (asked.revision, asked.journal);
        let rows = link
            .run(LOOK, async move {
                Ok(session.rows(SINCE, &[&from, &PAGE, &journal]).await?)
            })
            .await?;
        let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
        self.follower.read(&rows, page, &asked, began)
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

    async fn failed(&mut self, error: &DatastoreError) {
        // Another host may have what this one has not.
        self.link = None;
        self.follower.trouble(error);
        if !std::mem::replace(&mut self.said, true) {
            let error = landfast_daemon::error_chain(error);
            tracing::error!(error, "the database does not serve; trying again");
        }
        while let Ok(load) = self.loads.try_recv() {
            drop(load.send(Err(error.clone())));
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
    let state = session.rows(STATE, &[]).await?;
    let Some(state) = state.first() else {
        return Err(damage("state", "the table is empty"));
    };
    let at = Position::of(state)?;
    let mut sharing = Sharing::among(domain(state, "trust_domain")?);
    let mut snapshot = Snapshot {
        revision: Revision {
            epoch: at.epoch.unsigned_abs(),
            number: at.revision.unsigned_abs(),
        },
        ..Snapshot::default()
    };
    for row in session.rows(ENTRIES, &[]).await? {
        let entry = text::read_entry(get(&row, "body")?, &mut sharing)?;
        let policy: Option<&str> = get(&row, "policy")?;
        let policy = policy.map(|policy| text::read_policy(&entry.id, policy).map(Arc::new));
        snapshot.entries.push(Versioned {
            policy: policy.transpose()?,
            entry: Arc::new(entry),
            revision: unsigned(&row, "revision")?,
        });
    }
    for row in session.rows("SELECT body FROM agents", &[]).await? {
        snapshot
            .agents
            .push(Arc::new(text::read_agent(get(&row, "body")?, &mut sharing)?));
    }
    for row in session
        .rows("SELECT trust_domain, body FROM federated_bundles", &[])
        .await?
    {
        let bundle = text::read_bundle(domain(&row, "trust_domain")?, get(&row, "body")?)?;
        snapshot.bundles.push(Arc::new(bundle));
    }
    for row in session
        .rows("SELECT body FROM federation_relationships", &[])
        .await?
    {
        let relationship = text::read_relationship(get(&row, "body")?)?;
        snapshot.relationships.push(Arc::new(relationship));
    }
    for row in session.rows(people::ALL, &[]).await? {
        let person = people_text::read_person(get(&row, "reference")?, get(&row, "body")?)?;
        snapshot.people.push(Arc::new(person));
    }
    Ok((snapshot, at))
}

const STATE: &str = "SELECT trust_domain, epoch, revision AS newest, mark AS newest_mark, journal_version, journal_mark FROM state";
/// From the revision that is known on, so that its mark is seen again; and that of the journal that is known.
const SINCE: &str = "SELECT s.epoch, s.revision AS newest, s.mark AS newest_mark, s.journal_version, s.journal_mark, \
    (SELECT j.mark FROM journal_changes j WHERE j.version = $3) AS journal_trace, \
    (SELECT max(m.number) FROM schema_migrations m) AS schema, \
    c.revision, c.kind, c.object, CASE WHEN c.revision > $1 THEN c.body END AS body, c.mark \
    FROM state s LEFT JOIN changes c ON c.revision >= $1 ORDER BY c.revision LIMIT $2";
const ENTRIES: &str = "SELECT e.body, e.revision, p.body AS policy FROM entries e LEFT JOIN entry_policies p ON p.entry_id = e.id";
const BEGIN_LOAD: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '60s'";
/// Changes of one look.
const PAGE: i64 = 500;
const EVERY: Duration = Duration::from_millis(200);
/// For one look: one that has no answer leaves time for another before what is known counts as old.
const LOOK: Duration = Duration::from_secs(1);
/// For a snapshot.
const LOAD: Duration = Duration::from_secs(60);
