//! Signing JWT-SVIDs. Invariant: what is returned has been recorded.

use std::time::Duration;

use landfast_identity::jwt::{JwtError, JwtParams, check_audience, sign};
use landfast_identity::{SpiffeId, UnixTime};
use ring::digest::{SHA256, digest};

use super::record::{IssuanceRecord, SvidKind};
use super::validity::ends_at;
use super::{IssueError, IssuedJwt, Issuer, Requester};
use crate::random;

/// All that a JWT-SVID is built from.
pub(super) struct JwtOrder<'a> {
    pub(super) id: &'a SpiffeId,
    pub(super) audience: &'a [String],
    pub(super) ttl: Duration,
    /// It ends by then, whatever its TTL.
    pub(super) ends_by: Option<UnixTime>,
    pub(super) with_jti: bool,
    pub(super) entry_id: Option<&'a str>,
}

impl Issuer {
    pub(super) async fn sign_jwt(
        &self,
        who: &Requester,
        order: JwtOrder<'_>,
        now: UnixTime,
    ) -> Result<IssuedJwt, IssueError> {
        self.is_open(who, order.id, order.entry_id)?;
        check_audience(order.audience).map_err(|error| IssueError::Policy(error.to_string()))?;
        let authority = self.authorities.active_jwt().ok_or(IssueError::NoAuthority)?;
        let signs = (authority.not_before, authority.not_after);
        let expires_at = ends_at(now, order.ttl, order.ends_by, signs)?;
        let issued_at = now.saturating_sub(self.ttls.backdate).max(UnixTime::EPOCH);
        let jti = if order.with_jti {
            Some(random::uuid().ok_or(IssueError::Random)?)
        } else {
            None
        };
        let params = JwtParams {
            sub: order.id,
            aud: order.audience,
            exp: expires_at,
            iat: issued_at,
            iss: self.jwt_issuer.as_deref(),
            jti: jti.as_deref(),
        };
        let token = sign(&params, &authority.id, &*authority.signer).map_err(|error| match error {
            // Audiences that swell when they are escaped: asking again gives the same.
            JwtError::TooLarge { .. } => IssueError::Policy(error.to_string()),
            other => other.into(),
        })?;
        let record = IssuanceRecord {
            kind: SvidKind::Jwt,
            spiffe_id: order.id.clone(),
            serial: jti.unwrap_or_else(|| random::hex(digest(&SHA256, token.as_bytes()).as_ref())),
            key_hash: None,
            authority_id: authority.id.clone(),
            requester: who.to_string(),
            attestation: who.attestation.clone(),
            entry_id: order.entry_id.map(str::to_owned),
            not_before: issued_at,
            not_after: expires_at,
            issued_at: now,
            is_rung: false,
            revoked_at: None,
        };
        let written = self.write(who, vec![record]).await?;
        written.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(IssuedJwt {
            token,
            id: order.id.clone(),
            issued_at: now,
            expires_at,
        })
    }
}
