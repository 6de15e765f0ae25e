//! Thin entry point of `landfast-agent`: reads the command line, starts the agent, waits for its end.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use landfast_agent::{Agent, AgentConfig, AgentParts, CommandLine, Verb};
use landfast_daemon::{TaskTree, error_chain, log};

fn main() -> ExitCode {
    match CommandLine::parse().verb {
        Verb::Run { config } => run(&config),
        Verb::Check { file } => match AgentConfig::load(&file) {
            Ok(_) => {
                say(&format!("{}: fine", file.display()));
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error, "examples/agent.toml shows every key"),
        },
    }
}

fn run(path: &Path) -> ExitCode {
    let config = match AgentConfig::load(path) {
        Ok(config) => config,
        Err(error) => return fail(&error, "check it with: landfast-agent check FILE"),
    };
    log::init(&config.log_level, config.log_format);
    landfast_daemon::raise_descriptor_limit(config.descriptors_wanted(), "limits.connections_total");
    // Two threads: the machine's other programs are why it is there. Of those that may block, up to 28 can hang at file systems and
    // name services that do not answer; the rest is for our own files.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(36)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => fail(&error, "the system may be out of threads"),
    }
}

async fn serve(config: AgentConfig) -> ExitCode {
    let tree = TaskTree::new();
    let parts = AgentParts {
        metrics: config.http_listen.map(|_| landfast_daemon::Metrics::install()),
        ..AgentParts::default()
    };
    let handle = match Agent::start(config, parts, &tree.handle()).await {
        Ok(handle) => handle,
        Err(error) => return fail(&error, "mend it and start again; what was there is as it was"),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %handle.socket().display(), "agent started");
    match landfast_daemon::serve_until_asked(tree, DRAIN).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, "this is a fault of the program; please report it"),
    }
}

fn fail(error: &dyn std::error::Error, hint: &str) -> ExitCode {
    use std::io::Write as _;
    let mut out = std::io::stderr().lock();
    // Nowhere is left to report that standard error is closed.
    drop(writeln!(out, "error: {}\nhint: {hint}", error_chain(error)));
    ExitCode::FAILURE
}

fn say(text: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Open requests have this long to end; the Workload API cuts its own before.
const DRAIN: Duration = Duration::from_secs(5);
