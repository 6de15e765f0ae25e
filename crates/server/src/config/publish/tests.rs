//! What `[publish]` may say.

use std::io::Write as _;

use super::super::ServerConfig;
use super::super::tests::load;

/// A folder with a certificate for `key.pem`, and `other.pem`, which is another's key.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let mut file = std::fs::File::create(dir.path().join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let made = rcgen::generate_simple_self_signed(vec!["plant.example".to_owned()]).unwrap();
    write("cert.pem", made.cert.pem());
    write("key.pem", made.signing_key.serialize_pem());
    write("other.pem", rcgen::KeyPair::generate().unwrap().serialize_pem());
    dir
}

/// `DIR` in the text is the folder.
pub(in crate::config) fn with(top: &str, publish: &str) -> Result<ServerConfig, String> {
    let dir = files();
    let text = format!("trust_domain = \"plant.example\"\n{top}\n[publish]\n{publish}");
    load(&text.replace("DIR", &dir.path().display().to_string()))
}

pub(in crate::config) const SPIFFE: &str = "spiffe_listen = [\"[::]:8444\"]\n";
pub(in crate::config) const WEB: &str =
    "listen = [\"0.0.0.0:8443\"]\ncert_file = \"DIR/cert.pem\"\nkey_file = \"DIR/key.pem\"\n";
pub(in crate::config) const ISSUER: &str = "jwt_issuer = \"https://oidc.plant.example/td\"";

#[test]
fn nothing_is_published_unless_it_is_said() {
    assert!(
        load("trust_domain = \"plant.example\"")
            .unwrap()
            .publish
            .is_none()
    );
    let config = with(ISSUER, SPIFFE).unwrap();
    let publish = config.publish.as_ref().unwrap();
    assert!(publish.web.is_none());
    assert_eq!(publish.spiffe_listen, ["[::]:8444".parse().unwrap()]);
    assert_eq!(
        (publish.path.as_str(), publish.refresh_hint.as_secs()),
        ("/", 300)
    );
    let without = load("trust_domain = \"plant.example\"")
        .unwrap()
        .descriptors_wanted();
    assert_eq!(config.descriptors_wanted(), without + 256);
}

#[test]
fn an_issuer_is_served_unless_it_is_declined() {
    let issuer = |top, more| {
        let publish = with(top, &format!("{WEB}{more}")).unwrap().publish.unwrap();
        publish.web.unwrap().issuer.map(|issuer| issuer.keys_url())
    };
    assert_eq!(issuer(ISSUER, "").unwrap(), "https://oidc.plant.example/td/keys");
    assert_eq!(issuer(ISSUER, "oidc = false"), None);
    assert_eq!(issuer("", ""), None);
    assert_eq!(issuer("jwt_issuer = \"plant\"", "oidc = false"), None);
}

#[test]
fn the_hint_follows_the_life_of_an_authority() {
    let hint = |publish: &str| {
        let text = format!("trust_domain = \"plant.example\"\n[publish]\n{SPIFFE}{publish}");
        load(&text).map(|config| config.publish.unwrap().refresh_hint.as_secs())
    };
    let short = "[ttl]\nca = \"20m\"\nagent = \"10m\"\nx509 = \"10m\"\n";
    assert_eq!(hint(short).unwrap(), 100);
    assert_eq!(hint("refresh_hint = \"1d\"\n").unwrap(), 86_400);
    assert_eq!(hint(&format!("refresh_hint = \"100s\"\n{short}")).unwrap(), 100);
    let error = hint(&format!("refresh_hint = \"101s\"\n{short}")).unwrap_err();
    assert!(error.contains("10 s to 100 s"), "{error}");
}

#[test]
fn what_could_not_be_served_is_refused_by_name() {
    let both = "listen = [\"0.0.0.0:8443\"]\n";
    for (top, publish, parts) in [
        ("", "".to_owned(), ["publish.listen", "one address"]),
        (
            "",
            "listen = [\"8443\"]".to_owned(),
            ["publish.listen", "an IP address"],
        ),
        (
            "",
            "spiffe_listen = [\"x\"]".to_owned(),
            ["publish.spiffe_listen", "an IP address"],
        ),
        ("", both.to_owned(), ["publish.listen", "key_file"]),
        (
            "",
            format!("{both}cert_file = \"DIR/cert.pem\""),
            ["publish.listen", "key_file"],
        ),
        (
            "",
            format!("{SPIFFE}cert_file = \"DIR/cert.pem\""),
            ["publish.listen", "cert_file"],
        ),
        (
            "",
            WEB.replace("DIR/key", "key"),
            ["publish.key_file", "absolute"],
        ),
        (
            "",
            WEB.replace("key.pem", "none.pem"),
            ["publish.cert_file", "none.pem"],
        ),
        (
            "",
            WEB.replace("key.pem", "other.pem"),
            ["publish.cert_file", "cannot be used together"],
        ),
        (
            "",
            WEB.replace("cert.pem", "key.pem"),
            ["publish.cert_file", "0 certificates"],
        ),
        (
            "",
            format!("{WEB}path = \"bundle\""),
            ["publish.path", "a path such as"],
        ),
        (
            "",
            format!("{WEB}path = \"/a/../b\""),
            ["publish.path", "a path such as"],
        ),
        (
            "",
            format!("{WEB}refresh_hint = \"2d\""),
            ["publish.refresh_hint", "86400 s"],
        ),
        (
            "",
            format!("{WEB}refresh_hint = \"1s\""),
            ["publish.refresh_hint", "10 s to"],
        ),
        ("", format!("{WEB}oidc = true"), ["publish.oidc", "jwt_issuer"]),
        (ISSUER, format!("{SPIFFE}oidc = true"), ["publish.listen", "oidc"]),
        (
            "jwt_issuer = \"plant\"",
            WEB.to_owned(),
            ["jwt_issuer", "an https URL"],
        ),
        (
            "jwt_issuer = \"http://plant.example\"",
            WEB.to_owned(),
            ["jwt_issuer", "an https URL"],
        ),
        (
            ISSUER,
            format!("{WEB}path = \"/td/keys\""),
            ["publish.path", "OIDC"],
        ),
        ("", format!("{WEB}other = 1"), ["other", "unknown"]),
    ] {
        let error = with(top, &publish).unwrap_err();
        assert!(
            parts.iter().all(|part| error.contains(part)),
            "{publish}: {error}"
        );
    }
}

/// `check` refuses what a start leaves to the one listener that needs it.
#[test]
fn a_certificate_that_is_no_good_is_refused_by_a_check_and_no_obstacle_to_a_start() {
    let dir = files();
    let path = dir.path().join("server.toml");
    let folder = dir.path().to_str().unwrap();
    let load = |publish: &str| {
        let text = format!("trust_domain = \"plant.example\"\n[publish]\n{publish}").replace("DIR", folder);
        std::fs::File::create(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        (ServerConfig::load(&path), ServerConfig::load_to_run(&path))
    };
    let (checked, started) = load(&WEB.replace("key.pem", "other.pem"));
    assert!(checked.is_err());
    assert!(started.unwrap().publish.unwrap().web.is_some());
    let (checked, started) = load(&WEB.replace("listen = ", "path = \"bundle\"\nlisten = "));
    assert!(checked.is_err() && started.is_err(), "what no time mends");
}
