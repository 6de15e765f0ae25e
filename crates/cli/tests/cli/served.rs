//! A real server in this process, and the program at its admin socket.

use std::path::PathBuf;
use std::sync::Arc;

use landfast_daemon::TaskTree;
use landfast_lifecycle::{SharedClock, SystemClock};
use landfast_server::{Server, ServerConfig, ServerParts};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

pub(crate) struct Served {
    dir: TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
    tree: Option<TaskTree>,
    address: String,
}

impl Served {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().display();
        let text = format!(
            "trust_domain = \"plant.test\"\ndata_dir = \"{shown}/data\"\nlisten = [\"127.0.0.1:0\"]\nadmin_socket = \"{shown}/admin.sock\"\n"
        );
        fs::write(dir.path().join("server.toml"), text).unwrap();
        let mut served = Self {
            dir,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            tree: None,
            address: String::new(),
        };
        served.start(Arc::new(SystemClock));
        served
    }

    pub(crate) fn start(&mut self, clock: SharedClock) {
        let tree = TaskTree::new();
        let config = ServerConfig::load(&self.dir.path().join("server.toml")).unwrap();
        let parts = ServerParts {
            clock,
            ..ServerParts::default()
        };
        let started = self
            .runtime
            .block_on(Server::start(config, parts, &tree.handle()));
        self.address = started.unwrap().addresses()[0].to_string();
        self.tree = Some(tree);
    }

    /// Ends it in order: then a checkpoint names all records.
    pub(crate) fn stop(&mut self) {
        let tree = self.tree.take().unwrap();
        self.runtime
            .block_on(tree.join_with_deadline(Duration::from_secs(60)))
            .unwrap();
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The program, as an operator.
    pub(crate) fn landfast(&self, args: &[&str]) -> (i32, String, String) {
        let socket = self.text("admin.sock");
        run(&[&["--server-socket", &socket, "--output", "json"], args].concat())
    }

    /// What it prints when it does what it is asked.
    pub(crate) fn done(&self, args: &[&str]) -> Value {
        let (code, out, err) = self.landfast(args);
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_default()
    }

    /// `landfast evidence`, of this ledger.
    pub(crate) fn evidence(&self, args: &[&str]) -> (i32, Value) {
        let (ledger, key) = (self.text("data/ledger"), self.text("data/ledger/verifier-key"));
        let common = ["--output", "json", "evidence"];
        let (code, out, err) = run(&[&common, args, &["--ledger", &ledger, "--key", &key]].concat());
        let value = serde_json::from_str(&out);
        (code, value.unwrap_or_else(|error| panic!("{error}: {out}{err}")))
    }

    /// Every record, as `landfast audit export` has it.
    pub(crate) fn records(&self) -> Vec<Value> {
        let (_, out, _) = run(&["audit", "export", &self.text("data/ledger")]);
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}
