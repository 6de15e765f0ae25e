//! `spire.api.server.bundle.v1.Bundle`.

mod authorities;

use std::sync::Arc;

use landfast_identity::TrustDomain;
use landfast_proto::spire::api::server::bundle::v1::{
    self as pb, batch_delete_federated_bundle_request::Mode, bundle_server::Bundle,
};
use landfast_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::convert::{bundle_in, bundle_out};
use super::entry::{at_revision, at_time};
use super::page::{Wanted, page};
use super::{Api, filter, ids, status};
use crate::authz::Caller;
use crate::issuance::Requester;
use crate::ledger;
use crate::registry::{BundleParts, BundleWrite, DeleteMode, RegistryError};

#[tonic::async_trait]
impl Bundle for Api {
    async fn count_bundles(
        &self,
        _: Request<pb::CountBundlesRequest>,
    ) -> Result<Response<pb::CountBundlesResponse>, Status> {
        // Our own is one of them.
        let federated = self.registry.list_federated_bundles(0, None).0.len();
        Ok(Response::new(pb::CountBundlesResponse {
            count: filter::count(federated + 1),
        }))
    }

    async fn get_bundle(
        &self,
        request: Request<pb::GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        self.authorities
            .current()
            .map_err(|error| status::stale(&error))?;
        let is_agent = Caller::of(&request)?.agent.is_some();
        // Before the bundle is: an agent that has seen a newer one does not adopt it.
        let revision = self.registry.revision();
        let mask = request.into_inner().output_mask;
        let bundle = bundle_out(&self.authorities.bundle(), mask.as_ref());
        match is_agent {
            true => Ok(at_revision(bundle, revision, &*self.clock)),
            // What a registry is at is not for strangers. A node that is not attested yet may need the time for that.
            false => Ok(at_time(bundle, &*self.clock)),
        }
    }

    async fn append_bundle(
        &self,
        request: Request<pb::AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        self.append(request).await
    }

    async fn publish_jwt_authority(
        &self,
        request: Request<pb::PublishJwtAuthorityRequest>,
    ) -> Result<Response<pb::PublishJwtAuthorityResponse>, Status> {
        self.publish(request).await
    }

    async fn publish_wit_authority(
        &self,
        _: Request<pb::PublishWitAuthorityRequest>,
    ) -> Result<Response<pb::PublishWitAuthorityResponse>, Status> {
        Err(Status::unimplemented(
            "WIT authorities of downstream servers are not supported",
        ))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<pb::ListFederatedBundlesRequest>,
    ) -> Result<Response<pb::ListFederatedBundlesResponse>, Status> {
        let request = request.into_inner();
        let asked = Wanted {
            size: request.page_size,
            token: &request.page_token,
        };
        let (bundles, next_page_token) = page(
            asked,
            |size, after| self.registry.list_federated_bundles(size, after),
            |bundle| bundle.trust_domain().as_str(),
            |bundle| bundle_out(bundle, request.output_mask.as_ref()),
        )?;
        Ok(Response::new(pb::ListFederatedBundlesResponse {
            bundles,
            next_page_token,
        }))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<pb::GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        self.authorities
            .current()
            .map_err(|error| status::stale(&error))?;
        let request = request.into_inner();
        let trust_domain = name_in(&request.trust_domain)?;
        if trust_domain == self.trust_domain {
            return Err(Status::invalid_argument(
                "getting a federated bundle for the server's own trust domain is not allowed",
            ));
        }
        let bundle = self
            .registry
            .federated_bundle(&trust_domain)
            .ok_or_else(|| Status::not_found(NOT_FOUND))?;
        Ok(Response::new(bundle_out(&bundle, request.output_mask.as_ref())))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<pb::BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchCreateFederatedBundleResponse>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        let request = request.into_inner();
        let mut results = Vec::with_capacity(request.bundle.len());
        for bundle in &request.bundle {
            let (status, bundle) = self
                .write(&by, bundle, BundleWrite::Create, request.output_mask.as_ref())
                .await;
            results.push(pb::batch_create_federated_bundle_response::Result { status, bundle });
        }
        Ok(Response::new(pb::BatchCreateFederatedBundleResponse { results }))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<pb::BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchUpdateFederatedBundleResponse>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        let request = request.into_inner();
        let parts = request.input_mask.map_or(BundleParts::ALL, |mask| BundleParts {
            x509: mask.x509_authorities,
            jwt: mask.jwt_authorities,
            wit: mask.wit_authorities,
            sequence: mask.sequence_number,
            refresh_hint: mask.refresh_hint,
        });
        let mut results = Vec::with_capacity(request.bundle.len());
        for bundle in &request.bundle {
            let (status, bundle) = self
                .write(
                    &by,
                    bundle,
                    BundleWrite::Update(parts),
                    request.output_mask.as_ref(),
                )
                .await;
            results.push(pb::batch_update_federated_bundle_response::Result { status, bundle });
        }
        Ok(Response::new(pb::BatchUpdateFederatedBundleResponse { results }))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<pb::BatchSetFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchSetFederatedBundleResponse>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        let request = request.into_inner();
        let mut results = Vec::with_capacity(request.bundle.len());
        for bundle in &request.bundle {
            let (status, bundle) = self
                .write(&by, bundle, BundleWrite::Set, request.output_mask.as_ref())
                .await;
            results.push(pb::batch_set_federated_bundle_response::Result { status, bundle });
        }
        Ok(Response::new(pb::BatchSetFederatedBundleResponse { results }))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<pb::BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchDeleteFederatedBundleResponse>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        let request = request.into_inner();
        let mode = match Mode::try_from(request.mode) {
            Ok(Mode::Restrict) => DeleteMode::Restrict,
            Ok(Mode::Delete) => DeleteMode::Delete,
            Ok(Mode::Dissociate) => DeleteMode::Dissociate,
            Err(_unknown) => {
                return Err(Status::invalid_argument(format!(
                    "failed to parse deletion mode: unhandled delete mode \"{}\"",
                    request.mode
                )));
            }
        };
        let mut results = Vec::with_capacity(request.trust_domains.len());
        for name in request.trust_domains {
            let deleted = self.delete(&by, &name, mode).await;
            results.push(pb::batch_delete_federated_bundle_response::Result {
                status: status::item(deleted.as_ref().copied()),
                trust_domain: name,
            });
        }
        Ok(Response::new(pb::BatchDeleteFederatedBundleResponse { results }))
    }
}

impl Api {
    async fn write(
        &self,
        by: &Requester,
        bundle: &types::Bundle,
        mode: BundleWrite,
        mask: Option<&types::BundleMask>,
    ) -> (Option<types::Status>, Option<types::Bundle>) {
        let written = self.try_write(by, bundle, mode).await;
        let written = written.map(|stored| bundle_out(&stored, mask));
        (status::item(written.as_ref().map(|_| ())), written.ok())
    }

    async fn try_write(
        &self,
        by: &Requester,
        bundle: &types::Bundle,
        mode: BundleWrite,
    ) -> Result<Arc<landfast_identity::Bundle>, Status> {
        let (doing, failed) = match mode {
            BundleWrite::Create => ("creating", "unable to create bundle"),
            BundleWrite::Update(_) => ("updating", "failed to update bundle"),
            BundleWrite::Set => ("setting", "failed to set bundle"),
        };
        let trust_domain = name_in(&bundle.trust_domain)?;
        if trust_domain == self.trust_domain {
            return Err(Status::invalid_argument(format!(
                "{doing} a federated bundle for the server's own trust domain is not allowed"
            )));
        }
        let bundle = bundle_in(bundle).map_err(|refused| about("failed to convert bundle", &refused))?;
        let stored = self.registry.write_federated_bundle(bundle, mode).await;
        let stored = stored.map_err(|error| refused(&error, failed))?;
        tracing::info!(%trust_domain, %by, "stored a federated bundle");
        self.did(by, ledger::changed("bundle.stored").about(trust_domain.id()))
            .await;
        Ok(stored)
    }

    async fn delete(&self, by: &Requester, name: &str, mode: DeleteMode) -> Result<(), Status> {
        let trust_domain = name_in(name)?;
        if trust_domain == self.trust_domain {
            return Err(Status::invalid_argument(
                "removing the bundle for the server trust domain is not allowed",
            ));
        }
        let deleted = self.registry.delete_federated_bundle(&trust_domain, mode).await;
        match deleted.map_err(|error| refused(&error, "failed to delete federated bundle"))? {
            true => {
                tracing::info!(%trust_domain, ?mode, %by, "deleted a federated bundle");
                self.did(by, ledger::changed("bundle.deleted").about(trust_domain.id()))
                    .await;
                Ok(())
            }
            false => Err(Status::not_found(NOT_FOUND)),
        }
    }
}

fn name_in(name: &str) -> Result<TrustDomain, Status> {
    ids::trust_domain(name).map_err(|why| ids::refused("trust domain argument is not valid", &why))
}

/// In the words that SPIRE's clients know; a fault of the datastore has its own.
fn refused(error: &RegistryError, what: &str) -> Status {
    match error {
        RegistryError::BundleExists { .. } => Status::already_exists("bundle already exists"),
        RegistryError::NoSuchBundle { .. } => Status::not_found(NOT_FOUND),
        RegistryError::Storage { .. } => status::registry(error),
        other => about(what, &status::registry(other)),
    }
}

fn about(what: &str, refused: &Status) -> Status {
    Status::new(refused.code(), format!("{what}: {}", refused.message()))
}

const NOT_FOUND: &str = "bundle not found";

#[cfg(test)]
mod tests;
