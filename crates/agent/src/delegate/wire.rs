//! What delegates get, as messages. Invariant: trust domains are named as `spiffe://td`, as SPIRE's agent does.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use landfast_identity::{Bundle, SpiffeId, X509Svid, jwt};
use landfast_proto::spire::api::agent::delegatedidentity::v1 as pb;
use landfast_proto::spire::api::types;
use landfast_workload_api::{FetchedJwt, ServedX509};
use prost::bytes::Bytes;
use tonic::Status;

use super::subscription::{Made, State};
use crate::entry::Entry;
use crate::keeper::state::Held;

pub(super) fn x509_svids(
    state: &State<'_>,
) -> Result<Option<Made<pb::SubscribeToX509sviDsResponse>>, Status> {
    state.ask_for_x509();
    let held = |entry: &Arc<Entry>| state.snapshot.svid(entry, state.now).cloned();
    // While the first round is still running, or what was just asked for comes, a part would look like the whole.
    let coming = |entry: &Entry| !state.snapshot.round_over || state.snapshot.is_coming(entry, state.now);
    if state
        .entries
        .iter()
        .any(|entry| coming(entry) && held(entry).is_none())
    {
        return Ok(None);
    }
    let names: BTreeSet<_> = state
        .entries
        .iter()
        .flat_map(|entry| &entry.federates_with)
        .filter(|name| state.snapshot.federated.contains_key(name))
        .map(|name| name.id_string())
        .collect();
    let (mut x509_svids, mut svids) = (Vec::new(), Vec::new());
    for (entry, held) in state
        .entries
        .iter()
        .filter_map(|entry| Some((entry, held(entry)?)))
    {
        x509_svids.push(x509_svid(entry, &held));
        svids.push(ServedX509 {
            reserve: state.snapshot.is_of_reserve(entry, &held),
            svid: Arc::clone(&held.svid),
            hint: entry.hint.clone(),
            entry_id: entry.id.to_string(),
            told: true,
        });
    }
    let message = pb::SubscribeToX509sviDsResponse {
        x509_svids,
        federates_with: names.into_iter().collect(),
    };
    Ok(Some(Made { message, svids }))
}

fn x509_svid(entry: &Entry, held: &Held) -> pb::X509svidWithKey {
    let chain = held.svid.chain().iter();
    pb::X509svidWithKey {
        x509_svid: Some(types::X509svid {
            cert_chain: chain.map(|one| Bytes::copy_from_slice(one.as_der())).collect(),
            id: Some(id(held.svid.id())),
            expires_at: held.svid.not_after().as_secs(),
            hint: entry.hint.clone(),
        }),
        x509_svid_key: Bytes::from_owner(KeyBytes(Arc::clone(&held.svid))),
    }
}

pub(super) fn x509_bundles(
    state: &State<'_>,
) -> Result<Option<Made<pb::SubscribeToX509BundlesResponse>>, Status> {
    let named = by_name(state, |bundle| bundle.x509_der_concat().into());
    let message = |ca_certificates| pb::SubscribeToX509BundlesResponse { ca_certificates };
    Ok(named.map(message).map(Made::without_svids))
}

pub(super) fn jwt_bundles(
    state: &State<'_>,
) -> Result<Option<Made<pb::SubscribeToJwtBundlesResponse>>, Status> {
    let named = by_name(state, |bundle| bundle.jwt_jwks().into());
    let message = |bundles| pb::SubscribeToJwtBundlesResponse { bundles };
    Ok(named.map(message).map(Made::without_svids))
}

/// All bundles that the agent knows, those of identities that this delegate cannot have included: they are no secret.
fn by_name(state: &State<'_>, bytes: impl Fn(&Bundle) -> Bytes) -> Option<HashMap<String, Bytes>> {
    let own = state.snapshot.bundle.as_ref()?;
    let all = state.snapshot.federated.values().chain([own]);
    Some(
        all.map(|bundle| (bundle.trust_domain().id_string(), bytes(bundle)))
            .collect(),
    )
}

pub(super) fn jwt_svid(fetched: FetchedJwt) -> types::Jwtsvid {
    let parsed = jwt::parse_unverified(&fetched.token).ok();
    let issued_at = |svid: &landfast_identity::JwtSvid| svid.claims().get("iat").and_then(|iat| iat.as_i64());
    types::Jwtsvid {
        id: Some(id(&fetched.id)),
        expires_at: parsed.as_ref().map_or(0, |svid| svid.expires_at().as_secs()),
        issued_at: parsed.as_ref().and_then(issued_at).unwrap_or_default(),
        token: fetched.token,
        hint: fetched.hint,
    }
}

pub(crate) fn id(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().as_str().to_owned(),
        path: id.path().to_owned(),
    }
}

/// Lends the key's own zeroized memory to the message.
struct KeyBytes(Arc<X509Svid>);

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.key().as_pkcs8_der()
    }
}
