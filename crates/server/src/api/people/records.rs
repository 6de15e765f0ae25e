//! What the ledger has of a change of persons. Invariant: references, roles and logins as they may be recorded for good; never a name, nor who somebody
//! is at a provider.

use landfast_audit::Record;

use crate::ledger;
use crate::people::{Agreement, Change, Done, Login, PersonRef, Role, Step, is_proposal_id};

/// What somebody wants to be done.
pub(super) struct About {
    /// A person or a proposal, for who looks for attempts.
    pub(super) target: Option<String>,
    logins: Vec<String>,
    roles: Vec<String>,
    activate: bool,
}

impl About {
    pub(super) fn of(step: &Step) -> Self {
        match step {
            Step::Grant { change, .. } => Self::change(change),
            Step::Withdraw {
                person,
                logins,
                roles,
                ..
            } => Self {
                logins: recorded(logins),
                roles: roles.iter().map(Role::to_string).collect(),
                ..Self::nothing(person.to_string())
            },
            Step::Rename { person, .. } | Step::Forget { person } => Self::nothing(person.to_string()),
            Step::Confirm { id } | Step::Reject { id } => Self {
                // Whoever asks writes it: what is no ID may be anything.
                target: Some(id.clone()).filter(|id| is_proposal_id(id)),
                ..Self::nothing(String::new())
            },
        }
    }

    fn change(change: &Change) -> Self {
        Self {
            target: Some(change.person.to_string()),
            logins: recorded(&change.logins),
            roles: change.roles.iter().map(Role::to_string).collect(),
            activate: change.activate,
        }
    }

    fn nothing(target: String) -> Self {
        Self {
            target: Some(target),
            logins: Vec::new(),
            roles: Vec::new(),
            activate: false,
        }
    }

    fn on(self, record: Record) -> Record {
        let record = match self.logins.is_empty() {
            true => record,
            false => record.with("logins", self.logins),
        };
        let record = match self.roles.is_empty() {
            true => record,
            false => record.with("roles", self.roles),
        };
        match self.activate {
            true => record.with("activate", true),
            false => record,
        }
    }
}

/// What came of it: what was given or taken, who has agreed to it, and under which proposal.
pub(super) fn done(action: &str, about: About, done: &Done) -> Record {
    let record = |kind, person: &PersonRef| ledger::changed(kind).about(person).with("action", action);
    match done {
        Done::InEffect {
            person,
            agreed,
            proposal,
        } => {
            let is_alone = agreed.as_ref().is_some_and(Agreement::is_alone);
            let record = record("person.changed", person).with("alone", is_alone);
            let record = match agreed {
                Some(agreed) => record.with("agreed", references(&agreed.persons)),
                None => record,
            };
            match proposal {
                // It was asked for by its ID: what it was says the proposal.
                Some((id, change)) => About::change(change).on(Record {
                    approval: Some(id.clone()),
                    ..record.with("proposal", id.clone())
                }),
                None => about.on(record),
            }
        }
        Done::Proposed {
            person,
            id,
            change,
            agreed,
        } => {
            let record = record("person.proposed", person).with("proposal", id.clone());
            About::change(change).on(record.with("agreed", references(agreed)))
        }
        Done::Rejected { person, id } => record("person.rejected", person).with("proposal", id.clone()),
    }
}

fn recorded(logins: &[Login]) -> Vec<String> {
    logins.iter().map(Login::recorded).collect()
}

fn references<'a>(persons: impl IntoIterator<Item = &'a PersonRef>) -> Vec<String> {
    persons.into_iter().map(ToString::to_string).collect()
}
