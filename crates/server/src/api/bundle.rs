//! `spire.api.server.bundle.v1.Bundle`.

use landfast_identity::TrustDomain;
use landfast_proto::spire::api::server::bundle::v1::{
    self as pb, batch_delete_federated_bundle_request::Mode, bundle_server::Bundle,
};
use landfast_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::convert::{bundle_in, bundle_out};
use super::{Api, filter, ids, status};
use crate::authz::Caller;
use crate::issuance::Requester;
use crate::registry::{BundleWrite, DeleteMode, RegistryError};

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
        Err(Status::unimplemented("WIT-SVIDs are not supported"))
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
        let trust_domain = named(&request.trust_domain)?;
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
            let deleted = match named(&name) {
                Ok(trust_domain) if trust_domain == self.trust_domain => Err(Status::invalid_argument(
                    "removing the bundle for the server trust domain is not allowed",
                )),
                Ok(trust_domain) => match self.registry.delete_federated_bundle(&trust_domain, mode).await {
                    Ok(true) => {
                        tracing::info!(%trust_domain, ?mode, %by, "deleted a federated bundle");
                        Ok(())
                    }
                    Ok(false) => Err(Status::not_found("bundle not found")),
                    Err(error) => {
                        let refused = status::registry(&error);
                        let text = format!("failed to delete federated bundle: {}", refused.message());
                        Err(Status::new(refused.code(), text))
                    }
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
        let written = match self.foreign_in(bundle, mode) {
            Ok(bundle) => {
                let out = bundle_out(&bundle, mask);
                let trust_domain = bundle.trust_domain().clone();
                let written = self.registry.write_federated_bundle(bundle, mode).await;
                if written.is_ok() {
                    tracing::info!(%trust_domain, %by, "stored a federated bundle");
                }
                written.map(|()| out).map_err(|error| match error {
                    RegistryError::BundleExists { .. } => Status::already_exists("bundle already exists"),
                    RegistryError::NoSuchBundle { .. } => Status::not_found("bundle not found"),
                    other => status::registry(&other),
                })
            }
            Err(refused) => Err(refused),
        };
        (status::item(written.as_ref().map(|_| ())), written.ok())
    }
    /// A bundle of another trust domain, refused in the words that SPIRE's clients know.
    fn foreign_in(
        &self,
        bundle: &types::Bundle,
        mode: BundleWrite,
    ) -> Result<landfast_identity::Bundle, Status> {
        if named(&bundle.trust_domain)? == self.trust_domain {
            let doing = match mode {
                BundleWrite::Create => "creating",
                BundleWrite::Update => "updating",
                BundleWrite::Set => "setting",
            };
            return Err(Status::invalid_argument(format!(
                "{doing} a federated bundle for the server's own trust domain is not allowed"
            )));
        }
        bundle_in(bundle).map_err(|refused| ids::refused("failed to convert bundle", refused.message()))
    }
}

fn named(name: &str) -> Result<TrustDomain, Status> {
    ids::trust_domain(name).map_err(|why| ids::refused("trust domain argument is not valid", &why))
}
