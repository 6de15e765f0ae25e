//! One round of asking the server what this node may have: entries, its own bundle, the bundles of others.
//!
//! Invariant: all of it or nothing. A round that fails half way changes nothing; what was known stays. An entry that is missing from an
//! answer is gone; an answer without any is believed when the server, asked again some seconds later, still has none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use landfast_identity::{Bundle, TrustDomain};
use landfast_proto::spire::api::server::bundle::v1 as bundle_api;
use landfast_proto::spire::api::server::entry::v1 as entry_api;
use landfast_proto::spire::api::types;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::bundle_wire;
use super::failure::LinkError;
use super::rpc::{self, MAX_MESSAGE};
use crate::entry::Entry;
use crate::keeper::state::Synced;

/// What the last good round brought; the next one asks only for what differs.
pub(crate) struct Known {
    entries: Records,
    federated: BTreeMap<TrustDomain, Arc<Bundle>>,
    /// Since when the server says that there are no entries, and is not believed yet.
    none_since: Option<Instant>,
    confirm_after: Duration,
}

/// By entry ID. Bounded by [`MAX_ENTRIES`].
type Records = HashMap<String, Record>;

#[derive(Clone)]
struct Record {
    revision: i64,
    created_at: i64,
    /// `None` when the entry is not used: refused, or not for workloads here.
    entry: Option<Arc<Entry>>,
}

impl Known {
    /// Nothing yet. An answer that takes away all entries must be repeated after `confirm_after`.
    pub(crate) fn new(confirm_after: Duration) -> Self {
        Self {
            entries: Records::new(),
            federated: BTreeMap::new(),
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

    /// Runs one round.
    pub(crate) async fn refresh(
        &mut self,
        channel: &Channel,
        trust_domain: &TrustDomain,
    ) -> Result<Synced, LinkError> {
        let entries = match sync_entries(channel.clone(), &self.entries, trust_domain).await {
            Err(LinkError::Refused {
                code: tonic::Code::Unimplemented,
                ..
            }) => all_entries(channel.clone(), &self.entries, trust_domain).await?,
            synced => synced?,
        };
        let entries = self.believed(entries);
        let bundle = own_bundle(channel.clone(), trust_domain).await?;
        let used = || entries.values().filter_map(|record| record.entry.as_ref());
        let names: BTreeSet<TrustDomain> = used()
            .flat_map(|entry| entry.federates_with.iter().cloned())
            .collect();
        let federated = federated_bundles(channel, names, trust_domain, &self.federated).await;
        let synced = Synced {
            entries: used().cloned().collect(),
            bundle: Arc::new(bundle),
            federated: federated.clone(),
        };
        self.entries = entries;
        self.federated = federated;
        Ok(synced)
    }

    /// What to go on with. A server whose view of its nodes is for a moment not complete answers without any error that this node has no
    /// entries (SPIRE's do after a node was evicted and has attested again, until their cache is rebuilt); all programs of the node would
    /// lose their identities.
    fn believed(&mut self, answer: Records) -> Records {
        let used = |records: &Records| records.values().filter(|record| record.entry.is_some()).count();
        let lost = used(&self.entries);
        if lost == 0 || used(&answer) > 0 {
            self.none_since = None;
            return answer;
        }
        let since = *self.none_since.get_or_insert_with(|| {
            tracing::warn!(entries = lost, confirm_after = ?self.confirm_after, "the server has no entries for this node any more; it is asked again before they are given up");
            Instant::now()
        });
        if since.elapsed() < self.confirm_after {
            return self.entries.clone();
        }
        self.none_since = None;
        answer
    }
}

impl Record {
    /// Keeps the parsed form of what did not change, so that memory does not churn.
    fn new(wire: &types::Entry, old: Option<&Self>, trust_domain: &TrustDomain) -> Self {
        let known =
            old.filter(|old| old.revision == wire.revision_number && old.created_at == wire.created_at);
        let entry = match Entry::parse(wire, trust_domain) {
            Ok(Some(entry)) => match known.and_then(|old| old.entry.as_ref()) {
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
            entry,
        }
    }
}

/// For servers older than the two-phase synchronisation (SPIRE before 1.8.7).
async fn all_entries(
    channel: Channel,
    known: &Records,
    trust_domain: &TrustDomain,
) -> Result<Records, LinkError> {
    let mut client =
        entry_api::entry_client::EntryClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let request = entry_api::GetAuthorizedEntriesRequest {
        output_mask: Some(mask()),
    };
    let answer = rpc::call(GET_ENTRIES, client.get_authorized_entries(request)).await?;
    if answer.entries.len() > MAX_ENTRIES {
        return Err(too_many(GET_ENTRIES));
    }
    let mut current = Records::with_capacity(answer.entries.len());
    for wire in answer.entries {
        let record = Record::new(&wire, known.get(&wire.id), trust_domain);
        current.insert(wire.id, record);
    }
    Ok(current)
}

/// SPIRE's two-phase synchronisation: all entries when they fit one page, else revisions first and then what differs.
async fn sync_entries(
    channel: Channel,
    known: &Records,
    trust_domain: &TrustDomain,
) -> Result<Records, LinkError> {
    let mut client =
        entry_api::entry_client::EntryClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let (requests, outbound) = mpsc::channel(2);
    // The queue is empty and holds two: this cannot wait.
    let first = entry_api::SyncAuthorizedEntriesRequest {
        output_mask: Some(mask()),
        ids: Vec::new(),
    };
    requests.send(first).await.map_err(|_cause| LinkError::Stopping)?;
    let mut stream = rpc::call(
        SYNC,
        client.sync_authorized_entries(ReceiverStream::new(outbound)),
    )
    .await?;
    let answer = next(&mut stream).await?;
    let adopt = |current: &mut Records, entries: Vec<types::Entry>| {
        for wire in entries {
            let record = Record::new(&wire, known.get(&wire.id), trust_domain);
            current.insert(wire.id, record);
        }
    };
    let mut current = Records::with_capacity(known.len());
    if answer.entry_revisions.is_empty() {
        if answer.more {
            return Err(LinkError::protocol(SYNC, "entries and revisions are mixed"));
        }
        adopt(&mut current, answer.entries);
        return Ok(current);
    }
    let page_size = answer.entry_revisions.len();
    let mut stale = Vec::new();
    for revision in revisions(&mut stream, answer).await? {
        match known
            .get(&revision.id)
            .filter(|record| is_current(record, &revision))
        {
            Some(record) => drop(current.insert(revision.id, record.clone())),
            None => stale.push(revision.id),
        }
    }
    stale.sort();
    stale.dedup();
    for ids in stale.chunks(page_size) {
        let request = entry_api::SyncAuthorizedEntriesRequest {
            output_mask: None,
            ids: ids.to_vec(),
        };
        requests
            .send(request)
            .await
            .map_err(|_cause| LinkError::protocol(SYNC, "the stream ended early"))?;
        let mut got = 0;
        loop {
            let answer = next(&mut stream).await?;
            got += answer.entries.len();
            if answer.more && answer.entries.is_empty() {
                return Err(empty_page());
            }
            // Ids that have meanwhile gone are skipped by the server; more than was asked for is a fault of its.
            let asked_for = answer
                .entries
                .iter()
                .all(|entry| ids.binary_search(&entry.id).is_ok());
            if !answer.entry_revisions.is_empty() || got > ids.len() || !asked_for {
                return Err(LinkError::protocol(
                    SYNC,
                    "an answer to a request for entries holds something else",
                ));
            }
            adopt(&mut current, answer.entries);
            if !answer.more {
                break;
            }
        }
    }
    Ok(current)
}

async fn revisions(
    stream: &mut Streaming<entry_api::SyncAuthorizedEntriesResponse>,
    first: entry_api::SyncAuthorizedEntriesResponse,
) -> Result<Vec<entry_api::EntryRevision>, LinkError> {
    let mut all = Vec::new();
    let mut answer = first;
    loop {
        if !answer.entries.is_empty() {
            return Err(LinkError::protocol(SYNC, "entries and revisions are mixed"));
        }
        if answer.more && answer.entry_revisions.is_empty() {
            return Err(empty_page());
        }
        all.append(&mut answer.entry_revisions);
        if all.len() > MAX_ENTRIES {
            return Err(too_many(SYNC));
        }
        if !answer.more {
            return Ok(all);
        }
        answer = next(stream).await?;
    }
}

fn too_many(method: &'static str) -> LinkError {
    LinkError::protocol(method, format!("more than {MAX_ENTRIES} entries for one node"))
}

/// A server could send such pages for ever.
fn empty_page() -> LinkError {
    LinkError::protocol(SYNC, "an empty page that promises more")
}

async fn next(
    stream: &mut Streaming<entry_api::SyncAuthorizedEntriesResponse>,
) -> Result<entry_api::SyncAuthorizedEntriesResponse, LinkError> {
    let message = rpc::message(SYNC, stream).await?;
    message.ok_or_else(|| LinkError::protocol(SYNC, "the stream ended early"))
}

fn is_current(record: &Record, revision: &entry_api::EntryRevision) -> bool {
    let same_birth = revision.created_at == 0 || revision.created_at == record.created_at;
    record.revision == revision.revision_number && same_birth
}

/// What the agent uses of an entry. The rest stays with the server.
fn mask() -> types::EntryMask {
    types::EntryMask {
        spiffe_id: true,
        selectors: true,
        federates_with: true,
        expires_at: true,
        revision_number: true,
        store_svid: true,
        hint: true,
        created_at: true,
        admin: true,
        downstream: true,
        ..Default::default()
    }
}

async fn own_bundle(channel: Channel, trust_domain: &TrustDomain) -> Result<Bundle, LinkError> {
    let mut client =
        bundle_api::bundle_client::BundleClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let request = bundle_api::GetBundleRequest { output_mask: None };
    let wire = rpc::call(GET_BUNDLE, client.get_bundle(request)).await?;
    let bundle =
        bundle_wire::parse(&wire, trust_domain).map_err(|what| LinkError::protocol(GET_BUNDLE, what))?;
    if bundle.x509_authorities().is_empty() {
        // With this bundle the next connection would fail for good.
        return Err(LinkError::protocol(
            GET_BUNDLE,
            "the bundle has no X.509 authority",
        ));
    }
    Ok(bundle)
}

/// A bundle the server does not have is left out; one that fails otherwise stays as it was.
async fn federated_bundles(
    channel: &Channel,
    names: BTreeSet<TrustDomain>,
    own: &TrustDomain,
    known: &BTreeMap<TrustDomain, Arc<Bundle>>,
) -> BTreeMap<TrustDomain, Arc<Bundle>> {
    let fetches = names.into_iter().filter(|name| name != own).map(|name| async {
        let fetched = federated_bundle(channel.clone(), &name).await;
        (name, fetched)
    });
    let mut out = BTreeMap::new();
    let mut fetched = futures_util::stream::iter(fetches).buffer_unordered(PARALLEL);
    while let Some((name, result)) = fetched.next().await {
        match result {
            Ok(bundle) => drop(out.insert(name, Arc::new(bundle))),
            Err(LinkError::Refused {
                code: tonic::Code::NotFound,
                ..
            }) => {}
            Err(error) => {
                tracing::warn!(trust_domain = %name, error = landfast_daemon::error_chain(&error), "federated bundle not refreshed");
                if let Some(old) = known.get(&name) {
                    out.insert(name, Arc::clone(old));
                }
            }
        }
    }
    out
}

async fn federated_bundle(channel: Channel, name: &TrustDomain) -> Result<Bundle, LinkError> {
    let mut client =
        bundle_api::bundle_client::BundleClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let request = bundle_api::GetFederatedBundleRequest {
        trust_domain: name.as_str().to_owned(),
        output_mask: None,
    };
    let wire = rpc::call(GET_FEDERATED, client.get_federated_bundle(request)).await?;
    bundle_wire::parse(&wire, name).map_err(|what| LinkError::protocol(GET_FEDERATED, what))
}

const SYNC: &str = "SyncAuthorizedEntries";
const GET_ENTRIES: &str = "GetAuthorizedEntries";
const GET_BUNDLE: &str = "GetBundle";
const GET_FEDERATED: &str = "GetFederatedBundle";
/// Entries one node can have.
const MAX_ENTRIES: usize = 65_536;
const PARALLEL: usize = 10;
/// SPIRE's servers answer from what they read every five seconds.
pub(crate) const CONFIRM_AFTER: Duration = Duration::from_secs(6);
