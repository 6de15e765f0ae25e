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
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::answers::{BY_RIGHT, is_by, judged};
use super::callers::{alert, caller, forged};
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
        let known = self.known(Arc::clone(svid)).await?;
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
    async fn known(&self, shown: Arc<X509Svid>) -> Result<Result<(), Status>, Failure> {
        let expected = shown.id().to_string();
        let asked = match caller(&self.address, &self.bundle, Some(Arc::clone(&shown))).await {
            Ok(channel) => connect::answer(PeopleClient::new(channel).who_am_i(WhoAmIRequest {})).await,
            Err(failure) => Err(Status::unavailable(failure.message)),
        };
        let status = match asked {
            Ok(who) if who.actor.contains(&expected) => return Ok(Ok(())),
            Ok(who) => Status::unauthenticated(format!("taken for {}", who.actor)),
            Err(status) => status,
        };
        if is_by(BY_RIGHT, &status) {
            return Ok(Err(status));
        }
        // A connection that ends says nothing of why: that is asked by itself.
        let alert = alert(&self.address, &self.bundle, shown).await?;
        Ok(Err(match alert {
            Some(alert) => Status::unauthenticated(format!("TLS alert: {alert}")),
            None => status,
        }))
    }

    async fn expired(&self) -> Result<Tried, Failure> {
        // The server's clock decides, and may be behind this one.
        let over = self.brief.not_after().saturating_add(BEHIND);
        let mut left = TIMES;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if SystemClock.now().is_none_or(|now| now <= over) {
                continue;
            }
            left -= 1;
            let known = self.known(Arc::clone(&self.brief)).await?;
            if known.is_err() || left == 0 {
                return Ok(judged(
                    "expired-svid",
                    "an SVID that has expired",
                    BY_RIGHT,
                    known,
                ));
            }
        }
    }

    async fn foreign(&self) -> Result<Tried, Failure> {
        let domain = TrustDomain::parse("landfast-selftest.invalid")
            .map_err(|error| Failure::failed(error, "please report this"))?;
        let known = self.known(forged(&domain, "/operator")?).await?;
        Ok(judged(
            "foreign-domain",
            "an SVID of an unknown trust domain",
            BY_RIGHT,
            known,
        ))
    }

    async fn forged(&self) -> Result<Tried, Failure> {
        let svid = forged(self.bundle.trust_domain(), "/landfast-selftest")?;
        let known = self.known(svid).await?;
        Ok(judged(
            "forged-authority",
            "an SVID of our name by another authority",
            BY_RIGHT,
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
        Ok(judged(name, what, &[Code::InvalidArgument], again))
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
            BY_RIGHT,
            asked,
        ))
    }

    async fn not_a_node(&self) -> Result<Tried, Failure> {
        let channel = caller(&self.address, &self.bundle, Some(Arc::clone(&self.good))).await?;
        let asked = entries(channel).await;
        Ok(judged(
            "workload-as-node",
            "a node's call by a workload",
            BY_RIGHT,
            asked,
        ))
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
            BY_RIGHT,
            asked.map(drop),
        ))
    }

    async fn without_header(&self, agent: &Path) -> Tried {
        let (name, what) = (
            "agent-without-header",
            "the agent's socket without the security header",
        );
        let untried = |why| Tried {
            name,
            what,
            came: Came::NotTried(why),
        };
        let channel = match connect::unix(agent, "agent", "--agent-socket or --no-agent").await {
            Ok(channel) => channel,
            Err(failure) => return untried(failure.message),
        };
        let mut request = Request::new(X509svidRequest {});
        let header = MetadataValue::from_static("true");
        request.metadata_mut().insert("workload.spiffe.io", header);
        match first(channel.clone(), request).await {
            // It answers, whether there is an entry for us or none.
            Ok(()) => {}
            Err(status) if status.code() == Code::PermissionDenied => {}
            Err(status) => {
                let why = status.message();
                return untried(format!("with the header it is not answered either: {why}"));
            }
        }
        match first(channel, Request::new(X509svidRequest {})).await {
            // That is for who has the header, and no entry: it was asked further than it may.
            Err(status) if status.code() == Code::PermissionDenied => Tried {
                name,
                what,
                came: Came::LetThrough(status.message().to_owned()),
            },
            asked => judged(name, what, &[Code::InvalidArgument], asked),
        }
    }
}

async fn first(channel: Channel, request: Request<X509svidRequest>) -> Result<(), Status> {
    let mut client = SpiffeWorkloadApiClient::new(channel);
    let mut stream = connect::answer(client.fetch_x509svid(request)).await?;
    let late = |_elapsed| Status::deadline_exceeded("no answer in 30 s");
    let message = tokio::time::timeout(DEADLINE, stream.message()).await;
    message.map_err(late)?.map(drop)
}

async fn entries(channel: Channel) -> Result<(), Status> {
    let request = entry_api::GetAuthorizedEntriesRequest { output_mask: None };
    let asked = connect::answer(EntryClient::new(channel).get_authorized_entries(request)).await;
    asked.map(drop)
}

/// For all tries.
const GOOD: Duration = Duration::from_secs(600);
/// So long is the one that expires good.
const BRIEF: Duration = Duration::from_secs(10);
/// By which the server's clock may be behind before it is asked, and how often it is asked again, once a second, when it lets an SVID in.
const BEHIND: Duration = Duration::from_secs(2);
const TIMES: u32 = 30;
const DEADLINE: Duration = Duration::from_secs(30);
