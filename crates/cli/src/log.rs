//! `landfast log`: how much the server logs, while it runs.

use clap::{Subcommand, ValueEnum};
use landfast_proto::spire::api::server::logger::v1 as api;
use landfast_proto::spire::api::server::logger::v1::logger_client::LoggerClient;
use landfast_proto::spire::api::types;
use serde_json::json;

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, output};

#[derive(Subcommand, Debug)]
pub(crate) enum LogCommand {
    /// Show what the server logs, or change it until it ends or is told `reset` [server].
    Level {
        /// The least severe events that are logged from now on; `reset` for those of its start.
        level: Option<Level>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
    Reset,
}

pub(crate) async fn run(command: LogCommand, globals: &Globals) -> Result<(), Failure> {
    let LogCommand::Level { level } = command;
    let mut client = LoggerClient::new(connect::server(globals).await?);
    let logger = match level {
        None => connect::call(SERVER, client.get_logger(api::GetLoggerRequest {})).await?,
        Some(Level::Reset) => {
            connect::call(SERVER, client.reset_log_level(api::ResetLogLevelRequest {})).await?
        }
        Some(level) => {
            let new_level = match level {
                Level::Error => types::LogLevel::Error,
                Level::Warn => types::LogLevel::Warn,
                Level::Info | Level::Reset => types::LogLevel::Info,
                Level::Debug => types::LogLevel::Debug,
                Level::Trace => types::LogLevel::Trace,
            };
            let request = api::SetLogLevelRequest {
                new_level: new_level.into(),
            };
            connect::call(SERVER, client.set_log_level(request)).await?
        }
    };
    let (current, launch) = (word(logger.current_level), word(logger.launch_level));
    if globals.json() {
        return output::print_json(&json!({"level": current, "at_start": launch}));
    }
    output::print(&output::facts(&[("level", current), ("at its start", launch)]))
}

fn word(level: i32) -> String {
    let known = types::LogLevel::try_from(level).unwrap_or_default();
    known.as_str_name().to_lowercase()
}
