//! `landfast debug`: what the server is and how much it holds.

use clap::Subcommand;
use landfast_proto::spire::api::server::debug::v1::{GetInfoRequest, debug_client::DebugClient};
use serde_json::json;

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, output, wire};

#[derive(Subcommand, Debug)]
pub(crate) enum DebugCommand {
    /// The server's own SVID, how long it has run, and counts [server].
    Info,
}

pub(crate) async fn run(command: DebugCommand, globals: &Globals) -> Result<(), Failure> {
    let DebugCommand::Info = command;
    let mut client = DebugClient::new(connect::server(globals).await?);
    let info = connect::call(SERVER, client.get_info(GetInfoRequest {})).await?;
    if globals.json() {
        let chain = info.svid_chain.iter().map(|certificate| {
            json!({
                "id": certificate.id.as_ref().map(|id| wire::id_text(Some(id))),
                "subject": certificate.subject,
                "expires_at": output::time_json(certificate.expires_at),
            })
        });
        return output::print_json(&json!({
            "svid_chain": chain.collect::<Vec<_>>(),
            "uptime_seconds": info.uptime,
            "agents": info.agents_count,
            "bundles": info.federated_bundles_count,
            "entries": info.entries_count,
        }));
    }
    let chain = info.svid_chain.iter().map(|certificate| {
        let id = certificate
            .id
            .as_ref()
            .map_or_else(|| "-".to_owned(), |id| wire::id_text(Some(id)));
        format!("{id}, until {}", output::when(certificate.expires_at, "-"))
    });
    output::print(&output::facts(&[
        ("own SVID, then its authority", output::lines(chain, "none")),
        ("running for", format!("{} s", info.uptime)),
        ("nodes", info.agents_count.to_string()),
        ("bundles, with our own", info.federated_bundles_count.to_string()),
        ("entries", info.entries_count.to_string()),
    ]))
}
