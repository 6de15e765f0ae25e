//! Why a process has the identities it has, or none: the nearest entries, what is missing, and the command that mends it.
//!
//! Pure: selectors and entries in, sentences out.

use landfast_identity::{Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime};

use crate::entry::{Entry, one_for_each_hint};
use crate::keeper::state::Snapshot;

/// One entry held against the selectors of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) entry_id: String,
    pub(crate) spiffe_id: String,
    pub(crate) matched: Vec<String>,
    pub(crate) missing: Vec<String>,
}

/// The whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Explanation {
    pub(crate) matches: Vec<Compared>,
    pub(crate) nearest: Vec<Compared>,
    pub(crate) advice: String,
    pub(crate) command: String,
}

/// What the explanation needs to know besides the state.
pub(crate) struct Asked<'a> {
    pub(crate) selectors: &'a SelectorSet,
    pub(crate) executable: &'a str,
    pub(crate) agent_id: Option<&'a SpiffeId>,
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) now: UnixTime,
}

/// Explains.
pub(crate) fn explain(asked: &Asked<'_>, snapshot: &Snapshot) -> Explanation {
    let matching = one_for_each_hint(snapshot.entries.matching(asked.selectors, asked.now));
    let matches: Vec<Compared> = matching
        .iter()
        .map(|entry| compare(entry, asked.selectors))
        .collect();
    let mut nearest: Vec<Compared> = snapshot
        .entries
        .iter()
        .map(|entry| compare(entry, asked.selectors))
        .filter(|compared| !compared.missing.is_empty() && !compared.matched.is_empty())
        .collect();
    nearest.sort_by(|a, b| {
        (a.missing.len(), b.matched.len(), &a.entry_id).cmp(&(b.missing.len(), a.matched.len(), &b.entry_id))
    });
    nearest.truncate(NEAREST);
    let (advice, command) = advise(asked, snapshot, &matching, nearest.first());
    Explanation {
        matches,
        nearest,
        advice,
        command,
    }
}

fn compare(entry: &Entry, selectors: &SelectorSet) -> Compared {
    let (matched, missing): (Vec<&Selector>, Vec<&Selector>) = entry
        .selectors
        .iter()
        .partition(|selector| selectors.contains(selector));
    Compared {
        entry_id: entry.id.to_string(),
        spiffe_id: entry.spiffe_id.to_string(),
        matched: matched.into_iter().map(ToString::to_string).collect(),
        missing: missing.into_iter().map(ToString::to_string).collect(),
    }
}

fn advise(
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    matching: &[std::sync::Arc<Entry>],
    nearest: Option<&Compared>,
) -> (String, String) {
    if snapshot.banned {
        let agent = asked.agent_id.map(ToString::to_string).unwrap_or_default();
        let advice = "The server has banned this node, so no process on it gets an identity. Lift the ban by evicting the agent, then let the node attest again.";
        return (
            advice.to_owned(),
            format!("landfast agent evict {agent}").trim_end().to_owned(),
        );
    }
    if snapshot.synced_at.is_none() {
        let advice = "The agent has not heard from its server since it started, so it knows no entries yet. See what keeps it from the server.";
        return (advice.to_owned(), "landfast agent status".to_owned());
    }
    if !matching.is_empty() {
        return entitled(asked, snapshot, matching);
    }
    let Some(nearest) = nearest else {
        let advice = match snapshot.entries.len() {
            0 => "No entry is registered for this node.".to_owned(),
            n => format!("None of the {n} entries of this node has a selector in common with the process."),
        };
        let path = format!("/workload/{}", workload_name(asked.executable));
        return (
            advice,
            create_command(
                asked,
                &format!("spiffe://{}{path}", asked.trust_domain),
                &own_selectors(asked),
            ),
        );
    };
    let instead = instead_of(&nearest.missing, asked.selectors);
    let advice = format!(
        "The nearest entry, {} ({}), also asks for {}; {}.",
        nearest.entry_id,
        nearest.spiffe_id,
        nearest.missing.join(" and "),
        if instead.is_empty() {
            "the process has nothing of that kind".to_owned()
        } else {
            format!("the process has {}", instead.join(" and "))
        }
    );
    let mut selectors = nearest.matched.clone();
    selectors.extend(instead);
    (advice, create_command(asked, &nearest.spiffe_id, &selectors))
}

/// Of whom an entry fits: whether he gets what it says.
fn entitled(asked: &Asked<'_>, snapshot: &Snapshot, matching: &[std::sync::Arc<Entry>]) -> (String, String) {
    let (held, missing): (Vec<_>, Vec<_>) = matching
        .iter()
        .partition(|entry| snapshot.svid(entry, asked.now).is_some());
    let (waiting, unasked): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|entry| snapshot.is_wanted(entry));
    let named = |entries: Vec<&std::sync::Arc<Entry>>| {
        let ids: Vec<&str> = entries.iter().map(|entry| entry.spiffe_id.as_str()).collect();
        ids.join(", ")
    };
    if !waiting.is_empty() {
        let advice = format!(
            "The process is entitled to {}, but the agent holds no valid SVID for it.",
            named(waiting)
        );
        return (advice, "landfast agent status".to_owned());
    }
    let advice = match (held.is_empty(), unasked.is_empty()) {
        (_, true) => format!("The process is entitled to {} and gets it now.", named(held)),
        (true, false) => format!("The process is entitled to {}, {ON_DEMAND}.", named(unasked)),
        (false, false) => format!(
            "The process is entitled to {} and gets it now, and to {}, {ON_DEMAND}.",
            named(held),
            named(unasked)
        ),
    };
    (advice, String::new())
}

/// What the process has in place of what an entry asks for: same kind, same first word (`unix:uid:`), other value.
fn instead_of(missing: &[String], selectors: &SelectorSet) -> Vec<String> {
    let prefix = |text: &str| text.splitn(3, ':').take(2).collect::<Vec<_>>().join(":") + ":";
    let mut found: Vec<String> = Vec::new();
    for wanted in missing {
        let prefix = prefix(wanted);
        let has = selectors
            .iter()
            .map(ToString::to_string)
            .find(|has| has.starts_with(&prefix));
        found.extend(has.filter(|has| !found.contains(has)));
    }
    found
}

/// The selectors an entry made for this process should have: who runs it, and what it is.
fn own_selectors(asked: &Asked<'_>) -> Vec<String> {
    let all = asked.selectors.iter().map(ToString::to_string);
    all.filter(|text| text.starts_with("unix:uid:") || text.starts_with("unix:path:"))
        .collect()
}

fn create_command(asked: &Asked<'_>, spiffe_id: &str, selectors: &[String]) -> String {
    let parent = asked
        .agent_id
        .map_or_else(|| "AGENT_ID".to_owned(), ToString::to_string);
    let mut command = format!("landfast entry create --spiffe-id {spiffe_id} --parent-id {parent}");
    for selector in selectors {
        command.push_str(" --selector ");
        command.push_str(&quote(selector));
    }
    command
}

/// For a shell. A path may hold anything, and this line is made to be pasted.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-=@%+,".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn workload_name(executable: &str) -> String {
    let name = executable.rsplit('/').next().unwrap_or_default();
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    if name.is_empty() || name == "." || name == ".." {
        "NAME".to_owned()
    } else {
        name
    }
}

const ON_DEMAND: &str = "which is not fetched ahead (its entry disables that): the agent has it signed when the process first asks for it";
const NEAREST: usize = 5;

#[cfg(test)]
#[path = "why/tests.rs"]
mod tests;
