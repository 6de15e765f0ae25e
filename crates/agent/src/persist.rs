//! What the agent keeps on disk about the node itself: its SVID with key, a key on its way to the server, the bundle, and how new the server's
//! registry was.
//!
//! Invariant: a key is on disk before anybody hears of it, so a lost answer is asked for again with the same key; and a
//! damaged file is never taken for an absent one without a word.

mod ban;
mod bundle;
mod device;
mod handouts;
mod journal;
mod node;
mod pin;
mod steps;
mod time;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::{PrivateKey, TrustDomain};
use landfast_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::link::revision::Revision;
pub(crate) use ban::BANNED;
#[cfg(test)]
pub(crate) use bundle::BUNDLE;
pub(crate) use device::{DEVICE, DeviceKey};
pub(crate) use node::{IDENTITY, NodeIdentity, PENDING};
pub(crate) use pin::PIN;
pub(crate) use time::TIME;

/// Why node state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// A file of ours is not what we wrote.
    #[error(
        "{} is damaged ({what}); restore it from a backup, or remove it and attest this node anew (a join token works only once)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The directory belongs to a node of another trust domain.
    #[error("{} holds the identity of a node in trust domain {found}, but trust_domain is {expected}", path.display())]
    OtherTrustDomain {
        /// The file.
        path: PathBuf,
        /// Its trust domain.
        found: String,
        /// The configured one.
        expected: TrustDomain,
    },
    /// The file system refused.
    #[error("cannot use {}", path.display())]
    Store {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// It is written, but not to the disk itself.
    #[error("a power cut may undo what was written to {}", path.display())]
    NotDurable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// A request to the file system has no answer.
    #[error("the disk does not answer")]
    Hangs,
    /// No key could be made.
    #[error("cannot make a key")]
    Key(#[source] landfast_identity::KeyError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevisionFile {
    version: u32,
    bootstrap: String,
    epoch: u64,
    number: u64,
    /// Of all that stands before it: a digit more, and the node would take each answer of its server for an old one. Files from before there was one
    /// are believed.
    digest: Option<String>,
}

impl RevisionFile {
    fn digest(&self) -> String {
        let Self {
            version,
            bootstrap,
            epoch,
            number,
            digest: _,
        } = self;
        let all = format!("{version} {bootstrap} {epoch} {number}");
        BASE64.encode(ring::digest::digest(&ring::digest::SHA256, all.as_bytes()))
    }
}

/// The agent's data directory. All calls block; use them off the async threads.
pub(crate) struct NodeFiles {
    store: Store,
    dir: PathBuf,
    trust_domain: TrustDomain,
}

impl NodeFiles {
    #[cfg(test)]
    pub(crate) fn open(dir: &Path, trust_domain: &TrustDomain) -> Result<Self, PersistError> {
        Self::open_by(dir, trust_domain, &Store::open)
    }

    pub(crate) fn open_by(
        dir: &Path,
        trust_domain: &TrustDomain,
        open: &dyn Fn(&Path) -> Result<Store, StoreError>,
    ) -> Result<Self, PersistError> {
        let store = open(dir).map_err(|source| PersistError::Store {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            store,
            dir: dir.to_owned(),
            trust_domain: trust_domain.clone(),
        })
    }

    /// Over a disk that a test breaks.
    #[cfg(test)]
    pub(crate) fn over(store: Store, trust_domain: &TrustDomain) -> Self {
        Self {
            dir: store.path().to_owned(),
            store,
            trust_domain: trust_domain.clone(),
        }
    }

    /// The newest revision of the server's registry that this node has seen, unless the operator has replaced the bootstrap bundle since: that
    /// may be of servers that begin anew.
    pub(crate) fn revision(&self, bootstrap: &str) -> Result<Option<Revision>, PersistError> {
        let Some(bytes) = self.read(REVISION)? else {
            return Ok(None);
        };
        let file: RevisionFile = self.parse(REVISION, &bytes)?;
        if file
            .digest
            .as_ref()
            .is_some_and(|digest| *digest != file.digest())
        {
            return Err(self.damaged(REVISION, "its digest is of something else"));
        }
        let (epoch, number) = (file.epoch, file.number);
        Ok((file.bootstrap == bootstrap).then_some(Revision { epoch, number }))
    }

    pub(crate) fn save_revision(&self, revision: Revision, bootstrap: &str) -> Result<(), PersistError> {
        let mut file = RevisionFile {
            version: VERSION,
            bootstrap: bootstrap.to_owned(),
            epoch: revision.epoch,
            number: revision.number,
            digest: None,
        };
        file.digest = Some(file.digest());
        self.write(REVISION, &file)
    }

    fn key(&self, name: &str, base64: Zeroizing<String>) -> Result<Arc<PrivateKey>, PersistError> {
        let der = BASE64
            .decode(base64.as_bytes())
            .map_err(|_cause| self.damaged(name, "the key is not base64"))?;
        let key = PrivateKey::from_pkcs8_der(der)
            .map_err(|_cause| self.damaged(name, "the key is not a P-256 or P-384 key"))?;
        Ok(Arc::new(key))
    }

    fn parse<T: for<'a> Deserialize<'a> + Versioned>(
        &self,
        name: &str,
        bytes: &[u8],
    ) -> Result<T, PersistError> {
        // The parser's message is left out: it may quote the key.
        let file: T = serde_json::from_slice(bytes).map_err(|error| {
            let place = format!("unreadable at line {}, column {}", error.line(), error.column());
            self.damaged(name, if bytes.is_empty() { "it is empty" } else { &place })
        })?;
        if file.version() != VERSION {
            return Err(self.damaged(
                name,
                &format!("format {} is not known to this version", file.version()),
            ));
        }
        Ok(file)
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, PersistError> {
        self.store.read(name).map_err(|source| PersistError::Store {
            path: self.dir.join(name),
            source,
        })
    }

    fn write<T: Serialize>(&self, name: &str, file: &T) -> Result<(), PersistError> {
        let bytes = serde_json::to_vec(file)
            .map(Zeroizing::new)
            .map_err(|_cause| self.damaged(name, "it does not serialise"))?;
        self.store
            .replace(name, &bytes)
            .map_err(|source| PersistError::Store {
                path: self.dir.join(name),
                source,
            })
    }

    fn remove(&self, name: &str) -> Result<(), PersistError> {
        self.store.remove(name).map_err(|source| PersistError::Store {
            path: self.dir.join(name),
            source,
        })
    }

    fn damaged(&self, name: &str, what: &str) -> PersistError {
        PersistError::Damaged {
            path: self.dir.join(name),
            what: what.to_owned(),
        }
    }
}

trait Versioned {
    fn version(&self) -> u32;
}

impl Versioned for RevisionFile {
    fn version(&self) -> u32 {
        self.version
    }
}

pub(crate) const REVISION: &str = "newest-revision.json";
const VERSION: u32 = 1;

#[cfg(test)]
mod tests;
