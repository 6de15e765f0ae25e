//! Having issued what the keeper orders, while the server's changes are heard.
//!
//! Invariant: what is withdrawn meanwhile is withdrawn at once, whatever the server takes its time for; nothing is asked for twice at a time.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tonic::transport::Channel;

use super::failure::LinkError;
use super::{Link, issue};
use crate::keeper::state::{Event, Order};

impl Link {
    /// Until all that is due has been tried, also what steps ask for meanwhile.
    /// Answers how the round ended, if it did: a busy server is asked only for what is more urgent than what it refused.
    pub(super) async fn issue_all(
        &mut self,
        channel: &Channel,
        due: Vec<Order>,
    ) -> Result<Option<Event>, LinkError> {
        let mut waits = false;
        let mut elsewhere = None;
        let mut asked = Asked::default();
        let mut calls = FuturesUnordered::new();
        let mut due: VecDeque<Order> = due.into();
        let keeper = self.keeper.clone();
        loop {
            if !self.busy.is_over() {
                let before = due.len();
                due.retain(|order| self.busy.admits(order));
                waits |= due.len() < before;
            }
            while calls.len() < AT_ONCE && !due.is_empty() && !self.leaving && elsewhere.is_none() {
                let batch: Vec<Order> = due.drain(..due.len().min(issue::BATCH)).collect();
                asked.add(&batch);
                let (channel, key_type) = (channel.clone(), self.settings.workload_key);
                let clock = Arc::clone(&self.clock);
                calls.push(async move {
                    let answer = issue::issue(&channel, &batch, key_type, &clock).await;
                    (batch, answer)
                });
            }
            tokio::select! {
                answer = calls.next() => {
                    let Some((batch, answer)) = answer else {
                        if let Some(error) = elsewhere {
                            return Err(error);
                        }
                        if self.leaving || !std::mem::take(&mut asked.again) {
                            let end = if waits { Event::RoundPaused } else { Event::RoundOver };
                            return Ok(due.is_empty().then_some(end));
                        }
                        due = self.keeper.tell(Event::Due).await.into();
                        continue;
                    };
                    asked.remove(&batch);
                    let mut issued = match answer {
                        Err(error) if self.busy.note(&error, &batch, self.clock.now()) => {
                            waits = true;
                            continue;
                        }
                        answer => answer?,
                    };
                    if let Some(error) = self.useless_here(&mut issued) {
                        // What else is under way has been signed, and may be good.
                        elsewhere = Some(error);
                        continue;
                    }
                    self.keeper.tell(Event::Issued(issued.each)).await;
                }
                () = keeper.asked_for() => due = asked.without(self.keeper.tell(Event::Due).await),
                step = self.hear() => {
                    let orders = match step {
                        Ok(step) => self.adopt_step(step).await,
                        Err(error) => Err(error),
                    };
                    match orders {
                        Ok(orders) => due = asked.without(orders),
                        Err(error) if error.only_ends_a_subscription() => drop(self.lost(&error)),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

impl Link {
    /// Why the next server is asked for a batch that came to nothing at this one. The last server's word is taken as it is.
    fn useless_here(&mut self, batch: &mut issue::Batch) -> Option<LinkError> {
        match batch.useless.take() {
            Some(error) if self.goes_elsewhere(&error) => return Some(error),
            Some(LinkError::OtherClock { .. }) => self.rota.last_is_of_another_time(),
            Some(_) => {}
            None if batch.holds_one_of(self.clock.now()) => self.rota.is_of_now(),
            None => {}
        }
        None
    }
}

/// Entries for which a request is under way.
#[derive(Default)]
struct Asked {
    ids: HashSet<Arc<str>>,
    /// What is under way may be for what an entry was before.
    again: bool,
}

impl Asked {
    fn add(&mut self, batch: &[Order]) {
        self.ids
            .extend(batch.iter().map(|order| Arc::clone(&order.entry.id)));
    }

    fn remove(&mut self, batch: &[Order]) {
        for order in batch {
            self.ids.remove(&order.entry.id);
        }
    }

    /// What else there is to ask for.
    fn without(&mut self, orders: Vec<Order>) -> VecDeque<Order> {
        self.again |= !self.ids.is_empty();
        let mut rest = VecDeque::from(orders);
        rest.retain(|order| !self.ids.contains(&order.entry.id));
        rest
    }
}

/// A new identity does not wait for renewals that the server takes its time for.
const AT_ONCE: usize = 2;
