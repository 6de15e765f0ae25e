//! For tests: a core over a disk or memory that can be broken, and short ways to say things.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{
    Bundle, PrivateKey, PublicKey, Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime,
};
use landfast_lifecycle::SimClock;
use tempfile::TempDir;

use super::{Core, CoreError, CoreParams, DATABASE, KEYS};
use crate::authority::{AppendedRow, MemoryKeys};
use crate::datastore::Entering;
use crate::datastore::sqlite::SqliteDatastore;
use crate::issuance::Requester;
use crate::registry::{AgentRecord, Created, Entry, EntryDraft};

/// 2026-11-23T08:00:00Z
pub(crate) const START: UnixTime = UnixTime::from_secs(1_795_420_800);
/// How agents of tests get in.
pub(crate) const NEW: Entering = Entering::Attested { at: START };
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A core in memory, with the database at hand.
pub(crate) struct Rig {
    pub(crate) core: Core,
    pub(crate) clock: SimClock,
    pub(crate) db: Arc<SqliteDatastore>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut CoreParams)) -> Self {
        let clock = SimClock::new(START);
        let db = Arc::new(SqliteDatastore::in_memory(&td()).unwrap());
        let mut params = CoreParams::in_memory(td(), Arc::new(clock.clone()));
        change(&mut params);
        let core = Core::assemble(params, db.clone(), Arc::new(MemoryKeys::default()))
            .await
            .unwrap();
        Self { core, clock, db }
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.core.params.clock.now().unwrap()
    }

    pub(crate) fn step(&self, by: Duration) {
        self.clock.step(by.as_secs().try_into().unwrap());
    }

    pub(crate) async fn entry(&self, draft: EntryDraft) -> Arc<Entry> {
        entry(&self.core, draft).await
    }

    pub(crate) async fn db_appended(&self) -> Vec<AppendedRow> {
        self.core.datastore.journal().await.unwrap().appended
    }

    /// Gives the database no page more than it has, or all it wants.
    pub(crate) async fn set_full(&self, full: bool) {
        let sql = if full {
            "PRAGMA max_page_count = 1"
        } else {
            "PRAGMA max_page_count = 1073741823"
        };
        self.db.execute(sql).await;
    }
}

/// A core on a disk.
pub(crate) struct DiskRig {
    pub(crate) dir: TempDir,
    pub(crate) clock: SimClock,
}

impl DiskRig {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: SimClock::new(START),
        }
    }

    pub(crate) fn params(&self) -> CoreParams {
        CoreParams {
            data_dir: Some(self.dir.path().into()),
            ..CoreParams::in_memory(td(), Arc::new(self.clock.clone()))
        }
    }

    pub(crate) async fn open(&self) -> Core {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<Core, CoreError> {
        Core::open(self.params()).await
    }

    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.dir.path().join(DATABASE)
    }

    pub(crate) fn keys(&self) -> std::path::PathBuf {
        self.dir.path().join(KEYS)
    }
}

pub(crate) fn td() -> TrustDomain {
    TrustDomain::parse("plant.example").unwrap()
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::from_parts(&td(), path).unwrap()
}

pub(crate) fn sel(texts: &[&str]) -> SelectorSet {
    texts.iter().map(|text| Selector::parse(text).unwrap()).collect()
}

pub(crate) fn key() -> PublicKey {
    PrivateKey::generate().unwrap().public_key()
}

pub(crate) fn me() -> Requester {
    Requester::local(1000, Some(7))
}

pub(crate) fn draft(parent: &str, path: &str) -> EntryDraft {
    EntryDraft::new(id(parent), id(path), sel(&["unix:uid:1000"]))
}

pub(crate) async fn entry(core: &Core, draft: EntryDraft) -> Arc<Entry> {
    match core.registry.create_entry(draft, &me()).await.unwrap() {
        Created::New(entry) => entry,
        Created::Similar(entry) => panic!("similar to {}", entry.id),
    }
}

pub(crate) fn agent(path: &str, serial: &str, selectors: &[&str]) -> AgentRecord {
    AgentRecord {
        id: id(path),
        attestation_type: "join_token".into(),
        serial: serial.into(),
        not_after: START.saturating_add(7 * DAY),
        new_serial: None,
        new_not_after: None,
        selectors: sel(selectors),
        can_reattest: false,
        agent_version: String::new(),
        key_hash: [7; 32],
    }
}

/// A foreign bundle with one X.509 and one JWT key.
pub(crate) async fn foreign(name: &str) -> Bundle {
    let td = TrustDomain::parse(name).unwrap();
    let db = Arc::new(SqliteDatastore::in_memory(&td).unwrap());
    let params = CoreParams::in_memory(td, Arc::new(SimClock::new(START)));
    let core = Core::assemble(params, db, Arc::new(MemoryKeys::default()))
        .await
        .unwrap();
    core.authorities.bundle().as_ref().clone()
}
