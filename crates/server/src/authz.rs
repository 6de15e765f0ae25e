//! Who may call what: one table for every method of every service, judged on both listeners.
//!
//! Invariant: a method without a row is refused to everybody. A request is judged by the very path its handler is found by; a query is
//! refused, so what is not in the table to the letter never reaches a handler.

mod caller;
mod layer;
mod operators;
mod quarantine;
mod refusals;
mod table;
mod to_the_end;

use std::sync::Arc;

use landfast_identity::{SpiffeId, VerifiedPeer};
use landfast_lifecycle::SharedClock;
use landfast_proto::Reason;
use landfast_proto::spire::api::types::permission_denied_details::Reason as Why;
use landfast_uds::PeerInfo;
use tonic::Status;

use caller::Asked;
pub(crate) use caller::Caller;
pub(crate) use layer::AuthLayer;
use operators::Right;
use table::TABLE;
pub(crate) use to_the_end::to_the_end;

use crate::api::status::permission_denied;
use crate::endpoints::{Allowance, TlsPeer};
use crate::issuance::Requester;
use crate::ledger::Ledger;
use crate::people::{Operator, Standing};
use crate::push::LAST_WORDS;
use crate::quarantine::Quarantine;
use crate::registry::{AgentRecord, AgentStanding, Registry};

/// Who may call a method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Anybody, also without a certificate.
    Any,
    /// Processes on the admin socket.
    Local,
    /// Administrators: `admin_ids`, and holders of an entry with `admin`.
    Admin,
    /// Holders of an entry with `downstream`.
    Downstream,
    /// Attested agents that show their current SVID.
    Agent,
}
use Class::{Admin, Agent, Any, Downstream, Local};

impl Class {
    /// What one may send over TCP: on the admin socket there are no strangers.
    fn allowance(self) -> Option<Allowance> {
        let (message, in_all) = match self {
            Local => return None,
            // The largest evidence a node may show has half of this, with its CSR.
            Any => (128 * KIB, 4096 * KIB),
            // 500 CSRs with keys of RSA-4096.
            Agent | Downstream => (1024 * KIB, 4096 * KIB),
            Admin => (4096 * KIB, 16 * 1024 * KIB),
        };
        Some(Allowance { message, in_all })
    }
}

/// What may be sent to this method.
fn allowance(class: Class, method: &str) -> Option<Allowance> {
    match class.allowance()? {
        // An agent says all that it holds, 50 bytes an entry; other requests of it have their room beside that.
        usual if method == SUBSCRIBE => Some(Allowance {
            message: 4096 * KIB,
            in_all: usual.in_all + 4096 * KIB,
        }),
        usual => Some(usual),
    }
}

/// Judges requests.
#[derive(Clone)]
pub(crate) struct Authorizer(Arc<Inner>);

struct Inner {
    registry: Arc<Registry>,
    admin_ids: Vec<SpiffeId>,
    clock: SharedClock,
    quarantine: Arc<Quarantine>,
    /// Has whom it refuses.
    ledger: Ledger,
}

impl Authorizer {
    pub(crate) fn new(
        registry: Arc<Registry>,
        admin_ids: Vec<SpiffeId>,
        clock: SharedClock,
        quarantine: Arc<Quarantine>,
        ledger: Ledger,
    ) -> Self {
        Self(Arc::new(Inner {
            registry,
            admin_ids,
            clock,
            quarantine,
            ledger,
        }))
    }

    /// Whether this identity may connect: one of our own trust domain, or an administrator of another.
    pub(crate) fn admits(&self, id: &SpiffeId) -> bool {
        id.trust_domain() == self.0.registry.trust_domain() || self.0.admin_ids.contains(id)
    }

    /// Whether there is any method that this identity may call and a stranger may not, as things are.
    pub(crate) fn knows(&self, id: &SpiffeId) -> bool {
        let rights = self.0.registry.entries_of_id(id);
        self.0.admin_ids.contains(id)
            || self.is_login(id)
            || rights.iter().any(|entry| entry.admin || entry.downstream)
            || self.0.registry.agent(id).is_some()
    }

    /// Who may call this method here: the first class of its row that the caller belongs to.
    async fn judge(&self, uri: &http::Uri, asked: Asked<'_>) -> Result<Caller, Status> {
        let method = uri.path();
        let row = TABLE.iter().find(|(name, ..)| *name == method);
        let (Some(&(method, row, right)), None) = (row, uri.query()) else {
            return Err(Status::unimplemented("no such method"));
        };
        let Asked { extensions, reason } = asked;
        if let Some(peer) = extensions.get::<PeerInfo>() {
            let (mut operator, requester) = self.local(peer);
            if !row.contains(&Any) && !row.contains(&Local) {
                return Err(self.turned_away(&requester, method, (None, OVER_TLS)));
            }
            let requester = requester.because(reason.as_ref().map(|reason| reason.as_str().to_owned()));
            operator.reason = reason;
            self.permit(method, right, &operator, &requester)?;
            return Ok(Caller {
                requester,
                agent: None,
                downstream: None,
                operator,
                class: Local,
                right,
                method,
                ledger: self.0.ledger.clone(),
            });
        }
        if row == [Local] {
            return Err(Status::unimplemented("no such method")); // here it is not served, and whoever asks learns no more
        }
        let peer = extensions
            .get::<TlsPeer>()
            .and_then(|tls| Some((tls, tls.verified()?)));
        if self.0.quarantine.holds() {
            return self.judge_in_quarantine((method, row, right), peer, reason);
        }
        if row.contains(&Any) {
            let now = self.0.clock.now();
            let peer = peer.filter(|(tls, _)| now.is_some_and(|now| tls.verify_again(now).is_ok()));
            let operator = peer.map_or_else(Operator::default, |(_, peer)| {
                self.remote(peer, self.administers(&peer.id))
            });
            let requester = match peer {
                Some((_, peer)) if operator.standing.person().is_some() => {
                    Self::recorded(&peer.id, &operator)
                }
                Some((_, peer)) => Requester::agent(peer.id.clone(), ""),
                None => Requester::attestation(""),
            };
            return Ok(Caller {
                requester,
                agent: peer.and_then(|(_, peer)| self.shown(peer)),
                downstream: None,
                operator,
                class: Any,
                right,
                method,
                ledger: self.0.ledger.clone(),
            });
        }
        let Some((tls, peer)) = peer else {
            let address = extensions.get::<TlsPeer>().map(TlsPeer::ip);
            return Err(self.unknown(address, method));
        };
        self.judge_peer((method, row, right), (tls, peer), reason).await
    }

    /// Whether this identity administers where there is no person.
    fn administers(&self, id: &SpiffeId) -> bool {
        let rights = self.0.registry.entries_of_id(id);
        self.0.admin_ids.contains(id) || rights.iter().any(|entry| entry.admin)
    }

    /// The agent whose SVID this is.
    fn shown(&self, peer: &VerifiedPeer) -> Option<Arc<AgentRecord>> {
        let agent = self.0.registry.agent(&peer.id)?;
        let serial = &peer.serial_hex;
        let current = agent.serial == *serial || agent.new_serial.as_ref() == Some(serial);
        (current && !agent.is_banned()).then_some(agent)
    }

    async fn judge_peer(
        &self,
        (method, row, right): (&'static str, &[Class], Right),
        (tls, peer): (&TlsPeer, &VerifiedPeer),
        reason: Option<Reason>,
    ) -> Result<Caller, Status> {
        let Some(now) = self.0.clock.now() else {
            return Err(Status::unavailable("the clock of the server shows no time"));
        };
        // The connection may be older than the certificate's end.
        if now > peer.not_after {
            let over = (
                Some(Why::AgentExpired),
                "the certificate of this connection is over",
            );
            return Err(self.turned_away(&self.shown_by(&peer.id), method, over));
        }
        // Or than the end of the authority that signed it.
        if let Err(error) = tls.verify_again(now) {
            tracing::warn!(peer = %peer.id, method, %error, "a connection was refused: its certificate does not verify any more");
            self.note_turned_away(&self.shown_by(&peer.id), method, STALE);
            return Err(Status::unauthenticated(STALE));
        }
        if row.contains(&Admin) || row.contains(&Downstream) {
            let rights = self.0.registry.entries_of_id(&peer.id);
            let admin = self.0.admin_ids.contains(&peer.id) || rights.iter().any(|entry| entry.admin);
            let mut operator = self.remote(peer, admin);
            operator.reason = reason;
            let operates = operator.standing != Standing::Nobody;
            let admin = row.contains(&Admin) && operates;
            let below = rights.into_iter().filter(|entry| entry.downstream);
            let below = below
                .filter(|_| row.contains(&Downstream))
                .max_by_key(|entry| entry.expires_at.map_or((true, 0), |end| (false, end.as_secs())));
            if admin || below.is_some() {
                let requester = match &below {
                    Some(_) => Requester::downstream(peer.id.clone()),
                    None => Self::recorded(&peer.id, &operator),
                };
                if below.is_none() {
                    self.permit(method, right, &operator, &requester)?;
                }
                return Ok(Caller {
                    requester,
                    agent: None,
                    downstream: below,
                    operator,
                    class: if operates { Admin } else { Downstream },
                    right,
                    method,
                    ledger: self.0.ledger.clone(),
                });
            }
        }
        if !row.contains(&Agent) {
            return Err(self.turned_away(&self.shown_by(&peer.id), method, (None, NONE_OF_THEM)));
        }
        let (registry, serial) = (&self.0.registry, &peer.serial_hex);
        let mut standing = registry.standing(&peer.id, serial, now).await;
        if standing == AgentStanding::NotActive
            && registry
                .adopt_after_restoration(&peer.id, &peer.leaf, serial)
                .await
        {
            standing = AgentStanding::Active;
        }
        if matches!(
            standing,
            AgentStanding::NotActive | AgentStanding::NotAttested | AgentStanding::Banned
        ) {
            // An SVID that is not known, and that only this server can have signed: it may have been put back.
            self.0.quarantine.look(peer, registry).await;
            if self.0.quarantine.holds() {
                return self.judge_in_quarantine((method, row, right), Some((tls, peer)), None);
            }
        }
        let reason = match standing {
            AgentStanding::Active => {
                let agent = self.0.registry.agent(&peer.id);
                let agent = agent.ok_or_else(|| permission_denied(method, Some(Why::AgentNotAttested)))?;
                let requester = Requester::agent(peer.id.clone(), agent.attestation_type.clone());
                return Ok(Caller {
                    requester,
                    agent: Some(agent),
                    downstream: None,
                    operator: Operator::default(),
                    class: Agent,
                    right,
                    method,
                    ledger: self.0.ledger.clone(),
                });
            }
            AgentStanding::Expired => (Why::AgentExpired, "the node's SVID is over"),
            AgentStanding::NotAttested => (Why::AgentNotAttested, "no node of this ID is known"),
            AgentStanding::NotActive => (Why::AgentNotActive, "the node has another SVID by now"),
            AgentStanding::Banned => (Why::AgentBanned, "the node is banned"),
        };
        if standing == AgentStanding::Banned {
            tls.cut().after(LAST_WORDS);
        }
        let (why, said) = reason;
        Err(self.turned_away(&self.shown_by(&peer.id), method, (Some(why), said)))
    }
}

const KIB: usize = 1024;
const SUBSCRIBE: &str = "/landfast.sync.v1.Sync/Subscribe";
const PUBLISH_JWT: &str = "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority";
const REGISTER_KEY: &str = "/landfast.recovery.v1.Recovery/RegisterDeviceKey";
const SHOW_STEPS: &str = "/landfast.chain.v1.Chain/ShowSteps";
const OVER_TLS: &str = "on the admin socket nobody calls this";
const NONE_OF_THEM: &str = "the caller is none of those who may call this";
/// The certificate is good, but its authority is not in force any more.
pub(crate) const STALE: &str = "the certificate of this connection does not verify any more, its authority was revoked or has gone: connect again \
    with a new SVID";

#[cfg(test)]
mod tests;
