//! One wrong file a case, and the whole sentence the operator reads.

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only whether it parses is looked at")]
struct Config {
    trust_domain: String,
    #[serde(default)]
    server: Vec<String>,
    #[serde(default)]
    ttl: Ttl,
    #[serde(default)]
    log: crate::log::LogConfig,
    attestation: Option<Attestation>,
    max: Option<HumanSize>,
    proxy: Option<u16>,
    #[serde(default)]
    rule: Vec<Attestation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ttl {
    x509: Option<HumanDuration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only whether it parses is looked at")]
struct Attestation {
    method: String,
    token: Option<u32>,
}

fn refused(text: &str) -> String {
    parse::<Config>(Path::new("agent.toml"), text)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_good_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        b"trust_domain = \"plant.example\"\n[ttl]\nx509 = \"1h\"\n[attestation]\nmethod = \"x\"\n",
    );
    let config: Config = load(&path).unwrap();
    assert_eq!(config.ttl.x509.unwrap().duration().as_secs(), 3600);
}

#[test]
fn an_error_names_file_place_key_value_and_what_was_expected() {
    let cases = [
        (
            "trust_domain = \"a\"\n[ttl]\nx509 = \"1x\"\n",
            "agent.toml:3:8: ttl.x509 = \"1x\": expected a duration such as \"90s\", \"5m\", \"1h\" or \"30d\"",
        ),
        (
            "trust_domain = \"a\"\nttl.x509 = 90\n",
            "agent.toml:2:12: ttl.x509 = 90: expected a duration such as \"90s\", \"5m\", \"1h\" or \"30d\"",
        ),
        (
            "trust_domain = 5\n",
            "agent.toml:1:16: trust_domain = 5: expected a string",
        ),
        (
            "trust_domain = \"a\"\nserver = [\n  \"b\",\n  5,\n]\n",
            "agent.toml:4:3: server = 5: expected a string",
        ),
        (
            "trust_domain = \"a\"\nmax = \"1MB\"\n",
            "agent.toml:2:7: max = \"1MB\": expected a size such as \"64KiB\" or \"16MiB\"",
        ),
        (
            "trust_domain = \"a\"\n[log]\nlevel = \"loud\"\n",
            "agent.toml:3:9: log.level = \"loud\": expected one of `error`, `warn`, `info`, `debug`, `trace`",
        ),
        (
            "trust_domain = \"a\"\n[ttl]\njwt = \"5m\"\n",
            "agent.toml:3:1: unknown key ttl.jwt: expected `x509`",
        ),
        (
            "[ttl]\nx509 = \"1h\"\n",
            "agent.toml: the key trust_domain is missing",
        ),
        (
            "trust_domain = \"a\"\n[attestation]\n",
            "agent.toml:2:1: the key attestation.method is missing",
        ),
        (
            "trust_domain = \"a\"\n[[rule]]\nmethod = \"x\"\n[[rule]]\nmethod = 7\n",
            "agent.toml:5:10: rule.method = 7: expected a string",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_place() {
    for (text, place) in [
        ("trust_domain =\nserver = []\n", "agent.toml:1:"),
        ("trust_domain = \"a\"\ntrust_domain = \"b\"\n", "agent.toml:2:1"),
        ("trust_domain = \"a\"\n[ttl\n", "agent.toml:2:"),
        ("= 5\n", "agent.toml:1:1"),
    ] {
        let said = refused(text);
        assert!(
            said.starts_with(place) && !said.contains('\n'),
            "{text:?}: {said}"
        );
    }
}

#[test]
fn a_secret_is_not_repeated() {
    let said = refused("trust_domain = \"a\"\n[attestation]\nmethod = \"x\"\ntoken = \"hunter2\"\n");
    assert_eq!(
        said,
        "agent.toml:4:9: attestation.token = (not shown): expected u32"
    );
    let said = refused("trust_domain = \"a\"\nproxy = \"http://me:hunter2@proxy:1\"\n");
    assert_eq!(said, "agent.toml:2:9: proxy = (not shown): expected u16");
    let said = ConfigError::invalid(
        Path::new("agent.toml"),
        "attestation.token",
        "hunter2",
        "one word",
    )
    .to_string();
    assert_eq!(
        said,
        "agent.toml: attestation.token = (not shown): expected one word"
    );
}

#[test]
fn a_value_that_makes_no_sense_is_found_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "# é\n[ttl]\nx509 = \"1h\"\n".as_bytes());
    let said = |key: &str| ConfigError::invalid(&path, key, "1h", "at least \"2h\"").to_string();
    let file = path.display();
    assert_eq!(
        said("ttl.x509"),
        format!("{file}:3:8: ttl.x509 = 1h: expected at least \"2h\"")
    );
    assert_eq!(
        said("ttl.jwt"),
        format!("{file}:2:1: ttl.jwt = 1h: expected at least \"2h\"")
    );
    assert_eq!(
        said("data_dir"),
        format!("{file}: data_dir = 1h: expected at least \"2h\"")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.toml");
    let error = load::<Config>(&missing).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", missing.display()));
    assert!(std::error::Error::source(&error).is_some());
    assert!(matches!(
        load::<Config>(dir.path()),
        Err(ConfigError::CannotRead { .. })
    ));
    let binary = write(dir.path(), b"\xff\xfe");
    assert!(matches!(
        load::<Config>(&binary),
        Err(ConfigError::CannotRead { .. })
    ));
    let large = write(dir.path(), &vec![b'#'; usize::try_from(MAX_BYTES).unwrap() + 1]);
    assert!(matches!(
        load::<Config>(&large),
        Err(ConfigError::TooLarge { .. })
    ));
}

fn write(dir: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.join("agent.toml");
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), bytes).unwrap();
    path
}
