//! `spire.api.server.localauthority.v1.LocalAuthority`: decode, order, encode. The rules are the authorities' own.

use landfast_identity::Certificate;
use landfast_proto::spire::api::server::localauthority::v1::{
    self as pb, AuthorityState, local_authority_server::LocalAuthority,
};
use tonic::{Request, Response, Status};

use super::{Api, status};
use crate::authority::{AuthorityRow, Kind, Order, OrderError, Standing};
use crate::authz::Caller;
use crate::random;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LocalAuthority for Api {
    async fn get_jwt_authority_state(
        &self,
        _: Request<pb::GetJwtAuthorityStateRequest>,
    ) -> Answer<pb::GetJwtAuthorityStateResponse> {
        let standing = self.authority_standing(Kind::Jwt).await?;
        Ok(Response::new(pb::GetJwtAuthorityStateResponse {
            active: standing.active.as_ref().map(state),
            prepared: standing.prepared.as_ref().map(state),
            old: standing.old.first().map(state),
        }))
    }

    async fn prepare_jwt_authority(
        &self,
        request: Request<pb::PrepareJwtAuthorityRequest>,
    ) -> Answer<pb::PrepareJwtAuthorityResponse> {
        let done = self.order(&request, Order::Prepare(Kind::Jwt), "").await?;
        Ok(Response::new(pb::PrepareJwtAuthorityResponse {
            prepared_authority: Some(done),
        }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<pb::ActivateJwtAuthorityRequest>,
    ) -> Answer<pb::ActivateJwtAuthorityResponse> {
        let order = Order::Activate(Kind::Jwt, request.get_ref().authority_id.clone());
        let done = self.order(&request, order, "").await?;
        Ok(Response::new(pb::ActivateJwtAuthorityResponse {
            activated_authority: Some(done),
        }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<pb::TaintJwtAuthorityRequest>,
    ) -> Answer<pb::TaintJwtAuthorityResponse> {
        let order = Order::Taint(Kind::Jwt, request.get_ref().authority_id.clone());
        let done = self.order(&request, order, TAINT).await?;
        Ok(Response::new(pb::TaintJwtAuthorityResponse {
            tainted_authority: Some(done),
        }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<pb::RevokeJwtAuthorityRequest>,
    ) -> Answer<pb::RevokeJwtAuthorityResponse> {
        let order = Order::Revoke(Kind::Jwt, request.get_ref().authority_id.clone());
        let done = self.order(&request, order, REVOKE_JWT).await?;
        Ok(Response::new(pb::RevokeJwtAuthorityResponse {
            revoked_authority: Some(done),
        }))
    }

    async fn get_x509_authority_state(
        &self,
        _: Request<pb::GetX509AuthorityStateRequest>,
    ) -> Answer<pb::GetX509AuthorityStateResponse> {
        let standing = self.authority_standing(Kind::X509).await?;
        Ok(Response::new(pb::GetX509AuthorityStateResponse {
            active: standing.active.as_ref().map(state),
            prepared: standing.prepared.as_ref().map(state),
            old: standing.old.first().map(state),
        }))
    }

    async fn prepare_x509_authority(
        &self,
        request: Request<pb::PrepareX509AuthorityRequest>,
    ) -> Answer<pb::PrepareX509AuthorityResponse> {
        let done = self.order(&request, Order::Prepare(Kind::X509), "").await?;
        Ok(Response::new(pb::PrepareX509AuthorityResponse {
            prepared_authority: Some(done),
        }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<pb::ActivateX509AuthorityRequest>,
    ) -> Answer<pb::ActivateX509AuthorityResponse> {
        let order = Order::Activate(Kind::X509, request.get_ref().authority_id.clone());
        let done = self.order(&request, order, "").await?;
        Ok(Response::new(pb::ActivateX509AuthorityResponse {
            activated_authority: Some(done),
        }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<pb::TaintX509AuthorityRequest>,
    ) -> Answer<pb::TaintX509AuthorityResponse> {
        let order = Order::Taint(Kind::X509, request.get_ref().authority_id.clone());
        let done = self.order(&request, order, TAINT).await?;
        Ok(Response::new(pb::TaintX509AuthorityResponse {
            tainted_authority: Some(done),
        }))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<pb::RevokeX509AuthorityRequest>,
    ) -> Answer<pb::RevokeX509AuthorityResponse> {
        let order = Order::Revoke(Kind::X509, request.get_ref().authority_id.clone());
        let done = self.order(&request, order, REVOKE_X509).await?;
        Ok(Response::new(pb::RevokeX509AuthorityResponse {
            revoked_authority: Some(done),
        }))
    }

    // As SPIRE answers without an upstream authority.
    async fn taint_x509_upstream_authority(
        &self,
        _: Request<pb::TaintX509UpstreamAuthorityRequest>,
    ) -> Answer<pb::TaintX509UpstreamAuthorityResponse> {
        Err(Status::failed_precondition(NO_UPSTREAM))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        _: Request<pb::RevokeX509UpstreamAuthorityRequest>,
    ) -> Answer<pb::RevokeX509UpstreamAuthorityResponse> {
        Err(Status::failed_precondition(NO_UPSTREAM))
    }

    // As SPIRE answers the five of the incubating profile.
    async fn get_wit_authority_state(
        &self,
        _: Request<pb::GetWitAuthorityStateRequest>,
    ) -> Answer<pb::GetWitAuthorityStateResponse> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn prepare_wit_authority(
        &self,
        _: Request<pb::PrepareWitAuthorityRequest>,
    ) -> Answer<pb::PrepareWitAuthorityResponse> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn activate_wit_authority(
        &self,
        _: Request<pb::ActivateWitAuthorityRequest>,
    ) -> Answer<pb::ActivateWitAuthorityResponse> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn taint_wit_authority(
        &self,
        _: Request<pb::TaintWitAuthorityRequest>,
    ) -> Answer<pb::TaintWitAuthorityResponse> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn revoke_wit_authority(
        &self,
        _: Request<pb::RevokeWitAuthorityRequest>,
    ) -> Answer<pb::RevokeWitAuthorityResponse> {
        Err(Status::unimplemented(NO_WIT))
    }
}

impl Api {
    async fn authority_standing(&self, kind: Kind) -> Result<Standing, Status> {
        let standing = self.authorities.standing(kind).await;
        let standing = standing.map_err(|source| refused(OrderError::Failed { source }, ""))?;
        match standing.active {
            Some(_) => Ok(standing),
            None => Err(Status::unavailable("server is initializing")),
        }
    }

    /// `about` stands before a refusal, in the words that SPIRE's clients know.
    async fn order<T>(
        &self,
        request: &Request<T>,
        order: Order,
        about: &str,
    ) -> Result<AuthorityState, Status> {
        let by = Caller::of(request)?.requester.clone();
        let now = self
            .clock
            .now()
            .ok_or_else(|| Status::unavailable("the clock of the server shows no time"))?;
        let done = self.authorities.order_wholly(&self.tasks, order, by, now).await;
        let done = done.map_err(|error| refused(error, about))?;
        Ok(state(&done))
    }
}

fn state(row: &AuthorityRow) -> AuthorityState {
    let above = row.certificate.as_ref().and_then(Certificate::authority_key_id);
    AuthorityState {
        authority_id: row.id.clone(),
        expires_at: row.not_after.as_secs(),
        // Empty for one that signs itself.
        upstream_authority_subject_key_id: above
            .map(|id| random::hex(&id))
            .filter(|id| *id != row.id)
            .unwrap_or_default(),
    }
}

fn refused(error: OrderError, about: &str) -> Status {
    let text = match about {
        "" => error.to_string(),
        about => format!("{about}: {error}"),
    };
    match error {
        OrderError::NoId | OrderError::Unknown | OrderError::Active | OrderError::NotOld => {
            Status::invalid_argument(text)
        }
        OrderError::NotPrepared { .. } | OrderError::NotTainted => Status::failed_precondition(text),
        OrderError::Busy => Status::aborted(text),
        OrderError::Failed { source } => status::authority(&source),
    }
}

const REVOKE_X509: &str = "failed to revoke X.509 authority";
const REVOKE_JWT: &str = "failed to revoke JWT authority";
const TAINT: &str = "unable to taint local authority";
const NO_UPSTREAM: &str = "upstream authority is not configured";
const NO_WIT: &str = "WIT-SVID functionality is not yet implemented";
