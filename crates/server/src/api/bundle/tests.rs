//! Our own bundle and those of others, over the wire.

mod federated;
mod recorded;

use landfast_identity::issue::{AuthorityParams, LeafParams, leaf, random_serial, self_signed_authority};
use landfast_identity::{
    BundleSet, Certificate, PrivateKey, SpiffeId, TrustDomain, UnixTime, build_csr, verify_x509_svid,
};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::spire::api::server::bundle::v1::{self as pb, bundle_client::BundleClient};
use landfast_proto::spire::api::server::svid::v1::{NewDownstreamX509caRequest, svid_client::SvidClient};
use landfast_proto::spire::api::types;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::server::rig::{Rig, td};

const DAY: u64 = 86_400;

fn now() -> UnixTime {
    SystemClock.now().unwrap()
}

fn in_a_day() -> i64 {
    now()
        .saturating_add(std::time::Duration::from_secs(DAY))
        .as_secs()
}

fn jwt(key_id: &str) -> types::JwtKey {
    types::JwtKey {
        public_key: PrivateKey::generate()
            .unwrap()
            .public_key()
            .spki_der()
            .to_vec()
            .into(),
        key_id: key_id.to_owned(),
        expires_at: in_a_day(),
        tainted: false,
    }
}

fn root(trust_domain: &str) -> Certificate {
    let params = AuthorityParams {
        trust_domain: &TrustDomain::parse(trust_domain).unwrap(),
        authority_id: "a1",
        not_before: now(),
        not_after: UnixTime::from_secs(in_a_day()),
    };
    self_signed_authority(&params, &PrivateKey::generate().unwrap()).unwrap()
}

fn x509(certificate: &Certificate) -> types::X509Certificate {
    types::X509Certificate {
        asn1: certificate.as_der().to_vec().into(),
        tainted: false,
    }
}

async fn append(
    channel: &Channel,
    x509: Vec<types::X509Certificate>,
    jwt: Vec<types::JwtKey>,
) -> Result<types::Bundle, Status> {
    let request = pb::AppendBundleRequest {
        x509_authorities: x509,
        jwt_authorities: jwt,
        ..Default::default()
    };
    let answer = BundleClient::new(channel.clone()).append_bundle(request).await?;
    Ok(answer.into_inner())
}

async fn publish(channel: &Channel, key: Option<types::JwtKey>) -> Result<Vec<types::JwtKey>, Status> {
    let request = pb::PublishJwtAuthorityRequest { jwt_authority: key };
    let answer = BundleClient::new(channel.clone())
        .publish_jwt_authority(request)
        .await?;
    Ok(answer.into_inner().jwt_authorities)
}

async fn get(channel: &Channel) -> types::Bundle {
    let request = pb::GetBundleRequest { output_mask: None };
    let answer = BundleClient::new(channel.clone()).get_bundle(request).await;
    answer.unwrap().into_inner()
}

async fn sign_below(
    channel: &Channel,
    csr: Vec<u8>,
    preferred_ttl: i32,
) -> Result<(Vec<Certificate>, Vec<Certificate>), Status> {
    let request = NewDownstreamX509caRequest {
        csr: csr.into(),
        preferred_ttl,
    };
    let answer = SvidClient::new(channel.clone())
        .new_downstream_x509ca(request)
        .await?
        .into_inner();
    let read = |ders: Vec<bytes::Bytes>| {
        ders.iter()
            .map(|der| Certificate::from_der(der).unwrap())
            .collect()
    };
    Ok((read(answer.ca_cert_chain), read(answer.x509_authorities)))
}

/// A server below this one: whoever holds the SVID of an entry with `downstream`.
async fn downstream(rig: &Rig, path: &str) -> Channel {
    let node = rig.node().await;
    rig.entry(&node.id, path, |entry| entry.downstream = true).await;
    rig.tls(Some(rig.mint(path).await)).await.unwrap()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, text: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(
        status.message().starts_with(text),
        "{:?} does not begin with {text:?}",
        status.message()
    );
}

#[tokio::test]
async fn an_agent_is_told_at_which_revision_the_bundle_is_and_nobody_else_and_everybody_what_time_it_is() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    rig.entry(&node.id, "/w", |_| ()).await;
    let told = async |channel: Channel| {
        let request = pb::GetBundleRequest { output_mask: None };
        let answer = BundleClient::new(channel).get_bundle(request).await.unwrap();
        assert!(answer.metadata().contains_key(landfast_proto::TIME));
        let revision = answer.metadata().get(landfast_proto::REVISION);
        revision.map(|revision| revision.to_str().unwrap().to_owned())
    };
    let revision = told(node.channel.clone()).await.unwrap();
    let (_, number) = revision.split_once(['.', ':', '-', '/']).unwrap();
    assert!(number.parse::<u64>().unwrap() > 1, "{revision}");
    assert_eq!(told(rig.tls(None).await.unwrap()).await, None);
    let workload = rig.tls(Some(rig.mint("/w").await)).await.unwrap();
    assert_eq!(told(workload).await, None);
    rig.tear_down().await;
}

#[tokio::test]
async fn an_operator_appends_authorities_and_everybody_sees_them() {
    let rig = Rig::new().await;
    let admin = rig.admin().await;
    let before = get(&admin).await;
    let (certificate, key) = (root("plant.test"), jwt("theirs"));
    let made = append(&admin, vec![x509(&certificate)], vec![key.clone()])
        .await
        .unwrap();
    assert_eq!(made.sequence_number, before.sequence_number + 1);
    assert_eq!(made.x509_authorities[1..], [x509(&certificate)]);
    assert_eq!(made.jwt_authorities[1..], [key]);
    let stranger = rig.tls(None).await.unwrap();
    assert_eq!(get(&stranger).await, made);
    let again = append(&admin, vec![x509(&certificate)], vec![]).await.unwrap();
    assert_eq!(again, made, "nothing was new");

    let mask = types::BundleMask {
        sequence_number: true,
        ..Default::default()
    };
    let request = pb::AppendBundleRequest {
        jwt_authorities: vec![jwt("other")],
        output_mask: Some(mask),
        ..Default::default()
    };
    let masked = BundleClient::new(admin)
        .append_bundle(request)
        .await
        .unwrap()
        .into_inner();
    let expected = types::Bundle {
        trust_domain: "plant.test".to_owned(),
        sequence_number: made.sequence_number + 1,
        ..Default::default()
    };
    assert_eq!(masked, expected);
    rig.tear_down().await;
}

#[tokio::test]
async fn what_is_no_authority_is_not_appended() {
    let rig = Rig::new().await;
    let admin = rig.admin().await;
    let before = get(&admin).await;
    refused(
        append(&admin, vec![], vec![]).await,
        Code::InvalidArgument,
        "no authorities to append",
    );
    let leaf = rig.mint("/w").await.leaf().clone();
    let bytes = |asn1: Vec<u8>| types::X509Certificate {
        asn1: asn1.into(),
        tainted: false,
    };
    let good = root("plant.test");
    let two = [good.as_der(), good.as_der()].concat();
    for bad in [
        x509(&leaf),
        bytes(vec![]),
        bytes(b"no certificate".to_vec()),
        bytes(two),
        bytes(vec![0x30; 5000]),
    ] {
        // The good one beside it is not taken either.
        let answer = append(&admin, vec![x509(&good), bad], vec![jwt("a")]).await;
        refused(
            answer,
            Code::InvalidArgument,
            "failed to convert X.509 authority: ",
        );
    }
    let no_id = append(&admin, vec![], vec![jwt("")]).await;
    refused(
        no_id,
        Code::InvalidArgument,
        "failed to convert JWT authority: missing key ID",
    );
    let no_key = types::JwtKey {
        public_key: b"no key".to_vec().into(),
        ..jwt("a")
    };
    for bad in [no_key, jwt(&"k".repeat(257))] {
        let answer = append(&admin, vec![], vec![jwt("b"), bad]).await;
        refused(answer, Code::InvalidArgument, "failed to convert JWT authority: ");
    }
    let own = types::JwtKey {
        key_id: before.jwt_authorities[0].key_id.clone(),
        ..jwt("a")
    };
    refused(
        append(&admin, vec![], vec![own]).await,
        Code::AlreadyExists,
        "failed to append bundle: key ID ",
    );
    let many: Vec<_> = (0..129).map(|n| jwt(&format!("k{n}"))).collect();
    refused(
        append(&admin, vec![], many.clone()).await,
        Code::InvalidArgument,
        "too many authorities",
    );
    assert_eq!(get(&admin).await, before);
    append(&admin, vec![], many[..128].to_vec()).await.unwrap();
    let full = append(&admin, vec![], many[128..].to_vec()).await;
    refused(
        full,
        Code::ResourceExhausted,
        "failed to append bundle: the bundle has 128 authorities",
    );
    rig.tear_down().await;
}

/// A taint is an order of ours: what comes in with one has none, as with SPIRE.
#[tokio::test]
async fn nobody_appends_a_taint() {
    let rig = Rig::new().await;
    let admin = rig.admin().await;
    let tainted = types::JwtKey {
        tainted: true,
        ..jwt("a")
    };
    let own = types::X509Certificate {
        tainted: true,
        ..get(&admin).await.x509_authorities[0].clone()
    };
    let made = append(&admin, vec![own], vec![tainted]).await.unwrap();
    assert!(made.jwt_authorities.iter().all(|key| !key.tainted));
    assert!(made.x509_authorities.iter().all(|x509| !x509.tainted));
    rig.tear_down().await;
}

#[tokio::test]
async fn a_server_below_publishes_its_jwt_key() {
    let rig = Rig::new().await;
    let below = downstream(&rig, "/nested").await;
    let admin = rig.admin().await;
    let key = jwt("below");
    let all = publish(&below, Some(key.clone())).await.unwrap();
    assert_eq!(all, get(&admin).await.jwt_authorities);
    assert_eq!(all[1..], *std::slice::from_ref(&key));
    assert_eq!(
        publish(&below, Some(key)).await.unwrap(),
        all,
        "as often as it likes"
    );

    refused(
        publish(&below, None).await,
        Code::InvalidArgument,
        "missing JWT authority",
    );
    let no_id = publish(&below, Some(jwt(""))).await;
    refused(
        no_id,
        Code::InvalidArgument,
        "invalid JWT authority: missing key ID",
    );
    let no_key = types::JwtKey {
        public_key: bytes::Bytes::new(),
        ..jwt("x")
    };
    refused(
        publish(&below, Some(no_key)).await,
        Code::InvalidArgument,
        "invalid JWT authority: ",
    );
    for key_id in ["below", all[0].key_id.as_str()] {
        let answer = publish(&below, Some(jwt(key_id))).await;
        refused(answer, Code::AlreadyExists, "failed to publish JWT key: key ID ");
    }
    assert_eq!(get(&admin).await.jwt_authorities, all);
    rig.tear_down().await;
}

#[tokio::test]
async fn a_server_below_does_not_fill_the_bundle_and_waits_when_it_asks_too_often() {
    let rig = Rig::new().await;
    let below = downstream(&rig, "/nested").await;
    for n in 0..64 {
        publish(&below, Some(jwt(&format!("k{n}")))).await.unwrap();
    }
    let full = publish(&below, Some(jwt("more"))).await;
    refused(
        full,
        Code::ResourceExhausted,
        "failed to publish JWT key: 64 authorities of this server",
    );
    let other = downstream(&rig, "/nested/other").await;
    publish(&other, Some(jwt("others"))).await.unwrap();
    // Many at once: what is given back meanwhile is little beside it.
    let answers = (0..1500).map(|_| publish(&below, None));
    let answers = futures_util::future::join_all(answers).await;
    let limited = answers
        .into_iter()
        .find(|answer| answer.as_ref().unwrap_err().code() != Code::InvalidArgument);
    refused(
        limited.unwrap(),
        Code::ResourceExhausted,
        "rate limit exceeded: 10 published keys",
    );
    publish(&other, Some(jwt("others2"))).await.unwrap();
    rig.tear_down().await;
}

#[tokio::test]
async fn a_server_below_gets_an_authority_whose_svids_verify() {
    let rig = Rig::new().await;
    let below = downstream(&rig, "/nested").await;
    let signer = PrivateKey::generate().unwrap();
    for asks in [None, Some(td().id())] {
        let csr = build_csr(&signer, asks.as_ref(), &[]).unwrap();
        let (chain, roots) = sign_below(&below, csr, 3600).await.unwrap();
        let ours = rig.handle.bundle();
        assert_eq!(chain.len(), 1, "the self-signed authority is left out");
        let published: Vec<_> = ours
            .x509_authorities()
            .iter()
            .map(|a| a.certificate.clone())
            .collect();
        assert_eq!(roots, published);
        let left = chain[0].not_after().since(now()).as_secs();
        assert!((3500..=3600).contains(&left), "{left}");
        let workload = SpiffeId::from_parts(&td(), "/line4/press").unwrap();
        let params = LeafParams {
            id: &workload,
            public_key: &PrivateKey::generate().unwrap().public_key(),
            dns_names: &[],
            serial: random_serial().unwrap(),
            not_before: now(),
            not_after: chain[0].not_after(),
        };
        let svid = leaf(&params, &chain[0], &signer).unwrap();
        let bundles = BundleSet::from_iter([(*ours).clone()]);
        let verified = verify_x509_svid(&[svid.as_der(), chain[0].as_der()], &bundles, now()).unwrap();
        assert_eq!(verified.id, workload);
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn what_a_server_below_may_not_have_is_refused() {
    let rig = Rig::new().await;
    let below = downstream(&rig, "/nested").await;
    let csr = |id: &str| {
        let id = SpiffeId::parse(id).unwrap();
        build_csr(&PrivateKey::generate().unwrap(), Some(&id), &[]).unwrap()
    };
    for id in [
        "spiffe://other.test",
        "spiffe://plant.test/nested",
        "spiffe://plant.test/spire/server",
    ] {
        let answer = sign_below(&below, csr(id), 60).await;
        refused(
            answer,
            Code::InvalidArgument,
            "invalid CSR: a server below this one signs for spiffe://plant.test",
        );
    }
    refused(
        sign_below(&below, vec![], 60).await,
        Code::InvalidArgument,
        "missing CSR",
    );
    let mut broken = csr("spiffe://plant.test");
    *broken.last_mut().unwrap() ^= 1;
    refused(
        sign_below(&below, broken, 60).await,
        Code::InvalidArgument,
        "invalid CSR: ",
    );
    let negative = sign_below(&below, csr("spiffe://plant.test"), -1).await;
    refused(negative, Code::InvalidArgument, "invalid preferred TTL");
    // A life longer than ours is cut, not refused: SPIRE's servers ask for what they are configured with.
    let (chain, roots) = sign_below(&below, csr("spiffe://plant.test"), i32::MAX)
        .await
        .unwrap();
    assert_eq!(chain[0].not_after(), roots[0].not_after());
    rig.tear_down().await;
}

/// The right is the entry's: with it goes the right, on the connection that is open.
#[tokio::test]
async fn only_a_live_downstream_entry_signs_and_publishes() {
    use landfast_proto::spire::api::server::entry::v1::{BatchDeleteEntryRequest, entry_client::EntryClient};
    let rig = Rig::new().await;
    let node = rig.node().await;
    let entry = rig
        .entry(&node.id, "/nested", |entry| entry.downstream = true)
        .await;
    let nested = rig.tls(Some(rig.mint("/nested").await)).await.unwrap();
    rig.entry(&node.id, "/plain", |_| {}).await;
    rig.entry(&node.id, "/boss", |entry| entry.admin = true).await;
    let plain = rig.tls(Some(rig.mint("/plain").await)).await.unwrap();
    let boss = rig.tls(Some(rig.mint("/boss").await)).await.unwrap();
    let nobody = rig.tls(None).await.unwrap();
    let csr = || build_csr(&PrivateKey::generate().unwrap(), None, &[]).unwrap();
    let before = get(&nobody).await;
    for other in [&plain, &boss, &nobody, &node.channel, &rig.admin().await] {
        refused(
            sign_below(other, csr(), 60).await,
            Code::PermissionDenied,
            "authorization denied",
        );
        refused(
            publish(other, Some(jwt("x"))).await,
            Code::PermissionDenied,
            "authorization denied",
        );
    }
    for other in [&plain, &nested, &nobody, &node.channel] {
        let answer = append(other, vec![], vec![jwt("x")]).await;
        refused(answer, Code::PermissionDenied, "authorization denied");
    }
    assert_eq!(get(&nobody).await, before);
    append(&boss, vec![], vec![jwt("admins")]).await.unwrap();
    sign_below(&nested, csr(), 60).await.unwrap();
    publish(&nested, Some(jwt("below"))).await.unwrap();
    let request = BatchDeleteEntryRequest { ids: vec![entry.id] };
    EntryClient::new(rig.admin().await)
        .batch_delete_entry(request)
        .await
        .unwrap();
    refused(
        sign_below(&nested, csr(), 60).await,
        Code::PermissionDenied,
        "authorization denied",
    );
    refused(
        publish(&nested, Some(jwt("late"))).await,
        Code::PermissionDenied,
        "authorization denied",
    );
    rig.tear_down().await;
}

/// Whoever has its SVID for a minute may claim to sign for ever.
#[tokio::test]
async fn a_published_key_ends_with_the_entry_or_the_life_of_an_authority() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let in_an_hour = now().as_secs() + 3600;
    let below = async |path: &str, end: i64| {
        rig.entry(&node.id, path, |entry| {
            entry.downstream = true;
            entry.expires_at = end;
        })
        .await;
        rig.tls(Some(rig.mint(path).await)).await.unwrap()
    };
    let until = |key_id: &str, end| types::JwtKey {
        expires_at: end,
        ..jwt(key_id)
    };
    let end_of = |keys: Vec<types::JwtKey>, key_id: &str| {
        let key = keys.into_iter().find(|key| key.key_id == key_id);
        key.unwrap().expires_at
    };
    let (long, short) = (below("/long", 0).await, below("/short", in_an_hour).await);
    for (n, said) in [253_402_300_799, 0].into_iter().enumerate() {
        let key_id = format!("long{n}");
        let end = end_of(publish(&long, Some(until(&key_id, said))).await.unwrap(), &key_id);
        assert!(now().as_secs() < end && end <= in_a_day(), "{said}: {end}");
        let key_id = format!("short{n}");
        let keys = publish(&short, Some(until(&key_id, said))).await.unwrap();
        assert_eq!(end_of(keys, &key_id), in_an_hour, "{said}");
    }
    let sooner = in_an_hour - 60;
    let keys = publish(&short, Some(until("sooner", sooner))).await.unwrap();
    assert_eq!(end_of(keys, "sooner"), sooner);
    // An operator may say what he likes.
    let admin = rig.admin().await;
    let made = append(&admin, vec![], vec![until("appended", 253_402_300_799)]).await;
    assert_eq!(end_of(made.unwrap().jwt_authorities, "appended"), 253_402_300_799);
    rig.tear_down().await;
}

#[tokio::test]
async fn an_operator_revokes_what_a_server_below_has_published() {
    use landfast_proto::spire::api::server::localauthority::v1 as la;
    let rig = Rig::new().await;
    let below = downstream(&rig, "/nested").await;
    let admin = rig.admin().await;
    publish(&below, Some(jwt("stolen"))).await.unwrap();
    let mut orders = la::local_authority_client::LocalAuthorityClient::new(admin.clone());
    let authority_id = "stolen".to_owned();
    let tainted = orders
        .taint_jwt_authority(la::TaintJwtAuthorityRequest {
            authority_id: authority_id.clone(),
        })
        .await;
    let tainted = tainted.unwrap().into_inner().tainted_authority.unwrap();
    let stored = get(&admin).await.jwt_authorities[1].clone();
    assert!(stored.tainted);
    assert_eq!(
        (tainted.authority_id.as_str(), tainted.expires_at),
        ("stolen", stored.expires_at)
    );
    let revoke = la::RevokeJwtAuthorityRequest { authority_id };
    orders.revoke_jwt_authority(revoke.clone()).await.unwrap();
    assert_eq!(get(&admin).await.jwt_authorities.len(), 1);
    let key = types::JwtKey {
        tainted: false,
        ..stored
    };
    refused(
        publish(&below, Some(key)).await,
        Code::FailedPrecondition,
        "failed to publish JWT key: authority \"stolen\" was revoked",
    );
    let unknown = orders.revoke_jwt_authority(revoke).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument, "{unknown:?}");
    rig.tear_down().await;
}
