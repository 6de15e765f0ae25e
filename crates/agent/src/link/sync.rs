//! SPIRE's way of asking the server what this node may have: entries, its own bundle, the bundles of others.
//!
//! Invariant: what a server sends is bounded, and refused whole when it is older than what the node has seen; nothing here adopts anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use landfast_identity::{Bundle, TrustDomain};
use landfast_proto::spire::api::server::bundle::v1 as bundle_api;
use landfast_proto::spire::api::server::entry::v1 as entry_api;
use landfast_proto::spire::api::types;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::bundle_wire;
use super::failure::LinkError;
use super::known::{Record, Records};
use super::revision::{Floor, Revision};
use super::rpc::{self, MAX_MESSAGE};
use super::speaks::introduced;

/// The entries, and the revision of the registry that they come from, where the server says it.
pub(super) async fn entries(
    channel: &Channel,
    known: &Records,
    trust_domain: &TrustDomain,
    floor: &Floor,
) -> Result<(Records, Option<Revision>), LinkError> {
    match sync_entries(channel.clone(), known, trust_domain, floor).await {
        Err(LinkError::Refused {
            code: tonic::Code::Unimplemented,
            ..
        }) => all_entries(channel.clone(), known, trust_domain, floor).await,
        synced => synced,
    }
}

/// For servers older than the two-phase synchronisation (SPIRE before 1.8.7).
async fn all_entries(
    channel: Channel,
    known: &Records,
    trust_domain: &TrustDomain,
    floor: &Floor,
) -> Result<(Records, Option<Revision>), LinkError> {
    let mut client =
        entry_api::entry_client::EntryClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let request = entry_api::GetAuthorizedEntriesRequest {
        output_mask: Some(mask()),
    };
    let (answer, said) =
        rpc::call_at(GET_ENTRIES, client.get_authorized_entries(introduced(request))).await?;
    let revision = floor.heard(said);
    floor.admit(GET_ENTRIES, revision)?;
    if answer.entries.len() > MAX_ENTRIES {
        return Err(too_many(GET_ENTRIES));
    }
    let mut current = Records::with_capacity(answer.entries.len());
    for wire in answer.entries {
        let record = Record::new(&wire, None, known.get(&wire.id), trust_domain);
        current.insert(wire.id, record);
    }
    Ok((current, revision))
}

/// SPIRE's two-phase synchronisation: all entries when they fit one page, else revisions first and then what differs.
async fn sync_entries(
    channel: Channel,
    known: &Records,
    trust_domain: &TrustDomain,
    floor: &Floor,
) -> Result<(Records, Option<Revision>), LinkError> {
    let mut client =
        entry_api::entry_client::EntryClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let (requests, outbound) = mpsc::channel(2);
    // The queue is empty and holds two: this cannot wait.
    let first = entry_api::SyncAuthorizedEntriesRequest {
        output_mask: Some(mask()),
        ids: Vec::new(),
    };
    requests.send(first).await.map_err(|_cause| LinkError::Stopping)?;
    let call = client.sync_authorized_entries(introduced(ReceiverStream::new(outbound)));
    let (mut stream, said) = rpc::call_at(SYNC, call).await?;
    let revision = floor.heard(said);
    floor.admit(SYNC, revision)?;
    let answer = next(&mut stream).await?;
    let adopt = |current: &mut Records, entries: Vec<types::Entry>| {
        for wire in entries {
            let record = Record::new(&wire, None, known.get(&wire.id), trust_domain);
            current.insert(wire.id, record);
        }
    };
    let mut current = Records::with_capacity(known.len());
    if answer.entry_revisions.is_empty() {
        if answer.more {
            return Err(LinkError::protocol(SYNC, "entries and revisions are mixed"));
        }
        adopt(&mut current, answer.entries);
        return Ok((current, revision));
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
    Ok((current, revision))
}

/// An entry by what tells its states apart.
pub(super) struct EntrySeen {
    pub(super) id: String,
    pub(super) revision: i64,
    pub(super) created_at: i64,
}

/// As little as shows whether a node holds what it should.
pub(super) struct Seen {
    pub(super) entries: Vec<EntrySeen>,
    pub(super) sequence: u64,
}

/// Asks for that.
pub(super) async fn look(channel: &Channel, floor: &Floor) -> Result<Seen, LinkError> {
    let mut client =
        entry_api::entry_client::EntryClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let request = entry_api::SyncAuthorizedEntriesRequest {
        output_mask: Some(types::EntryMask {
            revision_number: true,
            created_at: true,
            ..Default::default()
        }),
        ids: Vec::new(),
    };
    let call = client.sync_authorized_entries(introduced(futures_util::stream::iter([request])));
    let (mut stream, said) = rpc::call_at(SYNC, call).await?;
    floor.admit(SYNC, floor.heard(said))?;
    let answer = next(&mut stream).await?;
    let entries = if answer.entry_revisions.is_empty() {
        let each = answer.entries.into_iter().map(|wire| EntrySeen {
            id: wire.id,
            revision: wire.revision_number,
            created_at: wire.created_at,
        });
        each.collect()
    } else {
        let each = revisions(&mut stream, answer).await?.into_iter();
        let each = each.map(|wire| EntrySeen {
            id: wire.id,
            revision: wire.revision_number,
            created_at: wire.created_at,
        });
        each.collect()
    };
    let request = bundle_api::GetBundleRequest {
        output_mask: Some(types::BundleMask {
            sequence_number: true,
            ..Default::default()
        }),
    };
    let mut client = bundle_api::bundle_client::BundleClient::new(channel.clone());
    let (bundle, _) = rpc::call_at(GET_BUNDLE, client.get_bundle(request)).await?;
    Ok(Seen {
        entries,
        sequence: bundle.sequence_number,
    })
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

pub(super) fn too_many(method: &'static str) -> LinkError {
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
        additional_attributes: true,
        ..Default::default()
    }
}

pub(super) async fn own_bundle(
    channel: Channel,
    trust_domain: &TrustDomain,
    floor: &Floor,
    entries_of: Option<Revision>,
) -> Result<(Bundle, Option<Revision>), LinkError> {
    let mut client =
        bundle_api::bundle_client::BundleClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let request = bundle_api::GetBundleRequest { output_mask: None };
    let (wire, said) = rpc::call_at(GET_BUNDLE, client.get_bundle(request)).await?;
    let revision = floor.heard(said);
    floor.admit(GET_BUNDLE, revision)?;
    // Older servers of ours say it only of the entries.
    let revision = revision.or(entries_of);
    floor.admit_bundle(GET_BUNDLE, revision, wire.sequence_number)?;
    let bundle =
        bundle_wire::parse(&wire, trust_domain).map_err(|what| LinkError::protocol(GET_BUNDLE, what))?;
    if bundle.x509_authorities().is_empty() {
        // With this bundle the next connection would fail for good.
        return Err(LinkError::protocol(
            GET_BUNDLE,
            "the bundle has no X.509 authority",
        ));
    }
    Ok((bundle, revision))
}

/// A bundle the server does not have is left out; one that fails otherwise stays as it was.
pub(super) async fn federated_bundles(
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
pub(super) const MAX_ENTRIES: usize = 65_536;
const PARALLEL: usize = 10;
/// SPIRE's servers answer from what they read every five seconds.
pub(crate) const CONFIRM_AFTER: Duration = Duration::from_secs(6);
