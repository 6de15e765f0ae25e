//! `SyncAuthorizedEntries`: an agent learns what changed in few bytes.
//!
//! Few entries go out whole. Of many, pages of revisions go out first; the agent then asks for the entries it does not have. Invariant:
//! one stream is served from one snapshot, and never mixes the two phases in one message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
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

struct Serving<I> {
    asks: I,
    page: usize,
    until: Instant,
    /// What is said before the next question is heard.
    pages: Option<Pages>,
    then: Then,
}

/// What comes after the pages.
enum Then {
    First(Vec<Arc<Entry>>),
    Asked(HashMap<String, Arc<Entry>>, types::EntryMask),
    Done,
}

/// Answers a stream of questions from one snapshot. A page is made when there is room for it, so that there is one at a time.
pub(super) fn serve<I>(
    snapshot: Vec<Arc<Entry>>,
    asks: I,
    page: usize,
) -> impl Stream<Item = Answer> + Send + use<I>
where
    I: Stream<Item = Result<pb::SyncAuthorizedEntriesRequest, Status>> + Send + Unpin + 'static,
{
    let serving = Serving {
        asks,
        page,
        until: Instant::now() + PATIENCE,
        pages: None,
        then: Then::First(snapshot),
    };
    stream::unfold(serving, |mut serving| async move {
        let answer = serving.next().await?;
        Some((answer, serving))
    })
}

impl<I> Serving<I>
where
    I: Stream<Item = Result<pb::SyncAuthorizedEntriesRequest, Status>> + Unpin,
{
    async fn next(&mut self) -> Option<Answer> {
        loop {
            if let Some(pages) = &mut self.pages
                && let Some(answer) = pages.next(self.page)
            {
                return Some(Ok(answer));
            }
            self.pages = None;
            match std::mem::replace(&mut self.then, Then::Done) {
                Then::First(snapshot) => match next(&mut self.asks, self.until).await {
                    Ok(Some(first)) => {
                        if let Err(status) = self.begin(&first, snapshot) {
                            return Some(Err(status));
                        }
                    }
                    Ok(None) => return None,
                    Err(status) => return Some(Err(status)),
                },
                Then::Asked(known, mask) => match next(&mut self.asks, self.until).await {
                    // The agent drops the stream when it has what it wants; that is an end like any other.
                    Ok(None) | Err(_) => return None,
                    Ok(Some(ask)) if ask.ids.len() > self.page * MAX_PAGES_ASKED => {
                        return Some(Err(Status::invalid_argument("too many IDs in one request")));
                    }
                    Ok(Some(ask)) => {
                        // Those unknown or not the agent's are left out silently.
                        let found = ask.ids.iter().filter_map(|id| known.get(id).cloned());
                        self.pages = Some(Pages::new(found.collect(), Form::Entries(Some(mask))));
                        self.then = Then::Asked(known, mask);
                    }
                },
                Then::Done => return None,
            }
        }
    }

    /// What the first request is answered with; more requests are expected when that is not everything.
    fn begin(
        &mut self,
        first: &pb::SyncAuthorizedEntriesRequest,
        snapshot: Vec<Arc<Entry>>,
    ) -> Result<(), Status> {
        if !first.ids.is_empty() {
            return Err(Status::invalid_argument(
                "specifying IDs on initial request is not supported",
            ));
        }
        if first.output_mask.is_some_and(|mask| !mask.revision_number) {
            return Err(Status::invalid_argument("revision number cannot be masked"));
        }
        if snapshot.len() <= self.page {
            self.pages = Some(Pages::new(snapshot, Form::Entries(first.output_mask)));
            return Ok(());
        }
        let known = snapshot.iter().map(|entry| (entry.id.clone(), Arc::clone(entry)));
        self.then = Then::Asked(
            known.collect(),
            first.output_mask.unwrap_or(super::convert::ALL_OF_ENTRY),
        );
        self.pages = Some(Pages::new(snapshot, Form::Revisions));
        Ok(())
    }
}

/// What is to be said in pages: at least one, also when it is empty.
struct Pages {
    entries: Vec<Arc<Entry>>,
    said: usize,
    form: Form,
    done: bool,
}

enum Form {
    Revisions,
    Entries(Option<types::EntryMask>),
}

impl Pages {
    fn new(entries: Vec<Arc<Entry>>, form: Form) -> Self {
        Self {
            entries,
            said: 0,
            form,
            done: false,
        }
    }

    fn next(&mut self, page: usize) -> Option<pb::SyncAuthorizedEntriesResponse> {
        if self.done {
            return None;
        }
        let end = self.entries.len().min(self.said + page);
        let these = self.entries[self.said..end].iter();
        let mut answer = pb::SyncAuthorizedEntriesResponse {
            more: end < self.entries.len(),
            ..pb::SyncAuthorizedEntriesResponse::default()
        };
        match &self.form {
            Form::Revisions => answer.entry_revisions = these.map(revision).collect(),
            Form::Entries(mask) => {
                answer.entries = these.map(|entry| entry_out(entry, mask.as_ref())).collect();
            }
        }
        (self.said, self.done) = (end, !answer.more);
        Some(answer)
    }
}

fn revision(entry: &Arc<Entry>) -> pb::EntryRevision {
    pb::EntryRevision {
        id: entry.id.clone(),
        revision_number: entry.revision_number,
        created_at: entry.created_at.as_secs(),
    }
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

const MAX_PAGES_ASKED: usize = 4;

#[cfg(test)]
mod tests;
