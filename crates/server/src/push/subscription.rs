//! One agent's subscription. Invariant: it lasts no longer than the agent may call: whatever ends that ends it, and is said as any call would
//! be told.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{SpiffeId, UnixTime};
use landfast_lifecycle::SharedClock;
use landfast_proto::landfast::sync::v1::{Standing, SubscribeResponse};
use landfast_proto::spire::api::types::permission_denied_details::Reason;
use tokio::time::Instant;
use tonic::Status;

use super::difference::{Step, revision_out};
use super::slot::Left;
use super::{Digests, Held, LAST_WORDS, PATIENCE, Slot};
use crate::api::status::{permission_denied, stale};
use crate::authority::Authorities;
use crate::authz::STALE;
use crate::endpoints::Cut;
use crate::registry::{Registry, Subscriber, Told, View};

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

impl From<Left> for End {
    fn from(Left: Left) -> Self {
        Self::Left
    }
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
                let said = match standing {
                    None => Ok(Ok(())),
                    Some(standing) => {
                        let last = SubscribeResponse {
                            revision: Some(revision_out(self.registry.revision())),
                            standing: standing.into(),
                            ..SubscribeResponse::default()
                        };
                        tokio::time::timeout(LAST_WORDS, slot.put(last)).await
                    }
                };
                match said {
                    Ok(_) => slot.end(Err(status)),
                    Err(_elapsed) => slot.break_off(status),
                }
            }
        }
    }

    async fn tell(&mut self, slot: &Slot) -> End {
        let mut is_first = true;
        loop {
            let since = self.subscriber.begin_to_look();
            let (view, mut step) = match self.look() {
                Ok(found) => found,
                Err(end) => return end,
            };
            // The agent knows by the first step that it is up to date, also when it says nothing.
            while is_first || !step.is_empty() {
                is_first = false;
                match tokio::time::timeout(PATIENCE, slot.put(step.page())).await {
                    Ok(Ok(())) => {}
                    Ok(Err(Left)) => return End::Left,
                    Err(_elapsed) => return End::Aborted(SLOW, Status::aborted(TOO_SLOW)),
                }
                if step.is_empty() {
                    metrics::counter!("landfast_server_push_steps_total").increment(1);
                    if let Some(since) = since {
                        metrics::histogram!("landfast_server_push_delay_seconds")
                            .record(since.elapsed().as_secs_f64());
                    }
                }
            }
            tokio::select! {
                () = self.subscriber.marked() => {}
                () = tokio::time::sleep_until(self.look_again(&view)) => {}
                () = slot.left() => return End::Left,
            }
        }
    }

    /// What the agent is to be told now, or why nothing more.
    fn look(&mut self) -> Result<(View, Step), End> {
        let refused = |reason| permission_denied(METHOD, Some(reason));
        loop {
            // Another server may know better: the agent asks it.
            self.authorities
                .current()
                .map_err(|error| End::Aborted("stale", stale(&error)))?;
            let view = self.registry.view(&self.grounds.agent);
            let Some(agent) = &view.agent else {
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
            let serial = Some(&self.grounds.serial);
            if Some(&agent.serial) != serial && agent.new_serial.as_ref() != serial {
                return Err(End::Refused(None, refused(Reason::AgentNotActive)));
            }
            if let Some(now) = self.clock.now() {
                if now > self.grounds.not_after && agent.new_serial.is_some() {
                    return Err(End::Again); // with the new SVID, which the agent has
                }
                if now > self.grounds.not_after {
                    return Err(End::Refused(None, refused(Reason::AgentExpired)));
                }
                if !(self.grounds.verifies)(now) {
                    return Err(End::Refused(None, Status::unauthenticated(STALE)));
                }
            }
            if Instant::now() >= self.grounds.retires {
                return Err(End::Again);
            }
            // A bundle that changed before it was followed was not told of.
            if self.subscriber.follow(Held::domains(&view)) {
                continue;
            }
            let own = self.authorities.bundle();
            let step = self.held.step(&view, &own, &self.digests);
            return Ok((view, step));
        }
    }

    /// When something changes by time alone: an entry ends, or the certificate of the connection.
    fn look_again(&self, view: &View) -> Instant {
        let Some(now) = self.clock.now() else {
            return Instant::now() + MINUTE;
        };
        // Over is a certificate a second later.
        let over = self.grounds.not_after.saturating_add(Duration::from_secs(1));
        let end = view.ends.map_or(over, |end| end.min(over));
        let left = end.since(now);
        // The clock may be set meanwhile.
        (Instant::now() + left.min(MINUTE)).min(self.grounds.retires)
    }
}

const METHOD: &str = "/landfast.sync.v1.Sync/Subscribe";
const SLOW: &str = "slow";
const TOO_SLOW: &str = "the agent took nothing for 30 seconds: subscribe again, from what it has";
const SUPERSEDED: &str = "the agent has subscribed again, twice, since this began: keep the newer ones";
const MINUTE: Duration = Duration::from_secs(60);
