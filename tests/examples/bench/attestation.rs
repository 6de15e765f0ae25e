//! What strangers cost who attest with chains made to be expensive (T-17), and what a node that works notices of it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::{PrivateKey, build_csr};
use landfast_proto::spire::api::server::agent::v1::{self as api, agent_client::AgentClient};
use landfast_proto::spire::api::server::svid::v1::{self as svid_api, svid_client::SvidClient};
use landfast_proto::spire::api::types;
use landfast_testkit::site::{Plan, Site};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::chart::Series;
use crate::node::{self, Node};
use crate::report::Report;
use crate::{BoxError, quantile};

pub(crate) async fn measure(bin: &Path, report: &mut Report) -> Result<(), BoxError> {
    let makers = Makers::new()?;
    let dir = tempfile::tempdir()?;
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, makers.root.pem())?;
    let tables = format!(
        "[attestation.x509pop]\nca_bundle = \"{}\"\n[limits]\nsignatures_per_second = 1000000",
        roots.display()
    );
    let site = Arc::new(Site::start(
        bin,
        &Plan {
            server_tables: &tables,
            ..Plan::default()
        },
    ));
    report.note(&format!(
        "{STRANGERS} strangers with addresses of their own, {} handshakes a second together, for {} s each; the maker's key is P-384",
        STRANGERS * RATE,
        LOAD.as_secs()
    ));
    let node = Node::enrol(&site).await?;
    let request = node.requests(&site, 1).await?;
    let (first, _) = honest(&site, &node, &request).await?;
    report.add(
        "a node reconnects and gets an SVID: p50, nobody else",
        "ms",
        first.p50,
    );
    report.add(
        "a node reconnects and gets an SVID: p99, nobody else",
        "ms",
        first.p99,
    );
    let mut charted = [Series::new("p50"), Series::new("p99")];
    charted[0].push("nobody", first.p50);
    charted[1].push("nobody", first.p99);
    for (name, chain) in makers.chains()? {
        let refused = Arc::new(AtomicU64::new(0));
        let cpu = site.server.cpu();
        let ((timed, own), ()) = {
            let (honest, flood) =
                tokio::join!(honest(&site, &node, &request), flood(&site, &chain, &refused));
            (honest?, flood)
        };
        let used = (site.server.cpu() - cpu).as_secs_f64() * 1e3 - own * first.cost;
        let count = refused.load(Ordering::Relaxed);
        report.add(&format!("{name}: refused"), "", count as f64);
        report.add(
            &format!("{name}: the server's CPU for each, with its handshake (aim <= 50)"),
            "ms",
            used / count as f64,
        );
        report.add(&format!("{name}: a node's p50 meanwhile"), "ms", timed.p50);
        report.add(&format!("{name}: a node's p99 meanwhile"), "ms", timed.p99);
        report.add(
            &format!("{name}: a node's p99, share of that alone (aim <= 2)"),
            "x",
            timed.p99 / first.p99,
        );
        charted[0].push(name, timed.p50);
        charted[1].push(name, timed.p99);
    }
    report.chart(
        "attestation",
        "A node reconnects and gets an SVID while strangers attest",
        "the chain they show",
        "ms",
        &charted,
    )
}

/// Milliseconds.
#[derive(Clone, Copy)]
struct Timed {
    p50: f64,
    p99: f64,
    /// The server's CPU for each, when nobody else asks.
    cost: f64,
}

/// One after the other for [`LOAD`]: a new connection, both certificates checked, one SVID. And how many.
async fn honest(
    site: &Site,
    node: &Node,
    request: &[svid_api::NewX509svidParams],
) -> Result<(Timed, f64), BoxError> {
    let (end, cpu) = (Instant::now() + LOAD, site.server.cpu());
    let mut samples = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        let channel = node::dial(site, Ipv4Addr::LOCALHOST, Some(node.identity.clone())).await?;
        let request = svid_api::BatchNewX509svidRequest {
            params: request.to_vec(),
        };
        let answer = SvidClient::new(channel).batch_new_x509svid(request).await?;
        if answer
            .into_inner()
            .results
            .iter()
            .any(|result| result.svid.is_none())
        {
            return Err("an SVID was refused".into());
        }
        samples.push(begin.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let count = samples.len() as f64;
    let timed = Timed {
        p50: quantile(&mut samples, 0.5),
        p99: quantile(&mut samples, 0.99),
        cost: (site.server.cpu() - cpu).as_secs_f64() * 1e3 / count,
    };
    Ok((timed, count))
}

/// [`STRANGERS`] that each shake hands and attest [`RATE`] times a second for [`LOAD`].
async fn flood(site: &Arc<Site>, chain: &[Vec<u8>], refused: &Arc<AtomicU64>) {
    let certificates: Vec<_> = chain.iter().map(|der| BASE64.encode(der)).collect();
    let payload = serde_json::json!({ "certificates": certificates }).to_string();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..STRANGERS {
        let (site, payload, refused) = (Arc::clone(site), payload.clone(), Arc::clone(refused));
        tasks.spawn(async move {
            let end = Instant::now() + LOAD;
            let from = Ipv4Addr::new(127, 0, 1, u8::try_from(n + 1).unwrap_or(u8::MAX));
            let mut turn = tokio::time::interval(Duration::from_secs(1) / u32::from(RATE));
            while Instant::now() < end {
                turn.tick().await;
                if attest(&site, from, &payload).await.is_ok() {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// One attempt, which must be refused for what it shows and not for how often it is made.
async fn attest(site: &Site, from: Ipv4Addr, payload: &str) -> Result<(), BoxError> {
    let params = api::attest_agent_request::Params {
        data: Some(types::AttestationData {
            r#type: "x509pop".to_owned(),
            payload: payload.as_bytes().to_vec().into(),
        }),
        params: Some(api::AgentX509svidParams {
            csr: build_csr(&PrivateKey::generate()?, None, &[])?.into(),
        }),
    };
    let request = api::AttestAgentRequest {
        step: Some(api::attest_agent_request::Step::Params(params)),
    };
    let channel = node::dial(site, from, None).await?;
    let answered = AgentClient::new(channel)
        .attest_agent(tokio_stream::once(request))
        .await;
    let refusal = match answered {
        Ok(stream) => stream.into_inner().message().await.err(),
        Err(status) => Some(status),
    };
    match refusal {
        Some(status) if status.message().starts_with("failed to attest: ") => Ok(()),
        other => Err(format!("not a refusal of the chain: {other:?}").into()),
    }
}

/// What it is, and the chain in DER.
type Hostile = (&'static str, Vec<Vec<u8>>);

/// A maker of devices, and who would like to be one.
struct Makers {
    root: rcgen::Certificate,
    evil: KeyPair,
}

impl Makers {
    fn new() -> Result<Self, BoxError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
        Ok(Self {
            root: authority().self_signed(&key)?,
            evil: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        })
    }

    /// As expensive as a stranger can make them, and what is refused unread.
    fn chains(&self) -> Result<Vec<Hostile>, BoxError> {
        let name = authority();
        let issuer = Issuer::from_params(&name, &self.evil);
        let signed = |params: &CertificateParams| {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
            Ok::<_, BoxError>(params.signed_by(&key, &issuer)?.der().to_vec())
        };
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name.push(DnType::CommonName, "device");
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let mut chain = vec![signed(&leaf)?];
        for _ in 0..100 {
            chain.push(signed(&authority())?);
        }
        let giant = leaf.signed_by(&Giant(giant()), &issuer)?.der().to_vec();
        Ok(vec![
            ("leaf and 4 that name the maker", chain[..5].to_vec()),
            ("leaf alone", chain[..1].to_vec()),
            ("100 intermediates", chain),
            ("RSA of 16,384 bits", vec![giant]),
        ])
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Maker of devices");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// RSAPublicKey of 16,384 bits and a small exponent: expensive to verify with, if one did.
fn giant() -> Vec<u8> {
    let mut modulus = vec![0xa5; 2049];
    modulus[0] = 0;
    let integer = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[0x02, 0x82][..], &length, bytes].concat()
    };
    let body = [integer(&modulus), vec![0x02, 0x03, 0x01, 0x00, 0x01]].concat();
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[0x30, 0x82][..], &length, &body].concat()
}

struct Giant(Vec<u8>);

impl rcgen::PublicKeyData for Giant {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

const STRANGERS: u16 = 50;
/// As many as the server lets one address have.
const RATE: u16 = 10;
const LOAD: Duration = Duration::from_secs(10);
