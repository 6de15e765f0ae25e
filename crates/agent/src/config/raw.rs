//! The configuration file as written: names and shapes only. What the values mean is checked in `config.rs`.

use std::path::PathBuf;

use landfast_daemon::config::{HumanDuration, HumanSize};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) trust_domain: String,
    pub(super) server: Vec<String>,
    pub(super) proxy: Option<String>,
    pub(super) data_dir: PathBuf,
    pub(super) cache: Option<String>,
    pub(super) seal_key: Option<PathBuf>,
    pub(super) trust_bundle: PathBuf,
    pub(super) socket: Option<PathBuf>,
    pub(super) socket_group: Option<String>,
    pub(super) admin_socket: Option<PathBuf>,
    pub(super) admin_socket_group: Option<String>,
    pub(super) delegate_socket: Option<PathBuf>,
    pub(super) delegate_socket_group: Option<String>,
    #[serde(default)]
    pub(super) authorized_delegates: Vec<RawDelegate>,
    pub(super) broker_socket: Option<PathBuf>,
    pub(super) broker_socket_group: Option<String>,
    #[serde(default)]
    pub(super) authorized_brokers: Vec<RawBroker>,
    pub(super) http_listen: Option<String>,
    pub(super) attestation: RawAttestation,
    #[serde(default)]
    pub(super) keys: RawKeys,
    #[serde(default)]
    pub(super) sync: RawSync,
    #[serde(default)]
    pub(super) time: RawTime,
    #[serde(default)]
    pub(super) journal: RawJournal,
    #[serde(default)]
    pub(super) sds: RawSds,
    #[serde(default)]
    pub(super) limits: RawLimits,
    #[serde(default)]
    pub(super) workload: RawWorkload,
    #[serde(default)]
    pub(super) log: RawLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDelegate {
    pub(super) delegate: String,
    pub(super) may_have: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBroker {
    pub(super) broker: String,
    pub(super) may_have: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAttestation {
    pub(super) method: String,
    pub(super) token: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeys {
    pub(super) node: Option<String>,
    pub(super) workload: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSync {
    pub(super) interval: Option<HumanDuration>,
    pub(super) backstop: Option<HumanDuration>,
    pub(super) keep_alive: Option<HumanDuration>,
    pub(super) retry_max: Option<HumanDuration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTime {
    pub(super) skew: Option<HumanDuration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJournal {
    pub(super) max_size: Option<HumanSize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSds {
    pub(super) enabled: Option<bool>,
    pub(super) default_svid_name: Option<String>,
    pub(super) default_bundle_name: Option<String>,
    pub(super) default_all_bundles_name: Option<String>,
    pub(super) disable_spiffe_cert_validation: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) connections_per_process: Option<u32>,
    pub(super) streams_per_process: Option<u32>,
    pub(super) connections_per_uid: Option<u32>,
    pub(super) streams_per_uid: Option<u32>,
    pub(super) connections_total: Option<u32>,
    pub(super) handshake_timeout: Option<HumanDuration>,
    pub(super) max_message: Option<HumanSize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorkload {
    pub(super) max_hash_size: Option<HumanSize>,
    pub(super) hash_rate: Option<HumanSize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: Option<String>,
    pub(super) format: Option<String>,
}
