//! What a turn came to, and what follows from it.
//!
//! Invariant: a failure destroys nothing, but when it is the server's word that the node is banned.

use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_lifecycle::{Backoff, Disposition};
use tokio::time::Instant;

use super::failure::LinkError;
use super::status::Phase;
use super::{Link, attest};
use crate::keeper::state::Event;

/// Of this connection.
#[derive(Default)]
pub(super) struct Acknowledged {
    /// Of the bundle that the server has been told the node holds.
    sequence: Option<u64>,
    /// When it is told again, after it did not take that; and how long after the next time.
    again: Option<(Instant, Backoff)>,
}

impl Link {
    /// Draws the consequences of a failed turn. Answers how long to wait, when that is not for the back-off to say.
    pub(super) async fn handle(&mut self, error: &LinkError) -> Option<Duration> {
        self.keeper.tell(Event::Contact(false)).await;
        let text = error_chain(error);
        let repeated = self.status.borrow().last_error == text;
        if repeated {
            tracing::debug!(error = text, "still no success with the server");
        } else {
            tracing::warn!(
                error = text,
                "no success with the server; what is held stays valid and is served"
            );
        }
        if error.server_hung_up() {
            self.returning.hung_up();
        }
        if !error.server_answered() {
            self.hang_up();
        }
        self.alarm_if_stale(error);
        let banned = error.disposition() == Disposition::Fatal;
        if banned {
            self.banned().await;
        } else if error.disposition() == Disposition::Reattest {
            self.must_attest = true;
            self.hang_up();
        }
        self.status.send_modify(|status| {
            status.reachable = status.reachable && error.server_answered();
            status.quarantined = matches!(
                error,
                LinkError::Refused {
                    quarantined: true,
                    ..
                }
            );
            status.last_error = text;
            if status.phase != Phase::Banned {
                status.phase = if banned {
                    Phase::Banned
                } else {
                    status.phase_after_failure()
                };
            }
        });
        (self.status.borrow().phase == Phase::Banned).then_some(self.banned_wait())
    }

    pub(super) async fn note_success(&mut self) {
        self.returning.heard();
        let recovered = self.status.send_if_modified(|status| {
            let differs = !status.last_error.is_empty() || status.phase != Phase::Serving;
            status.phase = Phase::Serving;
            status.quarantined = false;
            status.last_error.clear();
            status.behind = status
                .behind
                .take()
                .filter(|(server, _)| *server != self.rota.at());
            differs
        });
        if recovered {
            tracing::info!(server = %self.status.borrow().address, "synchronised with the server");
            self.keeper.tell(Event::Contact(true)).await;
        }
    }

    /// A server of ours is told which bundle the node holds: with a new authority it signs when all can verify that.
    pub(super) async fn acknowledge(&mut self) {
        let Some(sequence) = self.unacknowledged() else {
            return;
        };
        let Some(channel) = self.channel.borrow().clone() else {
            return;
        };
        // Meanwhile nothing is heard.
        let telling = attest::post_status(channel, sequence);
        let told = tokio::time::timeout(ACKNOWLEDGE_WITHIN, telling).await;
        let refused = match told {
            Ok(Ok(())) => None,
            Ok(Err(LinkError::Refused {
                code: tonic::Code::Unimplemented,
                ..
            })) => None,
            Ok(Err(error)) => Some(error.pushback()),
            Err(_elapsed) => Some(None),
        };
        let Some(pushback) = refused else {
            self.acknowledged = Acknowledged {
                sequence: Some(sequence),
                again: None,
            };
            return;
        };
        // A rotation waits for it: what the server did not take, having heard enough of this node for now, say, is said again.
        let mut backoff = match self.acknowledged.again.take() {
            Some((_, backoff)) => backoff,
            None => Backoff::new(ACKNOWLEDGE_AGAIN.min(self.settings.retry.1), ACKNOWLEDGE_LONGEST),
        };
        let pause = pushback.unwrap_or_default().max(backoff.next());
        self.acknowledged.again = Some((Instant::now() + pause, backoff));
    }

    /// The sequence of a bundle that was adopted and would be after a restart, when the server has not been told of it, and now is the time.
    pub(super) fn unacknowledged(&self) -> Option<u64> {
        let due = self.acknowledged.again.as_ref();
        self.not_taken()
            .filter(|_| due.is_none_or(|(at, _)| *at <= Instant::now()))
    }

    /// When it is said again; `None` when it is not for now, whatever was refused before.
    pub(super) fn acknowledges_at(&self) -> Option<Instant> {
        let (at, _) = self.acknowledged.again.as_ref()?;
        self.not_taken().map(|_| *at)
    }

    fn not_taken(&self) -> Option<u64> {
        let sequence = self.known.own_bundle().map(|own| own.sequence());
        // SPIRE's servers do not want to know.
        let new = self.push.is_live() && self.acknowledged.sequence != sequence;
        sequence.filter(|_| new && !self.unsaved.lacks_bundle())
    }
}

/// Unless failures are tried again sooner. A server counts how many reports of a node come in a second.
const ACKNOWLEDGE_AGAIN: Duration = Duration::from_secs(5);
/// A server that takes none for long, because its disk is full, is asked by all nodes.
const ACKNOWLEDGE_LONGEST: Duration = Duration::from_secs(300);
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(5);
