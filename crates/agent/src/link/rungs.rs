//! Asking for rungs: a new key for each, made here, in batches that the server accepts. Invariant: as in [`super::issue`].

use std::sync::Arc;

use landfast_identity::{KeyType, PrivateKey};
use landfast_proto::landfast::reserve::v1 as api;
use tonic::transport::Channel;

use super::failure::LinkError;
use super::issue::{key_and_csr, svid_from};
use super::rpc::{self, MAX_MESSAGE};
use crate::keeper::state::reserve::{IssuedRung, RungOrder};

/// Asks for one batch. An error means that the whole batch got no answer.
pub(super) async fn issue(
    channel: Channel,
    orders: Vec<RungOrder>,
    key_type: KeyType,
) -> Result<Vec<IssuedRung>, LinkError> {
    let prepare = move || prepare(orders, key_type);
    let prepared = tokio::task::spawn_blocking(prepare)
        .await
        .map_err(|_cause| LinkError::Stopping)??;
    let rungs = prepared.iter().map(|(order, _, csr)| api::NewRung {
        entry_id: order.entry.id.to_string(),
        csr: csr.clone().into(),
        not_before: order.not_before.as_secs(),
    });
    let request = api::NewRungsRequest {
        rungs: rungs.collect(),
    };
    let mut client = api::reserve_client::ReserveClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let answer = rpc::call(NEW_RUNGS, client.new_rungs(request)).await?;
    if answer.rungs.len() != prepared.len() {
        let what = format!("{} rungs for {} requests", answer.rungs.len(), prepared.len());
        return Err(LinkError::protocol(NEW_RUNGS, what));
    }
    let each = prepared.into_iter().zip(answer.rungs);
    Ok(each
        .map(|((order, key, _), rung)| adopt(order, key, rung))
        .collect())
}

fn adopt(order: RungOrder, key: Arc<PrivateKey>, rung: api::Rung) -> IssuedRung {
    let status = rung.status.unwrap_or_default();
    let outcome = match rung.svid {
        Some(svid) if status.code == 0 => svid_from(&svid, key).map(Arc::new),
        _ => Err(format!(
            "the server refused with code {}: {}",
            status.code,
            super::failure::shorten(&status.message)
        )),
    };
    IssuedRung { order, outcome }
}

type Prepared = (RungOrder, Arc<PrivateKey>, Vec<u8>);

fn prepare(orders: Vec<RungOrder>, key_type: KeyType) -> Result<Vec<Prepared>, LinkError> {
    let each = orders.into_iter().map(|order| {
        let (key, csr) = key_and_csr(&order.entry.spiffe_id, key_type)?;
        Ok((order, key, csr))
    });
    each.collect()
}

pub(super) const NEW_RUNGS: &str = "NewRungs";
