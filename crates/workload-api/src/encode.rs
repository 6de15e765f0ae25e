//! Views as messages of the Workload API.
//!
//! Invariant: every message is the full state (Workload API §4.3); maps are keyed by `spiffe://td`; a hint appears once.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use landfast_identity::{Bundle, TrustDomain, X509Svid};
use landfast_proto::workload::{
    JwtBundlesResponse, Jwtsvid, JwtsvidResponse, WitBundlesResponse, Witsvid, WitsvidResponse,
    X509BundlesResponse, X509svid, X509svidResponse,
};
use prost_types::{ListValue, Struct, Value, value::Kind};
use tonic::Status;

use crate::{FetchedJwt, FetchedWit, ServedX509, WorkloadView};

pub(crate) fn no_identity() -> Status {
    Status::permission_denied("no identity issued")
}

/// X509-SVIDs with keys and bundles.
///
/// # Errors
/// PermissionDenied, when there is none.
pub fn x509_svids(view: &WorkloadView) -> Result<X509svidResponse, Status> {
    let bundle = Bytes::from(view.own_bundle.x509_der_concat());
    let mut hints = Hints::default();
    let svids: Vec<_> = told(view)
        .map(|served| X509svid {
            spiffe_id: served.svid.id().to_string(),
            x509_svid: served.svid.chain_der_concat().into(),
            x509_svid_key: Bytes::from_owner(KeyBytes(served.svid.clone())),
            bundle: bundle.clone(),
            hint: hints.unique(&served.hint),
        })
        .collect();
    // Workload API §5.2.1: at least one.
    if svids.is_empty() {
        return Err(no_identity());
    }
    let federated = view
        .federated
        .iter()
        .filter(|bundle| bundle.trust_domain() != view.own_bundle.trust_domain());
    Ok(X509svidResponse {
        svids,
        crl: Vec::new(),
        federated_bundles: federated.map(x509_bundle).collect(),
    })
}

/// Which SVIDs of a view its message has.
pub fn told(view: &WorkloadView) -> impl Iterator<Item = &ServedX509> {
    view.x509.iter().filter(|served| served.told)
}

/// X.509 bundles, our own included.
///
/// # Errors
/// None today.
pub fn x509_bundles(view: &WorkloadView) -> Result<X509BundlesResponse, Status> {
    Ok(X509BundlesResponse {
        crl: Vec::new(),
        bundles: bundles(view).map(x509_bundle).collect(),
    })
}

/// JWT bundles, our own included.
///
/// # Errors
/// None today.
pub fn jwt_bundles(view: &WorkloadView) -> Result<JwtBundlesResponse, Status> {
    let jwks = |bundle: &Arc<Bundle>| (bundle.trust_domain().id_string(), bundle.jwt_jwks().into());
    Ok(JwtBundlesResponse {
        bundles: bundles(view).map(jwks).collect(),
    })
}

/// JWT-SVIDs.
pub fn jwt_svids(fetched: Vec<FetchedJwt>) -> JwtsvidResponse {
    let mut hints = Hints::default();
    let message = |jwt: FetchedJwt| Jwtsvid {
        spiffe_id: jwt.id.to_string(),
        svid: jwt.token,
        hint: hints.unique(&jwt.hint),
    };
    JwtsvidResponse {
        svids: fetched.into_iter().map(message).collect(),
    }
}

/// Unimplemented where there are no WIT-SVIDs (Workload API §7).
pub(crate) fn wit_bundles(view: &WorkloadView) -> Result<WitBundlesResponse, Status> {
    if view.own_bundle.wit_authorities().is_empty() {
        return Err(no_wit());
    }
    let jwks = |bundle: &Arc<Bundle>| (bundle.trust_domain().id_string(), bundle.wit_jwks());
    Ok(WitBundlesResponse {
        bundles: bundles(view).map(jwks).collect(),
    })
}

pub(crate) fn wit_svids(fetched: Vec<FetchedWit>) -> Result<WitsvidResponse, Status> {
    // Workload API §7.2.1: at least one.
    if fetched.is_empty() {
        return Err(no_identity());
    }
    let mut hints = Hints::default();
    let mut svids = Vec::with_capacity(fetched.len());
    for wit in fetched {
        let key = wit.key.to_private_jwk();
        let key = key.map_err(|_cause| Status::internal("a key cannot be written as JWK"))?;
        svids.push(Witsvid {
            spiffe_id: wit.id.to_string(),
            wit_svid: wit.token,
            wit_svid_key: (*key).clone(),
            hint: hints.unique(&wit.hint),
        });
    }
    Ok(WitsvidResponse { svids })
}

/// One sentence for whoever asks, entitled or not: it is about the node, not about him.
pub(crate) fn no_wit() -> Status {
    Status::unimplemented(
        "the WIT-SVID profile is not supported: the server of this node does not issue WIT-SVIDs",
    )
}

/// The claims a caller sees: all of its own trust domain's, of a foreign one's only those that SPIFFE defines.
pub(crate) fn claims(svid: &landfast_identity::JwtSvid, own: &TrustDomain) -> Struct {
    let foreign = svid.id().trust_domain() != own;
    let seen = |name: &str| !foreign || matches!(name, "sub" | "exp" | "aud");
    let mut fields: std::collections::BTreeMap<String, Value> = svid
        .claims()
        .iter()
        .filter(|(name, _)| seen(name))
        .map(|(name, value)| (name.clone(), to_value(value)))
        .collect();
    // One audience may stand as plain text in the token; callers get a list always.
    let audience = svid.audience().iter().map(|audience| Value {
        kind: Some(Kind::StringValue(audience.clone())),
    });
    let list = Kind::ListValue(ListValue {
        values: audience.collect(),
    });
    fields.insert("aud".to_owned(), Value { kind: Some(list) });
    Struct { fields }
}

fn to_value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Json::String(value) => Kind::StringValue(value.clone()),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.iter().map(to_value).collect(),
        }),
        Json::Object(map) => {
            let fields = map
                .iter()
                .map(|(name, value)| (name.clone(), to_value(value)))
                .collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}

fn bundles(view: &WorkloadView) -> impl Iterator<Item = &Arc<Bundle>> {
    let own = view.own_bundle.trust_domain();
    std::iter::once(&view.own_bundle).chain(
        view.federated
            .iter()
            .filter(move |bundle| bundle.trust_domain() != own),
    )
}

fn x509_bundle(bundle: &Arc<Bundle>) -> (String, Bytes) {
    (bundle.trust_domain().id_string(), bundle.x509_der_concat().into())
}

/// Lends the key's own zeroized memory to the message.
struct KeyBytes(Arc<X509Svid>);

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.key().as_pkcs8_der()
    }
}

/// Keeps a hint unique within a message (Workload API §5.2.1): a later identity with the same hint has none. One that is too
/// long (§8) is left out.
#[derive(Default)]
struct Hints(HashSet<String>);

impl Hints {
    fn unique(&mut self, hint: &str) -> String {
        if hint.is_empty() || hint.len() > LONGEST_HINT || !self.0.insert(hint.to_owned()) {
            return String::new();
        }
        hint.to_owned()
    }
}

const LONGEST_HINT: usize = 1024;
