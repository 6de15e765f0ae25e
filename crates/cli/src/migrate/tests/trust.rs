//! What SPIRE says of trust beyond the own domain, of Envoys and of delegates.

use landfast_identity::issue::{AuthorityParams, self_signed_authority};
use landfast_identity::{PrivateKey, TrustDomain, UnixTime};

use super::*;

/// A folder with `tls.crt` and its `tls.key`.
fn certificate() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate().unwrap();
    let params = AuthorityParams {
        trust_domain: &TrustDomain::parse("a.test").unwrap(),
        authority_id: "1",
        not_before: UnixTime::from_secs(1_700_000_000),
        not_after: UnixTime::from_secs(1_900_000_000),
    };
    let made = self_signed_authority(&params, &key).unwrap();
    fs::write(dir.path().join("tls.crt"), made.to_pem()).unwrap();
    fs::write(dir.path().join("tls.key"), key.to_pem().as_bytes()).unwrap();
    dir
}

fn endpoint(profile: &str) -> String {
    format!(
        "federation {{ bundle_endpoint {{ address = \"192.0.2.7\" port = 8443 refresh_hint = \"10m\" {profile} }} }}"
    )
}

fn unmapped(ours: &Ours) -> Vec<String> {
    texts(&ours.report.unmapped_json(), "key")
}

#[test]
fn an_endpoint_with_a_certificate_is_published() {
    let dir = certificate();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let profile = format!(
        "profile \"https_web\" {{ serving_cert_file {{ cert_file_path = \"{}\" key_file_path = \"{}\" file_sync_interval = \"1h\" }} }}",
        at("tls.crt"),
        at("tls.key")
    );
    let options = format!("jwt_issuer = \"plant\" {}", endpoint(&profile));
    let ours = with(SERVER_CONF, &options, "");
    let publish = server(&ours).publish.unwrap();
    let web = publish.web.unwrap();
    assert_eq!(web.listen, ["192.0.2.7:8443".parse().unwrap()]);
    assert_eq!(web.certificate.cert, dir.path().join("tls.crt"));
    assert!(web.issuer.is_none(), "SPIRE's server serves no discovery");
    assert_eq!(publish.refresh_hint.as_secs(), 600);
    assert!(publish.spiffe_listen.is_empty());
    assert_eq!(unmapped(&ours), Vec::<String>::new());
}

#[test]
fn an_endpoint_with_the_servers_svid_is_published_also_when_no_profile_is_given() {
    for profile in ["profile \"https_spiffe\" {}", ""] {
        let ours = with(SERVER_CONF, &endpoint(profile), "");
        let publish = server(&ours).publish.unwrap();
        assert!(publish.web.is_none());
        assert_eq!(publish.spiffe_listen, ["192.0.2.7:8443".parse().unwrap()]);
        assert_eq!(unmapped(&ours), Vec::<String>::new(), "{profile}");
    }
    let hint = "ca_ttl = \"24h\" federation { bundle_endpoint { port = 8443 refresh_hint = \"5h\" } }";
    let publish = server(&with(SERVER_CONF, hint, "")).publish.unwrap();
    assert_eq!(publish.refresh_hint.as_secs(), 7200, "a twelfth of ca_ttl");
}

#[test]
fn an_endpoint_that_cannot_be_is_listed() {
    for (profile, said) in [
        (
            "profile \"https_web\" { acme { domain_name = \"a.test\" } }",
            "ACME",
        ),
        ("acme { domain_name = \"a.test\" }", "ACME"),
    ] {
        let ours = with(SERVER_CONF, &endpoint(profile), "");
        assert!(server(&ours).publish.is_none());
        let listed = texts(&ours.report.unmapped_json(), "instead");
        assert!(listed.len() == 1 && listed[0].contains(said), "{listed:?}");
    }
    let named = "federation { bundle_endpoint { address = \"bundle.a.test\" port = 8443 } }";
    let ours = with(SERVER_CONF, named, "");
    assert!(server(&ours).publish.is_none());
    assert_eq!(unmapped(&ours).len(), 2, "address and port");
}

#[test]
fn relationships_are_tables_of_their_own() {
    let options = "federation {
        federates_with \"spiffe://office.test\" {
            bundle_endpoint_url = \"https://office.test:8443/\"
            bundle_endpoint_profile \"https_spiffe\" { endpoint_spiffe_id = \"spiffe://office.test/spire/server\" }
        }
        federates_with \"maker.test\" {
            bundle_endpoint_url = \"https://maker.test/bundle\"
            bundle_endpoint_profile \"https_web\" {}
        }
    }";
    let ours = with(SERVER_CONF, options, "");
    let made = server(&ours).federation.relationships;
    let shown: Vec<String> = made
        .iter()
        .map(|made| {
            let relationship = &made.relationship;
            format!("{} {:?}", relationship.trust_domain, relationship.profile)
        })
        .collect();
    assert_eq!(shown.len(), 2);
    assert!(
        shown[0].starts_with("office.test Spiffe") && shown[0].contains("spiffe://office.test/spire/server"),
        "{shown:?}"
    );
    assert!(shown[1].starts_with("maker.test Web"), "{shown:?}");
    assert_eq!(unmapped(&ours), Vec::<String>::new());
    let notes = texts(&ours.report.notes_json(), "text").join("\n");
    assert!(
        notes.contains("landfast bundle set --trust-domain office.test"),
        "{notes}"
    );
    assert!(!notes.contains("bundle list -id maker.test"), "{notes}");
}

#[test]
fn what_is_no_relationship_is_listed() {
    for (name, content) in [
        (
            "a.test",
            "bundle_endpoint_url = \"https://x.test/\" bundle_endpoint_profile \"https_web\" {}",
        ),
        (
            "Not A Name",
            "bundle_endpoint_url = \"https://x.test/\" bundle_endpoint_profile \"https_web\" {}",
        ),
        (
            "x.test",
            "bundle_endpoint_url = \"http://x.test/\" bundle_endpoint_profile \"https_web\" {}",
        ),
        ("x.test", "bundle_endpoint_url = \"https://x.test/\""),
        ("x.test", "bundle_endpoint_profile \"https_web\" {}"),
        (
            "x.test",
            "bundle_endpoint_url = \"https://x.test/\" bundle_endpoint_profile \"https_spiffe\" { endpoint_spiffe_id = \"x\" }",
        ),
        (
            "x.test",
            "bundle_endpoint_url = \"https://x.test/\" bundle_endpoint_profile \"https_spiffe\" {}",
        ),
    ] {
        let options = format!("federation {{ federates_with \"{name}\" {{ {content} }} }}");
        let ours = with(SERVER_CONF, &options, "");
        assert!(server(&ours).federation.relationships.is_empty(), "{content}");
        assert_eq!(unmapped(&ours).len(), 1, "{content}: {:?}", unmapped(&ours));
    }
}

#[test]
fn envoys_find_the_names_that_they_know() {
    let sds = "sds { default_svid_name = \"mine\" default_all_bundles_name = \"EVERY\" disable_spiffe_cert_validation = true }";
    let ours = with(AGENT_CONF, sds, "");
    let found = agent(&ours).sds.unwrap();
    assert_eq!(
        (
            found.default_svid_name.as_str(),
            found.default_bundle_name.as_str(),
            found.default_all_bundles_name.as_str(),
            found.disable_spiffe_cert_validation
        ),
        ("mine", "ROOTCA", "EVERY", true)
    );
    assert_eq!(unmapped(&ours), Vec::<String>::new());
    assert!(
        agent(&with(AGENT_CONF, "disable_sds_api = true", ""))
            .sds
            .is_none()
    );
    assert!(
        agent(&with(AGENT_CONF, "disable_sds_api = false", ""))
            .sds
            .is_some()
    );
    for wrong in ["*", "ROOTCA", "spiffe://a.test/x"] {
        let ours = with(
            AGENT_CONF,
            &format!("sds {{ default_svid_name = \"{wrong}\" }}"),
            "",
        );
        assert_eq!(agent(&ours).sds.unwrap().default_svid_name, "default", "{wrong}");
        assert_eq!(unmapped(&ours), ["agent.sds.default_svid_name"], "{wrong}");
    }
}

#[test]
fn delegates_keep_their_rights_and_the_operator_is_told() {
    let delegates = "authorized_delegates = [\"spiffe://a.test/mesh\", \"spiffe://a.test/ssh\", \"mesh\"]";
    let ours = with(AGENT_CONF, delegates, "");
    let shown = format!("{:?}", agent(&ours).authorized_delegates);
    for part in ["spiffe://a.test/mesh", "spiffe://a.test/ssh"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(
        ours.text.matches("may_have = [\"spiffe://a.test/*\"]").count(),
        2,
        "{}",
        ours.text
    );
    assert_eq!(
        unmapped(&ours),
        ["agent.authorized_delegates"],
        "the one that is no ID"
    );
    let notes = texts(&ours.report.notes_json(), "text").join("\n");
    assert!(notes.contains("name in may_have those that it needs"), "{notes}");
}
