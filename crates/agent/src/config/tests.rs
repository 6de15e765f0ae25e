//! Every key: its good form, its default, and what is said when it is wrong.

use super::*;
use crate::delegate::rights::Delegate;

const MINIMAL: &str = r#"
trust_domain = "plant.test"
server = ["localhost:8081"]
data_dir = "/var/lib/x"
trust_bundle = "/etc/bundle.pem"
[attestation]
method = "join_token"
token_file = "/etc/token"
"#;

fn load(text: &str) -> Result<AgentConfig, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(file.path(), text).unwrap();
    AgentConfig::load(file.path())
}

/// `MINIMAL` with a line of the top level changed or added.
fn with(line: &str) -> Result<AgentConfig, ConfigError> {
    let key = line.split('=').next().unwrap();
    let kept = MINIMAL.lines().filter(|old| !old.starts_with(key));
    load(&format!("{line}\n{}", kept.collect::<Vec<_>>().join("\n")))
}

/// `MINIMAL` with another table behind it.
fn and(table: &str) -> Result<AgentConfig, ConfigError> {
    load(&format!("{MINIMAL}\n{table}"))
}

fn refused(result: Result<AgentConfig, ConfigError>, words: &[&str]) {
    let error = landfast_daemon::error_chain(&result.expect_err("this configuration is wrong"));
    for word in words {
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    }
}

#[test]
fn a_minimal_file_has_the_documented_defaults() {
    let config = load(MINIMAL).unwrap();
    assert_eq!(config.socket, Path::new("/run/landfast/agent/public/api.sock"));
    assert_eq!(
        config.admin_socket,
        Path::new("/run/landfast/agent/private/admin.sock")
    );
    assert_eq!(config.sync_interval, Duration::from_secs(5));
    assert_eq!(config.sync_backstop, Duration::from_secs(300));
    assert_eq!(config.keep_alive, Duration::from_secs(60));
    let two = MINIMAL.replace("[\"localhost:8081\"]", "[\"localhost:8081\", \"localhost:8082\"]");
    assert_eq!(load(&two).unwrap().keep_alive, Duration::from_secs(1));
    assert_eq!(config.retry_max, Duration::from_secs(60));
    assert_eq!(
        (
            config.limits.connections_per_process,
            config.limits.streams_per_process
        ),
        (64, 256)
    );
    assert_eq!(
        (config.limits.connections_per_uid, config.limits.streams_per_uid),
        (1024, 4096)
    );
    assert_eq!(config.limits.connections_total, 8192);
    assert_eq!((config.max_hash_size, config.hash_rate), (512 << 20, 64 << 20));
    assert_eq!((config.log_level.as_str(), config.http_listen), ("info", None));
}

#[test]
fn the_example_is_valid_and_its_comments_show_the_defaults() {
    let example = include_str!("../../../../examples/agent.toml");
    let shown = load(example).unwrap();
    // Every commented-out key that shows a default, switched on, changes nothing.
    let keys = [
        "socket =",
        "cache =",
        "admin_socket =",
        "interval",
        "backstop",
        "keep_alive",
        "retry_max",
        "skew",
        "connections_",
        "streams_",
        "handshake_timeout",
        "max_message",
        "enabled",
        "default_",
        "disable_spiffe",
        "max_hash_size",
        "hash_rate",
        "level",
        "format",
    ];
    let switched: Vec<String> = example
        .lines()
        .map(|line| {
            let bare = line
                .strip_prefix("# ")
                .filter(|bare| bare.contains(" = ") && keys.iter().any(|key| bare.starts_with(key)));
            bare.unwrap_or(line).to_owned()
        })
        .collect();
    assert!(
        switched
            .iter()
            .filter(|line| example.lines().all(|old| old != *line))
            .count()
            >= keys.len()
    );
    let explicit = load(&switched.join("\n")).unwrap();
    assert_eq!(format!("{shown:?}"), format!("{explicit:?}"));
}

#[test]
fn what_is_kept_is_on_disk_or_in_memory_and_the_key_is_where_it_is_said() {
    assert_eq!(load(MINIMAL).unwrap().cache, CacheKind::Disk { seal_key: None });
    let elsewhere = with("seal_key = \"/media/a.key\"").unwrap();
    let seal_key = Some("/media/a.key".into());
    assert_eq!(elsewhere.cache, CacheKind::Disk { seal_key });
    assert_eq!(with("cache = \"memory\"").unwrap().cache, CacheKind::Memory);
    refused(with("cache = \"none\""), &["cache", "none", "disk or memory"]);
    refused(with("seal_key = \"a.key\""), &["seal_key", "absolute path"]);
    let both = "cache = \"memory\"\nseal_key = \"/media/a.key\"";
    refused(with(both), &["seal_key", "keeps nothing"]);
}

#[test]
fn unknown_keys_are_refused() {
    refused(with("colour = \"blue\""), &["colour"]);
    refused(and("[limits]\nspeed = 1"), &["speed"]);
    refused(load(&MINIMAL.replace("token_file", "tokenfile")), &["tokenfile"]);
}

#[test]
fn a_wrong_value_is_told_with_key_value_and_what_was_expected() {
    refused(
        with("trust_domain = \"Plant!\""),
        &["trust_domain", "Plant!", "a trust domain name"],
    );
    refused(with("server = []"), &["server", "1 to 16 addresses"]);
    refused(with("server = [\"host\"]"), &["server", "host", "host:port"]);
    refused(
        with("http_listen = \"localhost:1\""),
        &["http_listen", "localhost:1", "an IP address and a port"],
    );
    refused(
        with("data_dir = \"here\""),
        &["data_dir", "here", "an absolute path"],
    );
    refused(
        with("trust_bundle = \"b.pem\""),
        &["trust_bundle", "an absolute path"],
    );
    let long = format!("socket = \"/{}\"", "s".repeat(107));
    refused(with(&long), &["socket", "107 bytes"]);
    refused(
        and("[keys]\nworkload = \"rsa-2048\""),
        &["keys.workload", "rsa-2048", "ec-p256 or ec-p384"],
    );
    refused(and("[keys]\nnode = \"P-384\""), &["keys.node", "P-384"]);
    refused(and("[sync]\ninterval = \"10ms\""), &["sync.interval", "100ms"]);
    refused(and("[sync]\nretry_max = \"2h\""), &["sync.retry_max"]);
    refused(and("[sync]\nbackstop = \"2d\""), &["sync.backstop"]);
    refused(and("[sync]\nkeep_alive = \"100ms\""), &["sync.keep_alive", "1s"]);
    refused(and("[time]\nskew = \"0s\""), &["time.skew", "10s"]);
    refused(and("[time]\nskew = \"2h\""), &["time.skew", "600s"]);
    refused(
        and("[limits]\nstreams_per_uid = 0"),
        &["limits.streams_per_uid", "at least 1"],
    );
    refused(
        and("[limits]\nhandshake_timeout = \"2h\""),
        &["limits.handshake_timeout"],
    );
    refused(and("[limits]\nmax_message = \"1GiB\""), &["limits.max_message"]);
    refused(and("[sds]\ndefault_svid_name = \"\""), &["sds.default_svid_name"]);
    refused(
        and("[sds]\ndefault_bundle_name = \"*\""),
        &["sds.default_bundle_name"],
    );
    refused(
        and("[sds]\ndefault_bundle_name = \"spiffe://plant.test\""),
        &["sds.default_bundle_name", "not an ID"],
    );
    refused(
        and("[sds]\ndefault_all_bundles_name = \"default\""),
        &["sds.default_all_bundles_name", "different"],
    );
    refused(and("[workload]\nhash_rate = \"1\""), &["workload.hash_rate"]);
    refused(
        and("[log]\nlevel = \"loud\""),
        &["log.level", "loud", "error, warn, info, debug or trace"],
    );
    refused(
        and("[log]\nformat = \"xml\""),
        &["log.format", "xml", "text or json"],
    );
}

#[test]
fn a_missing_key_is_named() {
    for key in ["trust_domain", "server", "data_dir", "trust_bundle"] {
        let kept = MINIMAL.lines().filter(|line| !line.starts_with(key));
        refused(load(&kept.collect::<Vec<_>>().join("\n")), &[key]);
    }
}

#[test]
fn each_method_of_attestation_has_its_own_keys() {
    let attest = |keys: &str| {
        let head = MINIMAL.split("[attestation]").next().unwrap();
        load(&format!("{head}[attestation]\n{keys}"))
    };
    assert!(matches!(
        attest("method=\"join_token\"\ntoken=\"abc\"")
            .unwrap()
            .attestation,
        Evidence::JoinToken(TokenSource::Inline(_))
    ));
    let pop = "method=\"x509pop\"\ncertificate=\"/c\"\nprivate_key=\"/k\"";
    assert!(matches!(
        attest(pop).unwrap().attestation,
        Evidence::X509Pop { .. }
    ));
    refused(
        attest("method=\"tpm\""),
        &["attestation.method", "tpm", "join_token or x509pop"],
    );
    refused(
        attest("method=\"join_token\""),
        &["attestation.token_file", "missing"],
    );
    refused(
        attest("method=\"join_token\"\ntoken=\"a\"\ntoken_file=\"/t\""),
        &["either token or token_file"],
    );
    refused(
        attest("method=\"join_token\"\ntoken=\"a\"\ncertificate=\"/c\""),
        &["attestation.certificate", "join_token"],
    );
    refused(
        attest("method=\"x509pop\"\ncertificate=\"/c\""),
        &["attestation.private_key", "missing"],
    );
    refused(
        attest(&format!("{pop}\ntoken=\"a\"")),
        &["attestation.token", "x509pop"],
    );
}

#[test]
fn sds_is_on_by_default_and_its_names_can_be_chosen() {
    assert_eq!(load(MINIMAL).unwrap().sds, Some(Sds::default()));
    assert_eq!(and("[sds]\nenabled = false").unwrap().sds, None);
    let chosen = and("[sds]\ndefault_svid_name = \"mine\"\ndisable_spiffe_cert_validation = true").unwrap();
    let expected = Sds {
        default_svid_name: "mine".to_owned(),
        disable_spiffe_cert_validation: true,
        ..Sds::default()
    };
    assert_eq!(chosen.sds, Some(expected));
}

#[test]
fn a_secret_in_a_wrong_place_is_not_repeated() {
    let error =
        |result: Result<AgentConfig, ConfigError>| landfast_daemon::error_chain(&result.err().unwrap());
    assert!(!error(with("proxy = \"ftp://u:hunter2@p:1\"")).contains("hunter2"));
    let token = MINIMAL.replace("token_file = \"/etc/token\"", "token = \"hunter2 \"");
    assert!(!error(load(&token)).contains("hunter2"));
    let config = load(&MINIMAL.replace("token_file = \"/etc/token\"", "token = \"hunter2\"")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_missing_file_is_named() {
    refused(
        AgentConfig::load(Path::new("/nowhere/agent.toml")),
        &["/nowhere/agent.toml"],
    );
}

#[test]
fn delegates_are_nobody_by_default_and_have_a_list_each() {
    let none = load(MINIMAL).unwrap();
    assert_eq!(none.authorized_delegates, Delegates::default());
    assert_eq!(none.delegate_socket, None);
    let delegate = |who: &str, what: &str| {
        and(&format!(
            "[[authorized_delegates]]\ndelegate = \"{who}\"\nmay_have = [{what}]"
        ))
    };
    let (mesh, line) = ("spiffe://plant.example/mesh", "spiffe://plant.example/line/*");
    let given = delegate(mesh, &format!("\"{line}\"")).unwrap();
    let expected = Delegate {
        delegate: mesh.parse().unwrap(),
        may_have: vec![line.parse().unwrap()],
    };
    assert_eq!(given.authorized_delegates, Delegates::new(vec![expected]));
    refused(
        delegate(mesh, ""),
        &["authorized_delegates.may_have", "at least one"],
    );
    refused(
        delegate("mesh", "\"x\""),
        &["authorized_delegates.delegate", "mesh", "a SPIFFE ID"],
    );
    refused(
        delegate(mesh, "\"*\""),
        &["authorized_delegates.may_have", "*", "a SPIFFE ID"],
    );
    refused(
        with("delegate_socket = \"here\""),
        &["delegate_socket", "an absolute path"],
    );
    let socket = with("delegate_socket = \"/run/d.sock\"").unwrap();
    assert_eq!(
        socket.descriptors_wanted() - none.descriptors_wanted(),
        2 * 256 + 1024
    );
}

#[test]
fn brokers_are_served_only_when_socket_and_brokers_are_named() {
    let none = load(MINIMAL).unwrap();
    assert!(none.broker.is_none());
    let rights = |table: &str, who: &str| {
        format!(
            "[[{table}]]\n{who} = \"spiffe://plant.test/mesh\"\nmay_have = [\"spiffe://plant.test/line/*\"]\n"
        )
    };
    let brokers = rights("authorized_brokers", "broker");
    let socket = "broker_socket = \"/run/b/api.sock\"";
    let given = load(&format!(
        "{socket}\nbroker_socket_group = \"mesh\"\n{MINIMAL}{brokers}"
    ))
    .unwrap();
    let delegates = and(&rights("authorized_delegates", "delegate")).unwrap();
    assert_eq!(
        given.descriptors_wanted() - none.descriptors_wanted(),
        2 * 256 + 1024
    );
    assert!(given.broker_limits().streams_per_process >= 512);
    let broker = given.broker.unwrap();
    assert_eq!(broker.socket, Path::new("/run/b/api.sock"));
    assert_eq!(broker.group.as_deref(), Some("mesh"));
    assert_eq!(broker.authorized, delegates.authorized_delegates);
    refused(with(socket), &["authorized_brokers", "at least one"]);
    refused(
        and(&brokers),
        &["authorized_brokers.broker", "/mesh", "broker_socket as well"],
    );
    refused(
        with("broker_socket_group = \"mesh\""),
        &["broker_socket_group", "without broker_socket"],
    );
    let beside = format!(
        "broker_socket = \"{}\"\n{MINIMAL}{brokers}",
        SOCKET.replace("api.sock", "broker.sock")
    );
    refused(load(&beside), &["broker_socket", "a folder of its own"]);
    refused(
        load(&format!(
            "{socket}\n{MINIMAL}[[authorized_brokers]]\nbroker = \"mesh\"\nmay_have = [\"x\"]"
        )),
        &["authorized_brokers.broker", "mesh", "a SPIFFE ID"],
    );
}
