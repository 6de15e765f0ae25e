//! Filling the reserve, and topping it up, while there is nothing else to do.
//!
//! Invariant: whatever else is due goes before it, and changes are heard meanwhile. A server that has no room, or no such service, costs nothing
//! but the reserve: it is no failure of the link.

use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::UnixTime;
use landfast_lifecycle::Backoff;
use landfast_proto::speaks::RESERVE;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

use super::failure::LinkError;
use super::{Link, rungs};
use crate::keeper::state::Event;
use crate::keeper::state::reserve::BATCH;

/// When the server may be asked.
pub(super) struct Reserve {
    not_before: Option<Instant>,
    backoff: Backoff,
    /// The server of this connection has no such service.
    missing: bool,
    /// How many to ask for at once: over a thin link the answer to fewer comes in time.
    batch: usize,
}

impl Default for Reserve {
    fn default() -> Self {
        Self {
            not_before: None,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX),
            missing: false,
            batch: BATCH,
        }
    }
}

impl Reserve {
    pub(super) fn hang_up(&mut self) {
        self.missing = false;
    }

    /// From when on the server may be asked; `None` when it has nothing of the kind.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        (!self.missing).then(|| self.not_before.unwrap_or_else(Instant::now))
    }

    fn is_open(&self) -> bool {
        self.opens_at().is_some_and(|at| at <= Instant::now())
    }

    fn failed(&mut self, error: &LinkError) {
        let unknown = matches!(
            error,
            LinkError::Refused {
                code: Code::Unimplemented,
                ..
            }
        );
        self.missing |= unknown;
        let late = matches!(
            error,
            LinkError::Refused {
                code: Code::DeadlineExceeded,
                ..
            }
        );
        if late || error.connection_broke() {
            self.batch = (self.batch / 2).max(SMALLEST);
        }
        let pause = error.pushback().unwrap_or_else(|| self.backoff.next());
        self.not_before = Some(Instant::now() + pause.max(SHORTEST));
        let (error, again_in) = (error_chain(error), pause);
        tracing::info!(
            error,
            ?again_in,
            "the server signs nothing for the reserve now; what there is stays"
        );
    }

    /// `asked`: for how many. Fewer than may be asked for at once show nothing.
    fn served(&mut self, asked: usize) {
        if asked >= self.batch {
            self.batch = (self.batch * 2).min(BATCH);
        }
        self.backoff.reset();
        self.not_before = None;
    }
}

impl Link {
    /// Until the reserve is whole, the server has no room, or something else is due. Answers whether the connection broke, so that the next turn is due
    /// at once.
    pub(super) async fn top_up(&mut self) -> Result<bool, LinkError> {
        let channel = self.channel.borrow().clone();
        let Some(channel) = channel else {
            return Ok(false);
        };
        self.reserve.missing |= self.floor.server.told().lacks(RESERVE);
        while self.reserve.is_open() && !self.leaving {
            let now = self.clock.now();
            if self.something_else_is_due(now) || !self.rung_is_due(now) {
                break;
            }
            let mut orders = self.keeper.rungs_due().await;
            orders.truncate(self.reserve.batch);
            if orders.is_empty() {
                break;
            }
            let call = rungs::issue(channel.clone(), orders, self.settings.workload_key);
            tokio::pin!(call);
            let answer = loop {
                let keeper = self.keeper.clone();
                tokio::select! {
                    answer = &mut call => break answer,
                    () = keeper.asked_for() => {
                        let orders = keeper.tell(Event::Due).await;
                        self.issue_meanwhile(&channel, orders).await?;
                    }
                    step = self.hear() => {
                        let adopted = match step {
                            Ok(step) => self.adopt_step(step).await,
                            Err(error) => Err(error),
                        };
                        match adopted {
                            Ok(orders) => self.issue_meanwhile(&channel, orders).await?,
                            Err(error) if error.only_ends_a_subscription() => drop(self.lost(&error)),
                            Err(error) => return Err(error),
                        }
                    }
                }
            };
            match answer {
                Ok(issued) => {
                    self.reserve.served(issued.len());
                    self.keeper.tell(Event::Rungs(issued)).await;
                }
                // What the server has against the node itself.
                Err(error) if error.denial().is_some() => return Err(error),
                Err(error) => {
                    self.reserve.failed(&error);
                    // The next turn finds out what has become of it.
                    return Ok(error.connection_broke());
                }
            }
        }
        Ok(false)
    }

    async fn issue_meanwhile(
        &mut self,
        channel: &Channel,
        orders: Vec<crate::keeper::state::Order>,
    ) -> Result<(), LinkError> {
        if orders.is_empty() {
            return Ok(());
        }
        if let Some(end) = Box::pin(self.issue_all(channel, orders)).await? {
            self.keeper.tell(end).await;
        }
        Ok(())
    }

    fn rung_is_due(&self, now: Option<UnixTime>) -> bool {
        let due = self.keeper.next_rung();
        due.zip(now).is_some_and(|(due, now)| due <= now)
    }

    /// Renewals, of the node itself or of workloads, unless the server has no room for them: then it has none for rungs either.
    fn something_else_is_due(&self, now: Option<UnixTime>) -> bool {
        let own = self.own_renewal();
        let orders = self.keeper.next_order().filter(|_| self.busy.is_over());
        let is_due = |at: UnixTime| now.is_some_and(|now| at <= now);
        own.into_iter().chain(orders).any(is_due)
    }
}

/// Nothing is less urgent.
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(600);
const SHORTEST: Duration = Duration::from_secs(1);
/// Some 4 kB: in time over any link that carries the rest.
const SMALLEST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gets_no_answer_is_asked_for_in_smaller_batches_and_these_grow_again() {
        let mut reserve = Reserve::default();
        let late = LinkError::Deadline {
            method: rungs::NEW_RUNGS,
            seconds: 30,
        };
        let sizes = [32, 16, 8, 4, 4].map(|_| {
            reserve.failed(&late);
            reserve.batch
        });
        assert_eq!(sizes, [32, 16, 8, 4, 4]);
        let busy = tonic::Status::unavailable("others need the server more");
        reserve.failed(&LinkError::from_status(rungs::NEW_RUNGS, &busy));
        reserve.served(3);
        assert_eq!(reserve.batch, 4, "neither says anything of the link");
        let sizes = [8, 16, 32, 64, 64].map(|_| {
            reserve.served(reserve.batch);
            reserve.batch
        });
        assert_eq!(sizes, [8, 16, 32, 64, 64]);
    }
}
