//! `landfast agent`.

mod handouts;
mod nodes;
mod recovery;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use landfast_identity::SpiffeId;
use landfast_proto::landfast::agent::v1::{
    GetStatusRequest, GetStatusResponse, agent_admin_client::AgentAdminClient,
};
use landfast_proto::landfast::reserve::v1::ListDebtsRequest;
use landfast_proto::spire::api::server::agent::v1 as api;
use landfast_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::debts::{self, DryRun};
use crate::failure::{ADMIN, Failure, SERVER};
use crate::{check, connect, output, wire};

#[derive(Subcommand, Debug)]
pub(crate) enum AgentCommand {
    /// All nodes [server].
    List,
    /// How many nodes there are [server].
    Count,
    /// Forget nodes that have been away for long and can attest again by themselves; banned ones stay banned [server].
    Purge {
        /// How long their SVID must have been over.
        #[arg(long, default_value = "30d", value_parser = wire::duration, value_name = "DURATION")]
        expired_for: Duration,
        /// Say which, and forget none.
        #[arg(long)]
        dry_run: bool,
    },
    /// One node [server].
    Show {
        /// The node's SPIFFE ID.
        id: SpiffeId,
    },
    /// Forget a node: it must attest again, a join-token node with a new token [server].
    Evict {
        /// The node's SPIFFE ID.
        id: SpiffeId,
    },
    /// Shut a node out until it is evicted; what it has ahead is marked revoked [server].
    Ban {
        /// The node's SPIFFE ID.
        id: SpiffeId,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Nodes that a person has to decide about: they want to come back after a long silence, two of them claim to be one node, or one has
    /// another device key [server].
    Pending,
    /// Say that it is the node: let it come back, or take its device key, on the server's machine [server].
    Approve(recovery::Named),
    /// Say that it is not, on the server's machine [server].
    Deny(recovery::Named),
    /// How the agent of this machine is, and what it holds [local agent].
    Status,
    /// Who was given what on this machine [local file].
    Handouts(handouts::HandOutsArgs),
    /// Check a configuration of landfast-agent without starting it [local file].
    Check {
        /// The configuration file.
        file: PathBuf,
    },
}

pub(crate) async fn run(command: AgentCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        AgentCommand::Status => status(globals).await,
        AgentCommand::Handouts(args) => handouts::show(&args, globals),
        AgentCommand::Check { file } => check::agent(&file, globals),
        AgentCommand::Pending => recovery::pending(globals).await,
        AgentCommand::Approve(named) => recovery::decide(named, true, globals).await,
        AgentCommand::Deny(named) => recovery::decide(named, false, globals).await,
        AgentCommand::List => nodes::list(globals).await,
        AgentCommand::Count => {
            let request = api::CountAgentsRequest { filter: None };
            let answer = connect::call(SERVER, client(globals).await?.count_agents(request)).await?;
            output::print_count(answer.count, globals.json())
        }
        AgentCommand::Purge { expired_for, dry_run } => nodes::purge(expired_for, dry_run, globals).await,
        AgentCommand::Show { id } => nodes::show(&id, globals).await,
        AgentCommand::Evict { id } => {
            let request = api::DeleteAgentRequest {
                id: Some(wire::id(&id)),
            };
            connect::call(SERVER, client(globals).await?.delete_agent(request)).await?;
            done(globals, "evicted", &id)
        }
        AgentCommand::Ban { id, dry_run } => {
            let channel = connect::server(globals).await?;
            let lost = ListDebtsRequest {
                agent_ids: vec![id.to_string()],
                ..ListDebtsRequest::default()
            };
            if !debts::warn(&channel, lost, dry_run, globals.json()).await? {
                return Ok(());
            }
            let request = api::BanAgentRequest {
                id: Some(wire::id(&id)),
            };
            connect::call(SERVER, AgentClient::new(channel).ban_agent(request)).await?;
            done(globals, "banned", &id)
        }
    }
}

type Client = AgentClient<connect::Channel>;

async fn client(globals: &Globals) -> Result<Client, Failure> {
    Ok(AgentClient::new(connect::server(globals).await?))
}

fn done(globals: &Globals, what: &str, id: &SpiffeId) -> Result<(), Failure> {
    if globals.json() {
        return output::print_json(&json!({"id": id.as_str(), "done": what}));
    }
    output::print(&format!("{what}: {id}"))
}

async fn status(globals: &Globals) -> Result<(), Failure> {
    let channel = connect::agent_admin(globals).await?;
    let status = connect::call(
        ADMIN,
        AgentAdminClient::new(channel).get_status(GetStatusRequest {}),
    )
    .await?;
    if globals.json() {
        return output::print_json(&status_json(&status));
    }
    let rows = status.identities.iter().map(|held| {
        vec![
            held.spiffe_id.clone(),
            output::when(held.not_after, "not yet"),
            output::when(held.renew_at, "-"),
            held.selectors.join(" "),
        ]
    });
    let identities = output::table(&["IDENTITY", "UNTIL", "RENEWAL", "SELECTORS"], rows);
    output::print(&format!(
        "{}\n\n{identities}",
        output::facts(&status_facts(&status))
    ))
}

fn status_facts(status: &GetStatusResponse) -> Vec<(&'static str, String)> {
    let server = match (status.server_reachable, status.server_address.as_str()) {
        (true, address) => format!("{address}, reachable"),
        (false, "") => "not reached yet".to_owned(),
        (false, address) => format!("{address}, not reachable"),
    };
    let mut facts = vec![
        ("state", status.state.clone()),
        ("standing", standing_of_agent(status)),
        ("trust domain", status.trust_domain.clone()),
        (
            "node",
            if status.agent_id.is_empty() {
                "not attested".to_owned()
            } else {
                status.agent_id.clone()
            },
        ),
        (
            "node's SVID until",
            output::when(status.agent_svid_not_after, "-"),
        ),
        ("server", server),
        ("last sync", output::when(status.last_sync, "never")),
        ("changes", changes(status)),
        ("cache", cache(status)),
        ("server says", server_says(status)),
        ("bundle chain", bundle_chain(status)),
        ("running since", output::when(status.started_at, "-")),
        ("time", time(status)),
        ("callers pinned by", status.attestation_mode.clone()),
        (
            "callers",
            format!(
                "{} processes, {} connections, {} streams",
                status.processes, status.connections, status.streams
            ),
        ),
    ];
    if !status.device_key.is_empty() {
        facts.push(("device key", status.device_key.clone()));
    }
    if !status.trust_debt.is_empty() {
        facts.push(("trust debt", status.trust_debt.clone()));
    }
    if !status.journal.is_empty() {
        facts.push(("journal", status.journal.clone()));
    }
    if !status.ledger_seen.is_empty() {
        facts.push(("ledger", status.ledger_seen.clone()));
    }
    if !status.hand_outs.is_empty() {
        facts.push(("hand-outs", hand_outs(status)));
    }
    if !status.last_error.is_empty() {
        facts.push(("last error", status.last_error.clone()));
    }
    if status.descriptor_limit < status.descriptors_wanted {
        let text = format!(
            "{} may be open, limits.connections_total may need {}: raise LimitNOFILE= in the unit, or ulimit -Hn",
            status.descriptor_limit, status.descriptors_wanted
        );
        facts.push(("too few descriptors", text));
    }
    if !status.missing_capabilities.is_empty() {
        facts.push(("missing capabilities", status.missing_capabilities.join(", ")));
        facts.push(("so no selectors", status.missing_selectors.join(", ")));
    }
    facts
}

/// An agent from before this was said says nothing.
fn standing_of_agent(status: &GetStatusResponse) -> String {
    let ends = [status.first_ends, status.valid_until].into_iter().min();
    match (status.standing_text.as_str(), ends.filter(|end| *end > 0)) {
        ("", _) => "not told".to_owned(),
        ("connected", Some(_)) => format!(
            "connected; what is held would last until {}, the first until {}",
            output::when(status.valid_until, "-"),
            output::when(status.first_ends, "-")
        ),
        (text, _) => text.to_owned(),
    }
}

/// What it is and can.
fn server_says(status: &GetStatusResponse) -> String {
    match status.server_speaks.as_str() {
        "" => "not asked yet".to_owned(),
        speaks => speaks.to_owned(),
    }
}

fn cache(status: &GetStatusResponse) -> String {
    match status.cache.as_str() {
        "" => "not told".to_owned(),
        cache => cache.to_owned(),
    }
}

fn bundle_chain(status: &GetStatusResponse) -> String {
    match status.bundle_chain.as_str() {
        "" => "not known yet".to_owned(),
        chain => chain.to_owned(),
    }
}

/// What the node goes by.
fn time(status: &GetStatusResponse) -> String {
    let Some(time) = &status.time else {
        return "the machine's clock".to_owned();
    };
    let whose = match time.estimated {
        true => "estimated",
        false => "the machine's clock",
    };
    let known = format!(
        "{}, {whose}; it cannot be before {}",
        output::when(time.now, "-"),
        output::when(time.floor, "-")
    );
    match time.complaint.as_str() {
        "" => known,
        complaint => format!("{known}\n{complaint}"),
    }
}

/// Where they are written down.
fn hand_outs(status: &GetStatusResponse) -> String {
    match status.hand_outs_unwritten {
        0 => status.hand_outs.clone(),
        number => format!(
            "{}; {number} since the start have no line there",
            status.hand_outs
        ),
    }
}

/// How the node learns of them.
fn changes(status: &GetStatusResponse) -> String {
    let how = match (status.subscribed_since, status.polls_because.as_str()) {
        (0, "") => "not known yet how they come".to_owned(),
        (0, because) => format!("asked for every few seconds: {because}"),
        (since, _) => format!("told as they happen since {}", output::when(since, "-")),
    };
    match status.newest_revision.as_str() {
        "" => how,
        newest => format!("{how}; newest revision {newest}"),
    }
}

fn status_json(status: &GetStatusResponse) -> Value {
    let identities = status.identities.iter().map(|held| {
        json!({
            "entry_id": held.entry_id, "spiffe_id": held.spiffe_id, "serial": held.serial, "selectors": held.selectors,
            "not_after": output::time_json(held.not_after), "renew_at": output::time_json(held.renew_at),
            "lasts_until": output::time_json(held.lasts_until), "debt_until": output::time_json(held.debt_until),
        })
    });
    json!({
        "state": status.state, "version": status.version, "trust_domain": status.trust_domain, "agent_id": status.agent_id,
        "agent_svid_not_after": output::time_json(status.agent_svid_not_after),
        "server_reachable": status.server_reachable, "server_address": status.server_address,
        "last_sync": output::time_json(status.last_sync), "last_error": status.last_error,
        "subscribed_since": output::time_json(status.subscribed_since), "polls_because": status.polls_because,
        "newest_revision": status.newest_revision, "server_speaks": status.server_speaks,
        "standing": status.standing, "standing_text": status.standing_text,
        "valid_until": output::time_json(status.valid_until), "first_ends": output::time_json(status.first_ends),
        "cache": status.cache, "device_key": status.device_key, "bundle_chain": status.bundle_chain,
        "reserve_until": output::time_json(status.reserve_until), "trust_debt_until": output::time_json(status.trust_debt_until),
        "trust_debt": status.trust_debt, "hand_outs": status.hand_outs, "hand_outs_unwritten": status.hand_outs_unwritten,
        "journal": status.journal, "ledger_seen": status.ledger_seen, "ledger_fork": status.ledger_fork,
        "time": status.time.as_ref().map(|time| json!({
            "now": output::time_json(time.now), "estimated": time.estimated, "floor": output::time_json(time.floor),
            "estimate": output::time_json(time.estimate), "clock_wrong_by": time.clock_wrong_by, "complaint": time.complaint,
        })),
        "started_at": output::time_json(status.started_at), "attestation_mode": status.attestation_mode,
        "missing_capabilities": status.missing_capabilities, "missing_selectors": status.missing_selectors,
        "descriptor_limit": status.descriptor_limit, "descriptors_wanted": status.descriptors_wanted,
        "connections": status.connections, "streams": status.streams, "processes": status.processes,
        "identities": identities.collect::<Vec<_>>(),
    })
}
