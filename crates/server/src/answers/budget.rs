//! The bytes that all answers under way may hold. Invariant: what is reserved is never more than there is; who waits is served in its order, and
//! meanwhile those who take too little lose their connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast_identity::SpiffeId;
use landfast_lifecycle::spread_within;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;

use super::Line;
use crate::admission::come_again;
use crate::random;

/// See above. Clone to share.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Inner>);

struct Inner {
    /// For answers of at most [`SMALL`] bytes, so that none of them waits for a large one; and for the others.
    small: Room,
    large: Room,
    holders: Mutex<Holders>,
}

/// Served in the order in which it is asked for.
struct Room {
    units: u32,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Holders {
    next: u64,
    all: HashMap<u64, Holder>,
    /// How many each agent has or waits for: an entry has at least one.
    of: HashMap<SpiffeId, usize>,
    /// When the slow were last looked for: by one of those who wait, for all of them.
    looked: Option<Instant>,
    #[cfg(test)]
    looks: usize,
}

/// Who has room.
struct Holder {
    since: Instant,
    /// None once it was cut.
    line: Option<Line>,
}

/// Room, until it is dropped.
pub(crate) struct Reservation {
    share: Share,
    number: u64,
    /// Until it is dropped.
    room: Option<OwnedSemaphorePermit>,
}

/// One of those that an agent may have.
struct Share {
    budget: Budget,
    agent: SpiffeId,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Inner {
            small: Room::of(bytes / 4),
            large: Room::of(bytes - bytes / 4),
            holders: Mutex::default(),
        }))
    }

    /// Room for so many bytes, or for all there is when that is less: such an answer goes alone. Who takes too little on its line while others
    /// wait loses that.
    ///
    /// # Errors
    /// ResourceExhausted with when to come again, when there is no room within [`PATIENCE`], too many wait for it, or the agent has enough.
    pub(crate) async fn reserve(
        &self,
        agent: &SpiffeId,
        bytes: usize,
        line: Option<Line>,
    ) -> Result<Reservation, Status> {
        let share = self.share(agent).ok_or_else(refused)?;
        let room = if bytes <= SMALL {
            &self.0.small
        } else {
            &self.0.large
        };
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let units = units.clamp(1, room.units);
        let permit = match Arc::clone(&room.free).try_acquire_many_owned(units) {
            Ok(permit) => permit,
            Err(_full) => self.wait(room, units).await?,
        };
        let holder = Holder {
            since: Instant::now(),
            line,
        };
        let number = {
            let mut holders = self.holders();
            holders.next += 1;
            let number = holders.next;
            holders.all.insert(number, holder);
            number
        };
        self.measure();
        Ok(Reservation {
            share,
            number,
            room: Some(permit),
        })
    }

    fn share(&self, agent: &SpiffeId) -> Option<Share> {
        let mut holders = self.holders();
        let has = holders.of.entry(agent.clone()).or_default();
        if *has >= EACH {
            return None;
        }
        *has += 1;
        Some(Share {
            budget: self.clone(),
            agent: agent.clone(),
        })
    }

    async fn wait(&self, room: &Room, units: u32) -> Result<OwnedSemaphorePermit, Status> {
        let _waiting = Waiting::one_more(&room.waiting).ok_or_else(refused)?;
        let free = Arc::clone(&room.free).acquire_many_owned(units);
        tokio::pin!(free);
        let until = Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout(LOOK, &mut free).await {
                Ok(permit) => return permit.map_err(|_closed| refused()),
                Err(_elapsed) if Instant::now() >= until => return Err(refused()),
                Err(_elapsed) => self.cut_the_slow(),
            }
        }
    }

    /// Their answers go with their connections, and so does what they hold.
    fn cut_the_slow(&self) {
        let slow = self.holders().slow(Instant::now());
        if !slow.is_empty() {
            let connections = slow.len();
            metrics::counter!("landfast_server_answers_cut_total").increment(connections as u64);
            tracing::info!(
                connections,
                "agents that do not take their answers lose their connections: others wait for the room"
            );
        }
        slow.iter().for_each(|line| line.cut.after(Duration::ZERO));
    }

    /// Bytes that one message may take at most, where it can be refused: a part of what there is, for an answer that goes to one agent.
    pub(super) fn most_of_one(&self) -> usize {
        (self.0.small.units as usize + self.0.large.units as usize) * UNIT / 4
    }

    fn measure(&self) {
        let rooms = [&self.0.small, &self.0.large];
        let used = rooms.map(|room| (room.units as usize).saturating_sub(room.free.available_permits()));
        metrics::gauge!("landfast_server_answers_bytes").set((used.iter().sum::<usize>() * UNIT) as f64);
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.0.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that nobody has, for small answers and for large ones.
    #[cfg(test)]
    pub(super) fn free(&self) -> [usize; 2] {
        [&self.0.small, &self.0.large].map(|room| room.free.available_permits() * UNIT)
    }

    /// How often somebody looked for the slow.
    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.holders().looks
    }
}

impl Holders {
    /// The lines of those who take too little, once; none when somebody else has just looked.
    fn slow(&mut self, now: Instant) -> Vec<Line> {
        if self.looked.is_some_and(|last| now.duration_since(last) < LOOK) {
            return Vec::new();
        }
        self.looked = Some(now);
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let all = self.all.values_mut();
        let slow = all.filter_map(|holder| {
            let since = holder.since;
            holder.line.take_if(|line| line.outflow.is_slow(since, now))
        });
        slow.collect()
    }
}

impl Room {
    fn of(bytes: usize) -> Self {
        // Far below what a semaphore can count.
        let units = u32::try_from(bytes / UNIT)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::MAX >> 4);
        Self {
            units,
            free: Arc::new(Semaphore::new(units as usize)),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let budget = &self.share.budget;
        budget.holders().all.remove(&self.number);
        drop(self.room.take());
        budget.measure();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut holders = self.budget.holders();
        if let Some(has) = holders.of.get_mut(&self.agent) {
            *has -= 1;
            if *has == 0 {
                holders.of.remove(&self.agent);
            }
        }
    }
}

/// One who waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn one_more(all: &'a AtomicUsize) -> Option<Self> {
        let more = all.fetch_update(Relaxed, Relaxed, |waiting| {
            (waiting < QUEUE).then_some(waiting + 1)
        });
        more.is_ok().then_some(Self(all))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn refused() -> Status {
    metrics::counter!("landfast_server_answers_refused_total").increment(1);
    let later = SPREAD / 5 + spread_within(SPREAD, &random::bytes::<8>().unwrap_or_default());
    let text = "the server has as many answers under way as it can hold; wait and ask again";
    come_again(Status::resource_exhausted(text), later)
}

/// What a fleet asks for when it comes back, with a hundred entries each.
const SMALL: usize = 128 * 1024;
/// Answers that one agent has or waits for at a time: it subscribes twice for a moment, and synchronises.
const EACH: usize = 8;
/// What is counted in: less than what an answer costs besides.
const UNIT: usize = 256;
/// As for a signature: agents wait half a minute for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Who waits for longer than that makes the slow give way.
const LOOK: Duration = Duration::from_secs(1);
/// Requests that wait; a fleet that comes back, and each costs some hundred bytes.
const QUEUE: usize = 16_384;
const SPREAD: Duration = Duration::from_secs(5);
