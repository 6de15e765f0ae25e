//! The server's configuration, read from one TOML file. Invariant: a [`ServerConfig`] that exists was checked whole.

mod datastore;
mod federation;
mod forward;
mod ledger;
mod limits;
mod login;
mod margo;
mod publish;
mod raw;
mod reserve;
mod root_key;
mod ttl;
mod upstream;

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfast_daemon::config::{ConfigError, HumanDuration};
use landfast_daemon::log::{LogFormat, LogLevel};
use landfast_identity::{Certificate, KeyType, SpiffeId, TrustDomain, parse_chain_pem};

use crate::authority::KeyTypes;
use crate::chain::RootKeyConfig;
use crate::datastore::postgres::PostgresConfig;
use crate::federation::FederationConfig;
use crate::forward::ForwardConfig;
use crate::issuance::Ttls;
use crate::login::LoginConfig;
use crate::publish::PublishConfig;
use crate::registry::MargoPaths;
use crate::reserve::ReserveLimits;
use crate::upstream::UpstreamConfig;
pub use limits::ServerLimits;
use raw::{RawConfig, RawDeviceKey, RawX509Pop};

/// Everything a server is told.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The trust domain it signs for.
    pub trust_domain: TrustDomain,
    /// Where keys and database are; `None`, which no file can say, keeps all in memory.
    pub data_dir: Option<PathBuf>,
    /// The database that it shares with other servers; `None`: one in `data_dir`.
    pub postgres: Option<PostgresConfig>,
    /// Where agents and remote operators connect. Never empty.
    pub listen: Vec<SocketAddr>,
    /// The socket of local operators.
    pub admin_socket: PathBuf,
    /// This group may use it as well, when given.
    pub admin_socket_group: Option<String>,
    /// These identities administer over mTLS.
    pub admin_ids: Vec<SpiffeId>,
    /// Metrics and health over HTTP, when given.
    pub http_listen: Option<SocketAddr>,
    /// The `iss` of JWT-SVIDs, when given.
    pub jwt_issuer: Option<String>,
    /// How long things live.
    pub ttls: Ttls,
    /// What entries may ask for ahead.
    pub reserve: ReserveLimits,
    /// Kinds of keys of the authorities.
    pub keys: KeyTypes,
    /// Who signs our X.509 authorities; they sign themselves when nobody does.
    pub upstream: Option<UpstreamConfig>,
    /// Where the key is that signs each change of the bundle.
    pub root_key: RootKeyConfig,
    /// Where the ledger is; `None`: in `data_dir`.
    pub ledger_dir: Option<PathBuf>,
    /// How persons log in from other machines.
    pub login: LoginConfig,
    /// Bytes that the ledger may take before that is an alarm; `None`: what its disk has.
    pub ledger_limit: Option<u64>,
    /// Where its records are forwarded to.
    pub forward: Vec<ForwardConfig>,
    /// Whether WIT-SVIDs are issued (incubating).
    pub wit_svid: bool,
    /// For how long records are kept after what they record has expired.
    pub records_keep: Duration,
    /// Whether nodes may attest by join token.
    pub join_token: bool,
    /// How long a node may have been silent and still come back by its device key without a person, when device keys are on.
    pub device_key: Option<Duration>,
    /// Whose device certificates attest a node, when that is on.
    pub x509pop: Option<X509PopConfig>,
    /// Where the trust domain is made visible to others, when given.
    pub publish: Option<PublishConfig>,
    /// What IDs below `/margo/` are.
    pub margo: MargoPaths,
    /// Whom it federates with by this file.
    pub federation: FederationConfig,
    /// What clients may take.
    pub limits: ServerLimits,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Text or JSON.
    pub log_format: LogFormat,
}

/// See `attestation.x509pop`.
#[derive(Clone, Debug)]
pub struct X509PopConfig {
    /// Authorities of the devices' certificates.
    pub roots: Vec<Certificate>,
    /// Certificates between device and authority.
    pub max_intermediates: usize,
}

impl ServerConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read or a key or value is wrong; the error names file, place, key and what was expected.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = landfast_daemon::config::load(path)?;
        Checker {
            file: path,
            strict: true,
        }
        .check(raw)
    }

    /// The same for a server that starts: what only one listener needs, and may come later, is left to that listener.
    ///
    /// # Errors
    /// As [`Self::load`], but for the certificate of `[publish]`.
    pub fn load_to_run(path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = landfast_daemon::config::load(path)?;
        Checker {
            file: path,
            strict: false,
        }
        .check(raw)
    }

    /// How many descriptors the server may need.
    #[must_use]
    pub fn descriptors_wanted(&self) -> u64 {
        let published = self.publish.as_ref().map_or(0, PublishConfig::connections);
        u64::try_from(self.limits.connections + published).unwrap_or(u64::MAX) + OWN_DESCRIPTORS
    }

    /// A server that keeps everything in memory, listens on a free port of the loopback and signs for a day at most: for `landfast dev`
    /// and tests. Its admin socket is where the caller says.
    pub fn in_memory(trust_domain: TrustDomain, admin_socket: PathBuf) -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            trust_domain,
            data_dir: None,
            postgres: None,
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            admin_socket,
            admin_socket_group: None,
            admin_ids: Vec::new(),
            http_listen: None,
            jwt_issuer: None,
            ttls: Ttls {
                ca: day,
                agent: day / 2,
                ..Ttls::default()
            },
            reserve: ReserveLimits::default(),
            keys: KeyTypes::default(),
            upstream: None,
            root_key: RootKeyConfig::None,
            ledger_dir: None,
            login: LoginConfig::default(),
            ledger_limit: None,
            forward: Vec::new(),
            wit_svid: false,
            records_keep: day,
            join_token: true,
            x509pop: None,
            device_key: Some(AUTOMATIC),
            publish: None,
            margo: MargoPaths::Ordinary,
            federation: FederationConfig::default(),
            limits: ServerLimits::default(),
            log_level: LogLevel::Warn,
            log_format: LogFormat::Text,
        }
    }
}

struct Checker<'a> {
    file: &'a Path,
    /// Look also into files that are read again and again while the server runs.
    strict: bool,
}

impl Checker<'_> {
    fn check(&self, raw: RawConfig) -> Result<ServerConfig, ConfigError> {
        let trust_domain = TrustDomain::parse(&raw.trust_domain).map_err(|_cause| {
            self.invalid(
                "trust_domain",
                &raw.trust_domain,
                "a trust domain name such as plant.example",
            )
        })?;
        let listen = raw.listen.unwrap_or_else(|| vec![LISTEN.to_owned()]);
        if listen.is_empty() || listen.len() > MAX_LISTEN {
            return Err(self.invalid(
                "listen",
                &format!("{listen:?}"),
                &format!("1 to {MAX_LISTEN} addresses"),
            ));
        }
        let listen = listen
            .iter()
            .map(|text| self.address("listen", text))
            .collect::<Result<_, _>>()?;
        let http_listen = raw
            .http_listen
            .as_ref()
            .map(|text| self.address("http_listen", text))
            .transpose()?;
        let admin_ids = raw.admin_ids.iter().map(|text| {
            let id = SpiffeId::parse(text).ok().filter(|id| !id.path().is_empty());
            let expected = "SPIFFE IDs with a path, such as \"spiffe://plant.example/operations/console\"";
            id.ok_or_else(|| self.invalid("admin_ids", text, expected))
        });
        let admin_ids = admin_ids.collect::<Result<Vec<_>, _>>()?;
        if raw
            .jwt_issuer
            .as_ref()
            .is_some_and(|issuer| issuer.is_empty() || issuer.len() > 2048)
        {
            return Err(self.invalid(
                "jwt_issuer",
                raw.jwt_issuer.as_deref().unwrap_or(""),
                "a URL such as \"https://oidc.plant.example\"",
            ));
        }
        let limits = self.limits(&raw.limits)?;
        let x509pop = raw
            .attestation
            .x509pop
            .as_ref()
            .map(|pop| self.x509pop(pop))
            .transpose()?;
        let join_token = raw.attestation.join_token.is_none_or(|token| token.enabled);
        if !join_token && x509pop.is_none() {
            return Err(self.invalid(
                "attestation.join_token.enabled",
                "false",
                "true, or an [attestation.x509pop]: otherwise no node can join",
            ));
        }
        let ttls = self.ttls(&raw.ttl)?;
        let reserve = self.reserve(&raw.reserve, &ttls)?;
        let publish = raw
            .publish
            .map(|publish| self.publish(publish, raw.jwt_issuer.as_deref(), ttls.ca));
        let mut publish = publish.transpose()?;
        let margo = self.margo(raw.margo, publish.as_mut(), &admin_ids)?;
        let federation = self.federation(&raw.federation, &raw.federation_danger_networks, &trust_domain)?;
        let upstream = self.upstream(raw.upstream, &trust_domain)?;
        let data_dir = self.absolute("data_dir", raw.data_dir.unwrap_or_else(|| DATA_DIR.into()))?;
        let root_key = self.root_key(raw.root_key, &data_dir)?;
        let forward = self.forward(raw.ledger.forward)?;
        let (ledger_dir, ledger_limit) = self.ledger(raw.ledger.directory, raw.ledger.limit)?;
        let postgres = self.datastore(raw.datastore, upstream.as_ref())?;
        Ok(ServerConfig {
            postgres,
            upstream,
            federation,
            root_key,
            login: self.login(&raw.login, &raw.oidc)?,
            ledger_dir,
            ledger_limit,
            forward,
            data_dir: Some(data_dir),
            listen,
            admin_socket: self.absolute(
                "admin_socket",
                raw.admin_socket.unwrap_or_else(|| ADMIN_SOCKET.into()),
            )?,
            admin_socket_group: raw.admin_socket_group,
            admin_ids,
            http_listen,
            jwt_issuer: raw.jwt_issuer,
            ttls,
            reserve,
            keys: KeyTypes {
                x509: self.key_type("keys.x509", raw.keys.x509.as_deref())?,
                jwt: self.key_type("keys.jwt", raw.keys.jwt.as_deref())?,
                wit: self.key_type("keys.wit", raw.keys.wit.as_deref())?,
            },
            wit_svid: raw.incubating.wit_svid,
            records_keep: self.duration("records.keep", raw.records.keep, RECORDS_KEEP, DAY)?,
            join_token,
            x509pop,
            device_key: self.device_key(&raw.attestation.device_key)?,
            publish,
            margo,
            limits,
            log_level: raw.log.level,
            log_format: raw.log.format,
            trust_domain,
        })
    }

    fn device_key(&self, raw: &RawDeviceKey) -> Result<Option<Duration>, ConfigError> {
        let key = "attestation.device_key.automatic";
        let automatic = self.duration(key, raw.automatic, AUTOMATIC, Duration::ZERO)?;
        Ok(raw.enabled.unwrap_or(true).then_some(automatic))
    }

    fn key_type(&self, key: &str, given: Option<&str>) -> Result<KeyType, ConfigError> {
        let Some(text) = given else {
            return Ok(KeyType::default());
        };
        text.parse().map_err(|expected| self.invalid(key, text, expected))
    }

    fn x509pop(&self, raw: &RawX509Pop) -> Result<X509PopConfig, ConfigError> {
        let key = "attestation.x509pop.ca_bundle";
        let shown = raw.ca_bundle.display().to_string();
        let text = read(&raw.ca_bundle)
            .map_err(|error| self.invalid(key, &shown, &format!("a readable file: {error}")))?;
        let roots = parse_chain_pem(&text)
            .map_err(|error| self.invalid(key, &shown, &format!("certificates in PEM: {error}")))?;
        if roots.is_empty() || roots.len() > MAX_ROOTS {
            return Err(self.invalid(key, &shown, &format!("1 to {MAX_ROOTS} certificates in PEM")));
        }
        let max_intermediates = raw.max_intermediates.unwrap_or(4);
        if max_intermediates > 4 {
            return Err(self.invalid(
                "attestation.x509pop.max_intermediates",
                &max_intermediates.to_string(),
                "0 to 4",
            ));
        }
        Ok(X509PopConfig {
            roots,
            max_intermediates,
        })
    }

    fn duration(
        &self,
        key: &str,
        given: Option<HumanDuration>,
        default: Duration,
        least: Duration,
    ) -> Result<Duration, ConfigError> {
        let value = given.map_or(default, |given| given.duration());
        if value < least || value > MOST {
            let expected = format!("{} s to {} s", least.as_secs(), MOST.as_secs());
            return Err(self.invalid(key, &format!("{} s", value.as_secs()), &expected));
        }
        Ok(value)
    }

    fn address(&self, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
        text.parse().map_err(|_cause| {
            let expected = "an IP address and a port, such as \"0.0.0.0:8081\" or \"[::]:8081\"";
            self.invalid(key, text, expected)
        })
    }

    fn absolute(&self, key: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(self.invalid(key, &path.display().to_string(), "an absolute path"))
        }
    }

    fn invalid(&self, key: &str, value: &str, expected: &str) -> ConfigError {
        ConfigError::invalid(self.file, key, value, expected)
    }
}

/// At most [`MAX_BUNDLE`] bytes: a device or a pipe named by mistake must not fill the memory.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_BUNDLE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BUNDLE {
        return Err(std::io::Error::other(format!(
            "it is larger than {MAX_BUNDLE} bytes"
        )));
    }
    Ok(text)
}

const LISTEN: &str = "0.0.0.0:8081";
const DATA_DIR: &str = "/var/lib/landfast-server";
const ADMIN_SOCKET: &str = "/run/landfast/server/admin.sock";
const MAX_LISTEN: usize = 16;
/// Listeners, the admin socket's connections with a pidfd each, the database.
const OWN_DESCRIPTORS: u64 = 1024;
const MAX_BUNDLE: u64 = 256 * 1024;
/// Each is tried for each attestation.
const MAX_ROOTS: usize = 16;
/// The silence after which a person decides.
const AUTOMATIC: Duration = Duration::from_secs(30 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);
const RECORDS_KEEP: Duration = Duration::from_secs(30 * 86_400);
/// Ten years.
const MOST: Duration = Duration::from_secs(3650 * 86_400);

#[cfg(test)]
mod tests;
