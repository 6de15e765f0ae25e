//! What the agent holds, and every decision about it.
//!
//! Invariant: [`State::step`] is pure: same state, time and event, same actions. It never drops a valid SVID because a
//! renewal failed.

mod adopt;
mod issued;
pub(crate) mod reserve;
mod restored;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use landfast_identity::{Bundle, TrustDomain, UnixTime, X509Svid};

pub(crate) use super::held::Held;
use super::refusals::Refusals;
pub(crate) use super::snapshot::Snapshot;
use super::taint::Taints;
use crate::entry::Entry;
use reserve::{IssuedRung, RungOrder};
pub(crate) use restored::Rest;

/// What the server said in one complete round of synchronisation.
#[derive(Clone)]
pub(crate) struct Synced {
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) federated: BTreeMap<TrustDomain, Arc<Bundle>>,
}

/// What is different by one step of a subscription.
#[derive(Clone, Default)]
pub(crate) struct Pushed {
    /// New, or changed.
    pub(crate) put: Vec<Arc<Entry>>,
    /// By their IDs. What is in neither list stays.
    pub(crate) gone: Vec<Arc<str>>,
    /// Of this trust domain, when it is another.
    pub(crate) bundle: Option<Arc<Bundle>>,
    /// All of the others, when one of them is another.
    pub(crate) federated: Option<BTreeMap<TrustDomain, Arc<Bundle>>>,
}

/// The outcome for one entry of one round of issuing.
pub(crate) struct Issued {
    pub(crate) entry_id: Arc<str>,
    pub(crate) revision: i64,
    pub(crate) outcome: Result<Arc<X509Svid>, String>,
}

pub(crate) enum Event {
    /// A round of synchronisation succeeded.
    Synced(Synced),
    /// A step of a subscription came. The first one, and the first after a ban, holds all there is.
    Pushed(Pushed),
    /// The root keys of the trust domain have signed another bundle. No server has said anything of entries.
    Bundle(Arc<Bundle>),
    /// Somebody asks for the SVIDs of these entries, which are not fetched ahead.
    Wanted(HashSet<Arc<str>>),
    /// Nothing, but that what is due is wanted.
    Due,
    /// A batch of SVIDs came back.
    Issued(Vec<Issued>),
    /// Nothing, but that what is missing of the reserve is wanted.
    RungsDue,
    /// A batch of rungs came back.
    Rungs(Vec<IssuedRung>),
    /// The rest of what was on disk of the reserve, which a start did not wait for.
    Rest(Rest),
    /// Whether the node is in step with its server, which then renews what is due.
    Contact(bool),
    /// All that was ordered has been tried.
    RoundOver,
    /// The rest is to be asked for later, when the server has room. Nobody who has something waits for it.
    RoundPaused,
    /// The server has banned this node.
    Banned,
    /// Time passed.
    Tick,
}

#[derive(Debug)]
pub(crate) enum Action {
    /// Ask the server for these SVIDs, in this order.
    Issue(Vec<Order>),
    /// Ask for these rungs when there is nothing else to ask for.
    IssueRungs(Vec<RungOrder>),
    /// Give the state to those who watch what is different in it.
    Publish(Arc<Snapshot>, Reach),
    /// Look again at this time, whatever happens before.
    Wake(UnixTime),
    /// Something an operator should know.
    Note(Note),
}

/// What a change reaches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Whatever is served to anybody.
    All,
    /// What is served by these entries, and nothing else.
    Entries(HashSet<Arc<str>>),
    /// The same, when the entries themselves are new or others, so that more may be served by them than was.
    Changed(HashSet<Arc<str>>),
}

impl Reach {
    /// That, and these entries.
    fn and_entries(reach: Option<Self>, mut more: HashSet<Arc<str>>) -> Self {
        match reach {
            None => Self::Entries(more),
            Some(Self::All) => Self::All,
            Some(Self::Entries(ids)) => {
                more.extend(ids);
                Self::Entries(more)
            }
            Some(Self::Changed(ids)) => {
                more.extend(ids);
                Self::Changed(more)
            }
        }
    }
}

/// One SVID to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) entry: Arc<Entry>,
    /// When what there is now ends; `None` when there is nothing.
    pub(crate) needed_by: Option<UnixTime>,
}

/// Facts worth a log line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note {
    RenewalFailed {
        spiffe_id: String,
        reason: String,
        valid_until: Option<UnixTime>,
        next: UnixTime,
    },
    Renewed {
        spiffe_id: String,
        serial: String,
        not_after: UnixTime,
    },
    Withdrawn {
        spiffe_id: String,
        reason: &'static str,
    },
    /// A rung of the reserve is served from now on.
    TookTurn {
        spiffe_id: String,
        serial: String,
        not_after: UnixTime,
        /// So many are left after it.
        left: usize,
    },
    NoRung {
        spiffe_id: String,
        reason: String,
        next: UnixTime,
    },
}

/// The keeper's state.
#[derive(Default)]
pub(crate) struct State {
    now: Snapshot,
    refusals: Refusals,
    taints: Taints,
    next_change: Option<UnixTime>,
    last_seen: Option<UnixTime>,
    in_contact: bool,
    rung_refusals: Refusals,
    /// Since when servers have signed for an entry by a time that went on: when what they signed began. Of the entries that there are.
    signed: BTreeMap<Arc<str>, UnixTime>,
    /// How much the whole reserve may take on disk; [`reserve::LARGEST`] unless set.
    reserve_limit: Option<u64>,
}

impl State {
    /// Takes one event in. Every change ends in a `Publish`; an event that changes nothing publishes nothing.
    pub(crate) fn step(&mut self, now: UnixTime, event: Event) -> Vec<Action> {
        if self.last_seen.is_some_and(|seen| now < seen) {
            self.turn_back(now);
        }
        let mut actions = Vec::new();
        let all = |changed: bool| changed.then_some(Reach::All);
        let mut reach = match event {
            Event::Synced(synced) => {
                let changed = self.adopt_sync(now, synced, &mut actions);
                actions.push(Action::Issue(self.due(now)));
                all(changed)
            }
            Event::Pushed(pushed) => {
                let reach = self.adopt_push(now, pushed, &mut actions);
                actions.push(Action::Issue(self.due(now)));
                reach
            }
            Event::Bundle(bundle) => all(self.replace_bundle(bundle, now)),
            Event::Wanted(ids) => self.adopt_wanted(now, ids),
            Event::Due => {
                actions.push(Action::Issue(self.due(now)));
                None
            }
            Event::Issued(batch) => {
                let changed = self.adopt_svids(now, batch, &mut actions);
                (!changed.is_empty()).then_some(Reach::Entries(changed))
            }
            Event::RungsDue => {
                actions.push(Action::IssueRungs(self.rungs_due(now)));
                None
            }
            // Nobody's view is another, but what is on disk is to be.
            Event::Rungs(batch) => {
                let changed = self.adopt_rungs(now, batch, &mut actions);
                changed.then(|| Reach::Entries(HashSet::new()))
            }
            Event::Rest(rest) => self
                .adopt_rest(now, rest)
                .then_some(Reach::Entries(HashSet::new())),
            Event::Contact(is) => {
                self.in_contact = is;
                None
            }
            Event::RoundPaused if self.now.held.is_empty() => None,
            Event::RoundOver | Event::RoundPaused => all(!std::mem::replace(&mut self.now.round_over, true)),
            Event::Banned => all(self.forget(&mut actions)),
            Event::Tick => None,
        };
        let crossed =
            self.next_change.is_some_and(|at| at <= now) || self.last_seen.is_some_and(|seen| now < seen);
        self.last_seen = Some(now);
        let turns = self.take_turns(now, &mut actions);
        if !turns.is_empty() {
            reach = Some(Reach::and_entries(reach, turns));
        }
        if crossed {
            self.note_withdrawals(now, &mut actions);
            reach = Some(Reach::All);
        }
        self.next_change = self.now.next_change(now);
        if let Some(reach) = reach {
            actions.push(Action::Publish(Arc::new(self.now.clone()), reach));
        }
        if let Some(at) = self.next_change.into_iter().chain(self.next_turn(now)).min() {
            actions.push(Action::Wake(at));
        }
        actions
    }

    /// The clock was set back: what waits for a time since some event must not wait for the difference as well.
    fn turn_back(&mut self, now: UnixTime) {
        self.taints.turn_back(now);
        for held in Arc::make_mut(&mut self.now.held).values_mut() {
            if let Some(earlier) = held.turned_back(now) {
                *held = Arc::new(earlier);
            }
        }
        for since in Arc::make_mut(&mut self.now.wanted).values_mut() {
            *since = (*since).min(now);
        }
        self.refusals.turn_back(now);
        self.rung_refusals.turn_back(now);
        self.signed.retain(|_, begins| *begins <= now);
    }

    /// What to ask the server for now: what is missing first, then what expires soonest.
    fn due(&self, now: UnixTime) -> Vec<Order> {
        let mut due: Vec<Order> = Vec::new();
        for entry in self
            .now
            .entries
            .iter()
            .filter(|entry| self.may_be_due(entry, now))
        {
            if self.again(entry).is_some_and(|again| now < again) {
                continue;
            }
            let needed_by = match self.now.held.get(&entry.id) {
                None => None,
                Some(held) if held.svid.id() != &entry.spiffe_id => None,
                Some(held) => {
                    let renew = now >= held.due(&self.taints) || held.revision != entry.revision;
                    if !renew {
                        continue;
                    }
                    Some(held.svid.not_after())
                }
            };
            due.push(Order {
                entry: Arc::clone(entry),
                needed_by,
            });
        }
        due.sort_by(|a, b| (a.needed_by, &a.entry.id).cmp(&(b.needed_by, &b.entry.id)));
        due
    }

    /// What is not fetched ahead is once it was asked for, and then renewed like everything else.
    fn may_be_due(&self, entry: &Entry, now: UnixTime) -> bool {
        !entry.is_over(now) && (self.now.is_wanted(entry) || self.now.held.contains_key(&entry.id))
    }

    /// When [`Self::due`] has something to say next, by the clock alone.
    pub(crate) fn next_order(&self, now: UnixTime) -> Option<UnixTime> {
        self.order_times(now).min()
    }

    /// When it has something to say that it does not say now.
    pub(crate) fn next_new_order(&self, now: UnixTime) -> Option<UnixTime> {
        self.order_times(now).filter(|due| now < *due).min()
    }

    fn order_times(&self, now: UnixTime) -> impl Iterator<Item = UnixTime> + '_ {
        let entries = self.now.entries.iter();
        entries
            .filter(move |entry| self.may_be_due(entry, now))
            .map(move |entry| {
                let held = self.now.held.get(&entry.id);
                let renewal = held.map_or(now, |held| match held.revision == entry.revision {
                    true => held.due(&self.taints),
                    false => now,
                });
                renewal.max(self.again(entry).unwrap_or(renewal))
            })
    }

    /// Whether what is held for it was signed by a tainted authority.
    fn is_tainted(&self, entry: &Entry) -> bool {
        let held = self.now.held.get(&entry.id);
        held.is_some_and(|held| held.is_tainted(&self.taints))
    }

    /// When it is asked for again, if it was refused.
    fn again(&self, entry: &Entry) -> Option<UnixTime> {
        let refused = self.refusals.of(&entry.id)?;
        Some(refused.again(self.is_tainted(entry)))
    }

    fn forget(&mut self, actions: &mut Vec<Action>) -> bool {
        let was_banned = std::mem::replace(&mut self.now.banned, true);
        for entry in self
            .now
            .entries
            .iter()
            .filter(|entry| self.now.held.contains_key(&entry.id))
        {
            actions.push(Action::Note(Note::Withdrawn {
                spiffe_id: entry.spiffe_id.to_string(),
                reason: "the server has banned this node",
            }));
        }
        self.now.held = Arc::default();
        self.now.entries = Arc::default();
        self.now.wanted = Arc::default();
        self.now.rungs = Arc::default();
        self.now.reading = false;
        self.now.round_over = false;
        self.refusals.forget();
        self.rung_refusals.forget();
        self.signed.clear();
        !was_banned
    }

    fn note_withdrawals(&self, now: UnixTime, actions: &mut Vec<Action>) {
        for held in self.now.held.values() {
            let ended = held.svid.not_after();
            if ended <= now && self.next_change.is_some_and(|at| at <= ended) {
                let spiffe_id = held.svid.id().to_string();
                actions.push(Action::Note(Note::Withdrawn {
                    spiffe_id,
                    reason: "it expired before it could be renewed",
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests;
