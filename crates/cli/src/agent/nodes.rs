//! The nodes that a server knows.

use std::time::Duration;

use crate::connect::Channel;
use landfast_identity::SpiffeId;
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::landfast::info::v1::{self as info, info_client::InfoClient};
use landfast_proto::landfast::reserve::v1::ListDebtsRequest;
use landfast_proto::spire::api::server::agent::v1 as api;
use landfast_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use landfast_proto::spire::api::types;
use serde_json::{Value, json};
use tonic::Code;

use super::{Client, client};
use crate::cli::Globals;
use crate::debts::{self, Debt, Debts};
use crate::failure::{Failure, SERVER};
use crate::listing::Listing;
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

pub(super) async fn list(globals: &Globals) -> Result<(), Failure> {
    let channel = connect::server(globals).await?;
    let mut client = AgentClient::new(channel.clone());
    let columns = &[
        "NODE",
        "ATTESTED BY",
        "STANDING",
        "SVID UNTIL",
        "RESERVE UNTIL",
        "VERSION",
    ];
    let mut listing = Listing::new(columns, globals.json());
    let mut page_token = Some(String::new());
    while let Some(token) = page_token {
        let (agents, next) = page(&mut client, token).await?;
        let debts = debts_of(&channel, &agents).await?;
        let debt = |agent: &types::Agent| debts.get(&wire::id_text(agent.id.as_ref()));
        let row = |agent: &types::Agent| {
            vec![
                wire::id_text(agent.id.as_ref()),
                agent.attestation_type.clone(),
                standing(agent).to_owned(),
                output::when(agent.x509svid_expires_at, "-"),
                debts::until(debt(agent)),
                agent.agent_version.clone(),
            ]
        };
        let more = listing.page(&agents, |agent| to_json(agent, debt(agent)), row)?;
        page_token = next.filter(|_| more);
    }
    listing.end()
}

pub(super) async fn show(id: &SpiffeId, globals: &Globals) -> Result<(), Failure> {
    let channel = connect::server(globals).await?;
    let request = api::GetAgentRequest {
        id: Some(wire::id(id)),
        output_mask: None,
    };
    let agent = connect::call(SERVER, AgentClient::new(channel.clone()).get_agent(request)).await?;
    let debts = debts_of(&channel, std::slice::from_ref(&agent)).await?;
    let debt = debts.get(id.as_str());
    let said = said(channel, id).await?;
    if globals.json() {
        let mut shown = to_json(&agent, debt);
        shown["speaks"] = said.as_ref().map_or(Value::Null, said_json);
        output::print_json(&shown)
    } else {
        let mut facts = facts(&agent, debt);
        facts.push((
            "says",
            said.as_ref()
                .map_or_else(|| SAID_NOTHING.to_owned(), said_in_words),
        ));
        output::print(&output::facts(&facts))
    }
}

/// What it has said of itself to this server; a server of SPIRE's does not listen.
async fn said(channel: Channel, id: &SpiffeId) -> Result<Option<info::Node>, Failure> {
    let request = info::ListNodesRequest {
        agent_ids: vec![id.to_string()],
    };
    match connect::answer(InfoClient::new(channel).list_nodes(request)).await {
        Ok(answer) => Ok(answer.nodes.into_iter().next()),
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(Failure::status(SERVER, &status)),
    }
}

fn said_in_words(node: &info::Node) -> String {
    let speaks = node.speaks.clone().unwrap_or_default();
    let all = speaks.capabilities.iter();
    let all = all
        .map(|one| format!("{} {}", one.name, one.number))
        .collect::<Vec<_>>();
    let skew = match node.skew.as_str() {
        "" => String::new(),
        skew => format!("; {skew} beside this server, which is not tested"),
    };
    format!(
        "version {} of {}, at {}{skew}\nunderstands {}",
        speaks.version,
        output::when(speaks.built, "an unknown day"),
        output::when(node.heard_at, "an unknown time"),
        if all.is_empty() {
            "nothing of ours".to_owned()
        } else {
            all.join(", ")
        },
    )
}

fn said_json(node: &info::Node) -> Value {
    let speaks = node.speaks.clone().unwrap_or_default();
    let all = speaks.capabilities.iter();
    let all: serde_json::Map<_, _> = all.map(|one| (one.name.clone(), json!(one.number))).collect();
    json!({
        "version": speaks.version, "built": output::time_json(speaks.built), "capabilities": all,
        "heard_at": output::time_json(node.heard_at), "skew": node.skew,
    })
}

/// At most a page of them.
async fn debts_of(channel: &Channel, agents: &[types::Agent]) -> Result<Debts, Failure> {
    if agents.is_empty() {
        return Ok(Debts::new());
    }
    let agent_ids = agents.iter().map(|agent| wire::id_text(agent.id.as_ref()));
    let which = ListDebtsRequest {
        agent_ids: agent_ids.collect(),
        ..ListDebtsRequest::default()
    };
    debts::of(channel, which).await
}

/// From there on; with where to go on.
async fn page(
    client: &mut Client,
    page_token: String,
) -> Result<(Vec<types::Agent>, Option<String>), Failure> {
    let request = api::ListAgentsRequest {
        filter: None,
        output_mask: None,
        page_size: PAGE,
        page_token,
    };
    let answer = connect::call(SERVER, client.list_agents(request)).await?;
    let next = Some(answer.next_page_token).filter(|token| !token.is_empty());
    Ok((answer.agents, next))
}

fn standing(agent: &types::Agent) -> &'static str {
    if agent.banned { "banned" } else { "active" }
}

fn facts(agent: &types::Agent, debt: Option<&Debt>) -> Vec<(&'static str, String)> {
    vec![
        ("node", wire::id_text(agent.id.as_ref())),
        ("attested by", agent.attestation_type.clone()),
        ("standing", standing(agent).to_owned()),
        ("SVID serial", agent.x509svid_serial_number.clone()),
        ("SVID until", output::when(agent.x509svid_expires_at, "-")),
        ("has ahead", debts::said(debt)),
        (
            "selectors",
            output::lines(agent.selectors.iter().map(wire::selector_text), "none"),
        ),
        (
            "attests again",
            if agent.can_reattest {
                "by itself"
            } else {
                "with a new token"
            }
            .to_owned(),
        ),
        ("version", agent.agent_version.clone()),
    ]
}

fn to_json(agent: &types::Agent, debt: Option<&Debt>) -> Value {
    json!({
        "id": wire::id_text(agent.id.as_ref()),
        "attestation_type": agent.attestation_type,
        "banned": agent.banned,
        "serial": agent.x509svid_serial_number,
        "expires_at": output::time_json(agent.x509svid_expires_at),
        "selectors": agent.selectors.iter().map(wire::selector_text).collect::<Vec<_>>(),
        "can_reattest": agent.can_reattest,
        "version": agent.agent_version,
        "reserve": debts::json(debt),
    })
}

const SAID_NOTHING: &str = "nothing, to this server since it was started";
/// Nodes fetched at a time.
const PAGE: i32 = 500;
