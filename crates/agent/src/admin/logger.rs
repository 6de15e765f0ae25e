//! `spire.api.agent.logger.v1.Logger`. Changes what the whole process logs until it ends or is told to go back.

use landfast_daemon::log::{self, LogLevel};
use landfast_proto::spire::api::agent::logger::v1::{self as pb, logger_server::Logger};
use landfast_proto::spire::api::types;
use landfast_uds::PeerInfo;
use tonic::{Request, Response, Status};

use super::Admin;

#[tonic::async_trait]
impl Logger for Admin {
    async fn get_logger(&self, _: Request<pb::GetLoggerRequest>) -> Result<Response<types::Logger>, Status> {
        levels()
    }

    async fn set_log_level(
        &self,
        request: Request<pb::SetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let level = level_in(request.get_ref().new_level)?;
        if !log::set_level(level) {
            return Err(not_ours());
        }
        let (uid, pid) = by(&request);
        tracing::warn!(level = level.as_str(), uid, pid, "what is logged was changed");
        levels()
    }

    async fn reset_log_level(
        &self,
        request: Request<pb::ResetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        if !log::reset_level() {
            return Err(not_ours());
        }
        let (uid, pid) = by(&request);
        tracing::warn!(uid, pid, "what is logged is as at the start again");
        levels()
    }
}

fn by<T>(request: &Request<T>) -> (Option<u32>, Option<i32>) {
    let peer = request.extensions().get::<PeerInfo>();
    (peer.map(|peer| peer.uid), peer.and_then(|peer| peer.pid))
}

fn levels() -> Result<Response<types::Logger>, Status> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_spire_has_one_of_ours_and_the_rest_is_refused() {
        let ours = |level: types::LogLevel| level_in(level.into()).map(LogLevel::as_str);
        for level in [
            types::LogLevel::Panic,
            types::LogLevel::Fatal,
            types::LogLevel::Error,
        ] {
            assert_eq!(ours(level).unwrap(), "error");
        }
        for level in [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ] {
            assert_eq!(
                level_in(level_out(level).into()).unwrap(),
                level,
                "there and back"
            );
        }
        for wrong in [0, 8, -1] {
            assert_eq!(level_in(wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }
}
