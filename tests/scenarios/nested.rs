//! Servers below servers, and below an offline root: who verifies whom, and what goes on when what is above is gone.

use std::time::Duration;

use landfast_identity::{BundleSet, SpiffeId, UnixTime, X509Svid, verify_x509_svid};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::spire::api::server::localauthority::v1 as authority;
use landfast_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use landfast_testkit::{NodeAgent, Plant, TRUST_DOMAIN, eventually};
use landfast_workload_api::client::{WorkloadClient, X509Context};

const TTL: &str = "[ttl]\nbackdate = \"1s\"";

/// A server that has its identity at `parent` by its agent there.
fn below(parent: &Plant, agent: &NodeAgent, path: &str) -> String {
    format!(
        "{TTL}\n[upstream.spire]\nserver = \"{}\"\nworkload_api = \"{}\"\nspiffe_id = \"spiffe://{TRUST_DOMAIN}{path}\"",
        parent.address(),
        agent.endpoint()
    )
}

async fn downstream(parent: &Plant, agent: &NodeAgent, path: &str) -> String {
    parent
        .entry_with(agent, path, |entry| entry.downstream = true)
        .await
}

/// One level: a server, its node, a workload there.
struct Level {
    plant: Plant,
    agent: NodeAgent,
    workload: &'static str,
}

impl Level {
    async fn new(plant: Plant, workload: &'static str) -> Self {
        let agent = plant.agent("node", "").await;
        plant.entry(&agent, workload, 3600).await;
        Self {
            plant,
            agent,
            workload,
        }
    }

    fn id(&self) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}{}", self.workload)).unwrap()
    }

    /// The workload's SVID, once `wanted` holds of it.
    async fn svid(&self, what: &str, wanted: impl Fn(&X509Svid) -> bool) -> (X509Svid, BundleSet) {
        let (mut client, id) = (self.agent.client().await, self.id());
        eventually(what, async || {
            let X509Context { svids, bundles } = client.fetch_x509().await.map_err(|e| e.to_string())?;
            let found = svids.into_iter().find(|svid| *svid.id() == id && wanted(svid));
            found
                .map(|svid| (svid, bundles))
                .ok_or_else(|| "not yet".to_owned())
        })
        .await
    }

    async fn tear_down(self) {
        self.plant.tear_down([self.agent]).await;
    }
}

/// Root, middle and leaf.
async fn three() -> [Level; 3] {
    let root = Level::new(Plant::new(TTL).await, "/w/root").await;
    downstream(&root.plant, &root.agent, "/landfast/middle").await;
    let middle = Plant::new(&below(&root.plant, &root.agent, "/landfast/middle")).await;
    let middle = Level::new(middle, "/w/middle").await;
    downstream(&middle.plant, &middle.agent, "/landfast/leaf").await;
    let leaf = Plant::new(&below(&middle.plant, &middle.agent, "/landfast/leaf")).await;
    [root, middle, Level::new(leaf, "/w/leaf").await]
}

fn now() -> UnixTime {
    SystemClock.now().unwrap()
}

fn verify(svid: &X509Svid, bundles: &BundleSet) -> Result<SpiffeId, String> {
    let chain: Vec<&[u8]> = svid.chain().iter().map(|link| link.as_der()).collect();
    let verified = verify_x509_svid(&chain, bundles, now());
    verified.map(|peer| peer.id).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_of_three_levels_verify_each_other() {
    let levels = three().await;
    let mut held = Vec::new();
    for (depth, level) in levels.iter().enumerate() {
        let (svid, bundles) = level.svid("an SVID", |_| true).await;
        assert_eq!(
            svid.chain().len(),
            1 + depth,
            "each server between is in the chain"
        );
        held.push((svid, bundles));
    }
    let roots: Vec<_> = held
        .iter()
        .map(|(svid, bundles)| bundles.get(svid.id().trust_domain()).unwrap().to_pem())
        .collect();
    assert_eq!((&roots[0], &roots[0]), (&roots[1], &roots[2]), "one root for all");
    for (svid, _) in &held {
        for (_, bundles) in &held {
            assert_eq!(verify(svid, bundles), Ok(svid.id().clone()));
        }
    }
    let audience = ["historian".to_owned()];
    for from in &levels {
        let mut client = from.agent.client().await;
        let id = from.id();
        let token = eventually("a token", async || client.fetch_jwt(&audience, Some(&id)).await).await;
        for to in &levels {
            let mut client: WorkloadClient = to.agent.client().await;
            let what = format!("a token of {} at {}", from.workload, to.workload);
            let valid = eventually(&what, async || {
                client.validate_jwt("historian", &token[0].token).await
            })
            .await;
            assert_eq!(valid.id, id);
        }
    }
    for level in &levels {
        assert_eq!(level.plant.handle().upstream_trouble(), None);
    }
    for level in levels {
        level.tear_down().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_rotated_out_is_rotated_out_of_every_level() {
    let levels = three().await;
    let mut admin = LocalAuthorityClient::new(levels[0].plant.admin().await);
    let old = admin
        .get_x509_authority_state(authority::GetX509AuthorityStateRequest {})
        .await;
    let old = old.unwrap().into_inner().active.unwrap().authority_id;
    let next = admin
        .prepare_x509_authority(authority::PrepareX509AuthorityRequest {})
        .await;
    let next = next
        .unwrap()
        .into_inner()
        .prepared_authority
        .unwrap()
        .authority_id;
    let activate = authority::ActivateX509AuthorityRequest {
        authority_id: next.clone(),
    };
    admin.activate_x509_authority(activate).await.unwrap();
    let taint = authority::TaintX509AuthorityRequest {
        authority_id: old.clone(),
    };
    admin.taint_x509_authority(taint).await.unwrap();
    let top = |svid: &X509Svid| {
        let id = svid
            .chain()
            .last()
            .and_then(|top| top.authority_key_id())
            .unwrap();
        id.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for level in &levels {
        let (svid, bundles) = level
            .svid("an SVID under the new root", |svid| top(svid) == next)
            .await;
        assert_eq!(verify(&svid, &bundles), Ok(level.id()));
    }
    let revoke = authority::RevokeX509AuthorityRequest {
        authority_id: old.clone(),
    };
    admin.revoke_x509_authority(revoke).await.unwrap();
    for level in &levels {
        eventually("a bundle without the old root", async || {
            match level.plant.handle().bundle().x509_authorities().len() {
                1 => Ok(()),
                more => Err(more),
            }
        })
        .await;
    }
    for level in levels {
        level.tear_down().await;
    }
}

/// The parent is gone and the server starts again: what it has is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_below_starts_again_without_its_parent_and_says_so() {
    let mut root = Level::new(Plant::new(TTL).await, "/w/root").await;
    let entry = downstream(&root.plant, &root.agent, "/landfast/middle").await;
    let plant = Plant::new(&below(&root.plant, &root.agent, "/landfast/middle")).await;
    let mut middle = Level::new(plant, "/w/middle").await;
    let trouble = async |middle: &Level, word: &str| {
        let what = format!("a complaint of {word:?}");
        eventually(&what, async || match middle.plant.handle().upstream_trouble() {
            Some(text) if text.contains(word) => Ok(()),
            other => Err(other),
        })
        .await;
    };
    root.plant.stop_server().await;
    middle.plant.stop_server().await;
    middle.plant.start_server().await.unwrap();
    trouble(&middle, "no connection to the parent server").await;
    middle.plant.entry(&middle.agent, "/w/late", 3600).await;
    middle.svid("an SVID all the same", |_| true).await;

    // There again, but the entry is no longer one of a server below.
    root.plant.start_server().await.unwrap();
    eventually("no complaint", async || {
        match middle.plant.handle().upstream_trouble() {
            None => Ok(()),
            Some(text) => Err(text),
        }
    })
    .await;
    root.plant.delete_entry(&entry).await;
    root.plant.entry(&root.agent, "/landfast/middle", 3600).await;
    let mut admin = LocalAuthorityClient::new(middle.plant.admin().await);
    eventually("a refusal of the parent", async || {
        let asked = admin
            .prepare_x509_authority(authority::PrepareX509AuthorityRequest {})
            .await;
        match asked {
            Err(status) if status.message().contains("set `downstream` in its entry there") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    trouble(&middle, "set `downstream`").await;
    middle.svid("an SVID all the same", |_| true).await;
    middle.tear_down().await;
    root.tear_down().await;
}

/// The first start waits for what it cannot do without, and goes on when it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_waits_until_the_parent_lets_it() {
    let root = Level::new(Plant::new(TTL).await, "/w/root").await;
    let refused = root.plant.entry(&root.agent, "/landfast/middle", 3600).await;
    root.svid("the agent has what it will have", |_| true).await;
    let config = below(&root.plant, &root.agent, "/landfast/middle");
    let mut start = std::pin::pin!(Plant::new(&config));
    let before = async {
        // Long enough for an attempt: it must not have come up by then, and is not waited for if it is slow.
        tokio::time::sleep(Duration::from_millis(1500)).await;
    };
    tokio::select! {
        _ = &mut start => panic!("a server that is not one below has started"),
        () = before => {}
    }
    root.plant.delete_entry(&refused).await;
    downstream(&root.plant, &root.agent, "/landfast/middle").await;
    let middle = Level::new(start.await, "/w/middle").await;
    let (svid, bundles) = middle.svid("an SVID", |_| true).await;
    assert_eq!(verify(&svid, &bundles), Ok(middle.id()));
    middle.tear_down().await;
    root.tear_down().await;
}
