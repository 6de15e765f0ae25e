//! Changes of the register. Invariant: once two persons can confirm, nothing is granted that two different ones have not agreed to, each of whom
//! could still confirm when it took effect. Taking away needs one.

use std::collections::BTreeSet;
use std::time::Duration;

use landfast_identity::UnixTime;

use super::error::PeopleError;
use super::login::Login;
use super::names::{self, PersonRef};
use super::person::{Agreement, Granted, Person, Role, Verb};
use super::register::{MAX_PERSONS, MAX_PROPOSALS, Proposal, Register};
use super::session::Mark;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// `id`: the proposal's, should it become one.
    Grant {
        change: Change,
        id: String,
    },
    Withdraw {
        person: PersonRef,
        logins: Vec<Login>,
        roles: Vec<Role>,
        deactivate: bool,
    },
    Rename {
        person: PersonRef,
        name: String,
    },
    Forget {
        person: PersonRef,
    },
    Confirm {
        id: String,
    },
    Reject {
        id: String,
    },
}

/// More for a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    /// Of a new one: the reference that it will have.
    pub(crate) person: PersonRef,
    /// Of a new one, and only of that.
    pub(crate) name: Option<String>,
    pub(crate) logins: Vec<Login>,
    pub(crate) roles: Vec<Role>,
    pub(crate) activate: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    /// It holds. With who agreed, of what was granted, and of what waited before: which proposal it was.
    InEffect {
        person: PersonRef,
        agreed: Option<Agreement>,
        proposal: Option<(String, Change)>,
    },
    /// It waits for another person; these have agreed.
    Proposed {
        person: PersonRef,
        id: String,
        change: Change,
        agreed: Vec<PersonRef>,
    },
    Rejected {
        person: PersonRef,
        id: String,
    },
}

impl Step {
    /// `by`: the person who asks, if it is one.
    pub(crate) fn apply(
        self,
        register: &mut Register,
        by: Option<&PersonRef>,
        now: UnixTime,
    ) -> Result<Done, PeopleError> {
        register.proposals.retain(|_, proposal| now < proposal.expires_at);
        match self {
            Self::Grant { change, id } => register.grant(change, id, by, now),
            Self::Withdraw {
                person,
                logins,
                roles,
                deactivate,
            } => register.withdraw(&person, &logins, &roles, deactivate),
            Self::Rename { person, name } => register.rename(&person, &name),
            Self::Forget { person } => register.forget(&person),
            Self::Confirm { id } => register.confirm(&id, by, now),
            Self::Reject { id } => {
                let gone = register.proposals.remove(&id);
                let gone = gone.ok_or_else(|| PeopleError::NoSuchProposal { id: id.clone() })?;
                let person = gone.change.person;
                Ok(Done::Rejected { person, id })
            }
        }
    }
}

impl Register {
    fn grant(
        &mut self,
        change: Change,
        id: String,
        by: Option<&PersonRef>,
        now: UnixTime,
    ) -> Result<Done, PeopleError> {
        let granted = self.with(&change, &agreement(by, now))?;
        // Who asks for something that no second person may say yes to has agreed to nothing.
        let by = by.filter(|by| self.may_confirm(by));
        if !self.needs_two() {
            return Ok(self.put(granted, None));
        }
        if self.proposals.len() >= MAX_PROPOSALS {
            return Err(PeopleError::TooManyProposals);
        }
        let proposal = Proposal {
            id: id.clone(),
            change,
            agreed: by.cloned().into_iter().collect(),
            proposed_at: now,
            expires_at: now.saturating_add(LIFE),
        };
        Ok(self.wait(proposal))
    }

    fn confirm(&mut self, id: &str, by: Option<&PersonRef>, now: UnixTime) -> Result<Done, PeopleError> {
        let by = by
            .filter(|by| self.may_confirm(by))
            .ok_or(PeopleError::MayNotConfirm)?;
        let proposal = self.proposals.get(id).cloned();
        let mut proposal = proposal.ok_or_else(|| PeopleError::NoSuchProposal { id: id.to_owned() })?;
        if proposal.agreed.contains(by) {
            return Err(PeopleError::SamePerson { id: id.to_owned() });
        }
        proposal.agreed.push(by.clone());
        // Somebody who has lost the right since has no say in what takes effect now.
        let count = proposal.agreed.iter().filter(|person| self.may_confirm(person));
        let persons: BTreeSet<_> = count.cloned().collect();
        if persons.len() < 2 {
            return Ok(self.wait(proposal));
        }
        let granted = self.with(&proposal.change, &Agreement { persons, at: now })?;
        self.proposals.remove(id);
        Ok(self.put(granted, Some((proposal.id, proposal.change))))
    }

    fn wait(&mut self, proposal: Proposal) -> Done {
        let done = Done::Proposed {
            person: proposal.change.person.clone(),
            id: proposal.id.clone(),
            change: proposal.change.clone(),
            agreed: proposal.agreed.clone(),
        };
        self.proposals.insert(proposal.id.clone(), proposal);
        done
    }

    /// The person as it would be, with its name if it is new.
    fn with(
        &self,
        change: &Change,
        agreed: &Agreement,
    ) -> Result<(Person, Option<String>, Agreement), PeopleError> {
        let (mut person, name) = match (&change.name, self.persons.get(&change.person)) {
            (Some(name), None) => {
                if self.persons.len() >= MAX_PERSONS {
                    return Err(PeopleError::TooManyPersons);
                }
                let person = Person {
                    reference: change.person.clone(),
                    active: true,
                    forgotten: false,
                    agreed: agreed.clone(),
                    logins: Vec::new(),
                    roles: Vec::new(),
                };
                (person, Some(names::name(name)?))
            }
            (None, Some(person)) if person.forgotten => {
                let person = person.reference.clone();
                return Err(PeopleError::Forgotten { person });
            }
            (None, Some(person)) => (person.clone(), None),
            (Some(_), Some(_)) => return Err(PeopleError::Nothing),
            (None, None) => {
                let person = change.person.clone();
                return Err(PeopleError::NoSuchPerson { person });
            }
        };
        let before = person.clone();
        if change.activate && !person.active {
            person.active = true;
            // Sessions from before do not come back with him.
            for login in &mut person.logins {
                login.mark = Some(mark()?);
            }
        }
        for login in &change.logins {
            self.check_login(login)?;
            if !person.has(login) {
                person.logins.push(Granted {
                    mark: Some(mark()?),
                    ..granted(login, agreed)
                });
            }
        }
        for role in &change.roles {
            if !role.is_of(&self.trust_domain) {
                let role = role.to_string();
                return Err(PeopleError::ForeignRole { role });
            }
            if !person.roles.iter().any(|known| known.what == *role) {
                person.roles.push(granted(role, agreed));
            }
        }
        if person.logins.len() > Person::MAX_LOGINS || person.roles.len() > Person::MAX_ROLES {
            return Err(PeopleError::TooMuchOfOne);
        }
        if person == before && name.is_none() {
            return Err(PeopleError::Nothing);
        }
        let administers = person.may_all(Verb::Administer, &self.trust_domain) && !person.logins.is_empty();
        if self.persons.is_empty() && !administers {
            return Err(PeopleError::FirstAdministers);
        }
        Ok((person, name, agreed.clone()))
    }

    fn check_login(&self, login: &Login) -> Result<(), PeopleError> {
        if *login == Login::Uid(0) {
            return Err(PeopleError::RootLogin);
        }
        if !login.is_personal(&self.trust_domain) {
            return Err(PeopleError::BadLogin { login: login.clone() });
        }
        match self.holder(login) {
            Some(holder) => Err(PeopleError::LoginTaken {
                login: login.clone(),
                person: holder.reference.clone(),
            }),
            None => Ok(()),
        }
    }

    fn put(
        &mut self,
        (person, name, agreed): (Person, Option<String>, Agreement),
        proposal: Option<(String, Change)>,
    ) -> Done {
        let reference = person.reference.clone();
        if let Some(name) = name {
            self.names.insert(reference.clone(), name);
        }
        self.persons.insert(reference.clone(), person);
        Done::InEffect {
            person: reference,
            agreed: Some(agreed),
            proposal,
        }
    }

    fn withdraw(
        &mut self,
        reference: &PersonRef,
        logins: &[Login],
        roles: &[Role],
        deactivate: bool,
    ) -> Result<Done, PeopleError> {
        let person = self.known(reference)?;
        let before = person.clone();
        person.logins.retain(|known| !logins.contains(&known.what));
        person.roles.retain(|known| !roles.contains(&known.what));
        person.active &= !deactivate;
        if *person == before {
            return Err(PeopleError::Nothing);
        }
        Ok(Done::InEffect {
            person: reference.clone(),
            agreed: None,
            proposal: None,
        })
    }

    /// What people call somebody gives nobody anything: the reference is what is recorded and agreed to.
    fn rename(&mut self, reference: &PersonRef, name: &str) -> Result<Done, PeopleError> {
        let name = names::name(name)?;
        let person = self.known(reference)?;
        if person.forgotten {
            let person = reference.clone();
            return Err(PeopleError::Forgotten { person });
        }
        if self.names.get(reference) == Some(&name) {
            return Err(PeopleError::Nothing);
        }
        self.names.insert(reference.clone(), name);
        Ok(Done::InEffect {
            person: reference.clone(),
            agreed: None,
            proposal: None,
        })
    }

    fn forget(&mut self, reference: &PersonRef) -> Result<Done, PeopleError> {
        let person = self.known(reference)?;
        person.active = false;
        person.forgotten = true;
        person.logins.clear();
        self.names.remove(reference);
        // They may name logins, or have the name.
        self.proposals
            .retain(|_, proposal| proposal.change.person != *reference);
        Ok(Done::InEffect {
            person: reference.clone(),
            agreed: None,
            proposal: None,
        })
    }

    fn known(&mut self, reference: &PersonRef) -> Result<&mut Person, PeopleError> {
        let person = self.persons.get_mut(reference);
        person.ok_or_else(|| PeopleError::NoSuchPerson {
            person: reference.clone(),
        })
    }
}

fn agreement(by: Option<&PersonRef>, at: UnixTime) -> Agreement {
    Agreement {
        persons: by.cloned().into_iter().collect(),
        at,
    }
}

fn granted<T: Clone>(what: &T, agreed: &Agreement) -> Granted<T> {
    Granted {
        what: what.clone(),
        agreed: agreed.clone(),
        mark: None,
    }
}

fn mark() -> Result<Mark, PeopleError> {
    Mark::random().ok_or(PeopleError::Random)
}

/// Of a proposal.
const LIFE: Duration = Duration::from_secs(7 * 86_400);
