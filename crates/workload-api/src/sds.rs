//! Envoy's Secret Discovery Service, version 3, on the Workload API's socket.
//!
//! Invariant: a caller is attested and followed as on every stream of the Workload API; what differs is only how he asks and in which
//! form he is answered.

mod difference;
mod offer;
mod pace;
mod session;
mod subscriber;
mod whole;

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use landfast_proto::envoy::service::{
    discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
    secret::v3::secret_discovery_service_server::SecretDiscoveryService,
};
use tonic::{Request, Response, Status, Streaming};

use self::{
    difference::Difference,
    offer::{Form, Offer},
    session::{Dialogue, Session},
    whole::Whole,
};
use crate::{Given, HandOut, IdentitySource, Way, entitled::Entitled, service::connection, source::Wanted};

/// What the secrets are called, and how Envoy is to verify its peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sds {
    /// The first SVID, with its key.
    pub default_svid_name: String,
    /// The bundle of our own trust domain.
    pub default_bundle_name: String,
    /// That one and those of the trust domains that the caller federates with.
    pub default_all_bundles_name: String,
    /// Whether bundles are given as plain certificates, with which a peer of any trust domain passes that they certify. Each Envoy
    /// may choose for itself, with `disable_spiffe_cert_validation` in its metadata.
    pub disable_spiffe_cert_validation: bool,
}

impl Default for Sds {
    fn default() -> Self {
        Self {
            default_svid_name: "default".to_owned(),
            default_bundle_name: "ROOTCA".to_owned(),
            default_all_bundles_name: "ALL".to_owned(),
            disable_spiffe_cert_validation: false,
        }
    }
}

pub(crate) struct SecretService {
    source: Arc<dyn IdentitySource>,
    sds: Arc<Sds>,
}

#[cfg(test)]
pub(crate) use offer::made;

type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for SecretService {
    type StreamSecretsStream = Messages<DiscoveryResponse>;
    type DeltaSecretsStream = Messages<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        self.open::<Whole>(request).await
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        self.open::<Difference>(request).await
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let connection = connection(&request)?;
        let request = request.into_inner();
        subscriber::check_type(&request.type_url)?;
        let form = Form::of(request.node.as_ref(), &self.sds);
        let bundles_only = offer::are_bundles(&request.resource_names, &self.sds);
        let wanted = if bundles_only {
            Wanted::Rest
        } else {
            Wanted::X509Svids
        };
        let entitled = Entitled::look(&self.source, &connection, (wanted, Way::Sds)).await?;
        let offer = Offer::new(&self.sds, &entitled.view, form);
        let (answer, given) = whole::fetched(&offer, &request.resource_names)?;
        connection.still_the_same()?;
        for served in &given {
            self.source.handed_out(&HandOut {
                way: Way::Sds,
                to: connection.party(entitled.selectors()),
                of: None,
                given: Given::X509(served),
            });
        }
        Ok(Response::new(answer))
    }
}

impl SecretService {
    pub(crate) fn new(source: Arc<dyn IdentitySource>, sds: Sds) -> Self {
        let sds = Arc::new(sds);
        Self { source, sds }
    }

    async fn open<D: Dialogue>(
        &self,
        request: Request<Streaming<D::Request>>,
    ) -> Result<Response<Messages<D::Response>>, Status> {
        let connection = connection(&request)?;
        let mut requests = request.into_inner();
        let first = match requests.message().await {
            Ok(Some(first)) => first,
            Ok(None) => return Err(Status::invalid_argument("nothing was asked for")),
            Err(status) => return Err(session::reported(&connection, status)),
        };
        let mut dialogue = D::default();
        dialogue.hear(first, &self.sds)?;
        // What an SVID is missing for is sent when it comes: an Envoy waits, and its other secrets need not.
        let entitled = Entitled::look(&self.source, &connection, (Wanted::Secrets, Way::Sds)).await?;
        let following = entitled.follow(self.source.clone(), connection, Wanted::Secrets);
        let session = Session::new(following, requests, dialogue, self.sds.clone());
        Ok(Response::new(Box::pin(stream::unfold(session, Session::next))))
    }
}
