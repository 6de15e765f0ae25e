//! Where events are handed in: nobody waits for the journal, whatever the disk does.
//!
//! Invariant: what waits is bounded; what finds no room is counted, and the count goes into the journal.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast_lifecycle::GuardedClock;
use landfast_workload_api::{Party, Way};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::chain::Moment;
use super::event::{Class, DENIED, Event, class_of};
use crate::handouts::Whom;

/// Takes events. Clone to share.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Inner>);

struct Inner {
    clock: GuardedClock,
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    /// At most [`MOST_WAITING`].
    events: Vec<(Event, Moment)>,
    over: BTreeMap<&'static str, u64>,
    /// Of [`DENIED`] and hand-outs together.
    left: f64,
    at: Instant,
    /// At most [`MOST_DENIED`] and one for all others.
    denied: HashMap<Who, Denied>,
    first: Option<Instant>,
    urgent: bool,
}

/// Whom something was denied, by which service.
type Who = (Option<(u32, i32)>, &'static str);

struct Denied {
    event: Event,
    /// Since the last record.
    more: u64,
    recorded: Instant,
}

/// What has waited, and what is to be counted after it.
pub(super) struct Taken {
    pub(super) events: Vec<(Event, Moment)>,
    pub(super) over: BTreeMap<&'static str, u64>,
}

impl Desk {
    pub(crate) fn new(clock: GuardedClock) -> Self {
        Self(Arc::new(Inner {
            clock,
            state: Mutex::new(State {
                events: Vec::new(),
                over: BTreeMap::new(),
                left: BURST,
                at: Instant::now(),
                denied: HashMap::new(),
                first: None,
                urgent: false,
            }),
            wake: Notify::new(),
        }))
    }

    /// Takes an event.
    pub(crate) fn note(&self, event: Event) {
        let at = self.moment();
        self.state().note(event, at);
        self.0.wake.notify_one();
    }

    /// Counts one that is written down nowhere.
    pub(crate) fn count(&self, kind: &'static str) {
        let mut state = self.state();
        *state.over.entry(kind).or_default() += 1;
        state.first.get_or_insert_with(Instant::now);
    }

    /// A process was told that there is nothing for it. The same again within a minute is counted in the record of that.
    pub(crate) fn denied(&self, way: Way, to: Party<'_>) {
        let who = to.process.map(|process| (process.uid(), process.pid()));
        let (at, now) = (self.moment(), Instant::now());
        let mut state = self.state();
        let mut key = (who, way.as_str());
        if state.denied.len() >= MOST_DENIED && !state.denied.contains_key(&key) {
            state.settle(now, false, at);
            if state.denied.len() >= MOST_DENIED {
                key = (None, "any");
            }
        }
        if let Some(known) = state.denied.get_mut(&key) {
            known.more += 1;
            return;
        }
        let event = Event::new(DENIED)
            .with("by", way.as_str())
            .with_all(&serde_json::json!({"to": Whom::of(to)}));
        let denied = Denied {
            event: event.clone(),
            more: 0,
            recorded: now,
        };
        state.denied.insert(key, denied);
        state.note(event, at);
        drop(state);
        self.0.wake.notify_one();
    }

    /// Everything that waits. With `all`, what is still being counted too.
    pub(super) fn take(&self, all: bool) -> Taken {
        let at = self.moment();
        let mut state = self.state();
        state.settle(Instant::now(), all, at);
        state.first = None;
        state.urgent = false;
        Taken {
            events: std::mem::take(&mut state.events),
            over: std::mem::take(&mut state.over),
        }
    }

    /// Since when something waits, and whether it is to be read at once.
    pub(super) fn waits(&self) -> Option<(Instant, bool)> {
        let state = self.state();
        let (first, urgent) = (state.first, state.urgent);
        let counted = state.denied.values().filter(|denied| denied.more > 0);
        let counted = counted.map(|denied| denied.recorded + AGAIN).min();
        let counted = counted.filter(|due| *due <= Instant::now());
        first.or(counted).map(|since| (since, urgent))
    }

    /// Something has come.
    pub(super) async fn changed(&self) {
        self.0.wake.notified().await;
    }

    /// Waits until nobody else has this desk, for so long at most.
    pub(super) async fn left_alone(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while Arc::strong_count(&self.0) > 1 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What time it is on the node.
    pub(crate) fn time(&self) -> String {
        self.moment().time.to_string()
    }

    pub(super) fn moment(&self) -> Moment {
        let (time, quality) = self.0.clock.stamp();
        Moment {
            time,
            quality: quality.as_str(),
        }
    }

    /// Of what waits.
    #[cfg(test)]
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.state().events.iter().map(|(event, _)| event.kind).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, event: Event, at: Moment) {
        let kind = event.kind;
        let is_many = matches!(class_of(kind), Class::Denial | Class::HandOut);
        self.first.get_or_insert_with(Instant::now);
        // What the node says of itself has room behind that.
        let most = if is_many { MOST_WAITING } else { 2 * MOST_WAITING };
        if self.events.len() >= most || (is_many && !self.draw()) {
            *self.over.entry(kind).or_default() += 1;
            return;
        }
        self.urgent |= event.is_urgent();
        self.events.push((event, at));
    }

    fn draw(&mut self) -> bool {
        let now = Instant::now();
        let passed = now.duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed / PER_RECORD.as_secs_f64()).min(BURST);
        self.at = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// Writes down what was counted of the same, and forgets who has not come again.
    fn settle(&mut self, now: Instant, all: bool, at: Moment) {
        let mut due = Vec::new();
        self.denied.retain(|_, denied| {
            let over = now.duration_since(denied.recorded) >= AGAIN;
            if denied.more > 0 && (over || all) {
                due.push(denied.event.clone().with("repeated", denied.more));
                denied.more = 0;
                denied.recorded = now;
                return true;
            }
            !over
        });
        for event in due {
            self.note(event, at);
        }
    }
}

const MOST_WAITING: usize = 1024;
const MOST_DENIED: usize = 256;
/// So long the same denial is counted, and not written down again.
const AGAIN: Duration = Duration::from_secs(60);
/// So many at once, as when each stream gets its new SVID,
const BURST: f64 = 1000.0;
/// and one in so long after that: below 2 MB a day.
const PER_RECORD: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use landfast_identity::{SelectorSet, UnixTime};
    use landfast_lifecycle::{SimClock, SystemBoot};

    use super::*;
    use crate::journal::event::{HANDED_OUT, STARTED};

    fn desk() -> Desk {
        let start = UnixTime::from_secs(1_900_000_000);
        let clock = SimClock::new(start);
        Desk::new(GuardedClock::new(
            Arc::new(clock),
            Arc::new(SystemBoot),
            UnixTime::from_secs(1_800_000_000),
            Duration::from_secs(300),
            None,
        ))
    }

    fn nobody(selectors: &SelectorSet) -> Party<'_> {
        Party {
            process: None,
            selectors,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_that_repeats_is_one_record_and_a_count() {
        let (desk, selectors) = (desk(), SelectorSet::default());
        for _ in 0..10 {
            desk.denied(Way::WorkloadApi, nobody(&selectors));
        }
        let taken = desk.take(false);
        assert_eq!(taken.events.len(), 1);
        assert!(desk.waits().is_none());
        tokio::time::advance(AGAIN).await;
        assert!(desk.waits().is_some());
        let taken = desk.take(false);
        assert_eq!(taken.events.len(), 1);
        assert_eq!(taken.events[0].0.members["repeated"], 9);
        desk.denied(Way::WorkloadApi, nobody(&selectors));
        desk.denied(Way::Sds, nobody(&selectors));
        assert_eq!(desk.take(true).events.len(), 2, "the end waits for no minute");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_too_often_is_counted_and_keeps_nothing_else_out() {
        let desk = desk();
        for _ in 0..5000 {
            desk.note(Event::new(HANDED_OUT));
        }
        desk.note(Event::new(STARTED));
        let taken = desk.take(false);
        assert_eq!(taken.events.len(), 1001);
        assert_eq!(taken.over[HANDED_OUT], 4000);
        assert_eq!(taken.events.last().unwrap().0.kind, STARTED);
    }
}
