//! What `[ledger]` says.

use std::path::PathBuf;

use landfast_daemon::config::ConfigError;

use super::Checker;
use super::raw::RawLedger;
use crate::forward::ForwardConfig;

impl Checker<'_> {
    /// Where it is, `None` for the data directory, and where its records go from there.
    pub(super) fn ledger(
        &self,
        raw: RawLedger,
    ) -> Result<(Option<PathBuf>, Vec<ForwardConfig>), ConfigError> {
        let directory = raw.directory.map(|path| self.absolute("ledger.directory", path));
        Ok((directory.transpose()?, self.forward(raw.forward)?))
    }
}
