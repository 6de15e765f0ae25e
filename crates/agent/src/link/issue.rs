//! Fetching workload SVIDs: a new key for each, made here, in batches the server accepts.
//!
//! Invariant: a private key never leaves this process; what comes back is adopted only with the key it was asked for.

use std::sync::Arc;

use landfast_identity::{Certificate, KeyType, PrivateKey, SpiffeId, UnixTime, X509Svid, build_csr};
use landfast_lifecycle::SharedClock;
use landfast_proto::spire::api::server::svid::v1 as svid_api;
use landfast_proto::spire::api::types;
use tonic::transport::Channel;

use super::failure::LinkError;
use super::rpc::{self, MAX_MESSAGE};
use crate::keeper::state::{Issued, Order};

/// One order with the key made for it.
struct Prepared {
    order: Order,
    key: Arc<PrivateKey>,
    csr: Vec<u8>,
}

/// What became of one batch.
pub(crate) struct Batch {
    pub(crate) each: Vec<Issued>,
    /// All were refused, and each for a reason that lies with the server, such as a full disk; or none is of this time.
    pub(crate) useless: Option<LinkError>,
}

impl Batch {
    /// Whether one of them is valid at this time.
    pub(crate) fn holds_one_of(&self, now: Option<UnixTime>) -> bool {
        let mut svids = self.each.iter().filter_map(|one| one.outcome.as_ref().ok());
        svids.any(|svid| now.is_some_and(|now| is_of_now(svid, now)))
    }
}

/// Asks for one batch. An error means the whole batch got no answer.
pub(crate) async fn issue(
    channel: &Channel,
    orders: &[Order],
    key_type: KeyType,
    clock: &SharedClock,
) -> Result<Batch, LinkError> {
    let prepared = prepare(orders.to_vec(), key_type).await?;
    let params = prepared
        .iter()
        .map(|one| svid_api::NewX509svidParams {
            entry_id: one.order.entry.id.to_string(),
            csr: one.csr.clone().into(),
        })
        .collect();
    let mut client =
        svid_api::svid_client::SvidClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let request = rpc::needed_by(
        svid_api::BatchNewX509svidRequest { params },
        soonest(orders).map(UnixTime::as_secs),
    );
    let answer = rpc::call(BATCH_NEW, client.batch_new_x509svid(request)).await?;
    if answer.results.len() != prepared.len() {
        let what = format!("{} results for {} requests", answer.results.len(), prepared.len());
        return Err(LinkError::protocol(BATCH_NEW, what));
    }
    let useless = useless(&answer.results);
    let each = prepared
        .into_iter()
        .zip(answer.results)
        .map(|(one, result)| adopt(one, result));
    let each: Vec<_> = each.collect();
    let useless = useless.or_else(|| of_another_time(&each, clock.now()?));
    Ok(Batch { each, useless })
}

/// Whether the server's clock is another than ours, by each SVID. Which of the two is wrong, another server will show.
fn of_another_time(each: &[Issued], now: UnixTime) -> Option<LinkError> {
    let some = each.iter().any(|one| one.outcome.is_ok());
    let none_of_now = each
        .iter()
        .all(|one| one.outcome.as_ref().is_ok_and(|svid| !is_of_now(svid, now)));
    (some && none_of_now).then_some(LinkError::OtherClock { method: BATCH_NEW })
}

pub(super) fn is_of_now(svid: &X509Svid, now: UnixTime) -> bool {
    svid.not_before() <= now && now < svid.not_after()
}

/// When the first of them ends; `None` when one is missing altogether.
pub(super) fn soonest(orders: &[Order]) -> Option<UnixTime> {
    let ends: Option<Vec<_>> = orders.iter().map(|order| order.needed_by).collect();
    ends?.into_iter().min()
}

fn useless(results: &[svid_api::batch_new_x509svid_response::Result]) -> Option<LinkError> {
    let refusals = results.iter().map(|result| {
        let status = result.status.as_ref().filter(|_| result.svid.is_none())?;
        let status = tonic::Status::new(status.code.into(), status.message.as_str());
        let error = LinkError::from_status(BATCH_NEW, &status);
        error.another_server_may_help().then_some(error)
    });
    refusals.collect::<Option<Vec<_>>>()?.pop()
}

fn adopt(one: Prepared, result: svid_api::batch_new_x509svid_response::Result) -> Issued {
    let status = result.status.unwrap_or_default();
    let outcome = match result.svid {
        Some(svid) if status.code == 0 => svid_from(&svid, one.key).map(Arc::new),
        _ => Err(format!(
            "the server refused with code {}: {}",
            status.code, status.message
        )),
    };
    Issued {
        entry_id: Arc::clone(&one.order.entry.id),
        revision: one.order.entry.revision,
        outcome,
    }
}

/// Chain and key made into an SVID, with every rule for it checked.
pub(crate) fn svid_from(wire: &types::X509svid, key: Arc<PrivateKey>) -> Result<X509Svid, String> {
    let chain = wire
        .cert_chain
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_cause| "the server sent a certificate that cannot be read".to_owned())?;
    X509Svid::new(chain, key).map_err(|error| {
        format!(
            "the server sent an unusable SVID: {}",
            landfast_daemon::error_chain(&error)
        )
    })
}

/// Makes keys and requests. Many at once go off the async threads: a P-256 key and signature take 0.1 ms, of P-384 1 ms.
async fn prepare(orders: Vec<Order>, key_type: KeyType) -> Result<Vec<Prepared>, LinkError> {
    if orders.len() <= INLINE {
        return prepare_all(orders, key_type);
    }
    tokio::task::spawn_blocking(move || prepare_all(orders, key_type))
        .await
        .map_err(|_cause| LinkError::Stopping)?
}

fn prepare_all(orders: Vec<Order>, key_type: KeyType) -> Result<Vec<Prepared>, LinkError> {
    let each = orders.into_iter().map(|order| {
        let (key, csr) = key_and_csr(&order.entry.spiffe_id, key_type)?;
        Ok(Prepared { order, key, csr })
    });
    each.collect()
}

pub(super) fn key_and_csr(id: &SpiffeId, key_type: KeyType) -> Result<(Arc<PrivateKey>, Vec<u8>), LinkError> {
    let key = PrivateKey::generate_as(key_type).map_err(|_cause| LinkError::Key)?;
    let csr = build_csr(&key, Some(id), &[]).map_err(|_cause| LinkError::Key)?;
    Ok((Arc::new(key), csr))
}

const BATCH_NEW: &str = "BatchNewX509SVID";
/// SPIRE's servers sign as many in one call (their rate limit counts each).
pub(crate) const BATCH: usize = 500;
const INLINE: usize = 8;
