//! Orders for authorities that sign elsewhere: SPIRE has none, and without them what is in the bundle by mistake, or stolen, stays there until
//! its end. Invariant: only a tainted one is revoked, and one that was revoked does not come back for as long as an authority lives.

use landfast_identity::UnixTime;

use super::{AppendedKey, AppendedRow, MAX_TRIES};
use crate::authority::orders::{Order, OrderError};
use crate::authority::{Authorities, AuthorityError};
use crate::random;

/// What an order was about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ordered {
    pub(crate) id: String,
    /// `None` for a key that names no end.
    pub(crate) expires_at: Option<UnixTime>,
}

impl AppendedRow {
    /// As operators name it: an X.509 one by its subject key identifier, like those that sign here.
    pub(crate) fn name(&self) -> String {
        match &self.key {
            AppendedKey::X509(x509) => {
                let own = x509.certificate.subject_key_id();
                random::hex(&own.unwrap_or_else(|| x509.certificate.public_key().key_id().to_vec()))
            }
            AppendedKey::Jwt(jwt) => jwt.key_id.clone(),
        }
    }

    fn expires_at(&self) -> Option<UnixTime> {
        match &self.key {
            AppendedKey::X509(x509) => Some(x509.certificate.not_after()),
            AppendedKey::Jwt(jwt) => jwt.expires_at,
        }
    }
}

impl AppendedRow {
    /// It is remembered until no server below this one could have claimed it to be good any more, whatever its end was.
    fn revoke(&mut self, until: UnixTime) {
        self.revoked = true;
        if let AppendedKey::Jwt(jwt) = &mut self.key {
            jwt.expires_at = jwt.expires_at.max(Some(until));
        }
    }
}

impl Authorities {
    /// Taints or revokes an authority that signs elsewhere.
    ///
    /// # Errors
    /// There is none of this name, it is to be revoked and not tainted, or nothing can be stored; then nothing has changed.
    pub(crate) async fn order_appended(&self, order: &Order, now: UnixTime) -> Result<Ordered, OrderError> {
        let (kind, name, revoke) = match order {
            Order::Taint(kind, name) => (*kind, name, false),
            Order::Revoke(kind, name) => (*kind, name, true),
            Order::Prepare(_) | Order::Activate(..) | Order::ActivateUnheard(..) => {
                return Err(OrderError::Unknown);
            }
        };
        for _ in 0..MAX_TRIES {
            let journal = self.datastore.journal().await.map_err(AuthorityError::from)?;
            let mut rows = journal.appended.clone();
            let mut ordered = None;
            // A key may have several certificates.
            for row in rows
                .iter_mut()
                .filter(|row| !row.revoked && row.key.kind() == kind && row.name() == *name)
            {
                ordered = Some(Ordered {
                    id: name.clone(),
                    expires_at: row.expires_at(),
                });
                if !revoke {
                    row.key.taint();
                } else if row.key.tainted() {
                    row.revoke(now.saturating_add(self.params.ca_ttl));
                } else {
                    return Err(OrderError::NotTainted);
                }
            }
            let ordered = ordered.ok_or(OrderError::Unknown)?;
            if self.commit_appended(&journal, rows).await?.is_some() {
                return Ok(ordered);
            }
            // Somebody else was faster: look again.
        }
        Err(OrderError::Busy)
    }
}
