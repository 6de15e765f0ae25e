//! `landfast.chain.v1.Chain`: steps for anybody, and for the operator who has the root key elsewhere.

use landfast_daemon::error_chain;
use landfast_identity::chain::{RootKey, SignedStep};
use landfast_proto::landfast::chain::v1::{self as pb, chain_server::Chain};
use tonic::{Request, Response, Status};

use super::entry::along;
use super::{Api, limit, status};
use crate::answers::Way;
use crate::authz::Caller;
use crate::chain::MakeError;
use crate::datastore::StepPlace;
use crate::ledger;

#[tonic::async_trait]
impl Chain for Api {
    async fn get_steps(
        &self,
        request: Request<pb::GetStepsRequest>,
    ) -> Result<Response<pb::GetStepsResponse>, Status> {
        self.authorities
            .current()
            .map_err(|error| status::stale(&error))?;
        self.chain_limit.charge(&request, 1)?;
        // Whoever does not take its answer shares what it may hold with others of its address only.
        let who = limit::named(&request, &self.trust_domain);
        let way = who.map(|who| Way::of(&self.answers, &who, &request));
        let place = StepPlace {
            epoch: request.get_ref().epoch,
            sequence: request.get_ref().sequence,
        };
        let bytes = self.chain.room_for(place);
        let room = match &way {
            Some(way) => Some(way.room(bytes).await?),
            None => None,
        };
        let shown = match Caller::of(&request)?.agent {
            Some(_) => self.chain.steps(place, bytes).await,
            None => {
                let address = limit::address(&request);
                self.chain.steps_for_strangers(&address, place, bytes).await
            }
        };
        let (steps, more) = shown.map_err(|error| refused(&error))?;
        let steps = steps.into_iter().map(Into::into).collect();
        let answer = Response::new(pb::GetStepsResponse { steps, more });
        Ok(match way.zip(room) {
            Some((way, room)) => {
                way.hold(room);
                along(way, answer)
            }
            None => answer,
        })
    }

    async fn show_steps(
        &self,
        request: Request<pb::ShowStepsRequest>,
    ) -> Result<Response<pb::ShowStepsResponse>, Status> {
        let agent = Caller::agent(&request)?;
        self.show_limit.charge(&request, 1)?;
        let steps = request.into_inner().steps;
        if steps.len() > SHOWN {
            let count = steps.len();
            return Err(Status::invalid_argument(format!(
                "{count} steps at once, more than {SHOWN}"
            )));
        }
        let bytes: usize = steps.iter().map(bytes::Bytes::len).sum();
        if steps.len() > 1 && bytes > SHOWN_BYTES {
            return Err(Status::invalid_argument(format!(
                "{bytes} bytes of steps at once, more than {SHOWN_BYTES}"
            )));
        }
        let mut shown = Vec::with_capacity(steps.len());
        for step in &steps {
            // Each has some certificates.
            tokio::task::yield_now().await;
            let step = SignedStep::from_bytes(step);
            shown.push(step.map_err(|error| Status::invalid_argument(error_chain(&error)))?);
        }
        let taken = self.chain.take(&self.quarantine, &agent.id, shown).await;
        let adopted = taken.map_err(|error| refused(&error))?;
        Ok(Response::new(pb::ShowStepsResponse { adopted }))
    }

    async fn prepare_step(
        &self,
        request: Request<pb::PrepareStepRequest>,
    ) -> Result<Response<pb::PrepareStepResponse>, Status> {
        let keys = request.into_inner().root_keys;
        let keys: Option<Vec<_>> = keys.iter().map(|key| RootKey::from_bytes(key)).collect();
        let keys = keys.ok_or_else(|| Status::invalid_argument("a root key has 32 bytes"))?;
        let outlook = self.chain.outlook(keys).await.map_err(|error| refused(&error))?;
        let bytes = |step: Option<SignedStep>| step.map(|step| step.to_bytes()).unwrap_or_default();
        Ok(Response::new(pb::PrepareStepResponse {
            step: bytes(outlook.next).into(),
            newest: bytes(outlook.newest).into(),
            own_root_key: outlook
                .own
                .map(|key| key.as_bytes().to_vec())
                .unwrap_or_default()
                .into(),
            trouble: outlook.trouble.unwrap_or_default(),
        }))
    }

    async fn import_step(
        &self,
        request: Request<pb::ImportStepRequest>,
    ) -> Result<Response<pb::ImportStepResponse>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        let step = SignedStep::from_bytes(&request.into_inner().step)
            .map_err(|error| Status::invalid_argument(error_chain(&error)))?;
        let place = self.chain.import(step).await.map_err(|error| refused(&error))?;
        tracing::info!(epoch = place.epoch, sequence = place.sequence, %by, "imported a step of the bundle chain");
        let imported = ledger::ordered("chain.imported", "distributing");
        let imported = imported
            .with("epoch", place.epoch)
            .with("sequence", place.sequence);
        self.did(&by, imported).await;
        Ok(Response::new(pb::ImportStepResponse {
            epoch: place.epoch,
            sequence: place.sequence,
        }))
    }
}

/// Of one call: as many as an agent keeps.
const SHOWN: usize = 32;
/// An agent keeps a little less.
const SHOWN_BYTES: usize = 512 * 1024;

fn refused(error: &MakeError) -> Status {
    match error {
        MakeError::Storage { source } => status::storage(source),
        MakeError::Crowded => Status::resource_exhausted(error.to_string()),
        MakeError::NoClock => Status::unavailable(error.to_string()),
        MakeError::Chain { .. } | MakeError::Unnoted { .. } => {
            Status::failed_precondition(error_chain(error))
        }
        _ => Status::failed_precondition(error.to_string()),
    }
}
