//! One open stream of a delegate.
//!
//! Invariant: every message is the whole state by the newest snapshot, and none is sent once the delegate's right, its process or the process
//! asked about has ended: then the stream ends too.

use std::sync::Arc;

use landfast_identity::{SelectorSet, UnixTime};
use landfast_workload_api::{Caller, Given, GivenBefore, Party, ServedX509};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::asker::Asker;
use super::office::{FIRST_ANSWER, Office, granted};
use super::refusal::{Reason, workload};
use super::seen::Seen;
use crate::entry::Entry;
use crate::keeper::state::Snapshot;
use crate::keeper::views::Views;

/// Whom a delegate asks about.
pub(crate) enum Whose {
    /// Nobody in particular: bundles.
    Nobody,
    /// Whoever has these, by the delegate's word: it gets only what its allow-list names.
    Selectors(SelectorSet),
    /// A pinned process, attested by us.
    Process(Caller),
}

impl Whose {
    pub(crate) async fn selectors(&self) -> Result<SelectorSet, Status> {
        match self {
            Self::Nobody => Ok(SelectorSet::default()),
            Self::Selectors(selectors) => Ok(selectors.clone()),
            Self::Process(subject) => subject.selectors().await.map_err(|status| self.ended(status)),
        }
    }

    fn process(&self) -> Option<&Caller> {
        match self {
            Self::Nobody | Self::Selectors(_) => None,
            Self::Process(subject) => Some(subject),
        }
    }

    /// For records.
    pub(super) fn party<'a>(&'a self, selectors: &'a SelectorSet) -> Option<Party<'a>> {
        match self {
            Self::Nobody => None,
            Self::Selectors(_) => Some(Party {
                process: None,
                selectors,
            }),
            Self::Process(subject) => Some(subject.party(selectors)),
        }
    }

    pub(super) fn still_the_same(&self) -> Result<(), Status> {
        match self {
            Self::Nobody | Self::Selectors(_) => Ok(()),
            Self::Process(subject) => subject.still_the_same().map_err(|status| self.ended(status)),
        }
    }

    async fn over(&self) -> Status {
        match self {
            Self::Nobody | Self::Selectors(_) => std::future::pending().await,
            Self::Process(subject) => self.ended(subject.over().await),
        }
    }

    /// What is denied to a process that has changed is, for a delegate, a process that is not there any more.
    fn ended(&self, status: Status) -> Status {
        match self {
            Self::Process(subject) if status.code() == Code::PermissionDenied => {
                let pid = subject.process().pid();
                let message = format!(
                    "process {pid} has ended, or runs another program or as another user than when it was asked for"
                );
                workload(Reason::NotFound, message, Some(pid))
            }
            _ => status,
        }
    }
}

/// What a message is made of.
pub(crate) struct State<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) entries: &'a [Arc<Entry>],
    pub(crate) now: UnixTime,
    views: &'a Views,
}

impl State<'_> {
    /// The message is of X.509-SVIDs: those that are not fetched ahead are to be fetched.
    pub(crate) fn ask_for_x509(&self) {
        self.views.ask_for(self.snapshot, self.entries);
    }
}

/// Makes it; nothing, when it is too early to.
pub(crate) type Build<M> = fn(&State<'_>) -> Result<Option<Made<M>>, Status>;

/// A message, and which SVIDs are in it.
pub(crate) struct Made<M> {
    pub(crate) message: M,
    pub(crate) svids: Vec<ServedX509>,
}

impl<M> Made<M> {
    /// Of bundles: they are no secret.
    pub(crate) fn without_svids(message: M) -> Self {
        let svids = Vec::new();
        Self { message, svids }
    }
}

/// One that may be sent, and by what was known of whom.
struct Ready<M> {
    made: Made<M>,
    own: SelectorSet,
    wanted: SelectorSet,
}

pub(crate) struct Subscription<M> {
    office: Arc<Office>,
    asker: Asker,
    whose: Whose,
    published: watch::Receiver<u64>,
    build: Build<M>,
    /// Shares its bytes with what was sent.
    sent: Option<M>,
    given: GivenBefore,
    /// Of the delegate, and of whom it asks about.
    seen: (Seen, Seen),
    ended: bool,
}

impl<M: Clone + PartialEq> Subscription<M> {
    pub(crate) fn new(office: Arc<Office>, asker: Asker, whose: Whose, build: Build<M>) -> Self {
        let mut published = office.views.published();
        published.mark_changed();
        Self {
            office,
            asker,
            whose,
            published,
            build,
            sent: None,
            given: GivenBefore::default(),
            seen: Default::default(),
            ended: false,
        }
    }

    /// The first message, which is to come at once, or why there is none.
    pub(crate) async fn first(mut self) -> Result<(M, Self), Status> {
        let first = tokio::time::timeout(FIRST_ANSWER, self.wait()).await;
        let first = first.map_err(|_elapsed| Status::unavailable("no X509-SVID can be had now"))?;
        Ok((first?, self))
    }

    pub(crate) async fn next(mut self) -> Option<(Result<M, Status>, Self)> {
        if self.ended {
            return None;
        }
        let next = self.wait().await;
        self.ended = next.is_err();
        Some((next, self))
    }

    /// The next message that differs from the last.
    async fn wait(&mut self) -> Result<M, Status> {
        loop {
            tokio::select! {
                biased;
                over = self.asker.over() => return Err(over),
                over = self.whose.over() => return Err(over),
                () = self.seen.0.look_again(Some(self.asker.caller())) => {}
                () = self.seen.1.look_again(self.whose.process()) => {}
                changed = self.published.changed() => if changed.is_err() {
                    return Err(Status::unavailable("the agent is shutting down"));
                },
            }
            let ready = tokio::select! {
                biased;
                // Attestation may take long.
                over = self.asker.over() => return Err(over),
                over = self.whose.over() => return Err(over),
                ready = self.message() => ready?,
            };
            let other = |ready: &Ready<M>| self.sent.as_ref() != Some(&ready.made.message);
            let Some(Ready { made, own, wanted }) = ready.filter(other) else {
                continue;
            };
            self.asker.still_the_same()?;
            self.whose.still_the_same()?;
            let (to, of) = (self.asker.caller().party(&own), self.whose.party(&wanted));
            for served in self.given.new_among(made.svids.iter()) {
                self.office.hands_out(to, of, Given::X509(served));
            }
            self.sent = Some(made.message.clone());
            return Ok(made.message);
        }
    }

    async fn message(&self) -> Result<Option<Ready<M>>, Status> {
        loop {
            let caller = self.asker.caller();
            // Both are at hand, unless there is more to look for than before.
            let own = self.seen.0.or_last(caller.selectors().await)?;
            let wanted = self.seen.1.or_last(self.whose.selectors().await)?;
            let snapshot = self.office.views.snapshot();
            let Some(now) = self.office.clock.now() else {
                return Ok(None);
            };
            let right = self
                .office
                .right(&self.asker, &own, &snapshot, now)
                .inspect_err(|_| caller.forget())?;
            let entries = granted(&snapshot, &wanted, &right, now);
            // The snapshot may be the first that asks for what was not looked for.
            if entries.is_empty() && self.seen.1.or_last(self.whose.selectors().await)? != wanted {
                continue;
            }
            let made = (self.build)(&State {
                snapshot: &snapshot,
                entries: &entries,
                now,
                views: &self.office.views,
            });
            let made = made.inspect_err(|refusal| self.office.denied(refusal, caller.party(&own)))?;
            return Ok(made.map(|made| Ready { made, own, wanted }));
        }
    }
}

#[cfg(test)]
mod tests;
