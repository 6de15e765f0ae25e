//! The sockets, and what is served on those that have limits of their own. Invariant: each has the methods that its table names, and no other.

use std::path::Path;
use std::sync::Arc;

use landfast_proto::spiffe::broker::api_server::ApiServer;
use landfast_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_server::DelegatedIdentityServer;
use landfast_uds::{SocketMode, UdsListener};
use landfast_workload_api::{Attestor, Gauges, Surface};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::access::{BROKERED, DELEGATED};
use crate::attestor::Attestors;
use crate::broker::{self, Broker};
use crate::config::AgentConfig;
use crate::delegate::{DelegatedIdentity, office::Office};
use crate::error::AgentError;

/// The delegates' own socket.
pub(super) fn serve_delegates(
    listener: UdsListener,
    office: &Arc<Office>,
    attestors: &Arc<Attestors>,
    config: &AgentConfig,
    stop: CancellationToken,
) -> impl Future<Output = Result<(), landfast_workload_api::ServeError>> + use<> {
    let limits = config.delegate_limits();
    let service = DelegatedIdentityServer::new(DelegatedIdentity::on_its_own_socket(Arc::clone(office)))
        .max_decoding_message_size(limits.max_message);
    let surface = Surface {
        routes: Routes::new(service),
        methods: &DELEGATED,
        header: None,
        front: None,
    };
    landfast_workload_api::serve_surface(
        listener,
        surface,
        Arc::clone(attestors) as Arc<dyn Attestor>,
        limits,
        Arc::new(Gauges::unpublished()),
        stop.cancelled_owned(),
    )
}

/// The brokers' socket.
pub(super) fn serve_brokers(
    listener: UdsListener,
    front: broker::Tls,
    office: Arc<Office>,
    attestors: &Arc<Attestors>,
    config: &AgentConfig,
    stop: CancellationToken,
) -> impl Future<Output = Result<(), landfast_workload_api::ServeError>> + use<> {
    let limits = config.broker_limits();
    let service = ApiServer::new(Broker::new(office)).max_decoding_message_size(limits.max_message);
    let surface = Surface {
        routes: Routes::new(service),
        methods: &BROKERED,
        header: Some(broker::HEADER),
        front: Some(Arc::new(front)),
    };
    landfast_workload_api::serve_surface(
        listener,
        surface,
        Arc::clone(attestors) as Arc<dyn Attestor>,
        limits,
        Arc::new(Gauges::unpublished()),
        stop.cancelled_owned(),
    )
}

pub(super) fn bind(path: &Path, mode: u32, group: Option<String>) -> Result<UdsListener, AgentError> {
    // A named group narrows the public socket and widens the private one.
    let mode = match (&group, mode) {
        (Some(_), 0o777) => 0o770,
        (Some(_), _) => 0o660,
        (None, mode) => mode,
    };
    UdsListener::bind(path, SocketMode { mode, group }).map_err(|source| AgentError::Socket {
        path: path.to_owned(),
        source,
    })
}
