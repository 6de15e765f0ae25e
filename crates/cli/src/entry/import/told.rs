//! What a person or a program reads about an import.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::plan::{Fate, Item};
use crate::failure::Failure;
use crate::output;

pub(super) fn tell(
    items: &[Item],
    unknown: &BTreeMap<String, usize>,
    dry_run: bool,
    as_json: bool,
) -> Result<(), Failure> {
    if as_json {
        return output::print_json(&to_json(items, unknown, dry_run));
    }
    for item in items {
        let who = format!("entry {} of the file ({})", item.number, item.spiffe_id());
        if let (Fate::Created { .. }, Some(power)) = (&item.fate, item.power()) {
            output::complain(&output::clean(&format!("privileged: {who}: its holder {power}")));
        }
        let said = match &item.fate {
            Fate::Refused { why, hint } => {
                format!("refused: {who}: {why}\nhint: {}", output::clean_line(hint))
            }
            Fate::LeftOut { why } => format!("left out: {who}: {why}"),
            Fate::There { id, differs: true } => {
                format!("already there: {who}, with other settings\nhint: landfast entry show {id}")
            }
            _ => continue,
        };
        output::complain(&output::clean(&said));
    }
    for (parent, count) in unknown {
        output::complain(&format!(
            "warning: no node and no alias is {parent}: nobody gets the identities of its {count} entries until one is\nhint: {}",
            advice(parent)
        ));
    }
    let count = |wanted: fn(&Fate) -> bool| items.iter().filter(|item| wanted(&item.fate)).count();
    output::print(&format!(
        "{}created {}, already there {}, left out {}, refused {}{}",
        if dry_run { "would have: " } else { "" },
        count(|fate| matches!(fate, Fate::Created { .. })),
        count(|fate| matches!(fate, Fate::There { .. })),
        count(|fate| matches!(fate, Fate::LeftOut { .. })),
        count(|fate| matches!(fate, Fate::Refused { .. })),
        match count(|fate| matches!(fate, Fate::Waits)) {
            0 => String::new(),
            unsent => format!(", not sent {unsent}"),
        }
    ))
}

/// How the parent can come to be.
fn advice(parent: &str) -> String {
    match parent.split_once("/spire/agent/").map(|(_, kind)| kind) {
        Some(kind) if kind.starts_with("x509pop/") => {
            "it is one as soon as that device attests here with the same certificate; --map-parent OLD=NEW names another".to_owned()
        }
        Some(_) => format!("nodes of the old server do not exist here: --map-parent {parent}=NEW puts its entries under another"),
        None => format!("landfast token create --agent-id {parent} makes a node with this ID, landfast entry create --node an alias"),
    }
}

fn to_json(items: &[Item], unknown: &BTreeMap<String, usize>, dry_run: bool) -> Value {
    let mut lists: BTreeMap<&str, Vec<Value>> =
        ["created", "already_there", "left_out", "refused", "not_sent"]
            .map(|name| (name, Vec::new()))
            .into();
    for item in items {
        let mut told = json!({"entry": item.number, "spiffe_id": item.spiffe_id()});
        if let Some(power) = item.power() {
            told["privileged"] = power.into();
        }
        let (list, more) = match &item.fate {
            Fate::Created { id } => ("created", vec![("id", Value::from(id.clone()))]),
            Fate::There { id, differs } => (
                "already_there",
                vec![("id", id.clone().into()), ("differs", (*differs).into())],
            ),
            Fate::LeftOut { why } => ("left_out", vec![("why", (*why).into())]),
            Fate::Refused { why, hint } => (
                "refused",
                vec![("why", why.clone().into()), ("hint", hint.clone().into())],
            ),
            Fate::Waits => ("not_sent", Vec::new()),
        };
        if let Value::Object(fields) = &mut told {
            fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        lists.entry(list).or_default().push(told);
    }
    let mut all = json!({"dry_run": dry_run, "unknown_parents": unknown.keys().collect::<Vec<_>>()});
    if let Value::Object(fields) = &mut all {
        fields.extend(
            lists
                .into_iter()
                .map(|(name, list)| (name.to_owned(), list.into())),
        );
    }
    all
}
