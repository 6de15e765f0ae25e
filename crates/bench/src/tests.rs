//! The whole with a small fleet, against a server in this process. What took how long is nowhere asserted.

use std::os::unix::fs::PermissionsExt as _;

use std::time::Duration;

use clap::Parser as _;
use landfast_agent::{Agent, AgentConfig, AgentHandle, AgentParts};
use landfast_daemon::TaskTree;
use landfast_identity::{SpiffeId, TrustDomain};
use landfast_proto::spire::api::types;
use landfast_server::{Server, ServerConfig, ServerHandle, ServerParts};
use serde_json::Value;

use crate::args::CommandLine;
use crate::operator::{Operator, wire_id};
use crate::plan;
use crate::report::Report;

struct Site {
    server: ServerHandle,
    folder: tempfile::TempDir,
    tree: TaskTree,
}

impl Site {
    async fn start(tokens: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (domain, tree) = (TrustDomain::parse("bench.test").unwrap(), TaskTree::new());
        let config = ServerConfig {
            join_token: tokens,
            ..ServerConfig::in_memory(domain, folder.path().join("admin.sock"))
        };
        let server = Server::start(config, ServerParts::default(), &tree.handle())
            .await
            .unwrap();
        Self { server, folder, tree }
    }

    /// Runs a command against it, and answers its report.
    async fn run(&self, words: &str) -> Result<Value, crate::BoxError> {
        let mut report = Report::new(true);
        Box::pin(plan::run(&self.line(words), &mut report)).await?;
        let out = self.folder.path().join("out");
        report.finish(Some(&out)).unwrap();
        Ok(serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap())
    }

    fn line(&self, words: &str) -> CommandLine {
        let globals = format!(
            "landfast-bench --server {} --admin-socket {} --server-pid {} --interval 1 --report {}",
            self.server.addresses()[0],
            self.server.admin_socket().display(),
            std::process::id(),
            self.folder.path().join("out").display(),
        );
        CommandLine::try_parse_from(globals.split(' ').chain(words.split(' '))).unwrap()
    }

    /// An agent in this process, and its Workload API.
    async fn agent(&self) -> (AgentHandle, String) {
        let (at, address) = (self.folder.path(), self.server.addresses()[0]);
        let operator = Operator::connect(self.server.admin_socket()).await.unwrap();
        let bundle = operator.bundle().await.unwrap();
        std::fs::write(at.join("bundle.pem"), bundle.to_pem()).unwrap();
        let id = |path: &str| wire_id(&SpiffeId::from_parts(bundle.trust_domain(), path).unwrap());
        let token = operator.tokens(1, &id("/one")).await.unwrap().concat();
        let entry = types::Entry {
            spiffe_id: Some(id("/program")),
            parent_id: Some(id("/one")),
            selectors: vec![types::Selector {
                r#type: "unix".to_owned(),
                value: format!("uid:{}", nix::unistd::geteuid()),
            }],
            ..types::Entry::default()
        };
        operator.create(&[entry]).await.unwrap();
        let config = at.join("agent.toml");
        let dir = at.display();
        std::fs::write(
            &config,
            format!("trust_domain = \"bench.test\"\nserver = [\"{address}\"]\ndata_dir = \"{dir}/agent\"\nsocket = \"{dir}/api.sock\"\nadmin_socket = \"{dir}/agent.sock\"\ntrust_bundle = \"{dir}/bundle.pem\"\n[attestation]\nmethod = \"join_token\"\ntoken = \"{token}\"\n"),
        )
        .unwrap();
        let config = AgentConfig::load(&config).unwrap();
        let agent = Agent::start(config, AgentParts::default(), &self.tree.handle())
            .await
            .unwrap();
        agent.ready().await;
        (agent, format!("unix://{dir}/api.sock"))
    }

    async fn stop(self) {
        drop(self.server);
        self.tree
            .join_with_deadline(Duration::from_secs(60))
            .await
            .unwrap();
    }
}

fn value(report: &Value, section: &str, what: &str) -> f64 {
    let figures = report["figures"].as_array().unwrap();
    let found = figures
        .iter()
        .find(|f| f["section"] == section && f["what"].as_str().unwrap().starts_with(what));
    let found = found.unwrap_or_else(|| panic!("no {section}: {what} in {figures:#?}"));
    assert!(!found["load"].as_str().unwrap().is_empty());
    found["value"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_agents_attest_follow_and_act_on_every_kind_of_change() {
    let site = Site::start(true).await;
    let report = site
        .run("--mode poll propagation --agents 3,10 --entries 2 --samples 5 --fleet-samples 1 --bans 2")
        .await
        .unwrap();
    for what in [
        "operator creates an entry of one agent -> it has the SVID: p99 of 5",
        "operator deletes it -> the agent knows: p99 of 5",
        "operator creates an entry of all -> an agent has its SVID: worst of 3",
        "the last of them has it: worst of 1",
        "operator bans an agent -> it knows: p50 of 2",
    ] {
        assert!(value(&report, "propagation", what) > 0.0, "{what}");
    }
    assert!(value(&report, "growth", "agents attested") > 0.0);
    let loads: Vec<_> = report["figures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["load"].as_str().unwrap())
        .collect();
    assert!(
        loads
            .iter()
            .any(|load| load.starts_with("10 agents with 2 entries each")),
        "{loads:?}"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_renews_and_comes_back() {
    let site = Site::start(true).await;
    let steady = site
        .run("steady --agents 10 --entries 200 --seconds 2")
        .await
        .unwrap();
    assert!(value(&steady, "steady", "SVIDs renewed") > 0.0);
    assert!(value(&steady, "steady", "renewals that failed") == 0.0);
    assert!(value(&steady, "steady", "server: resident memory") > 1.0);
    let storm = site.run("storm --agents 10 --entries 3").await.unwrap();
    assert!(value(&storm, "storm", "agents that are not served") == 0.0);
    assert!(value(&storm, "storm", "connections: attempts") >= 1.0);
    assert!(value(&storm, "storm", "requests for SVIDs: attempts") >= 1.0);
    let wire = site
        .run("wire --agents 2 --entries 0,3 --seconds 1")
        .await
        .unwrap();
    assert!(value(&wire, "wire", "the same with headers") >= value(&wire, "wire", "an agent and day"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_filled_listed_and_looked_up() {
    let site = Site::start(true).await;
    let report = site.run("registry --entries 20,1100").await.unwrap();
    assert!(value(&report, "registry", "created") > 0.0);
    assert!(value(&report, "registry", "a page of 500 of the list: p50 of 3") > 0.0);
    assert!(
        value(
            &report,
            "registry",
            "an agent synchronises its 10 entries and the bundle: p50 of 1000"
        ) > 0.0
    );
    assert!(value(&report, "registry", "one entry by its ID: p50 of 1000") > 0.0);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_api_is_loaded() {
    let site = Site::start(true).await;
    let (_agent, socket) = site.agent().await;
    let report = site
        .run(&format!(
            "workload --socket {socket} --streams 2,5 --fetches 20 --clients 2"
        ))
        .await
        .unwrap();
    assert!(
        value(
            &report,
            "workload",
            "a stream's connection and first SVIDs: p50 of 2"
        ) > 0.0
    );
    assert!(value(&report, "workload", "fetch on a new connection: p99 of 10") > 0.0);
    assert!(value(&report, "workload", "streams that have ended meanwhile") == 0.0);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_at_its_deadline_and_what_was_measured_is_kept() {
    let site = Site::start(true).await;
    let line = site.line("--deadline 2 steady --agents 1 --entries 1 --seconds 3600");
    let ended = Box::pin(crate::run(&line)).await.unwrap_err();
    assert!(ended.to_string().contains("--deadline"), "{ended}");
    let report = std::fs::read(site.folder.path().join("out/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert!(report["machine"].as_str().unwrap().contains("cores"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_measured_is_said_with_its_reason() {
    let site = Site::start(false).await;
    let refused = site.run("storm --agents 2").await.unwrap_err().to_string();
    assert!(refused.contains("no such node attestor"), "{refused}");
    let gone = site
        .run("workload --socket unix:///nowhere/api.sock")
        .await
        .unwrap_err();
    assert!(landfast_daemon::error_chain(gone.as_ref()).contains("/nowhere/api.sock"));
    let line = CommandLine::try_parse_from("landfast-bench --bin-dir /nowhere steady".split(' ')).unwrap();
    let missing = Box::pin(plan::run(&line, &mut Report::new(true)))
        .await
        .unwrap_err();
    assert!(
        missing.to_string().contains("/nowhere/landfast-server"),
        "{missing}"
    );
    let line = "landfast-bench --server 127.0.0.1:1 --admin-socket /nowhere/admin.sock registry";
    let line = CommandLine::try_parse_from(line.split(' ')).unwrap();
    let nobody = Box::pin(plan::run(&line, &mut Report::new(true)))
        .await
        .unwrap_err();
    assert!(nobody.to_string().contains("/nowhere/admin.sock"), "{nobody}");
    site.stop().await;
}
