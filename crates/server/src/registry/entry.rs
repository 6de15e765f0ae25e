//! Registration entries: who may have which identity. Invariant: an [`Entry`] was validated before it was stored.

use std::collections::HashSet;
use std::time::Duration;

use landfast_identity::{SelectorSet, SpiffeId, TrustDomain, UnixTime};

/// A registration entry (field for field `spire.api.types.Entry`).
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, unique for ever.
    pub id: String,
    /// The identity it grants.
    pub spiffe_id: SpiffeId,
    /// The agent, node alias or entry under which it is served; the server's own ID marks a node alias.
    pub parent_id: SpiffeId,
    /// All of these must be attested.
    pub selectors: SelectorSet,
    /// Life of its X.509-SVIDs; `None` is the server's default.
    pub x509_svid_ttl: Option<Duration>,
    /// Life of its JWT-SVIDs; `None` is the server's default.
    pub jwt_svid_ttl: Option<Duration>,
    /// Foreign trust domains whose bundles it gets, in the order given.
    pub federates_with: Vec<TrustDomain>,
    /// Whether its holder may administer the server.
    pub admin: bool,
    /// Whether its holder may run a subordinate server.
    pub downstream: bool,
    /// From then on it grants nothing.
    pub expires_at: Option<UnixTime>,
    /// DNS names of its X.509-SVIDs, in the order given.
    pub dns_names: Vec<String>,
    /// 0 when created, one more with each update.
    pub revision_number: i64,
    /// Whether agents are to put it into a secret store.
    pub store_svid: bool,
    /// Tells identities of one workload apart.
    pub hint: String,
    /// When it was created.
    pub created_at: UnixTime,
    /// Agents fetch its X.509-SVID only when asked.
    pub disable_x509_svid_prefetch: bool,
    /// Its JWT-SVIDs carry a `jti`.
    pub jwt_svid_include_jti: bool,
}

impl Entry {
    /// Whether it grants anything at `now`.
    pub fn is_live(&self, now: Option<UnixTime>) -> bool {
        // With no clock nothing is known to have expired; nothing is issued either.
        self.expires_at.zip(now).is_none_or(|(end, now)| now < end)
    }
}

/// An entry that is to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryDraft {
    /// Its name; `None` lets the server choose.
    pub id: Option<String>,
    /// See [`Entry`].
    pub spiffe_id: SpiffeId,
    /// See [`Entry`].
    pub parent_id: SpiffeId,
    /// See [`Entry`].
    pub selectors: SelectorSet,
    /// See [`Entry`].
    pub x509_svid_ttl: Option<Duration>,
    /// See [`Entry`].
    pub jwt_svid_ttl: Option<Duration>,
    /// See [`Entry`].
    pub federates_with: Vec<TrustDomain>,
    /// See [`Entry`].
    pub admin: bool,
    /// See [`Entry`].
    pub downstream: bool,
    /// See [`Entry`].
    pub expires_at: Option<UnixTime>,
    /// See [`Entry`].
    pub dns_names: Vec<String>,
    /// See [`Entry`].
    pub store_svid: bool,
    /// See [`Entry`].
    pub hint: String,
    /// See [`Entry`].
    pub disable_x509_svid_prefetch: bool,
    /// See [`Entry`].
    pub jwt_svid_include_jti: bool,
}

impl EntryDraft {
    /// A draft with the mandatory parts; the rest is empty.
    pub fn new(parent_id: SpiffeId, spiffe_id: SpiffeId, selectors: SelectorSet) -> Self {
        Self {
            id: None,
            spiffe_id,
            parent_id,
            selectors,
            x509_svid_ttl: None,
            jwt_svid_ttl: None,
            federates_with: Vec::new(),
            admin: false,
            downstream: false,
            expires_at: None,
            dns_names: Vec::new(),
            store_svid: false,
            hint: String::new(),
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        }
    }

    pub(crate) fn into_entry(self, id: String, created_at: UnixTime) -> Entry {
        Entry {
            id,
            spiffe_id: self.spiffe_id,
            parent_id: self.parent_id,
            selectors: self.selectors,
            x509_svid_ttl: self.x509_svid_ttl,
            jwt_svid_ttl: self.jwt_svid_ttl,
            federates_with: once_each(self.federates_with),
            admin: self.admin,
            downstream: self.downstream,
            expires_at: self.expires_at,
            dns_names: self.dns_names,
            revision_number: 0,
            store_svid: self.store_svid,
            hint: self.hint,
            created_at,
            disable_x509_svid_prefetch: self.disable_x509_svid_prefetch,
            jwt_svid_include_jti: self.jwt_svid_include_jti,
        }
    }

    pub(crate) fn from_entry(entry: Entry) -> Self {
        Self {
            id: Some(entry.id),
            spiffe_id: entry.spiffe_id,
            parent_id: entry.parent_id,
            selectors: entry.selectors,
            x509_svid_ttl: entry.x509_svid_ttl,
            jwt_svid_ttl: entry.jwt_svid_ttl,
            federates_with: entry.federates_with,
            admin: entry.admin,
            downstream: entry.downstream,
            expires_at: entry.expires_at,
            dns_names: entry.dns_names,
            store_svid: entry.store_svid,
            hint: entry.hint,
            disable_x509_svid_prefetch: entry.disable_x509_svid_prefetch,
            jwt_svid_include_jti: entry.jwt_svid_include_jti,
        }
    }
}

/// What an update changes: `None` leaves a field as it is. In fields that may be unset, `Some(None)` unsets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryPatch {
    /// See [`Entry`].
    pub spiffe_id: Option<SpiffeId>,
    /// See [`Entry`].
    pub parent_id: Option<SpiffeId>,
    /// See [`Entry`].
    pub selectors: Option<SelectorSet>,
    /// See [`Entry`].
    pub x509_svid_ttl: Option<Option<Duration>>,
    /// See [`Entry`].
    pub jwt_svid_ttl: Option<Option<Duration>>,
    /// See [`Entry`].
    pub federates_with: Option<Vec<TrustDomain>>,
    /// See [`Entry`].
    pub admin: Option<bool>,
    /// See [`Entry`].
    pub downstream: Option<bool>,
    /// See [`Entry`].
    pub expires_at: Option<Option<UnixTime>>,
    /// See [`Entry`].
    pub dns_names: Option<Vec<String>>,
    /// See [`Entry`].
    pub store_svid: Option<bool>,
    /// See [`Entry`].
    pub hint: Option<String>,
    /// See [`Entry`].
    pub disable_x509_svid_prefetch: Option<bool>,
    /// See [`Entry`].
    pub jwt_svid_include_jti: Option<bool>,
}

impl EntryPatch {
    /// The entry with this patch, one revision on.
    pub(crate) fn apply(self, old: &Entry) -> Entry {
        let old = old.clone();
        Entry {
            spiffe_id: self.spiffe_id.unwrap_or(old.spiffe_id),
            parent_id: self.parent_id.unwrap_or(old.parent_id),
            selectors: self.selectors.unwrap_or(old.selectors),
            x509_svid_ttl: self.x509_svid_ttl.unwrap_or(old.x509_svid_ttl),
            jwt_svid_ttl: self.jwt_svid_ttl.unwrap_or(old.jwt_svid_ttl),
            federates_with: self.federates_with.map_or(old.federates_with, once_each),
            admin: self.admin.unwrap_or(old.admin),
            downstream: self.downstream.unwrap_or(old.downstream),
            expires_at: self.expires_at.unwrap_or(old.expires_at),
            dns_names: self.dns_names.unwrap_or(old.dns_names),
            store_svid: self.store_svid.unwrap_or(old.store_svid),
            hint: self.hint.unwrap_or(old.hint),
            disable_x509_svid_prefetch: self
                .disable_x509_svid_prefetch
                .unwrap_or(old.disable_x509_svid_prefetch),
            jwt_svid_include_jti: self.jwt_svid_include_jti.unwrap_or(old.jwt_svid_include_jti),
            revision_number: old.revision_number.saturating_add(1),
            id: old.id,
            created_at: old.created_at,
        }
    }
}

/// A trust domain that stands twice means what it means once; the order is kept.
fn once_each(mut domains: Vec<TrustDomain>) -> Vec<TrustDomain> {
    let mut seen = HashSet::new();
    domains.retain(|domain| seen.insert(domain.clone()));
    domains
}
