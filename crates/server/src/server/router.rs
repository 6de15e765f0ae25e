//! The services of a listener, and what one connection to them may take. Invariant: all listeners have the same, and the table stands in front.

use std::time::Duration;

use landfast_proto::landfast::chain::v1::chain_server::ChainServer;
use landfast_proto::landfast::entry::v1::entry_policies_server::EntryPoliciesServer;
use landfast_proto::landfast::info::v1::info_server::InfoServer;
use landfast_proto::landfast::ledger::v1::ledger_server::LedgerServer;
use landfast_proto::landfast::login::v1::login_server::LoginServer;
use landfast_proto::landfast::people::v1::people_server::PeopleServer;
use landfast_proto::landfast::quarantine::v1::quarantine_server::QuarantineServer;
use landfast_proto::landfast::recovery::v1::recovery_server::RecoveryServer;
use landfast_proto::landfast::reserve::v1::debts_server::DebtsServer;
use landfast_proto::landfast::reserve::v1::reserve_server::ReserveServer;
use landfast_proto::landfast::selftest::v1::self_test_server::SelfTestServer;
use landfast_proto::landfast::sync::v1::sync_server::SyncServer;
use landfast_proto::spire::api::server::agent::v1::agent_server::AgentServer;
use landfast_proto::spire::api::server::bundle::v1::bundle_server::BundleServer;
use landfast_proto::spire::api::server::debug::v1::debug_server::DebugServer;
use landfast_proto::spire::api::server::entry::v1::entry_server::EntryServer;
use landfast_proto::spire::api::server::localauthority::v1::local_authority_server::LocalAuthorityServer;
use landfast_proto::spire::api::server::logger::v1::logger_server::LoggerServer;
use landfast_proto::spire::api::server::svid::v1::svid_server::SvidServer;
use landfast_proto::spire::api::server::trustdomain::v1::trust_domain_server::TrustDomainServer;
use tonic::transport::server::Router;

use super::MAX_AGE;
use crate::api::Api;
use crate::authz::{AuthLayer, Authorizer};

type Stack = tower::layer::util::Stack<AuthLayer, tower::layer::util::Identity>;

/// The same services for every listener; the table in front tells them apart.
pub(super) fn router<H>(api: &Api, authorizer: &Authorizer, health: H) -> Router<Stack>
where
    H: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    H::Future: Send,
{
    tonic::transport::Server::builder()
        .layer(AuthLayer(authorizer.clone()))
        .max_concurrent_streams(MAX_STREAMS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_header_list_size(16 * 1024)
        .http2_max_pending_accept_reset_streams(Some(20))
        .max_connection_age(MAX_AGE)
        .timeout(Duration::from_secs(120))
        .add_service(AgentServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(BundleServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(EntryServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(LocalAuthorityServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(LoggerServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(DebugServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(SvidServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(ChainServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(EntryPoliciesServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(InfoServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(LedgerServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(ReserveServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(DebtsServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(QuarantineServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(RecoveryServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(LoginServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(PeopleServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(SelfTestServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(SyncServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(TrustDomainServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(health)
}

/// With the agent's own, an idle connection costs 156 bytes a minute (docs/benchmarks.md).
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Requests of one connection at a time.
const MAX_STREAMS: u32 = 128;
/// What a connection may send before any handler reads it.
const WINDOW: u32 = 128 * 1024;
/// A batch of 500 CSRs, or of many entries.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
