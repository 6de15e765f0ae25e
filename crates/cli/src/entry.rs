//! `landfast entry`.

use crate::connect::Channel;
use clap::{Args, Subcommand};
use landfast_identity::{Selector, SpiffeId};
use landfast_proto::landfast::reserve::v1::ListDebtsRequest;
use landfast_proto::spire::api::server::agent::v1::{GetAgentRequest, agent_client::AgentClient};
use landfast_proto::spire::api::server::entry::v1 as api;
use landfast_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use landfast_proto::spire::api::types;
use serde_json::json;
use tonic::Code;

use crate::cli::Globals;
use crate::debts::{self, DryRun};
use crate::failure::{Failure, SERVER};
use crate::listing::Listing;
use crate::{connect, output, wire};

pub(crate) mod doubts;
mod fields;
mod import;
mod policy;
mod shown;
mod third_party;

use fields::{CreateArgs, UpdateArgs};
use policy::Policies;
use third_party::ThirdParty;

#[derive(Subcommand, Debug)]
pub(crate) enum EntryCommand {
    /// Give an identity to the processes that have all of the selectors, on the nodes under the parent [server].
    Create(Box<CreateArgs>),
    /// Entries, all or some [server].
    List(ListArgs),
    /// How many entries there are, all or some [server].
    Count(ListArgs),
    /// One entry [server].
    Show {
        /// The entry's ID.
        id: String,
    },
    /// Change what is given, leave the rest [server].
    Update(Box<UpdateArgs>),
    /// What an entry has beside SPIRE's fields; no tool of SPIRE's sees or changes it [server].
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Create entries from SPIRE's JSON: what spire-server entry show printed, or entry create would read [server].
    Import(import::ImportArgs),
    /// Delete entries; SVIDs already handed out live until they expire, what nodes have ahead is marked revoked [server].
    Delete {
        /// The entries' IDs.
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        dry_run: DryRun,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only of this identity.
    #[arg(long)]
    spiffe_id: Option<SpiffeId>,
    /// Only under this parent.
    #[arg(long)]
    parent_id: Option<SpiffeId>,
    /// Only with all of these selectors, and perhaps more; can be repeated.
    #[arg(long)]
    selector: Vec<Selector>,
    /// Only with this hint.
    #[arg(long)]
    hint: Option<String>,
}

pub(crate) async fn run(command: EntryCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        EntryCommand::Create(args) => create(&args, globals).await,
        EntryCommand::List(args) => list(args, globals).await,
        EntryCommand::Count(args) => count(args, globals).await,
        EntryCommand::Show { id } => show(id, globals).await,
        EntryCommand::Update(args) => update(&args, globals).await,
        EntryCommand::Policy(command) => policy::run(command, globals).await,
        EntryCommand::Import(args) => import::run(&args, globals).await,
        EntryCommand::Delete { ids, dry_run } => delete(ids, dry_run, globals).await,
    }
}

async fn client(globals: &Globals) -> Result<EntryClient<Channel>, Failure> {
    Ok(EntryClient::new(connect::server(globals).await?))
}

async fn create(args: &CreateArgs, globals: &Globals) -> Result<(), Failure> {
    let mut entry = args.entry()?;
    for warning in doubts::warnings(&entry) {
        output::complain(&warning);
    }
    let parent = entry.parent_id.clone();
    let party = args.party().map(|party| ThirdParty::withhold(party, &mut entry));
    let request = api::BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    };
    let answer = connect::call(SERVER, client(globals).await?.batch_create_entry(request)).await?;
    let result = answer.results.into_iter().next();
    if let Err(mut failure) = wire::outcome(result.as_ref().and_then(|result| result.status.as_ref())) {
        if let Some(existing) = result.and_then(|result| result.entry) {
            failure.hint = format!("it is entry {0}: landfast entry show {0}", existing.id);
        }
        return Err(failure);
    }
    let mut made = result.and_then(|result| result.entry).unwrap_or_default();
    let policy = match party {
        Some(party) => Some(party.begin(&mut made, connect::server(globals).await?).await?),
        None => None,
    };
    shown::print(&made, policy.as_ref(), globals)?;
    // The entry is made: that the parent cannot be looked up is no failure of that.
    if let Some(parent) = parent
        && let Ok(channel) = connect::server(globals).await
        && let Ok(false) = is_known(&parent, channel).await
    {
        output::complain(&format!(
            "warning: no node and no alias is {}: nobody gets this identity until one is\n\
             hint: landfast agent list shows the nodes, landfast entry create --node makes an alias",
            wire::id_text(Some(&parent))
        ));
    }
    Ok(())
}

/// Whether something can be below this parent: it is the server (then the entry is an alias itself), a node, or has an entry.
async fn is_known(parent: &types::Spiffeid, channel: Channel) -> Result<bool, Failure> {
    if parent.path == "/spire/server" {
        return Ok(true);
    }
    let request = GetAgentRequest {
        id: Some(parent.clone()),
        output_mask: None,
    };
    // Who may create entries may not always see nodes; then there is nothing to be said.
    match connect::answer(AgentClient::new(channel.clone()).get_agent(request)).await {
        // What is not a node's ID at all may be an alias.
        Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => {}
        _ => return Ok(true),
    }
    let filter = api::list_entries_request::Filter {
        by_spiffe_id: Some(parent.clone()),
        ..Default::default()
    };
    let request = api::ListEntriesRequest {
        filter: Some(filter),
        page_size: 1,
        ..Default::default()
    };
    let answer = connect::call(SERVER, EntryClient::new(channel).list_entries(request)).await?;
    Ok(!answer.entries.is_empty())
}

async fn update(args: &UpdateArgs, globals: &Globals) -> Result<(), Failure> {
    let (entry, mask) = args.patch()?;
    let request = api::BatchUpdateEntryRequest {
        entries: vec![entry],
        input_mask: Some(mask),
        output_mask: None,
    };
    let answer = connect::call(SERVER, client(globals).await?.batch_update_entry(request)).await?;
    let result = answer.results.into_iter().next();
    wire::outcome(result.as_ref().and_then(|result| result.status.as_ref()))?;
    let entry = result.and_then(|result| result.entry).unwrap_or_default();
    if mask.selectors {
        for warning in doubts::warnings(&entry) {
            output::complain(&warning);
        }
    }
    shown::print(&entry, None, globals)
}

async fn delete(ids: Vec<String>, dry_run: DryRun, globals: &Globals) -> Result<(), Failure> {
    let channel = connect::server(globals).await?;
    let lost = ListDebtsRequest {
        entry_ids: ids.clone(),
        ..ListDebtsRequest::default()
    };
    if !debts::warn(&channel, lost, dry_run, globals.json()).await? {
        return Ok(());
    }
    let request = api::BatchDeleteEntryRequest { ids };
    let answer = connect::call(SERVER, EntryClient::new(channel).batch_delete_entry(request)).await?;
    let (mut deleted, mut failed) = (Vec::new(), Vec::new());
    for result in answer.results {
        match wire::outcome(result.status.as_ref()) {
            Ok(()) => deleted.push(result.id),
            Err(failure) => failed.push((result.id, failure)),
        }
    }
    if globals.json() {
        let failed = failed
            .iter()
            .map(|(id, failure)| json!({"id": id, "error": failure.message}));
        output::print_json(&json!({"deleted": deleted, "failed": failed.collect::<Vec<_>>()}))?;
    } else if !deleted.is_empty() {
        output::print(&output::lines(
            deleted.iter().map(|id| format!("deleted: {id}")),
            "",
        ))?;
    }
    none_failed(failed)
}

/// One failure that names each that failed; the hint and the exit code are those of the first.
fn none_failed(failed: Vec<(String, Failure)>) -> Result<(), Failure> {
    let all = failed
        .iter()
        .map(|(id, failure)| format!("{id}: {}", failure.message));
    let message = all.collect::<Vec<_>>().join("; ");
    match failed.into_iter().next() {
        None => Ok(()),
        Some((_, first)) => Err(Failure { message, ..first }),
    }
}

async fn count(args: ListArgs, globals: &Globals) -> Result<(), Failure> {
    let filter = api::count_entries_request::Filter {
        by_spiffe_id: args.spiffe_id.as_ref().map(wire::id),
        by_parent_id: args.parent_id.as_ref().map(wire::id),
        by_selectors: all_of(&args.selector),
        by_hint: args.hint,
        ..Default::default()
    };
    let request = api::CountEntriesRequest { filter: Some(filter) };
    let answer = connect::call(SERVER, client(globals).await?.count_entries(request)).await?;
    output::print_count(answer.count, globals.json())
}

/// Entries with all of these, and perhaps more.
fn all_of(selectors: &[Selector]) -> Option<types::SelectorMatch> {
    (!selectors.is_empty()).then(|| types::SelectorMatch {
        selectors: selectors.iter().map(wire::selector).collect(),
        r#match: types::selector_match::MatchBehavior::MatchSuperset.into(),
    })
}

async fn list(args: ListArgs, globals: &Globals) -> Result<(), Failure> {
    let channel = connect::server(globals).await?;
    let mut client = EntryClient::new(channel.clone());
    let filter = api::list_entries_request::Filter {
        by_spiffe_id: args.spiffe_id.as_ref().map(wire::id),
        by_parent_id: args.parent_id.as_ref().map(wire::id),
        by_selectors: all_of(&args.selector),
        by_federates_with: None,
        by_hint: args.hint,
        by_downstream: None,
    };
    let columns = &["ENTRY", "SPIFFE ID", "PARENT", "SELECTORS", "X509 TTL"];
    let mut listing = Listing::new(columns, globals.json());
    let mut page_token = String::new();
    loop {
        let filter = Some(filter.clone());
        let request = api::ListEntriesRequest {
            filter,
            output_mask: None,
            page_size: PAGE,
            page_token,
        };
        let answer = connect::call(SERVER, client.list_entries(request)).await?;
        let policies = match globals.json() {
            true => policy::of(&channel, answer.entries.iter().map(|entry| entry.id.clone())).await?,
            false => Policies::default(),
        };
        let json = |entry: &types::Entry| shown::json(entry, policies.get(&entry.id));
        let more = listing.page(&answer.entries, json, shown::row)?;
        page_token = answer.next_page_token;
        if page_token.is_empty() || !more {
            return listing.end();
        }
    }
}

async fn show(id: String, globals: &Globals) -> Result<(), Failure> {
    let channel = connect::server(globals).await?;
    let request = api::GetEntryRequest {
        id,
        output_mask: None,
    };
    let entry = connect::call(SERVER, EntryClient::new(channel.clone()).get_entry(request)).await?;
    let policies = policy::of(&channel, [entry.id.clone()]).await?;
    shown::print(&entry, policies.get(&entry.id), globals)
}

/// Entries fetched at a time.
const PAGE: i32 = policy::AT_ONCE;
