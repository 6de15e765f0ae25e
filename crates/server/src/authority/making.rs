//! Keys of authorities: made, found and removed off the async threads. Invariant: a key whose authority was not committed is the next
//! one's, so a disk that refuses the journal does not fill with keys; nothing is removed that the journal names.

use std::sync::{Arc, Mutex, PoisonError};

use landfast_identity::issue::{AuthorityParams as CertificateParams, self_signed_authority};
use landfast_identity::{KeyAlgorithm, KeyType, Signer, UnixTime};

use super::above::Above;
use super::{Authorities, AuthorityError, AuthorityRow, Journal, KeyManager, KeyManagerError, Kind, Slot};
use crate::random;

/// Keys that are durable, but in no journal that we have seen. One of a kind at most.
#[derive(Default)]
pub(super) struct Spares(Mutex<Vec<Spare>>, Begun);

/// Names of keys that are being made: at most as many as there are orders at a time.
type Begun = Mutex<Vec<String>>;

/// What was prepared, and what is known of the upstream authority with it.
pub(super) struct Made {
    pub(super) row: AuthorityRow,
    pub(super) above: Option<Above>,
}

/// When a new authority shall be valid.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) now: UnixTime,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
}

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

    /// Before it is made, until the returned is dropped.
    fn begin(&self, key_name: &str) -> Beginning<'_> {
        let mut begun = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push(key_name.to_owned());
        Beginning(&self.1, key_name.to_owned())
    }

    /// Whether it is on its way into a journal.
    fn have(&self, key_name: &str) -> bool {
        let begun = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.iter().any(|name| name == key_name) || spares.iter().any(|spare| spare.key_name == key_name)
    }
}

struct Beginning<'a>(&'a Begun, String);

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.retain(|name| *name != self.1);
    }
}

impl Authorities {
    /// A new authority, its key durable.
    pub(super) async fn prepare(
        &self,
        kind: Kind,
        journal: &Journal,
        now: UnixTime,
    ) -> Result<Made, AuthorityError> {
        let Spare { key_name, signer, .. } = match self.spares.of(kind) {
            Some(spare) => spare,
            None => match self.unused(kind, journal).await {
                Some(spare) => spare,
                None => self.generate(kind).await?,
            },
        };
        let public_key = signer.public_key();
        let life = Life {
            now,
            not_before: now.saturating_sub(self.params.backdate),
            not_after: now.saturating_add(self.params.ca_ttl),
        };
        let mut row = AuthorityRow {
            id: String::new(),
            kind,
            slot: Slot::Prepared,
            key_name,
            certificate: None,
            descent: None,
            public_key,
            created_at: now,
            activated_at: None,
            not_before: life.not_before,
            not_after: life.not_after,
            last_svid_ends: None,
            tainted: false,
        };
        if kind != Kind::X509 {
            row.id = random::key_id().ok_or(AuthorityError::Random)?;
            self.ages.made(&row.id, self.clock.monotonic());
            return Ok(Made { row, above: None });
        }
        row.id = random::hex(&row.public_key.key_id());
        let Some(upstream) = &self.upstream else {
            let params = CertificateParams {
                trust_domain: &self.params.trust_domain,
                authority_id: &row.id,
                not_before: life.not_before,
                not_after: life.not_after,
            };
            row.certificate = Some(self_signed_authority(&params, &*signer)?);
            self.ages.made(&row.id, self.clock.monotonic());
            return Ok(Made { row, above: None });
        };
        let (judged, above) = self.signed_above(upstream, &signer, &journal.above, life).await?;
        self.ages.made(&row.id, self.clock.monotonic());
        row.not_before = judged.certificate.not_before();
        row.not_after = judged.ends;
        row.certificate = Some(judged.certificate);
        row.descent = Some(judged.descent);
        Ok(Made {
            row,
            above: Some(above),
        })
    }

    /// A key that an earlier process has made and that no authority got: a first start that waits for its parent, and is ended and repeated,
    /// would fill the disk with them. Only while there is no X.509 authority at all; later such a key may be one of a newer database.
    async fn unused(&self, kind: Kind, journal: &Journal) -> Option<Spare> {
        if kind != Kind::X509 || self.upstream.is_none() || journal.rows.iter().any(|row| row.kind == kind) {
            return None;
        }
        let wanted = match self.params.keys.x509 {
            KeyType::EcP256 => KeyAlgorithm::EcP256,
            KeyType::EcP384 => KeyAlgorithm::EcP384,
        };
        let prefix = format!("{}-", kind.as_str());
        // What cannot be listed or read is no obstacle: another is made.
        let names = self.blocking(|keys| keys.list()).await.ok()?;
        for key_name in names {
            if !is_ours(&key_name) || !key_name.starts_with(&prefix) || self.spares.have(&key_name) {
                continue;
            }
            let name = key_name.clone();
            let Ok(signer) = self.blocking(move |keys| keys.get(&name)).await else {
                continue;
            };
            if signer.public_key().algorithm() == wanted {
                let spare = Spare {
                    kind,
                    key_name,
                    signer,
                };
                self.spares.keep(spare.clone());
                return Some(spare);
            }
        }
        None
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
        let _begun = self.spares.begin(&key_name);
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
    ///
    /// First the names, then which of them are on their way, then the journal: a key goes from one into the next, never back, so what is in
    /// none of them belongs to nothing.
    pub(super) async fn sweep(&self) {
        let listed = match self.blocking(|keys| keys.list()).await {
            Ok(names) => names,
            Err(error) => {
                let error = landfast_daemon::error_chain(&error);
                tracing::warn!(error, "cannot look for keys that belong to no authority");
                return;
            }
        };
        let names: Vec<String> = listed
            .into_iter()
            .filter(|name| is_ours(name) && !self.spares.have(name))
            .collect();
        let journal = match self.datastore.journal().await {
            Ok(journal) => journal,
            Err(error) => {
                let error = landfast_daemon::error_chain(&error);
                tracing::warn!(error, "cannot tell which keys belong to no authority");
                return;
            }
        };
        for name in names {
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
