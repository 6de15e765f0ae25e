//! `landfast.ledger.v1.Ledger`: the checkpoint for witnesses, and the journals of nodes.

use std::path::Path;

use landfast_audit::ProveError;
use landfast_audit::Prover;
use landfast_audit::verify::{DirSource, Source as _};
use landfast_daemon::error_chain;
use landfast_proto::landfast::ledger::v1::{self as pb, ledger_server::Ledger};
use tonic::{Request, Response, Status};

use super::Api;
use super::status::internal;
use crate::admission::come_again;
use crate::authz::Caller;
use crate::journals::{Batch, Journals, TakeError};

#[tonic::async_trait]
impl Ledger for Api {
    async fn get_checkpoint(
        &self,
        request: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        Caller::agent(&request)?;
        self.witness_limit.charge(&request, 1)?;
        let seen = request.into_inner().seen;
        if seen.len() > MOST_SEEN {
            return Err(Status::invalid_argument("more than 16 ledgers that were seen"));
        }
        let dir = self.journals.directory().ok_or_else(no_ledger)?;
        let shown = tokio::task::spawn_blocking(move || show(&dir, &seen)).await;
        let shown = shown.map_err(|error| internal(&error_chain(&error)))?;
        shown.map(Response::new)
    }

    async fn forward_journal(
        &self,
        request: Request<pb::ForwardJournalRequest>,
    ) -> Result<Response<pb::ForwardJournalResponse>, Status> {
        let (agent, who) = (Caller::agent(&request)?, Caller::of(&request)?.requester.clone());
        self.journal_limit.charge(&request, 1)?;
        let request = request.into_inner();
        let batch = Batch {
            node: &agent.id,
            attestation: &who.attestation,
            journal: &request.journal,
            lines: request.records,
            acknowledged_by: &request.acknowledged_by,
        };
        let taken = self.journals.take(batch).await.map_err(|error| match error {
            TakeError::NoLedger => no_ledger(),
            TakeError::Malformed(what) => Status::invalid_argument(what),
            TakeError::NoRoom => {
                Status::unavailable("the ledger of the server is nearly full: keep it, and come again")
            }
            TakeError::TooMuch { wait } => come_again(
                Status::resource_exhausted(
                    "more of a journal than a node's part of the ledger: keep it, and come again",
                ),
                wait,
            ),
            TakeError::Ledger { source } => {
                tracing::error!(error = error_chain(&source), "a node's journal was not taken");
                Status::unavailable("the ledger of the server cannot be written: keep it, and come again")
            }
        })?;
        let dir = self.journals.directory().ok_or_else(no_ledger)?;
        let name = tokio::task::spawn_blocking(move || Journals::ledger_name(&dir)).await;
        Ok(Response::new(pb::ForwardJournalResponse {
            next: taken.next,
            chain: match taken.next {
                0 => bytes::Bytes::new(),
                _ => taken.chain.to_vec().into(),
            },
            ledger: name.ok().flatten().unwrap_or_default(),
            begin_anew: taken.begin_anew,
        }))
    }
}

fn no_ledger() -> Status {
    Status::failed_precondition("this server keeps no ledger")
}

/// The checkpoint, and that it goes on from what was seen of this ledger. Its files may move on meanwhile: then it is looked at once more.
fn show(dir: &Path, seen: &[pb::Seen]) -> Result<pb::GetCheckpointResponse, Status> {
    let source = DirSource::new(dir);
    let text = |name: &str| {
        let read = source.read(name, LONGEST).ok().flatten();
        read.and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Status::unavailable("the ledger of the server cannot be read; its log says more"))
    };
    let verifier_key = text("verifier-key")?.trim().to_owned();
    let mut tries = 0;
    loop {
        let checkpoint = text("checkpoint")?;
        let mut lines = checkpoint.lines();
        let (origin, size) = (lines.next().unwrap_or_default(), lines.next());
        let size: u64 = size
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| internal("the checkpoint of the ledger is none"))?;
        let before = seen
            .iter()
            .find(|seen| seen.origin == origin)
            .map(|seen| seen.size);
        let proven = match before {
            Some(before) if 0 < before && before < size => consistency(&source, before, size),
            _ => Ok(Vec::new()),
        };
        tries += 1;
        let proof = match proven {
            Ok(proof) => proof,
            Err(_moved_on) if tries < TRIES => continue,
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(error, "no proof of the ledger can be shown to a witness");
                Vec::new()
            }
        };
        return Ok(pb::GetCheckpointResponse {
            proof: proof.into_iter().map(|hash| hash.to_vec().into()).collect(),
            verifier_key,
            checkpoint,
        });
    }
}

fn consistency(source: &DirSource, before: u64, size: u64) -> Result<Vec<[u8; 32]>, ProveError> {
    Prover::new(source, size, size)?.consistency(before)
}

const MOST_SEEN: usize = 16;
const LONGEST: u64 = 64 << 10;
const TRIES: u32 = 3;
