//! `landfast.reserve.v1`: what nodes have for when they are cut off. Of a CSR only the public key is used.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime};
use landfast_proto::landfast::reserve::v1::{self as pb, debts_server::Debts, reserve_server::Reserve};
use landfast_proto::spire::api::types;
use tonic::{Code, Request, Response, Status};

use super::batch::{answers, count_up_to};
use super::convert::x509_out;
use super::svid::{CSRS_A_TURN, csr_in, jwt_out, not_authorised};
use super::{Api, status};
use crate::admission::Turn;
use crate::authz::Caller;
use crate::datastore::{Debt, DebtQuery};
use crate::issuance::{IssueError, RungOrder};
use crate::registry::Versioned;
use crate::reserve::ReserveError;

#[tonic::async_trait]
impl Reserve for Api {
    async fn new_rungs(
        &self,
        request: Request<pb::NewRungsRequest>,
    ) -> Result<Response<pb::NewRungsResponse>, Status> {
        let who = Caller::of(&request)?.requester.clone();
        let agent = Caller::agent(&request)?;
        let count = count_up_to(MAX_RUNGS, &request.get_ref().rungs)?;
        let turn = self.admit_ahead(&request, count).await?;
        let authorised = self.registry.authorized(&agent.id).entries;
        let by_id: HashMap<&str, &Arc<Versioned>> = authorised
            .iter()
            .map(|versioned| (versioned.entry.id.as_str(), versioned))
            .collect();
        let mut ahead = self.ahead(&agent.id, &request.get_ref().rungs).await?;
        let (mut orders, mut outcome) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (done, one) in request.into_inner().rungs.into_iter().enumerate() {
            // Each is a signature to verify; others have their turn in between.
            if done % CSRS_A_TURN == CSRS_A_TURN - 1 {
                turn.pause().await;
            }
            let entry = by_id.get(one.entry_id.as_str()).ok_or_else(not_authorised);
            let entry = entry.and_then(|entry| self.not_powerful(entry));
            let entry = entry.and_then(|entry| self.has_room(entry, &mut ahead));
            match entry.and_then(|entry| Ok((Arc::clone(entry), csr_in(&one.csr)?))) {
                Ok((entry, csr)) => {
                    outcome.push(Ok(entry.entry.hint.clone()));
                    orders.push(RungOrder {
                        entry,
                        key: csr.public_key().clone(),
                        begins: UnixTime::from_secs(one.not_before),
                    });
                }
                Err(refused) => outcome.push(Err(refused)),
            }
        }
        let issued = self.issuer.rungs(&who, orders, &turn).await;
        drop(turn);
        let answers = answers(outcome, issued, x509_out);
        let made = answers.iter().filter(|(_, svid)| svid.is_some()).count();
        metrics::counter!("landfast_server_rungs_total").increment(made as u64);
        let enough = |(status, _): &&(Option<types::Status>, _)| {
            status
                .as_ref()
                .is_some_and(|status| status.code == Code::ResourceExhausted as i32)
        };
        let enough = answers.iter().filter(enough).count();
        if enough > 0 {
            metrics::counter!("landfast_server_rungs_refused_total").increment(enough as u64);
            tracing::warn!(
                agent = %agent.id, refused = enough,
                "a node asks for more ahead than its reserve takes: its reserve or TTL was made shorter, its clock went back, or, if it comes again, somebody else uses \
                 its SVID"
            );
        }
        let rungs = answers
            .into_iter()
            .map(|(status, svid)| pb::Rung { status, svid });
        Ok(Response::new(pb::NewRungsResponse {
            rungs: rungs.collect(),
        }))
    }

    async fn new_token(
        &self,
        request: Request<pb::NewTokenRequest>,
    ) -> Result<Response<pb::NewTokenResponse>, Status> {
        let who = Caller::of(&request)?.requester.clone();
        let agent = Caller::agent(&request)?;
        let _turn = self.admit_ahead(&request, 1).await?;
        let request = request.into_inner();
        let authorised = self.registry.authorized(&agent.id).entries;
        let mut authorised = authorised.iter();
        let entry = authorised.find(|versioned| versioned.entry.id == request.entry_id);
        let entry = entry.ok_or_else(not_authorised)?;
        let issued = self
            .issuer
            .token_for_later(&who, entry, &request.audience)
            .await
            .map_err(|e| status::issue(&e))?;
        metrics::counter!("landfast_server_jwt_svids_total").increment(1);
        Ok(Response::new(pb::NewTokenResponse {
            svid: Some(jwt_out(&issued, &entry.entry.hint)),
        }))
    }
}

#[tonic::async_trait]
impl Debts for Api {
    async fn list_debts(
        &self,
        request: Request<pb::ListDebtsRequest>,
    ) -> Result<Response<pb::ListDebtsResponse>, Status> {
        let request = request.into_inner();
        let lists = [&request.agent_ids, &request.entry_ids, &request.authority_ids];
        let named = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        if named > AT_ONCE {
            return Err(Status::invalid_argument(format!(
                "debts of {named} at once, more than {AT_ONCE}"
            )));
        }
        let limit = match usize::try_from(request.page_size) {
            Ok(0) => MAX_PAGE,
            Ok(size) => size.min(MAX_PAGE),
            Err(_negative) => return Err(Status::invalid_argument("page size cannot be negative")),
        };
        let query = DebtQuery {
            agents: request.agent_ids,
            entries: request.entry_ids,
            authorities: request.authority_ids,
            untainted: false,
            now: self.now()?,
            after: after(&request.page_token)?,
            limit,
        };
        let debts = self.datastore.debts(query).await;
        let debts = debts.map_err(|error| status::registry(&error.into()))?;
        let last = debts.last().filter(|_| debts.len() == limit);
        let next_page_token = last.map(|last| format!("{} {}", last.agent, last.entry));
        Ok(Response::new(pb::ListDebtsResponse {
            next_page_token: next_page_token.unwrap_or_default(),
            debts: debts.into_iter().map(debt_out).collect(),
        }))
    }
}

impl Api {
    /// Rights go by the identity: another entry of the same may give it some.
    fn not_powerful<'a>(&self, entry: &'a Arc<Versioned>) -> Result<&'a Arc<Versioned>, Status> {
        match self.registry.is_powerful(&entry.entry.spiffe_id) {
            true => Err(Status::invalid_argument(ReserveError::Powerful.to_string())),
            false => Ok(entry),
        }
    }

    /// How many rungs the agent has of each of these entries, neither spent nor revoked, of authorities that are not tainted.
    async fn ahead(&self, agent: &SpiffeId, rungs: &[pb::NewRung]) -> Result<HashMap<String, u64>, Status> {
        let entries: BTreeSet<_> = rungs.iter().map(|rung| rung.entry_id.clone()).collect();
        let query = DebtQuery {
            agents: vec![agent.to_string()],
            entries: entries.into_iter().collect(),
            authorities: Vec::new(),
            untainted: true,
            now: self.now()?,
            after: Default::default(),
            limit: MAX_RUNGS,
        };
        let debts = self.datastore.debts(query).await;
        let debts = debts.map_err(|error| status::registry(&error.into()))?;
        Ok(debts.into_iter().map(|debt| (debt.entry, debt.rungs)).collect())
    }

    /// Counts one more. Two calls at once do not see one another: what both may pass is the bound of the datastore.
    fn has_room<'a>(
        &self,
        entry: &'a Arc<Versioned>,
        ahead: &mut HashMap<String, u64>,
    ) -> Result<&'a Arc<Versioned>, Status> {
        let id = &entry.entry.id;
        let count = ahead.entry(id.clone()).or_default();
        if self.issuer.most_ahead(entry).is_some_and(|most| *count >= most) {
            let entry = id.clone();
            return Err(status::issue(&IssueError::Enough { entry }));
        }
        *count += 1;
        Ok(entry)
    }

    /// Charges `count` signatures that nobody needs now to the caller and waits for its turn.
    async fn admit_ahead<T: prost::Message>(
        &self,
        request: &Request<T>,
        count: usize,
    ) -> Result<Turn, Status> {
        let agent = Caller::agent(request)?;
        self.ahead_limit.charge(request, count)?;
        let admitted = self.admission.turn_ahead(request, &agent.id, count).await;
        admitted
            .and_then(|turn| self.is_current().map(|()| turn))
            .inspect_err(|_refused| self.ahead_limit.give_back(request, count))
    }
}

/// An agent and an entry; neither has a space in it.
fn after(token: &str) -> Result<(String, String), Status> {
    let parts = token.split_once(' ');
    match (token, parts) {
        ("", _) => Ok(Default::default()),
        (_, Some((agent, entry))) => Ok((agent.to_owned(), entry.to_owned())),
        (_, None) => Err(Status::invalid_argument("invalid page token")),
    }
}

fn debt_out(debt: Debt) -> pb::Debt {
    pb::Debt {
        agent_id: debt.agent,
        entry_id: debt.entry,
        rungs: u32::try_from(debt.rungs).unwrap_or(u32::MAX),
        ends_at: debt.ends.as_secs(),
    }
}

/// Rungs in one call.
const MAX_RUNGS: usize = 64;
/// Agents or entries that are asked for in one call.
const AT_ONCE: usize = 500;
const MAX_PAGE: usize = 1000;

#[cfg(test)]
mod tests;
