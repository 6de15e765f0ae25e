//! The key of the ledger and its beginning. Invariant: a key that was used once never signs another log, and a log goes on under its own key alone.

use std::path::{Path, PathBuf};

use landfast_audit::{CheckpointKey, KeyError, Log, LogError};
use landfast_daemon::error_chain;
use landfast_identity::TrustDomain;
use landfast_lifecycle::SharedClock;
use landfast_store::{Store, StoreError};

use super::Ledger;
use super::missed::Missed;
use super::room::Room;

/// Why the ledger was not opened. Nothing was begun anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenLedgerError {
    /// Its directory or its key's cannot be used.
    #[error("the directory of the ledger cannot be used")]
    Store {
        /// Why.
        #[from]
        source: StoreError,
    },
    /// The log is not there as it was.
    #[error("the ledger cannot be opened")]
    Log {
        /// Why.
        #[from]
        source: LogError,
    },
    /// The log is there as it was, and neither can it be written nor that it has a gap.
    #[error(
        "the ledger cannot be written, nor can it be written that it has a gap: make room, or mend the disk of the data directory"
    )]
    Mark {
        /// Why.
        source: StoreError,
    },
    /// The key is none.
    #[error("{} cannot be used: put back the key of this ledger", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

/// Opens the ledger in `dir` under the key in the data directory, or begins one where there is neither.
pub(crate) fn open(
    data: &Store,
    (dir, limit): (&Path, Option<u64>),
    trust_domain: &TrustDomain,
    clock: SharedClock,
) -> Result<Ledger, OpenLedgerError> {
    let prefix = format!("{trust_domain}/landfast/ledger");
    let damaged = |source| OpenLedgerError::Key {
        path: data.path().join(KEY),
        source,
    };
    let store = Store::open(dir)?;
    let (log, recovered) = match data.read(KEY)? {
        Some(der) => {
            let key = CheckpointKey::from_pkcs8_der(&prefix, &der).map_err(damaged)?;
            let public = format!("{}\n", key.verifier_key());
            let there = store.read(PUBLIC)?;
            if there.is_none_or(|there| there.as_slice() != public.as_bytes())
                && let Err(error) = store.replace(PUBLIC, public.as_bytes())
            {
                let error = error_chain(&error);
                tracing::warn!(
                    error,
                    "the file with the key that verifies the ledger cannot be written"
                );
            }
            Log::open(store, key)?
        }
        None => {
            let der = CheckpointKey::generate().map_err(damaged)?;
            let key = CheckpointKey::from_pkcs8_der(&prefix, &der).map_err(damaged)?;
            let public = key.verifier_key();
            let log = Log::begin(store.clone(), key)?;
            store.replace(PUBLIC, format!("{public}\n").as_bytes())?;
            // Last: with a key there has to be a log.
            data.create(KEY, &der)?;
            tracing::info!(ledger = %dir.display(), key = public, "a ledger is begun: keep its key's line where auditors find it");
            (log, landfast_audit::Recovered::default())
        }
    };
    if recovered.held {
        tracing::error!(
            records = recovered.records,
            "the disk of the ledger takes nothing: what was found is held, and the server starts in a gap"
        );
    }
    if recovered.cut > 0 {
        tracing::warn!(
            bytes = recovered.cut,
            "a batch of the ledger that was being written when the power went was cut off: nothing of it had been acknowledged"
        );
    }
    let before = Missed::of_before(data)?;
    if before.is_some() {
        tracing::error!(
            "the server ended while the ledger had a gap: what was issued without a record is not counted; the datastore knows it until it has expired"
        );
    }
    let missed = Missed::new(data.clone());
    let room = Room::new(dir, limit);
    Ok(Ledger::start((log, recovered), clock, (missed, before), room)?.lies(data, dir))
}

/// The private key, in the data directory.
const KEY: &str = "ledger.key";
/// What verifies the ledger, in its directory.
const PUBLIC: &str = "verifier-key";
/// The directory of the ledger in the data directory.
pub(crate) const DIRECTORY: &str = "ledger";
