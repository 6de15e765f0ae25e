//! What requests for signatures have in common. Invariant: who is refused, or asks a server that may be behind, has not used up its limit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::SpiffeId;
use landfast_proto::spire::api::types;
use tonic::{Request, Status};

use super::limit::RateLimit;
use super::{Api, status};
use crate::admission::{Kind, Turn};
use crate::issuance::IssueError;
use crate::registry::Entry;

impl Api {
    /// Charges `count` signatures to the caller and waits for its turn.
    pub(super) async fn admit<T: prost::Message>(
        &self,
        request: &Request<T>,
        limit: &RateLimit,
        who: (&SpiffeId, Kind),
        count: usize,
        usual: Duration,
    ) -> Result<Turn, Status> {
        limit.charge(request, count)?;
        let admitted = self.admission.turn(request, who, count, usual).await;
        admitted
            .and_then(|turn| self.is_current().map(|()| turn))
            .inspect_err(|_refused| limit.give_back(request, count))
    }
}

/// How many signatures a batch asks for.
pub(super) fn count_of<T>(params: &[T]) -> Result<usize, Status> {
    count_up_to(MAX_BATCH, params)
}

pub(super) fn count_up_to<T>(most: usize, params: &[T]) -> Result<usize, Status> {
    match params.len() {
        0 => Err(Status::invalid_argument("missing parameters")),
        count if count > most => Err(Status::invalid_argument(format!(
            "too many parameters: at most {most} at once"
        ))),
        count => Ok(count),
    }
}

pub(super) fn by_id(authorised: &[Arc<Entry>]) -> HashMap<&str, &Arc<Entry>> {
    authorised
        .iter()
        .map(|entry| (entry.id.as_str(), entry))
        .collect()
}

/// For each request its status and its SVID: of those that became orders, with the hint of their entry, what was issued; of the others why
/// they did not.
pub(super) fn answers<Issued, Svid>(
    requests: Vec<Result<String, Status>>,
    issued: Vec<Result<Issued, IssueError>>,
    out: impl Fn(&Issued, &str) -> Svid,
) -> Vec<(Option<types::Status>, Option<Svid>)> {
    let mut issued = issued.into_iter();
    let answer = |request: Result<String, Status>| {
        let made = request.and_then(|hint| match issued.next() {
            Some(Ok(issued)) => Ok(out(&issued, &hint)),
            Some(Err(error)) => Err(status::issue(&error)),
            None => Err(status::internal("fewer answers than orders")),
        });
        (status::item(made.as_ref().map(|_| ())), made.ok())
    };
    requests.into_iter().map(answer).collect()
}

/// As many as SPIRE's agent asks for at once.
const MAX_BATCH: usize = 500;
