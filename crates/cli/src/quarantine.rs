//! `landfast quarantine`.

use clap::Subcommand;
use landfast_proto::landfast::quarantine::v1 as pb;
use landfast_proto::landfast::quarantine::v1::quarantine_client::QuarantineClient;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::connect;
use crate::failure::{Failure, SERVER};
use crate::output;

#[derive(Subcommand, Debug)]
pub(crate) enum QuarantineCommand {
    /// Whether the server is in quarantine, why, and what is known of what it has forgotten [server].
    Show,
    /// End it, with --reason: the server signs again, and nodes are told what its registry says now. The reason goes into the log, and show has
    /// it afterwards [server].
    End {
        /// What was decided since the backup and is not so here may be lost. Repeat bans, evictions and deletions before.
        #[arg(long)]
        accept_rollback: bool,
    },
}

pub(crate) async fn run(command: QuarantineCommand, globals: &Globals) -> Result<(), Failure> {
    let why = |globals: &Globals| {
        let reason = globals.reason.as_ref().map(|reason| reason.as_str().to_owned());
        reason.ok_or_else(|| {
            Failure::usage(
                "--reason is missing",
                "say why the quarantine may end: show has it afterwards",
            )
        })
    };
    let reason = match &command {
        QuarantineCommand::Show => String::new(),
        QuarantineCommand::End { .. } => why(globals)?,
    };
    let mut client = QuarantineClient::new(connect::server(globals).await?);
    match command {
        QuarantineCommand::Show => {
            let request = pb::GetQuarantineRequest {};
            let found = connect::call(SERVER, client.get_quarantine(request)).await?;
            match globals.json() {
                true => output::print_json(&to_json(&found)),
                false => output::print(&shown(&found)),
            }
        }
        QuarantineCommand::End { accept_rollback } => {
            let request = pb::EndQuarantineRequest {
                reason,
                accept_rollback,
            };
            let ended = connect::call(SERVER, client.end_quarantine(request)).await?;
            match globals.json() {
                true => output::print_json(&json!({
                    "ended": true, "came_back": ended.came_back, "caution": ended.caution,
                })),
                false => output::print(&over(&ended)),
            }
        }
    }
}

fn over(ended: &pb::EndQuarantineResponse) -> String {
    let mut text = "the quarantine has ended".to_owned();
    if ended.came_back > 0 {
        text += &format!("; {} decisions were given up", ended.came_back);
    }
    if !ended.caution.is_empty() {
        text += &format!("\nlook now: {}", ended.caution);
    }
    output::clean(&text)
}

fn shown(found: &pb::GetQuarantineResponse) -> String {
    if found.causes.is_empty() {
        let last = found.ended.last().map(|ended| {
            format!(
                "\nthe last one ended {}, by {}: {}",
                output::when(ended.ended, "-"),
                ended.by,
                ended.reason
            )
        });
        return output::clean(&format!("no quarantine{}", last.unwrap_or_default()));
    }
    let mut facts = Vec::new();
    for cause in &found.causes {
        facts.push((cause.kind.as_str(), cause.detail.clone()));
        facts.push(("since", output::when(cause.since, "-")));
        if cause.backup_made_at != 0 {
            facts.push(("backup made", output::when(cause.backup_made_at, "-")));
        }
    }
    let heard = format!(
        "{} of {} have shown what they hold",
        found.nodes_heard, found.nodes
    );
    facts.push(("nodes", heard));
    if found.nodes_shown > 0 {
        let count = found.nodes_shown;
        let noun = if count == 1 { "node has" } else { "nodes have" };
        facts.push(("bundle chain", format!("{count} {noun} shown steps")));
    }
    if let Some(newest) = &found.newest {
        let seen = format!("revision {}.{}", newest.epoch, newest.number);
        facts.push(("newest they have seen", seen));
    }
    let (back, lost): (Vec<_>, Vec<_>) = found.findings.iter().partition(|finding| finding.comes_back);
    let listed = |findings: &[&pb::Finding], none: &str| {
        output::lines(
            findings
                .iter()
                .map(|finding| format!("{} {}: {}", finding.kind, finding.object, finding.detail)),
            none,
        )
    };
    let none = match found.complete {
        true => "nothing",
        false => "nothing is known yet",
    };
    facts.push(("comes back", listed(&back, none)));
    if !lost.is_empty() {
        facts.push(("is lost", listed(&lost, "")));
    }
    if !found.caution.is_empty() {
        facts.push(("look first", found.caution.clone()));
    }
    facts.push(("what to do", what_to_do(found, back.is_empty()).to_owned()));
    output::facts(&facts)
}

fn what_to_do(found: &pb::GetQuarantineResponse, nothing_back: bool) -> &'static str {
    match (found.complete, nothing_back) {
        (true, true) => "landfast quarantine end --reason TEXT",
        (true, false) => {
            "repeat what must not come back (entry delete, agent evict or ban, authority taint), then end --reason TEXT; what is to come back: end \
             --accept-rollback"
        }
        (false, _) => {
            "not all is known: repeat each ban, eviction, deletion and taint since then, also those that are not listed, and end --reason TEXT \
             --accept-rollback; or stop the server and bring the newer data back"
        }
    }
}

fn to_json(found: &pb::GetQuarantineResponse) -> Value {
    json!({
        "quarantine": !found.causes.is_empty(),
        "causes": found.causes.iter().map(|cause| json!({
            "kind": cause.kind,
            "since": output::time_json(cause.since),
            "detail": cause.detail,
            "backup_made_at": output::time_json(cause.backup_made_at),
        })).collect::<Vec<_>>(),
        "complete": found.complete,
        "findings": found.findings.iter().map(|finding| json!({
            "kind": finding.kind,
            "object": finding.object,
            "detail": finding.detail,
            "comes_back": finding.comes_back,
        })).collect::<Vec<_>>(),
        "nodes": found.nodes,
        "nodes_heard": found.nodes_heard,
        "nodes_shown": found.nodes_shown,
        "caution": found.caution,
        "newest": found.newest.as_ref().map(|newest| json!({"epoch": newest.epoch, "number": newest.number})),
        "ended": found.ended.iter().map(|ended| json!({
            "since": output::time_json(ended.since),
            "ended": output::time_json(ended.ended),
            "by": ended.by,
            "reason": ended.reason,
            "came_back": ended.came_back,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: &str, comes_back: bool) -> pb::Finding {
        pb::Finding {
            kind: kind.to_owned(),
            object: "e1".to_owned(),
            detail: "spiffe://plant.example/w\u{1b}[2J".to_owned(),
            comes_back,
        }
    }

    #[test]
    fn what_comes_back_what_is_lost_and_what_to_do_are_said() {
        let mut found = pb::GetQuarantineResponse {
            causes: vec![pb::Cause {
                kind: "restored".to_owned(),
                since: 1_795_420_800,
                detail: "a backup was restored".to_owned(),
                backup_made_at: 1_795_400_000,
            }],
            findings: vec![finding("entry-deleted", true), finding("node-lost", false)],
            complete: true,
            nodes: 3,
            nodes_heard: 2,
            ..Default::default()
        };
        let text = shown(&found);
        for part in [
            "a backup was restored",
            "2 of 3",
            "entry-deleted e1",
            "node-lost e1",
            "repeat what must not",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "a peer's words are cleaned");
        found.findings.clear();
        assert!(shown(&found).contains("end --reason TEXT"));
        found.complete = false;
        let text = shown(&found);
        assert!(
            text.contains("nothing is known yet") && text.contains("--accept-rollback"),
            "{text}"
        );
        assert_eq!(to_json(&found)["quarantine"], true);
    }

    #[test]
    fn what_to_look_at_before_and_after_the_end_is_said() {
        let mut found = pb::GetQuarantineResponse {
            causes: vec![pb::Cause::default()],
            caution: "is the present root key in place?".to_owned(),
            ..Default::default()
        };
        let text = shown(&found);
        let (look, then) = (text.find("look first"), text.find("what to do"));
        assert!(
            look.is_some() && look < then && text.contains(&found.caution),
            "{text}"
        );
        assert_eq!(to_json(&found)["caution"], found.caution);
        found.caution.clear();
        found.nodes_shown = 2;
        let text = shown(&found);
        assert!(
            !text.contains("look first") && text.contains("2 nodes have shown"),
            "{text}"
        );
        assert_eq!(to_json(&found)["nodes_shown"], 2);
        let mut ended = pb::EndQuarantineResponse::default();
        assert_eq!(over(&ended), "the quarantine has ended");
        ended.came_back = 3;
        ended.caution = "is the present root key in place?".to_owned();
        let text = over(&ended);
        assert!(
            text.contains("3 decisions") && text.contains("root key in place?"),
            "{text}"
        );
    }

    #[test]
    fn without_one_the_last_is_told() {
        let none = pb::GetQuarantineResponse::default();
        assert_eq!(shown(&none), "no quarantine");
        let ended = pb::Ended {
            since: 1,
            ended: 1_795_420_800,
            by: "local:1000".to_owned(),
            reason: "nothing was banned since".to_owned(),
            came_back: 0,
        };
        let found = pb::GetQuarantineResponse {
            ended: vec![ended],
            ..none
        };
        assert!(shown(&found).contains("nothing was banned since"));
        assert_eq!(to_json(&found)["quarantine"], false);
    }
}
