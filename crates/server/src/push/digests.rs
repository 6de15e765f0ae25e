//! Digests of bundles, computed once for all who are told of them. Invariant: a digest is that of the very bundle it is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use landfast_identity::{Bundle, TrustDomain};
use prost::Message as _;
use ring::digest::{SHA256, digest};

use crate::api::convert::bundle_out;

/// By trust domain; at most [`MOST`].
#[derive(Default)]
pub(crate) struct Digests(Mutex<HashMap<TrustDomain, (Arc<Bundle>, Bytes)>>);

impl Digests {
    pub(crate) fn of(&self, bundle: &Arc<Bundle>) -> Bytes {
        let known = |all: &HashMap<TrustDomain, (Arc<Bundle>, Bytes)>| {
            let (same, digest) = all.get(bundle.trust_domain())?;
            Arc::ptr_eq(same, bundle).then(|| digest.clone())
        };
        if let Some(digest) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return digest;
        }
        let wire = bundle_out(bundle, None).encode_to_vec();
        let digest = Bytes::copy_from_slice(&digest(&SHA256, &wire).as_ref()[..LENGTH]);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(
            bundle.trust_domain().clone(),
            (Arc::clone(bundle), digest.clone()),
        );
        digest
    }
}

/// Enough to tell two bundles apart that nobody can choose both of.
const LENGTH: usize = 16;
const MOST: usize = 1024;
