//! `spire.api.server.svid.v1.SVID`. Of a CSR only the public key is used, unless an administrator mints.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{Certificate, Csr, SpiffeId};
use landfast_proto::spire::api::server::svid::v1::{self as pb, svid_server::Svid};
use landfast_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::batch::{answers, by_id, count_of};
use super::convert::{id_out, ttl_in, x509_out};
use super::{Api, ids, status};
use crate::admission::Kind;
use crate::authz::Caller;
use crate::issuance::IssuedJwt;
use crate::registry::Entry;

#[tonic::async_trait]
impl Svid for Api {
    async fn mint_x509svid(
        &self,
        request: Request<pb::MintX509svidRequest>,
    ) -> Result<Response<pb::MintX509svidResponse>, Status> {
        let who = Caller::of(&request)?.requester.clone();
        self.is_current()?;
        let request = request.into_inner();
        let csr = csr_in(&request.csr)?;
        let uri = match csr.uri_sans() {
            [uri] => uri,
            [] => return Err(Status::invalid_argument("CSR URI SAN is required")),
            _ => return Err(Status::invalid_argument("only one URI SAN is expected")),
        };
        let id = SpiffeId::parse(uri)
            .map_err(|error| ids::words(&error))
            .and_then(|id| ids::workload(Some(&id_out(&id)), &self.trust_domain))
            .map_err(|why| ids::refused("CSR URI SAN is invalid", &why))?;
        self.registry
            .is_no_login(&id)
            .await
            .map_err(|error| status::registry(&error))?;
        let ttl = ttl_in(request.ttl, "TTL")?;
        let issued = self
            .issuer
            .mint_x509(&who, &id, csr.dns_sans(), ttl, csr.public_key())
            .await;
        let issued = issued.map_err(|e| status::issue(&e))?;
        tracing::info!(id = %issued.id, serial = issued.serial_hex(), by = %who, "minted an X.509-SVID");
        Ok(Response::new(pb::MintX509svidResponse {
            svid: Some(x509_out(&issued, "")),
        }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<pb::MintJwtsvidRequest>,
    ) -> Result<Response<pb::MintJwtsvidResponse>, Status> {
        let who = Caller::of(&request)?.requester.clone();
        self.is_current()?;
        let request = request.into_inner();
        let id = ids::workload(request.id.as_ref(), &self.trust_domain)
            .map_err(|why| ids::refused("invalid SPIFFE ID", &why))?;
        self.registry
            .is_no_login(&id)
            .await
            .map_err(|error| status::registry(&error))?;
        let ttl = ttl_in(request.ttl, "TTL")?;
        let issued = self
            .issuer
            .mint_jwt(&who, &id, &named(request.audience), ttl)
            .await
            .map_err(|e| status::issue(&e))?;
        tracing::info!(id = %issued.id, by = %who, "minted a JWT-SVID");
        Ok(Response::new(pb::MintJwtsvidResponse {
            svid: Some(jwt_out(&issued, "")),
        }))
    }

    async fn mint_witsvid(
        &self,
        request: Request<pb::MintWitsvidRequest>,
    ) -> Result<Response<pb::MintWitsvidResponse>, Status> {
        self.mint_wit(request).await
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<pb::BatchNewX509svidRequest>,
    ) -> Result<Response<pb::BatchNewX509svidResponse>, Status> {
        let who = Caller::of(&request)?.requester.clone();
        let agent = Caller::agent(&request)?;
        let count = count_of(&request.get_ref().params)?;
        let usual = self.issuer.ttls().x509 / 2;
        let whose = (&agent.id, Kind::Svids);
        let turn = self
            .admit(&request, &self.sign_limit, whose, count, usual)
            .await?;
        let params = request.into_inner().params;
        let authorised = self.registry.authorized_entries(&agent.id);
        let by_id = by_id(&authorised);
        let mut orders = Vec::with_capacity(count);
        let mut outcome = Vec::with_capacity(count);
        for (done, one) in params.iter().enumerate() {
            // Each is a signature to verify; others have their turn in between.
            if done % CSRS_A_TURN == CSRS_A_TURN - 1 {
                turn.pause().await;
            }
            let entry = by_id.get(one.entry_id.as_str()).ok_or_else(not_authorised);
            match entry.and_then(|entry| Ok((Arc::clone(entry), csr_in(&one.csr)?))) {
                Ok((entry, csr)) => {
                    outcome.push(Ok(entry.hint.clone()));
                    orders.push((entry, csr.public_key().clone()));
                }
                Err(refused) => outcome.push(Err(refused)),
            }
        }
        let issued = self.issuer.x509_batch(&who, orders, &turn).await;
        drop(turn);
        let result = |(status, svid)| pb::batch_new_x509svid_response::Result { status, svid };
        let answers = answers(outcome, issued, x509_out);
        let results: Vec<_> = answers.into_iter().map(result).collect();
        let made = results.iter().filter(|result| result.svid.is_some()).count();
        metrics::counter!("landfast_server_x509_svids_total").increment(made as u64);
        Ok(Response::new(pb::BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<pb::NewJwtsvidRequest>,
    ) -> Result<Response<pb::NewJwtsvidResponse>, Status> {
        let who = Caller::of(&request)?.requester.clone();
        let agent = Caller::agent(&request)?;
        let whose = (&agent.id, Kind::Tokens);
        let _turn = self
            .admit(&request, &self.jwt_limit, whose, 1, SOMEBODY_WAITS)
            .await?;
        let request = request.into_inner();
        let audience = named(request.audience);
        let authorised = self.registry.authorized_entries(&agent.id);
        let entry = authorised
            .iter()
            .find(|entry| entry.id == request.entry_id)
            .ok_or_else(not_authorised)?;
        let issued = self
            .issuer
            .jwt_for_entry(&who, entry, &audience)
            .await
            .map_err(|e| status::issue(&e))?;
        metrics::counter!("landfast_server_jwt_svids_total").increment(1);
        Ok(Response::new(pb::NewJwtsvidResponse {
            svid: Some(jwt_out(&issued, hint(entry))),
        }))
    }

    async fn batch_new_witsvid(
        &self,
        request: Request<pb::BatchNewWitsvidRequest>,
    ) -> Result<Response<pb::BatchNewWitsvidResponse>, Status> {
        self.batch_new_wit(request).await
    }

    async fn new_downstream_x509ca(
        &self,
        request: Request<pb::NewDownstreamX509caRequest>,
    ) -> Result<Response<pb::NewDownstreamX509caResponse>, Status> {
        let who = Caller::of(&request)?.requester.clone();
        let entry = Caller::downstream(&request)?;
        let whose = (&entry.spiffe_id, Kind::Tokens);
        let _turn = self
            .admit(&request, &self.sign_limit, whose, 1, SOMEBODY_WAITS)
            .await?;
        let request = request.into_inner();
        let csr = csr_in(&request.csr)?;
        let ours = self.trust_domain.id_string();
        // Nothing but the key is taken from it, but whoever asks for another name would get what it cannot use.
        if let Some(other) = csr.uri_sans().iter().find(|uri| **uri != ours) {
            return Err(Status::invalid_argument(format!(
                "invalid CSR: a server below this one signs for {ours}, not for {other:?}"
            )));
        }
        let ttl = ttl_in(request.preferred_ttl, "preferred TTL")?;
        let issued = self
            .issuer
            .subordinate_authority(&who, &entry, csr.public_key(), ttl)
            .await
            .map_err(|e| status::issue(&e))?;
        tracing::info!(serial = issued.serial_hex(), until = %issued.not_after, entry = entry.id, %who, "signed the authority of a server below this one");
        let der = |certificate: &Certificate| bytes::Bytes::copy_from_slice(certificate.as_der());
        let bundle = self.authorities.bundle();
        let roots = bundle.x509_authorities().iter();
        Ok(Response::new(pb::NewDownstreamX509caResponse {
            ca_cert_chain: issued.chain.iter().map(der).collect(),
            x509_authorities: roots.map(|root| der(&root.certificate)).collect(),
        }))
    }
}

/// An empty audience among others is nobody.
fn named(mut audience: Vec<String>) -> Vec<String> {
    audience.retain(|one| !one.is_empty());
    audience
}

fn hint(entry: &Entry) -> &str {
    &entry.hint
}

pub(super) fn not_authorised() -> Status {
    Status::not_found("entry not found or not authorized")
}

/// Checks that whoever asks holds the key.
pub(super) fn csr_in(der: &[u8]) -> Result<Csr, Status> {
    if der.is_empty() {
        return Err(Status::invalid_argument("missing CSR"));
    }
    Csr::parse_der(der).map_err(|error| Status::invalid_argument(format!("invalid CSR: {error}")))
}

pub(super) fn jwt_out(issued: &IssuedJwt, hint: &str) -> types::Jwtsvid {
    types::Jwtsvid {
        token: issued.token.clone(),
        id: Some(id_out(&issued.id)),
        expires_at: issued.expires_at.as_secs(),
        issued_at: issued.issued_at.as_secs(),
        hint: hint.to_owned(),
    }
}

/// What is asked for when it is wanted, by who does not say by when.
pub(super) const SOMEBODY_WAITS: Duration = Duration::from_secs(30);
/// A millisecond with P-256.
pub(super) const CSRS_A_TURN: usize = 8;
