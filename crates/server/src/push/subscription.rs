//! One agent's subscription. Invariant: it lasts no longer than the agent may call: whatever ends that ends it, and is said as any call would
//! be told.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{SpiffeId, UnixTime};
use landfast_lifecycle::SharedClock;
use landfast_proto::landfast::sync::v1::{Standing, SubscribeResponse};
use landfast_proto::spire::api::types::permission_denied_details::Reason;
use tokio::time::Instant;
use tonic::Status;

use super::difference::{Step, revision_out};
use super::slot::Ear;
use super::{Digests, Held, LAST_WORDS, PATIENCE, Slot};
use crate::answers::Reservation;
use crate::api::status::{permission_denied, stale};
use crate::authority::Authorities;
use crate::authz::STALE;
use crate::endpoints::Cut;
use crate::registry::{AgentRecord, Registry, Subscriber, Told};

/// By what an agent may be told: its certificate, as it was shown on the connection.
pub(crate) struct Grounds {
    pub(crate) agent: SpiffeId,
    pub(crate) serial: String,
    pub(crate) not_after: UnixTime,
    /// Whether it still verifies.
    pub(crate) verifies: Box<dyn Fn(UnixTime) -> bool + Send + Sync>,
    /// Ends the connection.
    pub(crate) cut: Arc<Cut>,
    /// When the agent is to connect anew.
    pub(crate) retires: Instant,
}

/// See above.
pub(crate) struct Subscription {
    pub(crate) registry: Arc<Registry>,
    pub(crate) authorities: Arc<Authorities>,
    pub(crate) digests: Arc<Digests>,
    pub(crate) clock: SharedClock,
    pub(crate) grounds: Grounds,
    pub(crate) subscriber: Subscriber,
    pub(crate) held: Held,
    /// When an entry of the agent ends.
    pub(crate) ends: Option<UnixTime>,
}

/// Why it ends.
#[derive(Debug)]
enum End {
    /// The agent is to connect again, and will be told again.
    Again,
    /// The agent has let go.
    Left,
    /// The agent was too slow, or has subscribed anew.
    Aborted(&'static str, Status),
    /// It may not call any more.
    Refused(Option<Standing>, Status),
}

impl Subscription {
    /// Tells the agent until there is an end.
    pub(crate) async fn run(mut self, slot: Slot) {
        match self.tell(&slot).await {
            End::Again => slot.end(Ok(())),
            End::Left => {}
            End::Aborted(why, status) => {
                metrics::counter!("landfast_server_push_aborted_total", "why" => why).increment(1);
                tracing::info!(agent = %self.grounds.agent, why, "a subscription ends: the agent is to subscribe again");
                // Who goes on taking nothing loses its connection, and with it what HTTP/2 holds for it.
                if why == SLOW {
                    self.grounds.cut.after(PATIENCE);
                }
                slot.break_off(status);
            }
            End::Refused(standing, status) => {
                tracing::info!(agent = %self.grounds.agent, ?standing, reason = status.message(), "a subscription ends: the agent is refused");
                // Its connection ends also when it does not listen.
                self.grounds.cut.after(LAST_WORDS);
                if let Some(standing) = standing {
                    // In place of what was not taken: nothing of that matters any more.
                    let last = SubscribeResponse {
                        revision: Some(revision_out(self.registry.revision())),
                        standing: standing.into(),
                        ..SubscribeResponse::default()
                    };
                    slot.put(last, None);
                }
                slot.end(Err(status));
            }
        }
    }

    async fn tell(&mut self, slot: &Slot) -> End {
        // The agent knows by the first message that it is up to date, also when that says nothing.
        let (mut step, mut since, mut first) = (None, None, true);
        let (mut looks, mut busy): (_, Option<Instant>) = (true, None);
        loop {
            // Also while it hears nothing.
            if let Err(end) = self.admit(self.registry.agent(&self.grounds.agent).as_deref()) {
                return end;
            }
            match slot.ear() {
                Ear::Gone => return End::Left,
                Ear::Open => {
                    busy = None;
                    if looks && step.is_none() {
                        (looks, since) = (false, self.subscriber.begin_to_look());
                        step = match self.look() {
                            Ok(found) => Some(found).filter(|step| first || !step.is_empty()),
                            Err(end) => return end,
                        };
                    }
                    if let Some(left) = &mut step {
                        let room = match self.room(slot, left.bytes(), &mut looks).await {
                            Ok(room) => room,
                            Err(end) => return end,
                        };
                        first = false;
                        let page = SubscribeResponse {
                            time: self.clock.now().map_or(0, UnixTime::as_secs),
                            ..left.page()
                        };
                        slot.put(page, Some(room));
                        if left.is_empty() {
                            step = None;
                            count(since);
                        }
                        continue;
                    }
                }
                Ear::Busy if looks || step.is_some() => {
                    if busy.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                        return End::Aborted(SLOW, Status::aborted(TOO_SLOW));
                    }
                }
                Ear::Busy => {}
            }
            // Whoever is to look anyway does so when there is an ear: time that passes makes no difference to that.
            let ends = self.ends.filter(|_| !looks);
            let wake = self.look_again(ends);
            let wake = busy.map_or(wake, |busy| wake.min(busy + PATIENCE));
            tokio::select! {
                () = self.subscriber.marked() => looks = true,
                () = tokio::time::sleep_until(wake) => looks = true,
                () = slot.moved() => {}
            }
        }
    }

    /// Room for a message. However much changes meanwhile, whoever waits keeps its place; and whoever is banned is to be told at once.
    async fn room(&self, slot: &Slot, bytes: usize, looks: &mut bool) -> Result<Reservation, End> {
        let mut room = pin!(slot.room(bytes));
        loop {
            tokio::select! {
                room = &mut room => return room.map_err(|full| End::Aborted("full", full)),
                () = self.subscriber.marked() => *looks = true,
                () = slot.moved() => {}
            }
            self.admit(self.registry.agent(&self.grounds.agent).as_deref())?;
            if slot.ear() == Ear::Gone {
                return Err(End::Left);
            }
        }
    }

    /// Whether the agent may be told anything.
    fn admit(&self, agent: Option<&AgentRecord>) -> Result<(), End> {
        let refused = |reason| permission_denied(METHOD, Some(reason));
        let Some(agent) = agent else {
            let standing = Some(Standing::Evicted);
            return Err(End::Refused(standing, refused(Reason::AgentNotAttested)));
        };
        if agent.is_banned() {
            let standing = Some(Standing::Banned);
            return Err(End::Refused(standing, refused(Reason::AgentBanned)));
        }
        match self.subscriber.told() {
            Told::GoOn => {}
            Told::Renewed => return Err(End::Again),
            Told::Superseded => return Err(End::Aborted("superseded", Status::aborted(SUPERSEDED))),
        }
        let serial = &self.grounds.serial;
        if agent.serial != *serial && agent.new_serial.as_ref() != Some(serial) {
            return Err(End::Refused(None, refused(Reason::AgentNotActive)));
        }
        if let Some(now) = self.clock.now() {
            if now > self.grounds.not_after {
                return Err(match &agent.new_serial {
                    // It has another to connect with.
                    Some(_) => End::Again,
                    None => End::Refused(None, refused(Reason::AgentExpired)),
                });
            }
            if !(self.grounds.verifies)(now) {
                return Err(End::Refused(None, Status::unauthenticated(STALE)));
            }
        }
        match Instant::now() >= self.grounds.retires {
            true => Err(End::Again),
            false => Ok(()),
        }
    }

    /// What the agent is to be told now.
    fn look(&mut self) -> Result<Step, End> {
        loop {
            // Another server may know better: the agent asks it.
            self.authorities
                .current()
                .map_err(|error| End::Aborted("stale", stale(&error)))?;
            let view = self.registry.view(&self.grounds.agent);
            self.admit(view.agent.as_deref())?;
            // A bundle that changed before it was followed was not told of.
            if self.subscriber.follow(Held::domains(&view)) {
                continue;
            }
            self.ends = view.ends;
            let own = self.authorities.bundle();
            return Ok(self.held.step(&view, &own, &self.digests));
        }
    }

    /// When something changes by time alone: an entry ends, or the certificate of the connection.
    fn look_again(&self, ends: Option<UnixTime>) -> Instant {
        let Some(now) = self.clock.now() else {
            return Instant::now() + MINUTE;
        };
        // Over is a certificate a second later.
        let over = self.grounds.not_after.saturating_add(Duration::from_secs(1));
        let end = ends.map_or(over, |end| end.min(over));
        let left = end.since(now);
        // The clock may be set meanwhile.
        (Instant::now() + left.min(MINUTE)).min(self.grounds.retires)
    }
}

fn count(since: Option<Instant>) {
    metrics::counter!("landfast_server_push_steps_total").increment(1);
    if let Some(since) = since {
        metrics::histogram!("landfast_server_push_delay_seconds").record(since.elapsed().as_secs_f64());
    }
}

const METHOD: &str = "/landfast.sync.v1.Sync/Subscribe";
const SLOW: &str = "slow";
const TOO_SLOW: &str = "the agent took nothing for 30 seconds: subscribe again, from what it has";
const SUPERSEDED: &str = "the agent has subscribed again, twice, since this began: keep the newer ones";
const MINUTE: Duration = Duration::from_secs(60);
