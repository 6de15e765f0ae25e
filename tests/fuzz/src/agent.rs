//! An agent that never finds its server, and its admin socket. Nothing of the agent is public for this: it is started as `run` starts it.

use std::path::Path;

use hyper_util::rt::TokioIo;
use landfast_agent::{Agent, AgentConfig, AgentParts};
use landfast_daemon::TaskTree;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::plant;

/// Starts one below this folder.
pub(crate) async fn start(folder: &Path) -> (TaskTree, Channel) {
    let at = |name: &str| folder.join(name);
    let config = format!(
        "trust_domain = \"{DOMAIN}\"\nserver = [\"127.0.0.1:1\"]\ndata_dir = {:?}\nsocket = {:?}\nadmin_socket = {:?}\ntrust_bundle = {:?}\n\
         [attestation]\nmethod = \"join_token\"\ntoken = \"of-nobody\"\n",
        at("agent"),
        at("agent.sock"),
        at("admin.sock"),
        at("root.pem"),
    );
    std::fs::write(at("root.pem"), include_str!("../fixed/root.pem")).expect("a bundle");
    std::fs::write(at("agent.toml"), config).expect("a configuration");
    let config = AgentConfig::load(&at("agent.toml")).expect("a configuration that we wrote");
    let parts = AgentParts {
        clock: plant::clock(),
        ..AgentParts::default()
    };
    let tree = TaskTree::new();
    let agent = Agent::start(config, parts, &tree.handle())
        .await
        .expect("an agent");
    let socket = agent.admin_socket().to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .expect("the admin socket");
    (tree, channel)
}

/// Its trust domain.
pub const DOMAIN: &str = "td.test";
