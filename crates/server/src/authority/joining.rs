//! Authorities beside those of other servers. Invariant: none signs before every agent that is online can know it, and agents are answered by who
//! knows them all.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Authorities, AuthorityError, Trust};
use crate::datastore::DatastoreError;
use crate::quarantine::Quarantine;

impl Authorities {
    /// Beside other servers the first authorities of a server wait until those who are online know them.
    pub(super) async fn join(&self) -> Result<(), AuthorityError> {
        let mut said = false;
        while self
            .datastore
            .journal()
            .await?
            .others
            .iter()
            .any(|row| row.activated_at.is_some())
            && (self.active_x509().is_none() || self.active_jwt().is_none())
        {
            if !std::mem::replace(&mut said, true) {
                tracing::info!(
                    "other servers sign already: waiting for half a minute until agents know the authorities of this one"
                );
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Some(now) = self.clock.now() {
                match self.tick(now, Trust::Doubtful).await {
                    // It has signed once, and is waited for again.
                    Err(AuthorityError::Upstream(_)) => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// Takes over what other servers have changed in the journal.
    ///
    /// # Errors
    /// It cannot be read, or the key of an authority cannot.
    pub(crate) async fn follow_journal(&self) -> Result<(), AuthorityError> {
        let journal = self.datastore.journal().await?;
        self.adopt(&journal).await
    }

    /// Nobody is answered from these while it holds.
    pub(crate) fn held_by(mut self, quarantine: Arc<Quarantine>) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// Whether the bundle and the registry are what is stored, but for moments, and nothing of it was forgotten: else no agent is to be answered from
    /// them.
    ///
    /// # Errors
    /// Why it is not known to be so.
    pub(crate) fn current(&self) -> Result<(), DatastoreError> {
        self.quarantine.check()?;
        let version = self.active.read().unwrap_or_else(PoisonError::into_inner).version;
        self.datastore.standing(version)
    }
}
