//! Against a provider on the loopback that says what it is told to.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use landfast_identity::PrivateKey;
use landfast_lifecycle::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::*;
use crate::federation::tests::endpoint::{Endpoint, Reply, web};

const DISCOVERY: &str = "/.well-known/openid-configuration";

struct Place {
    endpoint: Endpoint,
    provider: Provider,
    key: PrivateKey,
}

impl Place {
    async fn new() -> Self {
        let (tls, roots) = web("localhost", 2099);
        let endpoint = Endpoint::start(tls).await;
        let config = ProviderConfig {
            issuer: format!("https://localhost:{}", endpoint.port),
            client_id: "landfast".to_owned(),
            web_roots: Some(roots),
        };
        let danger = DangerNetworks::parse(["127.0.0.0/8", "::1/128"]).unwrap();
        let place = Self {
            provider: Provider::new(config, danger, Arc::new(SystemClock)),
            endpoint,
            key: PrivateKey::generate().unwrap(),
        };
        place.says(&place.endpoint.url(""));
        place.has("one");
        place
    }

    fn says(&self, issuer: &str) {
        let document = json!({"issuer": issuer, "jwks_uri": self.endpoint.url("/keys")});
        self.endpoint
            .say(DISCOVERY, Reply::Document(document.to_string()));
    }

    fn has(&self, name: &str) {
        let mut jwk: Value = serde_json::from_str(&self.key.to_private_jwk().unwrap()).unwrap();
        jwk["kid"] = name.into();
        self.endpoint
            .say("/keys", Reply::Document(json!({"keys": [jwk]}).to_string()));
    }

    async fn verify(&self, key_id: &str) -> Result<OidcSubject, ProviderError> {
        let now = SystemClock.now().unwrap();
        let claims = json!({"iss": self.provider.config.issuer, "sub": "jo", "aud": "landfast", "exp": now.as_secs() + 60, "iat": now.as_secs(),
            "nonce": "asked"});
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(key_id.to_owned());
        let key = EncodingKey::from_ec_der(self.key.as_pkcs8_der());
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        self.provider.verify(&token, "asked", now).await
    }
}

#[tokio::test]
async fn a_providers_keys_are_fetched_once_and_again_for_a_new_one_but_not_at_will() {
    let place = Place::new().await;
    let subject = place.verify("one").await.unwrap();
    assert_eq!(subject.subject(), "jo");
    place.verify("one").await.unwrap();
    assert_eq!(place.endpoint.asked(), 2, "discovery and keys, once");
    // A key that nobody has makes nobody be asked: that was a moment ago.
    for _ in 0..3 {
        let unknown = place.verify("two").await.unwrap_err();
        assert!(unknown.is_refusal(), "{unknown}");
    }
    assert_eq!(place.endpoint.asked(), 2);
    let long_ago = Instant::now().checked_sub(PAUSE).unwrap();
    place.provider.known.lock().unwrap().asked = Some(long_ago);
    place.has("two");
    place.verify("two").await.unwrap();
    assert_eq!(place.endpoint.asked(), 4);
}

/// A provider that hangs takes ten seconds for each of two documents.
#[tokio::test]
async fn whoever_has_a_key_that_is_known_does_not_wait_for_one_who_has_none() {
    let place = Place::new().await;
    place.verify("one").await.unwrap();
    let _asking = place.provider.turn.acquire().await.unwrap();
    let known = tokio::time::timeout(Duration::from_secs(60), place.verify("one")).await;
    known.expect("it waits for nobody").unwrap();
}

#[tokio::test]
async fn what_is_of_another_issuer_or_cannot_be_had_is_no_key() {
    let place = Place::new().await;
    place.says("https://other.test");
    let refused = place.verify("one").await.unwrap_err();
    assert!(matches!(refused, ProviderError::Discovery), "{refused}");
    // Nor is it asked again at once.
    place.says(&place.endpoint.url(""));
    let soon = place.verify("one").await.unwrap_err();
    assert!(matches!(soon, ProviderError::Soon), "{soon}");
    assert!(!soon.is_refusal());

    let place = Place::new().await;
    let (_, foreign) = web("localhost", 2099);
    let config = ProviderConfig {
        web_roots: Some(foreign),
        ..place.provider.config.clone()
    };
    let danger = place.provider.danger.clone();
    let stranger = Provider::new(config.clone(), danger, Arc::new(SystemClock));
    let refused = Place {
        provider: stranger,
        ..place
    }
    .verify("one")
    .await
    .unwrap_err();
    assert!(
        matches!(
            refused,
            ProviderError::Fetch {
                source: FetchError::Tls { .. }
            }
        ),
        "{refused}"
    );

    let place = Place::new().await;
    let nowhere = Provider::new(
        place.provider.config.clone(),
        DangerNetworks::default(),
        Arc::new(SystemClock),
    );
    let refused = Place {
        provider: nowhere,
        ..place
    }
    .verify("one")
    .await
    .unwrap_err();
    assert!(
        matches!(
            refused,
            ProviderError::Fetch {
                source: FetchError::Address
            }
        ),
        "{refused}"
    );
}
