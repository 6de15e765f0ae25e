//! WIT-SVIDs over the wire, with the switch and without.

use landfast_identity::{BundleSet, KeyType, UnixTime, wit};
use landfast_proto::spire::api::server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient};
use landfast_proto::spire::api::server::localauthority::v1 as authority;
use landfast_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;

use super::*;

async fn rig() -> Rig {
    Rig::with(|config| config.wit_svid = true).await
}

fn params(entry_id: &str, key: &PrivateKey, algorithm: &str) -> svid::NewWitsvidParams {
    svid::NewWitsvidParams {
        entry_id: entry_id.to_owned(),
        public_key: key.public_key().spki_der().to_vec().into(),
        signing_algorithm: algorithm.to_owned(),
    }
}

async fn wits(
    channel: &Channel,
    params: Vec<svid::NewWitsvidParams>,
) -> Result<Vec<svid::batch_new_witsvid_response::Result>, Status> {
    let request = svid::BatchNewWitsvidRequest { params };
    let answer = SvidClient::new(channel.clone())
        .batch_new_witsvid(request)
        .await?;
    Ok(answer.into_inner().results)
}

fn mint(path: &str, key: &PrivateKey) -> svid::MintWitsvidRequest {
    svid::MintWitsvidRequest {
        id: Some(wire(&SpiffeId::from_parts(&td(), path).unwrap())),
        public_key: key.public_key().spki_der().to_vec().into(),
        ttl: 0,
        signing_algorithm: wit::algorithms(&key.public_key())[0].to_owned(),
    }
}

#[tokio::test]
async fn an_agent_gets_them_for_its_entries_and_each_refusal_is_its_own() {
    let rig = rig().await;
    let (node, other) = (rig.node().await, rig.node().await);
    let hinted = |entry: &mut types::Entry| entry.hint = "main".to_owned();
    let own = rig.entry(&node.id, "/line4/collector", hinted).await;
    let foreign = rig.entry(&other.id, "/line5/collector", |_| ()).await;
    let keys = [
        PrivateKey::generate().unwrap(),
        PrivateKey::generate_as(KeyType::EcP384).unwrap(),
    ];
    let with = |change: fn(&mut svid::NewWitsvidParams)| {
        let mut one = params(&own.id, &keys[0], "ES256");
        change(&mut one);
        one
    };
    let asked = vec![
        params(&own.id, &keys[0], "ES256"),
        params(&foreign.id, &keys[0], "ES256"),
        params("unknown", &keys[0], "ES256"),
        with(|one| one.entry_id.clear()),
        with(|one| one.public_key.clear()),
        with(|one| one.public_key = b"no key".as_slice().into()),
        with(|one| one.signing_algorithm.clear()),
        with(|one| one.signing_algorithm = "ES384".to_owned()),
        params(&own.id, &keys[1], "ES384"),
    ];
    let results = wits(&node.channel, asked).await.unwrap();
    let told: Vec<_> = results
        .iter()
        .map(|result| {
            result
                .status
                .clone()
                .map(|status| (status.code, status.message))
                .unwrap()
        })
        .collect();
    let (invalid, missing) = (Code::InvalidArgument as i32, Code::NotFound as i32);
    let not_found = "entry not found or not authorized";
    for (nth, code, text) in [
        (0, 0, "OK"),
        (1, missing, not_found),
        (2, missing, not_found),
        (3, invalid, "missing entry ID"),
        (4, invalid, "missing public key"),
        (5, invalid, "malformed public key"),
        (6, invalid, "invalid signing algorithm or key type"),
        (7, invalid, "invalid signing algorithm or key type"),
        (8, 0, "OK"),
    ] {
        assert!(
            told[nth].0 == code && told[nth].1.starts_with(text),
            "{nth}: {:?}",
            told[nth]
        );
        assert_eq!(results[nth].svid.is_some(), code == 0, "{nth}");
    }
    let bundles = BundleSet::from_iter([(*rig.handle.bundle()).clone()]);
    for (nth, key) in [(0, &keys[0]), (8, &keys[1])] {
        let made = results[nth].svid.as_ref().unwrap();
        let now = UnixTime::from_secs(made.issued_at + 301);
        let verified = wit::verify(&made.token, &bundles, now).unwrap();
        assert_eq!(verified.id().as_str(), "spiffe://plant.test/line4/collector");
        assert_eq!(*verified.confirmation_key(), key.public_key());
        assert_eq!(
            (made.hint.as_str(), made.expires_at),
            ("main", verified.expires_at().as_secs())
        );
    }
    for (count, code) in [(0, Code::InvalidArgument), (501, Code::InvalidArgument)] {
        let refused = wits(&node.channel, vec![params(&own.id, &keys[0], "ES256"); count]).await;
        assert_eq!(refused.unwrap_err().code(), code, "{count}");
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn one_agent_cannot_have_them_without_end() {
    let rig = Rig::with(|config| {
        config.wit_svid = true;
        (config.limits.signatures, config.limits.signatures_burst) = (1, 3);
    })
    .await;
    let (node, other) = (rig.node().await, rig.node().await);
    let key = PrivateKey::generate().unwrap();
    let ask = async |node: &Node, count| wits(&node.channel, vec![params("x", &key, "ES256"); count]).await;
    ask(&node, 3).await.unwrap();
    assert_eq!(ask(&node, 2).await.unwrap_err().code(), Code::ResourceExhausted);
    ask(&other, 3).await.unwrap();
    // Its X.509-SVIDs have a limit of their own.
    let csr: bytes::Bytes = build_csr(&key, None, &[]).unwrap().into();
    let entry_id = "x".to_owned();
    batch(&node.channel, vec![svid::NewX509svidParams { entry_id, csr }])
        .await
        .unwrap();
    rig.tear_down().await;
}

#[tokio::test]
async fn an_operator_mints_them_and_nobody_else() {
    let rig = rig().await;
    let key = PrivateKey::generate().unwrap();
    let mut operator = SvidClient::new(rig.admin().await);
    let made = operator
        .mint_witsvid(mint("/guest", &key))
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap();
    let svid = wit::parse_unverified(&made.token).unwrap();
    assert_eq!(
        (svid.id().path(), made.expires_at),
        ("/guest", svid.expires_at().as_secs())
    );
    let with = |change: fn(&mut svid::MintWitsvidRequest)| {
        let mut one = mint("/guest", &key);
        change(&mut one);
        one
    };
    for (bad, text) in [
        (with(|one| one.id = None), "request must specify SPIFFE ID"),
        (mint("/spire/agent/x", &key), "reserved"),
        (
            with(|one| one.public_key = b"x".as_slice().into()),
            "invalid public key",
        ),
        (
            with(|one| one.signing_algorithm = "HS256".to_owned()),
            "invalid signing algorithm",
        ),
        (with(|one| one.ttl = -1), "TTL"),
    ] {
        let refused = operator.mint_witsvid(bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(text), "{refused}");
    }
    let node = rig.node().await;
    let refused = SvidClient::new(node.channel.clone())
        .mint_witsvid(mint("/guest", &key))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    rig.tear_down().await;
}

async fn bundle_of(rig: &Rig) -> types::Bundle {
    let request = GetBundleRequest { output_mask: None };
    let answer = BundleClient::new(rig.admin().await).get_bundle(request).await;
    answer.unwrap().into_inner()
}

#[tokio::test]
async fn their_keys_are_in_the_bundle_and_not_where_oidc_clients_look() {
    let rig = rig().await;
    let [key] = <[_; 1]>::try_from(bundle_of(&rig).await.wit_authorities).unwrap();
    let bundle = rig.handle.bundle();
    let published = &bundle.wit_authorities()[0];
    assert_eq!((&key.key_id, key.tainted), (&published.key_id, false));
    assert_eq!(key.public_key, published.public_key.spki_der());
    let document = bundle.to_jwks();
    assert!(
        document.contains("wit-svid") && document.contains(&key.key_id),
        "{document}"
    );
    assert!(!bundle.oidc_jwks().contains(&key.key_id));
    assert!(!bundle.jwt_jwks().contains(&key.key_id));
    let none = GetBundleRequest {
        output_mask: Some(types::BundleMask::default()),
    };
    let masked = BundleClient::new(rig.admin().await)
        .get_bundle(none)
        .await
        .unwrap();
    assert!(masked.into_inner().wit_authorities.is_empty());
    rig.tear_down().await;
}

#[tokio::test]
async fn without_the_switch_every_method_names_it() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let key = PrivateKey::generate().unwrap();
    let mut orders = LocalAuthorityClient::new(rig.admin().await);
    let id = String::new;
    let answers = [
        SvidClient::new(rig.admin().await)
            .mint_witsvid(mint("/guest", &key))
            .await
            .map(drop),
        wits(&node.channel, vec![params("x", &key, "ES256")])
            .await
            .map(drop),
        orders
            .get_wit_authority_state(authority::GetWitAuthorityStateRequest {})
            .await
            .map(drop),
        orders
            .prepare_wit_authority(authority::PrepareWitAuthorityRequest {})
            .await
            .map(drop),
        orders
            .activate_wit_authority(authority::ActivateWitAuthorityRequest { authority_id: id() })
            .await
            .map(drop),
        orders
            .taint_wit_authority(authority::TaintWitAuthorityRequest { authority_id: id() })
            .await
            .map(drop),
        orders
            .revoke_wit_authority(authority::RevokeWitAuthorityRequest { authority_id: id() })
            .await
            .map(drop),
    ];
    for (nth, answer) in answers.into_iter().enumerate() {
        let refused = answer.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{nth}");
        assert!(refused.message().contains("wit_svid = true"), "{nth}: {refused}");
    }
    assert!(bundle_of(&rig).await.wit_authorities.is_empty());
    rig.tear_down().await;
}
