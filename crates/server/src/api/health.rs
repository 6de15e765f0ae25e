//! `grpc.health.v1.Health`, as SPIRE has it: of the server as a whole, never of one service.

use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server::Health};
use tonic_health::server::HealthService;

/// The standing is the reporter's.
pub(crate) struct WholeHealth(pub(crate) HealthService);

#[tonic::async_trait]
impl Health for WholeHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        whole(&request)?;
        self.0.check(request).await
    }

    type WatchStream = <HealthService as Health>::WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        whole(&request)?;
        self.0.watch(request).await
    }
}

fn whole(request: &Request<HealthCheckRequest>) -> Result<(), Status> {
    match request.get_ref().service.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid_argument("per-service health is not supported")),
    }
}
