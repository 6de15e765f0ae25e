//! The tries. Invariant: each goes the way that was open to who may, with one thing about it wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::{Bundle, PrivateKey, SpiffeId, TrustDomain, X509Svid, build_csr};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::landfast::people::v1::{WhoAmIRequest, people_client::PeopleClient};
use landfast_proto::spire::api::server::agent::v1::{
    self as agent_api, agent_client::AgentClient, attest_agent_request as attest,
};
use landfast_proto::spire::api::server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient};
use landfast_proto::spire::api::server::entry::v1::{self as entry_api, entry_client::EntryClient};
use landfast_proto::spire::api::types;
use landfast_proto::workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use tonic::Status;
use tonic::transport::Channel;

use super::callers::{caller, forged};
use super::{Came, Tried};
use crate::connect::{self, Channel as Operator};
use crate::failure::{Failure, SERVER};
use crate::{mint, wire};

pub(super) struct World {
    operator: Operator,
    address: String,
    agent: Option<PathBuf>,
    bundle: Bundle,
    /// A workload's, of this server, for as long as the tries take.
    good: Arc<X509Svid>,
    /// The same, which ends at once.
    brief: Arc<X509Svid>,
}

impl World {
    pub(super) async fn begin(
        operator: Operator,
        address: String,
        agent: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let mut bundles = BundleClient::new(operator.clone());
        let asked = bundles.get_bundle(GetBundleRequest { output_mask: None });
        let bundle = wire::bundle(&connect::call(SERVER, asked).await?)?;
        let svid = async |ttl| {
            let id = format!("spiffe://{}/landfast-selftest", bundle.trust_domain());
            let id = SpiffeId::parse(&id).map_err(|error| Failure::failed(error, "please report this"))?;
            mint::svid(&id, Some(ttl), operator.clone()).await.map(Arc::new)
        };
        let (good, brief) = (svid(GOOD).await?, svid(BRIEF).await?);
        Ok(Self {
            operator,
            address,
            agent,
            bundle,
            good,
            brief,
        })
    }

    /// Every one, between two controls.
    pub(super) async fn all(&self) -> Result<Vec<Tried>, Failure> {
        self.control(&self.good, "a good SVID").await?;
        // It is good until it has expired, or its refusal says nothing.
        self.control(&self.brief, "an SVID that will expire").await?;
        let mut tried = vec![
            self.foreign().await?,
            self.forged().await?,
            self.replayed().await?,
            self.unattested().await?,
            self.not_a_node().await?,
            self.not_an_operator().await?,
        ];
        if let Some(agent) = &self.agent {
            tried.push(self.without_header(agent).await);
        }
        tried.push(self.expired().await?);
        self.control(&self.good, "a good SVID, after the tries").await?;
        Ok(tried)
    }

    async fn control(&self, svid: &Arc<X509Svid>, what: &str) -> Result<(), Failure> {
        let known = self.known(Some(Arc::clone(svid))).await?;
        known.map(drop).map_err(|status| {
            Failure::failed(
                format!(
                    "{what} is refused, so a refusal says nothing: {}",
                    status.message()
                ),
                "is the clock of this machine right, and the address the server's own?",
            )
        })
    }

    /// Whether who shows this is known for whom it says it is. Without anything shown everybody is answered.
    async fn known(&self, shown: Option<Arc<X509Svid>>) -> Result<Result<(), Status>, Failure> {
        let expected = shown.as_ref().map(|svid| svid.id().to_string());
        let channel = match caller(&self.address, &self.bundle, shown).await {
            Ok(channel) => channel,
            // The server is there: the controls say so.
            Err(failure) => return Ok(Err(Status::unauthenticated(failure.message))),
        };
        let asked = connect::answer(PeopleClient::new(channel).who_am_i(WhoAmIRequest {})).await;
        Ok(asked.and_then(|who| match expected {
            Some(id) if !who.actor.contains(&id) => {
                Err(Status::unauthenticated(format!("taken for {}", who.actor)))
            }
            _ => Ok(()),
        }))
    }

    async fn expired(&self) -> Result<Tried, Failure> {
        while SystemClock.now().is_none_or(|now| now <= self.brief.not_after()) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let known = self.known(Some(Arc::clone(&self.brief))).await?;
        Ok(judged("expired-svid", "an SVID that has expired", known))
    }

    async fn foreign(&self) -> Result<Tried, Failure> {
        let domain = TrustDomain::parse("landfast-selftest.invalid")
            .map_err(|error| Failure::failed(error, "please report this"))?;
        let known = self.known(Some(forged(&domain, "/operator")?)).await?;
        Ok(judged(
            "foreign-domain",
            "an SVID of an unknown trust domain",
            known,
        ))
    }

    async fn forged(&self) -> Result<Tried, Failure> {
        let svid = forged(self.bundle.trust_domain(), "/landfast-selftest")?;
        let known = self.known(Some(svid)).await?;
        Ok(judged(
            "forged-authority",
            "an SVID of our name by another authority",
            known,
        ))
    }

    async fn replayed(&self) -> Result<Tried, Failure> {
        let (name, what) = ("replayed-token", "a join token for the second time");
        let request = agent_api::CreateJoinTokenRequest {
            ttl: 60,
            ..Default::default()
        };
        let mut operator = AgentClient::new(self.operator.clone());
        let token = connect::call(SERVER, operator.create_join_token(request))
            .await?
            .value;
        if let Err(status) = self.attest(&token).await? {
            let why = format!("the first time was refused: {}", status.message());
            return Ok(Tried {
                name,
                what,
                came: Came::NotTried(why),
            });
        }
        let again = self.attest(&token).await?;
        let id = types::Spiffeid {
            trust_domain: self.bundle.trust_domain().to_string(),
            path: format!("/spire/agent/join_token/{token}"),
        };
        let request = agent_api::DeleteAgentRequest { id: Some(id) };
        connect::call(SERVER, operator.delete_agent(request)).await?;
        Ok(judged(name, what, again))
    }

    async fn attest(&self, token: &str) -> Result<Result<(), Status>, Failure> {
        let failed =
            |error: &dyn std::error::Error| Failure::failed(error_chain(error), "please report this");
        let key = PrivateKey::generate().map_err(|error| failed(&error))?;
        let csr = build_csr(&key, None, &[]).map_err(|error| failed(&error))?;
        let params = attest::Params {
            data: Some(types::AttestationData {
                r#type: "join_token".to_owned(),
                payload: token.as_bytes().to_vec().into(),
            }),
            params: Some(agent_api::AgentX509svidParams { csr: csr.into() }),
        };
        let request = agent_api::AttestAgentRequest {
            step: Some(attest::Step::Params(params)),
        };
        let channel = caller(&self.address, &self.bundle, None).await?;
        let attested = async {
            let mut client = AgentClient::new(channel);
            let mut answers = client
                .attest_agent(tokio_stream::iter([request]))
                .await?
                .into_inner();
            match answers.message().await? {
                Some(_) => Ok(()),
                None => Err(Status::unknown("no answer")),
            }
        };
        let late = |_elapsed| Status::deadline_exceeded("no answer in 30 s");
        Ok(tokio::time::timeout(DEADLINE, attested)
            .await
            .unwrap_or_else(|elapsed| Err(late(elapsed))))
    }

    async fn unattested(&self) -> Result<Tried, Failure> {
        let channel = caller(&self.address, &self.bundle, None).await?;
        let asked = entries(channel).await;
        Ok(judged(
            "unattested-caller",
            "a node's call by who has attested nothing",
            asked,
        ))
    }

    async fn not_a_node(&self) -> Result<Tried, Failure> {
        let channel = caller(&self.address, &self.bundle, Some(Arc::clone(&self.good))).await?;
        let asked = entries(channel).await;
        Ok(judged("workload-as-node", "a node's call by a workload", asked))
    }

    async fn not_an_operator(&self) -> Result<Tried, Failure> {
        let channel = caller(&self.address, &self.bundle, Some(Arc::clone(&self.good))).await?;
        let request = agent_api::CreateJoinTokenRequest {
            ttl: 60,
            ..Default::default()
        };
        let asked = connect::answer(AgentClient::new(channel).create_join_token(request)).await;
        Ok(judged(
            "workload-as-operator",
            "an operator's call by a workload",
            asked.map(drop),
        ))
    }

    async fn without_header(&self, agent: &Path) -> Tried {
        let (name, what) = (
            "agent-without-header",
            "the agent's socket without the security header",
        );
        let channel = match connect::unix(agent, "agent", "--agent-socket or --no-agent").await {
            Ok(channel) => channel,
            Err(failure) => {
                return Tried {
                    name,
                    what,
                    came: Came::NotTried(failure.message),
                };
            }
        };
        let mut client = SpiffeWorkloadApiClient::new(channel);
        let asked = connect::answer(client.fetch_x509svid(X509svidRequest {})).await;
        let asked = match asked {
            Ok(mut stream) => stream.message().await.map(drop),
            Err(status) => Err(status),
        };
        match asked {
            // That is for who has the header, and no entry: it was asked further than it may.
            Err(status) if status.code() == tonic::Code::PermissionDenied => Tried {
                name,
                what,
                came: Came::LetThrough(status.message().to_owned()),
            },
            asked => judged(name, what, asked),
        }
    }
}

async fn entries(channel: Channel) -> Result<(), Status> {
    let request = entry_api::GetAuthorizedEntriesRequest { output_mask: None };
    let asked = connect::answer(EntryClient::new(channel).get_authorized_entries(request)).await;
    asked.map(drop)
}

/// No answer is no refusal.
fn judged(name: &'static str, what: &'static str, outcome: Result<(), Status>) -> Tried {
    let came = match outcome {
        Ok(()) => Came::LetThrough("it was answered as if it might".to_owned()),
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
            Came::NotTried(status.message().to_owned())
        }
        Err(status) => Came::Refused(error_chain(&status)),
    };
    Tried { name, what, came }
}

/// For all tries.
const GOOD: Duration = Duration::from_secs(600);
/// So long is the one that expires good.
const BRIEF: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_let_through_and_silence_is_no_refusal() {
        let came = |outcome| judged("x", "x", outcome).came;
        assert!(matches!(came(Ok(())), Came::LetThrough(_)));
        assert!(matches!(
            came(Err(Status::deadline_exceeded("late"))),
            Came::NotTried(_)
        ));
        assert!(matches!(
            came(Err(Status::permission_denied("no"))),
            Came::Refused(_)
        ));
    }
}
