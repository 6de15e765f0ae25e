//! The WIT-SVIDs of `spire.api.server.svid.v1.SVID` (incubating). Invariant: while they are switched off every method says so, and how to
//! switch them on.

use std::collections::HashMap;
use std::sync::Arc;

use landfast_identity::{PublicKey, wit};
use landfast_proto::spire::api::server::svid::v1 as pb;
use landfast_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::batch::{answers, by_id, count_of};
use super::convert::{id_out, ttl_in};
use super::svid::{SOMEBODY_WAITS, not_authorised};
use super::{Api, ids, status};
use crate::admission::Kind;
use crate::authz::Caller;
use crate::issuance::{IssuedWit, WitRequest};
use crate::registry::Entry;

impl Api {
    /// Unimplemented while the switch is off.
    pub(super) fn wit_is_on(&self) -> Result<(), Status> {
        match self.authorities.has_wit() {
            true => Ok(()),
            false => Err(Status::unimplemented(OFF)),
        }
    }

    pub(super) async fn mint_wit(
        &self,
        request: Request<pb::MintWitsvidRequest>,
    ) -> Result<Response<pb::MintWitsvidResponse>, Status> {
        self.wit_is_on()?;
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
        let key = key_in(
            &request.public_key,
            request.signing_algorithm,
            "invalid public key",
        )?;
        let issued = self.issuer.mint_wit(&who, &id, ttl, key).await;
        let issued = issued.map_err(|error| status::issue(&error))?;
        tracing::info!(id = %issued.id, by = %who, "minted a WIT-SVID");
        Ok(Response::new(pb::MintWitsvidResponse {
            svid: Some(wit_out(&issued, "")),
        }))
    }

    pub(super) async fn batch_new_wit(
        &self,
        request: Request<pb::BatchNewWitsvidRequest>,
    ) -> Result<Response<pb::BatchNewWitsvidResponse>, Status> {
        self.wit_is_on()?;
        let who = Caller::of(&request)?.requester.clone();
        let agent = Caller::agent(&request)?;
        let count = count_of(&request.get_ref().params)?;
        let whose = (&agent.id, Kind::Tokens);
        let turn = self
            .admit(&request, &self.wit_limit, whose, count, SOMEBODY_WAITS)
            .await?;
        let authorised = self.registry.authorized_entries(&agent.id);
        let by_id = by_id(&authorised);
        let mut orders = Vec::with_capacity(count);
        let mut outcome = Vec::with_capacity(count);
        for one in request.into_inner().params {
            match order_in(one, &by_id) {
                Ok((entry, key)) => {
                    outcome.push(Ok(entry.hint.clone()));
                    orders.push((entry, key));
                }
                Err(refused) => outcome.push(Err(refused)),
            }
        }
        let issued = self.issuer.wit_batch(&who, orders, &turn).await;
        drop(turn);
        // SPIRE leaves the status of a success out; ours is there, as in the other batches.
        let result = |(status, svid)| pb::batch_new_witsvid_response::Result { status, svid };
        let answers = answers(outcome, issued, wit_out);
        let results: Vec<_> = answers.into_iter().map(result).collect();
        let made = results.iter().filter(|result| result.svid.is_some()).count();
        metrics::counter!("landfast_server_wit_svids_total").increment(made as u64);
        Ok(Response::new(pb::BatchNewWitsvidResponse { results }))
    }
}

fn order_in(
    one: pb::NewWitsvidParams,
    authorised: &HashMap<&str, &Arc<Entry>>,
) -> Result<(Arc<Entry>, WitRequest), Status> {
    if one.entry_id.is_empty() {
        return Err(Status::invalid_argument("missing entry ID"));
    }
    if one.public_key.is_empty() {
        return Err(Status::invalid_argument("missing public key"));
    }
    let entry = authorised.get(one.entry_id.as_str()).ok_or_else(not_authorised)?;
    let key = key_in(&one.public_key, one.signing_algorithm, "malformed public key")?;
    Ok((Arc::clone(entry), key))
}

/// A key and an algorithm that go together, refused in SPIRE's words. That the caller holds the key is not shown and need not be: the
/// token is worth something only to who does.
fn key_in(spki: &[u8], algorithm: String, what: &str) -> Result<WitRequest, Status> {
    let key = PublicKey::from_spki_der(spki)
        .map_err(|error| Status::invalid_argument(format!("{what}: {error}")))?;
    let known = wit::algorithms(&key);
    if !known.contains(&algorithm.as_str()) {
        return Err(Status::invalid_argument(format!(
            "invalid signing algorithm or key type: unsupported signing algorithm {algorithm:?}, expected {}",
            known.join(", ")
        )));
    }
    Ok(WitRequest { key, algorithm })
}

fn wit_out(issued: &IssuedWit, hint: &str) -> types::Witsvid {
    types::Witsvid {
        token: issued.token.clone(),
        id: Some(id_out(&issued.id)),
        expires_at: issued.expires_at.as_secs(),
        issued_at: issued.issued_at.as_secs(),
        hint: hint.to_owned(),
    }
}

/// Begins with SPIRE's words.
pub(super) const OFF: &str = "WIT functionality is disabled: `wit_svid = true` under [incubating] in the server's configuration switches it on";
