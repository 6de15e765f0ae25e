//! `[upstream.disk]`: an intermediate that an offline root has signed, with its key, in files.
//!
//! Invariant: what signs is whole and was tried: certificate, key and root belong together and can sign authorities that sign SVIDs. Files
//! that are no good change nothing.

mod read;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use landfast_identity::issue::{SubordinateParams, random_serial, subordinate_authority};
use landfast_identity::{
    Certificate, IssueError, JwtAuthority, PrivateKey, PublicKey, Signer as _, SuppliedKey, TrustDomain,
    UnixTime, X509Authority,
};
use landfast_lifecycle::SharedClock;

use super::DiskConfig;
use crate::authority::{Above, Seen, Signed, Upstream, UpstreamError, Wish, judge};
pub(crate) use read::DiskError;

/// The authority in the files.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Inner>);

struct Inner {
    files: DiskConfig,
    trust_domain: TrustDomain,
    clock: SharedClock,
    current: ArcSwapOption<Loaded>,
    tried: Mutex<Option<Tried>>,
}

/// What was in the files when they were last looked at.
struct Tried {
    fingerprint: Vec<u8>,
    /// Why they are of no use; the last good ones are kept.
    refused: Option<Arc<DiskError>>,
}

/// Files that belong together.
pub(super) struct Loaded {
    pub(super) certificate: Certificate,
    /// The certificate and what is between it and the root; nothing when it is the root.
    pub(super) chain: Vec<Certificate>,
    pub(super) key: SuppliedKey,
    pub(super) roots: Vec<X509Authority>,
}

impl Disk {
    /// With what is in the files now, if that is any good.
    pub(crate) fn open(files: DiskConfig, trust_domain: TrustDomain, clock: SharedClock) -> Self {
        let disk = Self(Arc::new(Inner {
            files,
            trust_domain,
            clock,
            current: ArcSwapOption::empty(),
            tried: Mutex::new(None),
        }));
        disk.0.look_again();
        disk
    }
}

impl Inner {
    /// Takes what has changed in the files. Whoever replaces them writes one after the other: between the two they do not fit, and the next
    /// look finds them well. What was refused is tried at each look: it may only have been too early.
    /// `true` when something was taken.
    fn look_again(&self) -> bool {
        let (fingerprint, read) = read::read(&self.files);
        let same = |tried: &Tried| tried.fingerprint == fingerprint && tried.refused.is_none();
        if self.lock().as_ref().is_some_and(same) {
            return false;
        }
        let loaded = read.and_then(|loaded| {
            rehearse(&loaded, &self.trust_domain, self.clock.now())?;
            Ok(loaded)
        });
        let refused = match loaded {
            Ok(loaded) => {
                let (ends, chain) = (loaded.ends(), loaded.chain.len());
                tracing::info!(path = %self.files.cert.display(), %ends, chain, "took over the upstream authority's files");
                let seconds = u32::try_from(ends.as_secs()).unwrap_or(u32::MAX);
                metrics::gauge!("landfast_server_upstream_expiry_timestamp_seconds").set(f64::from(seconds));
                self.current.store(Some(Arc::new(loaded)));
                None
            }
            Err(error) => Some(Arc::new(error)),
        };
        let taken = refused.is_none();
        *self.lock() = Some(Tried { fingerprint, refused });
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tried>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with the files as they are now.
    fn refused(&self) -> Option<Arc<DiskError>> {
        self.lock().as_ref().and_then(|tried| tried.refused.clone())
    }

    /// The last good ones.
    fn good(&self) -> Result<Arc<Loaded>, Arc<DiskError>> {
        let current = self.current.load_full();
        current.ok_or_else(|| self.refused().unwrap_or_else(|| Arc::new(DiskError::NotRead)))
    }
}

impl Loaded {
    /// When the certificate, or something above it, ends.
    fn ends(&self) -> UnixTime {
        let chain = self.chain.iter().map(Certificate::not_after);
        chain.fold(self.certificate.not_after(), UnixTime::min)
    }

    /// A certificate for this key, as long as asked for and possible.
    fn sign(
        &self,
        trust_domain: &TrustDomain,
        key: &PublicKey,
        (not_before, not_after): (UnixTime, UnixTime),
    ) -> Result<Signed, DiskError> {
        let made = || -> Result<Certificate, IssueError> {
            let params = SubordinateParams {
                trust_domain,
                public_key: key,
                serial: random_serial()?,
                not_before: not_before.max(self.certificate.not_before()),
                not_after: not_after.min(self.ends()),
            };
            subordinate_authority(&params, &self.certificate, &self.key)
        };
        Ok(Signed {
            certificate: made().map_err(|source| DiskError::Sign { source })?,
            chain: self.chain.clone(),
            roots: self.roots.clone(),
        })
    }
}

/// Has it sign an authority that nobody gets, and that one an SVID.
fn rehearse(loaded: &Loaded, trust_domain: &TrustDomain, now: Option<UnixTime>) -> Result<(), DiskError> {
    if *loaded.certificate.public_key() != loaded.key.public_key() {
        return Err(DiskError::OtherKey);
    }
    let Some(now) = now else { return Ok(()) };
    if loaded.ends() <= now {
        return Err(DiskError::Expired { ends: loaded.ends() });
    }
    let key = PrivateKey::generate().map_err(|source| DiskError::Try { source })?;
    let signed = loaded.sign(trust_domain, &key.public_key(), (now, now.saturating_add(HOUR)))?;
    let judged = judge(signed, &key, trust_domain, &Above::default(), now);
    judged.map(drop).map_err(|source| DiskError::Unfit {
        source: Box::new(source),
    })
}

/// Reads the files and tries them, for `landfast-server check`.
pub(super) fn check(
    files: &DiskConfig,
    trust_domain: &TrustDomain,
    now: Option<UnixTime>,
) -> Result<(), DiskError> {
    rehearse(&read::read(files).1?, trust_domain, now)
}

#[async_trait]
impl Upstream for Disk {
    async fn sign(&self, wish: &Wish<'_>) -> Result<Signed, UpstreamError> {
        let (loaded, key) = (self.0.good()?, wish.signer.public_key());
        let validity = (wish.not_before, wish.not_after);
        Ok(loaded.sign(wish.trust_domain, &key, validity).map_err(Arc::new)?)
    }

    async fn look(&self, now: UnixTime) -> Result<Seen, UpstreamError> {
        let inner = Arc::clone(&self.0);
        // Off the async threads, for a disk may hang.
        let looked = tokio::task::spawn_blocking(move || inner.look_again()).await;
        let fresh = looked.map_err(|_cancelled| Arc::new(DiskError::NotRead))?;
        if let Some(refused) = self.0.refused() {
            return Err(refused.into());
        }
        let loaded = self.0.good()?;
        if loaded.ends() <= now {
            let ends = loaded.ends();
            return Err(Arc::new(DiskError::Expired { ends }).into());
        }
        Ok(Seen {
            roots: loaded.roots.clone(),
            jwt: Vec::new(),
            fresh,
            sequence: None,
        })
    }

    /// An offline root has no use for it.
    async fn publish(&self, _key: &JwtAuthority) -> Result<(), UpstreamError> {
        Ok(())
    }

    fn is_complete(&self) -> bool {
        false
    }

    fn name(&self) -> String {
        self.0.files.cert.display().to_string()
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({})", self.name())
    }
}

/// For a trial: `sign` cuts it where it has to.
const HOUR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
