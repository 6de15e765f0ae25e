//! `landfast log`: how much the server or an agent logs, while it runs.

use clap::{Subcommand, ValueEnum};
use landfast_proto::spire::api::agent::logger::v1 as agent;
use landfast_proto::spire::api::server::logger::v1 as server;
use landfast_proto::spire::api::types;
use serde_json::json;

use crate::cli::Globals;
use crate::failure::{ADMIN, Failure, SERVER};
use crate::{connect, output};

#[derive(Subcommand, Debug)]
pub(crate) enum LogCommand {
    /// Show what the server logs, or change it until it ends or is told `reset`; with --agent the agent of this machine [server].
    Level {
        /// The least severe events that are logged from now on; `reset` for those of its start.
        level: Option<Level>,
        /// Of the local agent, by its admin socket.
        #[arg(long)]
        agent: bool,
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

/// What is asked of a logger, whosever it is.
enum Wanted {
    Show,
    Set(i32),
    Reset,
}

impl From<Option<Level>> for Wanted {
    fn from(level: Option<Level>) -> Self {
        let level = match level {
            None => return Self::Show,
            Some(Level::Reset) => return Self::Reset,
            Some(Level::Error) => types::LogLevel::Error,
            Some(Level::Warn) => types::LogLevel::Warn,
            Some(Level::Info) => types::LogLevel::Info,
            Some(Level::Debug) => types::LogLevel::Debug,
            Some(Level::Trace) => types::LogLevel::Trace,
        };
        Self::Set(level.into())
    }
}

pub(crate) async fn run(command: LogCommand, globals: &Globals) -> Result<(), Failure> {
    let LogCommand::Level { level, agent } = command;
    let logger = match agent {
        true => of_agent(level.into(), globals).await?,
        false => of_server(level.into(), globals).await?,
    };
    let (current, launch) = (word(logger.current_level), word(logger.launch_level));
    if globals.json() {
        return output::print_json(&json!({"level": current, "at_start": launch}));
    }
    output::print(&output::facts(&[("level", current), ("at its start", launch)]))
}

async fn of_server(wanted: Wanted, globals: &Globals) -> Result<types::Logger, Failure> {
    let mut client = server::logger_client::LoggerClient::new(connect::server(globals).await?);
    match wanted {
        Wanted::Show => connect::call(SERVER, client.get_logger(server::GetLoggerRequest {})).await,
        Wanted::Reset => connect::call(SERVER, client.reset_log_level(server::ResetLogLevelRequest {})).await,
        Wanted::Set(new_level) => {
            let request = server::SetLogLevelRequest { new_level };
            connect::call(SERVER, client.set_log_level(request)).await
        }
    }
}

async fn of_agent(wanted: Wanted, globals: &Globals) -> Result<types::Logger, Failure> {
    let mut client = agent::logger_client::LoggerClient::new(connect::agent_admin(globals).await?);
    match wanted {
        Wanted::Show => connect::call(ADMIN, client.get_logger(agent::GetLoggerRequest {})).await,
        Wanted::Reset => connect::call(ADMIN, client.reset_log_level(agent::ResetLogLevelRequest {})).await,
        Wanted::Set(new_level) => {
            let request = agent::SetLogLevelRequest { new_level };
            connect::call(ADMIN, client.set_log_level(request)).await
        }
    }
}

fn word(level: i32) -> String {
    let known = types::LogLevel::try_from(level).unwrap_or_default();
    known.as_str_name().to_lowercase()
}
