//! `[upstream.spire]`: a parent server of our trust domain, Landfast's or SPIRE's.
//!
//! Invariant: nothing is asked of whom the Workload API's bundle does not verify as that server; each call ends.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use landfast_identity::issue::authority_request;
use landfast_identity::{Certificate, IssueError, JwtAuthority, SpiffeId, TrustDomain, UnixTime, X509Error};
use landfast_lifecycle::SharedClock;
use landfast_proto::spire::api::server::bundle::v1::{
    GetBundleRequest, PublishJwtAuthorityRequest, bundle_client::BundleClient,
};
use landfast_proto::spire::api::server::svid::v1::{NewDownstreamX509caRequest, svid_client::SvidClient};
use landfast_proto::spire::api::types;
use tonic::{Code, Response, Status};

use super::ParentConfig;
use super::connection::{ConnectError, Connection};
use crate::api::convert::bundle_in;
use crate::authority::{Seen, Signed, Upstream, UpstreamError, Wish};

/// A parent server.
pub(crate) struct Parent {
    config: ParentConfig,
    trust_domain: TrustDomain,
    clock: SharedClock,
    connection: ArcSwapOption<Connection>,
}

impl Parent {
    /// Asks nobody yet.
    pub(crate) fn new(config: ParentConfig, trust_domain: TrustDomain, clock: SharedClock) -> Self {
        Self {
            config,
            trust_domain,
            clock,
            connection: ArcSwapOption::empty(),
        }
    }

    /// The connection in use, or a new one. Two that are made at once do no harm.
    async fn connection(&self) -> Result<Arc<Connection>, ParentError> {
        if let Some(present) = self.connection.load_full()
            && !present.is_due(self.clock.now())
        {
            return Ok(present);
        }
        let made = Connection::make(&self.config, &self.trust_domain, &self.clock).await;
        let made = Arc::new(made.map_err(|source| ParentError::Connect {
            parent: self.name(),
            source,
        })?);
        self.connection.store(Some(Arc::clone(&made)));
        Ok(made)
    }

    async fn call<T>(
        &self,
        method: &'static str,
        made: &Connection,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ParentError> {
        let answered = tokio::time::timeout(DEADLINE, answer).await;
        let status = match answered {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => status,
            Err(_elapsed) => Status::deadline_exceeded("no answer in time"),
        };
        if breaks(&status) {
            // The next call begins anew, with the identity of then.
            self.connection.store(None);
        }
        Err(match status.code() {
            Code::PermissionDenied => ParentError::NotDownstream { id: made.id.clone() },
            code => ParentError::Refused {
                method,
                code,
                message: shown(status.message()),
            },
        })
    }

    async fn bundle(&self, made: &Connection) -> Result<Seen, ParentError> {
        let mut client = BundleClient::new(made.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let asked = client.get_bundle(GetBundleRequest { output_mask: None });
        let wire = self.call("GetBundle", made, asked).await?;
        let bundle = bundle_in(&wire).map_err(|status| ParentError::Bundle {
            detail: shown(status.message()),
        })?;
        if *bundle.trust_domain() != self.trust_domain {
            let detail = "it is of another trust domain".to_owned();
            return Err(ParentError::Bundle { detail });
        }
        Ok(Seen {
            roots: bundle.x509_authorities().to_vec(),
            jwt: bundle.jwt_authorities().to_vec(),
            fresh: false,
            // Who does not count says 0.
            sequence: Some(bundle.sequence()).filter(|sequence| *sequence > 0),
        })
    }
}

#[async_trait]
impl Upstream for Parent {
    async fn sign(&self, wish: &Wish<'_>) -> Result<Signed, UpstreamError> {
        let csr = authority_request(wish.trust_domain, &**wish.signer);
        let csr = csr.map_err(|source| ParentError::Request { source })?;
        let made = self.connection().await?;
        let mut client = SvidClient::new(made.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let request = NewDownstreamX509caRequest {
            csr: csr.into(),
            preferred_ttl: i32::try_from(wish.not_after.since(wish.now).as_secs()).unwrap_or(i32::MAX),
        };
        let asked = client.new_downstream_x509ca(request);
        let answer = self.call("NewDownstreamX509CA", &made, asked).await?;
        let read =
            |der: &Bytes| Certificate::from_der(der).map_err(|source| ParentError::Certificate { source });
        let mut chain = answer
            .ca_cert_chain
            .iter()
            .take(MAX_CHAIN)
            .map(read)
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let certificate = chain.next().ok_or(ParentError::NoCertificate)?;
        // The answer's own authorities do not say which are tainted.
        let roots = self.bundle(&made).await?.roots;
        Ok(Signed {
            certificate,
            chain: chain.collect(),
            roots,
        })
    }

    async fn look(&self, _now: UnixTime) -> Result<Seen, UpstreamError> {
        let made = self.connection().await?;
        Ok(self.bundle(&made).await?)
    }

    async fn publish(&self, key: &JwtAuthority) -> Result<(), UpstreamError> {
        let made = self.connection().await?;
        let mut client = BundleClient::new(made.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let request = PublishJwtAuthorityRequest {
            jwt_authority: Some(types::JwtKey {
                public_key: Bytes::copy_from_slice(key.public_key.spki_der()),
                key_id: key.key_id.clone(),
                expires_at: key.expires_at.map_or(0, UnixTime::as_secs),
                tainted: false,
            }),
        };
        let asked = client.publish_jwt_authority(request);
        self.call("PublishJWTAuthority", &made, asked).await?;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn name(&self) -> String {
        match self.config.host.contains(':') {
            true => format!("[{}]:{}", self.config.host, self.config.port),
            false => format!("{}:{}", self.config.host, self.config.port),
        }
    }
}

impl std::fmt::Debug for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parent({})", self.name())
    }
}

/// Whether another connection may do better. An answer of the parent's own that refuses what was asked is none of the connection's business.
fn breaks(status: &Status) -> bool {
    let transport = std::error::Error::source(status).is_some();
    transport || ends_it(status.code())
}

fn ends_it(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unauthenticated
            | Code::PermissionDenied
    )
}

/// What a peer wrote, for the log.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

/// Why the parent is of no use now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParentError {
    #[error("there is no connection to the parent server {parent}")]
    Connect { parent: String, source: ConnectError },
    #[error("the parent server does not have {id} as a server below it: set `downstream` in its entry there")]
    NotDownstream { id: SpiffeId },
    #[error("the parent server answers {method} with {code:?}: {message}")]
    Refused {
        method: &'static str,
        code: Code,
        message: String,
    },
    #[error("no request can be made")]
    Request { source: IssueError },
    #[error("a certificate of the parent server cannot be read")]
    Certificate { source: X509Error },
    #[error("the parent server has answered without a certificate")]
    NoCertificate,
    #[error("the parent server's bundle cannot be used: {detail}")]
    Bundle { detail: String },
}

impl ParentError {
    /// Whether the parent has judged what was asked, and not who asks, or nothing.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if !ends_it(*code))
    }
}

const DEADLINE: Duration = Duration::from_secs(20);
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
const MAX_CHAIN: usize = 8;
const MAX_SHOWN: usize = 300;

#[cfg(test)]
mod tests;
