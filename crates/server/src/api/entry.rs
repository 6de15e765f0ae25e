//! `spire.api.server.entry.v1.Entry`.

use std::pin::Pin;

use futures_util::{StreamExt as _, stream};
use landfast_identity::SpiffeId;
use landfast_lifecycle::Clock;
use landfast_proto::speaks::SPEAKS;
use landfast_proto::spire::api::server::entry::v1::{self as pb, entry_server::Entry};
use landfast_proto::spire::api::types;
use landfast_proto::{REVISION, TIME};
use tokio_stream::Stream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::allowed::allowed;
use super::convert::{draft_in, entry_out, not_an_entry, patch_in};
use super::page::{Wanted, page};
use super::{Api, filter, ids, status, sync};
use crate::answers::Way;
use crate::authz::Caller;
use crate::ledger;
use crate::peers::own_metadata;
use crate::people::Verb;
use crate::registry::{Created, RegistryError, Revision};

#[tonic::async_trait]
impl Entry for Api {
    async fn count_entries(
        &self,
        request: Request<pb::CountEntriesRequest>,
    ) -> Result<Response<pb::CountEntriesResponse>, Status> {
        let wanted = filter::entry_filter(
            request.into_inner().filter.map(filter::of_count),
            &self.trust_domain,
        )?;
        let count = filter::count(self.registry.count_entries(&wanted));
        Ok(Response::new(pb::CountEntriesResponse { count }))
    }

    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let wanted = filter::entry_filter(request.filter, &self.trust_domain)?;
        let asked = Wanted {
            size: request.page_size,
            token: &request.page_token,
        };
        let (entries, next_page_token) = page(
            asked,
            |size, after| self.registry.list_entries(&wanted, size, after),
            |entry| &entry.id,
            |entry| entry_out(entry, request.output_mask.as_ref()),
        )?;
        Ok(Response::new(pb::ListEntriesResponse {
            entries,
            next_page_token,
        }))
    }

    async fn get_entry(
        &self,
        request: Request<pb::GetEntryRequest>,
    ) -> Result<Response<types::Entry>, Status> {
        let request = request.into_inner();
        if request.id.is_empty() {
            return Err(Status::invalid_argument("missing ID"));
        }
        let entry = self
            .registry
            .entry(&request.id)
            .ok_or_else(|| Status::not_found("entry not found"))?;
        Ok(Response::new(entry_out(&entry, request.output_mask.as_ref())))
    }

    async fn batch_create_entry(
        &self,
        request: Request<pb::BatchCreateEntryRequest>,
    ) -> Result<Response<pb::BatchCreateEntryResponse>, Status> {
        let by = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mask = request.output_mask.as_ref();
        let results = request
            .entries
            .into_iter()
            .map(|entry| self.create_one(entry, mask, &by));
        let results = in_order(results).await;
        Ok(Response::new(pb::BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<pb::BatchUpdateEntryRequest>,
    ) -> Result<Response<pb::BatchUpdateEntryResponse>, Status> {
        let by = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let masks = (request.input_mask.as_ref(), request.output_mask.as_ref());
        let results = request
            .entries
            .into_iter()
            .map(|entry| self.update_one(entry, masks, &by));
        let results = in_order(results).await;
        Ok(Response::new(pb::BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<pb::BatchDeleteEntryRequest>,
    ) -> Result<Response<pb::BatchDeleteEntryResponse>, Status> {
        let by = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let results = request.ids.into_iter().map(|id| self.delete_one(id, &by));
        let results = in_order(results).await;
        Ok(Response::new(pb::BatchDeleteEntryResponse { results }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<pb::GetAuthorizedEntriesRequest>,
    ) -> Result<Response<pb::GetAuthorizedEntriesResponse>, Status> {
        let agent = Caller::agent(&request)?;
        self.peers.note(&agent.id, request.metadata(), self.clock.now());
        let way = Way::of(&self.answers, &agent.id, &request);
        let mask = request.into_inner().output_mask;
        let all = allowed(&self.authorities, &self.registry, &agent.id, &way, None).await?;
        way.hold(all.room);
        let entries = all.entries.iter().map(|entry| entry_out(entry, mask.as_ref()));
        let answer = pb::GetAuthorizedEntriesResponse {
            entries: entries.collect(),
        };
        Ok(along(way, at_revision(answer, all.revision, &*self.clock)))
    }

    type SyncAuthorizedEntriesStream =
        Pin<Box<dyn Stream<Item = Result<pb::SyncAuthorizedEntriesResponse, Status>> + Send>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<pb::SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let agent = Caller::agent(&request)?;
        self.peers.note(&agent.id, request.metadata(), self.clock.now());
        let way = Way::of(&self.answers, &agent.id, &request);
        let snapshot = allowed(
            &self.authorities,
            &self.registry,
            &agent.id,
            &way,
            Some(sync::PAGE),
        )
        .await?;
        // One page at a time, as long as it takes.
        way.hold_to_the_end(snapshot.room);
        let answers = sync::serve(snapshot.entries, request.into_inner(), sync::PAGE);
        let answers = at_revision(Box::pin(answers) as _, snapshot.revision, &*self.clock);
        Ok(along(way, answers))
    }
}

/// With the revision at which it was so: an agent that has seen a newer one does not adopt it.
pub(super) fn at_revision<T>(answer: T, revision: Revision, clock: &dyn Clock) -> Response<T> {
    let mut response = at_time(answer, clock);
    if let Ok(revision) = MetadataValue::try_from(revision.to_string()) {
        response.metadata_mut().insert(REVISION, revision);
    }
    // Here, not with the time: only agents learn which version they talk to.
    if let Some(own) = own_metadata() {
        response.metadata_mut().insert(SPEAKS, own);
    }
    response
}

/// With our time: an agent may have no clock.
pub(super) fn at_time<T>(answer: T, clock: &dyn Clock) -> Response<T> {
    let mut response = Response::new(answer);
    if let Some(now) = clock.now() {
        let now = MetadataValue::from(now.as_secs());
        response.metadata_mut().insert(TIME, now);
    }
    response
}

/// Sent at the pace at which it is taken, and counted meanwhile.
pub(super) fn along<T>(way: Way, mut answer: Response<T>) -> Response<T> {
    answer.extensions_mut().insert(way);
    answer
}

/// The parts of a batch: each is one change, with its own outcome.
impl Api {
    async fn create_one(
        &self,
        entry: types::Entry,
        mask: Option<&types::EntryMask>,
        by: &Caller,
    ) -> pb::batch_create_entry_response::Result {
        let draft = draft_in(&entry, &self.trust_domain);
        let draft = draft.and_then(|draft| {
            self.may_change(by, Verb::Enrol, &draft.spiffe_id, draft.admin || draft.downstream)?;
            Ok(draft)
        });
        let by = &by.requester;
        let created = match draft {
            Ok(draft) => self
                .registry
                .create_entry(draft, by)
                .await
                .map_err(|error| not_made(&error, "failed to create entry")),
            Err(refused) => Err(refused),
        };
        match created {
            Ok(Created::New(entry)) => {
                let (admin, downstream) = (entry.admin, entry.downstream);
                tracing::info!(entry = entry.id, spiffe_id = %entry.spiffe_id, admin, downstream, %by, "created an entry");
                self.did(by, about("entry.created", &entry)).await;
                pb::batch_create_entry_response::Result {
                    status: status::item(Ok(())),
                    entry: Some(entry_out(&entry, mask)),
                }
            }
            // The existing entry goes with the refusal, as SPIRE's clients expect.
            Ok(Created::Similar(entry)) => pb::batch_create_entry_response::Result {
                status: status::item(Err(&Status::already_exists("similar entry already exists"))),
                entry: Some(entry_out(&entry, mask)),
            },
            Err(refused) => pb::batch_create_entry_response::Result {
                status: status::item(Err(&refused)),
                entry: None,
            },
        }
    }

    async fn update_one(
        &self,
        entry: types::Entry,
        (input, output): (Option<&types::EntryMask>, Option<&types::EntryMask>),
        by: &Caller,
    ) -> pb::batch_update_entry_response::Result {
        let patch = patch_in(&entry, input, &self.trust_domain);
        let patch = patch.and_then(|patch| {
            self.may_change_entry(by, Verb::Enrol, &entry.id)?;
            let powerful = patch.admin == Some(true) || patch.downstream == Some(true);
            if let Some(id) = &patch.spiffe_id {
                self.may_change(by, Verb::Enrol, id, powerful)?;
            } else if powerful {
                by.may_all(Verb::Administer, &self.trust_domain)?;
            }
            Ok(patch)
        });
        let by = &by.requester;
        let updated = match patch {
            Ok(_) if entry.id.is_empty() => Err(Status::invalid_argument(
                "failed to convert entry: missing entry ID",
            )),
            Ok(patch) => self
                .registry
                .update_entry(&entry.id, patch)
                .await
                .map_err(|error| match error {
                    RegistryError::NoSuchEntry { .. } => Status::not_found("failed to update entry"),
                    other => not_made(&other, "failed to update entry"),
                }),
            Err(refused) => Err(refused),
        };
        if let Ok(entry) = &updated {
            let (admin, downstream) = (entry.admin, entry.downstream);
            tracing::info!(entry = entry.id, spiffe_id = %entry.spiffe_id, admin, downstream, %by, "changed an entry");
            self.did(by, about("entry.changed", entry)).await;
        }
        pb::batch_update_entry_response::Result {
            status: status::item(updated.as_ref().map(|_| ())),
            entry: updated.ok().map(|entry| entry_out(&entry, output)),
        }
    }

    async fn delete_one(&self, id: String, by: &Caller) -> pb::batch_delete_entry_response::Result {
        let may = self.may_change_entry(by, Verb::Revoke, &id);
        let by = &by.requester;
        let deleted = match id.as_str() {
            "" => Err(Status::invalid_argument("missing entry ID")),
            _ if may.is_err() => may,
            id => match self.registry.delete_entry(id).await {
                Ok(true) => {
                    tracing::info!(entry = id, %by, "deleted an entry");
                    self.did(by, ledger::changed("entry.deleted").with("entry", id))
                        .await;
                    Ok(())
                }
                Ok(false) => Err(Status::not_found("entry not found")),
                Err(error) => Err(status::registry(&error)),
            },
        };
        pb::batch_delete_entry_response::Result {
            status: status::item(deleted.as_ref().copied()),
            id,
        }
    }
}

/// Who may have what, as it is now.
fn about(kind: &'static str, entry: &crate::registry::Entry) -> landfast_audit::Record {
    let selectors = entry
        .selectors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    let record = ledger::changed(kind)
        .about(&entry.spiffe_id)
        .with("admin", entry.admin)
        .with("downstream", entry.downstream)
        .with("entry", entry.id.clone())
        .with("parent", entry.parent_id.to_string())
        .with("selectors", selectors);
    match entry.expires_at {
        Some(end) => record.with("expires_at", end),
        None => record,
    }
}

impl Api {
    /// An entry that makes an administrator, or a server that signs, is about the whole trust domain.
    fn may_change(&self, by: &Caller, verb: Verb, id: &SpiffeId, powerful: bool) -> Result<(), Status> {
        by.may(verb, id)?;
        match powerful {
            true => by.may_all(Verb::Administer, &self.trust_domain),
            false => Ok(()),
        }
    }

    /// Of one that is there; that there is none is said where it is looked for.
    pub(super) fn may_change_entry(&self, by: &Caller, verb: Verb, id: &str) -> Result<(), Status> {
        self.registry.entry(id).map_or(Ok(()), |entry| {
            self.may_change(by, verb, &entry.spiffe_id, entry.admin || entry.downstream)
        })
    }
}

/// In the words that SPIRE's clients know: the rules of an entry are those of its conversion, the rest is the datastore's.
fn not_made(error: &RegistryError, about: &str) -> Status {
    match error {
        RegistryError::Invalid { source } if source.of_its_own_id() => {
            ids::refused(about, &source.to_string())
        }
        RegistryError::Invalid { source } => not_an_entry(&source.to_string()),
        RegistryError::Storage { .. } => status::registry(error),
        other => {
            let refused = status::registry(other);
            Status::new(refused.code(), format!("{about}: {}", refused.message()))
        }
    }
}

/// Does them in their order, and answers in it. Many are under way at once, so that they share commits: one alone waits for the disk.
async fn in_order<T>(changes: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    stream::iter(changes).buffered(AT_ONCE).collect().await
}

const AT_ONCE: usize = 64;
