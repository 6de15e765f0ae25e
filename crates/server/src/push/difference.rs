//! What an agent has, and what it is to have. Invariant: after a step the one is the other; a step that would say nothing is none.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use landfast_identity::{Bundle, TrustDomain};
use landfast_proto::landfast::entry::v1 as entry_pb;
use landfast_proto::landfast::sync::v1::{
    AuthorizedEntry, CurrentBundle, SubscribeRequest, SubscribeResponse, Tombstone,
};
use prost::Message as _;

use super::Digests;
use crate::answers::{of_bundle, of_entry};
use crate::api::convert::{bundle_out, entry_out};
use crate::api::policy::policy_out;
use crate::registry::{Revision, Versioned, View};
use crate::reserve::is_powerful;

/// What an agent has: small, and kept as long as it subscribes.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// In the order of their IDs, with their versions on the wire.
    entries: Vec<(Box<str>, u64)>,
    /// In the order of their trust domains, with their digests.
    bundles: Vec<(TrustDomain, Bytes)>,
}

/// What an agent says it has makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeldError {
    #[error("an entry without an ID, or with one of more than {MAX_ID} bytes")]
    EntryId,
    #[error("entry {0} twice")]
    Twice(Box<str>),
    #[error("a bundle of {0}, which is no trust domain, or twice")]
    Domain(String),
}

impl Held {
    /// What an agent says of itself. With `trusted` false the versions are of another history, so they mean nothing here.
    pub(crate) fn parse(said: SubscribeRequest, trusted: bool) -> Result<Self, HeldError> {
        let mut entries = Vec::with_capacity(said.entries.len());
        for entry in said.entries {
            if entry.id.is_empty() || entry.id.len() > MAX_ID {
                return Err(HeldError::EntryId);
            }
            entries.push((entry.id.into_boxed_str(), if trusted { entry.version } else { 0 }));
        }
        entries.sort_unstable();
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(HeldError::Twice(pair[0].0.clone()));
        }
        let mut bundles = Vec::with_capacity(said.bundles.len());
        for bundle in said.bundles {
            let domain = TrustDomain::parse(&bundle.trust_domain)
                .map_err(|_rule| HeldError::Domain(bundle.trust_domain))?;
            bundles.push((domain, bundle.digest));
        }
        bundles.sort_unstable();
        if let Some(pair) = bundles.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(HeldError::Domain(pair[0].0.to_string()));
        }
        Ok(Self { entries, bundles })
    }

    /// Whose bundles it is to be told of.
    pub(super) fn domains(view: &View) -> Vec<TrustDomain> {
        let named = view.entries.iter().flat_map(|entry| &entry.entry.federates_with);
        let mut named: Vec<_> = named.cloned().collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    /// Becomes what `view` and our own bundle are; returns what makes the agent's the same.
    pub(super) fn step(&mut self, view: &View, own: &Arc<Bundle>, digests: &Digests) -> Step {
        let mut step = Step {
            revision: view.revision,
            items: self.step_bundles(view, own, digests),
        };
        let mut entries = Vec::with_capacity(view.entries.len());
        let mut before = std::mem::take(&mut self.entries).into_iter().peekable();
        for found in &view.entries {
            let id = found.entry.id.as_str();
            while let Some((gone, _)) = before.next_if(|(held, _)| **held < *id) {
                step.items.push_back(Item::Gone(gone));
            }
            let version = version(view.revision, found);
            let held = before.next_if(|(held, _)| **held == *id);
            if held.as_ref().is_none_or(|(_, held)| *held != version) {
                step.items.push_back(Item::Put(Arc::clone(found), version));
            }
            entries.push((held.map_or_else(|| id.into(), |(id, _)| id), version));
        }
        step.items.extend(before.map(|(gone, _)| Item::Gone(gone)));
        self.entries = entries;
        step
    }

    fn step_bundles(&mut self, view: &View, own: &Arc<Bundle>, digests: &Digests) -> VecDeque<Item> {
        let mut items = VecDeque::new();
        let before = std::mem::take(&mut self.bundles);
        // Our own first: the agent verifies by it.
        for bundle in [own].into_iter().chain(&view.bundles) {
            let (domain, digest) = (bundle.trust_domain(), digests.of(bundle));
            let held = before.binary_search_by(|(held, _)| held.cmp(domain));
            if !held.is_ok_and(|at| before[at].1 == digest) {
                items.push_back(Item::Bundle(Arc::clone(bundle), digest.clone()));
            }
            self.bundles.push((domain.clone(), digest));
        }
        self.bundles.sort_unstable();
        let stays = |domain: &TrustDomain| {
            let found = self.bundles.binary_search_by(|(held, _)| held.cmp(domain));
            found.is_ok()
        };
        let gone = before.into_iter().filter(|(domain, _)| !stays(domain));
        items.extend(gone.map(|(domain, _)| Item::BundleGone(domain)));
        items
    }
}

/// With the epoch in it: numbers come again in a registry that was restored, with other entries. Wraps rather than fails.
pub(crate) fn version(at: Revision, entry: &Versioned) -> u64 {
    at.epoch.wrapping_shl(32).wrapping_add(entry.version())
}

/// What is to be said, and not yet in its form on the wire: a page is made when there is room for it.
pub(super) struct Step {
    revision: Revision,
    items: VecDeque<Item>,
}

enum Item {
    Bundle(Arc<Bundle>, Bytes),
    BundleGone(TrustDomain),
    Gone(Box<str>),
    Put(Arc<Versioned>, u64),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Bundle(bundle, digest) => of_bundle(bundle) + digest.len(),
            Self::BundleGone(domain) => domain.as_str().len(),
            Self::Gone(id) => id.len() + REVISION,
            Self::Put(found, _) => {
                let said = found
                    .policy
                    .as_ref()
                    .map_or(0, |policy| policy.description.len() + REVISION);
                of_entry(&found.entry) + said
            }
        }
    }
}

impl Step {
    /// Whether there is nothing (more) to say.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// About how large the next message will be.
    pub(super) fn bytes(&self) -> usize {
        let mut bytes = 0;
        for item in &self.items {
            bytes += item.bytes();
            if bytes >= PAGE {
                break;
            }
        }
        bytes + REVISION
    }

    /// The next message; the last has no `more`.
    pub(super) fn page(&mut self) -> SubscribeResponse {
        let mut page = SubscribeResponse {
            revision: Some(revision_out(self.revision)),
            ..SubscribeResponse::default()
        };
        let mut bytes = 0;
        while bytes < PAGE
            && let Some(item) = self.items.pop_front()
        {
            bytes += self.say(item, &mut page);
        }
        page.more = !self.is_empty();
        page
    }

    /// Returns how many bytes that are.
    fn say(&self, item: Item, page: &mut SubscribeResponse) -> usize {
        match item {
            Item::Bundle(bundle, digest) => {
                let bundle = CurrentBundle {
                    bundle: Some(bundle_out(&bundle, None)),
                    digest,
                };
                let bytes = bundle.encoded_len();
                page.bundles.push(bundle);
                bytes
            }
            Item::BundleGone(domain) => {
                page.bundles_gone.push(domain.to_string());
                domain.as_str().len()
            }
            Item::Gone(id) => {
                let gone = Tombstone {
                    entry_id: id.into(),
                    revision: self.revision.number,
                };
                let bytes = gone.encoded_len();
                page.gone.push(gone);
                bytes
            }
            Item::Put(found, version) => {
                // It was set before the entry became so. Nothing is signed for it; what there is of it, the node destroys.
                let policy = found.policy.as_deref().filter(|_| !is_powerful(&found.entry));
                let put = AuthorizedEntry {
                    entry: Some(entry_out(&found.entry, None)),
                    policy: policy.map(policy_out),
                    version,
                };
                let bytes = put.encoded_len();
                page.put.push(put);
                bytes
            }
        }
    }
}

pub(super) fn revision_out(revision: Revision) -> entry_pb::Revision {
    entry_pb::Revision {
        epoch: revision.epoch,
        number: revision.number,
    }
}

/// Bytes of objects after which a message is full; the last of them may reach beyond. An agent that takes none makes the server hold so much,
/// and as much again in HTTP/2.
const PAGE: usize = 64 * 1024;
/// A revision, with the tags around it.
const REVISION: usize = 64;
/// As the registry's.
const MAX_ID: usize = 255;
