//! The Margo identity service, by a client that follows what the framework asks of one.

use landfast_identity::{BundleSet, verify_x509_svid};
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::*;
use crate::authority::{Kind, Order};
use crate::core::fixture::{id, key, me, td};

const DISCOVERY: &str = "/.well-known/margo";
const BUNDLE_URL: &str = "https://bundle.plant.test/margo/bundle";

async fn rig() -> Rig {
    let long = Duration::from_secs(60);
    let patience = Patience {
        handshake: long,
        request: long,
    };
    Rig::changed(patience, |web| {
        web.margo = MargoDiscovery::parse(BUNDLE_URL, None);
        web.tls12 = false;
    })
    .await
}

/// What a principal knows: its own trust domain, and one bundle at a time.
struct Verifier {
    trusted: Option<Bundle>,
}

impl Verifier {
    /// From discovery to the bundle, with what was had the last time.
    async fn refresh(&mut self, client: &mut Client, tag: Option<&str>) -> Result<Answer, &'static str> {
        let found = client.get(DISCOVERY).await.json();
        if found["trustDomain"] != td().as_str() {
            return Err("another trust domain");
        }
        let uri = found["trustBundleUri"].as_str().unwrap();
        let path = uri
            .strip_prefix("https://bundle.plant.test")
            .ok_or("not over https")?;
        let header = tag.map_or_else(String::new, |tag| format!("if-none-match: {tag}\r\n"));
        let answer = client.ask("GET", path, &header).await;
        match answer.status {
            304 => Ok(answer),
            200 => self.replace(&answer.body).map(|()| answer),
            _ => Err("no bundle: the one before stays"),
        }
    }

    /// Keys of other uses are not read; what is adopted takes the place of all that was.
    fn replace(&mut self, document: &str) -> Result<(), &'static str> {
        let mut document: Value = serde_json::from_str(document).map_err(|_broken| "no JSON")?;
        let keys = document["keys"].as_array_mut().ok_or("no keys")?;
        keys.retain(|key| key["use"] == "x509-svid");
        if keys.is_empty() {
            return Err("no anchor");
        }
        let bundle = Bundle::from_jwks(td(), document.to_string().as_bytes());
        let bundle = bundle.map_err(|_broken| "no bundle")?;
        if self
            .trusted
            .as_ref()
            .is_some_and(|trusted| bundle.sequence() < trusted.sequence())
        {
            return Err("the sequence went back");
        }
        self.trusted = Some(bundle);
        Ok(())
    }

    fn believes(&self, rig: &Rig, chain: &[landfast_identity::Certificate]) -> bool {
        let bundles: BundleSet = self.trusted.iter().cloned().collect();
        let chain: Vec<_> = chain.iter().map(landfast_identity::Certificate::as_der).collect();
        let peer = verify_x509_svid(&chain, &bundles, rig.core.now());
        peer.is_ok_and(|peer| peer.id.trust_domain() == &td() && peer.id.path().starts_with("/margo/"))
    }
}

async fn principal(rig: &Rig) -> Vec<landfast_identity::Certificate> {
    let issuer = &rig.core.core.issuer;
    let issued = issuer
        .mint_x509(&me(), &id("/margo/pump-7"), &[], None, &key())
        .await;
    issued.unwrap().chain
}

#[tokio::test]
async fn discovery_leads_to_the_bundle_that_is_published() {
    let rig = rig().await;
    let mut client = rig.web.connect(rig.addresses.web[0]).await;
    let found = client.get(DISCOVERY).await;
    assert_eq!(found.status, 200);
    assert_eq!(
        found.json(),
        json!({"trustDomain": "plant.example", "trustBundleUri": BUNDLE_URL})
    );
    let bundle = client.get("/margo/bundle").await;
    assert_eq!(bundle.status, 200);
    assert_eq!(bundle, client.get("/").await, "the same under both paths");
    for (path, document) in [(DISCOVERY, &found), ("/margo/bundle", &bundle)] {
        let known = format!("if-none-match: {}\r\n", document.headers["etag"]);
        let again = client.ask("GET", path, &known).await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
        let other = client.ask("GET", path, "if-none-match: \"other\"\r\n").await;
        assert_eq!(&other, document);
        for method in ["POST", "PUT", "DELETE"] {
            let refused = client.ask(method, path, "content-length: 0\r\n").await;
            assert_eq!(
                (refused.status, refused.headers["allow"].as_str()),
                (405, "GET, HEAD")
            );
        }
    }
    for path in [
        "/.well-known",
        "/.well-known/margo/",
        "/margo",
        "/margo/bundle/",
        "/.well-known/Margo",
    ] {
        assert_eq!(client.get(path).await.status, 404, "{path}");
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn without_the_option_there_is_no_discovery() {
    let rig = Rig::new().await;
    let mut client = rig.web.connect(rig.addresses.web[0]).await;
    for path in [DISCOVERY, "/margo/bundle"] {
        let missing = client.get(path).await;
        assert_eq!((missing.status, missing.body.as_str()), (404, ""), "{path}");
    }
    assert_eq!(client.get("/").await.status, 200);
    rig.tear_down().await;
}

#[tokio::test]
async fn discovery_is_for_the_web_and_for_tls_1_3() {
    let rig = rig().await;
    let only = |version| Arc::new(rig.web.client_of(&[version]));
    let web = rig.addresses.web[0];
    assert!(Client::connect(web, only(&rustls::version::TLS12)).await.is_err());
    let mut client = Client::connect(web, only(&rustls::version::TLS13)).await.unwrap();
    assert_eq!(client.get(DISCOVERY).await.status, 200);
    rig.tear_down().await;
    let rig = Rig::new().await;
    let old = Arc::new(rig.web.client_of(&[&rustls::version::TLS12]));
    let mut client = Client::connect(rig.addresses.web[0], old).await.unwrap();
    assert_eq!(client.get("/").await.status, 200, "without Margo as before");
    rig.tear_down().await;
}

/// Both anchors, the switch, the old one retired: at every step a principal of either authority is believed by who refreshed.
#[tokio::test]
async fn a_verifier_follows_a_rotation_of_the_anchor() {
    let rig = rig().await;
    let mut client = rig.web.connect(rig.addresses.web[0]).await;
    let authorities = &rig.core.core.authorities;
    let mut verifier = Verifier { trusted: None };
    let first = principal(&rig).await;
    assert!(!verifier.believes(&rig, &first), "nobody is trusted on first use");
    let answer = verifier.refresh(&mut client, None).await.unwrap();
    assert!(verifier.believes(&rig, &first));
    let tag = answer.headers["etag"].clone();
    let again = verifier.refresh(&mut client, Some(&tag)).await.unwrap();
    assert_eq!(again.status, 304);

    let now = rig.core.now();
    let old = authorities.standing(Kind::X509).await.unwrap().active.unwrap().id;
    let next = authorities
        .order(&Order::Prepare(Kind::X509), now)
        .await
        .unwrap()
        .id;
    let offline = Verifier {
        trusted: verifier.trusted.clone(),
    };
    let both = verifier.refresh(&mut client, Some(&tag)).await.unwrap();
    assert_eq!(both.status, 200);
    assert_eq!(verifier.trusted.as_ref().unwrap().x509_authorities().len(), 2);
    authorities
        .order(&Order::Activate(Kind::X509, next), now)
        .await
        .unwrap();
    let second = principal(&rig).await;
    assert!(verifier.believes(&rig, &first) && verifier.believes(&rig, &second));
    assert!(
        !offline.believes(&rig, &second),
        "who was away does not know the new anchor"
    );
    authorities
        .order(&Order::Taint(Kind::X509, old.clone()), now)
        .await
        .unwrap();
    authorities
        .order(&Order::Revoke(Kind::X509, old), now)
        .await
        .unwrap();
    verifier.refresh(&mut client, None).await.unwrap();
    assert!(!verifier.believes(&rig, &first), "replaced, never merged");
    assert!(verifier.believes(&rig, &second));
    assert_eq!(verifier.replace(&both.body), Err("the sequence went back"));
    assert!(verifier.believes(&rig, &second));
    rig.tear_down().await;
}

#[tokio::test]
async fn a_verifier_takes_no_bundle_without_an_anchor_and_nobody_from_elsewhere() {
    let rig = rig().await;
    let mut client = rig.web.connect(rig.addresses.web[0]).await;
    let mut verifier = Verifier { trusted: None };
    let whole = verifier.refresh(&mut client, None).await.unwrap();
    let mut bare = whole.json();
    let keys = bare["keys"].as_array_mut().unwrap();
    keys.retain(|key| key["use"] != "x509-svid");
    assert!(!keys.is_empty(), "its JWT keys are no anchors");
    assert_eq!(verifier.replace(&bare.to_string()), Err("no anchor"));
    assert_eq!(verifier.replace("{\"keys\":[]}"), Err("no anchor"));
    assert_eq!(verifier.replace("<html>"), Err("no JSON"));
    assert!(verifier.believes(&rig, &principal(&rig).await));
    let issuer = &rig.core.core.issuer;
    let outside = issuer
        .mint_x509(&me(), &id("/pump-7"), &[], None, &key())
        .await
        .unwrap();
    assert!(!verifier.believes(&rig, &outside.chain), "no principal");
    let other = CoreRig::new().await;
    let issued = other
        .core
        .issuer
        .mint_x509(&me(), &id("/margo/pump-7"), &[], None, &key())
        .await;
    assert!(
        !verifier.believes(&rig, &issued.unwrap().chain),
        "of another authority"
    );
    rig.tear_down().await;
}
