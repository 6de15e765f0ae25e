//! The newest bundle that the server gave.
//!
//! Invariant: a file that is not what we wrote is damaged, whatever it says: with another key in it the node would take its own server for a stranger,
//! for good.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::Bundle;
use serde::{Deserialize, Serialize};

use super::{NodeFiles, PersistError, VERSION, Versioned};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleFile {
    version: u32,
    bootstrap: String,
    sequence: u64,
    jwks: serde_json::Value,
    /// Of all that stands before it. Files from before there was one are believed.
    digest: Option<String>,
}

impl BundleFile {
    fn digest(&self) -> String {
        let Self {
            version,
            bootstrap,
            sequence,
            jwks,
            digest: _,
        } = self;
        let all = format!("{version} {bootstrap} {sequence} {jwks}");
        BASE64.encode(ring::digest::digest(&ring::digest::SHA256, all.as_bytes()))
    }
}

impl Versioned for BundleFile {
    fn version(&self) -> u32 {
        self.version
    }
}

impl NodeFiles {
    /// The newest bundle the server gave us, unless the operator has replaced the bootstrap bundle since: that is
    /// how a node that slept through a change of authorities is helped.
    pub(crate) fn bundle(&self, bootstrap: &str) -> Result<Option<Bundle>, PersistError> {
        let Some(bytes) = self.read(BUNDLE)? else {
            return Ok(None);
        };
        let file: BundleFile = self.parse(BUNDLE, &bytes)?;
        if file
            .digest
            .as_ref()
            .is_some_and(|digest| *digest != file.digest())
        {
            return Err(self.damaged(BUNDLE, "its digest is of something else"));
        }
        if file.bootstrap != bootstrap {
            return Ok(None);
        }
        let jwks = file.jwks.to_string();
        let bundle = Bundle::from_jwks(self.trust_domain.clone(), jwks.as_bytes())
            .map_err(|_cause| self.damaged(BUNDLE, "the trust bundle cannot be read"))?;
        Ok(Some(bundle))
    }

    pub(crate) fn save_bundle(&self, bundle: &Bundle, bootstrap: &str) -> Result<(), PersistError> {
        let jwks = serde_json::from_str(&bundle.to_jwks())
            .map_err(|_cause| self.damaged(BUNDLE, "the new bundle does not serialise"))?;
        let mut file = BundleFile {
            version: VERSION,
            bootstrap: bootstrap.to_owned(),
            sequence: bundle.sequence(),
            jwks,
            digest: None,
        };
        file.digest = Some(file.digest());
        self.write(BUNDLE, &file)
    }
}

pub(crate) const BUNDLE: &str = "trust-bundle.json";
