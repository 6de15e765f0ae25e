//! What an entry has beside SPIRE's fields. Invariant: a policy lives and dies with its entry, and changes to the entry leave it alone.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::SpiffeId;

use super::validate::EntryError;
use super::{EntryFilter, Registry, RegistryError, Versioned};
use crate::reserve::{ReserveError, is_powerful};

/// The policy of one entry. An entry that has none has the defaults: every field empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryPolicy {
    /// Whose it is.
    pub entry_id: String,
    /// For people.
    pub description: String,
    /// For how long a node that is cut off shall have X.509-SVIDs for the entry; zero: as long as one lives.
    pub reserve: Duration,
    /// It never has anything ahead.
    pub privileged: bool,
    /// One token for each of these audiences, for when the node is cut off.
    pub jwt_offline: Vec<JwtOffline>,
    /// It is issued also while the ledger cannot be written.
    pub availability_first: bool,
    /// It is of a supplier, and somebody answers for it.
    pub third_party: Option<ThirdParty>,
    /// The number of its last change; 0: never set.
    pub revision: u64,
}

/// A token that is had before it is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JwtOffline {
    /// For whom.
    pub audience: String,
    /// How long it lives.
    pub ttl: Duration,
}

/// Whose a workload is that is not ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThirdParty {
    /// The reference of the person who answers for it. Nothing is issued while that is no active person.
    pub sponsor: String,
    /// Under which contract.
    pub contract: String,
}

impl EntryPolicy {
    /// What an entry has until somebody sets it.
    pub(crate) fn defaults(entry_id: &str) -> Self {
        Self {
            entry_id: entry_id.to_owned(),
            description: String::new(),
            reserve: Duration::ZERO,
            privileged: false,
            jwt_offline: Vec::new(),
            availability_first: false,
            third_party: None,
            revision: 0,
        }
    }
}

/// What is to change; `None` leaves a field as it is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PolicyPatch {
    /// See [`EntryPolicy`].
    pub description: Option<String>,
    /// See [`EntryPolicy`].
    pub reserve: Option<Duration>,
    /// See [`EntryPolicy`].
    pub privileged: Option<bool>,
    /// See [`EntryPolicy`]; all of them.
    pub jwt_offline: Option<Vec<JwtOffline>>,
    /// See [`EntryPolicy`].
    pub availability_first: Option<bool>,
    /// See [`EntryPolicy`]; `Some(None)`: it is ours again.
    pub third_party: Option<Option<ThirdParty>>,
}

impl PolicyPatch {
    fn validate(&self) -> Result<(), EntryError> {
        if let Some(Some(party)) = &self.third_party {
            let contract = &party.contract;
            let is_text =
                (1..=MAX_CONTRACT).contains(&contract.len()) && !contract.chars().any(char::is_control);
            if party.sponsor.is_empty() || !is_text {
                return Err(EntryError::ThirdParty);
            }
        }
        let Some(description) = &self.description else {
            return Ok(());
        };
        if description.len() > MAX_DESCRIPTION {
            return Err(EntryError::DescriptionTooLong {
                length: description.len(),
            });
        }
        if description.chars().any(char::is_control) {
            return Err(EntryError::DescriptionCharacter);
        }
        Ok(())
    }

    /// The policy with this patch, at this revision.
    ///
    /// # Errors
    /// What it had and what it gets do not go together.
    pub(crate) fn apply(self, old: EntryPolicy, revision: u64) -> Result<EntryPolicy, RegistryError> {
        let policy = EntryPolicy {
            entry_id: old.entry_id,
            description: self.description.unwrap_or(old.description),
            reserve: self.reserve.unwrap_or(old.reserve),
            privileged: self.privileged.unwrap_or(old.privileged),
            jwt_offline: self.jwt_offline.unwrap_or(old.jwt_offline),
            availability_first: self.availability_first.unwrap_or(old.availability_first),
            third_party: self.third_party.unwrap_or(old.third_party),
            revision,
        };
        policy.check()?;
        Ok(policy)
    }

    /// Whether it asks for something ahead, or may make room for what is asked for already.
    fn is_about_the_reserve(&self) -> bool {
        self.reserve.is_some() || self.privileged.is_some() || self.jwt_offline.is_some()
    }
}

impl Versioned {
    fn is_availability_first(&self) -> bool {
        let policy = self.policy.as_deref();
        policy.is_some_and(|policy| policy.availability_first) && !is_powerful(&self.entry)
    }
}

impl Registry {
    /// Changes the policy of an entry; with `if_revision`, only while it is at this one.
    ///
    /// # Errors
    /// The patch breaks a rule, there is no such entry, [`RegistryError::PolicyChanged`], or the datastore fails.
    pub async fn set_entry_policy(
        &self,
        id: &str,
        patch: PolicyPatch,
        if_revision: Option<u64>,
    ) -> Result<Arc<EntryPolicy>, RegistryError> {
        patch.validate()?;
        self.check_reserve(id, &patch)?;
        self.check_availability(id, &patch)?;
        self.check_sponsor(id, &patch)?;
        let now = self.now()?;
        self.datastore
            .set_policy(id.to_owned(), patch, if_revision, now)
            .await
    }

    /// Against the server's bounds and the entry as they are. What is signed is judged again, so it does no harm when somebody changes the entry at
    /// the same time.
    fn check_reserve(&self, id: &str, patch: &PolicyPatch) -> Result<(), RegistryError> {
        let Some(found) = self.versioned(id).filter(|_| patch.is_about_the_reserve()) else {
            return Ok(()); // that there is no such entry is said where it is looked for
        };
        let old = found.policy.as_deref().cloned();
        let old = old.unwrap_or_else(|| EntryPolicy::defaults(id));
        let wanted = patch.clone().apply(old, 0)?;
        self.rules.check(&wanted, &found.entry)?;
        if !wanted.reserve.is_zero() && self.is_powerful(&found.entry.spiffe_id) {
            return Err(ReserveError::Powerful.into());
        }
        if wanted.reserve.is_zero() {
            return Ok(());
        }
        // Those that hang under the same parent; of a node also what it has by its aliases.
        let parent = &found.entry.parent_id;
        let mut beside = self.authorized(parent).entries;
        if beside.is_empty() {
            let filter = EntryFilter {
                parent_id: Some(parent.clone()),
                ..EntryFilter::default()
            };
            let index = self.read();
            let entries = index.entries(&filter, None);
            beside = entries.filter_map(|entry| index.versioned(&entry.id)).collect();
        }
        let others = beside.iter().filter(|other| other.entry.id != id);
        let others = others.filter_map(|other| Some((&*other.entry, other.policy.as_deref()?)));
        self.rules.check_node(others.chain([(&*found.entry, &wanted)]))?;
        Ok(())
    }

    /// What gives power over the server never leaves without its record.
    fn check_availability(&self, id: &str, patch: &PolicyPatch) -> Result<(), RegistryError> {
        match self.versioned(id) {
            Some(found) if patch.availability_first == Some(true) && is_powerful(&found.entry) => {
                Err(EntryError::PowerfulUnrecorded.into())
            }
            _ => Ok(()),
        }
    }

    /// Whether this entry is issued also while the ledger cannot be written. One that gives power never is, whatever its policy says.
    pub(crate) fn is_availability_first(&self, id: &str) -> bool {
        self.versioned(id)
            .is_some_and(|found| found.is_availability_first())
    }

    /// Whether this node has such an entry: without its own SVID it could not fetch it.
    pub(crate) fn node_is_availability_first(&self, node: &SpiffeId) -> bool {
        let entries = self.authorized(node).entries;
        entries.iter().any(|entry| entry.is_availability_first())
    }

    /// Whether anybody has: without the server's own SVID nobody could.
    pub(crate) fn any_is_availability_first(&self) -> bool {
        let (index, all) = (self.read(), EntryFilter::default());
        let mut entries = index.entries(&all, None);
        entries.any(|entry| {
            let found = index.versioned(&entry.id);
            found.is_some_and(|found| found.is_availability_first())
        })
    }

    /// Whether the entry of this ID is of a third party.
    pub(super) fn is_third_party(&self, id: &str) -> bool {
        let policy = self.versioned(id).and_then(|found| found.policy.clone());
        policy.is_some_and(|policy| policy.third_party.is_some())
    }

    /// Whether whoever shows this identity is a third party: all that grants it is one's.
    pub(crate) fn is_of_a_third_party(&self, id: &SpiffeId) -> bool {
        let entries = self.live_entries_of_id(id);
        !entries.is_empty() && entries.iter().all(|entry| self.is_third_party(&entry.id))
    }

    /// A third party ends, has no power over the server, and an active person answers for it. Judged again each time when somebody may have it.
    fn check_sponsor(&self, id: &str, patch: &PolicyPatch) -> Result<(), RegistryError> {
        let (Some(Some(party)), Some(found)) = (&patch.third_party, self.versioned(id)) else {
            return Ok(());
        };
        if found.entry.expires_at.is_none() {
            return Err(EntryError::ThirdPartyWithoutEnd.into());
        }
        if is_powerful(&found.entry) {
            return Err(EntryError::PowerfulThirdParty.into());
        }
        match self.read().people.is_active(&party.sponsor) {
            true => Ok(()),
            false => Err(RegistryError::NoSponsor {
                sponsor: party.sponsor.clone(),
            }),
        }
    }

    /// Whether any entry makes who has this identity an administrator or a server below, or it is a person's login: rights go by the identity, whichever entry it is of.
    pub(crate) fn is_powerful(&self, id: &SpiffeId) -> bool {
        // Also one that nobody answers for now.
        let live = self.live_entries_of_id(id);
        live.iter().any(|entry| is_powerful(entry)) || self.is_login(id)
    }

    /// The entry of this ID with its revision and policy.
    pub fn versioned(&self, id: &str) -> Option<Arc<Versioned>> {
        self.read().versioned(id)
    }
}

pub(crate) const MAX_DESCRIPTION: usize = 1024;
const MAX_CONTRACT: usize = 256;
