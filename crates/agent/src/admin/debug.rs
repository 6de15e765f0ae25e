//! `spire.agent.debug.v1.Debug`: what the agent is and how much it holds.

use landfast_identity::{Certificate, SpiffeId, UnixTime};
use landfast_proto::spire::agent::debug::v1::{self as pb, debug_server::Debug, get_info_response::Cert};
use landfast_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::Admin;

#[tonic::async_trait]
impl Debug for Admin {
    async fn get_info(
        &self,
        _: Request<pb::GetInfoRequest>,
    ) -> Result<Response<pb::GetInfoResponse>, Status> {
        let status = self.link.status.borrow().clone();
        let snapshot = self.views.snapshot();
        let chain = status
            .agent_svid
            .as_ref()
            .map(|svid| svid.chain())
            .unwrap_or_default();
        let signed_last = chain.last().and_then(Certificate::authority_key_id);
        let bundle = snapshot
            .bundle
            .iter()
            .flat_map(|bundle| bundle.x509_authorities());
        let root = bundle
            .map(|authority| &authority.certificate)
            .find(|root| signed_last.is_some() && root.subject_key_id() == signed_last);
        let now = self.clock.now();
        let served = |now| {
            let held = snapshot
                .entries
                .iter()
                .filter(|entry| snapshot.svid(entry, now).is_some());
            held.count()
        };
        let x509 = count(now.map_or(0, served));
        #[expect(deprecated, reason = "older tools read it")]
        Ok(Response::new(pb::GetInfoResponse {
            svid_chain: chain.iter().chain(root).map(cert).collect(),
            uptime: i32::try_from(self.started.elapsed().as_secs()).unwrap_or(i32::MAX),
            svids_count: x509,
            last_sync_success: status.synced_at(now).map_or(0, UnixTime::as_secs),
            cached_x509_svids_count: x509,
            cached_jwt_svids_count: count(self.tokens.len()),
            cached_svidstore_x509_svids_count: 0,
        }))
    }
}

fn cert(certificate: &Certificate) -> Cert {
    let id = match certificate.uri_sans() {
        [one] => SpiffeId::parse(one).ok(),
        _ => None,
    };
    Cert {
        id: id.map(|id| types::Spiffeid {
            trust_domain: id.trust_domain().as_str().to_owned(),
            path: id.path().to_owned(),
        }),
        expires_at: certificate.not_after().as_secs(),
        subject: certificate.subject(),
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
