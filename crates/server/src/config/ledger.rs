//! What `[ledger]` says.

use std::path::PathBuf;

use landfast_daemon::config::{ConfigError, HumanSize};

use super::Checker;

impl Checker<'_> {
    /// Where it is, `None`: in the data directory; and the bytes it may take.
    pub(super) fn ledger(
        &self,
        directory: Option<PathBuf>,
        limit: Option<HumanSize>,
    ) -> Result<(Option<PathBuf>, Option<u64>), ConfigError> {
        let directory = directory.map(|path| self.absolute("ledger.directory", path));
        Ok((directory.transpose()?, limit.map(|limit| limit.bytes())))
    }
}
