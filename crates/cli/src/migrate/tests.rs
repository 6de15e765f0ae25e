//! SPIRE's files become ours: nothing is lost, and our daemons take what comes out.

#![expect(clippy::disallowed_methods, reason = "a test's own files")]

mod trust;

use std::collections::BTreeSet;

use landfast_identity::KeyType;
use serde_json::Value;

use super::*;

const FULL_SERVER: &str = include_str!("../../tests/spire/server.conf");
const FULL_AGENT: &str = include_str!("../../tests/spire/agent.conf");
const SERVER_CONF: &str =
    "server { trust_domain = \"a.test\" @ }\nplugins { NodeAttestor \"join_token\" {} % }\n";
const AGENT_CONF: &str =
    "agent { trust_domain = \"a.test\" server_address = \"s.test\" server_port = 1 @ }\nplugins { % }\n";

fn converted(text: &str) -> Ours {
    convert("x.conf", text).unwrap_or_else(|failure| panic!("{failure:?}\n{text}"))
}

/// The least file with these options and plugins.
fn with(conf: &str, options: &str, plugins: &str) -> Ours {
    converted(&conf.replace('@', options).replace('%', plugins))
}

/// As the daemon reads it.
fn server(ours: &Ours) -> ServerConfig {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &ours.text).unwrap();
    ServerConfig::load(file.path()).unwrap_or_else(|error| panic!("{}\n{}", error_chain(&error), ours.text))
}

fn agent(ours: &Ours) -> AgentConfig {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &ours.text).unwrap();
    AgentConfig::load(file.path()).unwrap_or_else(|error| panic!("{}\n{}", error_chain(&error), ours.text))
}

fn texts(values: &Value, field: &str) -> Vec<String> {
    let each = values
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value[field].as_str().unwrap_or_default().to_owned());
    each.collect()
}

fn keys_of(line: &Value) -> impl Iterator<Item = &str> {
    line["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key.as_str().unwrap())
}

/// Each key of the file is in the report, and the report has an answer to each.
fn nothing_is_lost(text: &str, ours: &Ours) {
    let all = Settings::of("x.conf", &hcl::parse("x.conf", text).unwrap()).rest();
    let mut told: BTreeSet<String> = texts(&ours.report.mapped_json(), "key").into_iter().collect();
    for line in ours.report.unmapped_json().as_array().unwrap() {
        told.extend(keys_of(line).map(str::to_owned));
        let instead = line["instead"].as_str().unwrap();
        assert!(
            !instead.is_empty() && !instead.contains("does not know"),
            "{line}"
        );
        assert!(line["at"].as_str().unwrap().starts_with("x.conf:"), "{line}");
        let external = keys_of(line).any(|key| key.ends_with("plugin_cmd"));
        assert_eq!(instead == advice::EXTERNAL, external, "{line}");
    }
    for setting in &all {
        assert!(told.contains(&setting.key()), "{} is lost", setting.key());
    }
    let report = ours.report.text("x.conf", ours.name);
    for text in [
        &report,
        &ours.text,
        &ours.report.unmapped_json().to_string(),
        &ours.report.notes_json().to_string(),
    ] {
        assert!(!text.contains("hunter2"), "a secret is shown: {text}");
    }
    assert!(
        report
            .lines()
            .skip(1)
            .all(|line| line.starts_with("unmapped: x.conf:") || line.starts_with("note: ")),
        "{report}"
    );
}

#[test]
fn every_option_of_a_full_server_is_carried_over_or_listed() {
    let ca = tempfile::NamedTempFile::new().unwrap();
    let vector = include_str!("../../../../tests/vectors/device/anchor-not-ca.txt");
    let end = "-----END CERTIFICATE-----\n";
    let certificate = &vector[vector.find("-----BEGIN").unwrap()..vector.find(end).unwrap() + end.len()];
    fs::write(ca.path(), certificate).unwrap();
    let text = FULL_SERVER.replace("@CA@", ca.path().to_str().unwrap());
    let ours = converted(&text);
    nothing_is_lost(&text, &ours);
    let config = server(&ours);
    let day = 86_400;
    assert_eq!(config.trust_domain.as_str(), "plant.example");
    assert_eq!(config.listen, ["192.0.2.1:8081".parse().unwrap()]);
    assert_eq!(config.admin_socket, Path::new("/run/spire/server/api.sock"));
    assert_eq!(
        config
            .admin_ids
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["spiffe://plant.example/console", "spiffe://office.example/admin"]
    );
    assert_eq!(config.ttls.ca.as_secs(), 10 * day);
    assert_eq!(config.ttls.agent.as_secs(), 3 * day);
    assert_eq!(
        (config.ttls.x509.as_secs(), config.ttls.jwt.as_secs()),
        (5400, 300)
    );
    assert_eq!(
        (config.keys.x509, config.keys.jwt),
        (KeyType::EcP384, KeyType::EcP256)
    );
    assert_eq!(config.jwt_issuer.as_deref(), Some("https://oidc.plant.example"));
    assert_eq!(config.http_listen, Some("127.0.0.1:9988".parse().unwrap()));
    assert!(config.join_token);
    assert_eq!(config.x509pop.unwrap().max_intermediates, 2);
    assert_eq!(
        format!("{:?} {:?}", config.log_level, config.log_format),
        "Warn Json"
    );
}

#[test]
fn every_option_of_a_full_agent_is_carried_over_or_listed() {
    let ours = converted(FULL_AGENT);
    nothing_is_lost(FULL_AGENT, &ours);
    let config = agent(&ours);
    assert_eq!(config.socket, Path::new("/run/spire/sockets/agent.sock"));
    assert_eq!(config.admin_socket, Path::new("/run/spire/private/admin.sock"));
    assert_eq!(config.trust_bundle, Path::new("/etc/landfast/bundle.pem"));
    assert_eq!(config.sync_interval.as_secs(), 10);
    assert_eq!(config.workload_key, KeyType::EcP384);
    assert_eq!(config.max_hash_size, 100 << 20);
    assert_eq!(config.http_listen, Some("127.0.0.1:9988".parse().unwrap()));
    let evidence = format!("{:?}", config.attestation);
    assert!(
        evidence.contains("/etc/device/device.pem") && evidence.contains("/etc/landfast/device-key.pem"),
        "{evidence}"
    );
    let notes = texts(&ours.report.notes_json(), "text").join("\n");
    assert!(notes.contains("must hold the authorities"), "{notes}");
}

#[test]
fn what_nobody_knows_is_listed_with_its_place() {
    let ours = with(SERVER_CONF, "\n colour = \"blue\"", "");
    let report = ours.report.text("x.conf", ours.name);
    assert!(
        report.contains("unmapped: x.conf:2: server.colour = \"blue\": this command does not know it"),
        "{report}"
    );
    let ours = converted(&format!(
        "{}\nextra {{ a = 1 }}",
        SERVER_CONF.replace(['@', '%'], "")
    ));
    assert!(ours.report.text("x.conf", ours.name).contains("extra.a = 1"));
}

#[test]
fn the_least_files_load() {
    let ours = with(SERVER_CONF, "", "");
    let config = server(&ours);
    assert!(config.join_token && config.x509pop.is_none());
    assert!(texts(&ours.report.unmapped_json(), "key").is_empty());
    let config = agent(&with(AGENT_CONF, "", ""));
    assert!(format!("{:?}", config.attestation).contains("/etc/landfast/join-token"));
    let notes = texts(&ours.report.notes_json(), "text").join("\n");
    for said in [
        "ttl.ca is 30d",
        "ttl.agent is 7d",
        "/tmp/spire-server/private/api.sock",
    ] {
        assert!(notes.contains(said), "{notes}");
    }
}

#[test]
fn lifetimes_always_fit_the_authorities() {
    for (options, [ca, agent, x509, jwt]) in [
        ("ca_ttl = \"24h\"", [86_400, 3600, 3600, 300]),
        (
            "ca_ttl = \"24h\" default_x509_svid_ttl = \"2h\"",
            [86_400, 7200, 7200, 300],
        ),
        ("ca_ttl = \"168h\"", [604_800, 3600, 3600, 300]),
        ("ca_ttl = \"169h\"", [608_400, 604_800, 3600, 300]),
        ("ca_ttl = \"30m\"", [1800, 900, 900, 300]),
        ("ca_ttl = \"1s\"", [60, 30, 30, 30]),
        (
            "ca_ttl = \"1h\" default_x509_svid_ttl = \"1h\" agent_ttl = \"90m\" default_jwt_svid_ttl = \"1.5s\"",
            [3600, 3599, 3599, 1],
        ),
        (
            "ca_ttl = \"soon\" agent_ttl = 5",
            [30 * 86_400, 7 * 86_400, 3600, 300],
        ),
        (
            "agent_ttl = \"1000000h\"",
            [30 * 86_400, 30 * 86_400 - 1, 3600, 300],
        ),
        ("ca_ttl = \"1000000h\"", [3650 * 86_400, 7 * 86_400, 3600, 300]),
    ] {
        let ttls = server(&with(SERVER_CONF, options, "")).ttls;
        let got = [ttls.ca, ttls.agent, ttls.x509, ttls.jwt].map(|ttl| ttl.as_secs());
        assert_eq!(got, [ca, agent, x509, jwt], "{options}");
    }
}

#[test]
fn a_changed_value_says_why_in_the_file_and_in_the_notes() {
    let ours = with(
        SERVER_CONF,
        "\nbind_address = \"spire.plant.example\" data_dir = \"/opt/spire\"",
        "",
    );
    for (key, was) in [
        ("listen = [\"127.0.0.1:8081\"]", "spire.plant.example"),
        ("data_dir = \"/var/lib/landfast-server\"", "/opt/spire"),
    ] {
        let at = ours.text.find(key).unwrap_or_else(|| panic!("{}", ours.text));
        assert!(
            ours.text[..at].lines().last().unwrap_or_default().contains(was),
            "{}",
            ours.text
        );
        assert!(
            texts(&ours.report.notes_json(), "text")
                .iter()
                .any(|note| note.contains(was))
        );
    }
    assert!(texts(&ours.report.notes_json(), "at").contains(&"x.conf:2".to_owned()));
}

#[test]
fn the_way_of_attestation_is_kept() {
    let only_pop = "server { trust_domain = \"a.test\" } plugins { NodeAttestor \"x509pop\" { plugin_data { ca_bundle_path = \"ca.pem\" } } }";
    let ours = converted(only_pop);
    assert!(
        ours.text.contains("enabled = false")
            && ours.text.contains("ca_bundle = \"/etc/landfast/device-ca.pem\""),
        "{}",
        ours.text
    );
    let neither = "server { trust_domain = \"a.test\" } plugins { NodeAttestor \"aws_iid\" {} }";
    assert!(server(&converted(neither)).join_token);
    let off = "NodeAttestor \"x509pop\" { enabled = false plugin_data { ca_bundle_path = \"/ca.pem\" } }";
    let ours = with(SERVER_CONF, "", off);
    assert!(server(&ours).x509pop.is_none() && texts(&ours.report.unmapped_json(), "key").is_empty());
    let two = "NodeAttestor \"x509pop\" { plugin_data { ca_bundle_paths = [\"/a.pem\", \"/b.pem\"] max_intermediates = 9 } }";
    let ours = with(SERVER_CONF, "", two);
    assert!(
        ours.text.contains("device-ca.pem") && ours.text.contains("max_intermediates = 4"),
        "{}",
        ours.text
    );
    let ours = with(AGENT_CONF, "join_token = \"hunter2\"", "");
    assert!(!ours.text.contains("hunter2") && !ours.report.text("x", "y").contains("hunter2"));
    agent(&ours);
}

#[test]
fn the_authority_above_is_kept() {
    use landfast_server::UpstreamConfig;
    let above =
        |plugin: &str| server(&with(SERVER_CONF, "", &format!("UpstreamAuthority {plugin}"))).upstream;
    let disk = above(r#""disk" { plugin_data { cert_file_path = "/c" key_file_path = "k" } }"#);
    let Some(UpstreamConfig::Disk(files)) = disk else {
        panic!("{disk:?}")
    };
    assert_eq!(files.cert, Path::new("/c"));
    assert_eq!(files.key, Path::new("/etc/landfast/upstream.key"));
    assert_eq!(files.bundle, None);
    let spire = above(
        r#""spire" { plugin_data { server_address = "parent" server_port = 8081 workload_api_socket = "/a.sock" } }"#,
    );
    let Some(UpstreamConfig::Spire(parent)) = spire else {
        panic!("{spire:?}")
    };
    assert_eq!((parent.host.as_str(), parent.port), ("parent", 8081));
    assert_eq!(parent.workload_api, "unix:///a.sock");
    let odd = above(r#""spire" { plugin_data { server_address = "a b" server_port = "x" } }"#);
    assert!(matches!(odd, Some(UpstreamConfig::Spire(parent)) if parent.host == "parent.invalid"));
    assert_eq!(
        above(r#""vault" { plugin_data { vault_addr = "https://v" } }"#),
        None
    );
}

#[test]
fn metrics_and_health_share_a_listener() {
    for (blocks, expected) in [
        ("telemetry { Prometheus { port = 9 } }", Some("127.0.0.1:9")),
        (
            "telemetry { Prometheus { host = \"::\" port = 9 } }",
            Some("[::]:9"),
        ),
        ("health_checks { listener_enabled = true }", Some("127.0.0.1:80")),
        (
            "health_checks { listener_enabled = true bind_address = \"spire\" }",
            None,
        ),
        ("health_checks { bind_port = 7 }", None),
        ("telemetry { InMem {} }", None),
    ] {
        let ours = converted(&format!("{}\n{blocks}", SERVER_CONF.replace(['@', '%'], "")));
        assert_eq!(
            server(&ours).http_listen,
            expected.map(|address| address.parse().unwrap()),
            "{blocks}"
        );
        let open = texts(&ours.report.notes_json(), "text")
            .iter()
            .any(|note| note.contains("open to the network"));
        assert_eq!(open, blocks.contains("::"), "{blocks}");
    }
}

#[test]
fn a_file_cannot_be_broken_from_within() {
    let evil = r#"jwt_issuer = "https://x\"\n[log]\nlevel = \"debug\" \u007f" bind_address = "x\ndata_dir = \"/evil\"" ca_subject { common_name = "a\nnote: b" }"#;
    let ours = with(SERVER_CONF, evil, "");
    let config = server(&ours);
    assert_eq!(
        config.jwt_issuer.as_deref(),
        Some("https://x\"\n[log]\nlevel = \"debug\" \u{7f}")
    );
    assert_eq!(
        config.data_dir.as_deref(),
        Some(Path::new("/var/lib/landfast-server"))
    );
    assert!(
        !ours
            .report
            .text("x", "y")
            .lines()
            .any(|line| line.starts_with("note: b"))
    );
}

#[test]
fn a_file_name_cannot_break_the_file_either() {
    let conf = SERVER_CONF.replace(['@', '%'], "");
    let ours = convert("x\nlisten = []\n", &conf)
        .map_err(|failure| failure.message)
        .unwrap();
    assert_eq!(server(&ours).listen, ["0.0.0.0:8081".parse().unwrap()]);
}

#[test]
fn the_json_form_says_the_same() {
    let json = r#"{
        "server": {"trust_domain": "a.test", "bind_port": 81, "ca_ttl": "48h"},
        "plugins": [{"NodeAttestor": [{"join_token": {"plugin_data": {}}}]}]
    }"#;
    let hcl = "server { trust_domain = \"a.test\"\n bind_port = 81\n ca_ttl = \"48h\" } plugins { NodeAttestor \"join_token\" { plugin_data {} } }";
    assert_eq!(converted(json).text, converted(hcl).text);
    assert!(texts(&converted(json).report.unmapped_json(), "key").is_empty());
}

#[test]
fn names_are_the_same_in_either_case_and_the_last_of_two_counts() {
    let ours = with(SERVER_CONF, "BIND_PORT = 1\nbind_port = 2", "");
    assert_eq!(server(&ours).listen, ["0.0.0.0:2".parse().unwrap()]);
    let lines = ours.report.unmapped_json();
    assert_eq!(
        (&lines[0]["key"], lines.as_array().unwrap().len()),
        (&Value::from("server.BIND_PORT"), 1)
    );
}

#[test]
fn what_is_no_configuration_of_spires_is_refused() {
    for (text, said) in [
        ("", "neither a server nor an agent"),
        ("server {} agent {}", "both"),
        ("server { a = 1 } agent { b = 2 }", "both"),
        ("server { a = 1 }", "no server.trust_domain"),
        ("server { trust_domain = \"$TD\" }", "trust_domain"),
        (
            "agent { trust_domain = \"a.test\" server_port = 1 }",
            "agent.server_address",
        ),
        (
            "agent { trust_domain = \"a.test\" server_address = \"a\" server_port = 0 }",
            "agent.server_port",
        ),
        (
            "agent { trust_domain = \"a.test\" server_address = \"a b\" server_port = 1 }",
            "agent.server_address",
        ),
        ("server {", "x.conf:1:9"),
    ] {
        let failure = convert("x.conf", text).err().unwrap_or_else(|| panic!("{text}"));
        assert!(
            failure.message.contains(said) && !failure.hint.is_empty(),
            "{text}: {failure:?}"
        );
    }
}

#[test]
fn a_file_that_is_there_stays_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    let under = dir.path().join("made/here");
    let path = write(&under, "server.toml", "one", false).unwrap();
    let refused = write(&under, "server.toml", "two", false).unwrap_err();
    assert!(refused.message.contains("there already") && refused.hint.contains("--force"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    write(&under, "server.toml", "three", true).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "three");
    // A link that leads nowhere is something, too.
    std::os::unix::fs::symlink("/nonexistent/x", under.join("agent.toml")).unwrap();
    assert!(write(&under, "agent.toml", "x", false).is_err());
    assert_eq!(fs::read_dir(&under).unwrap().count(), 2, "no draft stays");
}
