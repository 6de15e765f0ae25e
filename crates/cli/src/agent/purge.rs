//! `landfast agent purge`. Invariant: only nodes that can come back by themselves are forgotten.

use std::time::Duration;

use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::spire::api::server::agent::v1 as api;
use serde_json::json;

use super::{client, page};
use crate::cli::Globals;
use crate::failure::Failure;
use crate::{connect, output, wire};

pub(super) async fn purge(expired_for: Duration, dry_run: bool, globals: &Globals) -> Result<(), Failure> {
    let now = SystemClock.now().ok_or_else(|| {
        Failure::failed(
            "the clock of this machine shows no time",
            "set it; nothing was forgotten",
        )
    })?;
    let over = now.saturating_sub(expired_for).as_secs();
    let mut client = client(globals).await?;
    let (mut gone, mut failures) = (Vec::new(), Vec::new());
    let mut page_token = Some(String::new());
    while let Some(token) = page_token {
        // What is deleted behind a page moves none of those that follow: the token is the last one's name.
        let (agents, next) = page(&mut client, token).await?;
        page_token = next;
        for agent in agents {
            if !agent.can_reattest || agent.banned || agent.x509svid_expires_at >= over {
                continue;
            }
            let id = wire::id_text(agent.id.as_ref());
            let request = api::DeleteAgentRequest { id: agent.id };
            match dry_run {
                true => gone.push(id),
                false => match connect::answer(client.delete_agent(request)).await {
                    Ok(_) => gone.push(id),
                    Err(status) => failures.push(format!("{id}: {}", status.message())),
                },
            }
        }
    }
    if globals.json() {
        output::print_json(&json!({"purged": gone, "dry_run": dry_run, "failed": failures}))?;
    } else {
        let word = if dry_run {
            "would be forgotten"
        } else {
            "forgotten"
        };
        output::print(&format!("{word}: {}", output::lines(&gone, "none")))?;
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(
            failures.join("; "),
            "those are as they were; try again",
        )),
    }
}
