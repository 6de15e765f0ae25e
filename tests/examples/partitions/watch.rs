//! What one agent serves: SVIDs, bundles, its status.

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfast_proto::landfast::agent::v1::{GetStatusRequest, agent_admin_client::AgentAdminClient};
use landfast_testkit::unix_channel;
use serde_json::{Value, json};
use spiffe::{BundleSource as _, TrustDomain, WorkloadApiClient, X509BundleSet, X509Context};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::X509Certificate;

use crate::{BoxError, say};

/// Each message of the stream, whole; and each end of a stream.
pub(crate) async fn svids(agent: String, socket: PathBuf) {
    loop {
        let ended = follow_svids(&agent, &socket).await.err();
        say(
            "ended",
            json!({"agent": agent, "stream": "svids", "why": text(ended.as_ref())}),
        );
        sleep(PAUSE).await;
    }
}

async fn follow_svids(agent: &str, socket: &Path) -> Result<(), BoxError> {
    let client = WorkloadApiClient::connect_to(endpoint(socket)).await?;
    let mut stream = client.stream_x509_contexts().await?;
    while let Some(context) = stream.next().await {
        let mut seen = context_json(&context?)?;
        seen["agent"] = json!(agent);
        say("svids", seen);
    }
    Ok(())
}

/// The same of the bundles alone: they are there also while no SVID is.
pub(crate) async fn bundles(agent: String, socket: PathBuf) {
    loop {
        let ended = follow_bundles(&agent, &socket).await.err();
        say(
            "ended",
            json!({"agent": agent, "stream": "bundles", "why": text(ended.as_ref())}),
        );
        sleep(PAUSE).await;
    }
}

async fn follow_bundles(agent: &str, socket: &Path) -> Result<(), BoxError> {
    let client = WorkloadApiClient::connect_to(endpoint(socket)).await?;
    let mut stream = client.stream_x509_bundles().await?;
    while let Some(set) = stream.next().await {
        say("bundle", json!({"agent": agent, "bundle": authorities(&set?)?}));
    }
    Ok(())
}

/// Several times a second, what `landfast agent status` shows.
pub(crate) async fn status(agent: String, socket: PathBuf) {
    loop {
        // An admin socket that does not answer shows in the rig's waiting, not here.
        if let Ok(Err(_) | Ok(())) = timeout(PATIENCE, follow_status(&agent, &socket)).await {
            sleep(PAUSE).await;
        }
    }
}

async fn follow_status(agent: &str, socket: &Path) -> Result<(), BoxError> {
    let mut client = AgentAdminClient::new(unix_channel(socket).await?);
    loop {
        let status = client.get_status(GetStatusRequest {}).await?.into_inner();
        let revision = status.newest_revision.split_once('.');
        let revision =
            revision.and_then(|(epoch, number)| Some([epoch.parse::<u64>().ok()?, number.parse().ok()?]));
        let seen = json!({
            "revision": revision, "subscribed": status.subscribed_since != 0,
            "agent": agent, "state": status.state, "reachable": status.server_reachable, "server": status.server_address,
            "last_sync": status.last_sync, "error": status.last_error,
        });
        say("status", seen);
        sleep(OFTEN).await;
    }
}

fn context_json(context: &X509Context) -> Result<Value, BoxError> {
    let svids = context.svids().iter().map(|svid| {
        let (_, leaf) = x509_parser::parse_x509_certificate(svid.leaf().as_bytes())?;
        Ok::<_, BoxError>(json!({
            "id": svid.spiffe_id().to_string(), "serial": leaf.raw_serial_as_string(), "authority": authority_key(&leaf),
            "not_before": leaf.validity().not_before.timestamp(), "not_after": leaf.validity().not_after.timestamp(),
        }))
    });
    let svids = svids.collect::<Result<Vec<_>, _>>()?;
    let domain = context
        .svids()
        .first()
        .ok_or("no SVID in the message")?
        .spiffe_id()
        .trust_domain();
    Ok(json!({"svids": svids, "bundle": of(domain, context.bundle_set())?}))
}

fn authorities(set: &X509BundleSet) -> Result<Vec<String>, BoxError> {
    of(&TrustDomain::new(landfast_testkit::TRUST_DOMAIN)?, set)
}

/// The key IDs of a bundle's authorities.
fn of(domain: &TrustDomain, set: &X509BundleSet) -> Result<Vec<String>, BoxError> {
    let bundle = set
        .bundle_for_trust_domain(domain)?
        .ok_or("no bundle of the trust domain")?;
    let keys = bundle.authorities().iter().map(|authority| {
        let (_, certificate) = x509_parser::parse_x509_certificate(authority.as_bytes())?;
        Ok::<_, BoxError>(subject_key(&certificate))
    });
    keys.collect()
}

fn subject_key(certificate: &X509Certificate<'_>) -> String {
    let key = certificate
        .extensions()
        .iter()
        .find_map(|one| match one.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => Some(hex(key.0)),
            _ => None,
        });
    key.unwrap_or_default()
}

fn authority_key(certificate: &X509Certificate<'_>) -> String {
    let key = certificate
        .extensions()
        .iter()
        .find_map(|one| match one.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref().map(|key| hex(key.0)),
            _ => None,
        });
    key.unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn endpoint(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

fn text(error: Option<&BoxError>) -> String {
    error.map_or_else(String::new, ToString::to_string)
}

const OFTEN: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(100);
/// For one connection to the admin socket, after which there is a new one: a call that hangs is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);
