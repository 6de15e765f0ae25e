//! `spire.api.server.debug.v1.Debug`: what the server is and how much it holds.

use landfast_identity::{Certificate, SpiffeId};
use landfast_proto::spire::api::server::debug::v1::{
    self as pb, debug_server::Debug, get_info_response::Cert,
};
use tonic::{Request, Response, Status};

use super::Api;
use super::convert::id_out;
use super::filter::count;
use crate::registry::{AgentFilter, EntryFilter};

#[tonic::async_trait]
impl Debug for Api {
    async fn get_info(
        &self,
        _: Request<pb::GetInfoRequest>,
    ) -> Result<Response<pb::GetInfoResponse>, Status> {
        let own = self
            .own
            .current()
            .ok_or_else(|| Status::unavailable("the server has no SVID of its own yet"))?;
        let bundle = self.authorities.bundle();
        let signed_last = own.chain().last().and_then(Certificate::authority_key_id);
        let root = bundle
            .x509_authorities()
            .iter()
            .map(|authority| &authority.certificate)
            .find(|root| root.subject_key_id() == signed_last);
        let uptime = self.started.elapsed().as_secs();
        Ok(Response::new(pb::GetInfoResponse {
            svid_chain: own.chain().iter().chain(root).map(cert_out).collect(),
            uptime: i32::try_from(uptime).unwrap_or(i32::MAX),
            agents_count: count(self.registry.count_agents(&AgentFilter::default())),
            // SPIRE counts the own bundle too.
            federated_bundles_count: count(self.registry.list_federated_bundles(0, None).0.len() + 1),
            entries_count: count(self.registry.count_entries(&EntryFilter::default())),
        }))
    }
}

fn cert_out(certificate: &Certificate) -> Cert {
    let id = match certificate.uri_sans() {
        [one] => SpiffeId::parse(one).ok(),
        _ => None,
    };
    Cert {
        id: id.as_ref().map(id_out),
        expires_at: certificate.not_after().as_secs(),
        subject: as_spire_shows(&certificate.subject()),
    }
}

/// RFC 2253: the last part first, and no space after a comma. Of ours no value holds a comma.
fn as_spire_shows(subject: &str) -> String {
    let parts: Vec<_> = subject.rsplit(", ").collect();
    parts.join(",").replace("serialNumber=", "SERIALNUMBER=")
}

#[cfg(test)]
mod tests {
    #[test]
    fn subjects_are_shown_as_spire_shows_them() {
        let shown = super::as_spire_shows("C=US, O=SPIFFE, serialNumber=17");
        assert_eq!(shown, "SERIALNUMBER=17,O=SPIFFE,C=US");
    }
}
