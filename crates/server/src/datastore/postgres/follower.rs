//! What this server knows of the feed, and who waits for it. Invariant: the listener hears every revision once, in order, whoever made it; who wrote
//! is answered after that.

mod shared;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::position::{Position, Traces};
use super::row::{damage, get};
use super::writer::Work;
use super::{gauges, migrate, text};
use crate::datastore::{Committed, DatastoreError, Snapshot};

pub(super) use shared::Shared;
use shared::{STALE, lasts, lost};

/// What a transaction of ours has committed.
pub(super) struct Made {
    /// Where the database stood before.
    pub(super) after: Position,
    pub(super) commits: Vec<Committed>,
    pub(super) mark: String,
    /// The version that the journal then has.
    pub(super) journal: i64,
    pub(super) journal_mark: String,
}

pub(super) struct Follower {
    pub(super) shared: Arc<Shared>,
    inner: RefCell<Inner>,
    /// There is something to read.
    pub(super) poke: Notify,
}

#[derive(Default)]
struct Inner {
    following: bool,
    at: Position,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    /// The epoch, and the revision in it.
    number: (i64, i64),
    since: Instant,
    group: Vec<Box<dyn Work>>,
}

/// What is to be done after a look at the feed.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Everything is known.
    Rest,
    /// There is more.
    More,
    /// What we know is not what came before: all has to be read anew.
    Reload,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, at: Position) -> Self {
        Self {
            shared,
            inner: RefCell::new(Inner {
                at,
                ..Inner::default()
            }),
            poke: Notify::new(),
        }
    }

    pub(super) fn doubt(&self, error: &DatastoreError) {
        if lasts(error) {
            self.trouble(error);
        }
        if let DatastoreError::NoSpace { .. } = error {
            self.shared.full.store(true, Ordering::Relaxed);
        }
        gauges::failed(error);
        self.shared.doubt.notify_one();
    }

    /// A commit of our own. When all before it is known it is told at once; else the feed brings it.
    pub(super) fn committed(&self, made: Made, group: Vec<Box<dyn Work>>) {
        let mut inner = self.inner.borrow_mut();
        self.meet_listener(&mut inner);
        gauges::wrote();
        if made.after.epoch == inner.at.epoch {
            inner.at.learn_journal(made.journal, &made.journal_mark);
        }
        let Some(last) = made.commits.last() else {
            return answer(group);
        };
        let last = i64::try_from(last.revision).unwrap_or(i64::MAX);
        if made.after.number() == inner.at.number() && made.after.mark == inner.at.mark {
            for commit in &made.commits {
                self.tell(&inner, commit);
            }
            inner.at.revision = last;
            inner.at.mark = made.mark;
        }
        let number = (made.after.epoch, last);
        if inner.at.number() >= number {
            return answer(group);
        }
        inner.waiting.push_back(Waiting {
            number,
            since: Instant::now(),
            group,
        });
        self.poke.notify_one();
    }

    /// Whether something may be written where the database stands now, which has these traces of what was known when it was asked.
    pub(super) fn admits(
        &self,
        known: &Position,
        now: &Position,
        traces: &Traces,
    ) -> Result<(), DatastoreError> {
        if let Some(trouble) = self.shared.lock().trouble.clone().filter(lasts) {
            return Err(trouble);
        }
        let mut inner = self.inner.borrow_mut();
        self.meet_listener(&mut inner);
        if !inner.following {
            return Ok(());
        }
        known.leads_to(now, traces)?;
        inner.at.leads_to(now, &Traces::default())
    }

    /// Since which revision the feed is to be read.
    pub(super) fn at(&self) -> Position {
        let mut inner = self.inner.borrow_mut();
        self.meet_listener(&mut inner);
        inner.at.clone()
    }

    /// Takes what the feed had when it was asked for everything from `asked` on; `at` is when that was. Commits of our own may have been told of
    /// since.
    pub(super) fn read(
        &self,
        rows: &[Row],
        page: usize,
        asked: &Position,
        at: Instant,
    ) -> Result<Next, DatastoreError> {
        let mut inner = self.inner.borrow_mut();
        self.meet_listener(&mut inner);
        let Some(first) = rows.first() else {
            return Err(damage("state", "the table is empty"));
        };
        migrate::not_newer(get(first, "schema")?)?;
        let newest = Position::of(first)?;
        self.journal_is(newest.journal.unsigned_abs());
        if !inner.following {
            inner.at = newest;
            self.caught_up(&mut inner, at, false);
            return Ok(Next::Rest);
        }
        if newest.epoch > inner.at.epoch {
            return Ok(Next::Reload);
        }
        let traces = Traces {
            revision: None,
            journal: get(first, "journal_trace")?,
        };
        asked.leads_to(&newest, &traces)?;
        inner.at.learn_journal(newest.journal, &newest.journal_mark);
        // Whether what we know is in it.
        let mut is_ours = newest.number() == asked.number();
        for row in rows {
            let Some(revision) = get::<Option<i64>>(row, "revision")? else {
                break;
            };
            let mark: &str = get(row, "mark")?;
            if revision == asked.revision {
                if mark != asked.mark {
                    return Err(asked.went_back(&newest));
                }
                is_ours = true;
            }
            if revision <= inner.at.revision {
                continue;
            }
            if revision != inner.at.revision + 1 {
                return Ok(Next::Reload);
            }
            let change = text::read_change(get(row, "kind")?, get(row, "object")?, get(row, "body")?)?;
            let commit = Committed {
                revision: revision.unsigned_abs(),
                change,
            };
            self.tell(&inner, &commit);
            inner.at.revision = revision;
            mark.clone_into(&mut inner.at.mark);
        }
        let next = match inner.at.revision >= newest.revision {
            true => Next::Rest,
            false if rows.len() >= page => Next::More,
            // The rows in between are gone.
            false => Next::Reload,
        };
        if next == Next::Rest {
            self.caught_up(&mut inner, at, is_ours);
        }
        Ok(next)
    }

    /// A snapshot that somebody asked for: a listener that comes later goes on from there.
    pub(super) fn loaded(&self, at: Position) {
        *self.shared.loaded() = at;
    }

    /// A snapshot instead of the changes that led to it.
    pub(super) fn reloaded(&self, snapshot: Snapshot, at: Position, read_at: Instant) {
        let mut inner = self.inner.borrow_mut();
        if let Some(listener) = self.shared.listener.get() {
            listener.reloaded(snapshot);
        }
        if at.epoch > inner.at.epoch {
            // Somebody has said that what there is now is to hold.
            self.shared.lock().trouble = None;
        }
        inner.at = at;
        self.caught_up(&mut inner, read_at, false);
    }

    pub(super) fn trouble(&self, error: &DatastoreError) {
        gauges::failed(error);
        gauges::age(self.shared.lock().read_at.elapsed());
        let mut standing = self.shared.lock();
        // Those do not pass by themselves, whatever else happens.
        if !standing.trouble.as_ref().is_some_and(lasts) {
            standing.trouble = Some(error.clone());
        }
    }

    /// Whether nobody is to wait for the database any more: agents ask another server now.
    pub(super) fn is_gone(&self) -> bool {
        self.shared.is_gone()
    }

    /// Returns once it is, and says why.
    pub(super) async fn gone(&self) -> DatastoreError {
        while !self.is_gone() {
            tokio::time::sleep(LOOK).await;
        }
        let standing = self.shared.lock();
        standing.trouble.clone().unwrap_or(DatastoreError::Behind)
    }

    /// For ever; apart from the feed, which waits for the database.
    pub(super) async fn keep_time(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.expire();
        }
    }

    /// Answers those for whom the feed has not come in time, or cannot come.
    fn expire(&self) {
        let is_gone = self.is_gone();
        let mut inner = self.inner.borrow_mut();
        while inner
            .waiting
            .front()
            .is_some_and(|w| is_gone || w.since.elapsed() >= STALE * 2)
            && let Some(late) = inner.waiting.pop_front()
        {
            let error = DatastoreError::Undecided {
                source: Arc::new(DatastoreError::Behind),
            };
            late.group
                .into_iter()
                .for_each(|request| request.answer(Err(error.clone())));
        }
    }

    fn journal_is(&self, version: u64) {
        let mut standing = self.shared.lock();
        if standing.journal != version {
            standing.journal = version;
            standing.journal_at = Instant::now();
            self.shared.journal.notify_one();
        }
    }

    /// With `is_ours` it is the database that we know, though another may have stood in its place meanwhile.
    fn caught_up(&self, inner: &mut Inner, at: Instant, is_ours: bool) {
        let mut standing = self.shared.lock();
        standing.read_at = at;
        gauges::age(at.elapsed());
        standing.trouble = standing.trouble.take().filter(|trouble| match trouble {
            trouble if lost(trouble) => !is_ours,
            trouble => lasts(trouble),
        });
        gauges::read(standing.trouble.as_ref());
        drop(standing);
        while inner
            .waiting
            .front()
            .is_some_and(|waiting| waiting.number <= inner.at.number())
            && let Some(done) = inner.waiting.pop_front()
        {
            answer(done.group);
        }
    }

    fn meet_listener(&self, inner: &mut Inner) {
        if !inner.following && self.shared.listener.get().is_some() {
            inner.following = true;
            let seen = std::mem::replace(&mut inner.at, self.shared.loaded().clone());
            if seen.epoch == inner.at.epoch {
                inner.at.learn_journal(seen.journal, &seen.journal_mark);
            }
        }
    }

    fn tell(&self, inner: &Inner, commit: &Committed) {
        if inner.following
            && let Some(listener) = self.shared.listener.get()
        {
            listener.committed(commit);
        }
    }
}

fn answer(group: Vec<Box<dyn Work>>) {
    group.into_iter().for_each(|request| request.answer(Ok(())));
}

const LOOK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
