//! `landfast debug`: what the server or an agent is and how much it holds.

use clap::Subcommand;
use landfast_proto::spire::agent::debug::v1 as agent;
use landfast_proto::spire::api::server::debug::v1 as server;
use landfast_proto::spire::api::types;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::failure::{ADMIN, Failure, SERVER};
use crate::{connect, output, wire};

#[derive(Subcommand, Debug)]
pub(crate) enum DebugCommand {
    /// The server's own SVID, how long it has run, and counts; with --agent those of the agent of this machine [server].
    Info {
        /// Of the local agent, by its admin socket.
        #[arg(long)]
        agent: bool,
    },
}

/// One certificate of a chain.
struct Certificate {
    id: Option<types::Spiffeid>,
    expires_at: i64,
    subject: String,
}

pub(crate) async fn run(command: DebugCommand, globals: &Globals) -> Result<(), Failure> {
    let DebugCommand::Info { agent } = command;
    match agent {
        true => of_agent(globals).await,
        false => of_server(globals).await,
    }
}

async fn of_server(globals: &Globals) -> Result<(), Failure> {
    let mut client = server::debug_client::DebugClient::new(connect::server(globals).await?);
    let info = connect::call(SERVER, client.get_info(server::GetInfoRequest {})).await?;
    let chain = info.svid_chain.into_iter().map(|one| Certificate {
        id: one.id,
        expires_at: one.expires_at,
        subject: one.subject,
    });
    let chain: Vec<_> = chain.collect();
    if globals.json() {
        return output::print_json(&json!({
            "svid_chain": chain_json(&chain),
            "uptime_seconds": info.uptime,
            "agents": info.agents_count,
            "bundles": info.federated_bundles_count,
            "entries": info.entries_count,
        }));
    }
    output::print(&output::facts(&[
        ("own SVID, then its authority", chain_text(&chain)),
        ("running for", format!("{} s", info.uptime)),
        ("nodes", info.agents_count.to_string()),
        ("bundles, with our own", info.federated_bundles_count.to_string()),
        ("entries", info.entries_count.to_string()),
    ]))
}

async fn of_agent(globals: &Globals) -> Result<(), Failure> {
    let mut client = agent::debug_client::DebugClient::new(connect::agent_admin(globals).await?);
    let info = connect::call(ADMIN, client.get_info(agent::GetInfoRequest {})).await?;
    let chain = info.svid_chain.into_iter().map(|one| Certificate {
        id: one.id,
        expires_at: one.expires_at,
        subject: one.subject,
    });
    let chain: Vec<_> = chain.collect();
    if globals.json() {
        return output::print_json(&json!({
            "svid_chain": chain_json(&chain),
            "uptime_seconds": info.uptime,
            "last_sync": output::time_json(info.last_sync_success),
            "x509_svids": info.cached_x509_svids_count,
            "jwt_svids": info.cached_jwt_svids_count,
        }));
    }
    output::print(&output::facts(&[
        ("node's SVID, then its authority", chain_text(&chain)),
        ("running for", format!("{} s", info.uptime)),
        ("last sync", output::when(info.last_sync_success, "never")),
        ("X509-SVIDs", info.cached_x509_svids_count.to_string()),
        ("JWT-SVIDs", info.cached_jwt_svids_count.to_string()),
    ]))
}

fn chain_json(chain: &[Certificate]) -> Vec<Value> {
    let each = chain.iter().map(|certificate| {
        json!({
            "id": certificate.id.as_ref().map(|id| wire::id_text(Some(id))),
            "subject": certificate.subject,
            "expires_at": output::time_json(certificate.expires_at),
        })
    });
    each.collect()
}

fn chain_text(chain: &[Certificate]) -> String {
    let each = chain.iter().map(|certificate| {
        let id = certificate
            .id
            .as_ref()
            .map_or_else(|| "-".to_owned(), |id| wire::id_text(Some(id)));
        format!("{id}, until {}", output::when(certificate.expires_at, "-"))
    });
    output::lines(each, "none")
}
