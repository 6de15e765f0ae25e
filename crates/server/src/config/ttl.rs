//! `[ttl]`: how long things live. Invariant: nothing is signed for longer than its authority lives.

use std::time::Duration;

use landfast_daemon::config::ConfigError;

use super::Checker;
use super::raw::RawTtl;
use crate::issuance::Ttls;

impl Checker<'_> {
    pub(super) fn ttls(&self, raw: &RawTtl) -> Result<Ttls, ConfigError> {
        let default = Ttls::default();
        let second = Duration::from_secs(1);
        let x509 = self.duration("ttl.x509", raw.x509, default.x509, second)?;
        let ttls = Ttls {
            ca: self.duration("ttl.ca", raw.ca, default.ca, Duration::from_secs(60))?,
            agent: self.duration("ttl.agent", raw.agent, default.agent, second)?,
            x509,
            jwt: self.duration("ttl.jwt", raw.jwt, default.jwt, second)?,
            wit: self.duration("ttl.wit", raw.wit, x509, second)?,
            backdate: self.duration("ttl.backdate", raw.backdate, default.backdate, Duration::ZERO)?,
        };
        for (key, ttl) in [
            ("ttl.agent", ttls.agent),
            ("ttl.x509", ttls.x509),
            ("ttl.jwt", ttls.jwt),
            ("ttl.wit", ttls.wit),
        ] {
            if ttl >= ttls.ca {
                return Err(self.invalid(
                    key,
                    &format!("{} s", ttl.as_secs()),
                    &format!("less than ttl.ca, which is {} s", ttls.ca.as_secs()),
                ));
            }
        }
        if ttls.backdate > Duration::from_secs(3600) {
            return Err(self.invalid(
                "ttl.backdate",
                &format!("{} s", ttls.backdate.as_secs()),
                "at most 1h",
            ));
        }
        Ok(ttls)
    }
}
