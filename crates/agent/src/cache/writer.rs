//! The task that keeps the cache as it should be.
//!
//! Invariant: it changes nothing but files. A disk that is full, read-only or does not answer costs nothing that is held; it is told, and tried again
//! until it is mended. While work hangs no other is begun.

mod last;
mod told;
mod whole;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use landfast_lifecycle::SharedClock;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::plan::{Change, Plan, RETRY, TOKENS_EVERY, after_tokens};
use super::shelf::{Manner, Shelf, ShelfError};
use super::{CacheState, Image};
use crate::jwt::{JwtCache, Key, Token};
use crate::keeper::KeeperHandle;
use crate::keeper::rungs::Ladders;
use crate::keeper::state::{Rest, Snapshot};
use crate::keeper::views::Views;
use crate::link::LinkHandle;
use crate::link::status::Phase;

/// See the module.
pub(crate) struct Writer {
    pub(crate) shelf: Shelf,
    pub(crate) views: Views,
    /// It is given what a start did not wait for.
    pub(crate) keeper: KeeperHandle,
    pub(crate) link: LinkHandle,
    pub(crate) tokens: JwtCache,
    pub(crate) clock: SharedClock,
    pub(crate) bootstrap: String,
    pub(crate) state: watch::Sender<CacheState>,
    /// The node was banned when it last ran, and what it held then is still there.
    pub(crate) doomed: bool,
}

/// What is done on the disk.
enum Work {
    /// Once, before anything else: the rest of the reserve.
    Read(Option<Found>),
    /// What is gone, while not all is read.
    TakeAway(Box<Image>),
    Write {
        image: Box<Image>,
        manner: Manner,
    },
    Destroy,
}

/// With what is wrong with it.
type Found = (Rest, Vec<String>);

struct Done {
    shelf: Shelf,
    work: Work,
    result: Result<(), ShelfError>,
}

impl Writer {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut published = self.views.published();
        let mut status = self.link.status.clone();
        let mut keeping = Keeping::new(self);
        keeping.start(Work::Read(None));
        loop {
            keeping.hand_over().await;
            keeping.look();
            keeping.begin_what_is_due();
            tokio::select! {
                () = stop.cancelled() => break,
                _ = published.changed() => {}
                _ = status.changed() => {}
                () = keeping.turn() => {}
            }
        }
        keeping.end().await;
        Ok(())
    }
}

struct Keeping {
    writer_state: watch::Sender<CacheState>,
    views: Views,
    keeper: KeeperHandle,
    /// All that is on disk of the reserve is known, and the keeper has it. Before that an index would leave out what is not.
    whole: bool,
    /// What has been read, and the keeper is to have.
    read: Option<Found>,
    /// Tells the reading to halt, and whether it has.
    halt: Arc<AtomicBool>,
    halted: bool,
    link: LinkHandle,
    tokens: JwtCache,
    clock: SharedClock,
    bootstrap: String,
    /// `None` while it is at work.
    shelf: Option<Shelf>,
    /// For when it does not come back.
    spare: Box<dyn Fn() -> Shelf + Send>,
    at_work: Option<(JoinHandle<Done>, Instant)>,
    plan: Plan,
    /// What the plan knows of.
    seen: Arc<Snapshot>,
    /// The reserve as the index has it that was written last.
    on_disk: Arc<Ladders>,
    /// The server has been heard in this run.
    heard: bool,
    in_step: bool,
    banned: bool,
    destroyed: bool,
    /// See [`Writer::doomed`]; not any more when it is destroyed, or the server has let the node in, which makes it worthless.
    doomed: bool,
    agent_id: Option<landfast_identity::SpiffeId>,
    tokens_on_disk: Vec<(Key, Token)>,
    tokens_due: Instant,
    /// When others may be written as far as the flash is concerned.
    tokens_rested: Instant,
    /// Something that goes with the index could not be done: not before this again.
    rest_due: Option<Instant>,
}

impl Keeping {
    fn new(writer: Writer) -> Self {
        let agent_id = writer.link.status.borrow().agent_id.clone();
        Self {
            seen: writer.views.snapshot(),
            on_disk: Arc::clone(&writer.views.snapshot().rungs),
            tokens_on_disk: writer.tokens.held(),
            writer_state: writer.state,
            views: writer.views,
            keeper: writer.keeper,
            whole: !writer.shelf.has_rest(),
            read: None,
            halt: Arc::default(),
            halted: false,
            link: writer.link,
            tokens: writer.tokens,
            clock: writer.clock,
            bootstrap: writer.bootstrap,
            spare: Box::new(writer.shelf.spare()),
            shelf: Some(writer.shelf),
            at_work: None,
            plan: Plan::default(),
            heard: false,
            in_step: false,
            banned: false,
            destroyed: false,
            doomed: writer.doomed,
            agent_id,
            tokens_due: Instant::now() + TOKENS_EVERY,
            tokens_rested: Instant::now(),
            rest_due: None,
        }
    }

    /// Sees what is different.
    fn look(&mut self) {
        let (now, snapshot) = (Instant::now(), self.views.snapshot());
        let status = self.link.status.borrow().clone();
        let in_step = status.phase == Phase::Serving && status.last_error.is_empty();
        let first = in_step && !self.heard;
        self.heard |= in_step;
        self.doomed &= !in_step && !self.destroyed;
        let banned = snapshot.banned || self.doomed;
        if self.banned != banned {
            self.banned = banned;
            self.destroyed = false;
        }
        let mut change = Change::between(&self.seen, &snapshot, &self.on_disk);
        if !Arc::ptr_eq(&self.seen, &snapshot) {
            self.heard |= snapshot.synced_at != self.seen.synced_at;
            self.seen = snapshot;
        }
        // When it was in step last is worth a write when that ends, though not one for each moment of a link that comes and goes.
        if self.in_step && !in_step {
            change = change.sooner(Change::Renewed(Duration::MAX));
            // Switch and node may lose their power together.
            change = change.sooner(Change::of_what_lacks(&self.seen, &self.on_disk));
        }
        if first || self.agent_id != status.agent_id {
            change = change.max(Change::New);
        }
        self.in_step = in_step;
        self.agent_id = status.agent_id;
        self.plan.note(now, change);
        self.halt_for_what_is_gone(now);
    }

    fn begin_what_is_due(&mut self) {
        let now = Instant::now();
        let due = self.plan.due().is_some_and(|due| due <= now);
        let destroys = self.banned && !self.destroyed && (due || self.plan.due().is_none());
        let tokens = now >= self.tokens_due;
        if tokens {
            self.tokens_due = now + TOKENS_EVERY;
        }
        let changed = tokens && self.tokens.held() != self.tokens_on_disk;
        let rest = self.rest().is_some_and(|due| due <= now) || self.plan.has_to_take_away();
        let work = match (destroys, self.banned) {
            (true, _) => Some(Work::Destroy),
            (false, true) => None,
            (false, false) if (due || changed || rest) && self.heard => self.writing(due, changed),
            (false, false) => None,
        };
        let again = (self.halted && !self.banned).then_some(Work::Read(None));
        if let Some(work) = work.or(again) {
            self.start(work);
        }
    }

    fn writing(&mut self, index: bool, tokens: bool) -> Option<Work> {
        if !self.whole {
            return self.taking_away(index);
        }
        // At work still: what is due stays due.
        let owed = self.shelf.as_ref()?.owes_tokens(index) && self.tokens_rested <= Instant::now();
        let Some(mut image) = self.image().map(Box::new) else {
            // Nobody's yet.
            self.plan.failed(Instant::now(), false);
            self.rest_due = Some(Instant::now() + RETRY);
            self.plan.takes_away();
            return None;
        };
        self.rest_due = None;
        // The index says what is tainted; after a restart only tokens that are written with it are judged as now.
        let withdrawn = index && self.plan.distrusts();
        if withdrawn {
            image.tokens = self.tokens.held_under(self.seen.bundle.as_deref());
        }
        let distrusts = withdrawn && image.tokens != self.tokens_on_disk;
        let both = match index {
            true => self.plan.begin(Instant::now()),
            false => self.plan.takes_away(),
        };
        let manner = Manner {
            worthless: true,
            index,
            both,
            tokens: tokens || owed || distrusts,
            partly: false,
        };
        Some(Work::Write { image, manner })
    }

    fn image(&self) -> Option<Image> {
        let status = self.link.status.borrow().clone();
        let snapshot = Snapshot {
            synced_at: status.synced_at(self.clock.now()).or(self.seen.synced_at),
            ..Snapshot::clone(&self.seen)
        };
        Some(Image {
            agent_id: status.agent_id?,
            bootstrap: self.bootstrap.clone(),
            newest: status.newest,
            snapshot: Arc::new(snapshot),
            tokens: self.tokens.held(),
        })
    }

    fn start(&mut self, work: Work) {
        if matches!(work, Work::Read(_)) && self.whole {
            return;
        }
        let Some(mut shelf) = self.shelf.take() else {
            return;
        };
        if matches!(work, Work::Destroy) {
            self.plan.begin(Instant::now());
        }
        self.halted &= !matches!(work, Work::Read(_));
        self.halt.store(false, Ordering::SeqCst);
        let halt = Arc::clone(&self.halt);
        let running = tokio::task::spawn_blocking(move || {
            let mut work = work;
            let result = match &mut work {
                Work::Read(rest) => {
                    *rest = shelf.read_rest(&halt);
                    Ok(())
                }
                Work::TakeAway(image) => shelf.take_away_unread(image),
                Work::Write { image, manner } => shelf.write(image, *manner),
                Work::Destroy => shelf.destroy(),
            };
            Done { shelf, work, result }
        });
        self.at_work = Some((running, Instant::now()));
    }

    /// Until something is done or due.
    async fn turn(&mut self) {
        if let Some((running, since)) = &mut self.at_work {
            let until = *since + PATIENCE;
            let late = Instant::now() >= until;
            tokio::select! {
                done = running => {
                    self.at_work = None;
                    match done {
                        Ok(done) => self.done(done, late || Instant::now() >= until),
                        Err(error) => self.lost(&error),
                    }
                }
                () = sleep_until(until), if !late => self.tell(Err(&ShelfError::Hangs)),
            }
            return;
        }
        if !self.whole && !self.banned {
            // Nobody took it: this ends, too.
            return std::future::pending().await;
        }
        let may = if self.banned { !self.destroyed } else { self.heard };
        let rest = self.rest().filter(|_| !self.banned);
        let due = [self.plan.due(), rest].into_iter().flatten().min();
        let due = due.filter(|_| may).unwrap_or(self.tokens_due);
        sleep_until(due.min(self.tokens_due)).await;
    }

    /// `late`: it has been said that the disk does not answer.
    fn done(&mut self, done: Done, late: bool) {
        let now = Instant::now();
        let wrote = done.shelf.wrote();
        self.shelf = Some(done.shelf);
        match (&done.result, &done.work) {
            (Ok(()), Work::Destroy) => self.destroyed = true,
            (Ok(()) | Err(_), Work::Read(_)) | (Ok(()), Work::Write { .. } | Work::TakeAway(_)) => {}
            (Err(_), Work::Destroy | Work::TakeAway(_)) => self.plan.failed(now, false),
            (Err(error), Work::Write { manner, .. }) => {
                self.rest_due = Some(now + RETRY);
                // Not the index with the rest: a file that cannot be removed may stay so for weeks.
                if !matches!(error, ShelfError::Rest(_)) {
                    self.plan.failed(now, manner.both);
                    self.withdraw_again(*manner);
                }
            }
        }
        if let Work::Read(found) = done.work {
            self.halted = found.is_none();
            self.read = found;
            // What was found wrong at the start is so still.
            if late {
                self.tell(Ok(()));
            }
            return;
        }
        if let Work::Write { image, manner } = done.work {
            let written = matches!(done.result, Ok(()) | Err(ShelfError::Rest(_)));
            if written && manner.index {
                self.on_disk = Arc::clone(&image.snapshot.rungs);
            }
            if manner.both {
                self.plan.wore(now, wrote.indexes);
            }
            if let Some(bytes) = wrote.tokens {
                self.tokens_on_disk = image.tokens;
                self.tokens_due = now + after_tokens(bytes);
                self.tokens_rested = self.tokens_due;
            }
        }
        self.tell(done.result.as_ref().map(|_done| ()));
    }
}

/// A slow card with a full queue answers in less.
const PATIENCE: Duration = Duration::from_secs(5);
