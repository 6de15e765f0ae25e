//! `landfast entry import`: entries from SPIRE.
//!
//! Invariant: every entry of the file ends as created, already there, left out or refused, and each is told; nothing that is on the
//! server is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::connect::Channel;
use clap::Args;
use landfast_identity::{SpiffeId, TrustDomain};
use landfast_proto::spire::api::server::bundle::v1 as bundle_api;
use landfast_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use landfast_proto::spire::api::server::entry::v1 as api;
use landfast_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use landfast_proto::spire::api::types;

use super::doubts;
use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, output, wire};

mod format;
mod plan;
mod told;

use plan::{Existing, Fate, Item};

#[derive(Args, Debug)]
#[command(
    after_help = "Exit code 1 when an entry was refused. What is there already stays as it is, so a file can be imported again."
)]
pub(crate) struct ImportArgs {
    /// What spire-server entry show -output json printed, or a file for its entry create -data; `-` for standard input.
    file: PathBuf,
    /// Put the entries of one parent under another, as spiffe://td/old=spiffe://td/new; can be repeated.
    #[arg(long, value_name = "OLD=NEW", value_parser = parse_map)]
    map_parent: Vec<(SpiffeId, SpiffeId)>,
    /// Also import entries that give power over the server: `admin` and `downstream` ones. Without it they are refused, each by name.
    #[arg(long)]
    allow_privileged: bool,
    /// Ask the server what would come of it, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: &ImportArgs, globals: &Globals) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let shown = args.file.display();
    let entries = format::entries(&text).map_err(|error| {
        Failure::failed(
            format!("{shown}: {error}"),
            "the JSON of spire-server entry show -output json is wanted: an object with entries",
        )
    })?;
    let channel = connect::server(globals).await?;
    let trust_domain = trust_domain(channel.clone()).await?;
    let mut items = plan::plan(entries, &args.map_parent, &trust_domain);
    plan::unused_maps(&items, &args.map_parent)
        .iter()
        .for_each(|said| output::complain(said));
    warn(&items);
    if !args.allow_privileged {
        items.iter_mut().for_each(Item::refuse_power);
    }
    let federated = federated(channel.clone()).await?;
    let sent = if args.dry_run {
        let mut existing = Existing::of(all(channel.clone()).await?);
        items.iter_mut().for_each(|item| existing.judge(item, &federated));
        Ok(())
    } else {
        send(&mut items, &federated, channel.clone()).await
    };
    // What was done is told, also when the server went away in the middle.
    let unknown = match &sent {
        Ok(()) => unknown_parents(&items, &channel).await?,
        Err(_) => BTreeMap::new(),
    };
    told::tell(&items, &unknown, args.dry_run, globals.json())?;
    sent?;
    match items
        .iter()
        .filter(|item| matches!(item.fate, Fate::Refused { .. }))
        .count()
    {
        0 => Ok(()),
        refused => Err(Failure::failed(
            format!("{refused} of {} entries were refused", items.len()),
            "mend what is said above and import the file again: what is there stays as it is",
        )),
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let mut text = String::new();
    let taken = if file == Path::new("-") {
        std::io::stdin().take(MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(MAX_BYTES + 1).read_to_string(&mut text))
    };
    taken.map_err(|error| {
        Failure::failed(
            format!("cannot read {shown}: {error}"),
            "give a file, or - for standard input",
        )
    })?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Failure::failed(
            format!("{shown} is larger than 64 MiB"),
            "import it in parts",
        ));
    }
    Ok(text)
}

async fn trust_domain(channel: Channel) -> Result<TrustDomain, Failure> {
    let request = bundle_api::GetBundleRequest {
        output_mask: Some(types::BundleMask::default()),
    };
    let bundle = connect::call(SERVER, BundleClient::new(channel).get_bundle(request)).await?;
    TrustDomain::parse(&bundle.trust_domain).map_err(|error| {
        Failure::failed(
            format!("the server names no trust domain: {error}"),
            "is it a SPIFFE server?",
        )
    })
}

/// The trust domains that an entry can federate with.
async fn federated(channel: Channel) -> Result<BTreeSet<String>, Failure> {
    let mut client = BundleClient::new(channel);
    let (mut names, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = bundle_api::ListFederatedBundlesRequest {
            output_mask: Some(types::BundleMask::default()),
            page_size: PAGE,
            page_token,
        };
        let answer = connect::call(SERVER, client.list_federated_bundles(request)).await?;
        names.extend(answer.bundles.into_iter().map(|bundle| bundle.trust_domain));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(names);
        }
    }
}

async fn all(channel: Channel) -> Result<Vec<types::Entry>, Failure> {
    let mut client = EntryClient::new(channel);
    let (mut entries, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = api::ListEntriesRequest {
            page_size: PAGE,
            page_token,
            ..Default::default()
        };
        let answer = connect::call(SERVER, client.list_entries(request)).await?;
        entries.extend(answer.entries);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(entries);
        }
    }
}

async fn send(items: &mut [Item], federated: &BTreeSet<String>, channel: Channel) -> Result<(), Failure> {
    let mut client = EntryClient::new(channel);
    let mut waiting: Vec<&mut Item> = items
        .iter_mut()
        .filter(|item| matches!(item.fate, Fate::Waits))
        .collect();
    let total = waiting.len();
    for (number, batch) in waiting.chunks_mut(BATCH).enumerate() {
        output::progress(&format!("{} of {total} entries", number * BATCH));
        let request = api::BatchCreateEntryRequest {
            entries: batch.iter().filter_map(|item| item.entry.clone()).collect(),
            output_mask: None,
        };
        let answer = connect::call(SERVER, client.batch_create_entry(request)).await;
        let answer = answer.inspect_err(|_| output::progress(""))?;
        let mut results = answer.results.into_iter();
        for item in batch {
            item.answered(results.next(), federated);
        }
    }
    output::progress("");
    Ok(())
}

/// Parents that are no node and no alias, with the number of entries below each.
async fn unknown_parents(items: &[Item], channel: &Channel) -> Result<BTreeMap<String, usize>, Failure> {
    let mut parents: BTreeMap<String, (types::Spiffeid, usize)> = BTreeMap::new();
    let lives = |item: &&Item| matches!(item.fate, Fate::Created { .. } | Fate::There { .. });
    for entry in items.iter().filter(lives).filter_map(|item| item.entry.as_ref()) {
        if let Some(parent) = &entry.parent_id {
            let (_, count) = parents
                .entry(wire::id_text(Some(parent)))
                .or_insert_with(|| (parent.clone(), 0));
            *count += 1;
        }
    }
    for alias in items.iter().filter(lives).filter_map(|item| item.entry.as_ref()) {
        parents.remove(&wire::id_text(alias.spiffe_id.as_ref()));
    }
    let mut unknown = BTreeMap::new();
    for (text, (parent, count)) in parents {
        if !super::is_known(&parent, channel.clone()).await? {
            unknown.insert(text, count);
        }
    }
    Ok(unknown)
}

/// Each doubt once, however many entries share it.
fn warn(items: &[Item]) {
    let mut doubts: BTreeMap<String, usize> = BTreeMap::new();
    for item in items.iter().filter(|item| matches!(item.fate, Fate::Waits)) {
        for doubt in item.entry.iter().flat_map(doubts::warnings) {
            *doubts.entry(doubt).or_default() += 1;
        }
        for name in &item.unknown {
            let said = format!(
                "warning: {name:?} is not understood and not imported\nhint: this SPIRE may be newer than this program"
            );
            *doubts.entry(said).or_default() += 1;
        }
    }
    for (doubt, count) in doubts {
        let (warning, hint) = doubt.split_once('\n').unwrap_or((&doubt, ""));
        let warning = output::clean_line(warning);
        output::complain(format!("{warning} ({count} of {} entries)\n{hint}", items.len()).trim_end());
    }
}

fn parse_map(text: &str) -> Result<(SpiffeId, SpiffeId), String> {
    let (old, new) = text.split_once('=').ok_or("OLD=NEW, two SPIFFE IDs")?;
    let parse = |text: &str| SpiffeId::parse(text).map_err(|error| format!("{text:?}: {error}"));
    Ok((parse(old)?, parse(new)?))
}

/// Entries sent at a time: one call stays far below its deadline, and is one commit of the server.
const BATCH: usize = 100;
const PAGE: i32 = 500;
const MAX_BYTES: u64 = 64 * 1024 * 1024;
