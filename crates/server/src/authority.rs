//! The authorities that sign: X.509 and JWT, each prepared, active or old.
//!
//! Invariant: only the signer of an active authority is in memory and only issuance can have it; the bundle in use is the committed one.

mod journal;
mod keys;
mod plan;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use landfast_identity::{
    Bundle, Certificate, IssueError as BuildError, KeyType, Signer, TrustDomain, UnixTime, X509Error,
    issue::{AuthorityParams as CertificateParams, self_signed_authority},
};
use landfast_lifecycle::SharedClock;
use tokio::sync::watch;

pub use keys::{DiskKeys, KeyManager, KeyManagerError, MemoryKeys};

pub(crate) use journal::{AuthorityRow, Journal, Kind, Slot};

use crate::datastore::{Datastore, DatastoreError};
use crate::random;
use plan::Step;

/// How long authorities live, and with which keys.
#[derive(Clone, Debug)]
pub struct AuthorityParams {
    /// Whose authorities.
    pub trust_domain: TrustDomain,
    /// Life of an authority.
    pub ca_ttl: Duration,
    /// How far validity starts in the past, for slow clocks.
    pub backdate: Duration,
    /// Kinds of the keys that are made from now on.
    pub keys: KeyTypes,
}

/// See `keys` in the configuration. What signs already is replaced at its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyTypes {
    /// X.509 authorities and the server's own SVID.
    pub x509: KeyType,
    /// JWT authorities: ES256 or ES384.
    pub jwt: KeyType,
}

/// The authorities of one trust domain.
pub struct Authorities {
    params: AuthorityParams,
    datastore: Arc<dyn Datastore>,
    keys: Arc<dyn KeyManager>,
    clock: SharedClock,
    active: RwLock<Active>,
    bundle: watch::Sender<Arc<Bundle>>,
    ticking: AtomicBool,
}

#[derive(Default)]
struct Active {
    version: u64,
    x509: Option<Arc<ActiveX509>>,
    jwt: Option<Arc<ActiveJwt>>,
}

/// The X.509 authority that signs now.
pub(crate) struct ActiveX509 {
    pub(crate) id: String,
    pub(crate) certificate: Certificate,
    pub(crate) signer: Arc<dyn Signer>,
}

/// The JWT authority that signs now.
pub(crate) struct ActiveJwt {
    pub(crate) id: String,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) signer: Arc<dyn Signer>,
}

impl Authorities {
    /// Reads the journal, finds the keys, and makes the first authorities if there are none.
    ///
    /// # Errors
    /// The key of an active or prepared authority is missing or not its own, the clock shows no time when authorities have to be made, or
    /// the datastore fails.
    pub(crate) async fn open(
        params: AuthorityParams,
        datastore: Arc<dyn Datastore>,
        keys: Arc<dyn KeyManager>,
        clock: SharedClock,
    ) -> Result<Self, AuthorityError> {
        let (bundle, _) = watch::channel(Arc::new(Bundle::new(params.trust_domain.clone())));
        let authorities = Self {
            params,
            datastore,
            keys,
            clock,
            active: RwLock::new(Active::default()),
            bundle,
            ticking: AtomicBool::new(false),
        };
        let journal = authorities.datastore.journal().await?;
        for row in journal.rows.iter().filter(|row| row.slot == Slot::Prepared) {
            authorities.signer_of(row)?;
        }
        authorities.adopt(&journal)?;
        match authorities.clock.now() {
            Some(now) => authorities.tick(now).await?,
            None if journal.rows.is_empty() => return Err(AuthorityError::NoClock),
            None => {}
        }
        Ok(authorities)
    }

    /// The bundle of our own trust domain; its sequence grows with every change, also over restarts.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.bundle.borrow().clone()
    }

    /// Sees every change of the bundle.
    pub fn bundle_updates(&self) -> watch::Receiver<Arc<Bundle>> {
        self.bundle.subscribe()
    }

    /// When the active X.509 authority ends; `None` when there is none.
    pub fn active_x509_expires_at(&self) -> Option<UnixTime> {
        self.active_x509().map(|active| active.certificate.not_after())
    }

    /// Rotates by `now`: prepares at half of the active authority's life, activates at its last sixth, forgets old ones a day after
    /// the last SVID of theirs has expired. Each step is committed before it is adopted; a step that fails leaves what was.
    ///
    /// # Errors
    /// The first step that failed; the next tick tries again.
    pub async fn tick(&self, now: UnixTime) -> Result<(), AuthorityError> {
        if self.ticking.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let _reset = ResetOnDrop(&self.ticking);
        let mut journal = self.datastore.journal().await?;
        // Each step leads towards rest; more than this at once would be a bug, and the next tick goes on.
        for _ in 0..MAX_STEPS {
            let Some(step) = plan::next(&journal.rows, now) else {
                break;
            };
            let mut rows = journal.rows.clone();
            let forgotten = match &step {
                Step::Prepare(kind) => {
                    rows.push(self.prepare(*kind, now).await?);
                    None
                }
                Step::Activate(kind) => {
                    plan::activate(&mut rows, *kind, now);
                    None
                }
                Step::Forget(id) => {
                    let at = rows.iter().position(|row| row.id == *id);
                    at.map(|at| rows.remove(at).key_name)
                }
            };
            journal = match self.datastore.save_journal(journal.version, rows).await? {
                Some(saved) => saved,
                // Somebody else was faster: look again.
                None => self.datastore.journal().await?,
            };
            tracing::info!(step = %step, sequence = journal.sequence, "authorities changed");
            self.adopt(&journal)?;
            if let Some(key) = forgotten
                && let Err(error) = self.keys.remove(&key)
            {
                let error = landfast_daemon::error_chain(&error);
                tracing::warn!(key, error, "the key of a forgotten authority is still there");
            }
        }
        self.adopt(&journal)
    }

    pub(crate) fn active_x509(&self) -> Option<Arc<ActiveX509>> {
        self.active
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .x509
            .clone()
    }

    pub(crate) fn active_jwt(&self) -> Option<Arc<ActiveJwt>> {
        self.active
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .jwt
            .clone()
    }

    async fn prepare(&self, kind: Kind, now: UnixTime) -> Result<AuthorityRow, AuthorityError> {
        let key_name = format!(
            "{}-{}",
            kind.as_str(),
            random::hex_id().ok_or(AuthorityError::Random)?
        );
        let (keys, name) = (Arc::clone(&self.keys), key_name.clone());
        let key_type = match kind {
            Kind::X509 => self.params.keys.x509,
            Kind::Jwt => self.params.keys.jwt,
        };
        let signer = tokio::task::spawn_blocking(move || keys.generate(&name, key_type))
            .await
            .map_err(|_cancelled| AuthorityError::Stopped)??;
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
            Kind::Jwt => (random::key_id().ok_or(AuthorityError::Random)?, None),
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
        })
    }

    /// Takes over a committed journal: finds the signers of the active authorities, then publishes.
    fn adopt(&self, journal: &Journal) -> Result<(), AuthorityError> {
        if self.active.read().unwrap_or_else(PoisonError::into_inner).version == journal.version {
            return Ok(());
        }
        let active = |kind| {
            journal
                .rows
                .iter()
                .find(|row| row.kind == kind && row.slot == Slot::Active)
        };
        let x509 = match active(Kind::X509) {
            Some(row) => Some(Arc::new(ActiveX509 {
                id: row.id.clone(),
                certificate: row.certificate.clone().ok_or(AuthorityError::NoCertificate)?,
                signer: self.signer_of(row)?,
            })),
            None => None,
        };
        let jwt = match active(Kind::Jwt) {
            Some(row) => Some(Arc::new(ActiveJwt {
                id: row.id.clone(),
                not_before: row.not_before,
                not_after: row.not_after,
                signer: self.signer_of(row)?,
            })),
            None => None,
        };
        let bundle = Arc::new(journal.bundle(&self.params.trust_domain)?);
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Active {
            version: journal.version,
            x509,
            jwt,
        };
        self.bundle.send_if_modified(|present| {
            let changed = present.sequence() != bundle.sequence();
            *present = bundle;
            changed
        });
        Ok(())
    }

    fn signer_of(&self, row: &AuthorityRow) -> Result<Arc<dyn Signer>, AuthorityError> {
        let signer = self.keys.get(&row.key_name)?;
        if signer.public_key() != row.public_key {
            return Err(AuthorityError::WrongKey {
                file: self.keys.describe(&row.key_name),
                id: row.id.clone(),
            });
        }
        Ok(signer)
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Authorities({}, sequence {})",
            self.params.trust_domain,
            self.bundle().sequence()
        )
    }
}

/// A tick that is dropped half-way leaves the journal whole; the next one reads it anew.
struct ResetOnDrop<'a>(&'a AtomicBool);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Why authorities cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The key of an authority cannot be read, made or removed.
    #[error("the key of an authority cannot be used")]
    Key {
        /// Why.
        #[from]
        source: KeyManagerError,
    },
    /// A key file that holds another key.
    #[error("{file} is not the key of authority {id}: restore it from the backup that the database is from")]
    WrongKey {
        /// The file.
        file: String,
        /// The authority.
        id: String,
    },
    /// The journal lacks the certificate of an X.509 authority.
    #[error("the journal holds an X.509 authority without its certificate")]
    NoCertificate,
    /// The certificate cannot be built.
    #[error("the certificate of a new authority cannot be built")]
    Build {
        /// Why.
        #[from]
        source: BuildError,
    },
    /// The journal makes no bundle.
    #[error("the journal of authorities makes no bundle")]
    Bundle {
        /// Why.
        #[from]
        source: landfast_identity::BundleError,
    },
    /// A certificate in the journal cannot be read.
    #[error("the certificate of an authority cannot be read")]
    Certificate {
        /// Why.
        #[from]
        source: X509Error,
    },
    /// The first authorities need to know the time.
    #[error("the clock of this server shows no time, and without it no authority can be made")]
    NoClock,
    /// The random source failed.
    #[error("the random source failed")]
    Random,
    /// The datastore failed.
    #[error("the journal of authorities cannot be read or written")]
    Storage {
        /// Why.
        #[from]
        source: DatastoreError,
    },
    /// The process is shutting down.
    #[error("the server is stopping")]
    Stopped,
}

const MAX_STEPS: usize = 16;

#[cfg(test)]
mod tests;
