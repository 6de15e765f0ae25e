//! The trust bundle to begin with, from the file the operator gave.
//!
//! Invariant: a bundle without an authority is refused here, not at the first handshake.

use std::io::Read as _;
use std::path::Path;

use landfast_identity::{Bundle, TrustDomain};

use crate::error::AgentError;

/// The operator's bundle and a digest of its file, by which a replaced file is recognised.
pub(crate) struct Bootstrap {
    pub(crate) bundle: Bundle,
    pub(crate) digest: String,
}

impl Bootstrap {
    /// Reads PEM or JWKS; a file that begins with a brace is JWKS. Blocks.
    pub(crate) fn read(path: &Path, trust_domain: &TrustDomain) -> Result<Self, AgentError> {
        let error = |source| AgentError::TrustBundle {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(error)?;
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(error)?;
        let wrong = |what: String| AgentError::TrustBundleContent {
            path: path.to_owned(),
            what,
        };
        let text = std::str::from_utf8(&bytes).map_err(|_cause| wrong("it is not text".to_owned()))?;
        let parsed = if text.trim_start().starts_with('{') {
            Bundle::from_jwks(trust_domain.clone(), &bytes)
        } else {
            Bundle::from_pem(trust_domain.clone(), text)
        };
        let bundle = parsed.map_err(|error| wrong(landfast_daemon::error_chain(&error)))?;
        if bundle.x509_authorities().is_empty() {
            return Err(wrong("it holds no X.509 authority".to_owned()));
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        Ok(Self {
            bundle,
            digest: digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

const MAX_FILE: u64 = 4 << 20;

#[cfg(test)]
#[path = "bootstrap/tests.rs"]
mod tests;
