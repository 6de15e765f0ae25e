//! What the server remembers. Invariant: when a write returns `Ok` it survives a power cut, and what it changed has been told to the
//! listener, in commit order, before anybody else hears of it.
//!
//! No type of a database appears here: SQLite is behind it, or PostgreSQL.

mod bundle_text;
#[cfg(test)]
mod conformance;
mod debt;
mod error;
mod failure;
mod open_error;
mod pending;
mod people_text;
pub(crate) mod postgres;
mod recovery_text;
pub(crate) mod rows;
mod sharing;
pub(crate) mod sqlite;

pub use error::DatastoreError;
pub use open_error::OpenError;
pub use sqlite::ImportError;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use landfast_identity::chain::{SignedStep, StepDigest};
use landfast_identity::{Bundle, SpiffeId, TrustDomain, UnixTime};
use landfast_lifecycle::recovery::Recovery;

use crate::authority::{Above, AppendedRow, AuthorityRow, Journal, OtherChange};
use crate::issuance::IssuanceRecord;
use crate::people::{Done, Person, PersonRef, Register, Step};
use crate::registry::{
    AgentRecord, BundleWrite, Created, DeleteMode, Entry, EntryDraft, EntryPatch, EntryPolicy, MargoPaths,
    PolicyPatch, RecoveryStep, Redeemed, RegistryError, Relationship, RelationshipPatch, Revision, Stepped,
    TokenError, Versioned,
};

pub(crate) use debt::{Debt, DebtQuery};
use failure::Failure;
pub(crate) use pending::Pending;

/// One store of everything but keys. Used by registry, authority and issuance only.
#[async_trait]
pub(crate) trait Datastore: Send + Sync {
    /// Everything the index is built from; once, at the start. A registry that has no epoch yet begins one, from the time.
    async fn load(&self, now: Option<UnixTime>) -> Result<Snapshot, DatastoreError>;
    /// Who is told of every commit from now on. A second listener is not taken.
    fn follow(&self, listener: Arc<dyn CommitListener>);

    async fn create_entry(
        &self,
        draft: EntryDraft,
        id: String,
        by: String,
        now: UnixTime,
    ) -> Result<Created, RegistryError>;
    async fn update_entry(
        &self,
        id: String,
        patch: EntryPatch,
        margo: MargoPaths,
        now: UnixTime,
    ) -> Result<Arc<Entry>, RegistryError>;
    /// Changes the policy of an entry; with `if_revision`, only while it is at this one.
    async fn set_policy(
        &self,
        id: String,
        patch: PolicyPatch,
        if_revision: Option<u64>,
        now: UnixTime,
    ) -> Result<Arc<EntryPolicy>, RegistryError>;
    /// And its policy with it.
    async fn delete_entry(&self, id: String, now: UnixTime) -> Result<bool, RegistryError>;

    async fn attest_agent(&self, record: AgentRecord, entering: Entering) -> Result<(), RegistryError>;
    async fn change_agent(&self, id: SpiffeId, change: AgentChange) -> Result<bool, RegistryError>;
    async fn delete_agent(&self, id: SpiffeId, now: UnixTime) -> Result<bool, RegistryError>;

    /// Takes a step with the device key of an agent.
    async fn recover(&self, id: SpiffeId, step: RecoveryStep) -> Result<(Stepped, Recovery), RegistryError>;
    async fn recovery(&self, id: SpiffeId) -> Result<Option<Recovery>, DatastoreError>;
    /// Those about which a person is to decide, with IDs after this one, in their order.
    async fn waiting_recoveries(
        &self,
        after: String,
        limit: usize,
    ) -> Result<Vec<(SpiffeId, Recovery)>, DatastoreError>;

    /// Takes a step with the register of persons, as this one.
    async fn change_people(
        &self,
        td: TrustDomain,
        step: Step,
        by: Option<PersonRef>,
        now: UnixTime,
    ) -> Result<Done, RegistryError>;
    /// With names and proposals, which are not in the index.
    async fn register(&self, td: TrustDomain) -> Result<Register, DatastoreError>;

    async fn create_token(&self, token: NewToken) -> Result<(), RegistryError>;
    async fn redeem_token(&self, redemption: Redemption) -> Result<Redeemed, TokenError>;

    /// Returns what is stored then.
    async fn set_bundle(&self, bundle: Arc<Bundle>, mode: BundleWrite) -> Result<Arc<Bundle>, RegistryError>;
    async fn delete_bundle(
        &self,
        td: TrustDomain,
        mode: DeleteMode,
        now: UnixTime,
    ) -> Result<bool, RegistryError>;

    /// Stores what was published if it is newer than what is stored; `false` when it is stored already. With `under`, only while this very
    /// relationship is stored.
    async fn adopt_bundle(
        &self,
        bundle: Arc<Bundle>,
        under: Option<Arc<Relationship>>,
    ) -> Result<bool, RegistryError>;

    async fn create_relationship(
        &self,
        relationship: Arc<Relationship>,
        bundle: Option<Arc<Bundle>>,
    ) -> Result<(), RegistryError>;
    async fn update_relationship(
        &self,
        td: TrustDomain,
        patch: RelationshipPatch,
    ) -> Result<Arc<Relationship>, RegistryError>;
    async fn delete_relationship(&self, td: TrustDomain, now: UnixTime) -> Result<bool, RegistryError>;

    /// Writes all that may be written, in one commit; the answers are in the order of the records.
    async fn record(&self, records: Vec<IssuanceRecord>) -> Result<Vec<Recorded>, DatastoreError>;
    /// The records of this SPIFFE ID, oldest first.
    async fn records(&self, id: SpiffeId) -> Result<Vec<IssuanceRecord>, DatastoreError>;
    /// What agents still have, in the order of agents and entries.
    async fn debts(&self, query: DebtQuery) -> Result<Vec<Debt>, DatastoreError>;
    /// This agent has the bundle of this sequence.
    async fn acknowledge(&self, agent: SpiffeId, sequence: u64) -> Result<(), DatastoreError>;
    /// How many agents that may be online, or have rungs, have neither said that they have the bundle of this sequence nor a newer one.
    async fn unacknowledged(&self, sequence: u64, now: UnixTime) -> Result<usize, DatastoreError>;
    /// When the last of the rungs ends that were signed before a time and begin after another, and were not revoked.
    async fn last_rung(
        &self,
        signed_before: UnixTime,
        begin_after: UnixTime,
    ) -> Result<Option<UnixTime>, DatastoreError>;

    async fn journal(&self) -> Result<Journal, DatastoreError>;
    /// Replaces the journal when it is still of this version; returns the new one, else `None`.
    async fn save_journal(
        &self,
        expected: u64,
        rows: Vec<AuthorityRow>,
    ) -> Result<Option<Journal>, DatastoreError>;
    /// The same, and what the upstream authority believes with it.
    async fn save_below(
        &self,
        expected: u64,
        rows: Vec<AuthorityRow>,
        above: Above,
    ) -> Result<Option<Journal>, DatastoreError>;

    /// Replaces the appended authorities when the journal is still of this version; returns the new one, else `None`.
    async fn save_appended(
        &self,
        expected: u64,
        rows: Vec<AppendedRow>,
    ) -> Result<Option<Journal>, DatastoreError>;

    /// Changes an authority of another server when the journal is still of this version; returns the new one, else `None`.
    async fn change_other(
        &self,
        expected: u64,
        id: String,
        change: OtherChange,
    ) -> Result<Option<Journal>, DatastoreError>;

    /// Begins a new epoch, this one or a later one, with a bundle of a sequence that is greater by far and than `sequence`: whatever others have seen, this
    /// is newer. An agent may then show an SVID that is not stored, once. Where servers share a database, `accept_loss` does it beside them.
    async fn renew_epoch(&self, _epoch: u64, _sequence: u64) -> Result<(), DatastoreError> {
        Ok(())
    }
    /// The newest step of the bundle chain.
    async fn newest_step(&self) -> Result<Option<SignedStep>, DatastoreError>;
    /// At most so many steps as they were signed, in their order, from this place on; no more are read once there are two and so many bytes.
    async fn steps(
        &self,
        from: StepPlace,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Vec<u8>>, DatastoreError>;
    /// Adds steps, all of them, while `after` is the newest one; else `false`, and nothing has happened.
    async fn append_steps(
        &self,
        after: Option<StepDigest>,
        steps: Vec<Arc<SignedStep>>,
    ) -> Result<bool, DatastoreError>;
    /// The same for one.
    async fn append_step(
        &self,
        after: Option<StepDigest>,
        step: Arc<SignedStep>,
    ) -> Result<bool, DatastoreError> {
        self.append_steps(after, vec![step]).await
    }

    /// Removes at most `limit` rows of this kind that nobody needs any more; returns how many.
    async fn prune(&self, what: Prune, limit: usize) -> Result<usize, DatastoreError>;

    /// Takes room for a few records, gives it back, and commits. `Ok` means that a write of now succeeds.
    async fn probe(&self) -> Result<(), DatastoreError>;
    /// Returns once a write has failed that nobody has been told of here. For one caller.
    async fn doubted(&self);

    /// Whether what the listener was told, and a journal of this version, are what is stored, but for moments: else nobody is to be
    /// answered from them. Where nobody else writes they always are.
    fn standing(&self, _journal: u64) -> Result<(), DatastoreError> {
        Ok(())
    }
    /// Returns once another has changed the journal. For one caller.
    async fn journal_changed(&self) {
        std::future::pending().await
    }
}

/// Told of commits in their order, before whoever asked for them is answered. Called on the writer: never blocks.
pub(crate) trait CommitListener: Send + Sync {
    fn committed(&self, commit: &Committed);
    /// What there is now: the changes that led to it are not to be had.
    fn reloaded(&self, snapshot: Snapshot);
}

/// One change of the registry and the number of the revision it made.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) revision: u64,
    pub(crate) change: Change,
}

/// What changed.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    PutEntry(Arc<Entry>),
    /// Its policy is gone with it.
    RemoveEntry(String),
    PutPolicy(Arc<EntryPolicy>),
    PutAgent(Arc<AgentRecord>),
    RemoveAgent(SpiffeId),
    PutBundle(Arc<Bundle>),
    RemoveBundle(TrustDomain),
    PutRelationship(Arc<Relationship>),
    RemoveRelationship(TrustDomain),
    /// None is ever removed.
    PutPerson(Arc<Person>),
    /// Revisions count within this one from here on.
    BeginEpoch(u64),
}

/// What the index starts from.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) revision: Revision,
    pub(crate) entries: Vec<Versioned>,
    pub(crate) agents: Vec<Arc<AgentRecord>>,
    pub(crate) bundles: Vec<Arc<Bundle>>,
    pub(crate) relationships: Vec<Arc<Relationship>>,
    pub(crate) people: Vec<Arc<Person>>,
}

/// How an agent gets in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entering {
    /// By an attestation; perhaps for the first time.
    Attested { at: UnixTime },
    /// By its device key: it is there already.
    Returned,
}

/// A change of one agent.
#[derive(Clone, Debug)]
pub(crate) enum AgentChange {
    /// Blanks its serial, ends its join token, and has what it has for later be refused. `at`: the epoch, when nobody knows the time.
    Ban {
        at: UnixTime,
    },
    /// A renewed SVID that has not been used yet.
    Stage {
        serial: String,
        not_after: UnixTime,
        at: UnixTime,
    },
    /// The renewed SVID has been used: the old one is over.
    Promote {
        serial: String,
    },
    Version(String),
    /// An SVID that was issued after the backup which the registry was restored from.
    Adopt {
        serial: String,
        not_before: UnixTime,
        not_after: UnixTime,
    },
}

/// A join token as it is stored: its hash only.
#[derive(Clone, Debug)]
pub(crate) struct NewToken {
    pub(crate) hash: [u8; 32],
    pub(crate) expires_at: UnixTime,
    pub(crate) alias: Option<SpiffeId>,
}

/// An attempt to use a join token.
#[derive(Clone, Debug)]
pub(crate) struct Redemption {
    pub(crate) hash: [u8; 32],
    pub(crate) key_hash: [u8; 32],
    pub(crate) agent_id: SpiffeId,
    /// ID of the alias entry, should the token ask for one.
    pub(crate) alias_entry_id: String,
    pub(crate) now: UnixTime,
    pub(crate) retry_window: Duration,
}

/// Where a step of the bundle chain stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct StepPlace {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

impl StepPlace {
    pub(crate) fn of(signed: &SignedStep) -> Self {
        let (epoch, sequence) = (signed.step().epoch, signed.step().sequence);
        Self { epoch, sequence }
    }

    /// Beyond what a column holds there is nothing.
    fn columns(self) -> (i64, i64) {
        let column = |number| i64::try_from(number).unwrap_or(i64::MAX);
        (column(self.epoch), column(self.sequence))
    }
}

/// Whether a record was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Recorded {
    Yes,
    /// The key is this other identity's: nothing was written.
    KeyTaken(String),
    /// The key has a certificate already, and what is signed for later needs one of its own: nothing was written.
    KeyUsed,
    /// The agent or the entry that it was for is there no more: nothing was written.
    Gone,
    /// The agent has more ahead for this entry than any reserve takes: nothing was written.
    Enough,
}

/// What can be pruned, and before when.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Prune {
    /// Records of what expired before this.
    Records { expired_before: UnixTime },
    /// Entries that expired at or before this.
    Entries { now: UnixTime },
    /// Tokens that expired, or were redeemed, before this.
    Tokens { before: UnixTime },
    /// Tombstones made before this.
    Tombstones { before: UnixTime },
    /// Authorities of other servers that ended before this.
    Authorities { ended_before: UnixTime },
}
