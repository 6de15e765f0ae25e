//! `spire.api.server.localauthority.v1.LocalAuthority`: decode, order, encode. The rules are the authorities' own.

use landfast_identity::UnixTime;
use landfast_proto::spire::api::server::localauthority::v1::{
    self as pb, AuthorityState, local_authority_server::LocalAuthority,
};
use tonic::{Request, Response, Status};

use super::{Api, status};
use crate::authority::{
    AuthorityRow, Done, Kind, Order, OrderError, Ordered, Slot, Standing, UpstreamOrder, UpstreamOrderError,
};
use crate::authz::Caller;
use crate::ledger;

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
        let done = self.order(&request, order, "").await?;
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
        let id = request.get_ref().authority_id.clone();
        let order = match request.metadata().contains_key(landfast_proto::ACTIVATE_UNHEARD) {
            true => Order::ActivateUnheard(Kind::X509, id),
            false => Order::Activate(Kind::X509, id),
        };
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
        let done = self.order(&request, order, "").await?;
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

    async fn taint_x509_upstream_authority(
        &self,
        request: Request<pb::TaintX509UpstreamAuthorityRequest>,
    ) -> Answer<pb::TaintX509UpstreamAuthorityResponse> {
        let key_id = request.get_ref().subject_key_id.to_lowercase();
        self.order_above(&request, UpstreamOrder::Taint, &key_id).await?;
        Ok(Response::new(pb::TaintX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id: key_id,
        }))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        request: Request<pb::RevokeX509UpstreamAuthorityRequest>,
    ) -> Answer<pb::RevokeX509UpstreamAuthorityResponse> {
        let key_id = request.get_ref().subject_key_id.to_lowercase();
        self.order_above(&request, UpstreamOrder::Revoke, &key_id).await?;
        Ok(Response::new(pb::RevokeX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id: key_id,
        }))
    }

    // The five of the incubating profile: SPIRE answers Unimplemented always, we while they are switched off.
    async fn get_wit_authority_state(
        &self,
        _: Request<pb::GetWitAuthorityStateRequest>,
    ) -> Answer<pb::GetWitAuthorityStateResponse> {
        self.wit_is_on()?;
        let standing = self.authority_standing(Kind::Wit).await?;
        Ok(Response::new(pb::GetWitAuthorityStateResponse {
            active: standing.active.as_ref().map(state),
            prepared: standing.prepared.as_ref().map(state),
            old: standing.old.first().map(state),
        }))
    }

    async fn prepare_wit_authority(
        &self,
        request: Request<pb::PrepareWitAuthorityRequest>,
    ) -> Answer<pb::PrepareWitAuthorityResponse> {
        self.wit_is_on()?;
        let done = self.order(&request, Order::Prepare(Kind::Wit), "").await?;
        Ok(Response::new(pb::PrepareWitAuthorityResponse {
            prepared_authority: Some(done),
        }))
    }

    async fn activate_wit_authority(
        &self,
        request: Request<pb::ActivateWitAuthorityRequest>,
    ) -> Answer<pb::ActivateWitAuthorityResponse> {
        self.wit_is_on()?;
        let order = Order::Activate(Kind::Wit, request.get_ref().authority_id.clone());
        let done = self.order(&request, order, "").await?;
        Ok(Response::new(pb::ActivateWitAuthorityResponse {
            activated_authority: Some(done),
        }))
    }

    async fn taint_wit_authority(
        &self,
        request: Request<pb::TaintWitAuthorityRequest>,
    ) -> Answer<pb::TaintWitAuthorityResponse> {
        self.wit_is_on()?;
        let order = Order::Taint(Kind::Wit, request.get_ref().authority_id.clone());
        let done = self.order(&request, order, "").await?;
        Ok(Response::new(pb::TaintWitAuthorityResponse {
            tainted_authority: Some(done),
        }))
    }

    async fn revoke_wit_authority(
        &self,
        request: Request<pb::RevokeWitAuthorityRequest>,
    ) -> Answer<pb::RevokeWitAuthorityResponse> {
        self.wit_is_on()?;
        let order = Order::Revoke(Kind::Wit, request.get_ref().authority_id.clone());
        let done = self.order(&request, order, REVOKE_WIT).await?;
        Ok(Response::new(pb::RevokeWitAuthorityResponse {
            revoked_authority: Some(done),
        }))
    }
}

impl Api {
    async fn authority_standing(&self, kind: Kind) -> Result<Standing, Status> {
        let standing = self.authorities.standing(kind).await;
        let standing = standing.map_err(|source| status::authority(&source))?;
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
        let done = self
            .authorities
            .order_wholly(&self.tasks, order.clone(), by.clone(), now)
            .await;
        let done = done.map_err(|error| refused(&order, error, about))?;
        let id = match &done {
            Done::Here(row) => row.id.clone(),
            Done::Elsewhere(ordered) => ordered.id.clone(),
        };
        let (kind, record) = match &order {
            Order::Prepare(kind) => (kind, ledger::ordered("authority.prepared", "generating")),
            Order::Activate(kind, _) | Order::ActivateUnheard(kind, _) => {
                (kind, ledger::ordered("authority.activated", "activating"))
            }
            Order::Taint(kind, _) => (kind, ledger::ordered("authority.tainted", "compromised")),
            Order::Revoke(kind, _) => (kind, ledger::ordered("authority.revoked", "revoking")),
        };
        let record = record.with("authority", id).with("kind", kind.as_str());
        self.did(&by, record).await;
        Ok(match done {
            Done::Here(row) => state(&row),
            Done::Elsewhere(ordered) => elsewhere(ordered),
        })
    }

    async fn order_above<T>(
        &self,
        request: &Request<T>,
        order: UpstreamOrder,
        key_id: &str,
    ) -> Result<(), Status> {
        let by = Caller::of(request)?.requester.clone();
        let about = match order {
            UpstreamOrder::Taint => "provided subject key id is not valid",
            UpstreamOrder::Revoke => "invalid subject key ID",
        };
        let done = self
            .authorities
            .order_above_wholly(&self.tasks, order, key_id.to_owned(), by.clone())
            .await;
        done.map_err(|error| refused_above(error, about, order))?;
        let record = match order {
            UpstreamOrder::Taint => ledger::ordered("authority.tainted", "compromised"),
            UpstreamOrder::Revoke => ledger::ordered("authority.revoked", "revoking"),
        };
        let record = record.with("authority", key_id).with("kind", "upstream");
        self.did(&by, record).await;
        Ok(())
    }
}

fn state(row: &AuthorityRow) -> AuthorityState {
    AuthorityState {
        authority_id: row.id.clone(),
        expires_at: row.not_after.as_secs(),
        // The root's, for that is what is tainted; SPIRE says the signer's, which is the same unless something is between. Empty for one that
        // signs itself.
        upstream_authority_subject_key_id: row
            .descent
            .as_ref()
            .map(|descent| descent.root.clone())
            .unwrap_or_default(),
    }
}

fn elsewhere(ordered: Ordered) -> AuthorityState {
    AuthorityState {
        authority_id: ordered.id,
        expires_at: ordered.expires_at.map_or(0, UnixTime::as_secs),
        upstream_authority_subject_key_id: String::new(),
    }
}

/// In the words that SPIRE's clients know.
fn refused(order: &Order, error: OrderError, about: &str) -> Status {
    let kind = |x509, jwt| match order {
        Order::Revoke(Kind::X509, _) => x509,
        _ => jwt,
    };
    match (order, error) {
        (_, OrderError::Failed { source }) => status::authority(&source),
        (_, OrderError::Busy) => Status::aborted(OrderError::Busy.to_string()),
        (Order::Taint(..), OrderError::Active) => {
            Status::invalid_argument("unable to taint current local authority")
        }
        (
            _,
            error @ (OrderError::Upstream { .. } | OrderError::TooEarly { .. } | OrderError::Unheard { .. }),
        ) => Status::failed_precondition(error.to_string()),
        (Order::Taint(..), OrderError::NotOld) => Status::invalid_argument(
            "only Old local authorities can be tainted: unsupported local authority status: PREPARED",
        ),
        (Order::Revoke(..), OrderError::Active) => {
            Status::invalid_argument("invalid authority ID: unable to use current authority")
        }
        (Order::Revoke(..), OrderError::NotOld | OrderError::Unknown) => {
            Status::invalid_argument("invalid authority ID: only Old local authority can be revoked")
        }
        (Order::Revoke(..), OrderError::NotTainted) => {
            let what = kind("root CA", "key");
            Status::failed_precondition(format!(
                "{about}: it is not possible to revoke an untainted {what}"
            ))
        }
        (Order::Activate(..) | Order::ActivateUnheard(..), OrderError::NotPrepared { slot: Slot::Old }) => {
            Status::failed_precondition(
                "only Prepared authorities can be activated: unsupported local authority status: OLD",
            )
        }
        (Order::Activate(..) | Order::ActivateUnheard(..), OrderError::NotPrepared { .. }) => {
            Status::invalid_argument(OrderError::Unknown.to_string())
        }
        (_, other) => Status::invalid_argument(other.to_string()),
    }
}

/// As SPIRE, whose datastore says of an order that the API let through why it is not carried out.
fn refused_above(error: UpstreamOrderError, about: &str, order: UpstreamOrder) -> Status {
    use UpstreamOrderError as E;
    let failed = match order {
        UpstreamOrder::Taint => "failed to taint upstream authority",
        UpstreamOrder::Revoke => "failed to revoke X.509 upstream authority",
    };
    match error {
        E::NoUpstream => Status::failed_precondition(error.to_string()),
        E::NoId | E::Signs | E::SignsElsewhere | E::Prepared | E::NotOld => {
            Status::invalid_argument(format!("{about}: {error}"))
        }
        E::Unknown => Status::not_found(format!("{failed}: {error}")),
        E::AlreadyTainted | E::NotTainted => Status::failed_precondition(format!("{failed}: {error}")),
        E::Busy => Status::aborted(error.to_string()),
        E::Failed { source } => status::authority(&source),
    }
}

const REVOKE_X509: &str = "failed to revoke X.509 authority";
const REVOKE_JWT: &str = "failed to revoke JWT authority";
const REVOKE_WIT: &str = "failed to revoke WIT authority";

#[cfg(test)]
mod tests;
