//! `spire.api.server.logger.v1.Logger`. Changes what the whole process logs until it ends or is told to go back.

use landfast_daemon::log::{self, LogLevel};
use landfast_proto::spire::api::server::logger::v1::{self as pb, logger_server::Logger};
use landfast_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::Api;
use crate::authz::Caller;

#[tonic::async_trait]
impl Logger for Api {
    async fn get_logger(&self, _: Request<pb::GetLoggerRequest>) -> Result<Response<types::Logger>, Status> {
        logger_out()
    }

    async fn set_log_level(
        &self,
        request: Request<pb::SetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        let level = level_in(request.into_inner().new_level)?;
        if !log::set_level(level) {
            return Err(not_ours());
        }
        tracing::warn!(level = level.as_str(), %by, "what is logged was changed");
        logger_out()
    }

    async fn reset_log_level(
        &self,
        request: Request<pb::ResetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        if !log::reset_level() {
            return Err(not_ours());
        }
        tracing::warn!(%by, "what is logged is as at the start again");
        logger_out()
    }
}

fn logger_out() -> Result<Response<types::Logger>, Status> {
    let (current, launch) = log::levels().ok_or_else(not_ours)?;
    Ok(Response::new(types::Logger {
        current_level: level_out(current).into(),
        launch_level: level_out(launch).into(),
    }))
}

/// We have nothing more severe than an error: PANIC and FATAL are taken for it.
fn level_in(level: i32) -> Result<LogLevel, Status> {
    match types::LogLevel::try_from(level) {
        Ok(types::LogLevel::Unspecified) => Err(Status::invalid_argument(
            "newLevel value cannot be LogLevel_UNSPECIFIED",
        )),
        Ok(types::LogLevel::Panic | types::LogLevel::Fatal | types::LogLevel::Error) => Ok(LogLevel::Error),
        Ok(types::LogLevel::Warn) => Ok(LogLevel::Warn),
        Ok(types::LogLevel::Info) => Ok(LogLevel::Info),
        Ok(types::LogLevel::Debug) => Ok(LogLevel::Debug),
        Ok(types::LogLevel::Trace) => Ok(LogLevel::Trace),
        Err(_unknown) => Err(Status::invalid_argument("unsupported log level")),
    }
}

fn level_out(level: LogLevel) -> types::LogLevel {
    match level {
        LogLevel::Error => types::LogLevel::Error,
        LogLevel::Warn => types::LogLevel::Warn,
        LogLevel::Info => types::LogLevel::Info,
        LogLevel::Debug => types::LogLevel::Debug,
        LogLevel::Trace => types::LogLevel::Trace,
    }
}

/// `landfast dev` and tests: the process around us logs, or does not.
fn not_ours() -> Status {
    Status::failed_precondition(
        "this process did not start its logging as a daemon does, so its level cannot be changed",
    )
}
