//! `landfast.people.v1.People`: who operates, and what each may do. Invariant: what is told of a change has references and no names.

mod convert;
mod records;

use landfast_proto::landfast::people::v1::{
    self as pb, people_server::People, who_am_i_response::Standing as Stands,
};
use tonic::{Request, Response, Status};

use super::{Api, status};
use crate::authz::Caller;
use crate::people::{
    Agreement, Done, Event, Login, Outcome, PersonRef, Register, Standing, Step, Verb, told,
};
use crate::registry::RegistryError;
use convert::{change_in, login_in, login_out, person_out, proposal_out, reference_in, role_in, role_out};
use records::About;

#[tonic::async_trait]
impl People for Api {
    async fn who_am_i(
        &self,
        request: Request<pb::WhoAmIRequest>,
    ) -> Result<Response<pb::WhoAmIResponse>, Status> {
        let caller = Caller::of(&request)?;
        let operator = &caller.operator;
        let person = operator.standing.person();
        let name = match person {
            Some(person) => self.register().await?.names.remove(&person.reference),
            None => None,
        };
        let (standing, notice) = match &operator.standing {
            Standing::Administrator => (Stands::Administrator, NOBODY_YET),
            Standing::Root => (Stands::Root, ROOT),
            Standing::Person(_) => (Stands::Person, ""),
            Standing::Nobody => (Stands::Nobody, NOBODY),
        };
        let roles = person.iter().flat_map(|person| &person.roles);
        Ok(Response::new(pb::WhoAmIResponse {
            actor: caller.requester.to_string(),
            standing: standing.into(),
            login: operator.login.as_ref().map(login_out),
            person: person
                .map(|person| person.reference.to_string())
                .unwrap_or_default(),
            name: name.unwrap_or_default(),
            roles: roles.map(|role| role_out(&role.what)).collect(),
            trust_domain: self.trust_domain.to_string(),
            notice: notice.to_owned(),
            login_ends_at: operator.ends.map_or(0, landfast_identity::UnixTime::as_secs),
        }))
    }

    async fn list_persons(
        &self,
        _: Request<pb::ListPersonsRequest>,
    ) -> Result<Response<pb::ListPersonsResponse>, Status> {
        let register = self.register().await?;
        let persons = register.persons.values().map(|person| {
            let name = register.names.get(&person.reference);
            person_out(person, name.map_or("", String::as_str))
        });
        Ok(Response::new(pb::ListPersonsResponse {
            persons: persons.collect(),
        }))
    }

    async fn grant(&self, request: Request<pb::GrantRequest>) -> Result<Response<pb::GrantResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let change = request.into_inner().change;
        let change = change.ok_or_else(|| Status::invalid_argument("missing change"))?;
        let change = change_in(change, &self.trust_domain)?;
        let logins = change.logins.clone();
        let id = random_id()?;
        let done = self
            .change_people(&caller, "grant", Step::Grant { change, id })
            .await?;
        Ok(Response::new(self.granted(done, &logins)))
    }

    async fn withdraw(
        &self,
        request: Request<pb::WithdrawRequest>,
    ) -> Result<Response<pb::WithdrawResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let deactivate = request.deactivate;
        let logins = request.logins.into_iter().map(login_in);
        let roles = request
            .roles
            .into_iter()
            .map(|role| role_in(role, &self.trust_domain));
        let step = Step::Withdraw {
            person: reference_in(&request.person)?,
            logins: logins.collect::<Result<_, _>>()?,
            roles: roles.collect::<Result<_, _>>()?,
            deactivate,
        };
        let action = if deactivate { "deactivate" } else { "withdraw" };
        self.change_people(&caller, action, step).await?;
        Ok(Response::new(pb::WithdrawResponse {}))
    }

    async fn rename(
        &self,
        request: Request<pb::RenameRequest>,
    ) -> Result<Response<pb::RenameResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let pb::RenameRequest { person, name } = request.into_inner();
        let person = reference_in(&person)?;
        self.change_people(&caller, "rename", Step::Rename { person, name })
            .await?;
        Ok(Response::new(pb::RenameResponse {}))
    }

    async fn forget(
        &self,
        request: Request<pb::ForgetRequest>,
    ) -> Result<Response<pb::ForgetResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let person = reference_in(&request.get_ref().person)?;
        self.change_people(&caller, "forget", Step::Forget { person })
            .await?;
        Ok(Response::new(pb::ForgetResponse {}))
    }

    async fn list_proposals(
        &self,
        _: Request<pb::ListProposalsRequest>,
    ) -> Result<Response<pb::ListProposalsResponse>, Status> {
        let now = self.now()?;
        let register = self.register().await?;
        let mut open: Vec<_> = register.proposals.values().collect();
        open.retain(|proposal| now < proposal.expires_at);
        open.sort_by_key(|proposal| proposal.proposed_at);
        let proposals = open.into_iter().map(proposal_out).collect();
        Ok(Response::new(pb::ListProposalsResponse { proposals }))
    }

    async fn confirm_proposal(
        &self,
        request: Request<pb::ConfirmProposalRequest>,
    ) -> Result<Response<pb::GrantResponse>, Status> {
        // Who may, is decided with the register at hand, where nobody can lose the right meanwhile.
        let caller = Caller::of(&request)?.clone();
        let id = request.into_inner().id;
        let proposal = self.register().await?.proposals.remove(&id);
        let logins = proposal
            .map(|proposal| proposal.change.logins)
            .unwrap_or_default();
        let done = self
            .change_people(&caller, "confirm", Step::Confirm { id })
            .await?;
        Ok(Response::new(self.granted(done, &logins)))
    }

    async fn reject_proposal(
        &self,
        request: Request<pb::RejectProposalRequest>,
    ) -> Result<Response<pb::RejectProposalResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let id = request.into_inner().id;
        self.change_people(&caller, "reject", Step::Reject { id }).await?;
        Ok(Response::new(pb::RejectProposalResponse {}))
    }
}

impl Api {
    async fn register(&self) -> Result<Register, Status> {
        let read = self.registry.people().await;
        read.map_err(|error| status::registry(&error.into()))
    }

    /// And tells of it, and of what was refused.
    async fn change_people(&self, caller: &Caller, action: &str, step: Step) -> Result<Done, Status> {
        let by = caller
            .operator
            .standing
            .person()
            .map(|person| person.reference.clone());
        let about = About::of(&step);
        let done = match self.registry.change_people(step, by).await {
            Ok(done) => done,
            Err(error) => {
                self.not_changed(caller, action, about, &error);
                return Err(status::registry(&error));
            }
        };
        let (person, outcome) = match &done {
            Done::InEffect { person, agreed, .. } => {
                let alone = agreed.as_ref().is_some_and(Agreement::is_alone);
                (person, if alone { Outcome::Alone } else { Outcome::Done })
            }
            Done::Proposed { person, .. } | Done::Rejected { person, .. } => (person, Outcome::Done),
        };
        told(&Event {
            verb: Verb::Administer,
            actor: &caller.requester,
            action: &match &done {
                Done::Proposed { id, .. } => format!("{action}: proposal {id}"),
                Done::Rejected { id, .. } => format!("{action}: proposal {id} is no more"),
                Done::InEffect { .. } => format!("{action}: in effect"),
            },
            target: Some(person.as_str()),
            reason: caller.operator.reason.as_ref(),
            outcome,
        });
        self.did(&caller.requester, records::done(action, about, &done))
            .await;
        Ok(done)
    }

    /// Tells of what was not done, and records what was refused: also who has tried to agree with himself.
    fn not_changed(&self, caller: &Caller, action: &str, about: About, error: &RegistryError) {
        let RegistryError::People { source } = error else {
            let code = i32::from(status::registry(error).code()).to_string();
            told(&Event {
                verb: Verb::Administer,
                actor: &caller.requester,
                action,
                target: about.target.as_deref(),
                reason: caller.operator.reason.as_ref(),
                outcome: Outcome::Failed(&code),
            });
            return;
        };
        let why = format!("{action}: {}", source.recorded());
        caller.refused(Verb::Administer, about.target.as_deref(), &why);
    }

    fn granted(&self, done: Done, logins: &[Login]) -> pb::GrantResponse {
        let mut notices: Vec<String> = Vec::new();
        for login in logins {
            let Login::Spiffe(id) = login else { continue };
            let entries = self.registry.live_entries_of_id(id).len();
            notices.push(match entries {
                0 => format!("no entry grants {id}, and none can be made while it is a login: take the login away, make the entry, and give it again"),
                1 => format!("an entry grants {id}: whoever has what it selects is this person"),
                many => format!("{many} entries grant {id}: whoever has what one of them selects is this person"),
            });
        }
        let (person, proposal) = match done {
            Done::InEffect { person, agreed, .. } => {
                if agreed.is_some_and(|agreed| agreed.is_alone()) {
                    notices.push(
                        "fewer than two persons have agreed to this, and it says so for good".to_owned(),
                    );
                }
                (person, String::new())
            }
            Done::Proposed { person, id, .. } | Done::Rejected { person, id } => (person, id),
        };
        pb::GrantResponse {
            person: PersonRef::to_string(&person),
            proposal,
            notices,
        }
    }
}

fn random_id() -> Result<String, Status> {
    crate::people::proposal_id().ok_or_else(|| status::internal("the random source failed"))
}

const NOBODY_YET: &str = "there are no persons: whoever is let in administers, and approvals name nobody. landfast person add makes the first one";
const ROOT: &str = "root administers and approves nothing: persons do, by their own logins";
const NOBODY: &str = "this login belongs to no active person and may do nothing: somebody who administers gives it to one, with landfast person grant";
