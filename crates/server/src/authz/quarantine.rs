//! Who is let in by a server that may have forgotten something. Invariant: nobody by what the registry says.

use landfast_identity::VerifiedPeer;
use tonic::Status;

use super::{Authorizer, Caller, Class, SHOW_STEPS, SUBSCRIBE};
use crate::api::status::quarantined;
use crate::endpoints::TlsPeer;
use crate::issuance::Requester;

impl Authorizer {
    /// The registry may have forgotten who was banned and whose right was taken away, or that a ban was lifted. So it lets nobody in, and has
    /// nobody destroy his keys: but for administrators of the configuration, all are to come again. What nodes know better is listened to.
    pub(super) fn judge_in_quarantine(
        &self,
        method: &str,
        row: &[Class],
        peer: Option<(&TlsPeer, &VerifiedPeer)>,
    ) -> Result<Caller, Status> {
        let now = self.0.clock.now();
        let peer = peer.filter(|(tls, peer)| {
            now.is_some_and(|now| now <= peer.not_after && tls.verify_again(now).is_ok())
        });
        let Some((_, peer)) = peer else {
            return Err(quarantined());
        };
        if row.contains(&Class::Admin) && self.0.admin_ids.contains(&peer.id) {
            return Ok(Caller {
                requester: Requester::admin(peer.id.clone()),
                agent: None,
                downstream: None,
                class: Class::Admin,
            });
        }
        let agent = self.0.registry.agent(&peer.id);
        self.0.quarantine.saw(peer, agent.as_deref());
        let is_evidence = [SUBSCRIBE, SHOW_STEPS].contains(&method);
        match agent.filter(|agent| is_evidence && !agent.is_banned()) {
            Some(agent) => Ok(Caller {
                requester: Requester::agent(peer.id.clone(), agent.attestation_type.clone()),
                agent: Some(agent),
                downstream: None,
                class: Class::Agent,
            }),
            None => Err(quarantined()),
        }
    }
}
