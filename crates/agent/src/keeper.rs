//! The task that owns all identity state of the node.
//!
//! Invariant: nobody else changes what is held. Events come in through a bounded queue, decisions are made by
//! [`state::State::step`], and what follows from them is published before the sender gets its answer.

mod held;
mod refusals;
mod restored;
pub(crate) mod rungs;
mod snapshot;
pub(crate) mod state;
pub(crate) mod taint;
pub(crate) mod views;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::SharedClock;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use state::reserve::RungOrder;
use state::{Action, Event, Note, Order, Reach, Rest, Snapshot, State};
use views::Views;

use crate::telemetry;

/// How others speak to the keeper.
#[derive(Clone)]
pub(crate) struct KeeperHandle {
    commands: mpsc::Sender<Command>,
    next_order: watch::Receiver<NextOrders>,
    asked_for: Arc<Notify>,
}

/// See [`KeeperHandle::next_order`] and [`KeeperHandle::next_new_order`].
#[derive(Clone, Copy, Default)]
struct NextOrders {
    any: Option<UnixTime>,
    new: Option<UnixTime>,
    rung: Option<UnixTime>,
}

struct Command {
    event: Event,
    done: oneshot::Sender<Answer>,
}

/// What is to be issued.
#[derive(Default)]
struct Answer {
    orders: Vec<Order>,
    rungs: Vec<RungOrder>,
    /// What is published with it.
    snapshot: Option<Arc<Snapshot>>,
}

impl KeeperHandle {
    /// Gives the keeper an event and waits until it is published. Answers what is to be issued now; nothing during
    /// shutdown. Waits when the queue is full.
    pub(crate) async fn tell(&self, event: Event) -> Vec<Order> {
        self.answer(event).await.orders
    }

    /// What is missing of the reserve.
    pub(crate) async fn rungs_due(&self) -> Vec<RungOrder> {
        self.answer(Event::RungsDue).await.rungs
    }

    /// Gives it the rest of the reserve. Answers what was held when it had taken it, and nothing that came later; during shutdown nobody takes it.
    pub(crate) async fn adopt(&self, rest: Rest) -> Option<Arc<Snapshot>> {
        self.try_answer(Event::Rest(rest)).await?.snapshot
    }

    async fn answer(&self, event: Event) -> Answer {
        self.try_answer(event).await.unwrap_or_default()
    }

    async fn try_answer(&self, event: Event) -> Option<Answer> {
        let (done, answer) = oneshot::channel();
        self.commands.send(Command { event, done }).await.ok()?;
        answer.await.ok()
    }

    /// When something is to be issued next, as far as is known: a renewal, or another attempt at one.
    pub(crate) fn next_order(&self) -> Option<UnixTime> {
        self.next_order.borrow().any
    }

    /// The same of what was not due when the keeper was last told something.
    pub(crate) fn next_new_order(&self) -> Option<UnixTime> {
        self.next_order.borrow().new
    }

    /// When something of the reserve is to be asked for next.
    pub(crate) fn next_rung(&self) -> Option<UnixTime> {
        self.next_order.borrow().rung
    }

    /// Something that is not fetched ahead has been asked for. May be dropped and asked again.
    pub(crate) async fn asked_for(&self) {
        self.asked_for.notified().await;
    }
}

/// The keeper's task before it runs.
pub(crate) struct Keeper {
    state: State,
    views: Views,
    clock: SharedClock,
    commands: mpsc::Receiver<Command>,
    wake_at: Option<UnixTime>,
    next_order: watch::Sender<NextOrders>,
    asked_for: Arc<Notify>,
}

impl Keeper {
    pub(crate) fn new(views: Views, clock: SharedClock) -> (Self, KeeperHandle) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let (next_order, next_orders) = watch::channel(NextOrders::default());
        let asked_for = Arc::<Notify>::default();
        let keeper = Self {
            state: State::default(),
            views,
            clock,
            commands,
            wake_at: None,
            next_order,
            asked_for: Arc::clone(&asked_for),
        };
        let handle = KeeperHandle {
            commands: sender,
            next_order: next_orders,
            asked_for,
        };
        (keeper, handle)
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let views = self.views.clone();
        loop {
            let nap = self.nap();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                command = self.commands.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    let answer = self.handle(command.event);
                    // The sender may have been cancelled meanwhile; its orders then come again with the next round.
                    drop(command.done.send(answer));
                }
                ids = views.asked_for() => {
                    self.handle(Event::Wanted(ids));
                    self.asked_for.notify_one();
                }
                () = tokio::time::sleep(nap) => drop(self.handle(Event::Tick)),
            }
        }
    }

    fn handle(&mut self, event: Event) -> Answer {
        let Some(now) = self.clock.now() else {
            self.views.publish(self.views.snapshot(), &Reach::All, None);
            return Answer {
                snapshot: Some(self.views.snapshot()),
                ..Answer::default()
            };
        };
        let mut answer = Answer::default();
        self.wake_at = None;
        for action in self.state.step(now, event) {
            match action {
                Action::Issue(due) => answer.orders = due,
                Action::IssueRungs(due) => answer.rungs = due,
                Action::Publish(snapshot, reach) => {
                    telemetry::held(&snapshot, now);
                    self.views.publish(snapshot, &reach, Some(now));
                }
                Action::Wake(at) => self.wake_at = Some(at),
                Action::Note(note) => log(&note),
            }
        }
        self.next_order.send_replace(NextOrders {
            any: self.state.next_order(now),
            new: self.state.next_new_order(now),
            rung: self.state.next_rung(now),
        });
        answer.snapshot = Some(self.views.snapshot());
        answer
    }

    /// At most a minute, so that a step of the clock is noticed; at least a moment, so that a stuck clock costs nothing.
    fn nap(&self) -> Duration {
        let until = match (self.wake_at, self.clock.now()) {
            (Some(at), Some(now)) => at.since(now),
            _ => LONGEST_NAP,
        };
        until.clamp(SHORTEST_NAP, LONGEST_NAP)
    }
}

fn log(note: &Note) {
    match note {
        Note::RenewalFailed {
            spiffe_id,
            reason,
            valid_until: Some(until),
            next,
        } => {
            telemetry::renewal("x509", false);
            tracing::warn!(%spiffe_id, %reason, valid_until = %until, next_try = %next, "renewal failed; the present SVID is kept");
        }
        Note::RenewalFailed {
            spiffe_id,
            reason,
            valid_until: None,
            next,
        } => {
            telemetry::renewal("x509", false);
            tracing::warn!(%spiffe_id, %reason, next_try = %next, "no SVID could be had");
        }
        Note::Renewed {
            spiffe_id,
            serial,
            not_after,
        } => {
            telemetry::renewal("x509", true);
            tracing::info!(%spiffe_id, %serial, not_after = %not_after, "new X.509-SVID");
        }
        Note::TookTurn {
            spiffe_id,
            serial,
            not_after,
            left,
        } => {
            tracing::info!(%spiffe_id, %serial, not_after = %not_after, left, "the next SVID of the reserve is served")
        }
        Note::NoRung {
            spiffe_id,
            reason,
            next,
        } => {
            telemetry::renewal("rung", false);
            tracing::warn!(%spiffe_id, %reason, next_try = %next, "the reserve is not whole; what is held is served all the same");
        }
        Note::Withdrawn { spiffe_id, reason } => tracing::warn!(%spiffe_id, %reason, "SVID withdrawn"),
    }
}

/// Only the link sends events, one at a time, and once the cache; the rest is slack.
const QUEUE: usize = 8;
const LONGEST_NAP: Duration = Duration::from_secs(60);
const SHORTEST_NAP: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
