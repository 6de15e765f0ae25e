//! The server's own SVID. Invariant: a valid one is kept until the next is there; one that nobody believes yet is replaced.

use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::{Bundle, KeyType, PrivateKey, UnixTime, X509Svid};
use landfast_lifecycle::{Action, RenewalPlan, SharedClock};
use landfast_tls::IdentityStore;

use super::ServerError;
use crate::authority::Authorities;
use crate::issuance::Issuer;

/// The server's own SVID, with its key in memory only.
pub(super) struct OwnSvid {
    issuer: Arc<Issuer>,
    authorities: Arc<Authorities>,
    clock: SharedClock,
    key_type: KeyType,
    /// Which authority has signed it.
    signed_by: Option<String>,
    pub(super) store: IdentityStore,
}

impl OwnSvid {
    pub(super) async fn issue(
        issuer: Arc<Issuer>,
        authorities: Arc<Authorities>,
        clock: SharedClock,
        key_type: KeyType,
    ) -> Result<Self, ServerError> {
        let mut own = Self {
            issuer,
            authorities,
            clock,
            key_type,
            signed_by: None,
            store: IdentityStore::new(),
        };
        own.renew().await?;
        Ok(own)
    }

    async fn renew(&mut self) -> Result<(), ServerError> {
        // Before it signs: when another takes over meanwhile, there is one renewal too many, not one too few.
        let signs = self.signs();
        let key = PrivateKey::generate_as(self.key_type).map_err(|source| ServerError::OwnKey { source })?;
        let issued = self.issuer.server_svid(&key.public_key()).await?;
        let svid = X509Svid::new(issued.chain, key).map_err(|source| ServerError::OwnSvid { source })?;
        self.store.set(Arc::new(svid));
        self.signed_by = signs;
        Ok(())
    }

    fn signs(&self) -> Option<String> {
        self.authorities.active_x509().map(|active| active.id.clone())
    }

    /// Whether another would do better. While the authority that signed it goes on signing, none would: its next stands where it stands.
    fn wanting(&self, svid: &X509Svid) -> bool {
        let doubtful = doubtful(svid, &self.authorities.bundle());
        due(svid, self.clock.now()) || (doubtful && self.signs() != self.signed_by)
    }

    /// Renews at half its life, and keeps the valid one when that fails.
    pub(super) async fn keep(mut self) {
        let mut hold_back = false;
        loop {
            tokio::time::sleep(Duration::from_secs(if hold_back { 10 } else { 1 })).await;
            let Some(svid) = self.store.current() else {
                continue;
            };
            if !self.wanting(&svid) {
                hold_back = false;
                continue;
            }
            match self.renew().await {
                Ok(()) => {
                    hold_back = false;
                    tracing::info!("renewed the server's own SVID");
                }
                Err(error) => {
                    hold_back = true;
                    let error = error_chain(&error);
                    tracing::error!(error, valid_until = %svid.not_after(), "cannot renew the server's own SVID; trying again in 10 s");
                }
            }
        }
    }
}

/// An agent keeps an SVID that begins in the future, for it cannot know whether its clock is right. Who signs need not wonder: if the
/// clock is wrong now, the authority begins in the future too and signs nothing; else the SVID was made by a clock that was ahead.
fn due(svid: &X509Svid, now: Option<UnixTime>) -> bool {
    if now.is_some_and(|now| now < svid.not_before()) {
        return true;
    }
    let serial = svid.serial_hex();
    let plan = RenewalPlan::new(svid.not_before(), svid.not_after(), serial.as_bytes());
    !matches!(plan.decide(now, Duration::ZERO), Action::Retain { .. })
}

/// Whether the root it stands under is tainted or revoked: clients are about to refuse it.
fn doubtful(svid: &X509Svid, bundle: &Bundle) -> bool {
    let Some(top) = svid.chain().last() else {
        return true;
    };
    let roots = bundle.x509_authorities().iter();
    let mut roots = roots.filter(|root| top.names_as_issuer(&root.certificate));
    roots.all(|root| root.tainted)
}

#[cfg(test)]
mod tests;
