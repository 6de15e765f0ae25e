//! A transaction, as requests see it. Invariant: it holds the counter of revisions from its first statement to its end.

use std::rc::Rc;

use landfast_identity::{TrustDomain, UnixTime};
use tokio_postgres::Row;

use super::Identity;
use super::follower::Made;
use super::link::{Params, Session};
use super::position::{Position, Traces};
use super::row::{damage, ends_the_session, get, is_passing, signed};
use super::{migrate, text};
use crate::datastore::{Change, Committed, DatastoreError};

pub(super) struct Tx {
    session: Rc<Session>,
    identity: Identity,
    /// Where the database stands.
    pub(super) after: Position,
    /// What it has where whoever writes stands.
    pub(super) traces: Traces,
    revision: i64,
    journal: i64,
    /// With the time of those that have one.
    changes: Vec<(Committed, Option<i64>)>,
    wrote: bool,
    fault: Option<Fault>,
}

/// What a failed statement means for the transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Another try may do.
    Passing,
    /// Another connection may do.
    Lost,
    /// It is as it is.
    Refused,
}

/// Where a request began.
#[derive(Clone, Copy)]
pub(super) struct Before {
    revision: i64,
    journal: i64,
    changes: usize,
}

impl Tx {
    pub(super) fn new(session: Rc<Session>, identity: Identity) -> Self {
        Self {
            session,
            identity,
            after: Position::default(),
            traces: Traces::default(),
            revision: 0,
            journal: 0,
            changes: Vec::new(),
            wrote: false,
            fault: None,
        }
    }

    /// Locks the counter. Returns the number of the last commit of this process. `known` is what it stands at.
    pub(super) async fn begin(&mut self, known: &Position) -> Result<i64, DatastoreError> {
        self.batch("BEGIN").await?;
        let row = self.one(LOCK, &[]).await?;
        self.after = Position::of(&row)?;
        self.journal = self.after.journal;
        self.revision = self.after.revision;
        // A statement of its own: it has to see what was committed while the lock was waited for.
        let server = self.identity.server.clone();
        let row = self
            .opt(STANDING, &[&server, &known.revision, &known.journal])
            .await?;
        if let Some(row) = &row {
            migrate::not_newer(get(row, "schema")?)?;
            self.traces = Traces {
                revision: get(row, "revision_trace")?,
                journal: get(row, "journal_trace")?,
            };
        }
        let row = row.filter(|row| get::<&str>(row, "boot").is_ok_and(|boot| boot == self.identity.boot));
        match row {
            Some(row) => get(&row, "commits"),
            None => Err(DatastoreError::Fenced),
        }
    }

    /// Writes what goes with the requests: the counter, the feed, the number of this commit.
    pub(super) async fn finish(&mut self, number: i64) -> Result<(), DatastoreError> {
        if !self.wrote {
            return Ok(());
        }
        let identity = self.identity.clone();
        let sql = "UPDATE servers SET commits = $3 WHERE id = $1 AND boot = $2";
        if self
            .execute(sql, &[&identity.server, &identity.boot, &number])
            .await?
            == 0
        {
            return Err(DatastoreError::Fenced);
        }
        let mark = identity.mark(number);
        if self.journal != self.after.journal {
            let version = self.journal;
            self.execute("UPDATE state SET journal_mark = $1", &[&mark])
                .await?;
            self.execute(JOURNAL, &[&(self.after.journal + 1), &version, &mark])
                .await?;
            self.execute(OLD_JOURNALS, &[&(version - JOURNALS)]).await?;
        }
        if !self.changes.is_empty() {
            let (mut revisions, mut kinds, mut objects) = (Vec::new(), Vec::new(), Vec::new());
            let (mut bodies, mut times) = (Vec::new(), Vec::new());
            for (commit, at) in &self.changes {
                let (kind, object, body) = text::change(&commit.change)?;
                revisions.push(signed(commit.revision));
                kinds.push(kind);
                objects.push(object);
                bodies.push(body);
                times.push(*at);
            }
            let revision = self.revision;
            self.execute("UPDATE state SET revision = $1, mark = $2", &[&revision, &mark])
                .await?;
            self.execute(FEED, &[&revisions, &kinds, &objects, &bodies, &times, &mark])
                .await?;
        }
        if self.session.notifies && (self.journal != self.after.journal || !self.changes.is_empty()) {
            self.batch("SELECT pg_notify('landfast', '')").await?;
        }
        Ok(())
    }

    /// What is made when this commits as the commit of this number.
    pub(super) fn made(&self, number: i64) -> Made {
        Made {
            after: self.after.clone(),
            commits: self.changes.iter().map(|(commit, _)| commit.clone()).collect(),
            mark: self.identity.mark(number),
            journal: self.journal,
            journal_mark: match self.journal == self.after.journal {
                true => self.after.journal_mark.clone(),
                false => self.identity.mark(number),
            },
        }
    }

    /// See [`Session::notifies`].
    pub(super) fn notifies(&self) -> bool {
        self.session.notifies
    }

    pub(super) fn server(&self) -> &str {
        &self.identity.server
    }

    pub(super) fn trust_domain(&self) -> &TrustDomain {
        &self.identity.trust_domain
    }

    /// The next revision; for one change.
    pub(super) fn next_revision(&mut self) -> i64 {
        self.revision += 1;
        self.revision
    }

    /// Goes into the feed, and is told once it is committed.
    pub(super) fn changed(&mut self, revision: i64, change: Change, at: Option<UnixTime>) {
        let commit = Committed {
            revision: revision.unsigned_abs(),
            change,
        };
        self.changes.push((commit, at.map(UnixTime::as_secs)));
    }

    /// A removal, which the feed keeps for longer.
    pub(super) fn bury(&mut self, now: UnixTime, change: Change) {
        let revision = self.next_revision();
        self.changed(revision, change, Some(now));
    }

    /// The journal has its next version. Others are to look, though no revision says so.
    pub(super) fn stir(&mut self) {
        self.journal += 1;
    }

    pub(super) fn savepoint(&self) -> Before {
        Before {
            revision: self.revision,
            journal: self.journal,
            changes: self.changes.len(),
        }
    }

    pub(super) fn undo(&mut self, before: Before) {
        self.revision = before.revision;
        self.journal = before.journal;
        self.changes.truncate(before.changes);
        self.fault = None;
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    pub(super) async fn rows(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, DatastoreError> {
        let done = self.session.rows(sql, params).await;
        self.heed(done)
    }

    pub(super) async fn opt(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Option<Row>, DatastoreError> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    pub(super) async fn one(&mut self, sql: &'static str, params: Params<'_>) -> Result<Row, DatastoreError> {
        let row = self.opt(sql, params).await?;
        row.ok_or_else(|| damage("state", "a row that has to be there is not"))
    }

    /// Something that writes; returns how many rows.
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<u64, DatastoreError> {
        self.wrote = true;
        let done = self.session.execute(sql, params).await;
        self.heed(done)
    }

    pub(super) async fn batch(&mut self, sql: &str) -> Result<(), DatastoreError> {
        let done = self.session.batch(sql).await;
        self.heed(done)
    }

    fn heed<T>(&mut self, done: Result<T, tokio_postgres::Error>) -> Result<T, DatastoreError> {
        done.map_err(|error| {
            self.fault = Some(match error.code() {
                Some(code) if is_passing(code) => Fault::Passing,
                // A database that was set so, or that has become a replica: another host may be the primary now.
                Some(code) if *code == tokio_postgres::error::SqlState::READ_ONLY_SQL_TRANSACTION => {
                    Fault::Lost
                }
                Some(code) if !ends_the_session(code) => Fault::Refused,
                _ => Fault::Lost,
            });
            error.into()
        })
    }
}

const LOCK: &str = "SELECT epoch, revision AS newest, mark AS newest_mark, journal_version, journal_mark FROM state FOR UPDATE";
const STANDING: &str = "SELECT boot, commits, (SELECT max(m.number) FROM schema_migrations m) AS schema, \
    (SELECT c.mark FROM changes c WHERE c.revision = $2) AS revision_trace, \
    (SELECT j.mark FROM journal_changes j WHERE j.version = $3) AS journal_trace FROM servers WHERE id = $1";
/// Each version: what was made two versions longer in one commit has a mark at both, where a history that was lost had two commits.
const JOURNAL: &str = "INSERT INTO journal_changes (version, mark) SELECT v, $3::text FROM generate_series($1::bigint, $2::bigint) AS v";
const OLD_JOURNALS: &str = "DELETE FROM journal_changes WHERE version <= $1";
/// So many are kept: by them a server sees that the journal is the one it knows.
const JOURNALS: i64 = 1000;
const FEED: &str = "INSERT INTO changes (revision, kind, object, body, mark, at) \
    SELECT f.revision, f.kind, f.object, f.body, $6::text, coalesce(f.at, floor(extract(epoch FROM now()))::bigint) \
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS f (revision, kind, object, body, at)";
