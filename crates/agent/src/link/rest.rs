//! Between two turns of the link: it hears what the server says, and wakes for renewals and for those who need it.
//!
//! Invariant: after a failure nothing but the time that was set makes it ask again; what is withdrawn is withdrawn all the same.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::SharedClock;
use tokio::time::Instant;

use super::Link;
use super::failure::LinkError;
use crate::keeper::KeeperHandle;
use crate::keeper::state::Event;

/// Between two turns.
pub(super) enum Wait {
    /// After a failure: nothing makes an agent ask sooner, however urgent its renewals or those who want tokens.
    Whole(Duration),
    /// Not beyond the next renewal: an SVID may live shorter than the time between two synchronisations.
    OrRenewal(Duration),
}

impl Link {
    /// How long, after a turn that succeeded; `pause` where the node polls.
    pub(super) fn until_next_turn(&self, pause: Duration) -> Duration {
        if !self.push.is_live() {
            let sooner = self.known.confirm_in().into_iter().chain(self.push.again_in());
            return sooner.fold(pause, Duration::min);
        }
        let check = self.push.check_at.saturating_duration_since(Instant::now());
        // What is not on disk is written again as often as without a subscription.
        match self.unsaved.is_anything() {
            true => check.min(pause),
            false => check,
        }
    }

    /// Hears what the server says meanwhile.
    pub(super) async fn rest(&mut self, wait: Wait) -> Result<(), LinkError> {
        let (wait, after_failure) = match wait {
            Wait::Whole(wait) => (wait, true),
            Wait::OrRenewal(wait) => (wait, false),
        };
        let mut end = Instant::now() + wait;
        if let Some(again) = self.acknowledges_at().filter(|_| !after_failure) {
            end = end.min(again.max(Instant::now() + SHORTEST_NAP));
        }
        let started = self.clock.now();
        let mut own = self.own_renewal().filter(|_| !after_failure);
        if let Some(due) = own.filter(|due| started.is_none_or(|now| *due <= now)) {
            // It fell due while the turn went on. What came overdue waits for its turn like everything else, for the next would too.
            if self.node_since < due {
                end = end.min(Instant::now() + OVERDUE);
            }
            own = None;
        }
        let (nudge, keeper) = (Arc::clone(&self.nudge), self.keeper.clone());
        loop {
            let timer = Timer {
                end,
                own,
                keeper: (!after_failure).then(|| self.keeper.clone()),
                busy_until: self.busy.until(),
                reserve_opens: self.reserve.opens_at().filter(|_| !after_failure),
                clock: Arc::clone(&self.clock),
            };
            let heard = tokio::select! {
                () = timer.run() => return Ok(()),
                () = nudge.notified(), if !after_failure => {
                    end = end.min(Instant::now() + NUDGE_DELAY);
                    self.push.check_soon();
                    continue;
                }
                () = keeper.asked_for(), if !after_failure => None,
                heard = self.hear() => Some(heard),
            };
            let orders = match heard {
                None => Ok(self.keeper.tell(Event::Due).await),
                Some(Ok(step)) => self.adopt_step(step).await,
                Some(Err(error)) => Err(error),
            };
            if !after_failure {
                // The step may have said that the authority that signed it is tainted.
                own = self.own_renewal();
            }
            match orders {
                Ok(_) if !after_failure && self.unacknowledged().is_some() => return Ok(()),
                Ok(orders) if orders.is_empty() || after_failure => {
                    if self.unsaved.is_anything() {
                        end = end.min(Instant::now() + self.settings.interval);
                    }
                }
                Ok(_) => return Ok(()),
                Err(error) if error.only_ends_a_subscription() => {
                    let pause = self.lost(&error);
                    // What was not understood is asked for in the other way at once.
                    let understood = !matches!(error, LinkError::Protocol { .. });
                    let pause = if understood {
                        pause.min(self.settings.interval)
                    } else {
                        Duration::ZERO
                    };
                    if !after_failure {
                        end = end.min(Instant::now() + pause);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The end of a rest.
struct Timer {
    end: Instant,
    /// The renewal of the node's own SVID.
    own: Option<UnixTime>,
    /// Of whom renewals are known; `None` when none of them counts.
    keeper: Option<KeeperHandle>,
    /// What is due already has been asked for, or waits until then.
    busy_until: Option<Instant>,
    /// When the server may be asked for more of the reserve; `None`: not at all.
    reserve_opens: Option<Instant>,
    clock: SharedClock,
}

impl Timer {
    fn until_rung(&self, now: UnixTime) -> Option<Duration> {
        let opens = self.reserve_opens?.saturating_duration_since(Instant::now());
        let due = self.keeper.as_ref().and_then(KeeperHandle::next_rung)?;
        Some(due.since(now).max(opens))
    }

    async fn run(self) {
        loop {
            let left = self.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let until_renewal = || {
                let now = self.clock.now()?;
                let own = self.own.map(|due| due.since(now));
                let orders = self.keeper.as_ref().and_then(KeeperHandle::next_order);
                // What falls due meanwhile may be more urgent than what the server refused.
                let new = self.keeper.as_ref().filter(|_| self.busy_until.is_some());
                let new = new.and_then(KeeperHandle::next_new_order);
                let busy = self.busy_until.map_or(Duration::ZERO, |until| {
                    until.saturating_duration_since(Instant::now())
                });
                own.into_iter()
                    .chain(orders.map(|due| due.since(now).max(busy)))
                    .chain(new.map(|due| due.since(now)))
                    .chain(self.until_rung(now))
                    .min()
            };
            // Renewals are due by wall time, which may step: it is looked at once a minute.
            let nap = until_renewal().unwrap_or(LONGEST_NAP);
            tokio::time::sleep(nap.clamp(SHORTEST_NAP, LONGEST_NAP).min(left)).await;
            if until_renewal().is_some_and(|left| left.is_zero()) {
                return;
            }
        }
    }
}

const LONGEST_NAP: Duration = Duration::from_secs(60);
/// Between two turns for renewals, whatever a clock says.
const SHORTEST_NAP: Duration = Duration::from_secs(1);
/// Until the next turn, when the node's own SVID is due at the end of one.
const OVERDUE: Duration = Duration::from_secs(3);
pub(super) const NUDGE_DELAY: Duration = Duration::from_millis(500);
