//! The documents, and how they are asked for.

use landfast_identity::SpiffeId;
use landfast_proto::spire::api::server::svid::v1::{MintJwtsvidRequest, svid_client::SvidClient};
use landfast_proto::spire::api::types;
use landfast_tls::{BundleStore, Expect, client_config};
use serde_json::Value;

use super::client::{Answer, Client};
use super::*;
use crate::authority::{Kind, Order};
use crate::core::fixture::{DiskRig, td};
use crate::server::rig::Rig as ServerRig;

fn read(answer: &Answer) -> Bundle {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    Bundle::from_jwks(td(), answer.body.as_bytes()).unwrap()
}

/// What a document says of a bundle: not what is tainted, and not when keys end.
fn said(bundle: &Bundle) -> Bundle {
    let document = bundle.clone().with_refresh_hint(Some(HINT)).to_jwks();
    Bundle::from_jwks(td(), document.as_bytes()).unwrap()
}

#[tokio::test]
async fn the_document_is_the_bundle_through_a_whole_rotation() {
    let rig = Rig::new().await;
    let mut client = rig.web.connect(rig.addresses.web[0]).await;
    let authorities = &rig.core.core.authorities;
    let mut before = read(&client.get("/").await);
    assert_eq!(before, said(&rig.bundle()));
    assert_eq!(before.refresh_hint(), Some(HINT));
    for kind in [Kind::X509, Kind::Jwt] {
        let active = authorities.standing(kind).await.unwrap().active.unwrap().id;
        let now = rig.core.now();
        let next = authorities.order(&Order::Prepare(kind), now).await.unwrap().id;
        let keys = |bundle: &Bundle| bundle.x509_authorities().len() + bundle.jwt_authorities().len();
        let count = keys(&before);
        let prepared = read(&client.get("/").await);
        assert_eq!((&prepared, keys(&prepared)), (&said(&rig.bundle()), count + 1));
        assert!(prepared.sequence() > before.sequence());
        authorities
            .order(&Order::Activate(kind, next), now)
            .await
            .unwrap();
        authorities
            .order(&Order::Taint(kind, active.clone()), now)
            .await
            .unwrap();
        let tainted = read(&client.get("/").await);
        assert!(tainted.sequence() > prepared.sequence());
        assert!(
            tainted.content_eq(&prepared),
            "a tainted key stays until it is revoked"
        );
        authorities
            .order(&Order::Revoke(kind, active), now)
            .await
            .unwrap();
        before = read(&client.get("/").await);
        assert_eq!((&before, keys(&before)), (&said(&rig.bundle()), count));
        assert!(before.sequence() > tainted.sequence());
    }
    rig.tear_down().await;
}

/// Peers would take a bundle that went back for a newer one, when its sequence is greater.
#[tokio::test]
async fn in_quarantine_nothing_is_published_and_followers_are_to_come_again() {
    let rig = Rig::new().await;
    let mut client = rig.web.connect(rig.addresses.web[0]).await;
    assert_eq!(client.get("/").await.status, 200);
    rig.core.core.quarantine.set(true);
    for path in ["/", "/oidc/.well-known/openid-configuration", "/nothing"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (503, ""), "{path}");
        assert_eq!(answer.headers["retry-after"], "60");
    }
    rig.core.core.quarantine.set(false);
    assert_eq!(client.get("/").await.status, 200);
    rig.tear_down().await;
}

/// Trust Domain and Bundle §4.1, §4.2; X509-SVID §6.1; JWT-SVID §6.1.
#[tokio::test]
async fn a_bundle_document_has_the_members_of_the_standard_and_no_others() {
    let rig = Rig::new().await;
    let mut client = rig.web.connect(rig.addresses.web[0]).await;
    let document = client.get("/").await.json();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&document),
        ["keys", "spiffe_refresh_hint", "spiffe_sequence"]
    );
    assert_eq!(document["spiffe_refresh_hint"], 120);
    assert!(document["spiffe_sequence"].is_u64());
    let keys = document["keys"].as_array().unwrap();
    let of = |purpose: &str| {
        keys.iter()
            .filter(|key| key["use"] == purpose)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("x509-svid").len() + of("jwt-svid").len(), keys.len());
    for key in of("x509-svid") {
        assert_eq!(names(key), ["crv", "kty", "use", "x", "x5c", "y"]);
        assert_eq!(key["x5c"].as_array().unwrap().len(), 1);
    }
    for key in of("jwt-svid") {
        assert_eq!(names(key), ["crv", "kid", "kty", "use", "x", "y"]);
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn a_restart_changes_neither_document_nor_tag() {
    let disk = DiskRig::new();
    let plan = Plan {
        path: "/".to_owned(),
        issuer: Issuer::parse(ISSUER),
        margo: None,
        refresh_hint: HINT,
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let core = disk.open().await;
        let documents = Site::new(plan.clone(), core.authorities.bundle_updates()).documents();
        assert_eq!(documents.len(), 3);
        let shown = |(path, document): (&String, &documents::Document)| {
            (path.clone(), document.tag.clone(), document.body.clone())
        };
        seen.push(documents.iter().map(shown).collect::<Vec<_>>());
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn who_has_a_document_already_is_told_so() {
    let rig = Rig::new().await;
    let mut client = rig.web.connect(rig.addresses.web[0]).await;
    let first = client.get("/").await;
    let tag = first.headers["etag"].clone();
    assert!(
        tag.starts_with('"') && tag.len() > 30,
        "strong, and of the content: {tag}"
    );
    assert_eq!(first.headers["cache-control"], "public, max-age=60");
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"other\", {tag}"),
        "*".to_owned(),
    ] {
        let header = format!("if-none-match: {known}\r\n");
        let answer = client.ask("GET", "/", &header).await;
        assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{known}");
        assert_eq!(answer.headers["etag"], tag);
        assert_eq!(answer.headers["cache-control"], first.headers["cache-control"]);
    }
    let other = client.ask("GET", "/", "if-none-match: \"other\"\r\n").await;
    assert_eq!(other, first);
    let (now, order) = (rig.core.now(), Order::Prepare(Kind::X509));
    rig.core.core.authorities.order(&order, now).await.unwrap();
    let changed = client.ask("GET", "/", &format!("if-none-match: {tag}\r\n")).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.headers["etag"], tag);
    rig.tear_down().await;
}

#[tokio::test]
async fn only_get_and_head_of_what_is_published() {
    let rig = Rig::new().await;
    let mut client = rig.web.connect(rig.addresses.web[0]).await;
    let got = client.get("/?any=query").await;
    let head = client.ask("HEAD", "/", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.headers, got.headers);
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let refused = client.ask(method, "/", "content-length: 0\r\n").await;
        assert_eq!(
            (refused.status, refused.headers["allow"].as_str()),
            (405, "GET, HEAD")
        );
    }
    for path in [
        "/bundle",
        "//",
        "/./",
        "/%2f",
        "/oidc",
        "/keys",
        "/oidc/keys/",
        "*",
    ] {
        let missing = client.get(path).await;
        assert_eq!((missing.status, missing.body.as_str()), (404, ""), "{path}");
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn the_servers_own_svid_vouches_for_the_bundle() {
    let rig = Rig::new().await;
    let address = rig.addresses.spiffe[0];
    let bundles = BundleStore::new([(*rig.bundle()).clone()].into_iter().collect());
    let tls = |expect: SpiffeId, bundles: &BundleStore| {
        let clock = Arc::new(rig.core.clock.clone());
        let tls = client_config(Expect::Exactly(expect), bundles.clone(), None, clock).unwrap();
        let mut tls = (*tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(tls)
    };
    let server = SpiffeId::server(&td());
    let mut client = Client::connect(address, tls(server.clone(), &bundles))
        .await
        .unwrap();
    assert_eq!(read(&client.get("/").await), said(&rig.bundle()));
    assert_eq!(client.get("/oidc/keys").await.status, 404, "OIDC is for the web");
    assert_eq!(
        client.certificate().as_ref(),
        rig.own.current().unwrap().leaf().as_der()
    );
    let other = SpiffeId::from_parts(&td(), "/spire/other").unwrap();
    assert!(Client::connect(address, tls(other, &bundles)).await.is_err());
    let nobody = BundleStore::default();
    assert!(Client::connect(address, tls(server, &nobody)).await.is_err());
    rig.tear_down().await;
}

/// A whole server: a token that it minted, checked as any program would that knows OIDC and nothing of SPIFFE.
#[tokio::test]
async fn a_token_verifies_with_what_discovery_leads_to() {
    let web = Web::new();
    web.renew(&KeyPair::generate().unwrap());
    let publish = web.config();
    let rig = ServerRig::with(|config| {
        config.jwt_issuer = Some(ISSUER.to_owned());
        config.publish = Some(publish);
    })
    .await;
    let published = rig.handle.published().clone();
    let mut client = web.connect(published.web[0]).await;
    let discovery = client.get("/oidc/.well-known/openid-configuration").await;
    assert_eq!(discovery.headers["access-control-allow-origin"], "*");
    let discovery = discovery.json();
    assert_eq!(
        discovery,
        serde_json::json!({
            "issuer": ISSUER,
            "jwks_uri": "https://bundle.plant.test/oidc/keys",
            "authorization_endpoint": "",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    );
    let keys = client.get("/oidc/keys").await.json();
    for key in keys["keys"].as_array().unwrap() {
        assert_eq!(
            (&key["use"], &key["alg"]),
            (&Value::from("sig"), &Value::from("ES256"))
        );
    }
    let request = MintJwtsvidRequest {
        id: Some(types::Spiffeid {
            trust_domain: "plant.test".to_owned(),
            path: "/historian".to_owned(),
        }),
        audience: vec!["cloud".to_owned()],
        ttl: 60,
    };
    let minted = SvidClient::new(rig.admin().await)
        .mint_jwtsvid(request)
        .await
        .unwrap();
    let token = minted.into_inner().svid.unwrap().token;
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys).unwrap();
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let mut wanted = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    wanted.set_issuer(&[discovery["issuer"].as_str().unwrap()]);
    wanted.set_audience(&["cloud"]);
    let seen = jsonwebtoken::decode::<Value>(&token, &key, &wanted).unwrap();
    assert_eq!(seen.claims["sub"], "spiffe://plant.test/historian");
    let document = client.get("/").await;
    let bundle = Bundle::from_jwks(crate::server::rig::td(), document.body.as_bytes()).unwrap();
    assert_eq!(bundle.sequence(), rig.handle.bundle().sequence());
    assert_eq!(published.spiffe.len(), 1);
    rig.tear_down().await;
}
