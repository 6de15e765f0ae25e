//! Whole servers on one PostgreSQL, below a server that is none of them: who verifies whom, and what goes on when one of them is gone.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod cluster;

use std::time::Duration;

use cluster::Cluster;
use landfast_identity::{BundleSet, SpiffeId, X509Svid, verify_x509_svid};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::spire::api::server::localauthority::v1 as authority;
use landfast_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use landfast_testkit::{NodeAgent, Plant, TRUST_DOMAIN};
use landfast_workload_api::client::X509Context;
use tonic::transport::Channel;

const TTL: &str = "[ttl]\nbackdate = \"1s\"";

/// Asks until the answer is there: servers that share a database wait for half a minute until all nodes know what is new.
async fn in_time<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut last = String::new();
    for _ in 0..1500 {
        match ask().await {
            Ok(there) => return there,
            Err(refused) => last = refused,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: never; last: {last}");
}

/// A server of the pair: an identity of its own at the parent, and the database that both have.
async fn one_of_two(parent: &Plant, agent: &NodeAgent, name: &str, database: &Cluster) -> Plant {
    let path = format!("/landfast/{name}");
    parent
        .entry_with(agent, &path, |entry| entry.downstream = true)
        .await;
    let (address, socket, table) = (parent.address(), agent.endpoint(), database.table());
    let id = format!("spiffe://{TRUST_DOMAIN}{path}");
    Plant::new(&format!(
        "{TTL}\n[upstream.spire]\nserver = \"{address}\"\nworkload_api = \"{socket}\"\nspiffe_id = \"{id}\"\n{table}"
    ))
    .await
}

/// The SVID for this path on that node, once `wanted` holds of it.
async fn svid(agent: &NodeAgent, path: &str, wanted: impl Fn(&X509Svid) -> bool) -> (X509Svid, BundleSet) {
    let id = SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}{path}")).unwrap();
    let mut client = agent.client().await;
    in_time(path, async || {
        let X509Context { svids, bundles } = client.fetch_x509().await.map_err(|e| e.to_string())?;
        let found = svids.into_iter().find(|svid| *svid.id() == id && wanted(svid));
        found
            .map(|svid| (svid, bundles))
            .ok_or_else(|| "not yet".to_owned())
    })
    .await
}

fn verifies(svid: &X509Svid, bundles: &BundleSet) -> bool {
    let chain: Vec<&[u8]> = svid.chain().iter().map(|link| link.as_der()).collect();
    verify_x509_svid(&chain, bundles, SystemClock.now().unwrap()).is_ok()
}

/// The key identifier of what signed the last certificate of the chain, in hex: that of the root.
fn top(svid: &X509Svid) -> String {
    let id = svid
        .chain()
        .last()
        .and_then(|top| top.authority_key_id())
        .unwrap();
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Prepares the next X.509 authority and activates it as soon as that is allowed; its ID, and that of the one before.
async fn rotate(admin: &mut LocalAuthorityClient<Channel>) -> (String, String) {
    let state = admin
        .get_x509_authority_state(authority::GetX509AuthorityStateRequest {})
        .await;
    let old = state.unwrap().into_inner().active.unwrap().authority_id;
    let next = admin
        .prepare_x509_authority(authority::PrepareX509AuthorityRequest {})
        .await;
    let next = next
        .unwrap()
        .into_inner()
        .prepared_authority
        .unwrap()
        .authority_id;
    in_time("the next authority signs", async || {
        let activate = authority::ActivateX509AuthorityRequest {
            authority_id: next.clone(),
        };
        let done = admin.activate_x509_authority(activate).await;
        done.map(|_| ()).map_err(|status| status.to_string())
    })
    .await;
    (next, old)
}

/// As [`one_of_two`] makes them, with a node each that knows both.
struct Site {
    root: Plant,
    above: NodeAgent,
    a: Plant,
    b: Plant,
    on_a: NodeAgent,
    on_b: NodeAgent,
    database: Cluster,
}

impl Site {
    async fn new() -> Self {
        let root = Plant::new(TTL).await;
        let above = root.agent("node", "").await;
        let database = Cluster::start();
        let a = one_of_two(&root, &above, "a", &database).await;
        let b = one_of_two(&root, &above, "b", &database).await;
        let servers = |first: &Plant, second: &Plant| {
            format!("server = [\"{}\", \"{}\"]", first.address(), second.address())
        };
        let on_a = a.agent("node-a", &servers(&a, &b)).await;
        let on_b = b.agent("node-b", &servers(&b, &a)).await;
        a.entry(&on_a, "/w/a", 3600).await;
        b.entry(&on_b, "/w/b", 3600).await;
        Self {
            root,
            above,
            a,
            b,
            on_a,
            on_b,
            database,
        }
    }

    async fn tear_down(self) {
        self.a.tear_down([self.on_a]).await;
        self.b.tear_down([self.on_b]).await;
        self.root.tear_down([self.above]).await;
        drop(self.database);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_of_one_database_below_another_are_verified_by_all_through_every_rotation() {
    let mut site = Site::new().await;
    let (a, bundles_a) = svid(&site.on_a, "/w/a", |_| true).await;
    let (b, bundles_b) = svid(&site.on_b, "/w/b", |_| true).await;
    for svid in [&a, &b] {
        assert_eq!(svid.chain().len(), 2, "the server's intermediate is in the chain");
        assert!(verifies(svid, &bundles_a) && verifies(svid, &bundles_b));
    }
    let issuer = |svid: &X509Svid| svid.chain()[1].as_der().to_vec();
    assert_ne!(issuer(&a), issuer(&b), "each has one of its own");

    // JWT keys of each are known to all, the server above among them.
    let audience = ["historian".to_owned()];
    site.root.entry(&site.above, "/w/root", 3600).await;
    for from in [&site.on_a, &site.on_b] {
        let mut client = from.client().await;
        let token = in_time("a token", async || {
            client.fetch_jwt(&audience, None).await.map_err(|e| e.to_string())
        })
        .await;
        for at in [&site.on_a, &site.on_b, &site.above] {
            let mut client = at.client().await;
            in_time("a token that is known", async || {
                let known = client.validate_jwt("historian", &token[0].token).await;
                known.map(|_| ()).map_err(|e| e.to_string())
            })
            .await;
        }
    }

    // Each rotates by itself; what it signs then is verified by the other's nodes.
    for (server, node, path) in [(&site.a, &site.on_a, "/w/a2"), (&site.b, &site.on_b, "/w/b2")] {
        rotate(&mut LocalAuthorityClient::new(server.admin().await)).await;
        server.entry(node, path, 3600).await;
        let (new, _) = svid(node, path, |_| true).await;
        assert!(issuer(&new) != issuer(&a) && issuer(&new) != issuer(&b));
        assert!(
            verifies(&new, &bundles_a) && verifies(&new, &bundles_b),
            "one root all the time"
        );
    }

    // The root above is rotated out: nodes of both servers get SVIDs under the next.
    let mut admin = LocalAuthorityClient::new(site.root.admin().await);
    let (next, old) = rotate(&mut admin).await;
    let taint = authority::TaintX509AuthorityRequest {
        authority_id: old.clone(),
    };
    admin.taint_x509_authority(taint).await.unwrap();
    for (node, path) in [(&site.on_a, "/w/a"), (&site.on_b, "/w/b")] {
        let (new, bundles) = svid(node, path, |svid| top(svid) == next).await;
        assert!(verifies(&new, &bundles));
    }
    let revoke = authority::RevokeX509AuthorityRequest { authority_id: old };
    admin.revoke_x509_authority(revoke).await.unwrap();
    for server in [&site.a, &site.b] {
        in_time("a bundle without the old root", async || {
            match server.handle().bundle().x509_authorities().len() {
                1 => Ok(()),
                more => Err(more.to_string()),
            }
        })
        .await;
    }
    let stored = "SELECT count(*) FROM upstream_authorities WHERE kind = 'x509'";
    assert_eq!(
        site.database.sql("landfast", stored).unwrap(),
        "1",
        "it is kept once"
    );

    // One of them is gone: its nodes have the other, whose SVIDs they verify as before.
    site.b.stop_server().await;
    site.a.entry(&site.on_b, "/w/late", 3600).await;
    let (late, bundles) = svid(&site.on_b, "/w/late", |_| true).await;
    assert!(verifies(&late, &bundles));
    assert_eq!(site.a.handle().upstream_trouble(), None);
    site.b.start_server().await.unwrap();
    assert_eq!(
        site.a.handle().bundle().x509_authorities(),
        site.b.handle().bundle().x509_authorities()
    );
    site.tear_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_above_is_gone_and_both_go_on_also_after_a_restart() {
    let mut site = Site::new().await;
    let (_, bundles) = svid(&site.on_a, "/w/a", |_| true).await;
    site.root.stop_server().await;
    site.b.stop_server().await;
    site.b.start_server().await.unwrap();
    for server in [&site.a, &site.b] {
        in_time("a complaint", async || {
            server
                .handle()
                .upstream_trouble()
                .map(|_| ())
                .ok_or_else(|| "none".to_owned())
        })
        .await;
    }
    for (server, node, path) in [(&site.a, &site.on_a, "/w/a2"), (&site.b, &site.on_b, "/w/b2")] {
        server.entry(node, path, 3600).await;
        let (new, _) = svid(node, path, |_| true).await;
        assert!(verifies(&new, &bundles));
    }
    site.root.start_server().await.unwrap();
    for server in [&site.a, &site.b] {
        in_time("no complaint", async || {
            server.handle().upstream_trouble().map_or(Ok(()), Err)
        })
        .await;
    }
    site.tear_down().await;
}
