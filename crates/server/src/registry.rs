//! Who exists and who may have what: entries, agents, join tokens, federated bundles, behind an index in memory.
//!
//! Invariant: the index holds exactly what is committed. It is built once, then changed by commits alone, in their order.

mod agent;
mod agents;
mod bundles;
mod endpoint_url;
mod entry;
mod error;
mod filter;
mod index;
mod margo;
mod people;
mod policy;
mod recovery;
mod relationships;
mod revision;
mod subscribers;
mod token;
mod validate;
mod view;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use landfast_identity::{SpiffeId, TrustDomain, UnixTime};
use landfast_lifecycle::SharedClock;
use tokio::sync::watch;

pub use agent::{AgentFilter, AgentRecord, AgentStanding};
pub use bundles::{BundleParts, BundleWrite, DeleteMode};
pub use endpoint_url::{EndpointUrl, UrlError};
pub use entry::{Entry, EntryDraft, EntryPatch};
pub use error::{RegistryError, TokenError};
pub use filter::{EntryFilter, MatchKind};
pub use margo::MargoPaths;
pub use policy::{EntryPolicy, JwtOffline, PolicyPatch, ThirdParty};
pub use relationships::{Profile, Relationship, RelationshipPatch};
pub use revision::{Authorized, Revision, Versioned};
pub use token::{JoinToken, Redeemed};
pub use validate::EntryError;

pub(crate) use agent::renewed_since;
pub(crate) use bundles::check_mode;
pub(crate) use recovery::{RecoveryStep, Stepped};
pub(crate) use relationships::{MAX_RELATIONSHIPS, check_newer};
pub(crate) use subscribers::{Subscriber, Told};
pub(crate) use token::{alias_draft, alias_selector};
pub(crate) use validate::{check_dns_name, check_subject};
pub(crate) use view::View;

use crate::datastore::{Change, CommitListener, Committed, Datastore, DatastoreError, Snapshot};
use crate::issuance::Requester;
use crate::random;
use crate::reserve::Rules;
use index::Index;
use subscribers::Subscribers;

/// The registry of one trust domain. Reads come from memory; writes are durable when they return.
pub struct Registry {
    trust_domain: TrustDomain,
    margo: MargoPaths,
    rules: Rules,
    clock: SharedClock,
    datastore: Arc<dyn Datastore>,
    index: Arc<Shared>,
}

/// Whether a new entry was made.
#[derive(Clone, Debug)]
pub enum Created {
    /// Yes.
    New(Arc<Entry>),
    /// No: this one has the same SPIFFE ID, parent and selectors.
    Similar(Arc<Entry>),
}

impl Registry {
    pub(crate) async fn open(
        trust_domain: TrustDomain,
        (margo, rules): (MargoPaths, Rules),
        datastore: Arc<dyn Datastore>,
        clock: SharedClock,
    ) -> Result<Self, DatastoreError> {
        let snapshot = datastore.load(clock.now()).await?;
        let server = SpiffeId::server(&trust_domain);
        let index = Arc::new(Shared {
            index: RwLock::new(Index::build(server.clone(), snapshot)),
            server,
            relationships: watch::Sender::new(()),
            bundles: watch::Sender::new(()),
            subscribers: Arc::default(),
        });
        datastore.follow(Arc::clone(&index) as Arc<dyn CommitListener>);
        let registry = Self {
            trust_domain,
            margo,
            rules,
            clock,
            datastore,
            index,
        };
        registry.warn_of_margo();
        Ok(registry)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Creates an entry, unless one with the same SPIFFE ID, parent and selectors exists.
    ///
    /// # Errors
    /// The draft breaks a rule, its ID is taken, a federated bundle is missing, or the datastore fails.
    pub async fn create_entry(&self, draft: EntryDraft, by: &Requester) -> Result<Created, RegistryError> {
        draft.validate(&self.trust_domain)?;
        self.margo.check_entry(&draft)?;
        if draft.store_svid && draft.disable_x509_svid_prefetch {
            return Err(EntryError::StoredWithoutPrefetch.into());
        }
        let now = self.now()?;
        let id = match &draft.id {
            Some(id) => id.clone(),
            None => random::uuid().ok_or(RegistryError::Random)?,
        };
        self.datastore.create_entry(draft, id, by.to_string(), now).await
    }

    /// Changes an entry.
    ///
    /// # Errors
    /// There is none of this ID, or as [`Registry::create_entry`].
    pub async fn update_entry(&self, id: &str, patch: EntryPatch) -> Result<Arc<Entry>, RegistryError> {
        let (margo, now) = (self.margo, self.now()?);
        if self.is_third_party(id) {
            if patch.expires_at == Some(None) {
                return Err(EntryError::ThirdPartyWithoutEnd.into());
            }
            if patch.admin == Some(true) || patch.downstream == Some(true) {
                return Err(EntryError::PowerfulThirdParty.into());
            }
        }
        self.datastore
            .update_entry(id.to_owned(), patch, margo, now)
            .await
    }

    /// Deletes an entry; `false` when there was none.
    ///
    /// # Errors
    /// The datastore fails.
    pub async fn delete_entry(&self, id: &str) -> Result<bool, RegistryError> {
        self.datastore.delete_entry(id.to_owned(), self.now()?).await
    }

    /// The entry of this ID, expired or not.
    pub fn entry(&self, id: &str) -> Option<Arc<Entry>> {
        self.read().versioned(id).map(|found| Arc::clone(&found.entry))
    }

    /// When the entry of this ID, or its policy, last changed.
    pub(crate) fn version_of(&self, id: &str) -> Option<u64> {
        self.read().versioned(id).map(|found| found.version())
    }

    /// A page of entries in the order of their IDs, from after `after`; 0 is one page of all. With the ID to go on after, when
    /// there is more.
    pub fn list_entries(
        &self,
        filter: &EntryFilter,
        page_size: usize,
        after: Option<&str>,
    ) -> (Vec<Arc<Entry>>, Option<String>) {
        page(self.read().entries(filter, after), page_size, |entry| {
            entry.id.clone()
        })
    }

    /// How many entries match.
    pub fn count_entries(&self, filter: &EntryFilter) -> usize {
        self.read().entries(filter, None).count()
    }

    /// What an agent may have for its workloads: all descendants of its ID and of the node aliases whose selectors it has. Nothing
    /// for an agent that is unknown or banned; expired entries grant nothing, to their descendants neither.
    pub fn authorized_entries(&self, agent: &SpiffeId) -> Vec<Arc<Entry>> {
        let granted = self.read().authorized(agent, self.clock.now());
        granted.iter().map(|granted| Arc::clone(&granted.entry)).collect()
    }

    /// The same, with versions and policies, and the revision at which it is so.
    pub fn authorized(&self, agent: &SpiffeId) -> Authorized {
        let now = self.clock.now();
        let index = self.read();
        Authorized {
            revision: index.revision,
            entries: index.authorized(agent, now),
        }
    }

    /// The live entries that grant this identity, and that somebody answers for: what a caller that shows it may do.
    pub fn entries_of_id(&self, id: &SpiffeId) -> Vec<Arc<Entry>> {
        let (now, index) = (self.clock.now(), self.read());
        let granting = index.of_id(id).filter(|found| found.entry.is_live(now));
        let granting = granting.filter(|found| index.is_answered_for(found));
        granting.map(|found| Arc::clone(&found.entry)).collect()
    }

    /// All that are live: what it may come to.
    pub(crate) fn live_entries_of_id(&self, id: &SpiffeId) -> Vec<Arc<Entry>> {
        let (now, index) = (self.clock.now(), self.read());
        let live = index.of_id(id).filter(|found| found.entry.is_live(now));
        live.map(|found| Arc::clone(&found.entry)).collect()
    }

    /// Grows with every change.
    pub fn revision(&self) -> Revision {
        self.read().revision
    }

    /// Entries may be older than the option: they stay, and nothing is issued for them.
    fn warn_of_margo(&self) {
        if self.margo == MargoPaths::Ordinary {
            return;
        }
        let (index, all) = (self.read(), EntryFilter::default());
        let broken = |entry: Arc<Entry>| {
            let error = self.margo.check_stored(&entry).err()?;
            Some((entry.id.clone(), error))
        };
        let mut broken = index.entries(&all, None).filter_map(broken);
        if let Some((entry, error)) = broken.next() {
            let more = broken.count();
            tracing::warn!(entry, %error, more, "nothing is issued for entries below /margo/ that break a rule of [margo]: change or delete them");
        }
    }

    fn now(&self) -> Result<UnixTime, RegistryError> {
        self.clock.now().ok_or(RegistryError::NoClock)
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({}, {:?})", self.trust_domain, self.revision())
    }
}

/// The index, as the datastore's listener: held for moments only, never across an await.
struct Shared {
    index: RwLock<Index>,
    server: SpiffeId,
    /// Sent after a change of relationships.
    relationships: watch::Sender<()>,
    /// Sent after a change of federated bundles.
    bundles: watch::Sender<()>,
    /// Told of what concerns them.
    subscribers: Arc<Subscribers>,
}

impl CommitListener for Shared {
    fn committed(&self, commit: &Committed) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let mut concerned = index.concerned(&commit.change);
        index.apply(commit);
        concerned.extend(index.concerned(&commit.change));
        drop(index);
        self.subscribers.tell(concerned);
        if matches!(
            commit.change,
            Change::PutRelationship(_) | Change::RemoveRelationship(_)
        ) {
            self.relationships.send_replace(());
        }
        if matches!(commit.change, Change::PutBundle(_) | Change::RemoveBundle(_)) {
            self.bundles.send_replace(());
        }
    }

    fn reloaded(&self, snapshot: Snapshot) {
        let built = Index::build(self.server.clone(), snapshot);
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = built;
        // Whom it concerns, what was gone over would have to say.
        self.subscribers.everybody();
        self.relationships.send_replace(());
        self.bundles.send_replace(());
    }
}

fn page<T>(
    mut found: impl Iterator<Item = T>,
    size: usize,
    key: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    if size == 0 {
        return (found.collect(), None);
    }
    let page: Vec<T> = found.by_ref().take(size).collect();
    let next = if found.next().is_some() {
        page.last().map(key)
    } else {
        None
    };
    (page, next)
}

#[cfg(test)]
mod tests;
