//! Signing X.509-SVIDs. Invariant: what is returned has been recorded.

use std::time::Duration;

use landfast_identity::issue::{LeafParams, SubordinateParams, leaf, random_serial, subordinate_authority};
use landfast_identity::{Certificate, PublicKey, SpiffeId, UnixTime};

use super::record::{IssuanceRecord, SvidKind};
use super::validity::ends_at;
use super::{IssueError, IssuedX509, Issuer, Requester, policy};
use crate::admission::Turn;
use crate::authority::ActiveX509;

/// All that an X.509-SVID is built from.
pub(super) struct X509Order {
    pub(super) id: SpiffeId,
    pub(super) key: PublicKey,
    pub(super) dns_names: Vec<String>,
    pub(super) ttl: Duration,
    /// When it begins, if not now.
    pub(super) begins: Option<Window>,
    /// It ends by then, whatever its TTL.
    pub(super) ends_by: Option<UnixTime>,
    pub(super) entry_id: Option<String>,
    pub(super) profile: Profile,
}

/// Of one that is signed for later: when it begins, and until when it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    pub(super) begins: UnixTime,
    /// How far from now.
    pub(super) reserve: Duration,
}

/// What the certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Profile {
    /// To be shown by whoever has the ID.
    Leaf,
    /// To sign: the ID is that of the trust domain.
    Authority,
}

impl X509Order {
    pub(super) fn new(id: SpiffeId, key: PublicKey, ttl: Duration) -> Self {
        Self {
            id,
            key,
            dns_names: Vec::new(),
            ttl,
            begins: None,
            ends_by: None,
            entry_id: None,
            profile: Profile::Leaf,
        }
    }
}

impl Issuer {
    pub(super) async fn sign_one_x509(
        &self,
        who: &Requester,
        order: Result<X509Order, IssueError>,
    ) -> Result<IssuedX509, IssueError> {
        let mut answers = self.sign_x509(who, vec![order], &Turn::free()).await;
        answers.pop().unwrap_or(Err(IssueError::NoAuthority))
    }

    pub(super) async fn sign_x509(
        &self,
        who: &Requester,
        orders: Vec<Result<X509Order, IssueError>>,
        turn: &Turn,
    ) -> Vec<Result<IssuedX509, IssueError>> {
        self.sign_all(who, orders, turn, |order| self.sign_one(who, &order))
            .await
    }

    fn sign_one(
        &self,
        who: &Requester,
        order: &X509Order,
    ) -> Result<(IssuedX509, IssuanceRecord), IssueError> {
        self.is_open(who, &order.id, order.entry_id.as_deref())?;
        let now = self.now()?;
        let authority = self.authorities.active_x509().ok_or(IssueError::NoAuthority)?;
        policy::margo_key(&order.id, &order.key, self.margo)?;
        policy::not_an_authoritys(&order.key, &self.authorities.bundle())?;
        policy::not_above(&order.key, &authority.chain)?;
        let (not_before, not_after) = self.validity(order, &authority, now)?;
        let (public_key, serial) = (&order.key, random_serial()?);
        let (issuer, signer) = (&authority.certificate, &*authority.signer);
        let made = match order.profile {
            Profile::Leaf => {
                let params = LeafParams {
                    id: &order.id,
                    public_key,
                    dns_names: &order.dns_names,
                    serial,
                    not_before,
                    not_after,
                };
                leaf(&params, issuer, signer)?
            }
            Profile::Authority => {
                let params = SubordinateParams {
                    trust_domain: &self.trust_domain,
                    public_key,
                    serial,
                    not_before,
                    not_after,
                };
                subordinate_authority(&params, issuer, signer)?
            }
        };
        let record = record(who, order, &made, &authority, now);
        Ok((
            IssuedX509 {
                chain: [vec![made], authority.chain.clone()].concat(),
                id: order.id.clone(),
                not_after,
            },
            record,
        ))
    }

    fn validity(
        &self,
        order: &X509Order,
        authority: &ActiveX509,
        now: UnixTime,
    ) -> Result<(UnixTime, UnixTime), IssueError> {
        if let Some(window) = order.begins {
            return self.later(order, window, authority, now);
        }
        let ca = &authority.certificate;
        let signs = (ca.not_before(), authority.not_after);
        let not_after = ends_at(now, order.ttl, order.ends_by, signs)?;
        if authority.not_after < now.saturating_add(order.ttl) {
            tracing::debug!(id = %order.id, %not_after, "an SVID is cut short: its authority ends first");
        }
        // Agents renew at half of what the certificate says it lives: a short one that begins long ago would be renewed without end.
        let life = u64::try_from(not_after.as_secs() - now.as_secs()).unwrap_or(0);
        let backdate = self.ttls.backdate.min(Duration::from_secs(life / 8));
        Ok((now.saturating_sub(backdate).max(ca.not_before()), not_after))
    }

    /// What is signed for later is not cut short: whoever has it counts on the whole of it.
    fn later(
        &self,
        order: &X509Order,
        Window { begins, reserve }: Window,
        authority: &ActiveX509,
        now: UnixTime,
    ) -> Result<(UnixTime, UnixTime), IssueError> {
        let authority_begins = authority.certificate.not_before();
        ends_at(now, order.ttl, None, (authority_begins, authority.not_after))?;
        let first = now.saturating_sub(self.ttls.backdate).max(authority_begins);
        let last = now.saturating_add(reserve);
        if begins < first || begins > last {
            return Err(IssueError::OutOfReserve { begins, first, last });
        }
        let ends = begins.saturating_add(order.ttl);
        if let (Some(end), Some(id)) = (order.ends_by, &order.entry_id)
            && end < ends
        {
            let id = id.clone();
            return Err(IssueError::OutlivesEntry { ends, id });
        }
        match authority.not_after < ends {
            true => Err(IssueError::OutlivesAuthority {
                ends,
                authority_ends: authority.not_after,
            }),
            false => Ok((begins, ends)),
        }
    }
}

fn record(
    who: &Requester,
    order: &X509Order,
    made: &Certificate,
    authority: &ActiveX509,
    now: UnixTime,
) -> IssuanceRecord {
    IssuanceRecord {
        kind: SvidKind::X509,
        spiffe_id: order.id.clone(),
        serial: made.serial_hex(),
        key_hash: Some(made.public_key().sha256()),
        authority_id: authority.id.clone(),
        requester: who.to_string(),
        attestation: who.attestation.clone(),
        entry_id: order.entry_id.clone(),
        not_before: made.not_before(),
        not_after: made.not_after(),
        issued_at: now,
        is_rung: order.begins.is_some(),
        revoked_at: None,
    }
}
