//! `landfast-bench`: loads a server of SPIRE's API, or a Workload API, with simulated clients, and reports. It asserts nothing on time.
//!
//! Invariant: every run ends by itself, and every figure that it prints names the load it was measured under.

#![expect(
    clippy::disallowed_methods,
    reason = "writes reports, and throw-away files for servers that live as long as it does"
)]
#![expect(
    clippy::print_stdout,
    reason = "a report for a person is what this program is for"
)]

mod agent;
mod args;
mod cgroup;
mod chart;
mod fleet;
mod host;
mod meter;
mod node;
mod operator;
mod plan;
mod propagation;
mod real;
mod registry;
mod report;
mod samples;
mod site;
mod steady;
mod storm;
mod target;
#[cfg(test)]
mod tests;
mod wire;
mod workload;

use std::process::ExitCode;

use clap::Parser as _;
use landfast_daemon::error_chain;

use crate::args::CommandLine;

/// What ends a run early. This is a program for people who measure: the text says it all.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    landfast_daemon::raise_descriptor_limit(0, "");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime
        .map_err(BoxError::from)
        .and_then(|runtime| runtime.block_on(Box::pin(run(&line))));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error_chain(error.as_ref()));
            eprintln!(
                "hint: docs/benchmarks.md says what each part needs; landfast-bench COMMAND --help what can be given"
            );
            ExitCode::FAILURE
        }
    }
}

async fn run(line: &CommandLine) -> Result<(), BoxError> {
    let mut report = report::Report::new(line.globals.json());
    let measured = tokio::time::timeout(line.globals.deadline(), plan::run(line, &mut report));
    let ended = measured.await.unwrap_or_else(|_elapsed| {
        Err("not done within --deadline; what was measured until then is reported".into())
    });
    report.finish(line.globals.report.as_deref())?;
    ended
}
