//! `landfast selftest`: what must be refused, tried against a running server and agent.
//!
//! Invariant: a try counts as refused only when the same way is open to who may go it, before and after all tries: a server that is away has refused
//! nothing.

mod answers;
mod callers;
mod tries;

use std::path::PathBuf;

use landfast_proto::landfast::selftest::v1 as pb;
use landfast_proto::landfast::selftest::v1::self_test_client::SelfTestClient;
use serde_json::json;

use crate::cli::Globals;
use crate::failure::{FAILED, Failure, SERVER};
use crate::{connect, output};
use tries::World;

#[derive(clap::Args, Debug)]
pub(crate) struct SelfTestArgs {
    /// The server's address for agents, which the tries go to. Default: that of --server.
    #[arg(long, value_name = "HOST:PORT", help_heading = crate::cli::WHERE)]
    address: Option<String>,
    /// Do not ask the agent of this machine.
    #[arg(long)]
    no_agent: bool,
    /// Write nothing into the server's ledger about this; what the server refuses it records all the same.
    #[arg(long)]
    unrecorded: bool,
}

/// One thing that must not be possible.
#[derive(Debug)]
struct Tried {
    name: &'static str,
    what: &'static str,
    came: Came,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// With what was answered.
    Refused(String),
    LetThrough(String),
    /// And why not.
    NotTried(String),
}

pub(crate) async fn run(args: &SelfTestArgs, globals: &Globals) -> Result<u8, Failure> {
    let address = args.address.clone().or_else(|| globals.server.clone());
    let address = address.ok_or_else(|| {
        Failure::usage(
            "the address of the server for agents is not given",
            "--address HOST:PORT, as in `listen` of its configuration",
        )
    })?;
    let operator = connect::server(globals).await?;
    // So that nobody takes what the tries need for what an operator wanted.
    let tries = connect::server_because(globals, WHY).await?;
    let agent = (!args.no_agent).then(|| PathBuf::from(globals.workload_api().trim_start_matches("unix://")));
    let world = World::begin(tries, address, agent).await?;
    let tried = world.all().await?;
    if !args.unrecorded {
        let tries = tried.iter().map(message).collect();
        let mut client = SelfTestClient::new(operator);
        let report = client.report(pb::ReportRequest { tries });
        // The result is printed in any case.
        if let Err(failure) = connect::call(SERVER, report).await {
            show(&tried, globals)?;
            return Err(failure);
        }
    }
    show(&tried, globals)?;
    Ok(code(&tried))
}

fn code(tried: &[Tried]) -> u8 {
    match tried.iter().all(|tried| matches!(tried.came, Came::Refused(_))) {
        true => 0,
        false => FAILED,
    }
}

fn message(tried: &Tried) -> pb::Try {
    let (outcome, detail) = match &tried.came {
        Came::Refused(detail) => (pb::Outcome::Refused, detail),
        Came::LetThrough(detail) => (pb::Outcome::LetThrough, detail),
        Came::NotTried(detail) => (pb::Outcome::NotTried, detail),
    };
    let mut detail = output::clean_line(detail);
    let mut end = detail.len().min(MOST_DETAIL);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail.truncate(end);
    pb::Try {
        name: tried.name.to_owned(),
        outcome: outcome.into(),
        detail,
    }
}

fn show(tried: &[Tried], globals: &Globals) -> Result<(), Failure> {
    let parts = |came: &Came| match came {
        Came::Refused(detail) => ("refused", output::clean_line(detail)),
        Came::LetThrough(detail) => ("LET THROUGH", output::clean_line(detail)),
        Came::NotTried(detail) => ("not tried", output::clean_line(detail)),
    };
    if globals.json() {
        let tries: Vec<_> = tried
            .iter()
            .map(|tried| {
                let (outcome, detail) = parts(&tried.came);
                let outcome = outcome.to_lowercase().replace(' ', "-");
                json!({ "name": tried.name, "what": tried.what, "outcome": outcome, "answer": detail })
            })
            .collect();
        return output::print_json(&json!({ "good": code(tried) == 0, "tries": tries }));
    }
    let rows = tried.iter().map(|tried| {
        let (outcome, detail) = parts(&tried.came);
        vec![tried.what.to_owned(), outcome.to_owned(), detail]
    });
    let table = output::table(&["TRIED", "OUTCOME", "ANSWER"], rows);
    let last = match code(tried) {
        0 => "good: each was refused",
        _ => "NOT good: each has to be refused",
    };
    output::print(&format!("{table}\n\n{last}"))
}

/// The reason of what is made and taken away for the tries: evidence knows it, and does not count it as what operators do.
const WHY: &str = "selftest";
const MOST_DETAIL: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(came: Came) -> Tried {
        Tried {
            name: "x",
            what: "x",
            came,
        }
    }

    #[test]
    fn only_refusals_are_good() {
        let refused = || tried(Came::Refused("no".to_owned()));
        assert_eq!(code(&[refused(), refused()]), 0);
        for bad in [Came::LetThrough(String::new()), Came::NotTried(String::new())] {
            assert_eq!(code(&[refused(), tried(bad), refused()]), FAILED);
        }
    }

    #[test]
    fn what_is_recorded_is_one_short_line() {
        let long = message(&tried(Came::Refused(format!("a\nb{}", "ä".repeat(200)))));
        assert!(long.detail.len() <= MOST_DETAIL && !long.detail.contains('\n'));
        assert_eq!(long.outcome(), pb::Outcome::Refused);
    }
}
