//! The raw limit: a tonic handler that answers every fetch with the same prepared message and reads the peer's credentials, no more.

use std::path::Path;
use std::pin::Pin;

use landfast_proto::workload as pb;
use pb::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use prost::Message as _;
use tokio::net::UnixListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::BoxError;

type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Bare(pb::X509svidResponse);

#[tonic::async_trait]
impl SpiffeWorkloadApi for Bare {
    type FetchX509SVIDStream = Reply<pb::X509svidResponse>;
    type FetchX509BundlesStream = Reply<pb::X509BundlesResponse>;
    type FetchJWTBundlesStream = Reply<pb::JwtBundlesResponse>;
    type FetchWITSVIDStream = Reply<pb::WitsvidResponse>;
    type FetchWITBundlesStream = Reply<pb::WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        _: Request<pb::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let first = tokio_stream::once(Ok(self.0.clone()));
        Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(
            first,
            tokio_stream::pending(),
        ))))
    }
    async fn fetch_x509_bundles(
        &self,
        _: Request<pb::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }
    async fn fetch_jwtsvid(
        &self,
        _: Request<pb::JwtsvidRequest>,
    ) -> Result<Response<pb::JwtsvidResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
    async fn fetch_jwt_bundles(
        &self,
        _: Request<pb::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }
    async fn validate_jwtsvid(
        &self,
        _: Request<pb::ValidateJwtsvidRequest>,
    ) -> Result<Response<pb::ValidateJwtsvidResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
    async fn fetch_witsvid(
        &self,
        _: Request<pb::WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }
    async fn fetch_wit_bundles(
        &self,
        _: Request<pb::WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

pub(super) async fn serve(socket: &Path, answer: &[u8]) -> Result<(), BoxError> {
    let listener = UnixListener::bind(socket)?;
    let service = SpiffeWorkloadApiServer::new(Bare(pb::X509svidResponse::decode(answer)?));
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await?;
    Ok(())
}
