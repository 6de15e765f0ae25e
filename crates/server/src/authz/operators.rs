//! Operators: which person is behind a request, and what a method asks of him. Invariant: once there is a person, nobody operates but by what the
//! register says of his login; before that everything is as it was without one.

use http::HeaderMap;
use landfast_identity::{SpiffeId, VerifiedPeer};
use landfast_proto::{REASON, Reason};
use landfast_uds::PeerInfo;
use tonic::Status;

use super::refusals::Refusal;
use super::to_the_end::is_change;
use super::{Authorizer, Caller, Class};
use crate::issuance::Requester;
use crate::people::{
    Audit, Event, LocalLogin, Login, Operator, Outcome, Person, PersonRef, Standing, Verb, told,
};

/// What an operator has to have the right to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Right {
    /// No operator's right is asked: it is for machines, or for anybody.
    Nobodys,
    /// To this, for the whole trust domain.
    Whole(Verb),
    /// To this for something; for what it is, the handler asks.
    Each(Verb),
}

impl Right {
    pub(super) fn verb(self) -> Option<Verb> {
        match self {
            Self::Nobodys => None,
            Self::Whole(verb) | Self::Each(verb) => Some(verb),
        }
    }
}

/// Why, as the operator says.
pub(super) fn reason(headers: &HeaderMap) -> Result<Option<Reason>, Status> {
    let reason = headers
        .get(REASON)
        .map(|text| Reason::from_metadata(text.as_bytes()));
    reason
        .transpose()
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

impl Authorizer {
    /// Who calls on the admin socket.
    pub(super) fn local(&self, peer: &PeerInfo) -> (Operator, Requester) {
        let login = LocalLogin::of(peer);
        let registry = &self.0.registry;
        let standing = match registry.has_people() {
            false => Standing::Administrator,
            true => login.standing(|login| registry.holder(login)),
        };
        let mut said = Vec::new();
        if matches!(login.audit, Audit::Uid(_)) || standing == Standing::Nobody {
            said.push(login.to_string());
        }
        said.extend(standing.person().map(|person| as_recorded(person)));
        let person = standing.person().map(|person| person.reference.to_string());
        let by = login.login();
        let requester = Requester::local(peer.uid, peer.pid)
            .operated_by(said.join(" "))
            .come_by(person.is_some().then(|| by.recorded()))
            .of_person(person)
            .logged_in_as(match login.audit {
                Audit::Uid(uid) => Some(uid),
                Audit::Unset | Audit::Unknown => None,
            });
        let operator = Operator {
            standing,
            login: Some(by),
            local: true,
            ..Operator::default()
        };
        (operator, requester)
    }

    /// Who shows this certificate; `admin`: it administers where there is no person.
    pub(super) fn remote(&self, peer: &VerifiedPeer, admin: bool) -> Operator {
        let id = &peer.id;
        let mut login = Login::Spiffe(id.clone());
        let standing = match self.0.registry.has_people() {
            // Who has a session was a person: where there is none any more, he has been forgotten by a registry that went back.
            false if admin && !id.is_person() => Standing::Administrator,
            false => Standing::Nobody,
            true => match self.0.registry.comes_by(id) {
                Some((person, by)) => {
                    login = by;
                    match person.active {
                        true => Standing::Person(person),
                        false => Standing::Nobody,
                    }
                }
                None => Standing::Nobody,
            },
        };
        Operator {
            standing,
            login: Some(login),
            ends: Some(peer.not_after),
            ..Operator::default()
        }
    }

    /// As whom it is recorded what an operator does over the network.
    pub(super) fn recorded(id: &SpiffeId, operator: &Operator) -> Requester {
        let person = operator.standing.person();
        Requester::admin(id.clone())
            .operated_by(person.map(|person| as_recorded(person)).unwrap_or_default())
            .of_person(person.map(|person| person.reference.to_string()))
            .come_by(person.and(operator.login.as_ref()).map(Login::recorded))
            .because(operator.reason.as_ref().map(|reason| reason.as_str().to_owned()))
    }

    /// Whether a person comes by this identity.
    pub(super) fn is_login(&self, id: &SpiffeId) -> bool {
        self.0
            .registry
            .comes_by(id)
            .is_some_and(|(person, _)| person.active)
    }

    /// Refuses an operator who has no right to the method.
    pub(super) fn permit(
        &self,
        method: &'static str,
        right: Right,
        operator: &Operator,
        requester: &Requester,
    ) -> Result<(), Status> {
        let td = self.0.registry.trust_domain();
        let standing = &operator.standing;
        let (may, verb) = match right {
            Right::Nobodys => return Ok(()),
            Right::Whole(verb) => (standing.may_all(verb, td), verb),
            Right::Each(verb) => (standing.may_some(verb), verb),
        };
        if may {
            return Ok(());
        }
        let refused = refused(standing, verb, "the whole trust domain");
        Refusal {
            method,
            verb,
            target: None,
            why: refused.message(),
            said: operator.reason.as_ref(),
        }
        .tell(&self.0.ledger, requester);
        Err(refused)
    }
}

impl Caller {
    /// Refuses what this operator may not do to what has this identity. For methods that the table says `Each` of.
    ///
    /// # Errors
    /// PermissionDenied.
    pub(crate) fn may(&self, verb: Verb, id: &SpiffeId) -> Result<(), Status> {
        let may = self.operator.standing.may(verb, id);
        self.judged(may, verb, id.as_str())
    }

    /// Refuses what only those may who have the right for everything.
    ///
    /// # Errors
    /// PermissionDenied.
    pub(crate) fn may_all(&self, verb: Verb, td: &landfast_identity::TrustDomain) -> Result<(), Status> {
        let may = self.operator.standing.may_all(verb, td);
        self.judged(may, verb, "the whole trust domain")
    }

    /// For each approval of what a node has asked for: by a person, of what the person may approve. Where there are no persons, by whoever is on the
    /// server's machine. Returns who is to be recorded.
    ///
    /// # Errors
    /// PermissionDenied.
    pub(crate) fn approves(&self, id: &SpiffeId) -> Result<Option<PersonRef>, Status> {
        if self.operator.standing == Standing::Administrator && !self.operator.local {
            let refused = Status::permission_denied(
                "over the network only persons approve, and there are none: landfast person add, on the server's machine",
            );
            self.refused(Verb::Approve, Some(id.as_str()), refused.message());
            return Err(refused);
        }
        self.may(Verb::Approve, id)?;
        let person = self.operator.standing.person();
        Ok(person.map(|person| person.reference.clone()))
    }

    fn judged(&self, may: bool, verb: Verb, target: &str) -> Result<(), Status> {
        if may {
            return Ok(());
        }
        let refused = refused(&self.operator.standing, verb, target);
        self.refused(verb, Some(target), refused.message());
        Err(refused)
    }

    /// Tells of what was refused to this operator, and records it.
    pub(crate) fn refused(&self, verb: Verb, target: Option<&str>, why: &str) {
        let refusal = Refusal {
            method: self.method,
            verb,
            target,
            why,
            said: self.operator.reason.as_ref(),
        };
        refusal.tell(&self.ledger, &self.requester);
    }

    /// Tells of what an operator has asked for and got.
    pub(super) fn told(&self, status: Option<&str>) {
        let operates = matches!(self.class, Class::Local | Class::Admin);
        // What was done about persons, or refused, is told of where it is known what that was.
        let is_told = !operates || !is_change(self.method, self.right) || self.method.starts_with(PEOPLE);
        let Some(verb) = self.right.verb().filter(|_| !is_told) else {
            return;
        };
        let outcome = match status {
            None | Some("0") => Outcome::Done,
            Some(code) => Outcome::Failed(code),
        };
        told(&Event {
            verb,
            actor: &self.requester,
            action: self.method,
            target: None,
            reason: self.operator.reason.as_ref(),
            outcome,
        });
    }
}

fn as_recorded(person: &Person) -> String {
    format!("person {}", person.reference)
}

/// An operator may know what he may not do.
fn refused(standing: &Standing, verb: Verb, what: &str) -> Status {
    let who = match standing {
        Standing::Person(person) => format!("{} has no role that covers it", person.reference),
        Standing::Root => "root administers and approves nothing, a person has to".to_owned(),
        Standing::Administrator | Standing::Nobody => "this login belongs to no active person".to_owned(),
    };
    Status::permission_denied(format!("not allowed to {verb} {what}: {who} (landfast whoami)"))
}

const PEOPLE: &str = "/landfast.people.v1.People/";
pub(super) const CONFIRM: &str = "/landfast.people.v1.People/ConfirmProposal";
