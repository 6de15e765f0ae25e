//! `landfast.info.v1`: what the server and its nodes are and can, for operators.

use landfast_identity::SpiffeId;
use landfast_proto::landfast::info::v1::{self as pb, info_server::Info};
use landfast_proto::speaks::Speaks;
use tonic::{Request, Response, Status};

use super::Api;
use crate::peers;

#[tonic::async_trait]
impl Info for Api {
    async fn get_server(
        &self,
        _: Request<pb::GetServerRequest>,
    ) -> Result<Response<pb::GetServerResponse>, Status> {
        let server = Some(speaks_out(peers::own()));
        Ok(Response::new(pb::GetServerResponse { server }))
    }

    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let ids = request.into_inner().agent_ids;
        if !(1..=AT_ONCE).contains(&ids.len()) {
            return Err(Status::invalid_argument(format!(
                "agent_ids holds {}, and wants 1 to {AT_ONCE}",
                ids.len()
            )));
        }
        let mut nodes = Vec::new();
        for id in ids {
            let parsed = SpiffeId::parse(&id)
                .map_err(|_cause| Status::invalid_argument("agent_ids holds what is no SPIFFE ID"))?;
            nodes.extend(self.peers.get(&parsed).map(|peer| pb::Node {
                agent_id: id,
                speaks: Some(speaks_out(&peer.speaks)),
                heard_at: peer.heard_at.map_or(0, landfast_identity::UnixTime::as_secs),
                skew: peer.skew().as_str().to_owned(),
            }));
        }
        Ok(Response::new(pb::ListNodesResponse { nodes }))
    }
}

fn speaks_out(speaks: &Speaks) -> pb::Speaks {
    let capabilities = speaks.capabilities().map(|(name, number)| pb::Capability {
        name: name.to_owned(),
        number,
    });
    pb::Speaks {
        version: speaks.version().to_owned(),
        built: speaks.built(),
        capabilities: capabilities.collect(),
    }
}

const AT_ONCE: usize = 500;
