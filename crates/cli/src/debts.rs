//! What nodes have ahead: said where a person looks at nodes, and before something takes it away.

use std::collections::BTreeMap;

use crate::connect::Channel;
use clap::Args;
use landfast_proto::landfast::reserve::v1 as api;
use landfast_proto::landfast::reserve::v1::debts_client::DebtsClient;
use serde_json::{Value, json};
use tonic::Code;

use crate::failure::{Failure, SERVER};
use crate::{connect, output};

/// For commands that take away what nodes have ahead.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DryRun {
    /// Say what nodes would lose, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What one node has ahead.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Debt {
    rungs: u64,
    entries: u64,
    ends_at: i64,
}

/// By node, in the order of their IDs.
pub(crate) type Debts = BTreeMap<String, Debt>;

/// Empty also when the server has none of it, as SPIRE's.
pub(crate) async fn of(channel: &Channel, which: api::ListDebtsRequest) -> Result<Debts, Failure> {
    let mut debts = Debts::new();
    if which.entry_ids.len() <= AT_ONCE {
        add(&mut debts, channel, which).await?;
        return Ok(debts);
    }
    for some in which.entry_ids.chunks(AT_ONCE) {
        let part = api::ListDebtsRequest {
            entry_ids: some.to_vec(),
            ..which.clone()
        };
        add(&mut debts, channel, part).await?;
    }
    Ok(debts)
}

async fn add(debts: &mut Debts, channel: &Channel, mut which: api::ListDebtsRequest) -> Result<(), Failure> {
    let mut client = DebtsClient::new(channel.clone());
    loop {
        let answer = match connect::answer(client.list_debts(which.clone())).await {
            Ok(answer) => answer,
            Err(status) if status.code() == Code::Unimplemented => return Ok(()),
            Err(status) => return Err(Failure::status(SERVER, &status)),
        };
        for more in answer.debts {
            let debt = debts.entry(more.agent_id).or_default();
            debt.rungs += u64::from(more.rungs);
            debt.entries += 1;
            debt.ends_at = debt.ends_at.max(more.ends_at);
        }
        if answer.next_page_token.is_empty() {
            return Ok(());
        }
        which.page_token = answer.next_page_token;
    }
}

/// Until when it could still show an identity of its workloads, once it is cut off.
pub(crate) fn until(debt: Option<&Debt>) -> String {
    debt.map_or_else(|| "-".to_owned(), |debt| output::when(debt.ends_at, "-"))
}

/// The same in words.
pub(crate) fn said(debt: Option<&Debt>) -> String {
    match debt {
        None => "nothing".to_owned(),
        Some(debt) => format!("{}, until {}", count(debt), output::when(debt.ends_at, "-")),
    }
}

pub(crate) fn json(debt: Option<&Debt>) -> Value {
    let debt = debt.copied().unwrap_or_default();
    json!({"rungs": debt.rungs, "entries": debt.entries, "ends_at": output::time_json(debt.ends_at)})
}

/// Says before it is done who loses what. `false` when it is not to be done.
pub(crate) async fn warn(
    channel: &Channel,
    which: api::ListDebtsRequest,
    DryRun { dry_run }: DryRun,
    json: bool,
) -> Result<bool, Failure> {
    let debts = match of(channel, which).await {
        Ok(debts) => debts,
        Err(failure) if dry_run => return Err(failure),
        // Who shuts out a thief does not wait for this.
        Err(failure) => {
            output::complain(&format!(
                "warning: what nodes lose cannot be said: {}",
                failure.message
            ));
            return Ok(true);
        }
    };
    if dry_run && json {
        let lost = debts.iter().map(|(node, debt)| {
            let mut lost = self::json(Some(debt));
            lost["node"] = node.as_str().into();
            lost
        });
        output::print_json(&json!({"dry_run": true, "would_lose": lost.collect::<Vec<_>>()}))?;
        return Ok(false);
    }
    match (dry_run, losses(&debts)) {
        (true, lost) => output::print(&format!("would lose: {}", output::lines(lost, "nobody anything")))?,
        (false, lost) if lost.is_empty() => {}
        (false, lost) => output::complain(&format!(
            "these nodes lose what they have ahead:\n{}",
            lost.join("\n")
        )),
    }
    Ok(!dry_run)
}

fn losses(debts: &Debts) -> Vec<String> {
    let line = |(node, debt): (&String, &Debt)| format!("{node}: {}", said(Some(debt)));
    let mut lines: Vec<String> = debts.iter().take(SHOWN).map(line).collect();
    if let Some(more) = debts.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        lines.push(format!("and {more} more: --dry-run --output json names them all"));
    }
    lines
}

fn count(debt: &Debt) -> String {
    let s = |count: u64| if count == 1 { "" } else { "s" };
    let entries = match debt.entries {
        1 => "1 entry".to_owned(),
        many => format!("{many} entries"),
    };
    format!("{} X509-SVID{} for {entries}", debt.rungs, s(debt.rungs))
}

/// Entries that a server is asked for at once.
const AT_ONCE: usize = 500;
/// Of a fleet.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_cut_short_and_one_node_is_said_whole() {
        let debt = Debt {
            rungs: 145,
            entries: 1,
            ends_at: 0,
        };
        let debts = |count: usize| {
            (0..count)
                .map(|n| (format!("node-{n:03}"), debt))
                .collect::<Debts>()
        };
        assert!(losses(&debts(0)).is_empty());
        assert_eq!(
            losses(&debts(1)),
            ["node-000: 145 X509-SVIDs for 1 entry, until -"]
        );
        assert_eq!(losses(&debts(20)).len(), 20);
        let many = losses(&debts(22));
        assert_eq!((many.len(), many[20].starts_with("and 2 more")), (21, true));
        assert_eq!((said(None), until(None)), ("nothing".to_owned(), "-".to_owned()));
    }
}
