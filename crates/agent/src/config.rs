//! The agent's configuration, read from one TOML file.
//!
//! Invariant: an [`AgentConfig`] that exists was checked whole; no later code asks whether a value makes sense.

mod attestation;
mod cache;
mod limits;
mod raw;
mod rights;
mod sds;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use landfast_daemon::config::{ConfigError, HumanDuration, HumanSize};
use landfast_daemon::log::LogFormat;
use landfast_identity::{KeyType, TrustDomain};
use landfast_workload_api::{Limits, Sds};

use crate::attestor::digest::HashLimits;
use crate::delegate::rights::Delegates;
use crate::link::dial::Dialler;
use raw::{RawConfig, RawWorkload};

pub use crate::link::dial::{Proxy, ServerAddress};
pub use crate::link::evidence::{Evidence, EvidenceError, TokenSource};
pub use cache::CacheKind;
pub use rights::BrokerConfig;

/// Everything an agent is told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The trust domain this node belongs to.
    pub trust_domain: TrustDomain,
    /// Servers, tried in order. Never empty.
    pub servers: Vec<ServerAddress>,
    /// The way to them, when it is not direct.
    pub proxy: Option<Proxy>,
    /// Where the node's own identity is kept.
    pub data_dir: PathBuf,
    /// What is kept there of the workloads' identities.
    pub cache: CacheKind,
    /// What the journal may take there, in bytes.
    pub journal: u64,
    /// The bundle to begin with: PEM or JWKS.
    pub trust_bundle: PathBuf,
    /// The Workload API's socket.
    pub socket: PathBuf,
    /// Only this group may connect to it, when given.
    pub socket_group: Option<String>,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// This group may use the admin socket as well, when given.
    pub admin_socket_group: Option<String>,
    /// The socket of delegates, when given.
    pub delegate_socket: Option<PathBuf>,
    /// This group may connect to it as well, when given.
    pub delegate_socket_group: Option<String>,
    /// Who may ask for whose identities.
    pub authorized_delegates: Delegates,
    /// The SPIFFE Broker API, when it is served.
    pub broker: Option<BrokerConfig>,
    /// Metrics and health over HTTP, when given.
    pub http_listen: Option<SocketAddr>,
    /// How this node attests.
    pub attestation: Evidence,
    /// Kind of the node's own next key.
    pub node_key: KeyType,
    /// Kind of the keys made for workloads.
    pub workload_key: KeyType,
    /// Pause between rounds of synchronisation with a server that does not say what changes.
    pub sync_interval: Duration,
    /// Pause between looks whether a server that does has said everything.
    pub sync_backstop: Duration,
    /// Pause between two signs of life on the connection to the server.
    pub keep_alive: Duration,
    /// Longest pause between attempts to reach the server.
    pub retry_max: Duration,
    /// How far the machine's clock may lie below what is known of the time before it does not count any more.
    pub time_skew: Duration,
    /// How Envoys are served, if at all.
    pub sds: Option<Sds>,
    /// What one caller of the Workload API may take.
    pub limits: Limits,
    /// Largest program that is hashed, in bytes.
    pub max_hash_size: u64,
    /// Bytes hashed a second for each user.
    pub hash_rate: u64,
    /// `error` to `trace`.
    pub log_level: String,
    /// Text or JSON.
    pub log_format: LogFormat,
}

impl AgentConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read or a key or value is wrong; the error names file, place, key and what was expected.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = landfast_daemon::config::load(path)?;
        Checker { file: path }.check(raw)
    }

    /// How many descriptors the agent may need: a connection is its socket, and the pidfd of a process of its own.
    #[must_use]
    pub fn descriptors_wanted(&self) -> u64 {
        let of_one = 2 * u64::from(self.delegate_limits().connections_total)
            + u64::from(crate::delegate::office::MAX_SUBJECTS);
        let sockets = u64::from(self.delegate_socket.is_some()) + u64::from(self.broker.is_some());
        2 * u64::from(self.limits.connections_total) + sockets * of_one + OWN_DESCRIPTORS
    }

    /// As on the Workload API, for the few that delegates are.
    pub(crate) fn delegate_limits(&self) -> Limits {
        Limits {
            connections_total: self.limits.connections_total.min(MAX_DELEGATE_CONNECTIONS),
            ..self.limits.clone()
        }
    }

    /// As for delegates; a broker speaks for many workloads, and what it has open is counted by its identity.
    pub(crate) fn broker_limits(&self) -> Limits {
        let limits = self.delegate_limits();
        Limits {
            streams_per_process: limits.streams_per_process.max(crate::broker::MAX_IN_ALL),
            ..limits
        }
    }

    pub(crate) fn dialler(&self) -> Dialler {
        Dialler {
            servers: self.servers.clone(),
            proxy: self.proxy.clone(),
        }
    }

    pub(crate) fn hash_limits(&self) -> HashLimits {
        HashLimits {
            max_size: self.max_hash_size,
            rate: self.hash_rate,
        }
    }
}

struct Checker<'a> {
    file: &'a Path,
}

impl Checker<'_> {
    fn check(&self, raw: RawConfig) -> Result<AgentConfig, ConfigError> {
        let trust_domain = TrustDomain::parse(&raw.trust_domain).map_err(|_cause| {
            self.invalid(
                "trust_domain",
                &raw.trust_domain,
                "a trust domain name such as plant.example",
            )
        })?;
        if raw.server.is_empty() || raw.server.len() > MAX_SERVERS {
            return Err(self.invalid(
                "server",
                &format!("{:?}", raw.server),
                &format!("1 to {MAX_SERVERS} addresses"),
            ));
        }
        let servers: Vec<ServerAddress> = raw
            .server
            .iter()
            .map(|server| self.parse("server", server))
            .collect::<Result<_, _>>()?;
        // The proxy's URL may hold a password: it is not repeated in the error.
        let proxy = raw.proxy.as_deref().map(str::parse).transpose();
        let proxy = proxy
            .map_err(|_cause| self.invalid("proxy", "(not shown)", "http://[user:password@]host:port"))?;
        let http_listen = raw.http_listen.as_deref().map(|text| {
            text.parse().map_err(|_cause| {
                self.invalid("http_listen", text, "an IP address and a port, as 127.0.0.1:9101")
            })
        });
        let attestation = self.attestation(raw.attestation)?;
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(3600));
        let sync_interval = self.duration(
            "sync.interval",
            raw.sync.interval,
            Duration::from_secs(5),
            min..=max,
        )?;
        let sync_backstop = self.duration(
            "sync.backstop",
            raw.sync.backstop,
            Duration::from_secs(300),
            min..=Duration::from_secs(86_400),
        )?;
        let second = Duration::from_secs(1);
        // Where there is another server to go to it is worth something to know soon that this one is dead.
        let keep_alive = self.duration(
            "sync.keep_alive",
            raw.sync.keep_alive,
            Duration::from_secs(if servers.len() > 1 { 1 } else { 60 }),
            second..=Duration::from_secs(300),
        )?;
        let retry_max = self.duration(
            "sync.retry_max",
            raw.sync.retry_max,
            Duration::from_secs(60),
            second..=max,
        )?;
        let time_skew = self.duration(
            "time.skew",
            raw.time.skew,
            Duration::from_secs(300),
            // What ended is revived for so long at most.
            Duration::from_secs(10)..=Duration::from_secs(600),
        )?;
        let (max_hash_size, hash_rate) = self.workload(&raw.workload)?;
        let log_level = raw.log.level.unwrap_or_else(|| "info".to_owned());
        if !LEVELS.contains(&log_level.as_str()) {
            return Err(self.invalid("log.level", &log_level, "error, warn, info, debug or trace"));
        }
        let log_format = match raw.log.format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(self.invalid("log.format", other, "text or json")),
        };
        let socket = self.socket("socket", raw.socket, SOCKET)?;
        let broker = self.broker(
            raw.broker_socket,
            raw.broker_socket_group,
            raw.authorized_brokers,
            &socket,
        )?;
        Ok(AgentConfig {
            trust_domain,
            servers,
            proxy,
            data_dir: self.absolute("data_dir", raw.data_dir)?,
            cache: self.cache(raw.cache.as_deref(), raw.seal_key)?,
            journal: self.size(
                "journal.max_size",
                raw.journal.max_size,
                1 << 20,
                64 << 10,
                8 << 20,
            )?,
            trust_bundle: self.absolute("trust_bundle", raw.trust_bundle)?,
            socket,
            socket_group: raw.socket_group,
            admin_socket: self.socket("admin_socket", raw.admin_socket, ADMIN_SOCKET)?,
            admin_socket_group: raw.admin_socket_group,
            delegate_socket: raw
                .delegate_socket
                .map(|path| self.socket("delegate_socket", Some(path), ""))
                .transpose()?,
            delegate_socket_group: raw.delegate_socket_group,
            authorized_delegates: self.delegates(raw.authorized_delegates)?,
            broker,
            http_listen: http_listen.transpose()?,
            attestation,
            node_key: self.key_type("keys.node", raw.keys.node.as_deref())?,
            workload_key: self.key_type("keys.workload", raw.keys.workload.as_deref())?,
            sync_interval,
            sync_backstop,
            keep_alive,
            retry_max,
            time_skew,
            sds: self.sds(raw.sds)?,
            limits: self.limits(&raw.limits)?,
            max_hash_size,
            hash_rate,
            log_level,
            log_format,
        })
    }

    fn workload(&self, raw: &RawWorkload) -> Result<(u64, u64), ConfigError> {
        let size = self.size(
            "workload.max_hash_size",
            raw.max_hash_size,
            512 << 20,
            1 << 20,
            1 << 40,
        )?;
        Ok((
            size,
            self.size("workload.hash_rate", raw.hash_rate, 64 << 20, 1 << 20, 1 << 40)?,
        ))
    }

    fn size(
        &self,
        key: &str,
        given: Option<HumanSize>,
        default: u64,
        min: u64,
        max: u64,
    ) -> Result<u64, ConfigError> {
        let bytes = given.map_or(default, |size| size.bytes());
        if !(min..=max).contains(&bytes) {
            return Err(self.invalid(key, &bytes.to_string(), &format!("from {min} to {max} bytes")));
        }
        Ok(bytes)
    }

    fn duration(
        &self,
        key: &str,
        given: Option<HumanDuration>,
        default: Duration,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let duration = given.map_or(default, |given| given.duration());
        if !range.contains(&duration) {
            let expected = format!("from {:?} to {:?}", range.start(), range.end());
            return Err(self.invalid(key, &format!("{duration:?}"), &expected));
        }
        Ok(duration)
    }

    fn socket(&self, key: &str, given: Option<PathBuf>, default: &str) -> Result<PathBuf, ConfigError> {
        let path = self.absolute(key, given.unwrap_or_else(|| default.into()))?;
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(self.invalid(
                key,
                &path.to_string_lossy(),
                &format!("a path of at most {MAX_SOCKET_PATH} bytes"),
            ));
        }
        Ok(path)
    }

    /// A daemon's working directory is nobody's intention.
    fn absolute(&self, key: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(self.invalid(key, &path.to_string_lossy(), "an absolute path"))
        }
    }

    fn key_type(&self, key: &str, given: Option<&str>) -> Result<KeyType, ConfigError> {
        given.map_or_else(|| Ok(KeyType::default()), |text| self.parse(key, text))
    }

    fn parse<T: FromStr<Err = &'static str>>(&self, key: &str, value: &str) -> Result<T, ConfigError> {
        value
            .parse()
            .map_err(|expected| self.invalid(key, value, expected))
    }

    fn invalid(&self, key: &str, value: &str, expected: &str) -> ConfigError {
        ConfigError::invalid(self.file, key, value, expected)
    }
}

const SOCKET: &str = "/run/landfast/agent/public/api.sock";
const ADMIN_SOCKET: &str = "/run/landfast/agent/private/admin.sock";
const MAX_SERVERS: usize = 16;
const MAX_DELEGATE_CONNECTIONS: u32 = 256;
/// Listeners, the admin socket's connections, the way to the server, files that are read.
const OWN_DESCRIPTORS: u64 = 256;
/// `sun_path`, less the final zero.
const MAX_SOCKET_PATH: usize = 107;
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

#[cfg(test)]
mod tests;
