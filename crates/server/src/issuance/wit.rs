//! Signing WIT-SVIDs (incubating). Invariant: what is returned has been recorded, and names the key it was ordered for.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::wit::{WitParams, algorithms, sign};
use landfast_identity::{PublicKey, SpiffeId, UnixTime};
use ring::digest::{SHA256, digest};

use super::record::{IssuanceRecord, SvidKind};
use super::validity::ends_at;
use super::{IssueError, Issuer, Requester, policy};
use crate::admission::Turn;
use crate::random;
use crate::registry::Entry;

/// What a workload will prove with.
#[derive(Clone, Debug)]
pub struct WitRequest {
    /// Its public key.
    pub key: PublicKey,
    /// How it signs: an `alg` that fits the key.
    pub algorithm: String,
}

/// A WIT-SVID that was issued. Worth nothing without the key in it.
#[derive(Clone, Debug)]
pub struct IssuedWit {
    /// The token.
    pub token: String,
    /// Whose it is.
    pub id: SpiffeId,
    /// Its `iat`.
    pub issued_at: UnixTime,
    /// Its `exp`.
    pub expires_at: UnixTime,
}

/// All that a WIT-SVID is built from.
struct WitOrder {
    id: SpiffeId,
    request: WitRequest,
    ttl: Duration,
    /// It ends by then, whatever its TTL.
    ends_by: Option<UnixTime>,
    entry_id: Option<String>,
}

impl Issuer {
    /// WIT-SVIDs for many entries in one commit; the answers are in the order of the requests. That the requester may have the entries
    /// is the caller's to know.
    pub(crate) async fn wit_batch(
        &self,
        who: &Requester,
        requests: Vec<(Arc<Entry>, WitRequest)>,
        turn: &Turn,
    ) -> Vec<Result<IssuedWit, IssueError>> {
        let orders = requests.into_iter().map(|(entry, request)| {
            policy::subject(&entry.spiffe_id, &self.trust_domain)?;
            policy::live(&entry, self.now()?)?;
            policy::margo(&entry, self.margo)?;
            Ok(WitOrder {
                id: entry.spiffe_id.clone(),
                request,
                // As SPIRE, whose entries have no life of their own for these either.
                ttl: entry.x509_svid_ttl.unwrap_or(self.ttls.wit),
                ends_by: entry.expires_at,
                entry_id: Some(entry.id.clone()),
            })
        });
        let orders = orders.collect();
        self.sign_all(who, orders, turn, |order| self.sign_wit(who, order))
            .await
    }

    /// A WIT-SVID by order of an administrator, without an entry.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub async fn mint_wit(
        &self,
        who: &Requester,
        id: &SpiffeId,
        ttl: Option<Duration>,
        request: WitRequest,
    ) -> Result<IssuedWit, IssueError> {
        let order = policy::subject(id, &self.trust_domain).map(|()| WitOrder {
            id: id.clone(),
            request,
            ttl: ttl.unwrap_or(self.ttls.wit),
            ends_by: None,
            entry_id: None,
        });
        let sign = |order| self.sign_wit(who, order);
        let mut answers = self.sign_all(who, vec![order], &Turn::free(), sign).await;
        answers.pop().unwrap_or(Err(IssueError::NoAuthority))
    }

    fn sign_wit(&self, who: &Requester, order: WitOrder) -> Result<(IssuedWit, IssuanceRecord), IssueError> {
        self.is_open(who, &order.id, order.entry_id.as_deref())?;
        let now = self.now()?;
        let authority = self.authorities.active_wit().ok_or(IssueError::NoAuthority)?;
        let WitRequest { key, algorithm } = &order.request;
        policy::not_an_authoritys(key, &self.authorities.bundle())?;
        if let Some(x509) = self.authorities.active_x509() {
            policy::not_above(key, &x509.chain)?;
        }
        policy::margo_key(&order.id, key, self.margo)?;
        if !algorithms(key).contains(&algorithm.as_str()) {
            let expected = algorithms(key).join(", ");
            return Err(IssueError::Policy(format!(
                "algorithm {algorithm:?} is not one of the key's: {expected}"
            )));
        }
        let signs = (authority.not_before, authority.not_after);
        let expires_at = ends_at(now, order.ttl, order.ends_by, signs)?;
        let issued_at = now.saturating_sub(self.ttls.backdate).max(UnixTime::EPOCH);
        let params = WitParams {
            sub: &order.id,
            key,
            algorithm,
            exp: expires_at,
            iat: issued_at,
            // Of use only with OIDC discovery (§3.7), which does not know these keys.
            iss: None,
        };
        let token = sign(&params, &authority.id, &*authority.signer)?;
        let record = IssuanceRecord {
            kind: SvidKind::Wit,
            spiffe_id: order.id.clone(),
            serial: random::hex(digest(&SHA256, token.as_bytes()).as_ref()),
            key_hash: None,
            authority_id: authority.id.clone(),
            requester: who.to_string(),
            attestation: who.attestation.clone(),
            entry_id: order.entry_id,
            not_before: issued_at,
            not_after: expires_at,
            issued_at: now,
            is_rung: false,
            revoked_at: None,
        };
        let issued = IssuedWit {
            token,
            id: order.id,
            issued_at,
            expires_at,
        };
        Ok((issued, record))
    }
}
