//! What `[ledger]` says.

use std::path::PathBuf;

use landfast_daemon::config::ConfigError;

use super::Checker;
use super::raw::RawLedger;

impl Checker<'_> {
    /// Where it is, `None`: in the data directory; and the bytes it may take.
    pub(super) fn ledger(&self, raw: RawLedger) -> Result<(Option<PathBuf>, Option<u64>), ConfigError> {
        let directory = raw.directory.map(|path| self.absolute("ledger.directory", path));
        Ok((directory.transpose()?, raw.limit.map(|limit| limit.bytes())))
    }
}
