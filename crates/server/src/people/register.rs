//! All there is to know of people, for the moment of one change. Invariant: it is read and written within one transaction of the datastore, so
//! what it decides holds against everybody who decides at the same time.

use std::collections::{BTreeMap, BTreeSet};

use landfast_identity::{SpiffeId, TrustDomain, UnixTime};

use super::login::Login;
use super::names::PersonRef;
use super::person::Person;
use super::step::Change;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Register {
    pub(crate) trust_domain: TrustDomain,
    /// At most [`MAX_PERSONS`].
    pub(crate) persons: BTreeMap<PersonRef, Person>,
    pub(crate) names: BTreeMap<PersonRef, String>,
    /// At most [`MAX_PROPOSALS`].
    pub(crate) proposals: BTreeMap<String, Proposal>,
}

/// A change that waits for a second person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Proposal {
    pub(crate) id: String,
    pub(crate) change: Change,
    /// Those who have agreed, in their order.
    pub(crate) agreed: Vec<PersonRef>,
    pub(crate) proposed_at: UnixTime,
    pub(crate) expires_at: UnixTime,
}

/// What is to be stored of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Write {
    Person(Person),
    Name(PersonRef, String),
    EraseName(PersonRef),
    Proposal(Proposal),
    RemoveProposal(String),
}

impl Register {
    /// Nobody.
    pub(crate) fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            persons: BTreeMap::new(),
            names: BTreeMap::new(),
            proposals: BTreeMap::new(),
        }
    }

    pub(crate) fn holder(&self, login: &Login) -> Option<&Person> {
        self.persons.values().find(|person| person.has(login))
    }

    /// Whether this person is one of two.
    pub(crate) fn may_confirm(&self, person: &PersonRef) -> bool {
        let person = self.persons.get(person);
        person.is_some_and(|person| person.may_confirm(&self.trust_domain))
    }

    /// Whether two persons have to agree to what is granted.
    pub(crate) fn needs_two(&self) -> bool {
        let confirming = |person: &&Person| person.may_confirm(&self.trust_domain);
        self.persons.values().filter(confirming).count() >= 2
    }

    /// The identities that have become logins, or are to become some by a proposal that is new.
    pub(crate) fn identities_since(&self, before: &Self) -> BTreeSet<SpiffeId> {
        let granted = self.persons.values().flat_map(|person| &person.logins);
        let granted = granted.map(|granted| &granted.what);
        let granted = granted.filter(|login| before.holder(login).is_none());
        let proposed = self.proposals.iter();
        let proposed = proposed.filter(|(id, _)| !before.proposals.contains_key(*id));
        let proposed = proposed.flat_map(|(_, proposal)| &proposal.change.logins);
        let identity = |login: &Login| match login {
            Login::Spiffe(id) => Some(id.clone()),
            _ => None,
        };
        granted.chain(proposed).filter_map(identity).collect()
    }

    /// What makes this one of `before`.
    pub(crate) fn writes_since(&self, before: &Self) -> Vec<Write> {
        let mut writes = Vec::new();
        for (reference, person) in &self.persons {
            if before.persons.get(reference) != Some(person) {
                writes.push(Write::Person(person.clone()));
            }
        }
        for reference in before.names.keys().filter(|one| !self.names.contains_key(one)) {
            writes.push(Write::EraseName(reference.clone()));
        }
        for (reference, name) in &self.names {
            if before.names.get(reference) != Some(name) {
                writes.push(Write::Name(reference.clone(), name.clone()));
            }
        }
        for id in before
            .proposals
            .keys()
            .filter(|id| !self.proposals.contains_key(*id))
        {
            writes.push(Write::RemoveProposal(id.clone()));
        }
        for (id, proposal) in &self.proposals {
            if before.proposals.get(id) != Some(proposal) {
                writes.push(Write::Proposal(proposal.clone()));
            }
        }
        writes
    }
}

pub(crate) const MAX_PERSONS: usize = 1000;
pub(crate) const MAX_PROPOSALS: usize = 100;
