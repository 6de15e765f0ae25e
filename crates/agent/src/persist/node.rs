//! The node's own SVID with its key, and a key on its way to the server.
//!
//! Invariant: a file that is not what we wrote is damaged, whatever it says: with one letter of its certificate changed the node would take its own
//! cache for another node's.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::{KeyType, PrivateKey, X509Svid, chain_to_pem, parse_chain_pem};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{BANNED, NodeFiles, PersistError, VERSION, Versioned};

/// The node's own identity.
#[derive(Clone, Debug)]
pub(crate) struct NodeIdentity {
    pub(crate) svid: Arc<X509Svid>,
    pub(crate) key: Arc<PrivateKey>,
    /// The server lets this node attest again by the same means.
    pub(crate) reattestable: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    version: u32,
    trust_domain: String,
    reattestable: bool,
    chain: String,
    key: String,
    /// Of all that stands before it. Files from before there was one are believed.
    digest: Option<String>,
}

impl IdentityFile {
    fn digest(&self) -> String {
        let Self {
            version,
            trust_domain,
            reattestable,
            chain,
            key,
            digest: _,
        } = self;
        let mut all = ring::digest::Context::new(&ring::digest::SHA256);
        all.update(format!("{version} {trust_domain} {reattestable} {chain} ").as_bytes());
        all.update(key.as_bytes());
        BASE64.encode(all.finish())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PendingFile {
    pub(super) version: u32,
    pub(super) key: String,
}

impl Versioned for IdentityFile {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for PendingFile {
    fn version(&self) -> u32 {
        self.version
    }
}

impl NodeFiles {
    /// The identity this node had when it last ran.
    pub(crate) fn identity(&self) -> Result<Option<NodeIdentity>, PersistError> {
        let Some(bytes) = self.read(IDENTITY)? else {
            return Ok(None);
        };
        let file: IdentityFile = self.parse(IDENTITY, &bytes)?;
        if file
            .digest
            .as_ref()
            .is_some_and(|digest| *digest != file.digest())
        {
            return Err(self.damaged(IDENTITY, "its digest is of something else"));
        }
        if file.trust_domain != self.trust_domain.as_str() {
            return Err(PersistError::OtherTrustDomain {
                path: self.dir.join(IDENTITY),
                found: file.trust_domain,
                expected: self.trust_domain.clone(),
            });
        }
        let key = self.key(IDENTITY, Zeroizing::new(file.key))?;
        let chain = parse_chain_pem(&file.chain)
            .map_err(|_cause| self.damaged(IDENTITY, "the certificate chain cannot be read"))?;
        let svid = X509Svid::new(chain, Arc::clone(&key))
            .map_err(|_cause| self.damaged(IDENTITY, "certificate and key do not make an SVID together"))?;
        if svid.id().trust_domain() != &self.trust_domain || !svid.id().is_agent() {
            return Err(self.damaged(IDENTITY, "the certificate is not an agent's of this trust domain"));
        }
        Ok(Some(NodeIdentity {
            svid: Arc::new(svid),
            key,
            reattestable: file.reattestable,
        }))
    }

    pub(crate) fn save_identity(&self, node: &NodeIdentity) -> Result<(), PersistError> {
        let mut file = IdentityFile {
            version: VERSION,
            trust_domain: self.trust_domain.as_str().to_owned(),
            reattestable: node.reattestable,
            chain: chain_to_pem(node.svid.chain()),
            key: BASE64.encode(node.key.as_pkcs8_der()),
            digest: None,
        };
        file.digest = Some(file.digest());
        // A node that is let in again is not banned: what it begins to keep is not to be destroyed.
        let saved = self.remove(BANNED).and_then(|()| self.write(IDENTITY, &file));
        zeroize::Zeroize::zeroize(&mut file.key);
        saved?;
        self.remove(PENDING)
    }

    /// The key to ask for an SVID with: the one of an unanswered request, or a new one. On disk when this returns. One that is damaged is lost, and said:
    /// a node that asked for nothing more because of it would need a person.
    pub(crate) fn pending_key(
        &self,
        current: Option<&NodeIdentity>,
        key_type: KeyType,
    ) -> Result<Arc<PrivateKey>, PersistError> {
        let pending = match self.pending() {
            Err(error @ PersistError::Damaged { .. }) => {
                tracing::error!(
                    error = landfast_daemon::error_chain(&error),
                    "the key of a request that the server may have answered is lost: this node asks with another one"
                );
                None
            }
            pending => pending?,
        };
        // Left over when we stopped between adopting it and removing this file.
        if let Some(key) = pending
            && current.is_none_or(|node| node.key.public_key() != key.public_key())
        {
            return Ok(key);
        }
        let key = PrivateKey::generate_as(key_type).map_err(PersistError::Key)?;
        let mut file = PendingFile {
            version: VERSION,
            key: BASE64.encode(key.as_pkcs8_der()),
        };
        let saved = self.write(PENDING, &file);
        zeroize::Zeroize::zeroize(&mut file.key);
        saved.map(|()| Arc::new(key))
    }

    fn pending(&self) -> Result<Option<Arc<PrivateKey>>, PersistError> {
        let Some(bytes) = self.read(PENDING)? else {
            return Ok(None);
        };
        let file: PendingFile = self.parse(PENDING, &bytes)?;
        self.key(PENDING, Zeroizing::new(file.key)).map(Some)
    }
}

pub(crate) const IDENTITY: &str = "node-identity.json";
pub(crate) const PENDING: &str = "node-key-pending.json";

#[cfg(test)]
mod tests;
