//! Before the door to a signature: who is let through next when more is asked for than can be signed.
//!
//! Invariant: an agent's request is signed within its turn or not at all. Whoever needs it soonest has the next turn; who cannot be served in
//! time is told at once when to come again, so that memory is bounded however many ask.

mod pace;
mod room;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast_identity::SpiffeId;
use landfast_lifecycle::SharedClock;
use landfast_proto::{NEEDED_BY, PUSHBACK};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use room::{Ask, Room, Told, Verdict, Who};
pub(crate) use room::{Bounds, Kind};

/// The waiting room. Clone to share.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Inner>);

struct Inner {
    room: Mutex<Room<oneshot::Sender<Verdict>>>,
    longest: Duration,
    clock: SharedClock,
}

/// A turn at the door, until it is dropped.
pub(crate) struct Turn(Option<(Admission, u64)>);

impl Admission {
    pub(crate) fn new(bounds: Bounds, clock: SharedClock) -> Self {
        Self(Arc::new(Inner {
            room: Mutex::new(Room::new(bounds)),
            longest: bounds.longest,
            clock,
        }))
    }

    /// The turn of a caller that may say by when it needs this; who does not say (SPIRE's agents) needs it in the usual time.
    ///
    /// # Errors
    /// Unavailable with when to come again; nothing is held for the caller.
    pub(crate) async fn turn<T: prost::Message>(
        &self,
        request: &Request<T>,
        (who, kind): (&SpiffeId, Kind),
        count: usize,
        usual: Duration,
    ) -> Result<Turn, Status> {
        let said = request.metadata().get(NEEDED_BY);
        let said = said.and_then(|text| text.to_str().ok()?.parse::<u32>().ok());
        let needed_in = match (said, self.now()) {
            (None, _) => Some(usual),
            (Some(0), _) => None,
            (Some(by), now) => u64::try_from(i64::from(by) - now)
                .ok()
                .filter(|left| *left > 0)
                .map(Duration::from_secs),
        };
        let who = (who.clone(), kind);
        self.enter(self.ask(who, count, request.get_ref().encoded_len(), needed_in))
            .await
    }

    /// The turn of a caller that asks for what it needs when it is cut off, perhaps: behind everybody else.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub(crate) async fn turn_ahead<T: prost::Message>(
        &self,
        request: &Request<T>,
        who: &SpiffeId,
        count: usize,
    ) -> Result<Turn, Status> {
        let who = (who.clone(), Kind::Ahead);
        let bytes = request.get_ref().encoded_len();
        self.enter(self.ask(who, count, bytes, Some(NO_HURRY))).await
    }

    /// The same for something of which the server itself knows when it ends.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub(crate) async fn turn_by(
        &self,
        who: &SpiffeId,
        ends: landfast_identity::UnixTime,
    ) -> Result<Turn, Status> {
        let left = u64::try_from(ends.as_secs() - self.now()).ok();
        let needed_in = left.filter(|left| *left > 0).map(Duration::from_secs);
        self.enter(self.ask((who.clone(), Kind::Own), 1, SMALL, needed_in))
            .await
    }

    /// The turn of a node that has attested: a token that is used up cannot be asked with again by everybody, so it is never refused. Those who
    /// come here are bounded as those who attest are.
    ///
    /// # Errors
    /// None but that the server stops.
    pub(crate) async fn certain_turn(&self, who: &SpiffeId) -> Result<Turn, Status> {
        let ask = Ask {
            certain: true,
            ..self.ask((who.clone(), Kind::Own), 1, SMALL, None)
        };
        self.enter(ask).await
    }

    /// What an operator should know: that not all who ask can be served at once.
    pub(crate) fn trouble(&self) -> Option<String> {
        let room = self.lock();
        room.refused_within(Instant::now(), TROUBLE).then(|| {
            let waiting = room.waiting();
            format!("more signatures are asked for than can be made: {waiting} requests wait, others were told to come again")
        })
    }

    fn ask(&self, who: Who, count: usize, bytes: usize, needed_in: Option<Duration>) -> Ask {
        // What is missing altogether can wait for what would be lost before.
        let seconds = needed_in.unwrap_or(MISSING).as_secs();
        Ask {
            who,
            count,
            bytes,
            needed_by: self
                .now()
                .saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
            needed_in,
            certain: false,
        }
    }

    async fn enter(&self, ask: Ask) -> Result<Turn, Status> {
        let (send, verdict) = oneshot::channel();
        let (certain, came) = (ask.certain, Instant::now());
        let number = self.change(|room, now| room.arrive(now, ask, send));
        // From here on it leaves when it is dropped, wherever that is.
        let turn = Turn(Some((self.clone(), number)));
        let verdict = match certain {
            true => verdict.await.ok(),
            false => match tokio::time::timeout(self.0.longest + SLACK, verdict).await {
                Ok(verdict) => verdict.ok(),
                // Its turn may have come in this very moment.
                Err(_elapsed) => self
                    .change(|room, now| room.give_up(now, number))
                    .map_or(Some(Verdict::Go), |later| Some(Verdict::Later(later))),
            },
        };
        match verdict {
            Some(Verdict::Go) => {
                metrics::histogram!("landfast_server_signing_wait_seconds").record(came.elapsed());
                Ok(turn)
            }
            Some(Verdict::Later(later)) => {
                metrics::counter!("landfast_server_signing_refused_total").increment(1);
                Err(busy(later))
            }
            None => Err(Status::unavailable("the server is stopping")),
        }
    }

    /// Changes the room, and tells what follows to whom it concerns.
    fn change<R>(
        &self,
        change: impl FnOnce(&mut Room<oneshot::Sender<Verdict>>, Instant) -> (R, Told<oneshot::Sender<Verdict>>),
    ) -> R {
        let (answer, told) = {
            let mut room = self.lock();
            let changed = change(&mut room, Instant::now());
            metrics::gauge!("landfast_server_signing_waiting").set(room.waiting() as f64);
            metrics::gauge!("landfast_server_signing_served").set(room.served() as f64);
            let soonest = room.soonest().map_or(0, |soonest| soonest - self.now());
            metrics::gauge!("landfast_server_signing_next_needed_seconds").set(soonest as f64);
            changed
        };
        for (token, verdict) in told {
            // Who has gone away leaves the room when its turn is dropped.
            let _gone = token.send(verdict);
        }
        answer
    }

    fn now(&self) -> i64 {
        self.0.clock.now().map_or(0, |now| now.as_secs())
    }

    fn lock(&self) -> MutexGuard<'_, Room<oneshot::Sender<Verdict>>> {
        self.0.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// A turn that nobody waits for: of the server itself and of administrators.
    pub(crate) const fn free() -> Self {
        Self(None)
    }

    /// Between two signatures: lets whoever needs one sooner go first, and all others have their share of the processor.
    pub(crate) async fn pause(&self) {
        tokio::task::yield_now().await;
        let Some((admission, number)) = &self.0 else {
            return;
        };
        if !admission.lock().should_pause(*number) {
            return;
        }
        let (send, go) = oneshot::channel();
        admission.change(|room, _| ((), room.pause(*number, send)));
        // The other end is in the room as long as we are.
        let _verdict = go.await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((admission, number)) = self.0.take() {
            admission.change(|room, now| ((), room.leave(now, number)));
        }
    }
}

/// Another time would do: Unavailable, after which SPIRE's agents back off and ask for less, with the time in gRPC's own words.
fn busy(later: Duration) -> Status {
    let text = format!(
        "more signatures are asked for than can be made now; ask again in {:.1} s",
        later.as_secs_f64()
    );
    come_again(Status::unavailable(text), later)
}

/// Says when to ask again.
pub(crate) fn come_again(mut status: Status, later: Duration) -> Status {
    let milliseconds = u64::try_from(later.as_millis()).unwrap_or(u64::MAX);
    status
        .metadata_mut()
        .insert(PUSHBACK, MetadataValue::from(milliseconds));
    status
}

/// SPIRE's agents and ours wait half a minute for an answer.
pub(crate) const LONGEST: Duration = Duration::from_secs(20);
/// What was foreseen may take longer.
const SLACK: Duration = Duration::from_secs(5);
/// In what time that is needed which a node does not have at all.
const MISSING: Duration = Duration::from_secs(5);
/// In what time that is needed which a node has ahead.
const NO_HURRY: Duration = Duration::from_secs(3600);
/// So long after somebody was refused, `/ready` says so.
const TROUBLE: Duration = Duration::from_secs(60);
/// Of one request with one CSR.
const SMALL: usize = 1024;

#[cfg(test)]
mod tests;
