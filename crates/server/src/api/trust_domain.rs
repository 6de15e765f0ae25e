//! `spire.api.server.trustdomain.v1.TrustDomain`.

use landfast_daemon::error_chain;
use landfast_identity::{Bundle, SpiffeId, TrustDomain as Name};
use landfast_proto::spire::api::server::trustdomain::v1::{self as pb, trust_domain_server::TrustDomain};
use landfast_proto::spire::api::types;
use landfast_proto::spire::api::types::federation_relationship::BundleEndpointProfile as Wire;
use tonic::{Request, Response, Status};

use super::convert::{bundle_in, bundle_out};
use super::page::{Wanted, page};
use super::{Api, ids, status};
use crate::authz::Caller;
use crate::federation::ChangeError;
use crate::issuance::Requester;
use crate::ledger;
use crate::registry::{EndpointUrl, Profile, RegistryError, Relationship, RelationshipPatch};

type Answer<T> = Result<Response<T>, Status>;
type Mask = types::FederationRelationshipMask;

#[tonic::async_trait]
impl TrustDomain for Api {
    async fn list_federation_relationships(
        &self,
        request: Request<pb::ListFederationRelationshipsRequest>,
    ) -> Answer<pb::ListFederationRelationshipsResponse> {
        let all = wants_configured(&request);
        let request = request.into_inner();
        let asked = Wanted {
            size: request.page_size,
            token: &request.page_token,
        };
        let (federation_relationships, next_page_token) = page(
            asked,
            |size, after| self.federation.list(all, size, after),
            |r| r.trust_domain.as_str(),
            |r| self.relationship_out(r, request.output_mask),
        )?;
        Ok(Response::new(pb::ListFederationRelationshipsResponse {
            federation_relationships,
            next_page_token,
        }))
    }

    async fn get_federation_relationship(
        &self,
        request: Request<pb::GetFederationRelationshipRequest>,
    ) -> Answer<types::FederationRelationship> {
        let all = wants_configured(&request);
        let request = request.into_inner();
        let trust_domain = name_in(&request.trust_domain)?;
        let found = match all {
            true => self.federation.get(&trust_domain),
            false => self.federation.stored(&trust_domain),
        };
        let found = found.ok_or_else(|| Status::not_found("federation relationship does not exist"))?;
        Ok(Response::new(self.relationship_out(&found, request.output_mask)))
    }

    async fn batch_create_federation_relationship(
        &self,
        request: Request<pb::BatchCreateFederationRelationshipRequest>,
    ) -> Answer<pb::BatchCreateFederationRelationshipResponse> {
        let by = Caller::of(&request)?.requester.clone();
        let request = request.into_inner();
        let mut results = Vec::with_capacity(request.federation_relationships.len());
        for wanted in &request.federation_relationships {
            let made = self.create_relationship(wanted, &by).await;
            results.push(pb::batch_create_federation_relationship_response::Result {
                status: status::item(made.as_ref().map(|_| ())),
                federation_relationship: made
                    .ok()
                    .map(|made| self.relationship_out(&made, request.output_mask)),
            });
        }
        Ok(Response::new(pb::BatchCreateFederationRelationshipResponse {
            results,
        }))
    }

    async fn batch_update_federation_relationship(
        &self,
        request: Request<pb::BatchUpdateFederationRelationshipRequest>,
    ) -> Answer<pb::BatchUpdateFederationRelationshipResponse> {
        let by = Caller::of(&request)?.requester.clone();
        let request = request.into_inner();
        let mut results = Vec::with_capacity(request.federation_relationships.len());
        for wanted in &request.federation_relationships {
            let made = self.update_relationship(wanted, request.input_mask, &by).await;
            results.push(pb::batch_update_federation_relationship_response::Result {
                status: status::item(made.as_ref().map(|_| ())),
                federation_relationship: made
                    .ok()
                    .map(|made| self.relationship_out(&made, request.output_mask)),
            });
        }
        Ok(Response::new(pb::BatchUpdateFederationRelationshipResponse {
            results,
        }))
    }

    async fn batch_delete_federation_relationship(
        &self,
        request: Request<pb::BatchDeleteFederationRelationshipRequest>,
    ) -> Answer<pb::BatchDeleteFederationRelationshipResponse> {
        let by = Caller::of(&request)?.requester.clone();
        let mut results = Vec::new();
        for name in request.into_inner().trust_domains {
            let deleted = self.delete_relationship(&name, &by).await;
            results.push(pb::batch_delete_federation_relationship_response::Result {
                status: status::item(deleted.as_ref().copied()),
                trust_domain: name,
            });
        }
        Ok(Response::new(pb::BatchDeleteFederationRelationshipResponse {
            results,
        }))
    }

    async fn refresh_bundle(&self, request: Request<pb::RefreshBundleRequest>) -> Answer<()> {
        let by = Caller::of(&request)?.requester.clone();
        let trust_domain = name_in(&request.into_inner().trust_domain)?;
        match self.federation.refresh(&trust_domain).await {
            None => Err(Status::not_found(format!(
                "no relationship with trust domain \"{trust_domain}\""
            ))),
            Some(Ok(news)) => {
                tracing::info!(%trust_domain, news, %by, "refreshed a federated bundle");
                Ok(Response::new(()))
            }
            Some(Err(error)) => Err(Status::unavailable(format!(
                "failed to refresh bundle: {}",
                error.told()
            ))),
        }
    }
}

/// SPIRE's API is about relationships that were made through it: who manages those deletes what it does not know, and would fail for ever at
/// those of the configuration file. Our own command asks for them too.
fn wants_configured<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(landfast_proto::WITH_CONFIGURED)
}

impl Api {
    async fn create_relationship(
        &self,
        wanted: &types::FederationRelationship,
        by: &Requester,
    ) -> Result<std::sync::Arc<Relationship>, Status> {
        let (trust_domain, patch) = relationship_in(wanted, ALL)?;
        if trust_domain == self.trust_domain {
            return Err(Status::invalid_argument(
                "unable to create federation relationship for server trust domain",
            ));
        }
        let (Some(url), Some(profile)) = (patch.url, patch.profile) else {
            return Err(status::internal("a relationship that was read in part"));
        };
        let relationship = Relationship {
            trust_domain,
            url,
            profile,
        };
        let made = self.federation.create(relationship, patch.bundle).await;
        let made = made.map_err(|error| changed(&error, "failed to create federation relationship"))?;
        tracing::info!(trust_domain = %made.trust_domain, url = %made.url, profile = ?made.profile, %by, "created a federation relationship");
        let url = made.url.to_string();
        let created = ledger::changed("federation.created").about(made.trust_domain.id());
        self.did(by, created.with("url", url)).await;
        self.doubt(&made);
        Ok(made)
    }

    async fn update_relationship(
        &self,
        wanted: &types::FederationRelationship,
        mask: Option<Mask>,
        by: &Requester,
    ) -> Result<std::sync::Arc<Relationship>, Status> {
        let (trust_domain, patch) = relationship_in(wanted, mask.unwrap_or(ALL))?;
        let made = self.federation.update(&trust_domain, patch).await;
        let made = made.map_err(|error| changed(&error, "failed to update federation relationship"))?;
        tracing::info!(%trust_domain, url = %made.url, profile = ?made.profile, %by, "updated a federation relationship");
        let url = made.url.to_string();
        let updated = ledger::changed("federation.changed").about(trust_domain.id());
        self.did(by, updated.with("url", url)).await;
        self.doubt(&made);
        Ok(made)
    }

    async fn delete_relationship(&self, name: &str, by: &Requester) -> Result<(), Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument("missing trust domain"));
        }
        let trust_domain = name_in(name)?;
        let deleted = self.federation.delete(&trust_domain).await;
        match deleted.map_err(|error| changed(&error, "failed to delete federation relationship"))? {
            true => {
                tracing::info!(%trust_domain, %by, "deleted a federation relationship; its bundle stays");
                self.did(by, ledger::changed("federation.deleted").about(trust_domain.id()))
                    .await;
                Ok(())
            }
            false => Err(Status::not_found("federation relationship not found")),
        }
    }

    /// An endpoint that is known by SPIFFE ID cannot be verified without a bundle to begin with.
    fn doubt(&self, made: &Relationship) {
        let Profile::Spiffe { endpoint_id } = &made.profile else {
            return;
        };
        let theirs = endpoint_id.trust_domain();
        if *theirs != self.trust_domain && self.registry.federated_bundle(theirs).is_none() {
            tracing::warn!(%endpoint_id, "bundle not found for the endpoint SPIFFE ID trust domain");
        }
    }

    fn relationship_out(&self, made: &Relationship, mask: Option<Mask>) -> types::FederationRelationship {
        let mask = mask.unwrap_or(ALL);
        let profile = || match &made.profile {
            Profile::Web => Wire::HttpsWeb(types::HttpsWebProfile {}),
            Profile::Spiffe { endpoint_id } => Wire::HttpsSpiffe(types::HttpsspiffeProfile {
                endpoint_spiffe_id: endpoint_id.to_string(),
            }),
        };
        let bundle = mask
            .trust_domain_bundle
            .then(|| self.registry.federated_bundle(&made.trust_domain));
        types::FederationRelationship {
            trust_domain: made.trust_domain.to_string(),
            bundle_endpoint_url: match mask.bundle_endpoint_url {
                true => made.url.to_string(),
                false => String::new(),
            },
            bundle_endpoint_profile: mask.bundle_endpoint_profile.then(profile),
            trust_domain_bundle: bundle.flatten().map(|bundle| bundle_out(&bundle, None)),
        }
    }
}

fn name_in(name: &str) -> Result<Name, Status> {
    ids::trust_domain(name).map_err(|why| ids::refused("failed to parse trust domain", &why))
}

/// What the mask names; all of it is checked, in the words that SPIRE's clients know.
fn relationship_in(
    wanted: &types::FederationRelationship,
    mask: Mask,
) -> Result<(Name, RelationshipPatch), Status> {
    let bad =
        |what: String| Status::invalid_argument(format!("failed to convert federation relationship: {what}"));
    let trust_domain = name_in(&wanted.trust_domain).map_err(|refused| bad(refused.message().to_owned()))?;
    let mut patch = RelationshipPatch::default();
    if mask.bundle_endpoint_url {
        let url = EndpointUrl::parse(&wanted.bundle_endpoint_url);
        patch.url = Some(url.map_err(|error| bad(error_chain(&error)))?);
    }
    if mask.bundle_endpoint_profile {
        patch.profile = Some(profile_in(wanted.bundle_endpoint_profile.as_ref()).map_err(bad)?);
    }
    if let Some(bundle) = wanted
        .trust_domain_bundle
        .as_ref()
        .filter(|_| mask.trust_domain_bundle)
    {
        let bundle: Bundle = bundle_in(bundle)
            .map_err(|refused| bad(format!("failed to parse bundle: {}", refused.message())))?;
        if *bundle.trust_domain() != trust_domain {
            return Err(bad(format!(
                "trust domain bundle (\"{}\") must match the trust domain of the federation relationship (\"{trust_domain}\")",
                bundle.trust_domain()
            )));
        }
        patch.bundle = Some(bundle.into());
    }
    Ok((trust_domain, patch))
}

fn profile_in(profile: Option<&Wire>) -> Result<Profile, String> {
    match profile {
        None => Err("unsupported bundle endpoint profile type: <nil>".to_owned()),
        Some(Wire::HttpsWeb(_)) => Ok(Profile::Web),
        Some(Wire::HttpsSpiffe(profile)) => SpiffeId::parse(&profile.endpoint_spiffe_id)
            .map(|endpoint_id| Profile::Spiffe { endpoint_id })
            .map_err(|error| format!("failed to parse endpoint SPIFFE ID: {error}")),
    }
}

fn changed(error: &ChangeError, what: &str) -> Status {
    let refused = match error {
        ChangeError::Static { .. } => Status::failed_precondition(error.to_string()),
        ChangeError::Registry { source } => status::registry(source),
    };
    // A fault of the datastore has its own words.
    match error {
        ChangeError::Registry {
            source: RegistryError::Storage { .. },
        } => refused,
        _ => Status::new(refused.code(), format!("{what}: {}", refused.message())),
    }
}

const ALL: Mask = Mask {
    bundle_endpoint_url: true,
    bundle_endpoint_profile: true,
    trust_domain_bundle: true,
};

#[cfg(test)]
mod tests;
