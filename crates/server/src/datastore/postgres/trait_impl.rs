//! The datastore's trait, each request one piece of work for the writer. Invariant: work can be run again from the beginning.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use landfast_identity::chain::{SignedStep, StepDigest};
use landfast_identity::{Bundle, SpiffeId, TrustDomain, UnixTime};
use landfast_lifecycle::recovery::Recovery;
use tokio::sync::oneshot;

use super::{
    PostgresDatastore, agents, appended, authorities, bundles, chain, entries, gauges, people, policies,
    prune, records, recoveries, relationships, rungs, tokens,
};
use crate::authority::{Above, AppendedRow, AuthorityRow, Journal, OtherChange};
use crate::datastore::{
    AgentChange, CommitListener, Datastore, DatastoreError, Debt, DebtQuery, Entering, NewToken, Prune,
    Recorded, Redemption, Snapshot, StepPlace,
};
use crate::issuance::IssuanceRecord;
use crate::people::{Done, PersonRef, Register, Step};
use crate::registry::{
    AgentRecord, BundleWrite, Created, DeleteMode, Entry, EntryDraft, EntryPatch, EntryPolicy, MargoPaths,
    PolicyPatch, RecoveryStep, Redeemed, RegistryError, Relationship, RelationshipPatch, Stepped, TokenError,
};

#[async_trait]
impl Datastore for PostgresDatastore {
    /// The epoch began with the database.
    async fn load(&self, _now: Option<UnixTime>) -> Result<Snapshot, DatastoreError> {
        let (reply, answer) = oneshot::channel();
        self.loads
            .send(reply)
            .await
            .map_err(|_closed| DatastoreError::Stopped)?;
        answer.await.unwrap_or(Err(DatastoreError::Stopped))
    }

    fn follow(&self, listener: Arc<dyn CommitListener>) {
        self.shared.follow(listener);
    }

    async fn create_entry(
        &self,
        draft: EntryDraft,
        id: String,
        by: String,
        now: UnixTime,
    ) -> Result<Created, RegistryError> {
        self.write(move |tx| {
            let draft = draft.clone();
            let id = id.clone();
            let by = by.clone();
            Box::pin(async move { entries::create(tx, draft, id, &by, now).await })
        })
        .await
    }

    async fn update_entry(
        &self,
        id: String,
        patch: EntryPatch,
        margo: MargoPaths,
        now: UnixTime,
    ) -> Result<Arc<Entry>, RegistryError> {
        self.write(move |tx| {
            let id = id.clone();
            let patch = patch.clone();
            Box::pin(async move { entries::update(tx, &id, patch, margo, now).await })
        })
        .await
    }

    async fn set_policy(
        &self,
        id: String,
        patch: PolicyPatch,
        if_revision: Option<u64>,
        now: UnixTime,
    ) -> Result<Arc<EntryPolicy>, RegistryError> {
        self.write(move |tx| {
            let id = id.clone();
            let patch = patch.clone();
            Box::pin(async move { policies::set(tx, &id, patch, if_revision, now).await })
        })
        .await
    }

    async fn delete_entry(&self, id: String, now: UnixTime) -> Result<bool, RegistryError> {
        self.write(move |tx| {
            let id = id.clone();
            Box::pin(async move { Ok(entries::remove(tx, &id, now).await?) })
        })
        .await
    }

    async fn attest_agent(&self, record: AgentRecord, entering: Entering) -> Result<(), RegistryError> {
        self.write(move |tx| {
            let record = record.clone();
            Box::pin(async move { agents::attest(tx, record, entering).await })
        })
        .await
    }

    async fn change_agent(&self, id: SpiffeId, change: AgentChange) -> Result<bool, RegistryError> {
        self.write(move |tx| {
            let id = id.clone();
            let change = change.clone();
            Box::pin(async move { agents::change(tx, &id, change).await })
        })
        .await
    }

    async fn delete_agent(&self, id: SpiffeId, now: UnixTime) -> Result<bool, RegistryError> {
        self.write(move |tx| {
            let id = id.clone();
            Box::pin(async move { agents::delete(tx, &id, now).await })
        })
        .await
    }

    async fn recover(&self, id: SpiffeId, step: RecoveryStep) -> Result<(Stepped, Recovery), RegistryError> {
        self.write(move |tx| {
            let id = id.clone();
            let step = step.clone();
            Box::pin(async move { recoveries::step(tx, &id, step).await })
        })
        .await
    }

    async fn recovery(&self, id: SpiffeId) -> Result<Option<Recovery>, DatastoreError> {
        self.write(move |tx| {
            let id = id.clone();
            Box::pin(async move { recoveries::find(tx, &id).await })
        })
        .await
    }

    async fn waiting_recoveries(
        &self,
        after: String,
        limit: usize,
    ) -> Result<Vec<(SpiffeId, Recovery)>, DatastoreError> {
        self.write(move |tx| {
            let after = after.clone();
            Box::pin(async move { recoveries::waiting(tx, &after, limit).await })
        })
        .await
    }

    async fn change_people(
        &self,
        td: TrustDomain,
        step: Step,
        by: Option<PersonRef>,
        now: UnixTime,
    ) -> Result<Done, RegistryError> {
        self.write(move |tx| {
            let (td, step, by) = (td.clone(), step.clone(), by.clone());
            Box::pin(async move { people::step(tx, &td, step, by.as_ref(), now).await })
        })
        .await
    }

    async fn register(&self, td: TrustDomain) -> Result<Register, DatastoreError> {
        self.write(move |tx| {
            let td = td.clone();
            Box::pin(async move { people::register(tx, &td).await })
        })
        .await
    }

    async fn create_token(&self, token: NewToken) -> Result<(), RegistryError> {
        self.write(move |tx| {
            let token = token.clone();
            Box::pin(async move { tokens::create(tx, &token).await })
        })
        .await
    }

    async fn redeem_token(&self, redemption: Redemption) -> Result<Redeemed, TokenError> {
        self.write(move |tx| {
            let redemption = redemption.clone();
            Box::pin(async move { tokens::redeem(tx, redemption).await })
        })
        .await
    }

    async fn set_bundle(&self, bundle: Arc<Bundle>, mode: BundleWrite) -> Result<Arc<Bundle>, RegistryError> {
        self.write(move |tx| {
            let bundle = bundle.clone();
            Box::pin(async move { bundles::set(tx, bundle, mode).await })
        })
        .await
    }

    async fn delete_bundle(
        &self,
        td: TrustDomain,
        mode: DeleteMode,
        now: UnixTime,
    ) -> Result<bool, RegistryError> {
        self.write(move |tx| {
            let td = td.clone();
            Box::pin(async move { bundles::delete(tx, &td, mode, now).await })
        })
        .await
    }

    async fn adopt_bundle(
        &self,
        bundle: Arc<Bundle>,
        under: Option<Arc<Relationship>>,
    ) -> Result<bool, RegistryError> {
        self.write(move |tx| {
            let bundle = bundle.clone();
            let under = under.clone();
            Box::pin(async move { bundles::adopt(tx, bundle, under.as_deref()).await })
        })
        .await
    }

    async fn create_relationship(
        &self,
        relationship: Arc<Relationship>,
        bundle: Option<Arc<Bundle>>,
    ) -> Result<(), RegistryError> {
        self.write(move |tx| {
            let relationship = relationship.clone();
            let bundle = bundle.clone();
            Box::pin(async move { relationships::create(tx, relationship, bundle).await })
        })
        .await
    }

    async fn update_relationship(
        &self,
        td: TrustDomain,
        patch: RelationshipPatch,
    ) -> Result<Arc<Relationship>, RegistryError> {
        self.write(move |tx| {
            let td = td.clone();
            let patch = patch.clone();
            Box::pin(async move { relationships::update(tx, &td, &patch).await })
        })
        .await
    }

    async fn delete_relationship(&self, td: TrustDomain, now: UnixTime) -> Result<bool, RegistryError> {
        self.write(move |tx| {
            let td = td.clone();
            Box::pin(async move { relationships::delete(tx, &td, now).await })
        })
        .await
    }

    async fn record(&self, records: Vec<IssuanceRecord>) -> Result<Vec<Recorded>, DatastoreError> {
        self.write(move |tx| {
            let records = records.clone();
            Box::pin(async move { records::write(tx, &records).await })
        })
        .await
    }

    async fn records(&self, id: SpiffeId) -> Result<Vec<IssuanceRecord>, DatastoreError> {
        self.write(move |tx| {
            let id = id.clone();
            Box::pin(async move { records::of(tx, &id).await })
        })
        .await
    }

    async fn debts(&self, query: DebtQuery) -> Result<Vec<Debt>, DatastoreError> {
        self.write(move |tx| {
            let query = query.clone();
            Box::pin(async move { rungs::debts(tx, &query).await })
        })
        .await
    }

    async fn acknowledge(&self, agent: SpiffeId, sequence: u64) -> Result<(), DatastoreError> {
        self.write(move |tx| {
            let agent = agent.clone();
            Box::pin(async move { rungs::acknowledge(tx, &agent, sequence).await })
        })
        .await
    }

    async fn last_rung(
        &self,
        signed_before: UnixTime,
        begin_after: UnixTime,
    ) -> Result<Option<UnixTime>, DatastoreError> {
        self.write(move |tx| Box::pin(rungs::last_of_before(tx, signed_before, begin_after)))
            .await
    }

    async fn unacknowledged(&self, sequence: u64, now: UnixTime) -> Result<usize, DatastoreError> {
        self.write(move |tx| Box::pin(rungs::unacknowledged(tx, sequence, now)))
            .await
    }

    async fn journal(&self) -> Result<Journal, DatastoreError> {
        self.write(|tx| Box::pin(authorities::journal(tx))).await
    }

    async fn save_journal(
        &self,
        expected: u64,
        rows: Vec<AuthorityRow>,
    ) -> Result<Option<Journal>, DatastoreError> {
        self.write(move |tx| {
            let rows = rows.clone();
            Box::pin(async move { authorities::save(tx, expected, &rows, None).await })
        })
        .await
    }

    async fn save_below(
        &self,
        expected: u64,
        rows: Vec<AuthorityRow>,
        above: Above,
    ) -> Result<Option<Journal>, DatastoreError> {
        self.write(move |tx| {
            let rows = rows.clone();
            let above = above.clone();
            Box::pin(async move { authorities::save(tx, expected, &rows, Some(&above)).await })
        })
        .await
    }

    async fn save_appended(
        &self,
        expected: u64,
        rows: Vec<AppendedRow>,
    ) -> Result<Option<Journal>, DatastoreError> {
        self.write(move |tx| {
            let rows = rows.clone();
            Box::pin(async move { appended::save(tx, expected, &rows).await })
        })
        .await
    }

    async fn change_other(
        &self,
        expected: u64,
        id: String,
        change: OtherChange,
    ) -> Result<Option<Journal>, DatastoreError> {
        self.write(move |tx| {
            let id = id.clone();
            Box::pin(async move { authorities::change_other(tx, expected, &id, change).await })
        })
        .await
    }

    async fn newest_step(&self) -> Result<Option<SignedStep>, DatastoreError> {
        self.write(|tx| Box::pin(chain::newest(tx))).await
    }

    async fn steps(
        &self,
        from: StepPlace,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Vec<u8>>, DatastoreError> {
        self.write(move |tx| Box::pin(chain::from(tx, from, limit, bytes)))
            .await
    }

    async fn append_steps(
        &self,
        after: Option<StepDigest>,
        steps: Vec<Arc<SignedStep>>,
    ) -> Result<bool, DatastoreError> {
        self.write(move |tx| {
            let steps = steps.clone();
            Box::pin(async move { chain::append(tx, after, &steps).await })
        })
        .await
    }

    async fn prune(&self, what: Prune, limit: usize) -> Result<usize, DatastoreError> {
        self.write(move |tx| Box::pin(prune::run(tx, what, limit))).await
    }

    async fn probe(&self) -> Result<(), DatastoreError> {
        let pages = match self.shared.full.load(Ordering::Relaxed) {
            true => prune::AMPLE,
            false => prune::LITTLE,
        };
        let probed = self.write(move |tx| Box::pin(prune::probe(tx, pages))).await;
        if probed.is_ok() {
            self.shared.full.store(false, Ordering::Relaxed);
            gauges::room();
        }
        probed
    }

    async fn doubted(&self) {
        self.shared.doubt.notified().await;
    }

    fn standing(&self, journal: u64) -> Result<(), DatastoreError> {
        self.shared.standing(journal)
    }

    async fn journal_changed(&self) {
        self.shared.journal.notified().await;
    }
}
