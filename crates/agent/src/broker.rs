//! The SPIFFE Broker API (Incubating): identities of the node's programs, for brokers, which name the one they act for.
//!
//! Invariant: a broker is known twice, by the SVID that it showed over TLS and by the attestation of its process, and has a right only where
//! both say the same. What it gets is what [`crate::delegate::office`] grants, and only of the workload that it refers to.

mod front;
mod quota;
mod reference;
mod wire;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use landfast_identity::SpiffeId;
use landfast_proto::spiffe::broker as pb;
use landfast_workload_api::{Caller, Header, audience_refused, wanted_id};
use tonic::{Request, Response, Status};

use crate::delegate::asker::{Asker, Shown};
use crate::delegate::numbers;
use crate::delegate::office::Office;
use crate::delegate::subscription::{Build, Subscription, Whose};
use crate::entry::one_for_each_hint;

pub(crate) use front::Tls;
use quota::{Kind, Place, Quotas};

/// The service.
#[derive(Clone)]
pub(crate) struct Broker {
    office: Arc<Office>,
    quotas: Quotas,
}

/// A request of somebody who may ask.
struct Admitted {
    asker: Asker,
    whose: Whose,
    id: SpiffeId,
    /// Until the first answer.
    _under_way: Place,
}

impl Broker {
    pub(crate) fn new(office: Arc<Office>) -> Self {
        let quotas = Quotas::default();
        Self { office, quotas }
    }

    /// Who asks, about whom. The right comes first: who has none learns of no process.
    async fn admit(
        &self,
        extensions: &http::Extensions,
        reference: Option<pb::WorkloadReference>,
    ) -> Result<Admitted, Status> {
        let (Some(caller), Some(shown)) = (extensions.get::<Caller>(), extensions.get::<Shown>()) else {
            return Err(Status::internal("a request without a caller"));
        };
        let id = shown.id().clone();
        let under_way = self.quotas.take(&id, Kind::Request)?;
        let asker = Asker::showing(caller.clone(), shown.clone());
        self.office.authorise(&asker).await?;
        let pid = reference::pid(reference)?;
        reference::counts(numbers::of(caller.process()))?;
        let whose = Whose::Process(self.office.subject(&asker, pid).await?);
        // A process that cannot be attested is said to be so at once.
        whose.selectors().await?;
        Ok(Admitted {
            asker,
            whose,
            id,
            _under_way: under_way,
        })
    }

    async fn subscribe<M>(
        &self,
        extensions: &http::Extensions,
        reference: Option<pb::WorkloadReference>,
        build: Build<M>,
    ) -> Result<Response<Messages<M>>, Status>
    where
        M: Clone + PartialEq + Send + Sync + 'static,
    {
        let admitted = self.admit(extensions, reference).await?;
        let place = self.quotas.take(&admitted.id, Kind::Stream)?;
        let office = Arc::clone(&self.office);
        let subscription = Subscription::new(office, admitted.asker, admitted.whose, build);
        let (first, subscription) = subscription.first().await?;
        let rest = stream::unfold((subscription, place), |(subscription, place)| async {
            let (next, subscription) = subscription.next().await?;
            Some((next, (subscription, place)))
        });
        let first = stream::once(std::future::ready(Ok(first)));
        Ok(Response::new(Box::pin(first.chain(rest))))
    }
}

type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl pb::api_server::Api for Broker {
    type SubscribeToX509SVIDStream = Messages<pb::SubscribeToX509svidResponse>;
    type SubscribeToX509BundlesStream = Messages<pb::SubscribeToX509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Messages<pb::SubscribeToJwtBundlesResponse>;

    async fn subscribe_to_x509svid(
        &self,
        request: Request<pb::SubscribeToX509svidRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDStream>, Status> {
        let (_metadata, extensions, asked) = request.into_parts();
        self.subscribe(&extensions, asked.reference, wire::x509_svids)
            .await
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<pb::SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let (_metadata, extensions, asked) = request.into_parts();
        self.subscribe(&extensions, asked.reference, wire::x509_bundles)
            .await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<pb::FetchJwtsvidRequest>,
    ) -> Result<Response<pb::FetchJwtsvidResponse>, Status> {
        let (_metadata, extensions, asked) = request.into_parts();
        let pb::FetchJwtsvidRequest {
            reference,
            mut audience,
            spiffe_id,
        } = asked;
        audience.retain(|one| !one.is_empty());
        landfast_identity::jwt::check_audience(&audience).map_err(|error| audience_refused(&error))?;
        let only = wanted_id(&spiffe_id)?;
        let Admitted {
            asker,
            whose,
            _under_way,
            ..
        } = self.admit(&extensions, reference).await?;
        let tokens = self
            .office
            .tokens(&asker, &whose, &audience, |all| {
                // As the Workload API: who has to do without a hint that is another's is not there for any name.
                let mut told = one_for_each_hint(all);
                told.retain(|entry| only.as_ref().is_none_or(|only| entry.spiffe_id == *only));
                told
            })
            .await?;
        Ok(Response::new(wire::jwt_svids(tokens)))
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<pb::SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        let (_metadata, extensions, asked) = request.into_parts();
        self.subscribe(&extensions, asked.reference, wire::jwt_bundles)
            .await
    }
}

/// What who has no right is told.
pub(crate) const NO_BROKER: &str =
    "caller not configured as a broker: authorized_brokers of the agent does not name its identity";
/// Requests and streams of one broker together.
pub(crate) const MAX_IN_ALL: u32 = quota::MAX_REQUESTS + quota::MAX_STREAMS;
/// Broker Endpoint §3.
pub(crate) const HEADER: Header = Header {
    paths: "/",
    name: "broker.spiffe.io",
};

#[cfg(test)]
pub(crate) mod tests;
