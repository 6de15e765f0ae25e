//! What is kept of the workloads' identities. Invariant: a node that must not store keys stores none.

use std::path::PathBuf;

use landfast_daemon::config::ConfigError;

use super::Checker;

/// Where workloads' identities are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// Sealed, in the data directory.
    Disk {
        /// The key's file, when it is not in the data directory too.
        seal_key: Option<PathBuf>,
    },
    /// Nowhere: a restart without a server serves nothing.
    Memory,
}

impl CacheKind {
    /// Who could use what is kept.
    pub(crate) fn sealed(&self) -> &'static str {
        match self {
            Self::Disk { seal_key: None } => {
                "sealed, with the key in the data directory: a disk that is stolen has both"
            }
            Self::Disk { seal_key: Some(_) } => "sealed, with the key on the medium of seal_key",
            Self::Memory => "in memory only: gone with a restart",
        }
    }
}

impl Checker<'_> {
    pub(super) fn cache(
        &self,
        kind: Option<&str>,
        seal_key: Option<PathBuf>,
    ) -> Result<CacheKind, ConfigError> {
        let seal_key = seal_key.map(|path| self.absolute("seal_key", path)).transpose()?;
        match (kind, seal_key) {
            (None | Some("disk"), seal_key) => Ok(CacheKind::Disk { seal_key }),
            (Some("memory"), None) => Ok(CacheKind::Memory),
            (Some("memory"), Some(path)) => Err(self.invalid(
                "seal_key",
                &path.to_string_lossy(),
                "no seal_key beside cache = \"memory\", which keeps nothing",
            )),
            (Some(other), _) => Err(self.invalid("cache", other, "disk or memory")),
        }
    }
}
