//! Who signs our X.509 authorities when they do not sign themselves: files of an offline root, or a parent server.
//!
//! Invariant: nothing of here decides what is believed; `authority` judges every answer.

mod connection;
mod disk;
mod parent;

use std::path::PathBuf;
use std::sync::Arc;

use landfast_identity::{SpiffeId, TrustDomain};
use landfast_lifecycle::SharedClock;

pub(crate) use disk::{Disk, DiskError};
pub(crate) use parent::{Parent, ParentError};

use crate::authority::Upstream;

/// See `[upstream]` in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamConfig {
    /// An intermediate that an offline root has signed, in files.
    Disk(DiskConfig),
    /// A parent server of the same trust domain.
    Spire(ParentConfig),
}

/// See `upstream.disk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The certificate, then those between it and its root, PEM.
    pub cert: PathBuf,
    /// Its key, PEM, not encrypted.
    pub key: PathBuf,
    /// Roots, PEM. Without, the certificate is one itself.
    pub bundle: Option<PathBuf>,
}

/// See `upstream.spire`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentConfig {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The Workload API that gives this server its identity there.
    pub workload_api: String,
    /// Which identity, when the Workload API has several.
    pub spiffe_id: Option<SpiffeId>,
}

/// Why the files of `[upstream.disk]` are of no use.
#[derive(Debug, thiserror::Error)]
#[error("upstream.disk cannot be used")]
pub struct UpstreamCheckError(#[source] DiskError);

impl UpstreamConfig {
    pub(crate) fn open(&self, trust_domain: &TrustDomain, clock: &SharedClock) -> Arc<dyn Upstream> {
        match self {
            Self::Disk(files) => Arc::new(Disk::open(files.clone(), trust_domain.clone(), Arc::clone(clock))),
            Self::Spire(parent) => Arc::new(Parent::new(
                parent.clone(),
                trust_domain.clone(),
                Arc::clone(clock),
            )),
        }
    }

    /// Reads what can be read without asking anybody.
    pub(crate) fn check(
        &self,
        trust_domain: &TrustDomain,
        clock: &SharedClock,
    ) -> Result<(), UpstreamCheckError> {
        match self {
            Self::Disk(files) => disk::check(files, trust_domain, clock.now()).map_err(UpstreamCheckError),
            Self::Spire(_) => Ok(()),
        }
    }
}
