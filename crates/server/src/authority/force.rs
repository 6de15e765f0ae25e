//! What puts a journal in force. Invariant: whoever sees a signer sees the bundle it stands in; an older journal never follows a newer one.

use std::sync::{Arc, PoisonError};

use landfast_identity::Signer;

use super::{
    Active, ActiveToken, ActiveX509, Authorities, AuthorityError, AuthorityRow, Journal, Kind, Slot,
};

impl Authorities {
    async fn token_signer(
        &self,
        row: Option<&AuthorityRow>,
    ) -> Result<Option<Arc<ActiveToken>>, AuthorityError> {
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Arc::new(ActiveToken {
            id: row.id.clone(),
            not_before: row.not_before,
            not_after: row.not_after,
            signer: self.signer_in_use(row).await?,
        })))
    }

    /// Takes over a committed journal: finds the signers of the active authorities, then publishes. One that is older than what is in use
    /// changes nothing.
    pub(super) async fn adopt(&self, journal: &Journal) -> Result<(), AuthorityError> {
        let is_over =
            || self.active.read().unwrap_or_else(PoisonError::into_inner).version >= journal.version;
        if is_over() {
            return Ok(());
        }
        match self.signers(&journal.rows).await {
            Ok(signers) => self.put_in_force(journal, signers),
            // A newer one came into force meanwhile, and the keys of this one may be gone.
            Err(_) if self.in_force() >= journal.version => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes over what a test has written into the journal.
    #[cfg(test)]
    pub(crate) async fn reread(&self) {
        let journal = self.datastore.journal().await.unwrap();
        self.adopt(&journal).await.unwrap();
    }

    /// The version of the journal in force.
    pub(super) fn in_force(&self) -> u64 {
        self.active.read().unwrap_or_else(PoisonError::into_inner).version
    }

    /// The active authorities among these rows, with their signers.
    pub(super) async fn signers(&self, rows: &[AuthorityRow]) -> Result<Active, AuthorityError> {
        let active = |kind| {
            rows.iter()
                .find(|row| row.kind == kind && row.slot == Slot::Active)
        };
        let x509 = match active(Kind::X509) {
            Some(row) => {
                let certificate = row.certificate.clone().ok_or(AuthorityError::NoCertificate)?;
                let above = row.descent.as_ref().map(|descent| descent.chain.clone());
                Some(Arc::new(ActiveX509 {
                    id: row.id.clone(),
                    chain: above.map_or_else(Vec::new, |above| [vec![certificate.clone()], above].concat()),
                    certificate,
                    not_after: row.not_after,
                    signer: self.signer_in_use(row).await?,
                }))
            }
            None => None,
        };
        let jwt = self.token_signer(active(Kind::Jwt)).await?;
        let wit = self.token_signer(active(Kind::Wit)).await?;
        Ok(Active {
            version: 0,
            x509,
            jwt,
            wit,
        })
    }

    /// Of an authority that signs already, the signer is at hand: a key file that cannot be read now is in nobody's way.
    async fn signer_in_use(&self, row: &AuthorityRow) -> Result<Arc<dyn Signer>, AuthorityError> {
        let token = |active: Option<Arc<ActiveToken>>| {
            active
                .filter(|active| active.id == row.id)
                .map(|active| Arc::clone(&active.signer))
        };
        let in_use = match row.kind {
            Kind::X509 => self
                .active_x509()
                .filter(|active| active.id == row.id)
                .map(|active| Arc::clone(&active.signer)),
            Kind::Jwt => token(self.active_jwt()),
            Kind::Wit => token(self.active_wit()),
        };
        match in_use.filter(|signer| signer.public_key() == row.public_key) {
            Some(signer) => Ok(signer),
            None => self.signer_of(row).await,
        }
    }

    pub(super) fn put_in_force(&self, journal: &Journal, signers: Active) -> Result<(), AuthorityError> {
        let bundle = Arc::new(journal.bundle(&self.params.trust_domain)?);
        let mut present = self.active.write().unwrap_or_else(PoisonError::into_inner);
        if present.version >= journal.version {
            return Ok(()); // a later one came while the signers were looked for
        }
        *present = Active {
            version: journal.version,
            // What nothing verifies is not signed: agents have another server.
            x509: signers.x509.filter(|x509| journal.verifies(&x509.id)),
            ..signers
        };
        // Still under the lock: whoever sees the new signer sees the bundle it stands in.
        self.bundle.send_if_modified(|present| {
            let changed = present.sequence() != bundle.sequence();
            *present = bundle;
            changed
        });
        Ok(())
    }
}
