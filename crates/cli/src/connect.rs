//! Ways to the server and to the local agent.
//!
//! Invariant: a remote server is believed only as `spiffe://<our trust domain>/spire/server`; every wait has a deadline.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfast_daemon::error_chain;
use landfast_identity::{Bundle, BundleSet, PrivateKey, SpiffeId, TrustDomain, X509Svid, parse_chain_pem};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::{REASON, Reason};
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use landfast_workload_api::client::{ClientError, WorkloadClient};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

use crate::cli::Globals;
use crate::failure::{AGENT, Failure};

/// Requests go out with the reason that was given.
pub(crate) type Channel = InterceptedService<tonic::transport::Channel, WithReason>;

/// See [`Channel`].
#[derive(Clone, Default)]
pub(crate) struct WithReason(Option<AsciiMetadataValue>);

impl Interceptor for WithReason {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(reason) = &self.0 {
            request.metadata_mut().insert(REASON, reason.clone());
        }
        Ok(request)
    }
}

/// To the server: its admin socket, or mTLS.
pub(crate) async fn server(globals: &Globals) -> Result<Channel, Failure> {
    let reason = globals.reason.as_ref().map(Reason::to_metadata);
    dialled(globals, reason).await
}

/// The same, for this reason and no other.
pub(crate) async fn server_because(globals: &Globals, reason: &str) -> Result<Channel, Failure> {
    dialled(globals, Some(reason.to_owned())).await
}

async fn dialled(globals: &Globals, reason: Option<String>) -> Result<Channel, Failure> {
    let reason = reason.map(|reason| {
        let value = AsciiMetadataValue::try_from(reason);
        value.map_err(|error| Failure::usage(format!("--reason: {error}"), "give it on one line"))
    });
    let reason = WithReason(reason.transpose()?);
    let channel = match &globals.server {
        None => unix(&globals.server_socket, "server", "--server-socket").await?,
        Some(address) => remote(address, globals).await?,
    };
    Ok(Channel::new(channel, reason))
}

/// To the agent's admin socket.
pub(crate) async fn agent_admin(globals: &Globals) -> Result<tonic::transport::Channel, Failure> {
    unix(&globals.agent_admin_socket, "agent", "--agent-admin-socket").await
}

/// To the Workload API.
pub(crate) async fn workload(globals: &Globals) -> Result<WorkloadClient, Failure> {
    let endpoint = globals.workload_api();
    if let Some(path) = endpoint
        .strip_prefix("unix://")
        .or_else(|| endpoint.starts_with('/').then_some(endpoint.as_str()))
    {
        // Our client's error does not say why nobody could be reached; this one does.
        drop(
            open_unix(
                Path::new(path),
                "agent",
                "--agent-socket or SPIFFE_ENDPOINT_SOCKET",
            )
            .await?,
        );
    }
    WorkloadClient::connect(&endpoint)
        .await
        .map_err(|error| workload_failure(&error))
}

/// What a Workload API's refusal means.
pub(crate) fn workload_failure(error: &ClientError) -> Failure {
    match error {
        // With a cause it is our side that gave up: the connection broke, and nobody has refused anything.
        ClientError::Refused(status) if std::error::Error::source(&**status).is_some() => {
            Failure::not_ready(error_chain(error), "is the agent running?")
        }
        ClientError::Refused(status) => Failure::status(AGENT, status),
        ClientError::Endpoint(_) => Failure::usage(error_chain(error), "give a path, or unix:///path"),
        ClientError::Connect { .. } | ClientError::Closed => {
            Failure::not_ready(error_chain(error), "is the agent running?")
        }
        _ => Failure::failed(
            error_chain(error),
            "the agent's answer is not as the standard wants it",
        ),
    }
}

/// One call, with its deadline.
pub(crate) async fn call<T>(
    who: &str,
    rpc: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    answer(rpc).await.map_err(|status| Failure::status(who, &status))
}

/// As [`call`], for who looks at the status.
pub(crate) async fn answer<T>(rpc: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    let no_answer = |_elapsed| Status::deadline_exceeded("no answer in 30 s");
    let answered = tokio::time::timeout(DEADLINE, rpc).await.map_err(no_answer)?;
    answered.map(Response::into_inner)
}

/// gRPC over a Unix socket; `who` and `option` are for the hint.
pub(crate) async fn unix(path: &Path, who: &str, option: &str) -> Result<tonic::transport::Channel, Failure> {
    let stream = open_unix(path, who, option).await?;
    over(stream, &format!("{who} at {}", path.display())).await
}

async fn open_unix(path: &Path, who: &str, option: &str) -> Result<UnixStream, Failure> {
    let shown = path.display();
    UnixStream::connect(path).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::not_ready(
            format!("no {who} at {shown}: {error}"),
            format!("is landfast-{who} running here? Another path is given with {option}"),
        ),
        ErrorKind::ConnectionRefused => Failure::not_ready(
            format!("nobody answers at {shown}"),
            format!("the socket is left over: landfast-{who} is not running; start it and it takes the socket over"),
        ),
        ErrorKind::PermissionDenied => Failure::failed(
            format!("not allowed to use {shown}"),
            format!("run as root, as the {who}'s own user, or as a member of the group its configuration names for the socket"),
        ),
        _ => Failure::failed(format!("cannot use {shown}: {error}"), format!("{option} gives another path")),
    })
}

/// Where `landfast login` keeps what it gets for this server; `None` for who has no home.
pub(crate) fn login_dir(address: &str) -> Option<PathBuf> {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
            c
        } else {
            '_'
        }
    };
    let name: String = address.chars().map(plain).collect();
    let home = std::env::home_dir().filter(|home| home.is_absolute())?;
    Some(home.join(".landfast").join("logins").join(name))
}

/// What a login has left for this server. It is used as long as it is there: that it has ended is for the person to know.
fn logged_in(address: &str) -> Result<Option<(X509Svid, BundleSet)>, Failure> {
    let dir = login_dir(address).filter(|dir| dir.join("svid.pem").exists());
    let Some(dir) = dir else { return Ok(None) };
    let (svid, bundles) = identity_from(&dir)?;
    match SystemClock.now() {
        Some(now) if now > svid.not_after() => Err(Failure::failed(
            format!("your login has ended at {}", svid.not_after()),
            format!("landfast login --server {address}; or remove {}", dir.display()),
        )),
        _ => Ok(Some((svid, bundles))),
    }
}

async fn remote(address: &str, globals: &Globals) -> Result<tonic::transport::Channel, Failure> {
    host_of(address)?;
    let kept = match &globals.identity_dir {
        Some(dir) => Some(identity_from(dir)?),
        None => logged_in(address)?,
    };
    let (identity, bundles) = match kept {
        Some(kept) => kept,
        None => {
            let mut client = workload(globals).await?;
            let context = client
                .fetch_x509()
                .await
                .map_err(|error| workload_failure(&error))?;
            let svid = context
                .svids
                .into_iter()
                .next()
                .ok_or_else(|| workload_failure(&ClientError::Closed))?;
            (svid, context.bundles)
        }
    };
    let trust_domain = identity.id().trust_domain().clone();
    let store = IdentityStore::new();
    store.set(Arc::new(identity));
    tls(address, &trust_domain, bundles, Some(store)).await
}

/// To a server that this bundle verifies, as nobody.
pub(crate) async fn stranger(address: &str, bundle: Bundle) -> Result<tonic::transport::Channel, Failure> {
    let trust_domain = bundle.trust_domain().clone();
    tls(address, &trust_domain, [bundle].into_iter().collect(), None).await
}

async fn tls(
    address: &str,
    trust_domain: &TrustDomain,
    bundles: BundleSet,
    identity: Option<IdentityStore>,
) -> Result<tonic::transport::Channel, Failure> {
    let host = host_of(address)?;
    let what = match identity {
        Some(_) => ", and this identity must be valid: landfast svid inspect FILE",
        None => "",
    };
    let expect = Expect::Exactly(SpiffeId::server(trust_domain));
    let config = client_config(expect, BundleStore::new(bundles), identity, Arc::new(SystemClock))
        .map_err(|error| Failure::failed(error_chain(&error), "please report this"))?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Failure::usage(format!("{address}: {error}"), "--server wants HOST:PORT"))?;
    let connect = async {
        let tcp = TcpStream::connect(address).await.map_err(|error| {
            Failure::not_ready(
                format!("cannot reach {address}: {error}"),
                "is the server running, and the port open?",
            )
        })?;
        TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|error| {
                let hint = format!(
                    "the server must be {} by the bundle{what}",
                    SpiffeId::server(trust_domain)
                );
                Failure::failed(
                    format!("no secure connection to {address}: {}", error_chain(&error)),
                    hint,
                )
            })
    };
    let stream = tokio::time::timeout(DEADLINE, connect)
        .await
        .map_err(|_elapsed| {
            Failure::not_ready(
                format!("{address} does not answer"),
                "is it the server's port? Is there a firewall between?",
            )
        })??;
    over(stream, address).await
}

pub(crate) fn host_of(address: &str) -> Result<&str, Failure> {
    let wrong = || {
        Failure::usage(
            format!("{address:?} is not HOST:PORT"),
            "for example landfast.plant.example:8081 or [2001:db8::1]:8081",
        )
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    if port.parse::<u16>().is_err() || host.is_empty() {
        return Err(wrong());
    }
    Ok(host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host))
}

fn identity_from(dir: &Path) -> Result<(X509Svid, BundleSet), Failure> {
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read_to_string(&path).map_err(|error| {
            Failure::failed(
                format!("cannot read {}: {error}", path.display()),
                "landfast svid fetch x509 --write DIR makes these files",
            )
        })
    };
    let broken = |name: &str, error: &dyn std::error::Error| {
        Failure::failed(
            format!("{}: {}", dir.join(name).display(), error_chain(error)),
            "landfast svid inspect FILE shows what it holds",
        )
    };
    let chain = parse_chain_pem(&read("svid.pem")?).map_err(|error| broken("svid.pem", &error))?;
    let key = PrivateKey::from_pem(&read("key.pem")?).map_err(|error| broken("key.pem", &error))?;
    let svid = X509Svid::new(chain, key).map_err(|error| broken("svid.pem", &error))?;
    let bundle = Bundle::from_pem(svid.id().trust_domain().clone(), &read("bundle.pem")?)
        .map_err(|error| broken("bundle.pem", &error))?;
    Ok((svid, [bundle].into_iter().collect()))
}

/// gRPC over one connection; a command does not outlive it.
pub(crate) async fn over<S>(stream: S, who: &str) -> Result<tonic::transport::Channel, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let once = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            stream
                .map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("the connection was lost"))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let connect = endpoint.connect_with_connector(connector);
    let lost = |why: String| Failure::not_ready(format!("{who}: {why}"), "is this the right socket or port?");
    match tokio::time::timeout(DEADLINE, connect).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(lost(error_chain(&error))),
        Err(_elapsed) => Err(lost("no answer in 30 s".to_owned())),
    }
}

const DEADLINE: Duration = Duration::from_secs(30);
