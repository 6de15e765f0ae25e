//! Whom the table and the handlers refuse, told of and recorded. Invariant: each refusal of somebody who is known has a record, up to the ledger's
//! bound for one caller, and waits for none; of who is not known only where he came from is counted.

use std::net::IpAddr;

use landfast_audit::{ActorClass, Category, Record};
use landfast_identity::SpiffeId;
use landfast_proto::Reason;
use landfast_proto::spire::api::types::permission_denied_details::Reason as Why;
use tonic::Status;

use super::Authorizer;
use crate::api::status::permission_denied;
use crate::issuance::{Requester, RequesterKind};
use crate::ledger::{Failure, Ledger, actor};
use crate::people::{Event, Outcome, Session, Verb, told};

/// What was not let do.
pub(super) struct Refusal<'a> {
    pub(super) method: &'static str,
    pub(super) verb: Verb,
    /// To whom or what, where it is known.
    pub(super) target: Option<&'a str>,
    pub(super) why: &'a str,
    /// Why he wanted it, in his words.
    pub(super) said: Option<&'a Reason>,
}

impl Refusal<'_> {
    pub(super) fn tell(&self, ledger: &Ledger, who: &Requester) {
        told(&Event {
            verb: self.verb,
            actor: who,
            action: self.method,
            target: self.target,
            reason: self.said,
            outcome: Outcome::Denied,
        });
        let record = Record {
            target: self.target.map(ToOwned::to_owned),
            ..Record::new(Category::AccessControl, "operator.denied", actor(who))
        };
        let record = record
            .because(self.why)
            .with("method", self.method)
            .with("verb", self.verb.to_string());
        ledger.refused(match self.said {
            Some(said) => record.with("said", said.as_str()),
            None => record,
        });
    }
}

impl Authorizer {
    /// Who shows the certificate of this identity, for what is refused to him.
    pub(super) fn shown_by(&self, id: &SpiffeId) -> Requester {
        if id.is_agent() {
            return Requester::agent(id.clone(), "");
        }
        // Also of a session that is over: it was begun by that person and nobody else.
        let holder = self
            .0
            .registry
            .comes_by(id)
            .map(|(person, _)| person.reference.clone());
        let person = holder.or_else(|| Session::of(id).map(|session| session.person));
        Requester::admin(id.clone()).of_person(person.map(|person| person.to_string()))
    }

    /// Refuses somebody who is known, and none of those who may call this.
    pub(super) fn turned_away(
        &self,
        who: &Requester,
        method: &'static str,
        (why, said): (Option<Why>, &'static str),
    ) -> Status {
        tracing::info!(%who, method, why = said, "a caller was refused");
        self.note_turned_away(who, method, said);
        permission_denied(method, why)
    }

    pub(super) fn note_turned_away(&self, who: &Requester, method: &'static str, why: &'static str) {
        let mut actor = actor(who);
        if let RequesterKind::Admin(id) = &who.kind
            && self.0.registry.is_of_a_third_party(id)
        {
            actor.class = ActorClass::ThirdParty;
        }
        let record = Record::new(Category::AccessControl, "call.denied", actor).because(why);
        self.0.ledger.refused(record.with("method", method));
    }

    /// Refuses somebody who has shown no certificate.
    pub(super) fn unknown(&self, address: Option<IpAddr>, method: &'static str) -> Status {
        if let Some(address) = address {
            let why = format!("{method} was called without a certificate");
            self.0.ledger.failed(Failure::Call, address, &why);
        }
        permission_denied(method, None)
    }
}
