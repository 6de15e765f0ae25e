//! What operators and servers below this one put into our own bundle. Invariant: what is published can verify but not sign here, and was
//! judged before it is stored.

use landfast_identity::{JwtAuthority, X509Authority};
use landfast_proto::spire::api::server::bundle::v1 as pb;
use landfast_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::super::convert::{bundle_out, jwt_authority_in, jwt_authority_out, x509_authority_in};
use super::super::{Api, status};
use crate::authority::{AppendedKey, MAX_APPENDED};
use crate::authz::Caller;
use crate::issuance::Requester;
use crate::{ledger, random};

impl Api {
    pub(super) async fn append(
        &self,
        request: Request<pb::AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        let request = request.into_inner();
        let count = request.jwt_authorities.len() + request.x509_authorities.len();
        if count == 0 {
            return Err(Status::invalid_argument("no authorities to append"));
        }
        if count > MAX_APPENDED {
            return Err(Status::invalid_argument(format!(
                "too many authorities: at most {MAX_APPENDED}"
            )));
        }
        let jwt = request.jwt_authorities.iter().map(jwt_in);
        let jwt = jwt
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Status::invalid_argument(format!("failed to convert JWT authority: {error}")))?;
        let x509 = request.x509_authorities.iter().map(x509_in);
        let x509 = x509.collect::<Result<Vec<_>, _>>().map_err(|error| {
            Status::invalid_argument(format!("failed to convert X.509 authority: {error}"))
        })?;
        let keys = x509
            .into_iter()
            .map(AppendedKey::X509)
            .chain(jwt.into_iter().map(AppendedKey::Jwt));
        let bundle = self
            .take_in(keys.collect(), &by, "failed to append bundle")
            .await?;
        Ok(Response::new(bundle_out(&bundle, request.output_mask.as_ref())))
    }

    pub(super) async fn publish(
        &self,
        request: Request<pb::PublishJwtAuthorityRequest>,
    ) -> Result<Response<pb::PublishJwtAuthorityResponse>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        let entry = Caller::downstream(&request)?;
        self.publish_limit.charge(&request, 1)?;
        let key = request
            .into_inner()
            .jwt_authority
            .ok_or_else(|| Status::invalid_argument("missing JWT authority"))?;
        let key = jwt_in(&key)
            .map_err(|error| Status::invalid_argument(format!("invalid JWT authority: {error}")))?;
        let now = self.now()?;
        let key = self.authorities.within_reach(key, entry.expires_at, now);
        let bundle = self
            .take_in(vec![AppendedKey::Jwt(key)], &by, "failed to publish JWT key")
            .await?;
        Ok(Response::new(pb::PublishJwtAuthorityResponse {
            jwt_authorities: bundle.jwt_authorities().iter().map(jwt_authority_out).collect(),
        }))
    }

    async fn take_in(
        &self,
        keys: Vec<AppendedKey>,
        by: &Requester,
        what: &str,
    ) -> Result<std::sync::Arc<landfast_identity::Bundle>, Status> {
        let now = self.now()?;
        let named: Vec<_> = keys.iter().map(|key| (key.kind(), key.id())).collect();
        let before = self.authorities.bundle();
        let is_known = |id: &str| {
            let x509 = before.x509_authorities().iter();
            let mut x509 = x509.map(|one| random::hex(&one.certificate.fingerprint_sha256()));
            let mut jwt = before.jwt_authorities().iter();
            jwt.any(|one| one.key_id == id) || x509.any(|one| one == id)
        };
        let bundle = self.authorities.append(keys, by, now).await;
        let bundle = bundle.map_err(|error| status::append(&error, what))?;
        // A server below says again and again what is there already.
        for (kind, id) in named.iter().filter(|(_, id)| !is_known(id)) {
            // Of ours a key is made, of others' one is taken in: both decide who is believed.
            let record = ledger::ordered("authority.appended", "distributing")
                .with("authority", id.clone())
                .with("kind", kind.as_str());
            self.did(by, record).await;
        }
        tracing::info!(authorities = ?named, sequence = bundle.sequence(), %by, "authorities are in the bundle that sign elsewhere");
        Ok(bundle)
    }
}

fn jwt_in(key: &types::JwtKey) -> Result<JwtAuthority, String> {
    if key.key_id.len() > MAX_KEY_ID {
        return Err(format!("the key ID has more than {MAX_KEY_ID} bytes"));
    }
    let key = jwt_authority_in(key)?;
    within(key.public_key.spki_der())?;
    // As SPIRE: a taint is the order of an operator, never part of what is published.
    Ok(JwtAuthority {
        tainted: false,
        ..key
    })
}

fn x509_in(authority: &types::X509Certificate) -> Result<X509Authority, String> {
    within(&authority.asn1)?;
    let authority = x509_authority_in(authority)?;
    if !authority.certificate.is_ca() {
        return Err(
            "the certificate is not one of an authority: its basic constraints do not say CA".to_owned(),
        );
    }
    Ok(X509Authority {
        tainted: false,
        ..authority
    })
}

fn within(der: &[u8]) -> Result<(), String> {
    match der.len() {
        0..=MAX_BYTES => Ok(()),
        bytes => Err(format!("it has {bytes} bytes, more than {MAX_BYTES}")),
    }
}

/// As many of these as there may be still make a document that others accept (1 MiB).
const MAX_BYTES: usize = 4096;
const MAX_KEY_ID: usize = 256;
