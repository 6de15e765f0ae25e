//! What `[root_key]` says. Invariant: the key is in one file, or elsewhere.

use std::path::Path;

use landfast_daemon::config::ConfigError;

use super::Checker;
use super::raw::RawRootKey;
use crate::chain::RootKeyConfig;

impl Checker<'_> {
    pub(super) fn root_key(
        &self,
        raw: Option<RawRootKey>,
        data_dir: &Path,
    ) -> Result<RootKeyConfig, ConfigError> {
        let Some(raw) = raw else {
            return Ok(RootKeyConfig::None);
        };
        match (raw.file, raw.offline) {
            (Some(file), true) => {
                let expected = "no root_key.offline = true beside it: the key is in this file, or elsewhere";
                Err(self.invalid("root_key.file", &file.display().to_string(), expected))
            }
            (None, true) => Ok(RootKeyConfig::Offline),
            (file, false) => {
                let file = file.unwrap_or_else(|| data_dir.join(FILE));
                Ok(RootKeyConfig::File(self.absolute("root_key.file", file)?))
            }
        }
    }
}

const FILE: &str = "root.key";
