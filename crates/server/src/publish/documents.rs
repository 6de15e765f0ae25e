//! What is published, ready to be sent. Invariant: it is the bundle in use at the moment of asking, whole, and each content has its own tag.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use landfast_identity::Bundle;
use ring::digest::{SHA256, digest};
use serde_json::json;
use tokio::sync::watch;

use super::{Issuer, MargoDiscovery};
use crate::random;

/// One document.
pub(super) struct Document {
    pub(super) body: Bytes,
    /// Strong (RFC 9110 §8.8.3): of the content, so it is the same after a restart and of two servers of one bundle.
    pub(super) tag: HeaderValue,
    pub(super) caching: HeaderValue,
    /// Whether a script of any web page may read it: those of OIDC, as SPIRE's provider says.
    pub(super) for_scripts: bool,
}

/// All documents of one bundle, by path.
pub(super) type Documents = BTreeMap<String, Document>;

/// What is published where.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) path: String,
    pub(super) issuer: Option<Issuer>,
    pub(super) margo: Option<MargoDiscovery>,
    pub(super) refresh_hint: Duration,
}

/// The documents, of whatever bundle is in use.
pub(super) struct Site {
    plan: Plan,
    bundle: watch::Receiver<Arc<Bundle>>,
    made: Mutex<(Arc<Bundle>, Arc<Documents>)>,
}

impl Site {
    pub(super) fn new(plan: Plan, bundle: watch::Receiver<Arc<Bundle>>) -> Self {
        let now = Arc::clone(&bundle.borrow());
        let documents = Arc::new(plan.documents(&now));
        Self {
            plan,
            bundle,
            made: Mutex::new((now, documents)),
        }
    }

    /// Made anew when the bundle has changed since the last time: who asks after a rotation sees it, with nobody to wait for.
    pub(super) fn documents(&self) -> Arc<Documents> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let bundle = Arc::clone(&self.bundle.borrow());
        if !Arc::ptr_eq(&made.0, &bundle) {
            *made = (Arc::clone(&bundle), Arc::new(self.plan.documents(&bundle)));
        }
        Arc::clone(&made.1)
    }
}

impl Plan {
    fn documents(&self, bundle: &Bundle) -> Documents {
        // Who asks once in a hint's time and through several caches never sees an older bundle after a newer one: each of them is younger
        // than his last visit.
        let caching = format!("public, max-age={}", (self.refresh_hint / 2).as_secs());
        let caching = HeaderValue::from_str(&caching).unwrap_or(HeaderValue::from_static("no-cache"));
        let document = |body: String, for_scripts| Document {
            tag: tag(body.as_bytes()),
            body: body.into(),
            caching: caching.clone(),
            for_scripts,
        };
        let hinted = bundle.clone().with_refresh_hint(Some(self.refresh_hint));
        let hinted = hinted.to_jwks();
        let mut documents = Documents::from([(self.path.clone(), document(hinted.clone(), false))]);
        if let Some(margo) = &self.margo {
            let text = margo.document(bundle.trust_domain());
            documents.insert(margo.bundle_path().to_owned(), document(hinted, false));
            documents.insert(margo.path().to_owned(), document(text, false));
        }
        if let Some(issuer) = &self.issuer {
            documents.insert(issuer.keys_path(), document(bundle.oidc_jwks(), true));
            documents.insert(issuer.discovery_path(), document(discovery(issuer, bundle), true));
        }
        documents
    }
}

/// OIDC Discovery §3, with the members of SPIRE's provider; but the algorithms are those that sign.
fn discovery(issuer: &Issuer, bundle: &Bundle) -> String {
    json!({
        "issuer": issuer.as_str(),
        "jwks_uri": issuer.keys_url(),
        // Mandatory, and there is none: tokens are had from the Workload API.
        "authorization_endpoint": "",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": bundle.jwt_algorithms(),
    })
    .to_string()
}

fn tag(body: &[u8]) -> HeaderValue {
    let tag = format!("\"{}\"", random::hex(&digest(&SHA256, body).as_ref()[..16]));
    // Hexadecimal digits always are a header.
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}
