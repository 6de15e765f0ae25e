//! What a request for a signature can ask for, and what it cannot.

use super::*;

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
