//! SQLite behind the datastore. Invariant: one thread writes, and what it has answered is on the disk (WAL, synchronous=FULL).

mod above;
mod agents;
mod appended;
mod authorities;
mod bundles;
mod chain;
mod convert;
mod entries;
mod epoch;
mod export;
mod import;
mod migrate;
mod open;
mod people;
mod policies;
mod probe;
mod records;
mod recoveries;
mod relationships;
mod rungs;
mod tokens;
mod tombstones;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use landfast_identity::chain::{SignedStep, StepDigest};
use landfast_identity::{Bundle, SpiffeId, TrustDomain, UnixTime};
use landfast_lifecycle::recovery::Recovery;
use landfast_store::Store;

use super::{
    AgentChange, CommitListener, Datastore, DatastoreError, Debt, DebtQuery, Entering, NewToken, OpenError,
    Prune, Recorded, Redemption, Snapshot, StepPlace,
};
use crate::authority::{Above, AppendedRow, AuthorityRow, Journal, OtherChange};
use crate::issuance::IssuanceRecord;
use crate::people::{Done, PersonRef, Register, Step};
use crate::registry::{
    AgentRecord, BundleWrite, Created, DeleteMode, Entry, EntryDraft, EntryPatch, EntryPolicy, MargoPaths,
    PolicyPatch, RecoveryStep, Redeemed, RegistryError, Relationship, RelationshipPatch, Stepped, TokenError,
};
use writer::Writer;

pub(crate) use export::Export;
pub(crate) use import::Import;
pub use import::ImportError;
pub(crate) use migrate::pending;

/// A database in one file, or in memory.
pub(crate) struct SqliteDatastore {
    writer: Writer,
    /// Keeps other processes out of the data directory until the writer has closed the file.
    _lock: Option<Store>,
}

impl SqliteDatastore {
    /// Opens the database, made if there never was one. With `initialised`, there was: then a missing or empty file is an error.
    pub(crate) fn open(
        path: &Path,
        trust_domain: &TrustDomain,
        initialised: bool,
    ) -> Result<Self, OpenError> {
        let connection = open::file(path, trust_domain, initialised)?;
        Ok(Self {
            writer: Writer::start(connection).map_err(|source| OpenError::Open {
                path: path.into(),
                source,
            })?,
            _lock: None,
        })
    }

    /// A database that is gone when it is dropped.
    pub(crate) fn in_memory(trust_domain: &TrustDomain) -> Result<Self, OpenError> {
        let connection = open::memory(trust_domain)?;
        Ok(Self {
            writer: Writer::start(connection).map_err(|source| OpenError::Open {
                path: open::MEMORY.into(),
                source,
            })?,
            _lock: None,
        })
    }

    /// The same, holding the lock of its directory until the file is closed.
    pub(crate) fn holding(mut self, lock: Store) -> Self {
        self._lock = Some(lock);
        self
    }

    /// Lets a test break or bound the database.
    #[cfg(test)]
    pub(crate) async fn execute(&self, sql: &'static str) {
        let run = move |tx: &mut writer::Tx<'_>| -> Result<(), DatastoreError> {
            let mut statement = tx.conn().prepare(sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        };
        self.writer.write(run).await.unwrap();
    }
}

fn snapshot(tx: &writer::Tx<'_>) -> Result<Snapshot, DatastoreError> {
    Ok(Snapshot {
        revision: tx.revision()?,
        entries: entries::all(tx)?,
        agents: agents::all(tx)?,
        bundles: bundles::all(tx)?,
        relationships: relationships::all(tx)?,
        people: people::all(tx)?,
    })
}

#[async_trait]
impl Datastore for SqliteDatastore {
    async fn load(&self, now: Option<UnixTime>) -> Result<Snapshot, DatastoreError> {
        self.writer
            .write(move |tx| {
                tx.begin_epoch(now)?;
                snapshot(tx)
            })
            .await
    }

    fn follow(&self, listener: Arc<dyn CommitListener>) {
        self.writer.follow(listener);
    }

    async fn create_entry(
        &self,
        draft: EntryDraft,
        id: String,
        by: String,
        now: UnixTime,
    ) -> Result<Created, RegistryError> {
        self.writer
            .write(move |tx| entries::create(tx, draft, id, &by, now))
            .await
    }

    async fn update_entry(
        &self,
        id: String,
        patch: EntryPatch,
        margo: MargoPaths,
        now: UnixTime,
    ) -> Result<Arc<Entry>, RegistryError> {
        self.writer
            .write(move |tx| entries::update(tx, id, patch, margo, now))
            .await
    }

    async fn set_policy(
        &self,
        id: String,
        patch: PolicyPatch,
        if_revision: Option<u64>,
        now: UnixTime,
    ) -> Result<Arc<EntryPolicy>, RegistryError> {
        self.writer
            .write(move |tx| policies::set(tx, &id, patch, if_revision, now))
            .await
    }

    async fn delete_entry(&self, id: String, now: UnixTime) -> Result<bool, RegistryError> {
        self.writer.write(move |tx| entries::delete(tx, &id, now)).await
    }

    async fn attest_agent(&self, record: AgentRecord, entering: Entering) -> Result<(), RegistryError> {
        self.writer
            .write(move |tx| agents::attest(tx, record, entering))
            .await
    }

    async fn change_agent(&self, id: SpiffeId, change: AgentChange) -> Result<bool, RegistryError> {
        self.writer.write(move |tx| agents::change(tx, &id, change)).await
    }

    async fn delete_agent(&self, id: SpiffeId, now: UnixTime) -> Result<bool, RegistryError> {
        self.writer.write(move |tx| agents::delete(tx, &id, now)).await
    }

    async fn recover(&self, id: SpiffeId, step: RecoveryStep) -> Result<(Stepped, Recovery), RegistryError> {
        self.writer.write(move |tx| recoveries::step(tx, &id, step)).await
    }

    async fn recovery(&self, id: SpiffeId) -> Result<Option<Recovery>, DatastoreError> {
        self.writer.write(move |tx| recoveries::find(tx, &id)).await
    }

    async fn waiting_recoveries(
        &self,
        after: String,
        limit: usize,
    ) -> Result<Vec<(SpiffeId, Recovery)>, DatastoreError> {
        self.writer
            .write(move |tx| recoveries::waiting(tx, &after, limit))
            .await
    }

    async fn change_people(
        &self,
        td: TrustDomain,
        step: Step,
        by: Option<PersonRef>,
        now: UnixTime,
    ) -> Result<Done, RegistryError> {
        self.writer
            .write(move |tx| people::step(tx, &td, step, by.as_ref(), now))
            .await
    }

    async fn register(&self, td: TrustDomain) -> Result<Register, DatastoreError> {
        self.writer.write(move |tx| people::register(tx, &td)).await
    }

    async fn create_token(&self, token: NewToken) -> Result<(), RegistryError> {
        self.writer.write(move |tx| tokens::create(tx, &token)).await
    }

    async fn redeem_token(&self, redemption: Redemption) -> Result<Redeemed, TokenError> {
        self.writer.write(move |tx| tokens::redeem(tx, redemption)).await
    }

    async fn set_bundle(&self, bundle: Arc<Bundle>, mode: BundleWrite) -> Result<Arc<Bundle>, RegistryError> {
        self.writer.write(move |tx| bundles::set(tx, bundle, mode)).await
    }

    async fn delete_bundle(
        &self,
        td: TrustDomain,
        mode: DeleteMode,
        now: UnixTime,
    ) -> Result<bool, RegistryError> {
        self.writer
            .write(move |tx| bundles::delete(tx, &td, mode, now))
            .await
    }

    async fn adopt_bundle(
        &self,
        bundle: Arc<Bundle>,
        under: Option<Arc<Relationship>>,
    ) -> Result<bool, RegistryError> {
        self.writer
            .write(move |tx| bundles::adopt(tx, bundle, under.as_deref()))
            .await
    }

    async fn create_relationship(
        &self,
        relationship: Arc<Relationship>,
        bundle: Option<Arc<Bundle>>,
    ) -> Result<(), RegistryError> {
        self.writer
            .write(move |tx| relationships::create(tx, relationship, bundle))
            .await
    }

    async fn update_relationship(
        &self,
        td: TrustDomain,
        patch: RelationshipPatch,
    ) -> Result<Arc<Relationship>, RegistryError> {
        self.writer
            .write(move |tx| relationships::update(tx, &td, &patch))
            .await
    }

    async fn delete_relationship(&self, td: TrustDomain, now: UnixTime) -> Result<bool, RegistryError> {
        self.writer
            .write(move |tx| relationships::delete(tx, &td, now))
            .await
    }

    async fn record(&self, records: Vec<IssuanceRecord>) -> Result<Vec<Recorded>, DatastoreError> {
        self.writer.write(move |tx| records::write(tx, &records)).await
    }

    async fn records(&self, id: SpiffeId) -> Result<Vec<IssuanceRecord>, DatastoreError> {
        self.writer.write(move |tx| records::of(tx, &id)).await
    }

    async fn debts(&self, query: DebtQuery) -> Result<Vec<Debt>, DatastoreError> {
        self.writer.write(move |tx| rungs::debts(tx, &query)).await
    }

    async fn acknowledge(&self, agent: SpiffeId, sequence: u64) -> Result<(), DatastoreError> {
        let write = move |tx: &mut writer::Tx<'_>| rungs::acknowledge(tx, &agent, sequence);
        self.writer.write(write).await
    }

    async fn last_rung(
        &self,
        signed_before: UnixTime,
        begin_after: UnixTime,
    ) -> Result<Option<UnixTime>, DatastoreError> {
        let read = move |tx: &mut writer::Tx<'_>| rungs::last_of_before(tx, signed_before, begin_after);
        self.writer.write(read).await
    }

    async fn unacknowledged(&self, sequence: u64, now: UnixTime) -> Result<usize, DatastoreError> {
        let read = move |tx: &mut writer::Tx<'_>| rungs::unacknowledged(tx, sequence, now);
        self.writer.write(read).await
    }

    async fn journal(&self) -> Result<Journal, DatastoreError> {
        self.writer.write(|tx| authorities::journal(tx)).await
    }

    async fn save_journal(
        &self,
        expected: u64,
        rows: Vec<AuthorityRow>,
    ) -> Result<Option<Journal>, DatastoreError> {
        self.writer
            .write(move |tx| authorities::save(tx, expected, &rows, None))
            .await
    }

    async fn save_below(
        &self,
        expected: u64,
        rows: Vec<AuthorityRow>,
        above: Above,
    ) -> Result<Option<Journal>, DatastoreError> {
        self.writer
            .write(move |tx| authorities::save(tx, expected, &rows, Some(&above)))
            .await
    }

    async fn save_appended(
        &self,
        expected: u64,
        rows: Vec<AppendedRow>,
    ) -> Result<Option<Journal>, DatastoreError> {
        self.writer
            .write(move |tx| appended::save(tx, expected, &rows))
            .await
    }

    /// There is no other server.
    async fn change_other(
        &self,
        _expected: u64,
        _id: String,
        _change: OtherChange,
    ) -> Result<Option<Journal>, DatastoreError> {
        Ok(None)
    }

    async fn renew_epoch(&self, epoch: u64, sequence: u64) -> Result<(), DatastoreError> {
        self.writer
            .write(move |tx| epoch::renew(tx, epoch, sequence))
            .await
    }

    async fn newest_step(&self) -> Result<Option<SignedStep>, DatastoreError> {
        self.writer.write(|tx| chain::newest(tx)).await
    }

    async fn steps(
        &self,
        from: StepPlace,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Vec<u8>>, DatastoreError> {
        let read = move |tx: &mut writer::Tx<'_>| chain::from(tx, from, limit, bytes);
        self.writer.write(read).await
    }

    async fn append_steps(
        &self,
        after: Option<StepDigest>,
        steps: Vec<Arc<SignedStep>>,
    ) -> Result<bool, DatastoreError> {
        self.writer
            .write(move |tx| chain::append(tx, after, &steps))
            .await
    }

    async fn prune(&self, what: Prune, limit: usize) -> Result<usize, DatastoreError> {
        self.writer
            .write(move |tx| match what {
                Prune::Records { expired_before } => records::prune(tx, expired_before, limit),
                Prune::Entries { now } => entries::prune(tx, now, limit),
                Prune::Tokens { before } => tokens::prune(tx, before, limit),
                Prune::Tombstones { before } => tombstones::prune(tx, before, limit),
                Prune::Authorities { .. } => Ok(0),
            })
            .await
    }

    async fn probe(&self) -> Result<(), DatastoreError> {
        self.writer.write(|tx| probe::run(tx)).await
    }

    async fn doubted(&self) {
        self.writer.doubted().await;
    }
}

#[cfg(test)]
mod tests;
