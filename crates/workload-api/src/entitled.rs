//! What a caller is entitled to: found by attestation, and followed for as long as his stream is open.
//!
//! Invariant: whoever follows looks at the process first, and is given only states that may be served.

use std::{pin::Pin, sync::Arc, time::Duration};

use landfast_identity::SelectorSet;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::{
    Given, HandOut, IdentitySource, ViewState, Way, WorkloadView,
    connection::{Connection, Held, changed, next_attestation},
    encode,
    source::Wanted,
};

impl Wanted {
    fn ask(self, source: &Arc<dyn IdentitySource>, selectors: &SelectorSet) {
        match self {
            Self::X509Svids | Self::Secrets => source.ask_for_x509(selectors),
            Self::Rest => {}
        }
    }
}

type Views = watch::Receiver<Arc<WorkloadView>>;

/// A caller's selectors, and what they are entitled to.
pub(crate) struct Entitled {
    held: Arc<Held>,
    views: Views,
    pub(crate) view: Arc<WorkloadView>,
}

impl Entitled {
    /// What the caller of this service is entitled to; attests him if need be.
    pub(crate) async fn look(
        source: &Arc<dyn IdentitySource>,
        connection: &Connection,
        (wanted, way): (Wanted, Way),
    ) -> Result<Self, Status> {
        let mut wait = Wait::of(connection.limits().first_answer);
        loop {
            let held = connection.attested().await?;
            let ask = || wanted.ask(source, &held.selectors);
            let mut views = source.view(&held.selectors);
            let view = wait.settled(&mut views, wanted, ask).await?;
            match view.state {
                state if state.is_served(wanted) => return Ok(Self { held, views, view }),
                // The first synchronisation may have come while we waited, with entries that ask for more than was looked for.
                ViewState::NoIdentity if held.is_outdated() => {}
                ViewState::NoIdentity => {
                    connection.forget(&held);
                    source.refused(way, connection.party(&held.selectors));
                    return Err(encode::no_identity());
                }
                ViewState::Starting => {
                    connection.forget(&held);
                    return Err(starting());
                }
                // Being fetched for the first time, or run out while no server could be reached.
                ViewState::WithoutX509 | ViewState::Ready => {
                    return Err(Status::unavailable("no X509-SVID can be had now"));
                }
            }
        }
    }

    pub(crate) fn selectors(&self) -> &SelectorSet {
        &self.held.selectors
    }

    /// From the state that was found on.
    pub(crate) fn follow(
        self,
        source: Arc<dyn IdentitySource>,
        connection: Arc<Connection>,
        wanted: Wanted,
    ) -> Following {
        let Self { held, mut views, .. } = self;
        views.mark_changed();
        Following {
            next: Box::pin(next_attestation(connection.clone(), held.clone())),
            connection,
            source,
            held,
            views,
            wanted,
        }
    }
}

/// How long one request waits for what is in flight, however often it has to look anew.
struct Wait {
    within: Duration,
    /// From the first look on: what came before was attestation.
    until: Option<Instant>,
}

impl Wait {
    fn of(within: Duration) -> Self {
        Self { within, until: None }
    }

    /// The state, once it can be answered with, or what it is when the time is over. Asks for what may be had on demand, and again after each
    /// change: before the first synchronisation there are no entries to ask for, and others may come.
    async fn settled(
        &mut self,
        views: &mut Views,
        wanted: Wanted,
        ask: impl Fn(),
    ) -> Result<Arc<WorkloadView>, Status> {
        let within = self.within;
        let until = *self.until.get_or_insert_with(|| Instant::now() + within);
        loop {
            ask();
            let view = views.borrow_and_update().clone();
            if view.state.answers(wanted) {
                return Ok(view);
            }
            match timeout_at(until, views.changed()).await {
                Ok(changed) => changed.map_err(|_closed| starting())?,
                Err(_elapsed) => return Ok(views.borrow().clone()),
            }
        }
    }
}

fn starting() -> Status {
    Status::unavailable("the agent is starting")
}

/// The states that an open stream goes through.
pub(crate) struct Following {
    pub(crate) connection: Arc<Connection>,
    source: Arc<dyn IdentitySource>,
    held: Arc<Held>,
    /// What takes the place of `held`: more than was looked for may be asked for while the stream is open.
    next: Pin<Box<dyn Future<Output = Arc<Held>> + Send>>,
    views: Views,
    wanted: Wanted,
}

impl Following {
    pub(crate) fn selectors(&self) -> &SelectorSet {
        &self.held.selectors
    }

    /// Has it noted what is sent on this stream.
    pub(crate) fn hands_out(&self, way: Way, given: Given<'_>) {
        let to = self.connection.party(self.selectors());
        let of = None;
        self.source.handed_out(&HandOut { way, to, of, given });
    }

    fn adopt(&mut self, held: Arc<Held>) {
        if held.selectors != self.held.selectors {
            self.views = self.source.view(&held.selectors);
        }
        self.next = Box::pin(next_attestation(self.connection.clone(), held.clone()));
        self.held = held;
    }

    /// The next state that can be served; `None` when no identity is left. May be dropped and asked again: no change is lost.
    ///
    /// # Errors
    /// The process has changed, cannot be attested again, or the agent stops.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<WorkloadView>>, Status> {
        loop {
            tokio::select! {
                biased;
                _ = self.connection.process.changed() => return Err(changed()),
                () = self.connection.shutdown.cancelled() => return Err(Status::unavailable("the agent is shutting down")),
                held = &mut self.next => self.adopt(held),
                changed = self.views.changed() => {
                    if changed.is_err() {
                        return Err(Status::unavailable("the agent is shutting down"));
                    }
                }
            }
            // An entry that came meanwhile may be one that has to be asked for.
            self.wanted.ask(&self.source, &self.held.selectors);
            let view = self.views.borrow_and_update().clone();
            // What was served before stays valid.
            if !view.state.answers(self.wanted) {
                continue;
            }
            if view.state != ViewState::NoIdentity {
                return Ok(Some(view));
            }
            if !self.held.is_outdated() {
                self.connection.forget(&self.held);
                return Ok(None);
            }
            // What took this identity away may have brought another, of a kind that was not looked for. Marked first: the caller may
            // drop this future while it attests.
            self.views.mark_changed();
            let held = self.connection.attested().await?;
            self.adopt(held);
            self.views.mark_changed();
        }
    }
}

#[cfg(test)]
mod tests;
