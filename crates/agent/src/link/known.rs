//! What the server has said of this node so far: its entries and bundles, and by which versions the server knows them.
//!
//! Invariant: a poll or a step is adopted whole or changes nothing. An entry that is missing from the answer to a poll is gone, and so is one
//! with a tombstone; an answer without any, of a server that does not say how old its answers are, is believed when the server, asked again
//! some seconds later, still has none.

mod restored;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{Bundle, TrustDomain};
use landfast_proto::landfast::sync::v1 as sync_api;
use landfast_proto::spire::api::types;
use prost::bytes::Bytes;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::bundle_wire;
use super::failure::LinkError;
use super::revision::Floor;
use super::step::{SUBSCRIBE, Step};
use super::sync::{self, MAX_ENTRIES, Seen, too_many};
use crate::entry::{Entry, Offline};
use crate::keeper::state::{Pushed, Synced};

/// Everything; the next poll asks only for what differs, and a subscription begins with it.
pub(crate) struct Known {
    entries: Records,
    /// Of this trust domain; `None` until anything is known.
    own: Option<Arc<Bundle>>,
    federated: BTreeMap<TrustDomain, Arc<Bundle>>,
    /// The server's words for those bundles that it sent on a subscription.
    digests: BTreeMap<TrustDomain, Bytes>,
    /// Since when the server says that there are no entries, and is not believed yet.
    none_since: Option<Instant>,
    confirm_after: Duration,
}

/// By entry ID. Bounded by [`MAX_ENTRIES`].
pub(super) type Records = HashMap<String, Record>;

#[derive(Clone)]
pub(super) struct Record {
    pub(super) revision: i64,
    pub(super) created_at: i64,
    /// The server's word for what a subscription brought; 0 when this came otherwise.
    version: u64,
    /// `None` when the entry is not used: refused, or not for workloads here.
    entry: Option<Arc<Entry>>,
}

impl Known {
    /// Nothing yet. An answer that takes away all entries must be repeated after `confirm_after`.
    pub(crate) fn new(confirm_after: Duration) -> Self {
        Self {
            entries: Records::new(),
            own: None,
            federated: BTreeMap::new(),
            digests: BTreeMap::new(),
            none_since: None,
            confirm_after,
        }
    }

    /// Forgets everything: the server has shut this node out.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.confirm_after);
    }

    /// How long to wait before the server is asked whether there are really no entries any more.
    pub(crate) fn confirm_in(&self) -> Option<Duration> {
        let asked = self.none_since?.elapsed();
        Some(self.confirm_after.saturating_sub(asked))
    }

    /// The bundle of this trust domain, once anything is known.
    pub(super) fn own_bundle(&self) -> Option<&Arc<Bundle>> {
        self.own.as_ref()
    }

    /// Polls once.
    pub(super) async fn refresh(
        &mut self,
        channel: &Channel,
        trust_domain: &TrustDomain,
        floor: &mut Floor,
    ) -> Result<Synced, LinkError> {
        let (entries, revision) = sync::entries(channel, &self.entries, trust_domain, floor).await?;
        // Whoever says how old it is and is not too old knows what it says.
        let entries = match revision {
            Some(_) => self.believed_at_once(entries),
            None => self.believed(entries),
        };
        let (bundle, bundle_revision) =
            sync::own_bundle(channel.clone(), trust_domain, floor, revision).await?;
        let used = || entries.values().filter_map(|record| record.entry.as_ref());
        let names: BTreeSet<TrustDomain> = used()
            .flat_map(|entry| entry.federates_with.iter().cloned())
            .collect();
        let federated = sync::federated_bundles(channel, names, trust_domain, &self.federated).await;
        let bundle = Arc::new(bundle);
        let synced = Synced {
            entries: used().cloned().collect(),
            bundle: Arc::clone(&bundle),
            federated: federated.clone(),
        };
        floor.raise(revision.max(bundle_revision));
        floor.hold_bundle(bundle_revision, bundle.sequence());
        self.entries = entries;
        self.adopt_bundles(bundle, federated);
        Ok(synced)
    }

    fn adopt_bundles(&mut self, own: Arc<Bundle>, federated: BTreeMap<TrustDomain, Arc<Bundle>>) {
        let (old_own, old) = (self.own.take(), std::mem::take(&mut self.federated));
        self.digests.retain(|name, _| {
            let (before, now) = match own.trust_domain() == name {
                true => (old_own.as_ref(), Some(&own)),
                false => (old.get(name), federated.get(name)),
            };
            before
                .zip(now)
                .is_some_and(|(before, now)| before.content_eq(now))
        });
        self.own = Some(own);
        self.federated = federated;
    }

    fn believed_at_once(&mut self, answer: Records) -> Records {
        self.none_since = None;
        answer
    }

    /// What to go on with. A server whose view of its nodes is for a moment not complete answers without any error that this node has no
    /// entries (SPIRE's do after a node was evicted and has attested again, until their cache is rebuilt); all programs of the node would
    /// lose their identities.
    fn believed(&mut self, answer: Records) -> Records {
        let used = |records: &Records| records.values().filter(|record| record.entry.is_some()).count();
        let lost = used(&self.entries);
        if lost == 0 || used(&answer) > 0 {
            return self.believed_at_once(answer);
        }
        let since = *self.none_since.get_or_insert_with(|| {
            tracing::warn!(entries = lost, confirm_after = ?self.confirm_after, "the server has no entries for this node any more; it is asked again before they are given up");
            Instant::now()
        });
        if since.elapsed() < self.confirm_after {
            return self.entries.clone();
        }
        self.believed_at_once(answer)
    }

    /// What a subscription begins with.
    pub(super) fn held(&self) -> (Vec<sync_api::HeldEntry>, Vec<sync_api::HeldBundle>) {
        let entries = self.entries.iter().map(|(id, record)| sync_api::HeldEntry {
            id: id.clone(),
            version: record.version,
        });
        let names = self.own.iter().map(|own| own.trust_domain());
        let bundles = names
            .chain(self.federated.keys())
            .map(|name| sync_api::HeldBundle {
                trust_domain: name.as_str().to_owned(),
                digest: self.digests.get(name).cloned().unwrap_or_default(),
            });
        (entries.collect(), bundles.collect())
    }

    /// So that the next subscription brings everything anew.
    pub(super) fn forget_versions(&mut self) {
        self.digests.clear();
        for record in self.entries.values_mut() {
            record.version = 0;
        }
    }

    /// Whether the server's short answer is about what is held.
    pub(super) fn agrees_with(&self, seen: &Seen) -> bool {
        let current = |one: &sync::EntrySeen| {
            self.entries
                .get(&one.id)
                .is_some_and(|record| record.revision == one.revision && record.created_at == one.created_at)
        };
        let ids: HashSet<&str> = seen.entries.iter().map(|one| one.id.as_str()).collect();
        ids.len() == self.entries.len()
            && seen.entries.iter().all(current)
            && self
                .own
                .as_ref()
                .is_some_and(|own| own.sequence() == seen.sequence)
    }

    /// Adopts a step, and answers what is different by it.
    pub(super) fn apply(&mut self, step: Step, trust_domain: &TrustDomain) -> Result<Pushed, LinkError> {
        let bundles = self.check(&step, trust_domain)?;
        let mut pushed = Pushed::default();
        for put in step.put {
            let (Some(wire), version) = (put.entry, put.version) else {
                continue;
            };
            let offline = Some(Offline::of(put.policy.as_ref()));
            let old = self.entries.get(&wire.id);
            let record = Record {
                version,
                ..Record::new(&wire, offline, old, trust_domain)
            };
            match (old.and_then(|old| old.entry.as_ref()), &record.entry) {
                (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
                (_, Some(new)) => pushed.put.push(Arc::clone(new)),
                (Some(old), None) => pushed.gone.push(Arc::clone(&old.id)),
                (None, None) => {}
            }
            self.entries.insert(wire.id, record);
        }
        for gone in step.gone {
            let entry = self
                .entries
                .remove(&gone.entry_id)
                .and_then(|record| record.entry);
            pushed.gone.extend(entry.map(|entry| Arc::clone(&entry.id)));
        }
        let mut federated = false;
        for name in bundles.gone {
            self.digests.remove(&name);
            federated |= self.federated.remove(&name).is_some();
        }
        for (name, bundle, digest) in bundles.put {
            self.digests.insert(name.clone(), digest);
            if name == *trust_domain {
                self.own = Some(Arc::clone(&bundle));
                pushed.bundle = Some(bundle);
            } else {
                federated = true;
                self.federated.insert(name, bundle);
            }
        }
        pushed.federated = federated.then(|| self.federated.clone());
        self.none_since = None;
        Ok(pushed)
    }

    /// Refuses a step that contradicts itself, has more than one node can have, or would leave the node without a bundle.
    fn check(&self, step: &Step, trust_domain: &TrustDomain) -> Result<Bundles, LinkError> {
        let refuse = |what: &str| LinkError::protocol(SUBSCRIBE, what);
        let mut named = HashSet::new();
        let mut more = 0;
        for put in &step.put {
            let wire = put
                .entry
                .as_ref()
                .ok_or_else(|| refuse("an entry is missing from its change"))?;
            more += usize::from(!self.entries.contains_key(&wire.id));
            if !named.insert(wire.id.as_str()) {
                return Err(refuse("one step names an entry twice"));
            }
        }
        let mut less = 0;
        for gone in &step.gone {
            less += usize::from(self.entries.contains_key(&gone.entry_id));
            if !named.insert(gone.entry_id.as_str()) {
                return Err(refuse("one step names an entry twice"));
            }
        }
        if self.entries.len() + more - less > MAX_ENTRIES {
            return Err(too_many(SUBSCRIBE));
        }
        let bundles = Bundles::read(step, trust_domain)?;
        let has_own = self.own.is_some() || bundles.put.iter().any(|(name, ..)| name == trust_domain);
        if !has_own {
            return Err(refuse("the first step holds no bundle of this trust domain"));
        }
        let gone = bundles.gone.iter();
        let less = gone.filter(|name| self.federated.contains_key(*name)).count();
        let put = bundles.put.iter();
        let more = put
            .filter(|(name, ..)| name != trust_domain && !self.federated.contains_key(name))
            .count();
        if self.federated.len() + more - less > MAX_BUNDLES {
            return Err(refuse("it holds more bundles than one node can have"));
        }
        Ok(bundles)
    }
}

/// Those of one step that can be used.
struct Bundles {
    put: Vec<(TrustDomain, Arc<Bundle>, Bytes)>,
    gone: Vec<TrustDomain>,
}

impl Bundles {
    fn read(step: &Step, own: &TrustDomain) -> Result<Self, LinkError> {
        let refuse = |what: &str| LinkError::protocol(SUBSCRIBE, what);
        let name_of =
            |text: &str| TrustDomain::parse(text).map_err(|_cause| refuse("a bundle is of no trust domain"));
        let mut named = BTreeSet::new();
        let mut put = Vec::new();
        for current in &step.bundles {
            let wire = current
                .bundle
                .as_ref()
                .ok_or_else(|| refuse("a bundle is missing from its change"))?;
            let name = name_of(&wire.trust_domain)?;
            if !named.insert(name.clone()) {
                return Err(refuse("one step names a bundle twice"));
            }
            match bundle_wire::parse(wire, &name) {
                Ok(bundle) if name == *own && bundle.x509_authorities().is_empty() => {
                    return Err(refuse("the bundle has no X.509 authority"));
                }
                Ok(bundle) => put.push((name, Arc::new(bundle), current.digest.clone())),
                Err(what) if name == *own => return Err(refuse(&what)),
                // As in a poll: one that fails stays as it was. Without its digest the next subscription asks for it again.
                Err(what) => {
                    tracing::warn!(trust_domain = %name, error = what, "federated bundle not refreshed");
                }
            }
        }
        let mut gone = Vec::new();
        for text in &step.bundles_gone {
            let name = name_of(text)?;
            if name == *own || !named.insert(name.clone()) {
                return Err(refuse(
                    "one step names a bundle twice, or takes away that of this trust domain",
                ));
            }
            gone.push(name);
        }
        Ok(Self { put, gone })
    }
}

impl Record {
    /// Keeps the parsed form of what did not change, so that memory does not churn. Without a word on it in the answer (SPIRE's way to ask has none)
    /// what the same entry asked for in case the server is away stays.
    pub(super) fn new(
        wire: &types::Entry,
        offline: Option<Offline>,
        old: Option<&Self>,
        trust_domain: &TrustDomain,
    ) -> Self {
        let as_before = || {
            let old = old.filter(|old| old.created_at == wire.created_at)?;
            old.entry.as_ref().map(|entry| entry.offline.clone())
        };
        let offline = offline.or_else(as_before).unwrap_or_default();
        let known =
            old.filter(|old| old.revision == wire.revision_number && old.created_at == wire.created_at);
        let parsed = Entry::parse(wire, trust_domain);
        let entry = match parsed.map(|found| found.map(|entry| Entry { offline, ..entry })) {
            Ok(Some(entry)) => match old.and_then(|old| old.entry.as_ref()) {
                Some(same) if **same == entry => Some(Arc::clone(same)),
                _ => Some(Arc::new(entry)),
            },
            Ok(None) => None,
            Err(refusal) => {
                // Said once for each revision, not every round.
                if known.is_none() {
                    tracing::warn!(%refusal, "entry from the server is not used");
                }
                None
            }
        };
        Self {
            revision: wire.revision_number,
            created_at: wire.created_at,
            version: known.map_or(0, |known| known.version),
            entry,
        }
    }
}

/// Trust domains that one node can federate with.
const MAX_BUNDLES: usize = 4096;

#[cfg(test)]
mod tests;
