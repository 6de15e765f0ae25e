//! Agents that want to be told. Invariant: nothing that happened is kept, only that something did: however much changes, and however slow
//! somebody is, memory does not grow. Whoever is marked was so after the change could be read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast_identity::{SpiffeId, TrustDomain};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Registry;
use super::index::Concern;

/// See above.
#[derive(Default)]
pub(super) struct Subscribers {
    state: Mutex<State>,
    /// There are ways to be walked.
    work: Notify,
}

#[derive(Default)]
struct State {
    /// By agent, at most [`PER_AGENT`] each, the oldest first.
    of: HashMap<SpiffeId, Vec<Arc<Flag>>>,
    /// By the foreign bundles they have.
    federated: HashMap<TrustDomain, HashMap<u64, Arc<Flag>>>,
    /// What is still to be looked up, and since when; at most [`MOST_WAITING`].
    waiting: HashMap<Concern, Instant>,
    /// Everybody is to look.
    everybody: Option<Instant>,
    entered: u64,
}

/// The mark of one subscriber.
struct Flag {
    number: u64,
    /// Of the SVID it was opened with.
    serial: String,
    marked: Notify,
    made: Instant,
    /// Microseconds from `made` to the first change it has not looked at; 0: none.
    since: AtomicU64,
    /// It stands in the crowd already.
    queued: AtomicBool,
    told: AtomicU8,
}

/// What a subscriber is told beside that something has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// Nothing.
    GoOn,
    /// The agent has renewed its SVID and used the new one.
    Renewed,
    /// It has subscribed too often since.
    Superseded,
}

/// One who wants to be told, until it is dropped.
pub(crate) struct Subscriber {
    all: Arc<Subscribers>,
    agent: SpiffeId,
    flag: Arc<Flag>,
    /// Whose bundles it is told of, sorted.
    federated: Vec<TrustDomain>,
}

impl Subscriber {
    /// Ends when something that concerns it may have changed. Nothing is missed between two calls.
    pub(crate) async fn marked(&self) {
        self.flag.marked.notified().await;
    }

    /// Since when it has something to look at. Asked before looking, so that what comes meanwhile counts again.
    pub(crate) fn begin_to_look(&self) -> Option<Instant> {
        let since = self.flag.since.swap(0, Ordering::AcqRel);
        (since > 0).then(|| self.flag.made + Duration::from_micros(since))
    }

    /// What it has been told.
    pub(crate) fn told(&self) -> Told {
        match self.flag.told.load(Ordering::Acquire) {
            RENEWED => Told::Renewed,
            SUPERSEDED => Told::Superseded,
            _ => Told::GoOn,
        }
    }

    /// Is told of these bundles from now on, and of no others. `true` when one is new: then what was read before may be old.
    pub(crate) fn follow(&mut self, federated: Vec<TrustDomain>) -> bool {
        if federated == self.federated {
            return false;
        }
        let before = std::mem::replace(&mut self.federated, federated);
        let mut state = self.all.state();
        for domain in before
            .iter()
            .filter(|domain| self.federated.binary_search(domain).is_err())
        {
            state.leave(domain, self.flag.number);
        }
        let new = self
            .federated
            .iter()
            .filter(|domain| before.binary_search(domain).is_err());
        let mut any = false;
        for domain in new {
            let followers = state.federated.entry(domain.clone()).or_default();
            followers.insert(self.flag.number, Arc::clone(&self.flag));
            any = true;
        }
        any
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut state = self.all.state();
        for domain in &self.federated {
            state.leave(domain, self.flag.number);
        }
        if let Some(flags) = state.of.get_mut(&self.agent) {
            flags.retain(|flag| flag.number != self.flag.number);
            if flags.is_empty() {
                state.of.remove(&self.agent);
            }
        }
        drop(state);
        metrics::gauge!("landfast_server_push_subscribers").decrement(1.0);
    }
}

impl Subscribers {
    fn enter(self: &Arc<Self>, agent: SpiffeId, serial: &str) -> Subscriber {
        let mut state = self.state();
        state.entered += 1;
        let flag = Arc::new(Flag {
            number: state.entered,
            serial: serial.to_owned(),
            marked: Notify::new(),
            made: Instant::now(),
            since: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            told: AtomicU8::new(0),
        });
        let flags = state.of.entry(agent.clone()).or_default();
        if flags.len() >= PER_AGENT {
            flags.remove(0).tell(SUPERSEDED);
        }
        flags.push(Arc::clone(&flag));
        drop(state);
        metrics::gauge!("landfast_server_push_subscribers").increment(1.0);
        Subscriber {
            all: Arc::clone(self),
            agent,
            flag,
            federated: Vec::new(),
        }
    }

    /// Marks the agents that are named, and leaves the others to [`Registry::wake_subscribers`]. Never waits.
    pub(super) fn tell(&self, concerned: Vec<Concern>) {
        if concerned.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        if state.of.is_empty() {
            return;
        }
        for concern in concerned {
            match concern {
                Concern::Agent(id) => state.flags(&id).iter().for_each(|flag| flag.mark(now)),
                Concern::Renewed(id, serial) => {
                    for flag in state.flags(&id) {
                        if flag.serial == serial {
                            flag.tell(RENEWED);
                        }
                    }
                }
                // So many at once, that looking up whom they concern costs more than looking at all.
                _ if state.waiting.len() >= MOST_WAITING => {
                    state.everybody.get_or_insert(now);
                    state.waiting.clear();
                }
                _ if state.everybody.is_some() => {}
                other => {
                    state.waiting.entry(other).or_insert(now);
                }
            }
        }
        let work = !state.waiting.is_empty() || state.everybody.is_some();
        drop(state);
        if work {
            self.work.notify_one();
        }
    }

    pub(super) fn everybody(&self) {
        self.state().everybody.get_or_insert_with(Instant::now);
        self.work.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn flags(&self, agent: &SpiffeId) -> &[Arc<Flag>] {
        self.of.get(agent).map_or(&[], Vec::as_slice)
    }

    fn leave(&mut self, domain: &TrustDomain, number: u64) {
        if let Some(followers) = self.federated.get_mut(domain) {
            followers.remove(&number);
            if followers.is_empty() {
                self.federated.remove(domain);
            }
        }
    }
}

impl Flag {
    fn mark(&self, since: Instant) {
        self.date(since);
        self.marked.notify_one();
    }

    fn date(&self, since: Instant) {
        let micros = since.saturating_duration_since(self.made).as_micros().max(1);
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        // The first change counts: when this fails there was one.
        let _earlier = self
            .since
            .compare_exchange(0, micros, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn tell(&self, what: u8) {
        self.told.fetch_max(what, Ordering::AcqRel);
        self.mark(Instant::now());
    }
}

impl Registry {
    /// From now on the agent is told, as whom this serial showed it.
    pub(crate) fn subscribe(&self, agent: SpiffeId, serial: &str) -> Subscriber {
        self.index.subscribers.enter(agent, serial)
    }

    /// Everybody is to look again: what changed is not of the registry.
    pub(crate) fn wake_everybody(&self) {
        self.index.subscribers.everybody();
    }

    /// How many subscribe.
    #[cfg(test)]
    pub(crate) fn subscriptions(&self) -> usize {
        self.index.subscribers.state().of.values().map(Vec::len).sum()
    }

    /// Looks up whom the changes concern, and marks them, for ever. Where one change concerns many they are woken a few at a time, and others
    /// come in between.
    pub(crate) async fn wake_subscribers(&self) {
        let subscribers = &self.index.subscribers;
        let mut crowd: VecDeque<Arc<Flag>> = VecDeque::new();
        loop {
            let (waiting, everybody) = {
                let mut state = subscribers.state();
                (std::mem::take(&mut state.waiting), state.everybody.take())
            };
            if let Some(since) = everybody {
                self.gather(subscribers.state().of.values().flatten(), since, &mut crowd);
            }
            for (concern, since) in waiting {
                self.gather(&self.whom(&concern), since, &mut crowd);
            }
            if crowd.is_empty() {
                subscribers.work.notified().await;
                continue;
            }
            for flag in crowd.drain(..crowd.len().min(AT_ONCE)) {
                flag.queued.store(false, Ordering::Release);
                flag.marked.notify_one();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Few are woken at once.
    fn gather<'a>(
        &self,
        flags: impl IntoIterator<Item = &'a Arc<Flag>>,
        since: Instant,
        crowd: &mut VecDeque<Arc<Flag>>,
    ) {
        let mut left = AT_ONCE;
        for flag in flags {
            flag.date(since);
            if left > 0 {
                left -= 1;
                flag.marked.notify_one();
            } else if !flag.queued.swap(true, Ordering::AcqRel) {
                crowd.push_back(Arc::clone(flag));
            }
        }
    }

    fn whom(&self, concern: &Concern) -> Vec<Arc<Flag>> {
        let subscribers = &self.index.subscribers;
        let of = |ids: &mut dyn Iterator<Item = SpiffeId>| {
            let state = subscribers.state();
            ids.flat_map(|id| state.flags(&id).to_vec()).collect()
        };
        match concern {
            Concern::Agent(id) | Concern::Renewed(id, _) => of(&mut std::iter::once(id.clone())),
            Concern::Below(id) => {
                let ids: HashSet<SpiffeId> = self.read().agents_above(id);
                of(&mut ids.into_iter())
            }
            Concern::Having(selectors) => {
                let ids = self.read().agents_having(selectors);
                of(&mut ids.into_iter())
            }
            Concern::Federated(domain) => {
                let state = subscribers.state();
                let followers = state.federated.get(domain);
                followers.map_or_else(Vec::new, |them| them.values().cloned().collect())
            }
        }
    }
}

const RENEWED: u8 = 1;
const SUPERSEDED: u8 = 2;
/// The one it lives by, and one that takes its place while that one ends.
const PER_AGENT: usize = 2;
/// Of changes whose agents are not looked up yet.
const MOST_WAITING: usize = 1024;
/// Then others have their turn.
const AT_ONCE: usize = 32;

#[cfg(test)]
mod tests;
