//! What `[[federation]]` may say.

use std::path::Path;

use crate::config::ServerConfig;
use crate::core::fixture::foreign;
use crate::federation::DangerNetworks;
use crate::registry::Profile;

fn load(dir: &Path, text: &str) -> Result<ServerConfig, String> {
    let path = dir.join("server.toml");
    let mut file = std::fs::File::create(&path).unwrap();
    let text = format!("trust_domain = \"plant.example\"\n{text}");
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    ServerConfig::load(&path).map_err(|error| landfast_daemon::error_chain(&error))
}

const WEB: &str = "[[federation]]\ntrust_domain = \"site.example\"\nurl = \"https://site.example/bundle\"\nprofile = \"https_web\"\n";

#[tokio::test]
async fn both_profiles_are_read_with_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("site.json");
    let mut file = std::fs::File::create(&bundle).unwrap();
    let published = foreign("site.example").await;
    std::io::Write::write_all(&mut file, published.to_jwks().as_bytes()).unwrap();
    let roots = dir.path().join("roots.pem");
    let mut file = std::fs::File::create(&roots).unwrap();
    std::io::Write::write_all(&mut file, published.to_pem().as_bytes()).unwrap();
    let text = format!(
        "federation_danger_networks = [\"127.0.0.0/8\"]\n{WEB}bundle = \"{}\"\nweb_roots = \"{}\"\n{}",
        bundle.display(),
        roots.display(),
        "[[federation]]\ntrust_domain = \"b.example\"\nurl = \"https://10.0.0.9:8443/\"\nprofile = \"https_spiffe\"\n\
         endpoint_spiffe_id = \"spiffe://b.example/spire/server\"\n",
    );
    let federation = load(dir.path(), &text).unwrap().federation;
    assert_eq!(
        federation.danger_networks,
        DangerNetworks::parse(["127.0.0.0/8"]).unwrap()
    );
    let [first, second] = federation.relationships.as_slice() else {
        panic!("two")
    };
    assert_eq!(first.relationship.profile, Profile::Web);
    assert_eq!(first.bundle.as_ref().unwrap().sequence(), published.sequence());
    assert!(first.web_roots.is_some() && second.bundle.is_none() && second.web_roots.is_none());
    assert!(
        matches!(&second.relationship.profile, Profile::Spiffe { endpoint_id } if endpoint_id.path() == "/spire/server")
    );
}

#[test]
fn a_wrong_relationship_is_named_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let spiffe = WEB.replace("https_web", "https_spiffe");
    for (text, key) in [
        (
            WEB.replace("site.example\"\nurl", "plant.example\"\nurl"),
            "federation.trust_domain",
        ),
        (format!("{WEB}{WEB}"), "one table a trust domain"),
        (
            WEB.replace("https://", "http://"),
            "bundle endpoint URL must use the https scheme",
        ),
        (
            WEB.replace("https_web", "web"),
            "\"https_web\" or \"https_spiffe\"",
        ),
        (spiffe.clone(), "federation.endpoint_spiffe_id"),
        (
            format!("{spiffe}endpoint_spiffe_id = \"b.example\"\n"),
            "federation.endpoint_spiffe_id",
        ),
        (
            format!("{WEB}endpoint_spiffe_id = \"spiffe://b.example/x\"\n"),
            "none, with profile = \"https_web\"",
        ),
        (
            format!("{spiffe}endpoint_spiffe_id = \"spiffe://b.example/x\"\nweb_roots = \"/x\"\n"),
            "none, with profile = \"https_spiffe\"",
        ),
        (
            format!("{WEB}web_roots = \"/does/not/exist\"\n"),
            "federation.web_roots",
        ),
        (
            format!("{WEB}bundle = \"/does/not/exist\"\n"),
            "federation.bundle",
        ),
        (
            format!("{WEB}bundle = \"{}\"\n", dir.path().join("server.toml").display()),
            "federation.bundle",
        ),
        (format!("{WEB}other = 1\n"), "other"),
        (
            "federation_danger_networks = [\"127.0.0.1\"]\n".to_owned(),
            "federation_danger_networks",
        ),
    ] {
        let error = load(dir.path(), &text).unwrap_err();
        assert!(error.contains(key), "{key}: {error}");
    }
}
