//! `landfast token`.

use std::time::Duration;

use clap::Subcommand;
use landfast_identity::SpiffeId;
use landfast_proto::spire::api::server::agent::v1::{CreateJoinTokenRequest, agent_client::AgentClient};
use serde_json::json;

use crate::cli::Globals;
use crate::connect;
use crate::failure::{Failure, SERVER};
use crate::{output, wire};

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Make a token that enrols one node, once [server].
    Create {
        /// How long it can be used.
        #[arg(long, default_value = "10m", value_parser = wire::duration)]
        ttl: Duration,
        /// An additional ID for the node, to be the parent of entries.
        #[arg(long, value_name = "SPIFFE-ID")]
        agent_id: Option<SpiffeId>,
        /// Print the token alone, whatever --output says.
        #[arg(long, short)]
        quiet: bool,
    },
}

pub(crate) async fn run(command: TokenCommand, globals: &Globals) -> Result<(), Failure> {
    let TokenCommand::Create { ttl, agent_id, quiet } = command;
    let channel = connect::server(globals).await?;
    let request = CreateJoinTokenRequest {
        ttl: wire::seconds(Some(ttl)),
        token: String::new(),
        agent_id: agent_id.as_ref().map(wire::id),
    };
    let token = connect::call(
        SERVER,
        AgentClient::new(channel.clone()).create_join_token(request),
    )
    .await?;
    if quiet {
        return output::print(&token.value);
    }
    if globals.json() {
        return output::print_json(
            &json!({"token": token.value, "expires_at": output::time_json(token.expires_at)}),
        );
    }
    output::print(&output::facts(&[
        ("token", token.value),
        ("good until", output::when(token.expires_at, "-")),
        (
            "use",
            "put it into the file that attestation.token_file of the agent's configuration names".to_owned(),
        ),
    ]))
}
