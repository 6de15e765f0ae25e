//! What every release before has stored and said is still read and answered: `tests/compat` has a folder of each.

mod again;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfast_agent::AgentConfig;
use landfast_identity::TrustDomain;
use landfast_identity::chain::{SignedStep, Walked, Walker};
use landfast_server::ServerConfig;
use landfast_testkit::stored::{Stored, agent_at, server_at};
use landfast_testkit::{NodeAgent, Plant, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// Each release's.
fn releases() -> Vec<Stored> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    let folders = fs::read_dir(&all).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.filter(|path| path.join("made.json").exists()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "{} holds no release", all.display());
    folders.iter().map(|path| Stored::open(path)).collect()
}

/// With everything that was stored, and the present server's start.
async fn started(release: &Stored, later: Duration) -> Plant {
    let mut plant = release.plant();
    let parts = server_at(&release.clock(later));
    plant.start_server_with(parts).await.unwrap_or_else(|why| panic!("{}: {why}", release.dir().display()));
    plant
}

fn files(agent: &NodeAgent) -> Vec<String> {
    let files = fs::read_dir(agent.data()).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_serves_without_a_server_what_an_older_one_has_stored() {
    for release in releases() {
        let plant = release.empty_plant();
        let mut node = release.agent(&plant, "node");
        let mut serials = Vec::new();
        // An hour and a half later it is the turn of the reserve.
        for later in [MINUTE, 90 * MINUTE] {
            let clock = release.clock(later);
            node.start_with(agent_at(&clock)).await.unwrap();
            let status = node.status().await;
            assert_eq!(status.agent_id, node.id);
            let now = landfast_lifecycle::Clock::now(&clock).unwrap().as_secs();
            let path = format!("spiffe://{}{}", release.text("trust_domain"), release.text("path"));
            assert_eq!(status.identities.len(), release.made["users"].as_array().unwrap().len());
            for held in &status.identities {
                assert_eq!(held.spiffe_id, path);
                assert!(held.not_after > now && held.lasts_until > now, "{held:?}");
                assert_ne!(held.serial, "");
            }
            serials.push(status.identities.into_iter().map(|held| held.serial).collect::<Vec<_>>());
            let rungs = format!("{} unspent SVIDs", release.made["rungs"]);
            assert!(later > MINUTE || status.trust_debt.starts_with(&rungs), "{}", status.trust_debt);
            assert!(status.cache.starts_with("on disk, sealed"), "{}", status.cache);
            assert!(status.bundle_chain.contains("pinned at step"), "{}", status.bundle_chain);
            assert_ne!(status.newest_revision, "");
            serves_this_user(&release, &node).await;
            node.stop().await;
        }
        assert_ne!(serials[0], serials[1], "the rung");
        plant.tear_down([node]).await;
    }
}

/// If it is one of those that the release has entries for. Others see that in the status alone.
async fn serves_this_user(release: &Stored, node: &NodeAgent) {
    let own = nix::unistd::geteuid().to_string();
    let users = release.made["users"].as_array().unwrap();
    let mut client = node.client().await;
    let fetched = client.fetch_x509().await;
    if !users.iter().any(|user| *user == own.as_str()) {
        assert_eq!(fetched.unwrap_err().code(), Some(tonic::Code::PermissionDenied));
        return;
    }
    let context = fetched.unwrap();
    assert_eq!(context.svids[0].id().path(), release.text("path"));
    let other = TrustDomain::parse("other.test").unwrap();
    assert!(context.bundles.get(&other).is_some(), "the federated bundle");
    let token = client.fetch_jwt(&["receiver".to_owned()], None).await.unwrap();
    assert_eq!(token[0].id.path(), release.text("path"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_plant_of_an_older_version_goes_on() {
    for release in releases() {
        let plant = started(&release, MINUTE).await;
        let clock = release.clock(MINUTE);
        let nodes = i32::try_from(release.made["nodes"].as_i64().unwrap()).unwrap();
        assert_eq!(plant.count_agents().await, nodes);
        let mut agents = Vec::new();
        for name in ["node", "banned", "new"] {
            let mut agent = release.agent(&plant, name);
            agent.start_with(agent_at(&clock)).await.unwrap();
            agents.push(agent);
        }
        let [node, banned, new] = &agents[..] else { panic!("three") };
        eventually("a node in step", async || {
            let status = node.status().await;
            let there = status.standing == "connected"
                && status.device_key.starts_with("registered")
                && status.bundle_chain.contains("pinned at step");
            there.then_some(()).ok_or((status.standing_text, status.last_error, status.device_key))
        })
        .await;
        // What it holds is what was stored, not what was signed anew.
        let status = node.status().await;
        assert!(status.server_speaks.starts_with("landfast/"), "{}", status.server_speaks);
        plant.entry(node, "/line5/added-now", 3600).await;
        let mut client = node.client().await;
        eventually("a new entry", async || {
            let context = client.fetch_x509().await.map_err(|error| error.to_string())?;
            let mut paths = context.svids.iter().map(|svid| svid.id().path());
            paths.any(|path| path == "/line5/added-now").then_some(()).ok_or_else(|| "not yet".to_owned())
        })
        .await;
        assert_eq!(banned.status().await.state, "banned");
        assert!(!files(banned).contains(&"node-identity.json".to_owned()));
        eventually("the token that was never used, with the key of then", async || match new.status().await {
            status if status.agent_id == new.id => Ok(()),
            status => Err(status.last_error),
        })
        .await;
        assert_eq!(plant.count_agents().await, nodes + 1);
        plant.tear_down(agents).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_an_older_version_is_put_back() {
    for release in releases() {
        let mut plant = release.empty_plant();
        let (file, key) = (release.dir().join("server.backup"), release.dir().join("backup.key"));
        let said = fs::read_to_string(release.dir().join("backup.txt")).unwrap();
        let fingerprint = said.lines().find_map(|line| line.trim().strip_prefix("fingerprint "));
        let words = ["--identity-file", key.to_str().unwrap(), "--trust", fingerprint.unwrap(), "--accept-rollback"];
        let said = super::backup::put_back(&plant, &file, &words).await.unwrap();
        assert!(said.contains("WHAT WAS DECIDED SINCE"), "{said}");
        plant.start_server_with(server_at(&release.clock(MINUTE))).await.unwrap();
        assert_eq!(i64::from(plant.count_agents().await), release.made["nodes"].as_i64().unwrap());
        plant.tear_down([]).await;
    }
}

#[test]
fn the_steps_of_an_older_version_are_walked() {
    for release in releases() {
        let domain = TrustDomain::parse(release.text("trust_domain")).unwrap();
        let mut steps = (1..).map_while(|number| fs::read(release.dir().join(format!("steps/{number}.step"))).ok());
        let first = SignedStep::from_bytes(&steps.next().unwrap()).unwrap();
        let mut walker = Walker::begin(domain, &first).unwrap();
        let mut walked = 0;
        for bytes in steps {
            walked += 1;
            let step = SignedStep::from_bytes(&bytes).unwrap();
            assert_eq!(walker.walk(&step).unwrap(), Walked::Onward);
            assert_eq!(step.to_bytes(), bytes, "what was signed is kept as it is");
        }
        assert!(walked > 0, "there is one step alone");
    }
}

#[test]
fn every_key_of_an_older_configuration_is_known() {
    for release in releases() {
        let file = |name: &str| release.dir().join(format!("config/{name}.toml"));
        AgentConfig::load(&file("agent")).unwrap();
        // With every key at once, one of which names a file that is not here: said only when all else is right.
        let error = ServerConfig::load(&file("server")).unwrap_err();
        let error = landfast_daemon::error_chain(&error);
        assert!(error.contains("a readable file"), "{error}");
    }
}
