//! Who is let in by a server that may have forgotten something. Invariant: nobody by what the registry says.

use landfast_identity::VerifiedPeer;
use landfast_proto::Reason;
use tonic::Status;

use super::{Authorizer, Caller, Class, Right, SHOW_STEPS, SUBSCRIBE};
use crate::api::status::quarantined;
use crate::endpoints::TlsPeer;
use crate::issuance::Requester;
use crate::people::Operator;

impl Authorizer {
    /// The registry may have forgotten who was banned and whose right was taken away, or that a ban was lifted. So it lets nobody in, and has
    /// nobody destroy his keys: but for administrators of the configuration, all are to come again. What nodes know better is listened to.
    pub(super) fn judge_in_quarantine(
        &self,
        (method, row, right): (&'static str, &[Class], Right),
        peer: Option<(&TlsPeer, &VerifiedPeer)>,
        reason: Option<Reason>,
    ) -> Result<Caller, Status> {
        let now = self.0.clock.now();
        let peer = peer.filter(|(tls, peer)| {
            now.is_some_and(|now| now <= peer.not_after && tls.verify_again(now).is_ok())
        });
        let Some((_, peer)) = peer else {
            return Err(quarantined());
        };
        if row.contains(&Class::Admin) && self.0.admin_ids.contains(&peer.id) {
            // Where the registry knows of persons both have to say yes: it may have forgotten one, and nobody gains by that.
            let mut operator = self.remote(peer, true);
            operator.reason = reason;
            let requester = Self::recorded(&peer.id, &operator);
            self.permit(method, right, &operator, &requester)?;
            return Ok(Caller {
                requester,
                agent: None,
                downstream: None,
                operator,
                class: Class::Admin,
                right,
                method,
                ledger: self.0.ledger.clone(),
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
                operator: Operator::default(),
                class: Class::Agent,
                right,
                method,
                ledger: self.0.ledger.clone(),
            }),
            None => Err(quarantined()),
        }
    }
}
