//! A datastore in memory whose saving of the journal goes wrong on script.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use landfast_identity::chain::{SignedStep, StepDigest};
use landfast_identity::{Bundle, SpiffeId};
use landfast_lifecycle::recovery::Recovery;
use tokio::sync::Notify;

use super::*;
use crate::datastore::{
    AgentChange, CommitListener, DatastoreError, Debt, DebtQuery, Entering, NewToken, Prune, Recorded,
    Redemption, Snapshot, StepPlace,
};
use crate::issuance::IssuanceRecord;
use crate::registry::{
    AgentRecord, BundleWrite, Created, DeleteMode, Entry, EntryDraft, EntryPatch, EntryPolicy, MargoPaths,
    PolicyPatch, RecoveryStep, Redeemed, RegistryError, Relationship, RelationshipPatch, Stepped, TokenError,
};

/// What becomes of one attempt to save the journal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lost {
    /// It is saved, and reported as failed.
    Answer,
    /// It is not saved.
    Request,
    /// It is saved, and whoever saved it learns so when `release` says.
    Wait,
    /// Somebody does this first.
    Race([&'static str; 2]),
}

pub(super) struct Scripted {
    db: Arc<SqliteDatastore>,
    script: Mutex<VecDeque<Lost>>,
    pub(super) keys: Arc<MemoryKeys>,
    pub(super) saved: Notify,
    pub(super) release: Notify,
}

impl Scripted {
    pub(super) fn over(db: Arc<SqliteDatastore>) -> Self {
        Self {
            db,
            script: Mutex::default(),
            keys: Arc::default(),
            saved: Notify::new(),
            release: Notify::new(),
        }
    }

    pub(super) fn script(&self, losses: impl IntoIterator<Item = Lost>) {
        self.script.lock().unwrap().extend(losses);
    }

    pub(super) fn is_done(&self) -> bool {
        self.script.lock().unwrap().is_empty()
    }

    /// Authorities of its own, begun anew.
    pub(super) async fn authorities(self: &Arc<Self>, rig: &Rig) -> Authorities {
        self.authorities_below(rig, None).await
    }

    pub(super) async fn authorities_below(
        self: &Arc<Self>,
        rig: &Rig,
        upstream: Option<Arc<dyn Upstream>>,
    ) -> Authorities {
        self.db.execute("DELETE FROM authorities").await;
        let params = AuthorityParams {
            trust_domain: td(),
            ca_ttl: 30 * DAY,
            backdate: Duration::from_secs(300),
            keys: KeyTypes::default(),
            wit: false,
            longest_reserve: Duration::ZERO,
        };
        let (datastore, keys) = (Arc::clone(self), Arc::clone(&self.keys));
        Authorities::open(params, datastore, keys, Arc::new(rig.clock.clone()), upstream)
            .await
            .unwrap()
    }
}

#[async_trait]
impl Datastore for Scripted {
    async fn save_journal(
        &self,
        expected: u64,
        rows: Vec<AuthorityRow>,
    ) -> Result<Option<Journal>, DatastoreError> {
        let lost = self.script.lock().unwrap().pop_front();
        let failed = || DatastoreError::Failed {
            source: Arc::new(std::io::Error::other("scripted")),
        };
        match lost {
            None => {}
            Some(Lost::Request) => return Err(failed()),
            Some(Lost::Wait) => {
                let saved = self.db.save_journal(expected, rows).await;
                self.saved.notify_one();
                self.release.notified().await;
                return saved;
            }
            Some(Lost::Race(statements)) => {
                for sql in statements {
                    self.db.execute(sql).await;
                }
            }
            Some(Lost::Answer) => {
                self.db.save_journal(expected, rows).await?;
                return Err(failed());
            }
        }
        self.db.save_journal(expected, rows).await
    }

    async fn save_below(
        &self,
        expected: u64,
        rows: Vec<AuthorityRow>,
        above: Above,
    ) -> Result<Option<Journal>, DatastoreError> {
        let lost = self.script.lock().unwrap().pop_front();
        let saved = self.db.save_below(expected, rows, above).await;
        if let Some(lost) = lost {
            assert!(matches!(lost, Lost::Wait), "{lost:?} is not for this");
            self.saved.notify_one();
            self.release.notified().await;
        }
        saved
    }

    async fn change_other(
        &self,
        expected: u64,
        id: String,
        change: OtherChange,
    ) -> Result<Option<Journal>, DatastoreError> {
        self.db.change_other(expected, id, change).await
    }

    async fn save_appended(
        &self,
        expected: u64,
        rows: Vec<AppendedRow>,
    ) -> Result<Option<Journal>, DatastoreError> {
        self.db.save_appended(expected, rows).await
    }

    async fn journal(&self) -> Result<Journal, DatastoreError> {
        self.db.journal().await
    }

    async fn load(&self, now: Option<UnixTime>) -> Result<Snapshot, DatastoreError> {
        self.db.load(now).await
    }

    fn follow(&self, listener: Arc<dyn CommitListener>) {
        self.db.follow(listener);
    }

    async fn create_entry(
        &self,
        draft: EntryDraft,
        id: String,
        by: String,
        now: UnixTime,
    ) -> Result<Created, RegistryError> {
        self.db.create_entry(draft, id, by, now).await
    }

    async fn update_entry(
        &self,
        id: String,
        patch: EntryPatch,
        margo: MargoPaths,
        now: UnixTime,
    ) -> Result<Arc<Entry>, RegistryError> {
        self.db.update_entry(id, patch, margo, now).await
    }

    async fn set_policy(
        &self,
        id: String,
        patch: PolicyPatch,
        if_revision: Option<u64>,
        now: UnixTime,
    ) -> Result<Arc<EntryPolicy>, RegistryError> {
        self.db.set_policy(id, patch, if_revision, now).await
    }

    async fn delete_entry(&self, id: String, now: UnixTime) -> Result<bool, RegistryError> {
        self.db.delete_entry(id, now).await
    }

    async fn attest_agent(&self, record: AgentRecord, entering: Entering) -> Result<(), RegistryError> {
        self.db.attest_agent(record, entering).await
    }

    async fn change_people(
        &self,
        td: TrustDomain,
        step: crate::people::Step,
        by: Option<crate::people::PersonRef>,
        now: UnixTime,
    ) -> Result<crate::people::Done, RegistryError> {
        self.db.change_people(td, step, by, now).await
    }

    async fn register(&self, td: TrustDomain) -> Result<crate::people::Register, DatastoreError> {
        self.db.register(td).await
    }

    async fn recover(&self, id: SpiffeId, step: RecoveryStep) -> Result<(Stepped, Recovery), RegistryError> {
        self.db.recover(id, step).await
    }

    async fn recovery(&self, id: SpiffeId) -> Result<Option<Recovery>, DatastoreError> {
        self.db.recovery(id).await
    }

    async fn waiting_recoveries(
        &self,
        after: String,
        limit: usize,
    ) -> Result<Vec<(SpiffeId, Recovery)>, DatastoreError> {
        self.db.waiting_recoveries(after, limit).await
    }

    async fn change_agent(&self, id: SpiffeId, change: AgentChange) -> Result<bool, RegistryError> {
        self.db.change_agent(id, change).await
    }

    async fn delete_agent(&self, id: SpiffeId, now: UnixTime) -> Result<bool, RegistryError> {
        self.db.delete_agent(id, now).await
    }

    async fn create_token(&self, token: NewToken) -> Result<(), RegistryError> {
        self.db.create_token(token).await
    }

    async fn redeem_token(&self, redemption: Redemption) -> Result<Redeemed, TokenError> {
        self.db.redeem_token(redemption).await
    }

    async fn set_bundle(&self, bundle: Arc<Bundle>, mode: BundleWrite) -> Result<Arc<Bundle>, RegistryError> {
        self.db.set_bundle(bundle, mode).await
    }

    async fn delete_bundle(
        &self,
        td: TrustDomain,
        mode: DeleteMode,
        now: UnixTime,
    ) -> Result<bool, RegistryError> {
        self.db.delete_bundle(td, mode, now).await
    }

    async fn adopt_bundle(
        &self,
        bundle: Arc<Bundle>,
        under: Option<Arc<Relationship>>,
    ) -> Result<bool, RegistryError> {
        self.db.adopt_bundle(bundle, under).await
    }

    async fn create_relationship(
        &self,
        relationship: Arc<Relationship>,
        bundle: Option<Arc<Bundle>>,
    ) -> Result<(), RegistryError> {
        self.db.create_relationship(relationship, bundle).await
    }

    async fn update_relationship(
        &self,
        td: TrustDomain,
        patch: RelationshipPatch,
    ) -> Result<Arc<Relationship>, RegistryError> {
        self.db.update_relationship(td, patch).await
    }

    async fn delete_relationship(&self, td: TrustDomain, now: UnixTime) -> Result<bool, RegistryError> {
        self.db.delete_relationship(td, now).await
    }

    async fn record(&self, records: Vec<IssuanceRecord>) -> Result<Vec<Recorded>, DatastoreError> {
        self.db.record(records).await
    }

    async fn records(&self, id: SpiffeId) -> Result<Vec<IssuanceRecord>, DatastoreError> {
        self.db.records(id).await
    }

    async fn debts(&self, query: DebtQuery) -> Result<Vec<Debt>, DatastoreError> {
        self.db.debts(query).await
    }

    async fn acknowledge(&self, agent: SpiffeId, sequence: u64) -> Result<(), DatastoreError> {
        self.db.acknowledge(agent, sequence).await
    }

    async fn last_rung(
        &self,
        signed_before: UnixTime,
        begin_after: UnixTime,
    ) -> Result<Option<UnixTime>, DatastoreError> {
        self.db.last_rung(signed_before, begin_after).await
    }

    async fn unacknowledged(&self, sequence: u64, now: UnixTime) -> Result<usize, DatastoreError> {
        self.db.unacknowledged(sequence, now).await
    }

    async fn newest_step(&self) -> Result<Option<SignedStep>, DatastoreError> {
        self.db.newest_step().await
    }

    async fn steps(
        &self,
        from: StepPlace,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Vec<u8>>, DatastoreError> {
        self.db.steps(from, limit, bytes).await
    }

    async fn append_steps(
        &self,
        after: Option<StepDigest>,
        steps: Vec<Arc<SignedStep>>,
    ) -> Result<bool, DatastoreError> {
        self.db.append_steps(after, steps).await
    }

    async fn prune(&self, what: Prune, limit: usize) -> Result<usize, DatastoreError> {
        self.db.prune(what, limit).await
    }

    async fn probe(&self) -> Result<(), DatastoreError> {
        self.db.probe().await
    }

    async fn doubted(&self) {
        self.db.doubted().await;
    }
}
