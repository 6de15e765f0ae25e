//! What each set of selectors is entitled to, computed once and shared by all connections that have that set.
//!
//! Invariant: a view is computed from the newest snapshot under one lock, so no change is missed between "look" and
//! "subscribe"; views nobody watches are swept, so their number is bounded by the connections there are.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use landfast_identity::{Bundle, SelectorSet, TrustDomain, UnixTime};
use landfast_workload_api::{ServedJwtIdentity, ServedX509, ViewState, WorkloadView};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::state::{Reach, Snapshot};
use crate::entry::one_for_each_hint;

/// Hands out views. Clone to share.
#[derive(Clone)]
pub(crate) struct Views {
    table: Arc<Mutex<Table>>,
    asked_for: Arc<Notify>,
}

struct Table {
    snapshot: Arc<Snapshot>,
    fallback: Arc<Bundle>,
    slots: HashMap<SelectorSet, Slot>,
    /// Of the attestations that look for what is asked for now.
    outdated: CancellationToken,
    /// Sweep when there are this many.
    high_water: usize,
    /// How often a snapshot was adopted.
    published: watch::Sender<u64>,
    /// What is not fetched ahead, was asked for, and has not been looked at by the keeper yet.
    asked_for: HashSet<Arc<str>>,
}

struct Slot {
    view: watch::Sender<Arc<WorkloadView>>,
    /// When it was computed: of an earlier time it says nothing, for the clock may have been ahead.
    from: Option<UnixTime>,
    until: Option<UnixTime>,
    /// Those that fit.
    entries: Vec<Arc<str>>,
    /// Those of them that nobody has asked for yet, and that are to be asked for.
    unasked: Vec<Arc<str>>,
}

/// A view, from when until when it holds, and the entries it comes from.
struct Computed {
    view: WorkloadView,
    from: Option<UnixTime>,
    until: Option<UnixTime>,
    entries: Vec<Arc<str>>,
    unasked: Vec<Arc<str>>,
}

impl Views {
    /// Starts with nothing to serve. `trust_domain` names the bundle that is empty until the first synchronisation.
    pub(crate) fn new(trust_domain: &TrustDomain) -> Self {
        let table = Table {
            snapshot: Arc::default(),
            fallback: Arc::new(Bundle::new(trust_domain.clone())),
            slots: HashMap::new(),
            outdated: CancellationToken::new(),
            high_water: MIN_SWEEP,
            published: watch::Sender::new(0),
            asked_for: HashSet::new(),
        };
        Self {
            table: Arc::new(Mutex::new(table)),
            asked_for: Arc::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock().snapshot)
    }

    /// Changes after each snapshot that is adopted, for who looks at the snapshots themselves.
    pub(crate) fn published(&self) -> watch::Receiver<u64> {
        self.lock().published.subscribe()
    }

    /// Cancelled when entries ask for a kind of selector that an attestation begun now need not look for.
    pub(crate) fn outdated(&self) -> CancellationToken {
        self.lock().outdated.clone()
    }

    /// The view of one set of selectors, shared with all others that have the same.
    pub(crate) fn watch(
        &self,
        selectors: &SelectorSet,
        now: Option<UnixTime>,
    ) -> watch::Receiver<Arc<WorkloadView>> {
        let mut table = self.lock();
        if let Some(slot) = table.slots.get(selectors)
            && slot.until.is_none_or(|until| now.is_some_and(|now| now < until))
            && slot.from.is_none_or(|from| now.is_some_and(|now| from <= now))
        {
            return slot.view.subscribe();
        }
        if table.slots.len() >= table.high_water {
            table.sweep();
        }
        table.refresh(selectors.clone(), now).view.subscribe()
    }

    /// Somebody with these selectors asks for X.509-SVIDs: those that are not fetched ahead are to be fetched.
    pub(crate) fn ask_for_x509(&self, selectors: &SelectorSet, now: Option<UnixTime>) {
        let snapshot = self.snapshot();
        // Most nodes have none, and nobody looks for them there.
        if let (true, Some(now)) = (snapshot.entries.any_on_demand(), now) {
            self.ask_for(&snapshot, &snapshot.entries.matching(selectors, now));
        }
    }

    /// The same for who may have these entries of a snapshot.
    pub(crate) fn ask_for(&self, snapshot: &Snapshot, entries: &[Arc<crate::entry::Entry>]) {
        let new = entries.iter().filter(|entry| !snapshot.is_wanted(entry));
        let new: Vec<_> = new.map(|entry| Arc::clone(&entry.id)).collect();
        if !new.is_empty() {
            self.lock().asked_for.extend(new);
            self.asked_for.notify_one();
        }
    }

    /// What was asked for since the last look. May be dropped and asked again.
    pub(crate) async fn asked_for(&self) -> HashSet<Arc<str>> {
        self.asked_for.notified().await;
        std::mem::take(&mut self.lock().asked_for)
    }

    /// Adopts a snapshot and tells those whose view it changes. Views beyond its reach are not even looked at: with thousands of them,
    /// and SVIDs that come by the hundred, that is most of the work.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>, reach: &Reach, now: Option<UnixTime>) {
        let mut table = self.lock();
        let before = std::mem::replace(&mut table.snapshot, snapshot);
        if table.snapshot.entries.uses_hashes() && !before.entries.uses_hashes() {
            // Before the views change: whoever loses an identity by this sees that there may be another for him.
            std::mem::take(&mut table.outdated).cancel();
        }
        table.sweep();
        let Table {
            snapshot,
            fallback,
            slots,
            published,
            ..
        } = &mut *table;
        for (selectors, slot) in slots {
            let reached = match reach {
                Reach::All => true,
                Reach::Entries(touched) => slot.entries.iter().any(|id| touched.contains(id)),
                Reach::Changed(touched) => {
                    let fits = |id: &Arc<str>| {
                        let entry = snapshot.entries.get(id);
                        entry.is_some_and(|entry| entry.selectors.is_subset_of(selectors))
                    };
                    slot.entries.iter().any(|id| touched.contains(id)) || touched.iter().any(fits)
                }
            };
            if reached {
                slot.adopt(compute(snapshot, fallback, selectors, now));
            }
        }
        published.send_modify(|count| *count += 1);
    }

    /// How many distinct sets are watched now.
    #[cfg(test)]
    pub(crate) fn watched(&self) -> usize {
        self.lock()
            .slots
            .values()
            .filter(|slot| slot.view.receiver_count() > 0)
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while computing leaves whole values behind, never half a view.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn refresh(&mut self, selectors: SelectorSet, now: Option<UnixTime>) -> &Slot {
        let computed = compute(&self.snapshot, &self.fallback, &selectors, now);
        match self.slots.entry(selectors) {
            Entry::Occupied(slot) => {
                let slot = slot.into_mut();
                slot.adopt(computed);
                slot
            }
            Entry::Vacant(place) => place.insert(Slot {
                view: watch::Sender::new(Arc::new(computed.view)),
                from: computed.from,
                until: computed.until,
                entries: computed.entries,
                unasked: computed.unasked,
            }),
        }
    }

    fn sweep(&mut self) {
        self.slots.retain(|_, slot| slot.view.receiver_count() > 0);
        self.high_water = (self.slots.len() * 2).max(MIN_SWEEP);
    }
}

impl Slot {
    /// Tells the watchers, if their answers change, or if there is more for them to ask for: another entry may look the same to them.
    fn adopt(&mut self, computed: Computed) {
        self.from = computed.from;
        self.until = computed.until;
        self.entries = computed.entries;
        let before = std::mem::replace(&mut self.unasked, computed.unasked);
        let more = self.unasked.iter().any(|id| !before.contains(id));
        let view = computed.view;
        self.view.send_if_modified(|old| {
            let differs = !same(old, &view) || more;
            if differs {
                *old = Arc::new(view);
            }
            differs
        });
    }
}

/// The view of one set.
fn compute(
    all: &Snapshot,
    fallback: &Arc<Bundle>,
    selectors: &SelectorSet,
    now: Option<UnixTime>,
) -> Computed {
    let own_bundle = all.bundle.as_ref().unwrap_or(fallback);
    let empty = |state| Computed {
        view: WorkloadView {
            x509: Vec::new(),
            jwt_identities: Vec::new(),
            own_bundle: Arc::clone(own_bundle),
            federated: Vec::new(),
            state,
        },
        from: now,
        until: None,
        entries: Vec::new(),
        unasked: Vec::new(),
    };
    if all.banned {
        return empty(ViewState::NoIdentity);
    }
    // Without a time of day nothing can be shown to be valid, so nothing is served.
    let (Some(now), true) = (now, all.synced_at.is_some()) else {
        return empty(ViewState::Starting);
    };
    let entries = all.entries.matching(selectors, now);
    if entries.is_empty() {
        return empty(ViewState::NoIdentity);
    }
    let held = entries.iter().filter_map(|entry| all.svid(entry, now));
    let ends = held.map(|held| held.svid.not_after());
    let until = ends
        .chain(entries.iter().filter_map(|entry| entry.expires_at))
        .min();
    let unasked = entries
        .iter()
        .filter(|entry| !all.is_wanted(entry) && all.svid(entry, now).is_none());
    Computed {
        unasked: unasked.map(|entry| Arc::clone(&entry.id)).collect(),
        view: of_entries(all, own_bundle, &entries, now),
        from: Some(now),
        until,
        entries: entries.iter().map(|entry| Arc::clone(&entry.id)).collect(),
    }
}

/// What these entries of the snapshot give, of which there is one at least.
pub(crate) fn of_entries(
    all: &Snapshot,
    own_bundle: &Arc<Bundle>,
    entries: &[Arc<crate::entry::Entry>],
    now: UnixTime,
) -> WorkloadView {
    // Those that the Workload API tells, in the same order.
    let mut told = one_for_each_hint(entries.to_vec()).into_iter().peekable();
    let held: Vec<_> = entries
        .iter()
        .map(|entry| {
            let told = told.next_if(|told| Arc::ptr_eq(told, entry)).is_some();
            (entry, all.svid(entry, now), told)
        })
        .collect();
    let x509: Vec<ServedX509> = held
        .iter()
        .filter_map(|(entry, held, told)| {
            held.map(|held| ServedX509 {
                svid: Arc::clone(&held.svid),
                hint: entry.hint.clone(),
                entry_id: entry.id.to_string(),
                told: *told,
                reserve: all.is_of_reserve(entry, held),
            })
        })
        .collect();
    // While the first round is still running a part would make a later SVID the default one (W-24). After it a later one does
    // stand first while one before it cannot be had: what is valid is served, and who needs one in particular names it by hint or ID.
    let waits = |entry| !all.round_over || all.is_coming(entry, now);
    let waiting = held.iter().any(|(entry, held, _)| held.is_none() && waits(entry));
    let names: BTreeSet<&TrustDomain> = entries.iter().flat_map(|entry| &entry.federates_with).collect();
    WorkloadView {
        state: if waiting || !x509.iter().any(|served| served.told) {
            ViewState::WithoutX509
        } else {
            ViewState::Ready
        },
        x509,
        jwt_identities: entries
            .iter()
            .map(|entry| ServedJwtIdentity {
                id: entry.spiffe_id.clone(),
                hint: entry.hint.clone(),
            })
            .collect(),
        own_bundle: Arc::clone(own_bundle),
        federated: names
            .into_iter()
            .filter_map(|name| all.federated.get(name).cloned())
            .collect(),
    }
}

/// Whether two views would give a workload the same answers.
fn same(a: &WorkloadView, b: &WorkloadView) -> bool {
    let bundles = |a: &[Arc<Bundle>], b: &[Arc<Bundle>]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b) || a.content_eq(b))
    };
    a.state == b.state
        && a.x509.len() == b.x509.len()
        && a.x509.iter().zip(&b.x509).all(|(a, b)| {
            Arc::ptr_eq(&a.svid, &b.svid) && (&a.hint, &a.entry_id, a.told) == (&b.hint, &b.entry_id, b.told)
        })
        && a.jwt_identities.len() == b.jwt_identities.len()
        && a.jwt_identities
            .iter()
            .zip(&b.jwt_identities)
            .all(|(a, b)| a.id == b.id && a.hint == b.hint)
        && bundles(
            std::slice::from_ref(&a.own_bundle),
            std::slice::from_ref(&b.own_bundle),
        )
        && bundles(&a.federated, &b.federated)
}

/// Unwatched views are tolerated up to this number (or twice the watched ones), then swept.
const MIN_SWEEP: usize = 256;

#[cfg(test)]
mod tests;
