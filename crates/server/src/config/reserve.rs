//! `[reserve]`: what nodes may have for when they are cut off. Invariant: authorities live long enough for all of it.

use std::time::Duration;

use landfast_daemon::config::ConfigError;

use super::Checker;
use super::raw::RawReserve;
use crate::issuance::Ttls;
use crate::reserve::{LONGEST_TOKEN, ReserveError, ReserveLimits};

impl Checker<'_> {
    pub(super) fn reserve(&self, raw: &RawReserve, ttls: &Ttls) -> Result<ReserveLimits, ConfigError> {
        let none = Duration::ZERO;
        let limits = ReserveLimits {
            longest: self.duration("reserve.longest", raw.longest, none, none)?,
            longest_token: self.duration("reserve.longest_token", raw.longest_token, none, none)?,
        };
        if limits.longest_token > LONGEST_TOKEN {
            return Err(self.invalid(
                "reserve.longest_token",
                &format!("{} s", limits.longest_token.as_secs()),
                "at most 24h: who steals such a token has it until it ends",
            ));
        }
        let Err(sum) = limits.fit(ttls.ca, ttls.x509) else {
            return Ok(limits);
        };
        let (key, value) = match sum {
            ReserveError::AuthorityTooShortForToken { .. } => ("reserve.longest_token", limits.longest_token),
            _ => ("reserve.longest", limits.longest),
        };
        let expected = format!("what authorities live long enough for: {sum}");
        Err(self.invalid(key, &format!("{} s", value.as_secs()), &expected))
    }
}

#[cfg(test)]
mod tests;
