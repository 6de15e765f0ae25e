//! Who may call what: one table for every method of every service, judged on both listeners.
//!
//! Invariant: a method without a row is refused to everybody. A request is judged by the very path its handler is found by; a query is
//! refused, so what is not in the table to the letter never reaches a handler.

mod caller;
mod operators;
mod quarantine;
mod table;
mod to_the_end;

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use landfast_identity::{SpiffeId, VerifiedPeer};
use landfast_lifecycle::SharedClock;
use landfast_proto::Reason;
use landfast_proto::spire::api::types::permission_denied_details::Reason as Why;
use landfast_uds::PeerInfo;
use tonic::Status;
use tonic::body::Body;

use caller::Asked;
pub(crate) use caller::Caller;
use operators::Right;
use table::TABLE;
use to_the_end::{is_change, to_the_end};

use crate::answers::paced;
use crate::api::status::permission_denied;
use crate::endpoints::{Allowance, Held, TlsPeer, metered};
use crate::issuance::Requester;
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
}

impl Authorizer {
    pub(crate) fn new(
        registry: Arc<Registry>,
        admin_ids: Vec<SpiffeId>,
        clock: SharedClock,
        quarantine: Arc<Quarantine>,
    ) -> Self {
        Self(Arc::new(Inner {
            registry,
            admin_ids,
            clock,
            quarantine,
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
        let (Some(&(_, row, right)), None) = (row, uri.query()) else {
            return Err(Status::unimplemented("no such method"));
        };
        let Asked { extensions, reason } = asked;
        if let Some(peer) = extensions.get::<PeerInfo>() {
            if !row.contains(&Any) && !row.contains(&Local) {
                return Err(permission_denied(method, None));
            }
            let (mut operator, requester) = self.local(peer);
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
            });
        }
        let Some((tls, peer)) = peer else {
            return Err(permission_denied(method, None));
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
        (method, row, right): (&str, &[Class], Right),
        (tls, peer): (&TlsPeer, &VerifiedPeer),
        reason: Option<Reason>,
    ) -> Result<Caller, Status> {
        let Some(now) = self.0.clock.now() else {
            return Err(Status::unavailable("the clock of the server shows no time"));
        };
        // The connection may be older than the certificate's end.
        if now > peer.not_after {
            return Err(permission_denied(method, Some(Why::AgentExpired)));
        }
        // Or than the end of the authority that signed it.
        if let Err(error) = tls.verify_again(now) {
            tracing::warn!(peer = %peer.id, method, %error, "a connection was refused: its certificate does not verify any more");
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
                });
            }
        }
        if !row.contains(&Agent) {
            return Err(permission_denied(method, None));
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
                });
            }
            AgentStanding::Expired => Why::AgentExpired,
            AgentStanding::NotAttested => Why::AgentNotAttested,
            AgentStanding::NotActive => Why::AgentNotActive,
            AgentStanding::Banned => Why::AgentBanned,
        };
        tracing::info!(agent = %peer.id, method, ?standing, "an agent was refused");
        if standing == AgentStanding::Banned {
            tls.cut().after(LAST_WORDS);
        }
        Err(permission_denied(method, Some(reason)))
    }
}

/// Puts the table in front of every service.
#[derive(Clone)]
pub(crate) struct AuthLayer(pub(crate) Authorizer);

impl<S> tower::Layer<S> for AuthLayer {
    type Service = AuthService<S>;
    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService {
            inner,
            authorizer: self.0.clone(),
        }
    }
}

/// See [`AuthLayer`].
#[derive(Clone)]
pub(crate) struct AuthService<S> {
    inner: S,
    authorizer: Authorizer,
}

impl<S> tower::Service<http::Request<Body>> for AuthService<S>
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let authorizer = self.authorizer.clone();
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            // Only what was judged is counted by name: anything else is the peer's text.
            let asked = Asked::of(&request);
            let judged = match asked {
                Ok(asked) => authorizer.judge(request.uri(), asked).await,
                Err(refused) => Err(refused),
            };
            match judged {
                Ok(caller) => {
                    metrics::counter!("landfast_server_rpc_total", "method" => request.uri().path().to_owned()).increment(1);
                    let (mut request, held) = meter(request, caller.class);
                    request.extensions_mut().insert(caller.clone());
                    let method = request.uri().path().to_owned();
                    let answer = match is_change(caller.right) {
                        true => to_the_end(inner.call(request)).await,
                        false => inner.call(request).await,
                    };
                    drop(held);
                    if let Ok(answer) = &answer {
                        let status = answer.headers().get(Status::GRPC_STATUS);
                        caller.told(&method, status.and_then(|status| status.to_str().ok()));
                    }
                    answer.map(paced)
                }
                Err(status) => {
                    metrics::counter!("landfast_server_rpc_refused_total").increment(1);
                    Ok(status.into_http())
                }
            }
        })
    }
}

/// What the peer sends is counted from here on, until what comes back is dropped: when the answer begins. Who does not read an answer would else keep
/// what all have for their requests.
fn meter(request: http::Request<Body>, class: Class) -> (http::Request<Body>, Option<Arc<Held>>) {
    let intake = request.extensions().get().map(TlsPeer::intake);
    let (Some(intake), Some(allowance)) = (intake, allowance(class, request.uri().path())) else {
        return (request, None);
    };
    let (head, body) = request.into_parts();
    let (body, held) = metered(body, intake, allowance);
    (http::Request::from_parts(head, body), Some(held))
}

const KIB: usize = 1024;
const SUBSCRIBE: &str = "/landfast.sync.v1.Sync/Subscribe";
const SHOW_STEPS: &str = "/landfast.chain.v1.Chain/ShowSteps";
/// The certificate is good, but its authority is not in force any more.
pub(crate) const STALE: &str = "the certificate of this connection does not verify any more, its authority was revoked or has gone: connect again \
    with a new SVID";

#[cfg(test)]
mod tests;
