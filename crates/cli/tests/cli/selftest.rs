//! `landfast selftest` against a real server.

use landfast_daemon::TaskTree;
use landfast_server::{Server, ServerConfig, ServerParts};

use super::*;

#[test]
fn what_must_be_refused_is_refused_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    let file = dir.path().join("server.toml");
    let text = format!(
        "trust_domain = \"plant.test\"\ndata_dir = \"{shown}/data\"\nlisten = [\"127.0.0.1:0\"]\nadmin_socket = \"{shown}/admin.sock\"\n"
    );
    fs::write(&file, text).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tree = TaskTree::new();
    let config = ServerConfig::load(&file).unwrap();
    let started = runtime.block_on(Server::start(config, ServerParts::default(), &tree.handle()));
    let handle = started.unwrap();
    let (address, socket) = (handle.addresses()[0].to_string(), format!("{shown}/admin.sock"));
    let selftest = |address: &str| {
        let common = ["selftest", "--server-socket", &socket, "--address", address];
        run(&[&common[..], &["--no-agent", "--output", "json"]].concat())
    };
    let (code, out, err) = selftest(&address);
    assert_eq!(code, 0, "{out}{err}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let tries = found["tries"].as_array().unwrap();
    assert_eq!(
        (tries.len(), &found["good"]),
        (7, &serde_json::json!(true)),
        "{found}"
    );
    assert!(tries.iter().all(|tried| tried["outcome"] == "refused"), "{found}");

    // Nobody answers there: that is no refusal.
    let (code, out, _) = selftest("127.0.0.1:1");
    assert_eq!((code, out.as_str()), (1, ""));

    drop(handle);
    runtime
        .block_on(tree.join_with_deadline(Duration::from_secs(60)))
        .unwrap();
    let (_, out, _) = run(&[
        "audit",
        "export",
        &format!("{shown}/data/ledger"),
        "--type",
        "selftest",
    ]);
    let records: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 8, "{out}");
    let done = records.last().unwrap();
    assert_eq!(
        (done["type"].as_str(), &done["detail"]["let_through"]),
        (Some("selftest.done"), &serde_json::json!(0))
    );
    assert!(
        records[..7].iter().all(|record| record["decision"] == "deny"),
        "{out}"
    );
}
