//! The sentences and commands of `why`.

use std::sync::Arc;

use super::*;
use crate::entry::EntryIndex;
use crate::keeper::state::Held;
use crate::testing::{Ca, NOON, at, entry, id, selectors, td};

const MINE: &[&str] = &["unix:uid:1001", "unix:gid:100", "unix:path:/opt/collector"];

fn snapshot(entries: Vec<Entry>) -> Snapshot {
    Snapshot {
        entries: Arc::new(EntryIndex::new(entries.into_iter().map(Arc::new))),
        synced_at: Some(NOON),
        round_over: true,
        ..Snapshot::default()
    }
}

fn why(snapshot: &Snapshot, mine: &[&str]) -> Explanation {
    let (selectors, agent, trust_domain) = (selectors(mine), id("/spire/agent/x509pop/node"), td());
    let asked = Asked {
        selectors: &selectors,
        executable: "/opt/collector",
        agent_id: Some(&agent),
        trust_domain: &trust_domain,
        now: NOON,
    };
    explain(&asked, snapshot)
}

#[test]
fn the_nearest_entry_names_what_is_missing_and_the_command_mends_it() {
    let near = entry(
        "near",
        "/collector",
        &["unix:uid:1000", "unix:path:/opt/collector"],
    );
    let far = entry("far", "/far", &["unix:uid:1001", "unix:path:/a", "unix:gid:5"]);
    let alien = entry("alien", "/alien", &["docker:label:x"]);
    let told = why(&snapshot(vec![far, near, alien]), MINE);
    let names: Vec<_> = told
        .nearest
        .iter()
        .map(|compared| compared.entry_id.as_str())
        .collect();
    assert_eq!(names, ["near", "far"]);
    assert_eq!(told.nearest[0].missing, ["unix:uid:1000"]);
    assert_eq!(told.nearest[0].matched, ["unix:path:/opt/collector"]);
    assert_eq!(
        told.advice,
        "The nearest entry, near (spiffe://plant.test/collector), also asks for unix:uid:1000; the process has unix:uid:1001."
    );
    assert_eq!(
        told.command,
        "landfast entry create --spiffe-id spiffe://plant.test/collector --parent-id spiffe://plant.test/spire/agent/x509pop/node \
         --selector unix:path:/opt/collector --selector unix:uid:1001"
    );
}

#[test]
fn without_any_near_entry_one_for_user_and_program_is_proposed() {
    let told = why(&snapshot(vec![]), MINE);
    assert_eq!(told.advice, "No entry is registered for this node.");
    assert!(
        told.command
            .ends_with("--selector unix:path:/opt/collector --selector unix:uid:1001"),
        "{}",
        told.command
    );
    assert!(
        told.command
            .contains("--spiffe-id spiffe://plant.test/workload/collector ")
    );
    let told = why(&snapshot(vec![entry("a", "/a", &["docker:label:x"])]), MINE);
    assert_eq!(
        told.advice,
        "None of the 1 entries of this node has a selector in common with the process."
    );
}

#[test]
fn an_entitled_process_is_told_so_and_whether_it_gets_it() {
    let ca = Ca::new("one");
    let mine = entry("a", "/a", &["unix:uid:1001"]);
    let mut all = snapshot(vec![mine.clone()]);
    let told = why(&all, MINE);
    assert_eq!(told.matches.len(), 1);
    assert!(told.advice.contains("holds no valid SVID"), "{}", told.advice);
    let held = Held::new(ca.svid(&mine.spiffe_id, NOON, at(60)), 0, NOON);
    all.held = Arc::new([(Arc::clone(&mine.id), Arc::new(held))].into());
    let told = why(&all, MINE);
    assert_eq!(
        told.advice,
        "The process is entitled to spiffe://plant.test/a and gets it now."
    );
    assert_eq!(told.command, "");
}

#[test]
fn what_is_fetched_only_when_the_process_asks_is_not_said_to_be_there() {
    let ca = Ca::new("one");
    let lazy = Entry {
        on_demand: true,
        ..entry("a", "/a", &["unix:uid:1001"])
    };
    let ahead = entry("b", "/b", &["unix:uid:1001"]);
    let told = why(&snapshot(vec![lazy.clone()]), MINE);
    assert_eq!(
        told.advice,
        "The process is entitled to spiffe://plant.test/a, which is not fetched ahead (its entry disables that): the agent has it signed \
         when the process first asks for it."
    );
    assert_eq!(told.command, "");
    let mut all = snapshot(vec![lazy.clone(), ahead.clone()]);
    let held = |entry: &Entry| {
        let held = Held::new(ca.svid(&entry.spiffe_id, NOON, at(60)), 0, NOON);
        (Arc::clone(&entry.id), Arc::new(held))
    };
    all.held = Arc::new([held(&ahead)].into());
    let told = why(&all, MINE);
    assert!(
        told.advice
            .starts_with("The process is entitled to spiffe://plant.test/b and gets it now, and to spiffe://plant.test/a, which is not"),
        "{}",
        told.advice
    );
    all.held = Arc::new([held(&ahead), held(&lazy)].into());
    let told = why(&all, MINE);
    assert!(told.advice.ends_with(" and gets it now."), "{}", told.advice);
    // It was asked for, and does not come.
    all.held = Arc::new([held(&ahead)].into());
    all.wanted = Arc::new([(Arc::clone(&lazy.id), NOON)].into());
    let told = why(&all, MINE);
    assert!(told.advice.contains("holds no valid SVID"), "{}", told.advice);
}

#[test]
fn a_node_that_is_not_in_says_so_first() {
    let told = why(&Snapshot::default(), MINE);
    assert_eq!(told.command, "landfast agent status");
    let banned = Snapshot {
        banned: true,
        ..Snapshot::default()
    };
    assert_eq!(
        why(&banned, MINE).command,
        "landfast agent evict spiffe://plant.test/spire/agent/x509pop/node"
    );
}

#[test]
fn a_path_cannot_smuggle_a_command_into_the_shell() {
    let told = why(
        &snapshot(vec![]),
        &["unix:uid:1", "unix:path:/tmp/a'; rm -rf $HOME; '"],
    );
    assert!(
        told.command
            .contains(r"--selector 'unix:path:/tmp/a'\''; rm -rf $HOME; '\'''"),
        "{}",
        told.command
    );
}
