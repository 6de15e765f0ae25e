//! One key that wants to redeem one token, through all servers at once.
//!
//! Invariant: each attempt is written down with its end, whether it was answered or not.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfast_identity::{Bundle, BundleSet, Certificate, PrivateKey, SpiffeId, TrustDomain, build_csr};
use landfast_proto::spire::api::server::agent::v1::{self as api, agent_client::AgentClient};
use landfast_proto::spire::api::types;
use landfast_testkit::TRUST_DOMAIN;
use landfast_tls::{BundleStore, Expect, client_config};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::{BoxError, now, say};

/// `TOKEN KEY SECONDS NAME=ADDRESS...`: attempts through each server, until each has an answer or the time is over.
pub(crate) fn begin(words: &[String], bundle: &Path) -> Result<(), BoxError> {
    let (token, key) = (words[0].clone(), words[1].clone());
    let seconds = words[2].parse()?;
    let csr = csr_of(&token, &key)?;
    let roots = std::fs::read_to_string(bundle)?;
    for server in &words[3..] {
        let (name, address) = server.split_once('=').ok_or("not NAME=ADDRESS")?;
        let attempt = Attempt {
            token: token.clone(),
            key: key.clone(),
            server: name.to_owned(),
            address: address.to_owned(),
            csr: csr.clone(),
            roots: roots.clone(),
        };
        tokio::spawn(attempt.insist(Duration::from_secs(seconds)));
    }
    Ok(())
}

struct Attempt {
    token: String,
    key: String,
    server: String,
    address: String,
    csr: Vec<u8>,
    roots: String,
}

impl Attempt {
    async fn insist(self, long: Duration) {
        let end = Instant::now() + long;
        loop {
            let begun = now();
            let (result, what) = match timeout(PATIENCE, self.once()).await {
                Ok(Ok(serial)) => ("ok".to_owned(), serial),
                Ok(Err(error)) => match error.downcast_ref::<tonic::Status>() {
                    Some(status) => (format!("{:?}", status.code()), status.message().to_owned()),
                    None => ("unreached".to_owned(), error.to_string()),
                },
                Err(_elapsed) => ("unanswered".to_owned(), String::new()),
            };
            let last = is_final(&result) || Instant::now() > end;
            say(
                "redeem",
                json!({
                    "token": self.token, "key": self.key, "server": self.server, "begun": begun, "result": result, "what": what,
                    "last": last,
                }),
            );
            if last {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// The serial number of the SVID.
    async fn once(&self) -> Result<String, BoxError> {
        let params = api::attest_agent_request::Params {
            data: Some(types::AttestationData {
                r#type: "join_token".to_owned(),
                payload: self.token.clone().into_bytes().into(),
            }),
            params: Some(api::AgentX509svidParams {
                csr: self.csr.clone().into(),
            }),
        };
        let request = api::AttestAgentRequest {
            step: Some(api::attest_agent_request::Step::Params(params)),
        };
        let mut answers = AgentClient::new(self.dial().await?)
            .attest_agent(tokio_stream::once(request))
            .await?
            .into_inner();
        let answer = answers.message().await?.and_then(|answer| answer.step);
        let Some(api::attest_agent_response::Step::Result(result)) = answer else {
            return Err("neither an SVID nor a refusal".into());
        };
        let chain = result.svid.unwrap_or_default().cert_chain;
        let leaf = Certificate::from_der(chain.first().ok_or("an SVID without a certificate")?)?;
        Ok(leaf.serial_hex())
    }

    async fn dial(&self) -> Result<Channel, BoxError> {
        let domain = TrustDomain::parse(TRUST_DOMAIN)?;
        let bundles = BundleStore::new(BundleSet::from_iter([Bundle::from_pem(
            domain.clone(),
            &self.roots,
        )?]));
        let expect = Expect::Exactly(SpiffeId::server(&domain));
        let config = client_config(expect, bundles, None, Arc::new(landfast_lifecycle::SystemClock))?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let address = self.address.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let (connector, address) = (connector.clone(), address.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                let name = rustls::pki_types::ServerName::try_from("landfast.invalid")
                    .map_err(std::io::Error::other)?;
                connector.connect(name, tcp).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://landfast.invalid");
        Ok(endpoint.connect_with_connector(connector).await?)
    }
}

/// The same key for the same name of it, also in a later command: an attempt after a lost answer is by the same node.
fn csr_of(token: &str, key: &str) -> Result<Vec<u8>, BoxError> {
    static MADE: LazyLock<Mutex<HashMap<String, Vec<u8>>>> = LazyLock::new(Mutex::default);
    let name = format!("{token}/{key}");
    let mut made = MADE.lock().map_err(|_poisoned| "a task has panicked")?;
    if let Some(csr) = made.get(&name) {
        return Ok(csr.clone());
    }
    let csr = build_csr(&PrivateKey::generate()?, None, &[])?;
    made.insert(name, csr.clone());
    Ok(csr)
}

/// What will not be otherwise the next time. A full or unreachable datastore is `Unavailable`, `Internal` or `ResourceExhausted`.
fn is_final(result: &str) -> bool {
    let refused = [
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::NotFound,
        Code::Unauthenticated,
    ];
    result == "ok" || refused.iter().any(|code| format!("{code:?}") == result)
}

const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(300);
