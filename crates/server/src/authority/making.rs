//! Keys of authorities: made, found and removed off the async threads. Invariant: a key whose authority was not committed is the next
//! one's, so a disk that refuses the journal does not fill with keys; nothing is removed that the journal names.

use std::sync::{Arc, Mutex, PoisonError};

use landfast_identity::issue::{AuthorityParams as CertificateParams, self_signed_authority};
use landfast_identity::{Signer, UnixTime};

use super::{Authorities, AuthorityError, AuthorityRow, Journal, KeyManager, KeyManagerError, Kind, Slot};
use crate::random;

/// Keys that are durable, but in no journal that we have seen. One of a kind at most.
#[derive(Default)]
pub(super) struct Spares(Mutex<Vec<Spare>>);

#[derive(Clone)]
struct Spare {
    kind: Kind,
    key_name: String,
    signer: Arc<dyn Signer>,
}

impl Spares {
    /// A commit that was reported as failed may have happened all the same: then its key is no spare one.
    pub(super) fn give_up_used(&self, journal: &Journal) {
        let named = |spare: &Spare| journal.rows.iter().any(|row| row.key_name == spare.key_name);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|spare| !named(spare));
    }

    fn of(&self, kind: Kind) -> Option<Spare> {
        let spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spares.iter().find(|spare| spare.kind == kind).cloned()
    }

    fn keep(&self, spare: Spare) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(spare);
    }
}

impl Authorities {
    /// The row of a new authority, its key durable.
    pub(super) async fn prepare(&self, kind: Kind, now: UnixTime) -> Result<AuthorityRow, AuthorityError> {
        let Spare { key_name, signer, .. } = match self.spares.of(kind) {
            Some(spare) => spare,
            None => self.generate(kind).await?,
        };
        let public_key = signer.public_key();
        let not_before = now.saturating_sub(self.params.backdate);
        let not_after = now.saturating_add(self.params.ca_ttl);
        let (id, certificate) = match kind {
            Kind::X509 => {
                let id = random::hex(&public_key.key_id());
                let params = CertificateParams {
                    trust_domain: &self.params.trust_domain,
                    authority_id: &id,
                    not_before,
                    not_after,
                };
                let certificate = self_signed_authority(&params, &*signer)?;
                (id, Some(certificate))
            }
            Kind::Jwt | Kind::Wit => (random::key_id().ok_or(AuthorityError::Random)?, None),
        };
        Ok(AuthorityRow {
            id,
            kind,
            slot: Slot::Prepared,
            key_name,
            certificate,
            public_key,
            created_at: now,
            activated_at: None,
            not_before,
            not_after,
            last_svid_ends: None,
            tainted: false,
        })
    }

    async fn generate(&self, kind: Kind) -> Result<Spare, AuthorityError> {
        let key_name = format!(
            "{}-{}",
            kind.as_str(),
            random::hex_id().ok_or(AuthorityError::Random)?
        );
        let key_type = match kind {
            Kind::X509 => self.params.keys.x509,
            Kind::Jwt => self.params.keys.jwt,
            Kind::Wit => self.params.keys.wit,
        };
        let name = key_name.clone();
        let signer = self.blocking(move |keys| keys.generate(&name, key_type)).await?;
        let spare = Spare {
            kind,
            key_name,
            signer,
        };
        self.spares.keep(spare.clone());
        Ok(spare)
    }

    pub(super) async fn signer_of(&self, row: &AuthorityRow) -> Result<Arc<dyn Signer>, AuthorityError> {
        let name = row.key_name.clone();
        let signer = self.blocking(move |keys| keys.get(&name)).await?;
        if signer.public_key() != row.public_key {
            return Err(AuthorityError::WrongKey {
                file: self.keys.describe(&row.key_name),
                id: row.id.clone(),
            });
        }
        Ok(signer)
    }

    pub(super) async fn remove_key(&self, name: String) {
        let key = name.clone();
        if let Err(error) = self.blocking(move |keys| keys.remove(&name)).await {
            let error = landfast_daemon::error_chain(&error);
            tracing::warn!(
                key,
                error,
                "the key of a forgotten authority is still there; it is removed after the next start"
            );
        }
    }

    /// Removes the keys that a crash, or a removal that failed, has left. Once in a process, and not at its start: whoever has restored an
    /// old database by mistake has time to notice while the keys of the newer one are still there.
    pub(super) async fn sweep(&self, journal: &Journal) {
        let names = match self.blocking(|keys| keys.list()).await {
            Ok(names) => names,
            Err(error) => {
                let error = landfast_daemon::error_chain(&error);
                tracing::warn!(error, "cannot look for keys that belong to no authority");
                return;
            }
        };
        let spare = |name: &String| {
            Kind::ALL
                .iter()
                .any(|kind| self.spares.of(*kind).is_some_and(|s| s.key_name == *name))
        };
        for name in names.into_iter().filter(|name| is_ours(name) && !spare(name)) {
            if journal.rows.iter().any(|row| row.key_name == name) {
                continue;
            }
            tracing::warn!(key = %self.keys.describe(&name), "removing a key that no authority has");
            self.remove_key(name).await;
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn KeyManager) -> Result<T, KeyManagerError> + Send + 'static,
    ) -> Result<T, AuthorityError> {
        let keys = Arc::clone(&self.keys);
        let done = tokio::task::spawn_blocking(move || work(&*keys)).await;
        Ok(done.map_err(|_cancelled| AuthorityError::Stopped)??)
    }
}

/// Whether a key has a name as [`Authorities::generate`] gives them. Others are somebody else's.
fn is_ours(name: &str) -> bool {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    Kind::ALL.iter().any(|kind| {
        let rest = name
            .strip_prefix(kind.as_str())
            .and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|id| id.len() == 32 && id.bytes().all(lower_hex))
    })
}
