//! A node's life with a real server, as SPIRE's agent lives it, and what must not work.

mod answers;
mod busy;
mod stolen;

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{Certificate, Csr, PrivateKey, SpiffeId, build_csr};
use landfast_proto::spire::api::server::agent::v1 as agent;
use landfast_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use landfast_proto::spire::api::server::entry::v1::{self as entry, entry_client::EntryClient};
use landfast_proto::spire::api::server::svid::v1::{self as svid, svid_client::SvidClient};
use landfast_proto::spire::api::types;
use landfast_proto::spire::api::types::permission_denied_details::Reason;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::rig::{Node, Rig, attest_on, attest_with, reason, svid_of, td, wire};

mod push;
mod wit;

async fn authorised(channel: &Channel) -> Result<Vec<types::Entry>, Status> {
    let request = entry::GetAuthorizedEntriesRequest { output_mask: None };
    Ok(EntryClient::new(channel.clone())
        .get_authorized_entries(request)
        .await?
        .into_inner()
        .entries)
}

async fn batch(
    channel: &Channel,
    params: Vec<svid::NewX509svidParams>,
) -> Result<Vec<svid::batch_new_x509svid_response::Result>, Status> {
    let request = svid::BatchNewX509svidRequest { params };
    Ok(SvidClient::new(channel.clone())
        .batch_new_x509svid(request)
        .await?
        .into_inner()
        .results)
}

async fn renew(channel: &Channel, key: &PrivateKey) -> Result<types::X509svid, Status> {
    let csr = build_csr(key, None, &[]).unwrap().into();
    let request = agent::RenewAgentRequest {
        params: Some(agent::AgentX509svidParams { csr }),
    };
    Ok(AgentClient::new(channel.clone())
        .renew_agent(request)
        .await?
        .into_inner()
        .svid
        .unwrap())
}

#[tokio::test]
async fn a_node_joins_gets_its_svids_and_renews() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    assert!(
        node.id
            .as_str()
            .starts_with("spiffe://plant.test/spire/agent/join_token/")
    );
    let made = rig
        .entry(&node.id, "/line4/collector", |entry| {
            entry.dns_names = vec!["collector.line4".to_owned()];
            entry.hint = "main".to_owned();
        })
        .await;

    let entries = authorised(&node.channel).await.unwrap();
    assert_eq!(entries, std::slice::from_ref(&made));

    let key = PrivateKey::generate().unwrap();
    let csr: bytes::Bytes = build_csr(&key, None, &[]).unwrap().into();
    let params = |id: &str, csr: &bytes::Bytes| svid::NewX509svidParams {
        entry_id: id.to_owned(),
        csr: csr.clone(),
    };
    let results = batch(
        &node.channel,
        vec![
            params("unknown", &csr),
            params(&made.id, &csr),
            params(&made.id, &bytes::Bytes::new()),
        ],
    )
    .await
    .unwrap();
    let codes: Vec<i32> = results.iter().map(|r| r.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [Code::NotFound as i32, 0, Code::InvalidArgument as i32]);
    assert_eq!(
        results[0].status.as_ref().unwrap().message,
        "entry not found or not authorized"
    );
    let issued = results[1].svid.clone().unwrap();
    assert_eq!(issued.hint, "main");
    let issued = svid_of(&issued, key);
    assert_eq!(issued.id().as_str(), "spiffe://plant.test/line4/collector");
    assert_eq!(issued.leaf().dns_sans(), ["collector.line4"]);

    let mut client = SvidClient::new(node.channel.clone());
    let token = |audience: &[&str], entry_id: &str| svid::NewJwtsvidRequest {
        entry_id: entry_id.to_owned(),
        audience: audience.iter().map(|a| (*a).to_owned()).collect(),
    };
    let jwt = client
        .new_jwtsvid(token(&["historian"], &made.id))
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap();
    let bundles = landfast_identity::BundleSet::from_iter([(*rig.handle.bundle()).clone()]);
    let now = landfast_identity::UnixTime::from_secs(jwt.issued_at);
    let verified = landfast_identity::jwt::verify(&jwt.token, &bundles, "historian", now).unwrap();
    assert_eq!(verified.id().path(), "/line4/collector");
    let code = |outcome: Result<_, Status>| {
        outcome
            .map(|_: tonic::Response<svid::NewJwtsvidResponse>| ())
            .unwrap_err()
            .code()
    };
    assert_eq!(
        code(client.new_jwtsvid(token(&[], &made.id)).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(client.new_jwtsvid(token(&["a"], "unknown")).await),
        Code::NotFound
    );

    // The old SVID works until the new one is first used.
    let key = PrivateKey::generate().unwrap();
    let renewed = renew(&node.channel, &key).await.unwrap();
    authorised(&node.channel).await.unwrap();
    let renewed = rig.node_of(renewed, key).await;
    assert_eq!(renewed.id, node.id);
    authorised(&renewed.channel).await.unwrap();
    let status = authorised(&node.channel).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::PermissionDenied, Some(Reason::AgentNotActive))
    );
    rig.tear_down().await;
}

#[tokio::test]
async fn another_agents_entries_are_out_of_reach() {
    let rig = Rig::new().await;
    let (one, other) = (rig.node().await, rig.node().await);
    let of_other = rig.entry(&other.id, "/line5/collector", |_| {}).await;
    assert!(authorised(&one.channel).await.unwrap().is_empty());
    let csr = build_csr(&PrivateKey::generate().unwrap(), None, &[])
        .unwrap()
        .into();
    let results = batch(
        &one.channel,
        vec![svid::NewX509svidParams {
            entry_id: of_other.id.clone(),
            csr,
        }],
    )
    .await
    .unwrap();
    assert_eq!(results[0].status.as_ref().unwrap().code, Code::NotFound as i32);
    assert!(results[0].svid.is_none());
    let request = svid::NewJwtsvidRequest {
        entry_id: of_other.id,
        audience: vec!["a".to_owned()],
    };
    let status = SvidClient::new(one.channel.clone())
        .new_jwtsvid(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    rig.tear_down().await;
}

/// T-20: on a connection that is open already.
#[tokio::test]
async fn a_ban_and_an_eviction_take_effect_with_the_next_call() {
    let rig = Rig::new().await;
    let (banned, evicted) = (rig.node().await, rig.node().await);
    let mut operator = AgentClient::new(rig.admin().await);
    operator
        .ban_agent(agent::BanAgentRequest {
            id: Some(wire(&banned.id)),
        })
        .await
        .unwrap();
    operator
        .delete_agent(agent::DeleteAgentRequest {
            id: Some(wire(&evicted.id)),
        })
        .await
        .unwrap();
    for (node, expected) in [
        (&banned, Reason::AgentBanned),
        (&evicted, Reason::AgentNotAttested),
    ] {
        let status = authorised(&node.channel).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::PermissionDenied, Some(expected))
        );
        let status = renew(&node.channel, &PrivateKey::generate().unwrap())
            .await
            .unwrap_err();
        assert_eq!(reason(&status), Some(expected));
    }
    let again = operator
        .delete_agent(agent::DeleteAgentRequest {
            id: Some(wire(&evicted.id)),
        })
        .await
        .unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    rig.tear_down().await;
}

/// G-14: a hundred nodes whose first answer is lost.
#[tokio::test]
async fn a_hundred_lost_replies_are_a_hundred_nodes() {
    let rig = Rig::with(|config| config.limits.attestations = 10_000).await;
    for _ in 0..100 {
        let (token, key) = (rig.token().await.into_bytes(), PrivateKey::generate().unwrap());
        let lost = rig.attest("join_token", token.clone(), &key).await.unwrap();
        let again = rig.attest("join_token", token, &key).await.unwrap();
        assert_eq!(lost.id, again.id);
    }
    let counted = AgentClient::new(rig.admin().await)
        .count_agents(agent::CountAgentsRequest { filter: None })
        .await;
    assert_eq!(counted.unwrap().into_inner().count, 100);
    rig.tear_down().await;
}

/// T-13.
#[tokio::test]
async fn a_lost_reply_bricks_no_node_and_opens_no_door() {
    let rig = Rig::new().await;
    let token = rig.token().await;
    let key = PrivateKey::generate().unwrap();
    let first = rig
        .attest("join_token", token.clone().into_bytes(), &key)
        .await
        .unwrap();
    // The reply never arrived: the node asks again with the same key.
    let again = rig
        .attest("join_token", token.clone().into_bytes(), &key)
        .await
        .unwrap();
    assert_eq!(first.id, again.id);
    let other = PrivateKey::generate().unwrap();
    let status = rig
        .attest("join_token", token.clone().into_bytes(), &other)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "failed to attest: join token does not exist or has already been used"
    );
    // Only the newest SVID counts.
    let stale = rig
        .node_of(
            first,
            PrivateKey::from_pkcs8_der(key.as_pkcs8_der().to_vec()).unwrap(),
        )
        .await;
    assert_eq!(
        reason(&authorised(&stale.channel).await.unwrap_err()),
        Some(Reason::AgentNotActive)
    );
    let node = rig
        .node_of(
            again,
            PrivateKey::from_pkcs8_der(key.as_pkcs8_der().to_vec()).unwrap(),
        )
        .await;
    authorised(&node.channel).await.unwrap();
    // Evicted: the same key is of no use any more.
    let request = agent::DeleteAgentRequest {
        id: Some(wire(&node.id)),
    };
    AgentClient::new(rig.admin().await)
        .delete_agent(request)
        .await
        .unwrap();
    let status = rig
        .attest("join_token", token.into_bytes(), &key)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    rig.tear_down().await;
}

#[tokio::test]
async fn a_banned_node_does_not_come_back_with_its_token() {
    let rig = Rig::new().await;
    let token = rig.token().await;
    let key = PrivateKey::generate().unwrap();
    let svid = rig
        .attest("join_token", token.clone().into_bytes(), &key)
        .await
        .unwrap();
    let request = agent::BanAgentRequest { id: svid.id };
    AgentClient::new(rig.admin().await)
        .ban_agent(request)
        .await
        .unwrap();
    let status = rig
        .attest("join_token", token.into_bytes(), &key)
        .await
        .unwrap_err();
    assert!(
        matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied),
        "{status:?}"
    );
    rig.tear_down().await;
}

/// T-12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_exactly_one_gets_in_by_a_token() {
    let rig = Rig::with(|config| config.limits.attestations = 10_000).await;
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(rig.tls(None).await.unwrap());
    }
    for _ in 0..20 {
        let token = rig.token().await;
        let mut attempts = tokio::task::JoinSet::new();
        for channel in channels.iter().cycle().take(64) {
            let (channel, token) = (channel.clone(), token.clone().into_bytes());
            attempts.spawn(async move {
                let key = PrivateKey::generate().unwrap();
                attest_on(channel, "join_token", token, &key, |_| panic!("a challenge")).await
            });
        }
        let outcomes = attempts.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        }
    }
    rig.tear_down().await;
}

/// T-10: only the key of a CSR counts.
#[tokio::test]
async fn nothing_that_a_csr_says_gets_into_a_certificate() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let made = rig.entry(&node.id, "/line4/collector", |_| {}).await;
    let key = PrivateKey::generate().unwrap();
    let smuggled = SpiffeId::parse("spiffe://plant.test/ops/admin").unwrap();
    let csr = build_csr(&key, Some(&smuggled), &["evil.example".to_owned()]).unwrap();
    assert_eq!(
        Csr::parse_der(&csr).unwrap().uri_sans(),
        [smuggled.as_str()],
        "the control"
    );
    let results = batch(
        &node.channel,
        vec![svid::NewX509svidParams {
            entry_id: made.id,
            csr: csr.into(),
        }],
    )
    .await
    .unwrap();
    let leaf = Certificate::from_der(&results[0].svid.as_ref().unwrap().cert_chain[0]).unwrap();
    assert_eq!(leaf.uri_sans(), ["spiffe://plant.test/line4/collector"]);
    assert!(leaf.dns_sans().is_empty());
    assert!(!leaf.is_ca());
    // The same at attestation.
    let token = rig.token().await;
    let csr = build_csr(
        &PrivateKey::generate().unwrap(),
        Some(&SpiffeId::server(&td())),
        &["evil.example".to_owned()],
    )
    .unwrap();
    let channel = rig.tls(None).await.unwrap();
    let svid = attest_with(channel, "join_token", token.clone().into_bytes(), csr, |_| {
        panic!("a challenge")
    })
    .await
    .unwrap();
    let leaf = Certificate::from_der(&svid.cert_chain[0]).unwrap();
    assert_eq!(
        leaf.uri_sans(),
        [format!("spiffe://plant.test/spire/agent/join_token/{token}")]
    );
    assert!(leaf.dns_sans().is_empty());
    rig.tear_down().await;
}

/// A request with everything in it that a certificate can have.
fn greedy_csr(key: &PrivateKey) -> Vec<u8> {
    use rcgen::{Attribute, CertificateParams, CustomExtension, DnType, KeyUsagePurpose, SanType};
    let mut params = CertificateParams::default();
    for (kind, value) in [
        (DnType::CommonName, "root"),
        (DnType::OrganizationName, "Somebody else"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params.subject_alt_names = vec![
        SanType::URI("spiffe://plant.test/ops/admin".try_into().unwrap()),
        SanType::URI("spiffe://other.test/x".try_into().unwrap()),
        SanType::DnsName("evil.example".try_into().unwrap()),
        SanType::Rfc822Name("root@evil.example".try_into().unwrap()),
        SanType::IpAddress(std::net::Ipv4Addr::new(192, 0, 2, 1).into()),
    ];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::CodeSigning,
        rcgen::ExtendedKeyUsagePurpose::Any,
    ];
    let permitted = [
        &[0x30, 0x0f, 0xa0, 0x0d, 0x30, 0x0b, 0x82, 0x09],
        &b"a.example"[..],
    ]
    .concat();
    let another_san = [&[0x30, 0x1d, 0x86, 0x1b], &b"spiffe://plant.test/ops/two"[..]].concat();
    // basicConstraints with cA, a name constraint, a second subjectAltName, and an extension that nobody knows.
    params.custom_extensions = vec![
        CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0x03, 0x01, 0x01, 0xff]),
        CustomExtension::from_oid_content(&[2, 5, 29, 30], permitted),
        CustomExtension::from_oid_content(&[2, 5, 29, 17], another_san),
        CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x05, 0x00]),
    ];
    // challengePassword: PKCS #9, a set of one PrintableString.
    let password = Attribute {
        oid: &[1, 2, 840, 113_549, 1, 9, 7],
        values: [&[0x31, 0x08, 0x13, 0x06], &b"secret"[..]].concat(),
    };
    let pair = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
    let request = params.serialize_request_with_attributes(&pair, vec![password]);
    request.unwrap().der().to_vec()
}

/// What is signed, without what differs between any two certificates: serial number, validity, key and its identifier.
fn common_part(leaf: &Certificate) -> Vec<u8> {
    let mut der = leaf.as_der().to_vec();
    // SEQUENCE { SEQUENCE to be signed …: both of them have two bytes of length.
    let length = usize::from(u16::from_be_bytes([der[6], der[7]]));
    der.truncate(8 + length);
    der.drain(..4);
    let serial: Vec<u8> = (0..32)
        .step_by(2)
        .map(|at| u8::from_str_radix(&leaf.serial_hex()[at..at + 2], 16).unwrap())
        .collect();
    let own = [
        serial,
        leaf.public_key().spki_der().to_vec(),
        leaf.subject_key_id().unwrap(),
    ];
    for part in own {
        let at = der.windows(part.len()).position(|window| window == part);
        der[at.unwrap()..][..part.len()].fill(0);
    }
    for at in 0..der.len() - 13 {
        if der[at..at + 12].iter().all(u8::is_ascii_digit) && der[at + 12] == b'Z' {
            der[at..at + 12].fill(b'0');
        }
    }
    der
}

/// T-10: byte for byte, but for the key.
#[tokio::test]
async fn a_certificate_is_the_same_whatever_its_request_asks_for() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let made = rig.entry(&node.id, "/line4/collector", |_| {}).await;
    let (modest, greedy) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let greedy_request = greedy_csr(&greedy);
    let asked = Csr::parse_der(&greedy_request).unwrap();
    assert_eq!(asked.uri_sans().len(), 3, "the control: of both SAN extensions");
    let mut parts = Vec::new();
    for csr in [build_csr(&modest, None, &[]).unwrap(), greedy_request] {
        let order = svid::NewX509svidParams {
            entry_id: made.id.clone(),
            csr: csr.into(),
        };
        let results = batch(&node.channel, vec![order]).await.unwrap();
        let svid = results[0].svid.as_ref().unwrap();
        parts.push(common_part(&Certificate::from_der(&svid.cert_chain[0]).unwrap()));
    }
    assert_eq!(parts[0], parts[1]);
    rig.tear_down().await;
}

#[tokio::test]
async fn a_key_of_somebody_else_is_refused() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let one = rig.entry(&node.id, "/one", |_| {}).await;
    let two = rig.entry(&node.id, "/two", |_| {}).await;
    let csr: bytes::Bytes = build_csr(&PrivateKey::generate().unwrap(), None, &[])
        .unwrap()
        .into();
    let order = |id: &str| {
        vec![svid::NewX509svidParams {
            entry_id: id.to_owned(),
            csr: csr.clone(),
        }]
    };
    assert_eq!(
        batch(&node.channel, order(&one.id)).await.unwrap()[0]
            .status
            .as_ref()
            .unwrap()
            .code,
        0
    );
    let refused = batch(&node.channel, order(&two.id)).await.unwrap();
    assert_eq!(
        refused[0].status.as_ref().unwrap().code,
        Code::InvalidArgument as i32
    );
    assert!(refused[0].svid.is_none());
    // A signature that does not prove the key.
    let mut forged = csr.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let refused = batch(
        &node.channel,
        vec![svid::NewX509svidParams {
            entry_id: one.id,
            csr: forged.into(),
        }],
    )
    .await
    .unwrap();
    assert_eq!(
        refused[0].status.as_ref().unwrap().code,
        Code::InvalidArgument as i32
    );
    rig.tear_down().await;
}

#[tokio::test]
async fn a_batch_has_a_bound() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let one = svid::NewX509svidParams::default();
    assert_eq!(
        batch(&node.channel, vec![one.clone(); 501])
            .await
            .unwrap_err()
            .code(),
        Code::InvalidArgument
    );
    assert_eq!(
        batch(&node.channel, Vec::new()).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(batch(&node.channel, vec![one; 500]).await.unwrap().len(), 500);
    rig.tear_down().await;
}

#[tokio::test]
async fn who_asks_too_often_is_told_to_wait_but_not_on_the_admin_socket() {
    let rig = Rig::with(|config| config.limits.attestations = 1).await;
    let channel = rig.tls(None).await.unwrap();
    let mut codes = Vec::new();
    for _ in 0..4 {
        let key = PrivateKey::generate().unwrap();
        codes.push(
            attest_on(
                channel.clone(),
                "join_token",
                b"no-such-token".to_vec(),
                &key,
                |_| panic!(),
            )
            .await
            .unwrap_err()
            .code(),
        );
    }
    assert_eq!(codes[..2], [Code::InvalidArgument; 2]);
    assert!(codes[2..].contains(&Code::ResourceExhausted), "{codes:?}");
    let local = rig.admin().await;
    for _ in 0..6 {
        let key = PrivateKey::generate().unwrap();
        let status = attest_on(
            local.clone(),
            "join_token",
            b"no-such-token".to_vec(),
            &key,
            |_| panic!(),
        )
        .await
        .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    rig.tear_down().await;
}

/// T-19: a client that keeps every session gets none, and shakes hands in full each time.
#[tokio::test]
async fn no_tls_session_is_ever_resumed() {
    let rig = Rig::new().await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = hoarder(version);
        for _ in 0..3 {
            let tcp = tokio::net::TcpStream::connect(rig.address()).await.unwrap();
            let name = rustls::pki_types::ServerName::try_from("server.invalid").unwrap();
            let mut tls = tokio_rustls::TlsConnector::from(Arc::clone(&config))
                .connect(name, tcp)
                .await
                .unwrap();
            // A ticket would come with the first bytes after the handshake: HTTP/2's settings.
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .await
                .unwrap();
            assert!(tls.read(&mut [0; 64]).await.unwrap() > 0);
            let connection = tls.get_ref().1;
            assert_eq!(
                connection.handshake_kind(),
                Some(rustls::HandshakeKind::Full),
                "{version:?}"
            );
            if connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
                assert_eq!(connection.tls13_tickets_received(), 0);
            }
        }
    }
    rig.tear_down().await;
}

fn hoarder(version: &'static rustls::SupportedProtocolVersion) -> Arc<rustls::ClientConfig> {
    #[derive(Debug)]
    struct Trusting;
    impl rustls::client::danger::ServerCertVerifier for Trusting {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &rustls::pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::in_memory_sessions(16);
    Arc::new(config)
}

#[tokio::test]
async fn entries_follow_the_published_rules() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let made = rig.entry(&node.id, "/line4/collector", |_| {}).await;
    assert_eq!(made.revision_number, 0);
    let mut client = EntryClient::new(rig.admin().await);
    // The same once more: refused, with the one that exists.
    let twin = types::Entry {
        id: String::new(),
        ..made.clone()
    };
    let request = entry::BatchCreateEntryRequest {
        entries: vec![twin],
        output_mask: None,
    };
    let result = client
        .batch_create_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results
        .remove(0);
    let status = result.status.unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (Code::AlreadyExists as i32, "similar entry already exists")
    );
    assert_eq!(result.entry, Some(made.clone()));
    // An update changes what its mask names.
    let change = types::Entry {
        id: made.id.clone(),
        hint: "new".to_owned(),
        admin: true,
        ..Default::default()
    };
    let mask = types::EntryMask {
        hint: true,
        ..Default::default()
    };
    let request = entry::BatchUpdateEntryRequest {
        entries: vec![change],
        input_mask: Some(mask),
        output_mask: None,
    };
    let result = client
        .batch_update_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results
        .remove(0);
    let updated = result.entry.unwrap();
    assert_eq!(
        (updated.hint.as_str(), updated.admin, updated.revision_number),
        ("new", false, 1)
    );
    // An output mask leaves out the rest; the ID is always there.
    let request = entry::GetEntryRequest {
        id: made.id.clone(),
        output_mask: Some(mask),
    };
    let masked = client.get_entry(request).await.unwrap().into_inner();
    assert_eq!(
        masked,
        types::Entry {
            id: made.id.clone(),
            hint: "new".to_owned(),
            ..Default::default()
        }
    );
    // Rules, one by one.
    type Spoil = fn(&mut types::Entry);
    let refused: [(&str, Spoil); 7] = [
        ("negative TTL", |e| e.x509_svid_ttl = -1),
        ("no selector", |e| e.selectors.clear()),
        ("reserved ID", |e| {
            e.spiffe_id = Some(types::Spiffeid {
                trust_domain: "plant.test".to_owned(),
                path: "/spire/server".to_owned(),
            })
        }),
        ("foreign ID", |e| {
            e.spiffe_id = Some(types::Spiffeid {
                trust_domain: "other.test".to_owned(),
                path: "/a".to_owned(),
            })
        }),
        ("no parent", |e| e.parent_id = None),
        ("unknown federation", |e| {
            e.federates_with = vec!["nowhere.test".to_owned()]
        }),
        ("long hint", |e| e.hint = "x".repeat(1025)),
    ];
    for (what, spoil) in refused {
        let mut wanted = types::Entry {
            id: String::new(),
            ..made.clone()
        };
        wanted.spiffe_id = Some(types::Spiffeid {
            trust_domain: "plant.test".to_owned(),
            path: "/other".to_owned(),
        });
        spoil(&mut wanted);
        let request = entry::BatchCreateEntryRequest {
            entries: vec![wanted],
            output_mask: None,
        };
        let result = client
            .batch_create_entry(request)
            .await
            .unwrap()
            .into_inner()
            .results
            .remove(0);
        assert_eq!(
            result.status.unwrap().code,
            Code::InvalidArgument as i32,
            "{what}"
        );
    }
    // Pages by key.
    for n in 0..5 {
        rig.entry(&node.id, &format!("/page/{n}"), |_| {}).await;
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let request = entry::ListEntriesRequest {
            page_size: 2,
            page_token: token,
            ..Default::default()
        };
        let page = client.list_entries(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= 2);
        seen.extend(page.entries.into_iter().map(|entry| entry.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (6, 6));
    // Deleting twice.
    let request = entry::BatchDeleteEntryRequest {
        ids: vec![made.id.clone(), made.id],
    };
    let results = client
        .batch_delete_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let codes: Vec<i32> = results
        .into_iter()
        .map(|result| result.status.unwrap().code)
        .collect();
    assert_eq!(codes, [0, Code::NotFound as i32]);
    rig.tear_down().await;
}

#[tokio::test]
async fn what_is_minted_is_for_this_domain_only() {
    let rig = Rig::new().await;
    let mut operator = SvidClient::new(rig.admin().await);
    for id in [
        "spiffe://other.test/a",
        "spiffe://plant.test/spire/server",
        "spiffe://plant.test/spire/agent/x/y",
    ] {
        let id = SpiffeId::parse(id).unwrap();
        let csr = build_csr(&PrivateKey::generate().unwrap(), Some(&id), &[])
            .unwrap()
            .into();
        let status = operator
            .mint_x509svid(svid::MintX509svidRequest { csr, ttl: 60 })
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{id}");
        let request = svid::MintJwtsvidRequest {
            id: Some(wire(&id)),
            audience: vec!["a".to_owned()],
            ttl: 60,
        };
        assert_eq!(
            operator.mint_jwtsvid(request).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{id}"
        );
    }
    let csr = build_csr(&PrivateKey::generate().unwrap(), None, &[])
        .unwrap()
        .into();
    let status = operator
        .mint_x509svid(svid::MintX509svidRequest { csr, ttl: 60 })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "no ID");
    rig.tear_down().await;
}

#[tokio::test]
async fn a_connection_that_does_not_shake_hands_is_closed() {
    let rig = Rig::new().await;
    let mut silent = tokio::net::TcpStream::connect(rig.address()).await.unwrap();
    use tokio::io::AsyncReadExt as _;
    let closed = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut [0; 8])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
    rig.tear_down().await;
}

/// Who shows no certificate cannot take the places of those who do.
#[tokio::test]
async fn strangers_cannot_lock_agents_out() {
    let rig = Rig::with(|config| config.limits.connections = 40).await;
    let node = rig.node().await;
    let mut strangers = Vec::new();
    for _ in 0..60 {
        // The first ones are held open; what is too much from one address is closed again, so there is room.
        strangers.push(rig.tls(None).await);
    }
    let agent = tokio::time::timeout(Duration::from_secs(10), rig.tls(Some(Arc::clone(&node.svid)))).await;
    let channel = agent.expect("no place is left").unwrap();
    authorised(&channel).await.unwrap();
    rig.tear_down().await;
}

/// `Node` is used by its fields; this keeps its SVID honest.
#[tokio::test]
async fn a_nodes_svid_lives_as_long_as_configured() {
    let rig = Rig::with(|config| config.ttls.agent = Duration::from_secs(7200)).await;
    let Node { svid, .. } = rig.node().await;
    let lives = svid.not_after().since(svid.not_before());
    assert_eq!(lives, Duration::from_secs(7200 + 300), "with the back-dating");
    rig.tear_down().await;
}

#[tokio::test]
async fn what_an_agent_reports_is_stored_unless_it_is_nothing_or_too_much() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let report = async |version: String| {
        let request = agent::PostStatusRequest {
            agent_version: version,
            ..Default::default()
        };
        AgentClient::new(node.channel.clone())
            .post_status(request)
            .await
            .map(drop)
    };
    report("x".repeat(255)).await.unwrap();
    let status = report("x".repeat(256)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "agent version is too long (max 255 characters)");
    rig.tear_down().await;

    let rig = Rig::new().await;
    let node = rig.node().await;
    for version in ["1.14.0", ""] {
        let request = agent::PostStatusRequest {
            agent_version: version.to_owned(),
            ..Default::default()
        };
        AgentClient::new(node.channel.clone())
            .post_status(request)
            .await
            .unwrap();
    }
    let request = agent::GetAgentRequest {
        id: Some(wire(&node.id)),
        output_mask: None,
    };
    let stored = AgentClient::new(rig.admin().await)
        .get_agent(request)
        .await
        .unwrap();
    assert_eq!(stored.into_inner().agent_version, "1.14.0");
    // An empty hint is no filter.
    rig.entry(&node.id, "/hinted", |entry| entry.hint = "main".to_owned())
        .await;
    for (hint, found) in [("", 1), ("main", 1), ("other", 0)] {
        let filter = entry::list_entries_request::Filter {
            by_hint: Some(hint.to_owned()),
            ..Default::default()
        };
        let request = entry::ListEntriesRequest {
            filter: Some(filter),
            ..Default::default()
        };
        let listed = EntryClient::new(rig.admin().await)
            .list_entries(request)
            .await
            .unwrap();
        assert_eq!(listed.into_inner().entries.len(), found, "{hint:?}");
    }
    // An empty audience among others is dropped; alone it is none.
    let entry = rig.entry(&node.id, "/w", |_| {}).await;
    let mut client = SvidClient::new(node.channel.clone());
    let token = |audience: &[&str]| svid::NewJwtsvidRequest {
        entry_id: entry.id.clone(),
        audience: audience.iter().map(|one| (*one).to_owned()).collect(),
    };
    let made = client.new_jwtsvid(token(&["", "historian"])).await.unwrap();
    let bundles = landfast_identity::BundleSet::from_iter([(*rig.handle.bundle()).clone()]);
    let made = made.into_inner().svid.unwrap();
    let now = landfast_identity::UnixTime::from_secs(made.issued_at);
    let verified = landfast_identity::jwt::verify(&made.token, &bundles, "historian", now).unwrap();
    assert_eq!(verified.audience(), ["historian"]);
    assert_eq!(
        client.new_jwtsvid(token(&[""])).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    rig.tear_down().await;
}
