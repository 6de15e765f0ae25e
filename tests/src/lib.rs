//! Testkit: a whole Landfast in a test process, on real sockets and a real disk.
//!
//! Invariant: everything lives in one temporary folder and on the loopback, and [`Plant::tear_down`] joins every task.

pub mod front;
mod operators;
pub mod raw;
pub mod site;
pub mod spoken;
pub mod stored;
pub mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfast_agent::{Agent, AgentConfig, AgentParts};
use landfast_daemon::{TaskTree, error_chain};
use landfast_proto::spire::api::server::agent::v1::{self as agent_api, agent_client::AgentClient};
use landfast_proto::spire::api::server::entry::v1::{self as entry_api, entry_client::EntryClient};
use landfast_proto::spire::api::types;
use landfast_server::{Server, ServerConfig, ServerHandle, ServerParts};
use landfast_workload_api::client::WorkloadClient;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// The trust domain of every plant.
pub const TRUST_DOMAIN: &str = "plant.test";
/// No state is waited for longer.
pub const PATIENCE: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(60);

/// One server and any number of agents, each of which can be stopped and started again.
pub struct Plant {
    dir: TempDir,
    port: u16,
    server: Option<TaskTree>,
    handle: Option<ServerHandle>,
}

/// One node's agent.
pub struct NodeAgent {
    /// Its SPIFFE ID.
    pub id: String,
    config: PathBuf,
    socket: PathBuf,
    data: PathBuf,
    tree: Option<TaskTree>,
}

impl Plant {
    /// A plant whose server runs. `server_toml` is added to its configuration.
    pub async fn new(server_toml: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self::new_in(dir, server_toml, ServerParts::default()).await
    }

    /// The same in this folder, with a clock of one's own, say.
    pub async fn new_in(dir: TempDir, server_toml: &str, parts: ServerParts) -> Self {
        let mut plant = Self {
            dir,
            port: 0,
            server: None,
            handle: None,
        };
        let text = format!(
            "trust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"{0}/server\"\nlisten = [\"127.0.0.1:0\"]\nadmin_socket = \"{0}/admin.sock\"\n{server_toml}\n",
            plant.path().display()
        );
        put(&plant.path().join("server.toml"), &text);
        plant.start_server_with(parts).await.expect("the server starts");
        plant
    }

    /// Edits the server's configuration, for its next start.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let path = self.path().join("server.toml");
        let text = fs::read_to_string(&path).expect("the server's configuration");
        assert!(text.contains(from), "nothing to edit");
        put(&path, &text.replace(from, to));
    }

    /// The plant's folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The server's data directory.
    pub fn server_data(&self) -> PathBuf {
        self.path().join("server")
    }

    /// Where the server listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the server, on the port it had before.
    ///
    /// # Errors
    /// Why it does not start, with all causes.
    pub async fn start_server(&mut self) -> Result<(), String> {
        self.start_server_with(ServerParts::default()).await
    }

    /// As [`Self::start_server`], with a clock of one's own, say.
    ///
    /// # Errors
    /// As [`Self::start_server`].
    pub async fn start_server_with(&mut self, parts: ServerParts) -> Result<(), String> {
        let mut config = ServerConfig::load(&self.path().join("server.toml")).map_err(|e| error_chain(&e))?;
        config.listen[0].set_port(self.port);
        let tree = TaskTree::new();
        let started = Server::start(config, parts, &tree.handle()).await;
        match started {
            Ok(handle) => {
                self.port = handle.addresses()[0].port();
                put(&self.path().join("bundle.pem"), &handle.bundle().to_pem());
                self.server = Some(tree);
                self.handle = Some(handle);
                Ok(())
            }
            Err(error) => {
                tree.join_with_deadline(DRAIN)
                    .await
                    .expect("a failed start leaves no task");
                Err(error_chain(&error))
            }
        }
    }

    /// The server, as it was started last.
    pub fn handle(&self) -> &ServerHandle {
        self.handle.as_ref().expect("a server that was started")
    }

    /// Stops the server and joins its tasks.
    pub async fn stop_server(&mut self) {
        // It holds the data directory.
        self.handle = None;
        if let Some(tree) = self.server.take() {
            tree.join_with_deadline(DRAIN)
                .await
                .expect("every task of the server ends");
        }
    }

    /// Ends everything.
    pub async fn tear_down(mut self, agents: impl IntoIterator<Item = NodeAgent>) {
        for mut agent in agents {
            agent.stop().await;
        }
        self.stop_server().await;
    }

    /// The server's admin socket.
    pub async fn admin(&self) -> Channel {
        unix_channel(&self.path().join("admin.sock"))
            .await
            .expect("the admin socket answers")
    }

    /// How many nodes the server knows.
    pub async fn count_agents(&self) -> i32 {
        let counted = AgentClient::new(self.admin().await)
            .count_agents(agent_api::CountAgentsRequest { filter: None })
            .await;
        counted.expect("a count").into_inner().count
    }

    /// A join token.
    pub async fn token(&self) -> String {
        let request = agent_api::CreateJoinTokenRequest {
            ttl: 600,
            ..Default::default()
        };
        let made = AgentClient::new(self.admin().await)
            .create_join_token(request)
            .await;
        made.expect("a token").into_inner().value
    }

    /// An agent with a token of its own, started. `agent_toml` is added to the top of its configuration.
    pub async fn agent(&self, name: &str, agent_toml: &str) -> NodeAgent {
        let token = self.token().await;
        let mut agent = self.agent_with(name, agent_toml, &token);
        agent.start().await.expect("the agent starts");
        agent
    }

    /// An agent's configuration, not started.
    pub fn agent_with(&self, name: &str, agent_toml: &str, token: &str) -> NodeAgent {
        let dir = self.path().join(name);
        fs::create_dir(&dir).expect("a folder for the agent");
        let config = dir.join("agent.toml");
        let server = match agent_toml.contains("server =") {
            true => String::new(),
            false => format!("server = [\"{}\"]", self.address()),
        };
        let text = format!(
            "trust_domain = \"{TRUST_DOMAIN}\"\n{server}\ndata_dir = \"{0}/data\"\nsocket = \"{0}/api.sock\"\nadmin_socket = \"{0}/admin.sock\"\n{1}\n{agent_toml}\n[attestation]\nmethod = \"join_token\"\ntoken = \"{token}\"\n[sync]\ninterval = \"1s\"\nretry_max = \"1s\"\n",
            dir.display(),
            match agent_toml.contains("trust_bundle =") {
                true => String::new(),
                false => format!("trust_bundle = \"{}/bundle.pem\"", self.path().display()),
            },
        );
        put(&config, &text);
        NodeAgent {
            id: format!("spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}"),
            config,
            socket: dir.join("api.sock"),
            data: dir.join("data"),
            tree: None,
        }
    }

    /// An entry for this test process on a node.
    pub async fn entry(&self, agent: &NodeAgent, path: &str, x509_ttl: i32) -> String {
        self.entry_with(agent, path, |entry| entry.x509_svid_ttl = x509_ttl)
            .await
    }

    /// The same, with something about it changed.
    pub async fn entry_with(
        &self,
        agent: &NodeAgent,
        path: &str,
        change: impl FnOnce(&mut types::Entry),
    ) -> String {
        let id = |path: &str| {
            Some(types::Spiffeid {
                trust_domain: TRUST_DOMAIN.to_owned(),
                path: path.to_owned(),
            })
        };
        let parent = agent
            .id
            .strip_prefix("spiffe://")
            .and_then(|id| id.strip_prefix(TRUST_DOMAIN));
        let uid = nix::unistd::geteuid();
        let mut entry = types::Entry {
            spiffe_id: id(path),
            parent_id: id(parent.expect("an agent of this trust domain")),
            selectors: vec![types::Selector {
                r#type: "unix".to_owned(),
                value: format!("uid:{uid}"),
            }],
            ..Default::default()
        };
        change(&mut entry);
        let request = entry_api::BatchCreateEntryRequest {
            entries: vec![entry],
            output_mask: None,
        };
        let made = EntryClient::new(self.admin().await)
            .batch_create_entry(request)
            .await;
        let result = made.expect("an answer").into_inner().results.remove(0);
        assert_eq!(result.status.map(|status| status.code), Some(0));
        result.entry.expect("the entry").id
    }
}

impl NodeAgent {
    /// Starts it, again if it was stopped.
    ///
    /// # Errors
    /// Why it does not start, with all causes.
    pub async fn start(&mut self) -> Result<(), String> {
        self.start_with(AgentParts::default()).await
    }

    /// As [`Self::start`], with a clock of one's own, say.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(&mut self, parts: AgentParts) -> Result<(), String> {
        let config = AgentConfig::load(&self.config).map_err(|e| error_chain(&e))?;
        let tree = TaskTree::new();
        match Agent::start(config, parts, &tree.handle()).await {
            Ok(_) => {
                self.tree = Some(tree);
                Ok(())
            }
            Err(error) => {
                tree.join_with_deadline(DRAIN)
                    .await
                    .expect("a failed start leaves no task");
                Err(error_chain(&error))
            }
        }
    }

    /// Edits its configuration, for its next start.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.config).expect("the agent's configuration");
        assert!(text.contains(from), "nothing to edit");
        put(&self.config, &text.replace(from, to));
    }

    /// What `landfast agent status` asks for.
    pub async fn status(&self) -> landfast_proto::landfast::agent::v1::GetStatusResponse {
        let admin = unix_channel(&self.socket.with_file_name("admin.sock"))
            .await
            .expect("the agent's admin socket answers");
        let asked = landfast_proto::landfast::agent::v1::agent_admin_client::AgentAdminClient::new(admin)
            .get_status(landfast_proto::landfast::agent::v1::GetStatusRequest {})
            .await;
        asked.expect("the status").into_inner()
    }

    /// Ends it without a word, wherever its tasks are.
    pub fn kill(&mut self) {
        self.tree = None;
    }

    /// Stops it and joins its tasks.
    pub async fn stop(&mut self) {
        if let Some(tree) = self.tree.take() {
            tree.join_with_deadline(DRAIN)
                .await
                .expect("every task of the agent ends");
        }
    }

    /// Its Workload API.
    pub async fn client(&self) -> WorkloadClient {
        WorkloadClient::connect(&self.endpoint())
            .await
            .expect("the Workload API answers")
    }

    /// Its Workload API's address, as in `SPIFFE_ENDPOINT_SOCKET`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }
}

/// A gRPC channel over a Unix socket.
///
/// # Errors
/// Nobody answers there.
pub async fn unix_channel(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
}

/// Asks until the answer is there, for [`PATIENCE`] at most; the last refusal is in the panic.
pub async fn eventually<T, E: std::fmt::Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let mut last = None;
    let asking = async {
        loop {
            match ask().await {
                Ok(there) => return there,
                Err(refused) => last = Some(refused),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(there) => there,
        Err(_elapsed) => panic!("{what}: not within {PATIENCE:?}; last: {last:?}"),
    }
}

fn put(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).expect("a file in our own folder");
    file.write_all(text.as_bytes())
        .expect("a little room on the disk");
}
