//! What to do instead, for what has no counterpart. A table; the longest fitting path wins.

use super::settings::Setting;

pub(super) struct Advice {
    path: &'static [&'static str],
    /// Settings that share this many names are one line; 0: each has its own.
    pub(super) block: usize,
    pub(super) instead: &'static str,
}

pub(super) fn on(setting: &Setting) -> &'static Advice {
    let fitting = TABLE.iter().filter(|advice| setting.fits(advice.path));
    fitting.max_by_key(|advice| advice.path.len()).unwrap_or(&UNKNOWN)
}

/// Options whose value asks for what we do in any case.
pub(super) fn holds_anyway(setting: &Setting) -> bool {
    HOLDS.iter().any(|(path, value)| {
        setting.path.len() == path.len() && setting.fits(path) && setting.shown() == *value
    })
}

const fn each(path: &'static [&'static str], instead: &'static str) -> Advice {
    Advice {
        path,
        block: 0,
        instead,
    }
}

const fn block(path: &'static [&'static str], instead: &'static str) -> Advice {
    Advice {
        path,
        block: path.len(),
        instead,
    }
}

static UNKNOWN: Advice = each(
    &[],
    "this command does not know it: look for it in examples/server.toml or examples/agent.toml",
);

static TABLE: &[Advice] = &[
    // The server.
    block(
        &["server", "ca_subject"],
        "authorities have a name of their own; verifiers look at the trust domain",
    ),
    each(
        &["server", "ratelimit"],
        "limits cannot be switched off: raise them in [limits]",
    ),
    each(
        &["server", "disable_jwt_svids"],
        "JWT-SVIDs are always offered, to whom an entry gives an identity",
    ),
    each(&["server", "log_file"], LOG_FILE),
    each(&["server", "log_source_location"], SOURCE),
    each(
        &["server", "proxy_protocol_trusted_cidrs"],
        "the PROXY protocol is not spoken: behind a balancer all agents share the [limits] of one address, raise them",
    ),
    each(&["server", "prune_attested_nodes_expired_for"], EVICT),
    each(&["server", "prune_attested_nodes_batch_size"], EVICT),
    each(&["server", "prune_tofu_nodes"], EVICT),
    each(
        &["server", "max_attested_node_info_staleness"],
        "nothing to do: what is known of a node is never stale",
    ),
    each(&["server", "profiling_enabled"], PROFILING),
    each(&["server", "profiling_port"], PROFILING),
    each(&["server", "profiling_freq"], PROFILING),
    each(&["server", "profiling_names"], PROFILING),
    block(
        &["server", "federation", "bundle_endpoint"],
        "nothing here speaks ACME: let an ACME client write a certificate and its key, and name them as cert_file and key_file of [publish] beside listen; or serve https_spiffe (spiffe_listen), or a file (landfast bundle publish)",
    ),
    block(
        &["server", "federation", "federates_with", "*"],
        "no relationship comes of it: a [[federation]] table wants another trust domain, an https URL and one profile, https_web or https_spiffe with its endpoint_spiffe_id",
    ),
    each(&["server", "experimental"], NOT_OFFERED),
    block(
        &["server", "experimental", "auth_opa_policy_engine"],
        "who may call what is fixed: give rights with admin_ids, or with entries that have --admin",
    ),
    each(
        &["server", "experimental", "agent_spiffe_id_as_selector"],
        "make aliases from the selectors of node attestation: landfast entry create --node",
    ),
    each(&["server", "experimental", "cache_reload_interval"], CACHE),
    each(&["server", "experimental", "full_cache_reload_interval"], CACHE),
    each(&["server", "experimental", "events_based_cache"], CACHE),
    each(&["server", "experimental", "prune_events_older_than"], CACHE),
    each(&["server", "experimental", "event_timeout"], CACHE),
    each(&["server", "experimental", "sql_transaction_timeout"], CACHE),
    each(&["server", "experimental", "named_pipe_name"], WINDOWS),
    each(
        &["server", "experimental", "feature_flags"],
        "of these wit-svid is `wit_svid = true` under [incubating]; no other is offered",
    ),
    each(
        &["server", "experimental", "wit_key_type"],
        "set keys.wit to ec-p256 or ec-p384",
    ),
    // The agent.
    each(
        &["agent", "insecure_bootstrap"],
        "no server is believed without a bundle: put what landfast bundle show prints where trust_bundle points",
    ),
    each(&["agent", "rebootstrap_mode"], REBOOTSTRAP),
    each(&["agent", "rebootstrap_delay"], REBOOTSTRAP),
    each(&["agent", "trust_bundle_url"], FETCH_BUNDLE),
    each(&["agent", "trust_bundle_unix_socket"], FETCH_BUNDLE),
    each(&["agent", "trust_bundle_spiffe_workload_api"], FETCH_BUNDLE),
    each(&["agent", "log_file"], LOG_FILE),
    each(&["agent", "log_source_location"], SOURCE),
    each(
        &["agent", "log_selectors"],
        "selectors are not logged: landfast why --pid PID shows those of a process",
    ),
    each(
        &["agent", "disable_workload_api"],
        "the Workload API is always served: socket_group says who may connect",
    ),
    each(&["agent", "sds"], SDS),
    each(
        &["agent", "allow_unauthenticated_verifiers"],
        "bundles go only to processes that have an identity: give verifiers an entry",
    ),
    each(&["agent", "allowed_foreign_jwt_claims"], NOT_OFFERED),
    each(
        &["agent", "availability_target"],
        "SVIDs are renewed at half their life: give entries twice this time with --x509-ttl",
    ),
    each(
        &["agent", "x509_svid_cache_max_size"],
        "nothing to do: every SVID of the node is kept",
    ),
    each(
        &["agent", "jwt_svid_cache_max_size"],
        "nothing to do: the number of kept JWT-SVIDs is bounded",
    ),
    each(&["agent", "profiling_enabled"], PROFILING),
    each(&["agent", "profiling_port"], PROFILING),
    each(&["agent", "profiling_freq"], PROFILING),
    each(&["agent", "profiling_names"], PROFILING),
    each(&["agent", "experimental"], NOT_OFFERED),
    each(
        &["agent", "experimental", "use_sync_authorized_entries"],
        "nothing to do: only differences are fetched",
    ),
    each(
        &["agent", "experimental", "jwt_svid_cache_hit_timeout"],
        "nothing to do: a kept JWT-SVID is served without the server",
    ),
    block(
        &["agent", "experimental", "ratelimit"],
        "[limits] bounds what a process and a user may have open at a time",
    ),
    each(&["agent", "experimental", "named_pipe_name"], WINDOWS),
    each(&["agent", "experimental", "admin_named_pipe_name"], WINDOWS),
    block(
        &["agent", "experimental", "broker"],
        "write broker_socket and [[authorized_brokers]] by hand: each broker needs a list of what it may have",
    ),
    // Plugins.
    block(&["plugins", "*", "*"], "not offered, and nothing takes its place"),
    block(
        &["plugins", "DataStore", "*"],
        "entries are in SQLite under data_dir; SPIRE's database is not read: spire-server entry show -output json, then landfast entry import",
    ),
    block(
        &["plugins", "KeyManager", "*"],
        "keys are made in data_dir and stay there, mode 0600; other places for keys are not offered",
    ),
    block(
        &["plugins", "NodeAttestor", "*"],
        "this kind of node attestation is not offered: use join tokens or device certificates (x509pop)",
    ),
    each(
        &["plugins", "NodeAttestor", "x509pop"],
        "not offered for device certificates",
    ),
    each(
        &[
            "plugins",
            "NodeAttestor",
            "x509pop",
            "plugin_data",
            "agent_path_template",
        ],
        "nodes are always /spire/agent/x509pop/SHA-1 of their certificate: landfast entry import --map-parent, or an alias (landfast entry create --node)",
    ),
    each(
        &["plugins", "NodeAttestor", "x509pop", "plugin_data", "mode"],
        "only certificates of the authorities in ca_bundle attest",
    ),
    each(
        &[
            "plugins",
            "NodeAttestor",
            "x509pop",
            "plugin_data",
            "spiffe_prefix",
        ],
        "only certificates of the authorities in ca_bundle attest",
    ),
    each(
        &[
            "plugins",
            "NodeAttestor",
            "x509pop",
            "plugin_data",
            "spiffe_endpoint_socket",
        ],
        "only certificates in files attest: certificate and private_key of [attestation]",
    ),
    each(
        &[
            "plugins",
            "NodeAttestor",
            "x509pop",
            "plugin_data",
            "intermediates_path",
        ],
        "append these certificates to the file that certificate names, after the device's own",
    ),
    each(
        &["plugins", "NodeAttestor", "x509pop", "plugin_data_file"],
        DATA_FILE,
    ),
    each(
        &["plugins", "NodeAttestor", "join_token"],
        "join tokens have no options",
    ),
    block(
        &["plugins", "UpstreamAuthority", "*"],
        "above a server stand files of an offline root or a parent server (docs/nested.md), and nothing else; without, it makes and rotates its own root: landfast bundle show prints what agents and peers must trust",
    ),
    block(
        &["plugins", "BundlePublisher", "*"],
        "run landfast bundle publish FILE --watch, and publish that file with the tool of that place",
    ),
    block(
        &["plugins", "Notifier", "*"],
        "run landfast bundle publish FILE --format pem --watch, and publish that file with the tool of that place",
    ),
    block(
        &["plugins", "CredentialComposer", "*"],
        "certificates have the SPIFFE ID and the entry's DNS names, and nothing is added",
    ),
    block(
        &["plugins", "WorkloadAttestor", "*"],
        "no process gets selectors of this kind here: write its entries anew with unix:uid, unix:path and unix:sha256",
    ),
    each(
        &["plugins", "WorkloadAttestor", "unix"],
        "unix attestation has no such option",
    ),
    each(
        &["plugins", "WorkloadAttestor", "unix", "plugin_data_file"],
        DATA_FILE,
    ),
    block(
        &["plugins", "SVIDStore", "*"],
        "run landfast svid fetch x509 --write DIR where the secret is needed, and store it with the tool of that place",
    ),
    // Both.
    each(
        &["telemetry"],
        "metrics are read from /metrics of http_listen; a collector there can pass them on",
    ),
    each(
        &["telemetry", "Prometheus", "tls"],
        "plain HTTP only: keep http_listen on the loopback, or put a proxy in front",
    ),
    each(&["telemetry", "MetricPrefix"], LABELS),
    each(&["telemetry", "EnableTrustDomainLabel"], LABELS),
    each(&["telemetry", "EnableHostnameLabel"], LABELS),
    each(&["telemetry", "AllowedPrefixes"], LABELS),
    each(&["telemetry", "BlockedPrefixes"], LABELS),
    each(&["telemetry", "AllowedLabels"], LABELS),
    each(&["telemetry", "BlockedLabels"], LABELS),
    each(&["health_checks", "live_path"], "ask for /live of http_listen"),
    each(&["health_checks", "ready_path"], "ask for /ready of http_listen"),
];

static HOLDS: &[(&[&str], &str)] = &[
    (&["server", "audit_log_enabled"], "true"),
    (&["server", "audit_log_enabled"], "false"),
    (&["server", "disable_jwt_svids"], "false"),
    (&["server", "log_source_location"], "false"),
    (&["server", "profiling_enabled"], "false"),
    (&["server", "ratelimit", "attestation"], "true"),
    (&["server", "ratelimit", "signing"], "true"),
    (&["server", "experimental", "require_pq_kem"], "false"),
    (
        &["server", "experimental", "agent_spiffe_id_as_selector"],
        "false",
    ),
    (&["agent", "insecure_bootstrap"], "false"),
    (&["agent", "rebootstrap_mode"], "\"never\""),
    (&["agent", "log_source_location"], "false"),
    (&["agent", "disable_workload_api"], "false"),
    (&["agent", "allow_unauthenticated_verifiers"], "false"),
    (&["agent", "profiling_enabled"], "false"),
    (&["agent", "experimental", "use_sync_authorized_entries"], "true"),
    (&["agent", "experimental", "require_pq_kem"], "false"),
    (&["health_checks", "live_path"], "\"/live\""),
    (&["health_checks", "ready_path"], "\"/ready\""),
    (
        &["plugins", "NodeAttestor", "x509pop", "plugin_data", "mode"],
        "\"external_pki\"",
    ),
    (
        &[
            "plugins",
            "NodeAttestor",
            "x509pop",
            "plugin_data",
            "verify_client_ip",
        ],
        "false",
    ),
    (&["plugins", "*", "*", "enabled"], "true"),
    (&["plugins", "NodeAttestor", "x509pop", "plugin_data"], "{}"),
    (&["plugins", "NodeAttestor", "join_token", "plugin_data"], "{}"),
    (&["plugins", "NodeAttestor", "join_token"], "{}"),
    (&["plugins", "WorkloadAttestor", "unix", "plugin_data"], "{}"),
    (&["plugins", "WorkloadAttestor", "unix"], "{}"),
    (
        &[
            "plugins",
            "WorkloadAttestor",
            "unix",
            "plugin_data",
            "discover_workload_path",
        ],
        "true",
    ),
    (&["plugins", "KeyManager", "disk"], "{}"),
    (&["plugins", "KeyManager", "disk", "plugin_data"], "{}"),
    (&["plugins"], "{}"),
    (&["telemetry"], "{}"),
    (&["health_checks"], "{}"),
];

pub(super) const EXTERNAL: &str = "programs of others are not loaded as plugins";
const NOT_OFFERED: &str = "not offered";
const LOG_FILE: &str = "the log goes to standard error: the service manager keeps it and cuts it";
const SOURCE: &str = "places in the source are not logged";
const EVICT: &str = "run landfast agent purge --expired-for TIME from a timer: until then nodes stay listed";
const PROFILING: &str = "not offered";
const CACHE: &str = "nothing to do: entries are in memory and follow every change at once";
const WINDOWS: &str = "Windows is not supported: use the socket";
const REBOOTSTRAP: &str = "put the new bundle in the file that trust_bundle names: once it changes it is used, before what was stored";
const FETCH_BUNDLE: &str = "bring the bundle into the file that trust_bundle names by a way you trust";
const SDS: &str = "[sds] in agent.toml has default_svid_name, default_bundle_name, default_all_bundles_name and disable_spiffe_cert_validation";
const LABELS: &str = "names and labels of metrics are fixed: change them in the collector";
const DATA_FILE: &str = "put the data of that file here as plugin_data, and migrate again";
