//! `landfast why`.

use clap::Args;
use landfast_proto::landfast::agent::v1::{
    EntryMatch, WhyRequest, WhyResponse, agent_admin_client::AgentAdminClient,
};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::failure::{ADMIN, Failure};
use crate::{connect, output};

#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    /// The process.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
}

pub(crate) async fn run(args: &WhyArgs, globals: &Globals) -> Result<(), Failure> {
    let channel = connect::agent_admin(globals).await?;
    let why = connect::call(
        ADMIN,
        AgentAdminClient::new(channel).why(WhyRequest { pid: args.pid }),
    )
    .await?;
    if globals.json() {
        output::print_json(&to_json(&why))
    } else {
        output::print(&for_people(&why))
    }
}

fn for_people(why: &WhyResponse) -> String {
    let mut text = output::facts(&[
        ("process", why.pid.to_string()),
        ("program", why.executable.clone()),
        ("selectors", output::lines(&why.selectors, "none")),
    ]);
    let gets = why.matches.iter().map(|entry| {
        vec![
            entry.spiffe_id.clone(),
            entry.entry_id.clone(),
            entry.matched.join(" "),
        ]
    });
    text += &format!(
        "\n\nIt gets:\n{}",
        output::table(&["IDENTITY", "ENTRY", "BECAUSE OF"], gets)
    );
    if !why.nearest.is_empty() {
        let near = why.nearest.iter().map(|entry| {
            vec![
                entry.spiffe_id.clone(),
                entry.entry_id.clone(),
                entry.missing.join(" "),
            ]
        });
        text += &format!(
            "\n\nIt does not get:\n{}",
            output::table(&["IDENTITY", "ENTRY", "MISSING"], near)
        );
    }
    if !why.advice.is_empty() {
        text += &format!("\n\n{}", output::clean(&why.advice));
    }
    if !why.command.is_empty() {
        text += &format!("\n  {}", output::clean(&why.command));
    }
    text
}

fn to_json(why: &WhyResponse) -> Value {
    let entries = |entries: &[EntryMatch]| {
        let entry = |entry: &EntryMatch| json!({"entry_id": entry.entry_id, "spiffe_id": entry.spiffe_id, "matched": entry.matched, "missing": entry.missing});
        entries.iter().map(entry).collect::<Vec<_>>()
    };
    json!({
        "pid": why.pid, "executable": why.executable, "selectors": why.selectors, "matches": entries(&why.matches),
        "nearest": entries(&why.nearest), "advice": why.advice, "command": why.command,
    })
}
