//! The configuration file as written: names and shapes only. What the values mean is checked in `config.rs`.

use std::path::PathBuf;

use landfast_daemon::config::{HumanDuration, HumanSize};
use landfast_daemon::log::LogConfig;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) trust_domain: String,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) listen: Option<Vec<String>>,
    pub(super) admin_socket: Option<PathBuf>,
    pub(super) admin_socket_group: Option<String>,
    #[serde(default)]
    pub(super) admin_ids: Vec<String>,
    pub(super) http_listen: Option<String>,
    pub(super) jwt_issuer: Option<String>,
    #[serde(default)]
    pub(super) federation_danger_networks: Vec<String>,
    #[serde(default)]
    pub(super) federation: Vec<RawFederation>,
    #[serde(default)]
    pub(super) datastore: RawDatastore,
    #[serde(default)]
    pub(super) ttl: RawTtl,
    #[serde(default)]
    pub(super) reserve: RawReserve,
    #[serde(default)]
    pub(super) keys: RawKeys,
    #[serde(default)]
    pub(super) upstream: RawUpstream,
    pub(super) root_key: Option<RawRootKey>,
    #[serde(default)]
    pub(super) ledger: RawLedger,
    #[serde(default)]
    pub(super) login: RawLogin,
    #[serde(default)]
    pub(super) oidc: Vec<RawOidc>,
    #[serde(default)]
    pub(super) attestation: RawAttestation,
    #[serde(default)]
    pub(super) records: RawRecords,
    pub(super) publish: Option<RawPublish>,
    pub(super) margo: Option<RawMargo>,
    #[serde(default)]
    pub(super) incubating: RawIncubating,
    #[serde(default)]
    pub(super) limits: RawLimits,
    #[serde(default)]
    pub(super) log: LogConfig,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDatastore {
    pub(super) postgres: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTtl {
    pub(super) ca: Option<HumanDuration>,
    pub(super) agent: Option<HumanDuration>,
    pub(super) x509: Option<HumanDuration>,
    pub(super) jwt: Option<HumanDuration>,
    pub(super) wit: Option<HumanDuration>,
    pub(super) backdate: Option<HumanDuration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReserve {
    pub(super) longest: Option<HumanDuration>,
    pub(super) longest_token: Option<HumanDuration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeys {
    pub(super) x509: Option<String>,
    pub(super) jwt: Option<String>,
    pub(super) wit: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIncubating {
    #[serde(default)]
    pub(super) wit_svid: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRootKey {
    pub(super) file: Option<PathBuf>,
    #[serde(default)]
    pub(super) offline: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLedger {
    pub(super) directory: Option<PathBuf>,
    pub(super) limit: Option<HumanSize>,
    #[serde(default)]
    pub(super) forward: Vec<RawForward>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawForward {
    pub(super) name: String,
    pub(super) to: String,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLogin {
    pub(super) longest: Option<HumanDuration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOidc {
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) web_roots: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    pub(super) disk: Option<RawDisk>,
    pub(super) spire: Option<RawParent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDisk {
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
    pub(super) bundle_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawParent {
    pub(super) server: String,
    pub(super) workload_api: String,
    pub(super) spiffe_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAttestation {
    pub(super) join_token: Option<RawJoinToken>,
    pub(super) x509pop: Option<RawX509Pop>,
    #[serde(default)]
    pub(super) device_key: RawDeviceKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJoinToken {
    pub(super) enabled: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDeviceKey {
    pub(super) enabled: Option<bool>,
    pub(super) automatic: Option<HumanDuration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawX509Pop {
    pub(super) ca_bundle: PathBuf,
    pub(super) max_intermediates: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFederation {
    pub(super) trust_domain: String,
    pub(super) url: String,
    pub(super) profile: String,
    pub(super) endpoint_spiffe_id: Option<String>,
    pub(super) bundle: Option<PathBuf>,
    pub(super) web_roots: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRecords {
    pub(super) keep: Option<HumanDuration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublish {
    #[serde(default)]
    pub(super) listen: Vec<String>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) spiffe_listen: Vec<String>,
    pub(super) path: Option<String>,
    pub(super) oidc: Option<bool>,
    pub(super) refresh_hint: Option<HumanDuration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMargo {
    pub(super) bundle_url: Option<String>,
    pub(super) discovery_path: Option<String>,
    pub(super) tls12: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) connections: Option<usize>,
    pub(super) attestations_per_second: Option<u32>,
    pub(super) signatures_per_second: Option<u32>,
    pub(super) signatures_burst: Option<u32>,
    pub(super) signing_queue: Option<usize>,
    pub(super) signing_queue_size: Option<HumanSize>,
    pub(super) answers_size: Option<HumanSize>,
    pub(super) publish_handshakes_per_second: Option<u32>,
}
