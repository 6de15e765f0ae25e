//! When a server that has no room for more is asked again.
//!
//! Invariant: while the time that the server named is not over, what it refused is not asked of it again, nor anything that can wait longer;
//! what is missing or ends sooner is. What is held is kept, and the connection too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use landfast_identity::UnixTime;
use tokio::time::Instant;

use super::failure::LinkError;
use super::issue;
use crate::keeper::state::Order;

/// For the link's own orders.
#[derive(Default)]
pub(super) struct Busy {
    until: Option<Instant>,
    /// The same by the node's clock.
    ends: Option<UnixTime>,
    /// Entries, and when what there was of them would end. At most one for each that is authorised, and only until the time is over.
    refused: HashMap<Arc<str>, Option<UnixTime>>,
    /// When the first of those ends; the beginning of time when one was missing.
    soonest: Option<UnixTime>,
}

impl Busy {
    /// Whether the failure of the batch is nothing but that: then it counts from now.
    pub(super) fn note(&mut self, error: &LinkError, batch: &[Order], now: Option<UnixTime>) -> bool {
        let Some(pushback) = error.pushback() else {
            return false;
        };
        let error = landfast_daemon::error_chain(error);
        tracing::info!(error, again_in = ?pushback, "the server is busy; what is held stays and is served");
        if self.is_over() {
            *self = Self::default();
        }
        let until = Some(Instant::now() + pushback);
        if until > self.until {
            self.until = until;
            self.ends = now.map(|now| now.saturating_add(pushback));
        }
        let each = batch
            .iter()
            .map(|order| (Arc::clone(&order.entry.id), order.needed_by));
        self.refused.extend(each);
        let soonest = issue::soonest(batch).unwrap_or(UnixTime::EPOCH);
        self.soonest = Some(self.soonest.map_or(soonest, |known| known.min(soonest)));
        true
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }

    pub(super) fn is_over(&self) -> bool {
        self.until().is_none()
    }

    /// Whether it may be asked for now: one lazy renewal that the server had no room for says nothing of what is urgent.
    pub(super) fn admits(&self, order: &Order) -> bool {
        if self.is_over() {
            return true;
        }
        let refused = self.refused.get(&order.entry.id) == Some(&order.needed_by);
        let urgent = order.needed_by.is_none_or(|end| {
            self.soonest.is_some_and(|soonest| end < soonest) || self.ends.is_some_and(|ends| end <= ends)
        });
        urgent && !refused
    }
}

/// For questions of those who wait.
#[derive(Clone, Default)]
pub(crate) struct Pauses(Arc<Mutex<HashMap<Question, Pause>>>);

/// What is asked for, and for whom: who holds something that is valid can wait, and is refused sooner than who has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) kind: &'static str,
    pub(crate) renewal: bool,
}

/// The server's last word.
struct Pause {
    until: Instant,
    method: &'static str,
    code: tonic::Code,
    message: String,
}

impl Pauses {
    pub(super) fn note(&self, question: Question, error: &LinkError) {
        if let LinkError::Refused {
            method,
            code,
            message,
            pushback: Some(pushback),
            ..
        } = error
        {
            let pause = Pause {
                until: Instant::now() + *pushback,
                method,
                code: *code,
                message: message.clone(),
            };
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(question, pause);
        }
    }

    /// What the server would say.
    pub(super) fn refusal(&self, question: Question) -> Option<LinkError> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = pauses.get(&question)?;
        let left = pause.until.saturating_duration_since(Instant::now());
        (left > Duration::ZERO).then(|| LinkError::Refused {
            method: pause.method,
            code: pause.code,
            message: pause.message.clone(),
            denial: None,
            by_server: true,
            pushback: Some(left),
            quarantined: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOON, at, entry};

    fn busy(seconds: u64) -> LinkError {
        let mut status = tonic::Status::unavailable("no room");
        status
            .metadata_mut()
            .insert(landfast_proto::PUSHBACK, (seconds * 1000).into());
        LinkError::from_status("m", &status)
    }

    fn order(name: &str, end: Option<i64>) -> Order {
        Order {
            entry: Arc::new(entry(name, "/a", &["unix:uid:1"])),
            needed_by: end.map(at),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_more_urgent_than_what_was_refused_does_not_wait_for_it() {
        let mut noted = Busy::default();
        let batch = [order("a", Some(3000)), order("b", Some(4000))];
        assert!(noted.note(&busy(600), &batch, Some(NOON)));
        for (order, admitted) in [
            (order("a", Some(3000)), false),
            (order("b", Some(4000)), false),
            (order("c", Some(3000)), false),
            (order("c", Some(5000)), false),
            (order("c", Some(2999)), true),
            (order("c", None), true),
            (order("a", None), true),
        ] {
            assert_eq!(noted.admits(&order), admitted, "{order:?}");
        }
        // What is missing is refused as well: it waits, others that are missing are tried, and what would not outlast the pause.
        assert!(noted.note(&busy(600), &[order("c", None)], Some(NOON)));
        assert!(!noted.admits(&order("c", None)) && noted.admits(&order("d", None)));
        assert!(!noted.admits(&order("d", Some(601))) && noted.admits(&order("d", Some(600))));
        tokio::time::advance(Duration::from_secs(601)).await;
        assert!(noted.admits(&order("a", Some(3000))) && noted.is_over());
        // What was refused then is not remembered.
        assert!(noted.note(&busy(600), &[order("b", Some(4000))], Some(NOON)));
        assert!(noted.admits(&order("c", None)) && noted.admits(&order("a", Some(3000))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_a_token_waits_and_who_has_none_is_not_kept_waiting_by_him() {
        let of = |renewal| Question { kind: "jwt", renewal };
        let pauses = Pauses::default();
        pauses.note(of(true), &busy(60));
        assert!(pauses.refusal(of(true)).is_some() && pauses.refusal(of(false)).is_none());
        pauses.note(of(false), &busy(1));
        assert!(pauses.refusal(of(false)).is_some());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(pauses.refusal(of(true)).is_some() && pauses.refusal(of(false)).is_none());
    }
}
