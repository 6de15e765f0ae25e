//! Everything there is to serve, as of one moment.
//!
//! Invariant: it never yields an SVID that is not valid.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{Bundle, TrustDomain, UnixTime};

use super::held::Held;
use super::rungs::{Ladder, Ladders};
use crate::entry::{Entry, EntryIndex};

/// See above. Cheap to clone; never changes.
#[derive(Clone, Default, Debug)]
pub(crate) struct Snapshot {
    pub(crate) entries: Arc<EntryIndex>,
    pub(crate) held: Arc<HashMap<Arc<str>, Arc<Held>>>,
    pub(crate) bundle: Option<Arc<Bundle>>,
    pub(crate) federated: Arc<BTreeMap<TrustDomain, Arc<Bundle>>>,
    pub(crate) synced_at: Option<UnixTime>,
    /// The first round of issuing has been tried to its end, or as far as the server had room.
    pub(crate) round_over: bool,
    pub(crate) banned: bool,
    /// What is not fetched ahead and was asked for, and since when. Only entries that there are.
    pub(crate) wanted: Arc<HashMap<Arc<str>, UnixTime>>,
    /// What is kept for when the server is away. Nothing of it is served: whose turn it is becomes held first.
    pub(crate) rungs: Arc<Ladders>,
    /// Of the reserve only what may be needed at once has been read from disk yet: nothing is said of its end, and nothing asked for.
    pub(crate) reading: bool,
}

impl Snapshot {
    /// The SVID to serve for an entry now, if there is one: of the entry's present ID, and valid.
    pub(crate) fn svid(&self, entry: &Entry, now: UnixTime) -> Option<&Arc<Held>> {
        self.held.get(&entry.id).filter(|held| {
            held.svid.id() == &entry.spiffe_id && held.svid.not_before() <= now && now < held.svid.not_after()
        })
    }

    /// Whether this SVID was had ahead, for when no server can be reached.
    pub(crate) fn is_of_reserve(&self, entry: &Entry, held: &Held) -> bool {
        let is_rung = |ladder: &Arc<Ladder>| ladder.has(&held.svid);
        held.was_rung() || self.rungs.get(&entry.id).is_some_and(is_rung)
    }

    /// About what the reserve takes on disk.
    pub(crate) fn reserve_size(&self) -> u64 {
        self.rungs.values().map(|ladder| ladder.size()).sum()
    }

    /// Whether no more is asked for than `limit`. What says what an entry said before it was changed goes when its place is taken, so that it
    /// does not keep anything out until there is as much of it again.
    pub(crate) fn reserve_is_full(&self, limit: u64) -> bool {
        let all = self.reserve_size();
        all >= limit && (all >= limit.saturating_mul(2) || self.fitting_size() >= limit)
    }

    fn fitting_size(&self) -> u64 {
        let each = self.rungs.iter().filter_map(|(id, ladder)| {
            let entry = self.entries.get(id)?;
            let fit = ladder.rungs().iter().filter(|rung| rung.is_of(entry));
            Some(fit.map(|rung| rung.size()).sum::<u64>())
        });
        each.sum()
    }

    /// Until when an entry's identity lasts without a server.
    pub(crate) fn lasts(&self, entry: &Entry, now: UnixTime) -> Option<UnixTime> {
        let served = self.svid(entry, now).map(|held| held.window());
        match self.rungs.get(&entry.id) {
            Some(ladder) => ladder.covers(now, served),
            None => served.map(|served| served.ends),
        }
    }

    /// Whether it is to be had: ahead, or because somebody asked for it.
    pub(crate) fn is_wanted(&self, entry: &Entry) -> bool {
        !entry.on_demand || self.wanted.contains_key(&entry.id)
    }

    /// Whether whoever asks for it waits: it has just been asked for.
    pub(crate) fn is_coming(&self, entry: &Entry, now: UnixTime) -> bool {
        let since = self.wanted.get(&entry.id);
        entry.on_demand && since.is_none_or(|since| now < since.saturating_add(PATIENCE))
    }

    pub(crate) fn same_bundle(&self, other: &Self) -> bool {
        match (&self.bundle, &other.bundle) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (one, two) => one.is_none() && two.is_none(),
        }
    }

    /// The next moment at which something in here begins or ceases to be served by itself.
    pub(crate) fn next_change(&self, now: UnixTime) -> Option<UnixTime> {
        let svids = self
            .held
            .values()
            .flat_map(|held| [held.svid.not_before(), held.svid.not_after()]);
        let missing = self.wanted.iter().filter(|(id, _)| !self.held.contains_key(*id));
        svids
            .chain(missing.map(|(_, since)| since.saturating_add(PATIENCE)))
            .chain(self.entries.iter().filter_map(|entry| entry.expires_at))
            .filter(|at| *at > now)
            .min()
    }
}

/// As long as the Workload API lets its callers wait: then what else they have is served.
const PATIENCE: Duration = Duration::from_secs(5);
