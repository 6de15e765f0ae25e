//! What `[margo]` may say.

use super::super::ServerConfig;
use super::super::publish::tests::{ISSUER, SPIFFE, WEB, with};
use super::super::tests::load;
use crate::registry::MargoPaths;

/// `publish` and `margo` are the contents of the tables.
fn both(top: &str, publish: &str, margo: &str) -> Result<ServerConfig, String> {
    with(top, &format!("{publish}\n[margo]\n{margo}"))
}

const URL: &str = "bundle_url = \"https://trust.plant.example:8443/\"\n";

#[test]
fn nothing_of_margo_is_on_unless_it_is_said() {
    let config = with("", WEB).unwrap();
    assert_eq!(config.margo, MargoPaths::Ordinary);
    let web = config.publish.unwrap().web.unwrap();
    assert!(web.margo.is_none() && web.tls12);
}

#[test]
fn paths_need_no_discovery() {
    let config = load("trust_domain = \"plant.example\"\n[margo]\n").unwrap();
    assert_eq!(config.margo, MargoPaths::Reserved);
    let web = both("", WEB, "").unwrap().publish.unwrap().web.unwrap();
    assert!(web.margo.is_none() && web.tls12);
}

#[test]
fn discovery_speaks_no_old_tls_unless_it_is_told() {
    for (more, tls12) in [("", false), ("tls12 = false", false), ("tls12 = true", true)] {
        let config = both(ISSUER, WEB, &format!("{URL}{more}")).unwrap();
        let web = config.publish.unwrap().web.unwrap();
        assert_eq!(
            (web.margo.unwrap().path(), web.tls12),
            ("/.well-known/margo", tls12)
        );
    }
    let elsewhere = format!("{URL}discovery_path = \"/plant/margo\"");
    let web = both("", WEB, &elsewhere).unwrap().publish.unwrap().web.unwrap();
    assert_eq!(web.margo.unwrap().path(), "/plant/margo");
}

#[test]
fn what_leads_nowhere_is_refused_by_name() {
    let at = |url: &str| format!("bundle_url = \"{url}\"");
    for (top, publish, margo, parts) in [
        ("", SPIFFE, URL.to_owned(), ["margo.bundle_url", "publish.listen"]),
        (
            "",
            WEB,
            at("http://trust.plant.example/"),
            ["margo.bundle_url", "https URL"],
        ),
        (
            "",
            WEB,
            at("https://trust.plant.example/?a"),
            ["margo.bundle_url", "https URL"],
        ),
        ("", WEB, at(""), ["margo.bundle_url", "https URL"]),
        (
            ISSUER,
            WEB,
            at("https://trust.plant.example/td/keys"),
            ["margo.bundle_url", "OIDC"],
        ),
        (
            "",
            WEB,
            format!("{}\ndiscovery_path = \"/\"", at("https://trust.plant.example/b")),
            ["margo.discovery_path", "bundle"],
        ),
        (
            ISSUER,
            WEB,
            format!("{URL}discovery_path = \"/td/keys\""),
            ["margo.discovery_path", "OIDC"],
        ),
        (
            "",
            WEB,
            "discovery_path = \"/m\"".to_owned(),
            ["margo.discovery_path", "bundle_url"],
        ),
        ("", WEB, "tls12 = true".to_owned(), ["margo.tls12", "bundle_url"]),
        ("", WEB, "crl = true".to_owned(), ["crl", "unknown"]),
        (
            "admin_ids = [\"spiffe://plant.example/margo/boss\"]",
            WEB,
            String::new(),
            ["admin_ids", "/margo/boss"],
        ),
    ] {
        let error = both(top, publish, &margo).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{margo}: {error}");
    }
    load("trust_domain = \"plant.example\"\nadmin_ids = [\"spiffe://plant.example/margo/boss\"]").unwrap();
}
