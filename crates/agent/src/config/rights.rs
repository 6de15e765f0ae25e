//! Who may ask for the identities of others: delegates, and brokers with their socket.
//!
//! Invariant: nobody without a list of what he may have; brokers and their socket only together.

use std::path::{Path, PathBuf};

use landfast_daemon::config::ConfigError;
use landfast_identity::IdPattern;

use super::{
    Checker,
    raw::{RawBroker, RawDelegate},
};
use crate::delegate::rights::{Delegate, Delegates};

/// The SPIFFE Broker API, when it is served.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Its socket.
    pub socket: PathBuf,
    /// This group may connect to it as well, when given.
    pub group: Option<String>,
    /// Who may ask for whose identities.
    pub authorized: Delegates,
}

impl Checker<'_> {
    pub(super) fn delegates(&self, raw: Vec<RawDelegate>) -> Result<Delegates, ConfigError> {
        let each = raw.into_iter().map(|raw| (raw.delegate, raw.may_have));
        self.rights(("authorized_delegates", "delegate"), each)
    }

    /// `public` is the Workload API's socket.
    pub(super) fn broker(
        &self,
        socket: Option<PathBuf>,
        group: Option<String>,
        raw: Vec<RawBroker>,
        public: &Path,
    ) -> Result<Option<BrokerConfig>, ConfigError> {
        let Some(socket) = socket else {
            return match (raw.first(), group) {
                (None, None) => Ok(None),
                (None, Some(group)) => {
                    Err(self.invalid("broker_socket_group", &group, "no such key without broker_socket"))
                }
                (Some(first), _) => Err(self.invalid(
                    "authorized_brokers.broker",
                    &first.broker,
                    "broker_socket as well, without which no broker is served",
                )),
            };
        };
        let socket = self.socket("broker_socket", Some(socket), "")?;
        // Containers are given the public folder whole (Broker Endpoint §2).
        if socket.parent() == public.parent() {
            return Err(self.invalid(
                "broker_socket",
                &socket.to_string_lossy(),
                "a folder of its own, not that of the Workload API's socket",
            ));
        }
        if raw.is_empty() {
            return Err(self.invalid("authorized_brokers", "[]", "at least one, or no broker_socket"));
        }
        let each = raw.into_iter().map(|raw| (raw.broker, raw.may_have));
        let authorized = self.rights(("authorized_brokers", "broker"), each)?;
        Ok(Some(BrokerConfig {
            socket,
            group,
            authorized,
        }))
    }

    fn rights(
        &self,
        (table, who): (&str, &str),
        raw: impl Iterator<Item = (String, Vec<String>)>,
    ) -> Result<Delegates, ConfigError> {
        let pattern = |key: &str, text: &str| {
            let expected = "a SPIFFE ID, or one followed by /* for all below it";
            IdPattern::parse(text).map_err(|_cause| self.invalid(&format!("{table}.{key}"), text, expected))
        };
        let each = raw.map(|(asker, may_have)| {
            if may_have.is_empty() {
                return Err(self.invalid(
                    &format!("{table}.may_have"),
                    "[]",
                    "at least one SPIFFE ID or pattern",
                ));
            }
            let may_have = may_have.iter().map(|text| pattern("may_have", text));
            Ok(Delegate {
                delegate: pattern(who, &asker)?,
                may_have: may_have.collect::<Result<_, _>>()?,
            })
        });
        each.collect::<Result<_, _>>().map(Delegates::new)
    }
}
