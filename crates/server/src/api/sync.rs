//! `SyncAuthorizedEntries`: an agent learns what changed in few bytes.
//!
//! Few entries go out whole. Of many, pages of revisions go out first; the agent then asks for the entries it does not have. Invariant:
//! one stream is served from one snapshot, and never mixes the two phases in one message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use landfast_proto::spire::api::server::entry::v1 as pb;
use landfast_proto::spire::api::types;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::Status;

use super::convert::entry_out;
use crate::registry::Entry;

/// Entries and revisions of one message, as SPIRE has it.
pub(super) const PAGE: usize = 500;
/// How long one stream may take: the agent's standing was looked at when it began.
const PATIENCE: Duration = Duration::from_secs(60);

type Answer = Result<pb::SyncAuthorizedEntriesResponse, Status>;

enum Step<I> {
    First {
        snapshot: Vec<Arc<Entry>>,
        asks: I,
    },
    Asked {
        known: HashMap<String, Arc<Entry>>,
        mask: types::EntryMask,
        asks: I,
    },
    Done,
}

/// Answers a stream of questions from one snapshot.
pub(super) fn serve<I>(
    snapshot: Vec<Arc<Entry>>,
    asks: I,
    page: usize,
) -> impl Stream<Item = Answer> + Send + use<I>
where
    I: Stream<Item = Result<pb::SyncAuthorizedEntriesRequest, Status>> + Send + Unpin + 'static,
{
    let until = Instant::now() + PATIENCE;
    stream::unfold(Step::First { snapshot, asks }, move |step| async move {
        match step {
            Step::First { snapshot, mut asks } => {
                let first = match next(&mut asks, until).await {
                    Ok(Some(first)) => first,
                    Ok(None) => return None,
                    Err(status) => return Some((vec![Err(status)], Step::Done)),
                };
                Some(match begin(&first, &snapshot, page) {
                    Ok((answers, None)) => (answers, Step::Done),
                    Ok((answers, Some(mask))) => {
                        let known = snapshot
                            .into_iter()
                            .map(|entry| (entry.id.clone(), entry))
                            .collect();
                        (answers, Step::Asked { known, mask, asks })
                    }
                    Err(status) => (vec![Err(status)], Step::Done),
                })
            }
            Step::Asked {
                known,
                mask,
                mut asks,
            } => match next(&mut asks, until).await {
                // The agent drops the stream when it has what it wants; that is an end like any other.
                Ok(None) | Err(_) => None,
                Ok(Some(ask)) if ask.ids.len() > page * MAX_PAGES_ASKED => Some((
                    vec![Err(Status::invalid_argument("too many IDs in one request"))],
                    Step::Done,
                )),
                Ok(Some(ask)) => Some((
                    look_up(&ask.ids, &known, &mask, page),
                    Step::Asked { known, mask, asks },
                )),
            },
            Step::Done => None,
        }
    })
    .flat_map(stream::iter)
}

async fn next<I>(asks: &mut I, until: Instant) -> Result<Option<pb::SyncAuthorizedEntriesRequest>, Status>
where
    I: Stream<Item = Result<pb::SyncAuthorizedEntriesRequest, Status>> + Unpin,
{
    match tokio::time::timeout_at(until, asks.next()).await {
        Ok(asked) => asked.transpose(),
        Err(_elapsed) => Err(Status::deadline_exceeded("the synchronisation took too long")),
    }
}

/// The answer to the first request; with a mask when more requests are expected.
fn begin(
    first: &pb::SyncAuthorizedEntriesRequest,
    snapshot: &[Arc<Entry>],
    page: usize,
) -> Result<(Vec<Answer>, Option<types::EntryMask>), Status> {
    if !first.ids.is_empty() {
        return Err(Status::invalid_argument(
            "specifying IDs on initial request is not supported",
        ));
    }
    if first.output_mask.is_some_and(|mask| !mask.revision_number) {
        return Err(Status::invalid_argument("revision number cannot be masked"));
    }
    if snapshot.len() <= page {
        let entries = snapshot
            .iter()
            .map(|entry| entry_out(entry, first.output_mask.as_ref()))
            .collect();
        let all = pb::SyncAuthorizedEntriesResponse {
            entries,
            ..pb::SyncAuthorizedEntriesResponse::default()
        };
        return Ok((vec![Ok(all)], None));
    }
    let revision = |entry: &Arc<Entry>| pb::EntryRevision {
        id: entry.id.clone(),
        revision_number: entry.revision_number,
        created_at: entry.created_at.as_secs(),
    };
    let pages = snapshot.len().div_ceil(page);
    let answers = snapshot
        .chunks(page)
        .enumerate()
        .map(|(at, chunk)| {
            Ok(pb::SyncAuthorizedEntriesResponse {
                entry_revisions: chunk.iter().map(revision).collect(),
                entries: Vec::new(),
                more: at + 1 < pages,
            })
        })
        .collect();
    Ok((
        answers,
        Some(first.output_mask.unwrap_or(super::convert::ALL_OF_ENTRY)),
    ))
}

/// The entries of these IDs; those unknown or not the agent's are left out silently.
fn look_up(
    ids: &[String],
    known: &HashMap<String, Arc<Entry>>,
    mask: &types::EntryMask,
    page: usize,
) -> Vec<Answer> {
    let found: Vec<_> = ids
        .iter()
        .filter_map(|id| known.get(id))
        .map(|entry| entry_out(entry, Some(mask)))
        .collect();
    if found.is_empty() {
        return vec![Ok(pb::SyncAuthorizedEntriesResponse::default())];
    }
    let pages = found.len().div_ceil(page);
    let mut answers = Vec::with_capacity(pages);
    let mut rest = found.into_iter();
    for at in 1..=pages {
        let entries = rest.by_ref().take(page).collect();
        answers.push(Ok(pb::SyncAuthorizedEntriesResponse {
            entry_revisions: Vec::new(),
            entries,
            more: at < pages,
        }));
    }
    answers
}

const MAX_PAGES_ASKED: usize = 4;

#[cfg(test)]
mod tests;
