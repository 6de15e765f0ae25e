//! What brokers get, as messages. Invariant: they say what the Workload API would say to the workload, as far as the broker may have it; and
//! of a workload that it may have nothing of, nothing.

use landfast_proto::spiffe::broker as pb;
use landfast_proto::workload;
use landfast_workload_api::{FetchedJwt, WorkloadView, messages};
use tonic::Status;

use crate::delegate::refusal::not_entitled;
use crate::delegate::subscription::{Made, State};
use crate::keeper::views;

pub(super) fn x509_svids(state: &State<'_>) -> Result<Option<Made<pb::SubscribeToX509svidResponse>>, Status> {
    state.ask_for_x509();
    let Some(view) = view(state)?.filter(|view| view.state == landfast_workload_api::ViewState::Ready) else {
        return Ok(None);
    };
    let workload::X509svidResponse {
        svids,
        crl,
        federated_bundles,
    } = messages::x509_svids(&view)?;
    let svids = svids.into_iter().map(|svid| pb::X509svid {
        spiffe_id: svid.spiffe_id,
        x509_svid: svid.x509_svid,
        x509_svid_key: svid.x509_svid_key,
        bundle: svid.bundle,
        hint: svid.hint,
    });
    let message = pb::SubscribeToX509svidResponse {
        svids: svids.collect(),
        crl,
        federated_bundles,
    };
    let svids = messages::told(&view).cloned().collect();
    Ok(Some(Made { message, svids }))
}

pub(super) fn x509_bundles(
    state: &State<'_>,
) -> Result<Option<Made<pb::SubscribeToX509BundlesResponse>>, Status> {
    let Some(view) = view(state)? else { return Ok(None) };
    let workload::X509BundlesResponse { crl, bundles } = messages::x509_bundles(&view)?;
    let message = pb::SubscribeToX509BundlesResponse { crl, bundles };
    Ok(Some(Made::without_svids(message)))
}

pub(super) fn jwt_bundles(
    state: &State<'_>,
) -> Result<Option<Made<pb::SubscribeToJwtBundlesResponse>>, Status> {
    let Some(view) = view(state)? else { return Ok(None) };
    let workload::JwtBundlesResponse { bundles } = messages::jwt_bundles(&view)?;
    let message = pb::SubscribeToJwtBundlesResponse { bundles };
    Ok(Some(Made::without_svids(message)))
}

pub(super) fn jwt_svids(fetched: Vec<FetchedJwt>) -> pb::FetchJwtsvidResponse {
    let svids = messages::jwt_svids(fetched).svids.into_iter();
    pb::FetchJwtsvidResponse {
        svids: svids
            .map(|svid| pb::Jwtsvid {
                spiffe_id: svid.spiffe_id,
                svid: svid.svid,
                hint: svid.hint,
            })
            .collect(),
    }
}

/// `None` before the first synchronisation.
fn view(state: &State<'_>) -> Result<Option<WorkloadView>, Status> {
    if state.entries.is_empty() {
        return Err(not_entitled());
    }
    let own = state.snapshot.bundle.as_ref();
    Ok(own.map(|own| views::of_entries(state.snapshot, own, state.entries, state.now)))
}
