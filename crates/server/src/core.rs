//! Datastore, registry, authorities and issuance, put together. Invariant: a data directory that was used once is never begun anew.

mod disk;
mod leap;
mod maintenance;

pub(crate) use disk::used_percent;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::TrustDomain;
use landfast_lifecycle::SharedClock;
use landfast_store::{Store, StoreError};

use crate::authority::{
    Authorities, AuthorityError, AuthorityParams, DiskKeys, KeyManager, KeyTypes, MemoryKeys, Upstream,
};
use crate::backup::{self, BackupError};
use crate::datastore::postgres::{Opening, PostgresConfig, PostgresDatastore};
use crate::datastore::sqlite::SqliteDatastore;
use crate::datastore::{Datastore, DatastoreError, OpenError};
use crate::issuance::{Issuer, Ttls};
use crate::ledger::{self, Ledger, OpenLedgerError};
use crate::peers::Peers;
use crate::quarantine::Quarantine;
use crate::quarantine::state::Mark;
use crate::random;
use crate::registry::{MargoPaths, Registry};
use crate::reserve::{ReserveLimits, Rules};
use crate::upstream::UpstreamConfig;

/// What the core is opened with.
#[derive(Clone, Debug)]
pub struct CoreParams {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Where everything is kept; `None` keeps it in memory, for `landfast dev`.
    pub data_dir: Option<PathBuf>,
    /// Where the ledger is; `None`: in `data_dir`. In memory there is none.
    pub ledger_dir: Option<PathBuf>,
    /// Bytes that it may take before that is an alarm; `None`: what its disk has.
    pub ledger_limit: Option<u64>,
    /// Whether there is one; as [`crate::ServerParts::ledger`].
    pub ledger: bool,
    /// Where everything but keys is kept instead, for several servers.
    pub postgres: Option<PostgresConfig>,
    /// How long things live.
    pub ttls: Ttls,
    /// For how long records of expired SVIDs are kept.
    pub records_keep: Duration,
    /// The time.
    pub clock: SharedClock,
    /// The `iss` of JWT-SVIDs.
    pub jwt_issuer: Option<String>,
    /// Kinds of keys of the authorities.
    pub keys: KeyTypes,
    /// Whether WIT-SVIDs are issued (incubating).
    pub wit: bool,
    /// What IDs below `/margo/` are.
    pub margo: MargoPaths,
    /// What entries may ask for ahead.
    pub reserve: ReserveLimits,
    /// Who signs our X.509 authorities; they sign themselves when nobody does.
    pub upstream: Option<UpstreamConfig>,
}

impl CoreParams {
    /// Everything in memory, everything else as by default.
    pub fn in_memory(trust_domain: TrustDomain, clock: SharedClock) -> Self {
        Self {
            trust_domain,
            data_dir: None,
            ledger_dir: None,
            ledger_limit: None,
            ledger: true,
            postgres: None,
            ttls: Ttls::default(),
            records_keep: RECORDS_KEEP,
            clock,
            jwt_issuer: None,
            keys: KeyTypes::default(),
            wit: false,
            margo: MargoPaths::default(),
            reserve: ReserveLimits::default(),
            upstream: None,
        }
    }
}

/// The part of the server that knows, decides and signs.
pub struct Core {
    /// Who exists and who may have what.
    pub registry: Arc<Registry>,
    /// Who signs.
    pub authorities: Arc<Authorities>,
    /// The only door to a signature.
    pub issuer: Arc<Issuer>,
    /// Whether it may be answered from at all.
    pub(crate) quarantine: Arc<Quarantine>,
    /// What its nodes say of themselves.
    pub(crate) peers: Arc<Peers>,
    /// What it decided and signed.
    pub(crate) ledger: Ledger,
    pub(crate) datastore: Arc<dyn Datastore>,
    params: CoreParams,
}

impl Core {
    /// Opens the data directory, or begins in memory. A directory that has been used before is opened whole or not at all.
    ///
    /// # Errors
    /// [`CoreError`] names the file and what to do.
    pub async fn open(params: CoreParams) -> Result<Self, CoreError> {
        for warning in params.ttls.warnings() {
            tracing::warn!("{warning}");
        }
        let (datastore, keys, quarantine, ledger) = storage(&params).await?;
        let upstream = params.upstream.as_ref();
        let upstream = upstream.map(|upstream| upstream.open(&params.trust_domain, &params.clock));
        Self::assemble_all(params, datastore, keys, upstream, (quarantine, ledger)).await
    }

    #[cfg(test)]
    pub(crate) async fn assemble(
        params: CoreParams,
        datastore: Arc<dyn Datastore>,
        keys: Arc<dyn KeyManager>,
    ) -> Result<Self, CoreError> {
        let upstream = params.upstream.as_ref();
        let upstream = upstream.map(|upstream| upstream.open(&params.trust_domain, &params.clock));
        Self::assemble_below(params, datastore, keys, upstream).await
    }

    /// With this ledger.
    #[cfg(test)]
    pub(crate) async fn assemble_recording(
        params: CoreParams,
        datastore: Arc<dyn Datastore>,
        keys: Arc<dyn KeyManager>,
        ledger: Ledger,
    ) -> Result<Self, CoreError> {
        Self::assemble_all(params, datastore, keys, None, (Quarantine::none(), ledger)).await
    }

    /// With whatever above.
    #[cfg(test)]
    pub(crate) async fn assemble_below(
        params: CoreParams,
        datastore: Arc<dyn Datastore>,
        keys: Arc<dyn KeyManager>,
        upstream: Option<Arc<dyn Upstream>>,
    ) -> Result<Self, CoreError> {
        Self::assemble_all(
            params,
            datastore,
            keys,
            upstream,
            (Quarantine::none(), Ledger::none()),
        )
        .await
    }

    async fn assemble_all(
        params: CoreParams,
        datastore: Arc<dyn Datastore>,
        keys: Arc<dyn KeyManager>,
        upstream: Option<Arc<dyn Upstream>>,
        (quarantine, ledger): (Arc<Quarantine>, Ledger),
    ) -> Result<Self, CoreError> {
        let path = match (&params.postgres, &params.data_dir) {
            (Some(postgres), _) => postgres.shown(),
            (None, dir) => dir.as_deref().map(|dir| dir.join(DATABASE)).unwrap_or_default(),
        };
        let unreadable = |source| CoreError::Load {
            path: path.clone(),
            source,
        };
        let clock = Arc::clone(&params.clock);
        let rules = Rules {
            limits: params.reserve,
            ca: params.ttls.ca,
            x509: params.ttls.x509,
        };
        let registry = Registry::open(
            params.trust_domain.clone(),
            (params.margo, rules),
            Arc::clone(&datastore),
            Arc::clone(&clock),
        )
        .await
        .map_err(unreadable)?;
        // Before the authorities are looked after, which may change the bundle.
        let sequence = datastore.journal().await.map_err(unreadable)?.sequence;
        quarantine.record_in(&ledger).await;
        quarantine.compare(Mark::new(registry.revision(), sequence)).await;
        let authority_params = AuthorityParams {
            trust_domain: params.trust_domain.clone(),
            ca_ttl: params.ttls.ca,
            backdate: params.ttls.backdate,
            keys: params.keys,
            wit: params.wit,
            longest_reserve: params.reserve.longest,
        };
        let opened = Authorities::open(
            authority_params,
            Arc::clone(&datastore),
            keys,
            Arc::clone(&clock),
            upstream,
        )
        .await;
        let opened = opened.map_err(|error| match error {
            AuthorityError::Storage { source } => unreadable(source),
            other => other.into(),
        })?;
        let authorities = opened.held_by(Arc::clone(&quarantine)).recording(ledger.clone());
        let authorities = Arc::new(authorities.await);
        let registry = Arc::new(registry);
        let issuer = Issuer::new(
            params.trust_domain.clone(),
            params.ttls.clone(),
            params.jwt_issuer.clone(),
            (params.margo, rules),
            Arc::clone(&authorities),
            Arc::clone(&datastore),
            clock,
        )
        .held_by(Arc::clone(&quarantine))
        .recording(ledger.clone())
        .going_on_by(Arc::clone(&registry));
        Ok(Self {
            registry,
            authorities,
            issuer: Arc::new(issuer),
            quarantine,
            peers: Arc::default(),
            ledger,
            datastore,
            params,
        })
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Core({})", self.params.trust_domain)
    }
}

type Parts = (Arc<dyn Datastore>, Arc<dyn KeyManager>, Arc<Quarantine>, Ledger);

async fn storage(params: &CoreParams) -> Result<Parts, CoreError> {
    let Some(dir) = &params.data_dir else {
        let datastore = SqliteDatastore::in_memory(&params.trust_domain)?;
        return Ok((
            Arc::new(datastore),
            Arc::new(MemoryKeys::default()),
            Quarantine::none(),
            Ledger::none(),
        ));
    };
    let store = Store::open(dir)?;
    backup::recover(dir)?;
    let keys = DiskKeys::open(&dir.join(KEYS))?;
    // Keys are made after the database: where there are keys there was a database.
    let initialised = store.read(MARKER)?.is_some() || !keys.is_empty()?;
    if let Some(target) = &params.postgres {
        let server = server_id(&store)?;
        let opening = Opening {
            target,
            trust_domain: &params.trust_domain,
            server,
            initialised,
            lock: Some(store.clone()),
        };
        let datastore = PostgresDatastore::open(opening).await?;
        store.replace(MARKER, format!("{}\n", params.trust_domain).as_bytes())?;
        let ledger = open_ledger(params, &store)?;
        return Ok((Arc::new(datastore), Arc::new(keys), Quarantine::none(), ledger));
    }
    let datastore = SqliteDatastore::open(&dir.join(DATABASE), &params.trust_domain, initialised)?;
    sync_directory(dir)?;
    store.replace(MARKER, format!("{}\n", params.trust_domain).as_bytes())?;
    let ledger = open_ledger(params, &store)?;
    let lock = store.clone();
    let datastore: Arc<dyn Datastore> = Arc::new(datastore.holding(lock));
    let clock = Arc::clone(&params.clock);
    let quarantine = Quarantine::open(&store, initialised, Arc::clone(&datastore), clock)?;
    Ok((datastore, Arc::new(keys), quarantine, ledger))
}

fn open_ledger(params: &CoreParams, data: &Store) -> Result<Ledger, CoreError> {
    if !params.ledger {
        return Ok(Ledger::none());
    }
    let dir = params.ledger_dir.clone();
    let dir = dir.unwrap_or_else(|| data.path().join(ledger::DIRECTORY));
    Ok(ledger::open(
        data,
        (&dir, params.ledger_limit),
        &params.trust_domain,
        Arc::clone(&params.clock),
    )?)
}

/// The name of this server among those that share a database: made once, durable before it is used.
pub(crate) fn server_id(store: &Store) -> Result<String, CoreError> {
    if let Some(known) = store.read(SERVER_ID)? {
        let known = String::from_utf8_lossy(&known).trim().to_owned();
        let is_ours = known.len() == 32 && known.bytes().all(|b| b.is_ascii_hexdigit());
        return match is_ours {
            true => Ok(known),
            false => Err(CoreError::ServerId {
                path: store.path().join(SERVER_ID),
            }),
        };
    }
    let made = random::hex_id().ok_or(CoreError::Random)?;
    store.replace(SERVER_ID, format!("{made}\n").as_bytes())?;
    Ok(made)
}

/// The name of a new database file is durable only when its directory is.
fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    std::fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| StoreError::Directory {
            path: dir.into(),
            source,
        })
}

/// Why the core was not opened. Nothing was begun anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The data directory or a file in it cannot be used.
    #[error("the data directory cannot be used")]
    Store {
        /// Why.
        #[from]
        source: StoreError,
    },
    /// The ledger was not opened.
    #[error("the ledger was not opened")]
    Ledger {
        /// Why.
        #[from]
        source: OpenLedgerError,
    },
    /// A restore was interrupted, and cannot be completed.
    #[error("a restore was interrupted and cannot be completed now")]
    Restore {
        /// Why.
        #[from]
        source: BackupError,
    },
    /// The file that names this server holds something else.
    #[error("{} does not hold the name of this server: restore it from a backup", path.display())]
    ServerId {
        /// The file.
        path: PathBuf,
    },
    /// The random source failed.
    #[error("the random source failed")]
    Random,
    /// The database was not opened.
    #[error("the database was not opened")]
    Database {
        /// Why.
        #[from]
        source: OpenError,
    },
    /// The database was opened, but cannot be read.
    #[error("the database {} cannot be read", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DatastoreError,
    },
    /// There are no authorities to sign with.
    #[error("the authorities cannot be used")]
    Authority {
        /// Why.
        #[from]
        source: AuthorityError,
    },
}

/// The database in the data directory.
pub(crate) const DATABASE: &str = "landfast.db";
/// The directory of keys in the data directory.
pub(crate) const KEYS: &str = "keys";
/// Says that there was a database.
pub(crate) const MARKER: &str = "initialized";
/// Which of the servers that share a database this is.
pub(crate) const SERVER_ID: &str = "server-id";
const RECORDS_KEEP: Duration = Duration::from_secs(30 * 86_400);

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
