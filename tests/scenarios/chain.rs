//! A node that sleeps while the authorities change, and comes back by itself: it walks the bundle chain.

use std::path::Path;
use std::sync::Arc;

use landfast_identity::chain::SignedStep;
use landfast_identity::{Bundle, BundleSet, SpiffeId};
use landfast_lifecycle::SystemClock;
use landfast_proto::landfast::chain::v1::{GetStepsRequest, chain_client::ChainClient};
use landfast_proto::spire::api::server::localauthority::v1::{
    self as api, local_authority_client::LocalAuthorityClient,
};
use landfast_testkit::{NodeAgent, Plant, eventually};
use landfast_tls::{BundleStore, Expect, client_config};
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

const WITH_ROOT_KEY: &str = "[root_key]";

/// What becomes of the authority before: what it signed is replaced, and then refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    Tainted,
    Revoked,
}

/// The next authority signs from now on.
async fn rotate(orders: &mut LocalAuthorityClient<Channel>, old_is: Old) {
    let request = api::GetX509AuthorityStateRequest {};
    let state = orders
        .get_x509_authority_state(request)
        .await
        .unwrap()
        .into_inner();
    let old = state.active.unwrap().authority_id;
    let request = api::PrepareX509AuthorityRequest {};
    let next = orders.prepare_x509_authority(request).await.unwrap().into_inner();
    let request = api::ActivateX509AuthorityRequest {
        authority_id: next.prepared_authority.unwrap().authority_id,
    };
    orders.activate_x509_authority(request).await.unwrap();
    let request = api::TaintX509AuthorityRequest {
        authority_id: old.clone(),
    };
    orders.taint_x509_authority(request).await.unwrap();
    if old_is == Old::Revoked {
        let request = api::RevokeX509AuthorityRequest { authority_id: old };
        orders.revoke_x509_authority(request).await.unwrap();
    }
}

async fn is_pinned(agent: &NodeAgent) {
    eventually("the pinned root key", async || {
        let chain = agent.status().await.bundle_chain;
        chain.contains("pinned at step").then_some(()).ok_or(chain)
    })
    .await;
}

/// That the newest step has the authorities of now, and how many there are.
async fn steps_follow(plant: &Plant) -> usize {
    eventually("the step of the last change", async || {
        let request = GetStepsRequest {
            epoch: 1,
            sequence: 0,
        };
        let steps = ChainClient::new(plant.admin().await).get_steps(request).await;
        let steps = steps.map_err(|status| status.to_string())?.into_inner().steps;
        let newest = steps.last().map(|step| SignedStep::from_bytes(step).unwrap());
        let newest = newest.ok_or("none yet")?;
        let same = newest.step().bundle.x509_authorities() == plant.handle().bundle().x509_authorities();
        same.then_some(steps.len())
            .ok_or_else(|| "an older one".to_owned())
    })
    .await
}

/// Whether a node with this bundle finds its server.
async fn is_known(plant: &Plant, bundle: &Bundle) -> bool {
    let expect = Expect::Exactly(SpiffeId::server(bundle.trust_domain()));
    let bundles = BundleStore::new(BundleSet::from_iter([bundle.clone()]));
    let tls = client_config(expect, bundles, None, Arc::new(SystemClock)).unwrap();
    let tcp = tokio::net::TcpStream::connect(plant.address()).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("server.invalid").unwrap();
    TlsConnector::from(tls).connect(name, tcp).await.is_ok()
}

/// Changes the authorities thrice, until whoever has slept meanwhile does not know the server.
async fn rotate_thrice(plant: &Plant, old: Old) {
    let before = (*plant.handle().bundle()).clone();
    assert!(is_known(plant, &before).await);
    let mut orders = LocalAuthorityClient::new(plant.admin().await);
    for _ in 0..3 {
        rotate(&mut orders, old).await;
    }
    eventually("a server that is a stranger", async || {
        let known = is_known(plant, &before).await;
        (!known).then_some(()).ok_or("known still")
    })
    .await;
}

/// A node asleep, behind a server that has changed its authorities thrice.
async fn asleep(server_toml: &str) -> (Plant, NodeAgent) {
    let plant = Plant::new(server_toml).await;
    let mut agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    if server_toml == WITH_ROOT_KEY {
        is_pinned(&agent).await;
    }
    agent.stop().await;
    rotate_thrice(&plant, Old::Tainted).await;
    (plant, agent)
}

async fn is_back(plant: &Plant, agent: &NodeAgent) {
    eventually("the node in step with its server", async || {
        let status = agent.status().await;
        (status.state == "serving").then_some(()).ok_or(status)
    })
    .await;
    // What it holds now is of today.
    plant.entry(agent, "/line4/historian", 3600).await;
    let mut client = agent.client().await;
    eventually("both identities", async || match client.fetch_x509().await {
        Ok(context) if context.svids.len() == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_sleeps_through_three_rotations_and_comes_back_by_itself() {
    let (plant, mut agent) = asleep(WITH_ROOT_KEY).await;
    assert!(steps_follow(&plant).await >= 2);
    agent.start().await.unwrap();
    is_back(&plant, &agent).await;
    plant.tear_down([agent]).await;
}

/// Its own SVID is of an authority that is gone as well: it proves anew what it is, once it knows to whom.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_knows_any_more_comes_back_by_its_device_certificate() {
    let devices = tempfile::tempdir().unwrap();
    let device = device(devices.path());
    let roots = devices.path().join("roots.pem");
    let toml = format!(
        "{WITH_ROOT_KEY}\n[attestation.x509pop]\nca_bundle = \"{}\"",
        roots.display()
    );
    let plant = Plant::new(&toml).await;
    let mut agent = plant.agent_with("node", "", "token");
    agent.reconfigure("method = \"join_token\"\ntoken = \"token\"", &device);
    agent.start().await.unwrap();
    agent.id = eventually("the node", async || match agent.status().await.agent_id {
        id if id.is_empty() => Err("not attested"),
        id => Ok(id),
    })
    .await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    is_pinned(&agent).await;
    agent.stop().await;
    rotate_thrice(&plant, Old::Revoked).await;
    agent.start().await.unwrap();
    is_back(&plant, &agent).await;
    plant.tear_down([agent]).await;
}

/// A device certificate and its root in this folder; the agent's `[attestation]` for it.
fn device(dir: &Path) -> String {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(params, &authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let leaf = params.signed_by(&key, &issuer).unwrap();
    for (name, text) in [
        ("roots.pem", root.pem()),
        ("device.pem", leaf.pem()),
        ("device.key", key.serialize_pem()),
    ] {
        let mut file = std::fs::File::create(dir.join(name)).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(mode).unwrap();
    }
    format!(
        "method = \"x509pop\"\ncertificate = \"{0}/device.pem\"\nprivate_key = \"{0}/device.key\"",
        dir.display()
    )
}

/// The same without a root key: today, and with SPIRE.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_root_key_such_a_node_waits_for_somebody_to_bring_the_bundle() {
    let (plant, mut agent) = asleep("").await;
    agent.start().await.unwrap();
    eventually("what it is told to do", async || {
        let status = agent.status().await;
        let told = status
            .last_error
            .contains("put the present bundle into trust_bundle");
        told.then_some(()).ok_or(status.last_error)
    })
    .await;
    assert_ne!(agent.status().await.state, "serving");
    plant.tear_down([agent]).await;
}
