//! A client of the Workload API, ours or anybody's.
//!
//! Invariant: what it returns is parsed and obeys the standards; of repeated hints the first counts (Workload API §5.2.1).

mod endpoint;
mod wit;

use std::{collections::HashSet, path::PathBuf, time::Duration};

use futures_util::{Stream, StreamExt as _};
use hyper_util::rt::TokioIo;
use landfast_identity::{
    Bundle, BundleSet, Certificate, PrivateKey, SpiffeId, TrustDomain, X509Svid, parse_chain_der,
};
use landfast_proto::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509svidRequest,
    X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

pub use self::{endpoint::EndpointError, wit::HeldWit};
use crate::{FetchedJwt, guard::SECURITY_HEADER};

/// A connection to a Workload API.
#[derive(Clone, Debug)]
pub struct WorkloadClient {
    inner: SpiffeWorkloadApiClient<InterceptedService<Channel, SecurityHeader>>,
}

/// X509-SVIDs and what to verify peers with.
#[derive(Clone, Debug)]
pub struct X509Context {
    /// At least one, the default first.
    pub svids: Vec<X509Svid>,
    /// Our own trust domain's bundle and those of federated ones.
    pub bundles: BundleSet,
}

/// A validated token's claims.
#[derive(Clone, Debug)]
pub struct ValidatedJwt {
    /// The subject.
    pub id: SpiffeId,
    /// The claims as the agent shows them.
    pub claims: prost_types::Struct,
}

/// Why a call has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not one of a Workload API.
    #[error("the endpoint cannot be used")]
    Endpoint(#[from] EndpointError),
    /// Nobody listens.
    #[error("cannot connect to {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The agent refuses. See [`ClientError::code`].
    #[error("the agent answers {code:?}: {message}", code = .0.code(), message = .0.message())]
    Refused(Box<Status>),
    /// The agent has ended the stream without a message.
    #[error("the agent has closed the stream")]
    Closed,
    /// An answer that does not obey the standard.
    #[error("cannot use {what} of the answer")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ClientError {
    /// The gRPC code, if the agent has answered.
    pub fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::Refused(status) => Some(status.code()),
            _ => None,
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl WorkloadClient {
    /// Connects to `endpoint`: `unix:///path`, `unix:/path` or an absolute path.
    ///
    /// # Errors
    /// The address is of another form, or nobody listens there.
    pub async fn connect(endpoint: &str) -> Result<Self, ClientError> {
        let path = endpoint::parse(endpoint)?;
        let target = path.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let target = target.clone();
            async move { UnixStream::connect(target).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(DEADLINE)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_while_idle(false)
            .connect_with_connector(connector)
            .await
            .map_err(|source| ClientError::Connect { path, source })?;
        let inner = SpiffeWorkloadApiClient::with_interceptor(channel, SecurityHeader)
            .max_decoding_message_size(MAX_MESSAGE);
        Ok(Self { inner })
    }

    /// X509-SVIDs now and after every change, until the agent ends the stream.
    ///
    /// # Errors
    /// The agent refuses.
    pub async fn x509_svids(
        &mut self,
    ) -> Result<impl Stream<Item = Result<X509Context, ClientError>> + Send + Unpin + use<>, ClientError>
    {
        let messages = self.inner.fetch_x509svid(X509svidRequest {}).await?.into_inner();
        Ok(messages.map(|message| x509_context(message?)))
    }

    /// The X509-SVIDs of now.
    ///
    /// # Errors
    /// The agent refuses or does not answer within 30 seconds.
    pub async fn fetch_x509(&mut self) -> Result<X509Context, ClientError> {
        let first = async {
            self.x509_svids()
                .await?
                .next()
                .await
                .unwrap_or(Err(ClientError::Closed))
        };
        within(first).await
    }

    /// JWT-SVIDs for `audience`: for `id`, or for every identity of the caller.
    ///
    /// # Errors
    /// The agent refuses or does not answer within 30 seconds.
    pub async fn fetch_jwt(
        &mut self,
        audience: &[String],
        id: Option<&SpiffeId>,
    ) -> Result<Vec<FetchedJwt>, ClientError> {
        let spiffe_id = id.map(ToString::to_string).unwrap_or_default();
        let request = JwtsvidRequest {
            audience: audience.to_vec(),
            spiffe_id,
        };
        let answer = within(async { Ok(self.inner.fetch_jwtsvid(request).await?) })
            .await?
            .into_inner();
        let mut hints = HashSet::new();
        let mut svids = Vec::new();
        for svid in answer.svids {
            if svid.hint.is_empty() || hints.insert(svid.hint.clone()) {
                let id = SpiffeId::parse(&svid.spiffe_id).map_err(malformed("the SPIFFE ID"))?;
                svids.push(FetchedJwt {
                    id,
                    token: svid.svid,
                    hint: svid.hint,
                    entry_id: String::new(),
                    reserve: false,
                });
            }
        }
        if svids.is_empty() {
            Err(ClientError::Closed)
        } else {
            Ok(svids)
        }
    }

    /// Has the agent validate `token` for `audience`.
    ///
    /// # Errors
    /// The token is not valid (`InvalidArgument`), the agent refuses or does not answer within 30 seconds.
    pub async fn validate_jwt(&mut self, audience: &str, token: &str) -> Result<ValidatedJwt, ClientError> {
        let request = ValidateJwtsvidRequest {
            audience: audience.to_owned(),
            svid: token.to_owned(),
        };
        let answer = within(async { Ok(self.inner.validate_jwtsvid(request).await?) })
            .await?
            .into_inner();
        let id = SpiffeId::parse(&answer.spiffe_id).map_err(malformed("the SPIFFE ID"))?;
        Ok(ValidatedJwt {
            id,
            claims: answer.claims.unwrap_or_default(),
        })
    }

    /// X.509 bundles now and after every change.
    ///
    /// # Errors
    /// The agent refuses.
    pub async fn x509_bundles(
        &mut self,
    ) -> Result<impl Stream<Item = Result<BundleSet, ClientError>> + Send + Unpin + use<>, ClientError> {
        let messages = self
            .inner
            .fetch_x509_bundles(X509BundlesRequest {})
            .await?
            .into_inner();
        Ok(messages.map(|message| {
            message?
                .bundles
                .iter()
                .map(|(td, der)| x509_bundle(td, der))
                .collect()
        }))
    }

    /// JWT bundles now and after every change.
    ///
    /// # Errors
    /// The agent refuses.
    pub async fn jwt_bundles(
        &mut self,
    ) -> Result<impl Stream<Item = Result<BundleSet, ClientError>> + Send + Unpin + use<>, ClientError> {
        let messages = self
            .inner
            .fetch_jwt_bundles(JwtBundlesRequest {})
            .await?
            .into_inner();
        let parse = |(td, jwks): (&String, &bytes::Bytes)| {
            let td = TrustDomain::parse(td).map_err(malformed("the trust domain"))?;
            Bundle::from_jwks(td, jwks).map_err(malformed("the JWT bundle"))
        };
        Ok(messages.map(move |message| message?.bundles.iter().map(parse).collect()))
    }
}

fn x509_context(message: X509svidResponse) -> Result<X509Context, ClientError> {
    let mut bundles: BundleSet = message
        .federated_bundles
        .iter()
        .map(|(td, der)| x509_bundle(td, der))
        .collect::<Result<_, _>>()?;
    let mut hints = HashSet::new();
    let mut svids = Vec::new();
    for svid in message.svids {
        if !svid.hint.is_empty() && !hints.insert(svid.hint.clone()) {
            continue;
        }
        let chain: Vec<Certificate> =
            parse_chain_der(&svid.x509_svid).map_err(malformed("the certificate chain"))?;
        let key =
            PrivateKey::from_pkcs8_der(svid.x509_svid_key.to_vec()).map_err(malformed("the private key"))?;
        let parsed = X509Svid::new(chain, key)
            .map_err(malformed("the X509-SVID"))?
            .with_hint(svid.hint);
        if parsed.id().to_string() != svid.spiffe_id {
            return Err(malformed("the SPIFFE ID")("it differs from the certificate's"));
        }
        bundles.insert(x509_bundle(
            &parsed.id().trust_domain().id_string(),
            &svid.bundle,
        )?);
        svids.push(parsed);
    }
    if svids.is_empty() {
        Err(ClientError::Closed)
    } else {
        Ok(X509Context { svids, bundles })
    }
}

fn x509_bundle(trust_domain: &str, der: &[u8]) -> Result<Bundle, ClientError> {
    let trust_domain = TrustDomain::parse(trust_domain).map_err(malformed("the trust domain"))?;
    Bundle::from_der_concat(trust_domain, der).map_err(malformed("the X.509 bundle"))
}

fn malformed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl FnOnce(E) -> ClientError {
    move |source| ClientError::Malformed {
        what,
        source: source.into(),
    }
}

async fn within<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(Status::deadline_exceeded("no answer in time").into()),
    }
}

/// Adds the header of Workload Endpoint §3.
#[derive(Clone, Debug)]
struct SecurityHeader;

impl Interceptor for SecurityHeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert(SECURITY_HEADER, MetadataValue::from_static("true"));
        Ok(request)
    }
}

const DEADLINE: Duration = Duration::from_secs(30);
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
