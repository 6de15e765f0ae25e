//! A registration entry as the agent uses it, and an index over many.
//!
//! Invariant: an [`Entry`] passed every rule an agent applies on receipt; the index never misses a matching entry.

mod offline;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use landfast_identity::{Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime};
use landfast_proto::spire::api::types;

use offline::NOTHING;
pub(crate) use offline::Offline;

/// What the server says about one workload identity. Only what the agent needs is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Arc<str>,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) selectors: SelectorSet,
    pub(crate) federates_with: Vec<TrustDomain>,
    pub(crate) hint: String,
    pub(crate) expires_at: Option<UnixTime>,
    pub(crate) revision: i64,
    pub(crate) created_at: i64,
    /// Its holder may administer the server, or sign below it: never for anybody but the process that it describes.
    pub(crate) privileged: bool,
    /// Its X.509-SVID is fetched when somebody asks for it, not ahead: SPIRE's `disable_x509_svid_prefetch`.
    pub(crate) on_demand: bool,
    /// What it asks for in case the server is away: servers of ours say it, beside the entry. What counts is what [`EntryIndex::offline`] says.
    pub(crate) offline: Offline,
}

/// Why an entry from the server is not used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EntryRefusal {
    #[error("entry has no id or one longer than {MAX_ENTRY_ID} bytes")]
    Id,
    #[error("entry {0} has no valid SPIFFE ID of this trust domain")]
    SpiffeId(String),
    #[error("entry {0} has no selectors, a malformed one, or more than {MAX_SELECTORS}")]
    Selectors(String),
    #[error("entry {0} names a malformed trust domain to federate with, or more than {MAX_FEDERATED}")]
    FederatesWith(String),
    #[error("entry {0} has a hint longer than {MAX_HINT} bytes")]
    Hint(String),
}

impl Entry {
    /// Checks an entry on receipt. `Ok(None)` for an entry that is not for workloads of this socket (`store_svid`).
    pub(crate) fn parse(
        wire: &types::Entry,
        trust_domain: &TrustDomain,
    ) -> Result<Option<Self>, EntryRefusal> {
        if wire.id.is_empty() || wire.id.len() > MAX_ENTRY_ID {
            return Err(EntryRefusal::Id);
        }
        if wire.store_svid {
            return Ok(None);
        }
        let id = || wire.id.clone();
        let spiffe_id =
            spiffe_id(wire.spiffe_id.as_ref(), trust_domain).ok_or_else(|| EntryRefusal::SpiffeId(id()))?;
        if wire.selectors.is_empty() || wire.selectors.len() > MAX_SELECTORS {
            return Err(EntryRefusal::Selectors(id()));
        }
        let selectors = wire
            .selectors
            .iter()
            .map(|selector| Selector::new(&selector.r#type, &selector.value).ok())
            .collect::<Option<SelectorSet>>()
            .ok_or_else(|| EntryRefusal::Selectors(id()))?;
        if wire.federates_with.len() > MAX_FEDERATED {
            return Err(EntryRefusal::FederatesWith(id()));
        }
        let mut federates_with = wire
            .federates_with
            .iter()
            .map(|name| TrustDomain::parse(name).ok())
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| EntryRefusal::FederatesWith(id()))?;
        federates_with.sort();
        federates_with.dedup();
        if wire.hint.len() > MAX_HINT {
            return Err(EntryRefusal::Hint(id()));
        }
        Ok(Some(Self {
            id: wire.id.as_str().into(),
            spiffe_id,
            selectors,
            federates_with,
            hint: wire.hint.clone(),
            expires_at: (wire.expires_at != 0).then(|| UnixTime::from_secs(wire.expires_at)),
            revision: wire.revision_number,
            created_at: wire.created_at,
            privileged: wire.admin || wire.downstream,
            on_demand: wire
                .additional_attributes
                .is_some_and(|attributes| attributes.disable_x509_svid_prefetch),
            offline: Offline::default(),
        }))
    }

    /// Whether the entry itself has run out. An entry without an end never has.
    pub(crate) fn is_over(&self, now: UnixTime) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

fn spiffe_id(wire: Option<&types::Spiffeid>, trust_domain: &TrustDomain) -> Option<SpiffeId> {
    let wire = wire?;
    let id = SpiffeId::from_parts(&TrustDomain::parse(&wire.trust_domain).ok()?, &wire.path).ok()?;
    let ours = *id.trust_domain() == *trust_domain && !id.path().is_empty() && !id.is_reserved();
    ours.then_some(id)
}

/// All entries of this node, found by selectors without a scan: each is filed under its rarest selector.
#[derive(Default, Debug)]
pub(crate) struct EntryIndex {
    by_id: BTreeMap<Arc<str>, Arc<Entry>>,
    by_selector: HashMap<Selector, Vec<Arc<Entry>>>,
    privileged: HashSet<SpiffeId>,
    uses_hashes: bool,
    any_on_demand: bool,
}

impl EntryIndex {
    pub(crate) fn new(entries: impl IntoIterator<Item = Arc<Entry>>) -> Self {
        let by_id: BTreeMap<_, _> = entries
            .into_iter()
            .map(|entry| (Arc::clone(&entry.id), entry))
            .collect();
        let privileged = by_id.values().filter(|entry| entry.privileged);
        let privileged = privileged.map(|entry| entry.spiffe_id.clone()).collect();
        let mut uses: HashMap<&Selector, usize> = HashMap::new();
        for selector in by_id.values().flat_map(|entry| entry.selectors.iter()) {
            *uses.entry(selector).or_default() += 1;
        }
        let uses_hashes = uses.keys().any(|selector| is_hash(selector));
        let mut by_selector: HashMap<Selector, Vec<Arc<Entry>>> = HashMap::new();
        for entry in by_id.values() {
            if let Some(rarest) = entry
                .selectors
                .iter()
                .min_by_key(|selector| uses.get(selector).copied())
            {
                by_selector
                    .entry(rarest.clone())
                    .or_default()
                    .push(Arc::clone(entry));
            }
        }
        let any_on_demand = by_id.values().any(|entry| entry.on_demand);
        Self {
            by_id,
            by_selector,
            privileged,
            uses_hashes,
            any_on_demand,
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Entry>> {
        self.by_id.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_id.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether some entry asks for the hash of a binary. Without one, nothing is hashed.
    pub(crate) fn uses_hashes(&self) -> bool {
        self.uses_hashes
    }

    /// Whether there is an entry whose SVID is fetched only when it is asked for.
    pub(crate) fn any_on_demand(&self) -> bool {
        self.any_on_demand
    }

    /// Whether some entry makes holders of this ID administrators, or lets them sign: servers go by the ID, not by the entry that it came from.
    pub(crate) fn is_privileged(&self, id: &SpiffeId) -> bool {
        self.privileged.contains(id)
    }

    /// What an entry of this index has in case the server is away: nothing, if it or another with its ID is privileged. Such rights end with
    /// their entry.
    pub(crate) fn offline<'a>(&self, entry: &'a Entry) -> &'a Offline {
        match self.is_privileged(&entry.spiffe_id) {
            true => &NOTHING,
            false => &entry.offline,
        }
    }

    /// All entries a process with these selectors is entitled to, by their IDs, as SPIRE's agents have them. Who must not say a hint twice
    /// takes [`one_for_each_hint`] of them.
    pub(crate) fn matching(&self, selectors: &SelectorSet, now: UnixTime) -> Vec<Arc<Entry>> {
        let mut found: Vec<Arc<Entry>> = selectors
            .iter()
            .filter_map(|selector| self.by_selector.get(selector))
            .flatten()
            .filter(|entry| entry.selectors.is_subset_of(selectors) && !entry.is_over(now))
            .cloned()
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }
}

/// Of those with the same hint the oldest, in the order given (Workload API §5.2.1: hints are unique within a response).
pub(crate) fn one_for_each_hint(mut entries: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
    let mut oldest: HashMap<&str, (i64, &Arc<str>)> = HashMap::new();
    for entry in entries.iter().filter(|entry| !entry.hint.is_empty()) {
        let age = (entry.created_at, &entry.id);
        oldest
            .entry(&entry.hint)
            .and_modify(|oldest| *oldest = age.min(*oldest))
            .or_insert(age);
    }
    let kept: HashSet<Arc<str>> = oldest.into_values().map(|(_, id)| Arc::clone(id)).collect();
    entries.retain(|entry| entry.hint.is_empty() || kept.contains(&entry.id));
    entries
}

fn is_hash(selector: &Selector) -> bool {
    selector.kind() == "unix" && selector.value().starts_with("sha256:")
}

/// Bounds on one entry; the number of entries is bounded where they are received.
const MAX_ENTRY_ID: usize = 255;
const MAX_SELECTORS: usize = 256;
const MAX_FEDERATED: usize = 256;
/// Workload API §8.
const MAX_HINT: usize = 1024;

#[cfg(test)]
#[path = "entry/tests.rs"]
mod tests;
