//! What a file may say, and what is said about a wrong one.

use super::*;

pub(super) fn load(text: &str) -> Result<ServerConfig, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.toml");
    std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
    ServerConfig::load(&path).map_err(|error| landfast_daemon::error_chain(&error))
}

const LEAST: &str = "trust_domain = \"plant.example\"\n";

#[test]
fn the_least_file_has_the_documented_defaults() {
    let config = load(LEAST).unwrap();
    let day = 86_400;
    assert_eq!((config.ledger_dir, config.ledger_limit), (None, None));
    assert_eq!(config.ttls.ca, Duration::from_secs(30 * day));
    assert_eq!(config.ttls.agent, Duration::from_secs(7 * day));
    assert_eq!(config.ttls.x509, Duration::from_secs(3600));
    assert_eq!(config.ttls.jwt, Duration::from_secs(300));
    assert_eq!(config.ttls.backdate, Duration::from_secs(300));
    assert_eq!(config.records_keep, Duration::from_secs(30 * day));
    let ServerLimits {
        connections,
        attestations,
        signatures,
        signatures_burst,
        signing_queue,
        signing_queue_bytes,
        answers_bytes,
        publish_handshakes,
    } = config.limits;
    assert_eq!((signing_queue, signing_queue_bytes), (4096, 32 << 20));
    assert_eq!(answers_bytes, 32 << 20);
    assert_eq!((connections, attestations), (4096, 10));
    assert_eq!(
        (signatures, signatures_burst, publish_handshakes),
        (10, 20_000, 20)
    );
    assert_eq!(config.listen, ["0.0.0.0:8081".parse().unwrap()]);
    assert!(config.join_token && config.x509pop.is_none() && config.http_listen.is_none());
    assert_eq!(
        config.data_dir.as_deref(),
        Some(Path::new("/var/lib/landfast-server"))
    );
}

#[test]
fn the_example_is_right_and_names_every_key() {
    let example = include_str!("../../../../examples/server.toml");
    load(example).unwrap();
    let uncommented: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key,
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    // All there is to say against it is that the device authority's file is not here: every key is known.
    let error = load(&uncommented).unwrap_err();
    assert!(
        error.contains("attestation.x509pop.ca_bundle") && error.contains("a readable file"),
        "{error}"
    );
    let raw = include_str!("raw.rs");
    for key in raw
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub(super) "))
        .filter_map(|rest| rest.split_once(':'))
    {
        let named = uncommented.contains(&format!("{} =", key.0)) || uncommented.contains(key.0);
        assert!(named, "examples/server.toml does not mention {}", key.0);
    }
}

#[test]
fn a_wrong_value_is_named_with_its_place_and_what_was_expected() {
    for (line, parts) in [
        (
            "listen = [\"here\"]",
            ["listen", "here", "an IP address and a port"],
        ),
        ("listen = []", ["listen", "[]", "1 to 16"]),
        ("unknown_key = 1", ["unknown_key", "server.toml:2", "unknown"]),
        ("data_dir = \"relative\"", ["data_dir", "relative", "absolute"]),
        ("http_listen = \"9102\"", ["http_listen", "9102", "an IP address"]),
        (
            "admin_ids = [\"spiffe://other.example\"]",
            ["admin_ids", "other.example", "with a path"],
        ),
        ("[ttl]\nx509 = \"1x\"", ["x509", "1x", "duration"]),
        (
            "[ttl]\nx509 = \"40d\"",
            ["ttl.x509", "3456000", "less than ttl.ca"],
        ),
        ("[ttl]\nbackdate = \"2h\"", ["ttl.backdate", "7200", "1h"]),
        (
            "[keys]\nx509 = \"rsa-2048\"",
            ["keys.x509", "rsa-2048", "ec-p256 or ec-p384"],
        ),
        ("[keys]\njwt = \"\"", ["keys.jwt", "ec-p256", "ec-p384"]),
        ("[keys]\nwit = \"rsa-2048\"", ["keys.wit", "ec-p256", "ec-p384"]),
        ("[ttl]\nwit = \"40d\"", ["ttl.wit", "3456000", "less than ttl.ca"]),
        ("[incubating]\nwit_svid = \"yes\"", ["wit_svid", "yes", "boolean"]),
        (
            "[incubating]\nwit_svids = true",
            ["wit_svids", "unknown", "wit_svid"],
        ),
        ("[ttl]\nca = \"1s\"", ["ttl.ca", "1 s", "60 s"]),
        (
            "[limits]\nconnections = 0",
            ["limits.connections", "0", "1 to 65536"],
        ),
        (
            "[limits]\nsignatures_per_second = 0",
            ["limits.signatures_per_second", "0", "at least 1"],
        ),
        (
            "[limits]\nsignatures_burst = 0",
            ["limits.signatures_burst", "0", "at least 1"],
        ),
        (
            "[limits]\nsigning_queue = 8",
            ["limits.signing_queue", "8", "64 to 65536"],
        ),
        (
            "[limits]\nsigning_queue_size = \"64KiB\"",
            ["limits.signing_queue_size", "65536 B", "1MiB to 4GiB"],
        ),
        (
            "[limits]\nanswers_size = \"8GiB\"",
            ["limits.answers_size", "8589934592 B", "1MiB to 4GiB"],
        ),
        (
            "[attestation.join_token]\nenabled = false",
            ["attestation.join_token.enabled", "false", "no node can join"],
        ),
        ("[log]\nlevel = \"loud\"", ["level", "loud", "info"]),
    ] {
        let error = load(&format!("{LEAST}{line}\n")).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{line}: no '{part}' in: {error}");
        }
        assert!(error.contains("server.toml:"), "{line}: no place in: {error}");
    }
    assert!(
        load("trust_domain = \"Plant\"")
            .unwrap_err()
            .contains("trust domain name")
    );
    assert!(load("").unwrap_err().contains("trust_domain"));
    assert!(load("not toml").is_err());
}

#[test]
fn wit_svids_are_off_and_live_as_long_as_x509_svids_unless_told_otherwise() {
    let loaded = |lines: &str| load(&format!("{LEAST}{lines}\n")).unwrap();
    let config = loaded("[ttl]\nca = \"40m\"\nagent = \"30m\"\nx509 = \"20m\"");
    assert_eq!(
        (config.wit_svid, config.ttls.wit),
        (false, Duration::from_secs(1200))
    );
    let config = loaded("[ttl]\nwit = \"10m\"\n[incubating]\nwit_svid = true");
    assert_eq!(
        (config.wit_svid, config.ttls.wit),
        (true, Duration::from_secs(600))
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = ServerConfig::load(Path::new("/nonexistent/server.toml")).unwrap_err();
    assert!(landfast_daemon::error_chain(&error).contains("/nonexistent/server.toml"));
}

#[test]
fn a_device_bundle_without_end_is_refused_and_not_read_to_the_end() {
    let text = format!("{LEAST}[attestation.x509pop]\nca_bundle = \"/dev/zero\"\n");
    let error = load(&text).unwrap_err();
    assert!(
        error.contains("attestation.x509pop.ca_bundle") && error.contains("larger than"),
        "{error}"
    );
}

#[test]
fn the_root_key_is_in_a_file_or_elsewhere() {
    let of = |lines: &str| load(&format!("{LEAST}{lines}")).map(|config| config.root_key);
    assert_eq!(of(""), Ok(RootKeyConfig::None));
    let file = |path: &str| Ok(RootKeyConfig::File(path.into()));
    assert_eq!(of("[root_key]"), file("/var/lib/landfast-server/root.key"));
    assert_eq!(of("data_dir = \"/srv/x\"\n[root_key]"), file("/srv/x/root.key"));
    assert_eq!(
        of("[root_key]\nfile = \"/media/key/root.key\""),
        file("/media/key/root.key")
    );
    assert_eq!(of("[root_key]\noffline = true"), Ok(RootKeyConfig::Offline));
    for (lines, words) in [
        ("[root_key]\nfile = \"root.key\"", "an absolute path"),
        ("[root_key]\nfile = \"/root.key\"\noffline = true", "or elsewhere"),
        ("[root_key]\nkey = \"x\"", "unknown key"),
    ] {
        let error = of(lines).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_room_of_the_ledger_may_be_said() {
    let config = load(&format!("{LEAST}[ledger]\nlimit = \"20GiB\"\n")).unwrap();
    assert_eq!(config.ledger_limit, Some(20 << 30));
}
