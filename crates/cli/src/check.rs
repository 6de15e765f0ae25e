//! `landfast server check` and `landfast agent check`: the daemons' own check, from here.

use std::path::Path;

use landfast_agent::AgentConfig;
use landfast_daemon::error_chain;
use landfast_server::ServerConfig;
use serde_json::json;

use crate::cli::Globals;
use crate::failure::Failure;
use crate::output;

pub(crate) fn agent(file: &Path, globals: &Globals) -> Result<(), Failure> {
    let checked = AgentConfig::load(file);
    report(
        file,
        globals,
        checked.err().map(|error| error_chain(&error)),
        "examples/agent.toml shows every key",
    )
}

pub(crate) fn server(file: &Path, globals: &Globals) -> Result<(), Failure> {
    let checked = ServerConfig::load(file).map_err(|error| error_chain(&error));
    let checked = checked.and_then(|config| config.check_upstream().map_err(|error| error_chain(&error)));
    report(
        file,
        globals,
        checked.err(),
        "examples/server.toml shows every key",
    )
}

fn report(file: &Path, globals: &Globals, wrong: Option<String>, hint: &str) -> Result<(), Failure> {
    match wrong {
        Some(message) => Err(Failure::failed(message, hint)),
        None if globals.json() => {
            output::print_json(&json!({"file": file.display().to_string(), "fine": true}))
        }
        None => output::print(&format!("{}: fine", file.display())),
    }
}
