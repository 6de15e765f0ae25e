//! Who a request came from, once it was judged. Invariant: a handler has it from the table and from nowhere else.

use std::sync::Arc;

use landfast_proto::Reason;
use tonic::Status;
use tonic::body::Body;

use super::Class;
use super::operators::{Right, reason};
use crate::api::status::internal;
use crate::issuance::Requester;
use crate::ledger::Ledger;
use crate::people::Operator;
use crate::registry::{AgentRecord, Entry};

/// Who a request came from, and what that lets it do. In the extensions of every request that reaches a handler.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// For records and logs.
    pub(crate) requester: Requester,
    /// The agent, when it called as one, or called what is open to anybody.
    pub(crate) agent: Option<Arc<AgentRecord>>,
    /// The entry by which a server below this one called: the one that gives it this right for longest.
    pub(crate) downstream: Option<Arc<Entry>>,
    /// Who operates; nobody, where a machine called.
    pub(crate) operator: Operator,
    /// As what it was let in.
    pub(super) class: Class,
    /// For what.
    pub(super) right: Right,
    /// What was called.
    pub(super) method: &'static str,
    /// Has what is refused to him.
    pub(super) ledger: Ledger,
}

impl Caller {
    /// Of a request that passed the table.
    ///
    /// # Errors
    /// Internal, when it did not: a fault of ours.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<&Self, Status> {
        request
            .extensions()
            .get()
            .ok_or_else(|| internal("a request without a caller"))
    }

    /// The calling agent.
    ///
    /// # Errors
    /// Internal, when the caller is not an agent: a fault of ours.
    pub(crate) fn agent<T>(request: &tonic::Request<T>) -> Result<Arc<AgentRecord>, Status> {
        let agent = Self::of(request)?.agent.clone();
        agent.ok_or_else(|| internal("a request without an agent"))
    }

    /// The entry of the calling server.
    ///
    /// # Errors
    /// Internal, when the caller is not one below this: a fault of ours.
    pub(crate) fn downstream<T>(request: &tonic::Request<T>) -> Result<Arc<Entry>, Status> {
        let entry = Self::of(request)?.downstream.clone();
        entry.ok_or_else(|| internal("caller is not a downstream workload"))
    }
}

/// What a request is judged by, beside its method.
pub(super) struct Asked<'r> {
    pub(super) extensions: &'r http::Extensions,
    pub(super) reason: Option<Reason>,
}

impl<'r> Asked<'r> {
    pub(super) fn of(request: &'r http::Request<Body>) -> Result<Self, Status> {
        Ok(Self {
            extensions: request.extensions(),
            reason: reason(request.headers())?,
        })
    }
}
