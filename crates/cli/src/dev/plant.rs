//! The server and the agent of one run, put together as on a plant: the agent attests with a join token over TCP.
//!
//! Invariant: the authority's keys never leave memory; the server listens on the loopback alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfast_agent::{Agent, AgentConfig, AgentHandle, AgentParts};
use landfast_daemon::{TaskHandle, error_chain};
use landfast_identity::{SpiffeId, TrustDomain};
use landfast_proto::spire::api::server::agent::v1::{CreateJoinTokenRequest, agent_client::AgentClient};
use landfast_proto::spire::api::server::entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient};
use landfast_proto::spire::api::types;
use landfast_server::{Server, ServerConfig, ServerHandle, ServerParts};
use landfast_store::Store;
use tonic::transport::Channel;

use super::{DevEntry, Directory};
use crate::cli::{AGENT_ADMIN_SOCKET, SERVER_SOCKET};
use crate::failure::{Failure, SERVER};
use crate::{connect, wire};

pub(super) struct Plant {
    agent: AgentHandle,
    server: ServerHandle,
}

impl Plant {
    /// Both run and every entry's SVID is there.
    pub(super) async fn start(
        trust_domain: &TrustDomain,
        entries: &[DevEntry],
        x509_ttl: Duration,
        wit_svid: bool,
        directory: &Directory,
        tasks: &TaskHandle,
    ) -> Result<Self, Failure> {
        let paths = Paths::of(directory.path());
        paths.create()?;
        let config = ServerConfig {
            wit_svid,
            ..ServerConfig::in_memory(trust_domain.clone(), paths.server_admin.clone())
        };
        let server = Server::start(config, ServerParts::default(), tasks)
            .await
            .map_err(|error| failure(&error))?;
        let address = server.addresses().first().copied();
        let address =
            address.ok_or_else(|| Failure::failed("the server listens nowhere", "please report this"))?;
        let channel = connect::unix(&paths.server_admin, "server", "--server-socket").await?;
        let token = join_token(channel.clone()).await?;
        let parent = SpiffeId::agent(trust_domain, "join_token", &token).map_err(|error| failure(&error))?;
        create_entries(channel, &parent, entries, x509_ttl).await?;
        paths.write_bundle(&server.bundle().to_pem())?;

        let config =
            AgentConfig::load(&paths.write_agent_config(trust_domain, &address.to_string(), &token)?);
        let agent = Agent::start(
            config.map_err(|error| failure(&error))?,
            AgentParts::default(),
            tasks,
        )
        .await;
        let agent = agent.map_err(|error| failure(&error))?;
        tokio::time::timeout(READY, agent.ready())
            .await
            .map_err(|_elapsed| {
                Failure::not_ready("the agent was not ready in 10 s", "run it again with --log debug")
            })?;
        Ok(Self { agent, server })
    }

    /// The Workload API first: it is what a shell's `read` takes.
    pub(super) fn environment(&self) -> [(&'static str, String); 3] {
        let text = |path: &Path| path.display().to_string();
        [
            (
                "SPIFFE_ENDPOINT_SOCKET",
                format!("unix://{}", self.agent.socket().display()),
            ),
            (SERVER_SOCKET, text(self.server.admin_socket())),
            (AGENT_ADMIN_SOCKET, text(self.agent.admin_socket())),
        ]
    }
}

async fn join_token(channel: Channel) -> Result<String, Failure> {
    let request = CreateJoinTokenRequest {
        ttl: TOKEN_SECONDS,
        token: String::new(),
        agent_id: None,
    };
    Ok(
        connect::call(SERVER, AgentClient::new(channel).create_join_token(request))
            .await?
            .value,
    )
}

async fn create_entries(
    channel: Channel,
    parent: &SpiffeId,
    entries: &[DevEntry],
    ttl: Duration,
) -> Result<(), Failure> {
    let entries = entries.iter().map(|entry| types::Entry {
        spiffe_id: Some(wire::id(&entry.id)),
        parent_id: Some(wire::id(parent)),
        selectors: entry.selectors.iter().map(wire::selector).collect(),
        x509_svid_ttl: wire::seconds(Some(ttl)),
        ..types::Entry::default()
    });
    let request = BatchCreateEntryRequest {
        entries: entries.collect(),
        output_mask: None,
    };
    let answer = connect::call(SERVER, EntryClient::new(channel).batch_create_entry(request)).await?;
    answer
        .results
        .iter()
        .try_for_each(|result| wire::outcome(result.status.as_ref()))
}

/// Below the private directory.
struct Paths {
    run: PathBuf,
    server_admin: PathBuf,
    agent: PathBuf,
}

impl Paths {
    fn of(directory: &Path) -> Self {
        Self {
            run: directory.to_owned(),
            server_admin: directory.join("server/admin.sock"),
            agent: directory.join("agent"),
        }
    }

    fn create(&self) -> Result<(), Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        for name in ["server", "agent", "config"] {
            let made = std::fs::DirBuilder::new().mode(0o700).create(self.run.join(name));
            made.map_err(|error| {
                Failure::failed(
                    format!("cannot use {}: {error}", self.run.display()),
                    "is the disk full?",
                )
            })?;
        }
        Ok(())
    }

    fn write_bundle(&self, pem: &str) -> Result<(), Failure> {
        self.write("bundle.pem", pem)
    }

    /// The same file an operator would write, so that `dev` takes no way through the agent that a plant does not.
    fn write_agent_config(
        &self,
        trust_domain: &TrustDomain,
        server: &str,
        token: &str,
    ) -> Result<PathBuf, Failure> {
        let text = |value: String| toml_string(&value);
        let path = |path: PathBuf| toml_string(&path.to_string_lossy());
        let config = format!(
            "trust_domain = {}\nserver = [{}]\ndata_dir = {}\nsocket = {}\nadmin_socket = {}\ntrust_bundle = {}\n\
             [attestation]\nmethod = \"join_token\"\ntoken = {}\n[sync]\ninterval = \"1s\"\n",
            text(trust_domain.to_string()),
            text(server.to_owned()),
            path(self.agent.join("data")),
            path(self.run.join("api.sock")),
            path(self.agent.join("admin.sock")),
            path(self.run.join("config/bundle.pem")),
            text(token.to_owned()),
        );
        self.write("agent.toml", &config)?;
        Ok(self.run.join("config/agent.toml"))
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        let written =
            Store::open(&self.run.join("config")).and_then(|store| store.replace(name, content.as_bytes()));
        written.map_err(|error| failure(&error))
    }
}

/// A TOML basic string is a JSON string.
fn toml_string(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn failure(error: &dyn std::error::Error) -> Failure {
    Failure::failed(error_chain(error), "run it again with --log debug")
}

const READY: Duration = Duration::from_secs(10);
const TOKEN_SECONDS: i32 = 60;
