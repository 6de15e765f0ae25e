//! `spire.api.server.bundle.v1.Bundle`.

use landfast_proto::spire::api::server::bundle::v1::{
    self as pb, batch_delete_federated_bundle_request::Mode, bundle_server::Bundle,
};
use landfast_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::convert::{bundle_in, bundle_out, domain_in};
use super::{Api, filter, status};
use crate::authz::Caller;
use crate::issuance::Requester;
use crate::registry::{BundleWrite, DeleteMode};

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
        let mask = request.into_inner().output_mask;
        Ok(Response::new(bundle_out(
            &self.authorities.bundle(),
            mask.as_ref(),
        )))
    }

    async fn append_bundle(
        &self,
        _: Request<pb::AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        Err(Status::unimplemented("authorities are not appended by hand"))
    }

    async fn publish_jwt_authority(
        &self,
        _: Request<pb::PublishJwtAuthorityRequest>,
    ) -> Result<Response<pb::PublishJwtAuthorityResponse>, Status> {
        Err(Status::unimplemented("downstream servers are not supported"))
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
        let size = filter::page_size(request.page_size)?;
        let after = filter::after(&request.page_token);
        let (page, next) = self.registry.list_federated_bundles(size, after);
        Ok(Response::new(pb::ListFederatedBundlesResponse {
            bundles: page
                .iter()
                .map(|bundle| bundle_out(bundle, request.output_mask.as_ref()))
                .collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<pb::GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let request = request.into_inner();
        let trust_domain = domain_in(&request.trust_domain)?;
        if trust_domain == self.trust_domain {
            return Err(Status::invalid_argument(
                "getting a federated bundle for the server's own trust domain is not allowed",
            ));
        }
        let bundle = self
            .registry
            .federated_bundle(&trust_domain)
            .ok_or_else(|| Status::not_found("bundle not found"))?;
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
        if request.input_mask.is_some() {
            return Err(Status::unimplemented(
                "an update with an input mask is not supported; leave it out",
            ));
        }
        let mut results = Vec::with_capacity(request.bundle.len());
        for bundle in &request.bundle {
            let (status, bundle) = self
                .write(&by, bundle, BundleWrite::Update, request.output_mask.as_ref())
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
                    "unhandled delete mode {}",
                    request.mode
                )));
            }
        };
        let mut results = Vec::with_capacity(request.trust_domains.len());
        for name in request.trust_domains {
            let deleted = match domain_in(&name) {
                Ok(trust_domain) => match self.registry.delete_federated_bundle(&trust_domain, mode).await {
                    Ok(true) => {
                        tracing::info!(%trust_domain, ?mode, %by, "deleted a federated bundle");
                        Ok(())
                    }
                    Ok(false) => Err(Status::not_found("bundle not found")),
                    Err(error) => Err(status::registry(&error)),
                },
                Err(refused) => Err(refused),
            };
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
        let written = match bundle_in(bundle) {
            Ok(bundle) => {
                let out = bundle_out(&bundle, mask);
                let trust_domain = bundle.trust_domain().clone();
                let written = self.registry.write_federated_bundle(bundle, mode).await;
                if written.is_ok() {
                    tracing::info!(%trust_domain, %by, "stored a federated bundle");
                }
                written.map(|()| out).map_err(|error| status::registry(&error))
            }
            Err(refused) => Err(refused),
        };
        (status::item(written.as_ref().map(|_| ())), written.ok())
    }
}
