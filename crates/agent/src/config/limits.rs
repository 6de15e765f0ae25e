//! `[limits]`: what one caller of the Workload API may take.
//!
//! Invariant: none of them can be switched off.

use std::time::Duration;

use landfast_daemon::config::ConfigError;
use landfast_workload_api::Limits;

use super::{Checker, raw::RawLimits};

impl Checker<'_> {
    pub(super) fn limits(&self, raw: &RawLimits) -> Result<Limits, ConfigError> {
        let mut limits = Limits::default();
        let number = |key: &str, given: Option<u32>, place: &mut u32| match given {
            Some(0) => Err(self.invalid(&format!("limits.{key}"), "0", "at least 1")),
            Some(given) => {
                *place = given;
                Ok(())
            }
            None => Ok(()),
        };
        number(
            "connections_per_process",
            raw.connections_per_process,
            &mut limits.connections_per_process,
        )?;
        number(
            "streams_per_process",
            raw.streams_per_process,
            &mut limits.streams_per_process,
        )?;
        number(
            "connections_per_uid",
            raw.connections_per_uid,
            &mut limits.connections_per_uid,
        )?;
        number(
            "streams_per_uid",
            raw.streams_per_uid,
            &mut limits.streams_per_uid,
        )?;
        number(
            "connections_total",
            raw.connections_total,
            &mut limits.connections_total,
        )?;
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(60));
        limits.handshake_timeout = self.duration(
            "limits.handshake_timeout",
            raw.handshake_timeout,
            limits.handshake_timeout,
            min..=max,
        )?;
        let default = u64::try_from(limits.max_message).unwrap_or(u64::MAX);
        let bytes = self.size("limits.max_message", raw.max_message, default, 1024, 4 << 20)?;
        limits.max_message = usize::try_from(bytes).unwrap_or(limits.max_message);
        Ok(limits)
    }
}
