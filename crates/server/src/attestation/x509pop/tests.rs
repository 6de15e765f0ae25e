//! Devices that prove themselves, and everything that must prove nothing (T-16, T-17).

use landfast_identity::{DeviceKey, PrivateKey, PublicKey, TrustDomain, UnixTime};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use serde_json::{Value, json};
use tonic::Code;

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_795_420_800);
const RSA: &str = include_str!("tests/rsa.pem");
const P384: &str = include_str!("tests/p384.pem");

struct Made {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
}

fn make(
    name: &str,
    issuer: Option<&Made>,
    key: KeyPair,
    change: impl FnOnce(&mut CertificateParams),
) -> Made {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    let built = match issuer {
        Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
        None => params.self_signed(&key),
    };
    let certificate = Certificate::from_der(built.unwrap().der()).unwrap();
    Made {
        params,
        key,
        certificate,
    }
}

fn ca(name: &str, issuer: Option<&Made>) -> Made {
    make(name, issuer, KeyPair::generate().unwrap(), |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
    })
}

fn device_of(issuer: &Made, key: KeyPair) -> Made {
    make("gateway 7", Some(issuer), key, |p| {
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x0a, 0xbc]));
        let uri = "x509pop://plant.test/site/north/hall".try_into().unwrap();
        p.subject_alt_names = vec![SanType::URI(uri)];
    })
}

fn device(issuer: &Made) -> Made {
    device_of(issuer, KeyPair::generate().unwrap())
}

fn payload(chain: &[&Made]) -> Vec<u8> {
    let certificates: Vec<String> = chain
        .iter()
        .map(|c| BASE64.encode(c.certificate.as_der()))
        .collect();
    json!({ "certificates": certificates }).to_string().into_bytes()
}

/// The answer that a node with this key gives, before a test bends it.
fn answer(key: &KeyPair, challenge: &[u8]) -> Value {
    let challenge: Value = serde_json::from_slice(challenge).unwrap();
    let key = DeviceKey::from_pem(&key.serialize_pem()).unwrap();
    let is_rsa = key.scheme() == SignatureScheme::RsaPssSha256;
    let kind = if is_rsa {
        "rsa_signature"
    } else {
        "ecdsa_signature"
    };
    assert_eq!(challenge.as_object().unwrap().len(), 1, "{challenge}");
    let theirs = BASE64.decode(challenge[kind]["nonce"].as_str().unwrap()).unwrap();
    assert_eq!(theirs.len(), 32);
    let ours = [9; 32];
    let signature = key.sign(&[theirs.as_slice(), &ours].concat()).unwrap();
    let nonce = BASE64.encode(ours);
    if is_rsa {
        return json!({ kind: { "nonce": nonce, "signature": BASE64.encode(signature) } });
    }
    let (r, s) = signature.split_at(32);
    json!({ kind: { "nonce": nonce, "r": BASE64.encode(r), "s": BASE64.encode(s) } })
}

/// A node that answers by a script, and keeps what it was asked.
struct Scripted<F> {
    respond: F,
    asked: Vec<Vec<u8>>,
}

#[tonic::async_trait]
impl<F: FnMut(&[u8]) -> Vec<u8> + Send> Challenge for Scripted<F> {
    async fn ask(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, Status> {
        let response = (self.respond)(&challenge);
        self.asked.push(challenge);
        Ok(response)
    }
}

fn attestor(roots: &[&Made]) -> X509Pop {
    let roots: Vec<_> = roots.iter().map(|root| root.certificate.clone()).collect();
    X509Pop::new(&roots, 4)
}

/// The outcome, and what the node was asked.
async fn attest(
    pop: &X509Pop,
    payload: &[u8],
    respond: impl FnMut(&[u8]) -> Vec<u8> + Send,
) -> (Result<Attested, Status>, Vec<Vec<u8>>) {
    let key: PublicKey = PrivateKey::generate().unwrap().public_key();
    let trust_domain = TrustDomain::parse("plant.test").unwrap();
    let evidence = Evidence {
        payload,
        key: &key,
        trust_domain: &trust_domain,
        now: NOW,
        address: String::new(),
    };
    let mut node = Scripted {
        respond,
        asked: Vec::new(),
    };
    (pop.attest(&evidence, &mut node).await, node.asked)
}

async fn honest(pop: &X509Pop, chain: &[&Made]) -> Result<Attested, Status> {
    attest(pop, &payload(chain), |challenge| {
        answer(&chain[0].key, challenge).to_string().into_bytes()
    })
    .await
    .0
}

async fn refuses_payload(pop: &X509Pop, payload: &[u8]) -> Status {
    let (outcome, asked) = attest(pop, payload, |_| panic!("it was challenged")).await;
    assert!(asked.is_empty());
    outcome.err().expect("it was let in")
}

/// How it answers to an honest node's answer after `bend`.
async fn bent(made: &Made, root: &Made, bend: impl Fn(Value) -> Vec<u8> + Send + Sync) -> Status {
    let pop = attestor(&[root]);
    let outcome = attest(&pop, &payload(&[made]), |challenge| {
        bend(answer(&made.key, challenge))
    })
    .await
    .0;
    outcome.err().expect("it was let in")
}

#[tokio::test]
async fn a_device_is_named_and_described_by_what_was_verified() {
    let (root, middle) = (ca("root", None), ca("unused", None));
    let between = ca("between", Some(&root));
    let leaf = device(&between);
    let attested = honest(&attestor(&[&middle, &root]), &[&leaf, &between])
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let fingerprint = |made: &Made| hex(&made.certificate.fingerprint_sha1());
    assert_eq!(
        attested.agent_id.as_str(),
        format!("spiffe://plant.test/spire/agent/x509pop/{}", fingerprint(&leaf))
    );
    assert!(attested.can_reattest);
    let wanted: SelectorSet = [
        "x509pop:serialnumber:0abc".to_owned(),
        "x509pop:subject:cn:gateway 7".to_owned(),
        "x509pop:san:site:north/hall".to_owned(),
        format!("x509pop:ca:fingerprint:{}", fingerprint(&root)),
        format!("x509pop:ca:fingerprint:{}", fingerprint(&between)),
    ]
    .iter()
    .map(|text| Selector::parse(text).unwrap())
    .collect();
    assert_eq!(attested.selectors, wanted);
}

#[tokio::test]
async fn an_rsa_device_proves_itself_with_pss() {
    let root = ca("root", None);
    let key = KeyPair::from_pkcs8_pem_and_sign_algo(RSA, &rcgen::PKCS_RSA_SHA256).unwrap();
    let leaf = device_of(&root, key);
    honest(&attestor(&[&root]), &[&leaf])
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let ec = device(&root);
    let status = bent(&leaf, &root, |mut honest| {
        honest["rsa_signature"]["signature"] = json!(BASE64.encode([1; 256]));
        honest.to_string().into_bytes()
    })
    .await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    // The other kind of answer, though a valid signature of somebody.
    let (outcome, _) = attest(&attestor(&[&root]), &payload(&[&leaf]), |challenge| {
        let text = String::from_utf8(challenge.to_vec()).unwrap();
        let asked = text.replace("rsa_signature", "ecdsa_signature");
        answer(&ec.key, asked.as_bytes()).to_string().into_bytes()
    })
    .await;
    assert_eq!(outcome.err().unwrap().code(), Code::InvalidArgument);
    let status = bent(&ec, &root, |_| {
        let rsa = json!({ "nonce": BASE64.encode([9; 32]), "signature": BASE64.encode([1; 256]) });
        json!({ "rsa_signature": rsa }).to_string().into_bytes()
    })
    .await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

/// A P-384 key of a TPM signs SHA-256 of the nonces, which ring does not do; so by hand, and only as a test may: with the nonce k = 1,
/// r is the generator's first coordinate, s = hash + r·key, and the product is known (no sum passes the order).
fn p384_answer(challenge: &[u8], bend: impl FnOnce(&mut [u8; 48])) -> Vec<u8> {
    let challenge: Value = serde_json::from_slice(challenge).unwrap();
    let theirs = challenge["ecdsa_signature"]["nonce"].as_str().unwrap();
    let ours = [9; 32];
    let signed = [BASE64.decode(theirs).unwrap(), ours.to_vec()].concat();
    let hash = ring::digest::digest(&ring::digest::SHA256, &signed);
    let mut s = P384_R_TIMES_KEY;
    let mut carry = 0;
    for (at, byte) in s.iter_mut().enumerate().rev() {
        // The hash has 32 bytes, the number 48.
        let term = at.checked_sub(16).map_or(0, |at| hash.as_ref()[at]);
        let sum = u16::from(*byte) + u16::from(term) + carry;
        carry = sum >> 8;
        *byte = sum.to_le_bytes()[0];
    }
    bend(&mut s);
    let (nonce, r, s) = (BASE64.encode(ours), BASE64.encode(P384_R), BASE64.encode(s));
    json!({ "ecdsa_signature": { "nonce": nonce, "r": r, "s": s } })
        .to_string()
        .into_bytes()
}

#[tokio::test]
async fn a_p384_device_proves_itself_and_a_forged_answer_does_not() {
    let root = ca("root", None);
    let key = KeyPair::from_pkcs8_pem_and_sign_algo(P384, &rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let leaf = device_of(&root, key);
    let pop = attestor(&[&root]);
    let (outcome, _) = attest(&pop, &payload(&[&leaf]), |asked| p384_answer(asked, |_| {})).await;
    outcome.unwrap_or_else(|e| panic!("{e}"));
    for bend in [0, 47] {
        let forged = |asked: &[u8]| p384_answer(asked, |s| s[bend] ^= 1);
        let status = attest(&pop, &payload(&[&leaf]), forged)
            .await
            .0
            .err()
            .expect("it was let in");
        assert_eq!(
            (status.code(), status.message()),
            (
                Code::PermissionDenied,
                "failed to attest: the challenge response does not verify"
            )
        );
    }
}

#[tokio::test]
async fn a_certificate_that_was_only_sent_along_says_nothing() {
    let (root, bystander) = (ca("root", None), ca("bystander", None));
    let leaf = device(&root);
    let attested = honest(&attestor(&[&root]), &[&leaf, &bystander])
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let named = format!(
        "x509pop:ca:fingerprint:{}",
        hex(&bystander.certificate.fingerprint_sha1())
    );
    assert!(!attested.selectors.contains(&Selector::parse(&named).unwrap()));
    // Nor does it name the agent: the first certificate does, and its key must sign.
    let second = device(&root);
    let (outcome, _) = attest(&attestor(&[&root]), &payload(&[&second, &leaf]), |challenge| {
        answer(&leaf.key, challenge).to_string().into_bytes()
    })
    .await;
    assert_eq!(outcome.err().unwrap().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_stranger_is_refused_before_a_challenge() {
    let (root, other) = (ca("root", None), ca("root", None));
    let pop = attestor(&[&root]);
    for (what, made) in [
        ("another authority of the same name", device(&other)),
        (
            "too old",
            make("old", Some(&root), KeyPair::generate().unwrap(), |p| {
                p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
                p.not_after = rcgen::date_time_ymd(2026, 11, 22);
            }),
        ),
        (
            "may not sign",
            make("mute", Some(&root), KeyPair::generate().unwrap(), |p| {
                p.key_usages = vec![KeyUsagePurpose::KeyAgreement]
            }),
        ),
        ("an authority itself", ca("authority", Some(&root))),
    ] {
        let status = refuses_payload(&pop, &payload(&[&made])).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{what}: {status}");
        assert!(
            status
                .message()
                .starts_with("failed to attest: certificate verification failed"),
            "{what}: {status}"
        );
    }
}

#[tokio::test]
async fn only_the_devices_key_over_both_nonces_of_this_attempt_proves_anything() {
    let root = ca("root", None);
    let leaf = device(&root);
    let denied = |status: Status| {
        assert_eq!(
            (status.code(), status.message()),
            (
                Code::PermissionDenied,
                "failed to attest: the challenge response does not verify"
            )
        )
    };
    // Another key.
    let stranger = device(&root);
    let (outcome, _) = attest(&attestor(&[&root]), &payload(&[&leaf]), |challenge| {
        answer(&stranger.key, challenge).to_string().into_bytes()
    })
    .await;
    denied(outcome.err().unwrap());
    // An answer overheard at another attempt: the server's nonce differs each time.
    let pop = attestor(&[&root]);
    let mut overheard = Vec::new();
    let (outcome, first) = attest(&pop, &payload(&[&leaf]), |challenge| {
        overheard = answer(&leaf.key, challenge).to_string().into_bytes();
        overheard.clone()
    })
    .await;
    assert!(outcome.is_ok(), "the control");
    let (outcome, second) = attest(&pop, &payload(&[&leaf]), |_| overheard.clone()).await;
    assert_ne!(first, second);
    denied(outcome.err().unwrap());
    // The node's nonce exchanged after signing.
    denied(
        bent(&leaf, &root, |mut honest| {
            honest["ecdsa_signature"]["nonce"] = json!(BASE64.encode([8; 32]));
            honest.to_string().into_bytes()
        })
        .await,
    );
    // Numbers that are none.
    for (r, s) in [
        (vec![0; 32], vec![1; 32]),
        (vec![], vec![1]),
        (vec![1; 64], vec![1; 64]),
    ] {
        let status = bent(&leaf, &root, |mut honest| {
            honest["ecdsa_signature"]["r"] = json!(BASE64.encode(&r));
            honest["ecdsa_signature"]["s"] = json!(BASE64.encode(&s));
            honest.to_string().into_bytes()
        })
        .await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains("does not verify"), "{status}");
    }
}

#[tokio::test]
async fn a_nonce_of_the_node_has_32_bytes() {
    let root = ca("root", None);
    let leaf = device(&root);
    for length in [0, 31, 33] {
        // Signed rightly, over the nonce as it is: only the length is wrong.
        let (outcome, _) = attest(&attestor(&[&root]), &payload(&[&leaf]), |challenge| {
            let challenge: Value = serde_json::from_slice(challenge).unwrap();
            let asked = challenge["ecdsa_signature"]["nonce"].as_str().unwrap();
            let ours = vec![9; length];
            let key = DeviceKey::from_pem(&leaf.key.serialize_pem()).unwrap();
            let signed = [BASE64.decode(asked).unwrap(), ours.clone()].concat();
            let signature = key.sign(&signed).unwrap();
            let (r, s) = signature.split_at(32);
            let (nonce, r, s) = (BASE64.encode(ours), BASE64.encode(r), BASE64.encode(s));
            json!({ "ecdsa_signature": { "nonce": nonce, "r": r, "s": s } })
                .to_string()
                .into_bytes()
        })
        .await;
        let status = outcome.err().expect("it was let in");
        assert_eq!(status.code(), Code::InvalidArgument, "{length}: {status}");
        assert!(status.message().contains("32 bytes"), "{length}: {status}");
    }
}

/// T-16: one document, whole, and only what it says once.
#[tokio::test]
async fn a_document_that_could_be_read_in_two_ways_is_refused() {
    let (root, other) = (ca("root", None), ca("other", None));
    let (leaf, foreign) = (device(&root), device(&other));
    let pop = attestor(&[&root]);
    let good = String::from_utf8(payload(&[&leaf])).unwrap();
    let list = |made: &Made| format!("[\"{}\"]", BASE64.encode(made.certificate.as_der()));
    let (ours, theirs) = (list(&leaf), list(&foreign));
    for payload in [
        format!("{{\"certificates\":{ours},\"certificates\":{theirs}}}"),
        format!("{{\"certificates\":{theirs},\"certificates\":{ours}}}"),
        format!("{{\"certificates\":{ours},\"Certificates\":{theirs}}}"),
        format!("{{\"certificates\":{ours},\"certificate\":{theirs}}}"),
        format!("{good}{good}"),
        format!("{good} x"),
        format!("{good}\0"),
        format!("{{\"certificates\":{ours}"),
        "{\"certificates\":null}".to_owned(),
        "{\"certificates\":[7]}".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        String::new(),
    ] {
        let status = refuses_payload(&pop, payload.as_bytes()).await;
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "failed to attest: malformed JSON"),
            "{payload}"
        );
    }
    let empty = refuses_payload(&pop, b"{\"certificates\":[]}").await;
    assert_eq!(empty.message(), "failed to attest: no certificate to attest");
    // Bytes after the certificate, and base64 that means the same in another spelling.
    let der = leaf.certificate.as_der();
    for (der, code) in [
        ([der, &[0]].concat(), Code::PermissionDenied),
        ([der, der].concat(), Code::PermissionDenied),
        (der[..der.len() - 1].to_vec(), Code::PermissionDenied),
    ] {
        let text = json!({ "certificates": [BASE64.encode(der)] }).to_string();
        assert_eq!(refuses_payload(&pop, text.as_bytes()).await.code(), code);
    }
    for bend in [
        |text: String| format!("{text}\n"),
        |text: String| text.replace('/', "_").replace('+', "-") + "_-",
        |text: String| format!(" {text}"),
    ] {
        let text = json!({ "certificates": [bend(BASE64.encode(der))] }).to_string();
        let status = refuses_payload(&pop, text.as_bytes()).await;
        assert_eq!(status.message(), "failed to attest: malformed base64");
    }
    assert!(honest(&pop, &[&leaf]).await.is_ok(), "the control");
}

/// T-16, of the second document.
#[tokio::test]
async fn a_response_that_could_be_read_in_two_ways_is_refused() {
    let root = ca("root", None);
    let leaf = device(&root);
    type Bend = fn(Value) -> Vec<u8>;
    let bends: [Bend; 5] = [
        |honest| {
            let inner = honest["ecdsa_signature"].to_string();
            format!("{{\"ecdsa_signature\":{inner},\"ecdsa_signature\":{inner}}}").into_bytes()
        },
        |honest| format!("{honest}{honest}").into_bytes(),
        |mut honest| {
            honest["ecdsa_signature"]["R"] = json!("AA==");
            honest.to_string().into_bytes()
        },
        |mut honest| {
            honest["extra"] = json!(1);
            honest.to_string().into_bytes()
        },
        |honest| {
            let text = honest.to_string();
            text.replacen("\"nonce\"", "\"nonce\":\"AA==\",\"nonce\"", 1)
                .into_bytes()
        },
    ];
    for (at, bend) in bends.into_iter().enumerate() {
        let status = bent(&leaf, &root, bend).await;
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "failed to attest: malformed JSON"),
            "bend {at}"
        );
    }
    // Both kinds at once.
    let status = bent(&leaf, &root, |mut honest| {
        honest["rsa_signature"] = json!({ "nonce": "AA==", "signature": "AA==" });
        honest.to_string().into_bytes()
    })
    .await;
    assert_eq!(status.code(), Code::InvalidArgument);
}

/// T-17: size is looked at before anything is decoded, let alone verified.
#[tokio::test]
async fn what_is_too_much_is_refused_unread() {
    let root = ca("root", None);
    let pop = attestor(&[&root]);
    let many = json!({ "certificates": vec!["not even base64!"; 6] }).to_string();
    let status = refuses_payload(&pop, many.as_bytes()).await;
    assert_eq!(status.message(), "failed to attest: too many certificates");
    let five = json!({ "certificates": vec!["not even base64!"; 5] }).to_string();
    let status = refuses_payload(&pop, five.as_bytes()).await;
    assert_eq!(
        status.message(),
        "failed to attest: malformed base64",
        "the control"
    );
    let none = X509Pop {
        max_intermediates: 0,
        ..attestor(&[&root])
    };
    let two = json!({ "certificates": ["!", "!"] }).to_string();
    let status = refuses_payload(&none, two.as_bytes()).await;
    assert_eq!(status.message(), "failed to attest: too many certificates");
    let leaf = device(&root);
    let status = bent(&leaf, &root, |honest| {
        let mut text = honest.to_string().into_bytes();
        text.resize(MAX_ANSWER + 1, b' ');
        text
    })
    .await;
    assert_eq!(status.message(), "failed to attest: challenge response too large");
    let padded = attest(&pop, &payload(&[&leaf]), |challenge| {
        let mut text = answer(&leaf.key, challenge).to_string().into_bytes();
        text.resize(MAX_ANSWER, b' ');
        text
    })
    .await;
    assert!(padded.0.is_ok(), "the control");
}

/// The generator's first coordinate.
const P384_R: [u8; 48] = [
    0xaa, 0x87, 0xca, 0x22, 0xbe, 0x8b, 0x05, 0x37, 0x8e, 0xb1, 0xc7, 0x1e, 0xf3, 0x20, 0xad, 0x74, 0x6e,
    0x1d, 0x3b, 0x62, 0x8b, 0xa7, 0x9b, 0x98, 0x59, 0xf7, 0x41, 0xe0, 0x82, 0x54, 0x2a, 0x38, 0x55, 0x02,
    0xf2, 0x5d, 0xbf, 0x55, 0x29, 0x6c, 0x3a, 0x54, 0x5e, 0x38, 0x72, 0x76, 0x0a, 0xb7,
];
/// It, times the key of `tests/p384.pem`, modulo the order.
const P384_R_TIMES_KEY: [u8; 48] = [
    0x38, 0xf5, 0x51, 0xfc, 0xc3, 0x7b, 0x34, 0xe2, 0x57, 0xb2, 0x5e, 0xf7, 0x72, 0xbe, 0x3a, 0xfd, 0x44,
    0x6e, 0x2a, 0x16, 0xc3, 0x67, 0x7a, 0x82, 0x67, 0x82, 0x25, 0xf1, 0x77, 0x09, 0x02, 0x6f, 0x27, 0x74,
    0xfc, 0xd4, 0xca, 0xc8, 0xbb, 0xa7, 0xe2, 0x0d, 0xb5, 0x33, 0xc6, 0x82, 0x66, 0x4a,
];

/// The published API with devices: by challenge, again by themselves, and never by renewal.
mod served {
    use landfast_proto::spire::api::server::agent::v1::{
        AgentX509svidParams, BanAgentRequest, GetAgentRequest, RenewAgentRequest, agent_client::AgentClient,
    };
    use landfast_proto::spire::api::types::permission_denied_details::Reason;

    use super::*;
    use crate::config::X509PopConfig;
    use crate::server::rig::{Rig, attest_on, reason, wire};

    async fn join(rig: &Rig, leaf: &Made, key: &PrivateKey) -> Result<crate::server::rig::Node, Status> {
        let respond = |challenge: &[u8]| answer(&leaf.key, challenge).to_string().into_bytes();
        let channel = rig.tls(None).await.unwrap();
        let svid = attest_on(channel, "x509pop", payload(&[leaf]), key, respond).await?;
        let key = PrivateKey::from_pkcs8_der(key.as_pkcs8_der().to_vec()).unwrap();
        Ok(rig.node_of(svid, key).await)
    }

    #[tokio::test]
    async fn a_device_comes_back_by_itself_until_it_is_banned() {
        let root = ca("root", None);
        let leaf = device(&root);
        let roots = vec![root.certificate.clone()];
        let rig = Rig::with(move |config| {
            config.x509pop = Some(X509PopConfig {
                roots,
                max_intermediates: 4,
            });
        })
        .await;
        let mut operator = AgentClient::new(rig.admin().await);
        let key = PrivateKey::generate().unwrap();
        let first = join(&rig, &leaf, &key).await.unwrap_or_else(|e| panic!("{e}"));
        let get = GetAgentRequest {
            id: Some(wire(&first.id)),
            output_mask: None,
        };
        let shown = operator.get_agent(get).await.unwrap().into_inner();
        assert_eq!(shown.attestation_type, "x509pop");
        assert!(shown.can_reattest && !shown.banned && shown.selectors.len() >= 4);

        // It attests again instead of renewing.
        let csr = landfast_identity::build_csr(&key, None, &[]).unwrap().into();
        let renew = RenewAgentRequest {
            params: Some(AgentX509svidParams { csr }),
        };
        let status = AgentClient::new(first.channel.clone())
            .renew_agent(renew)
            .await
            .unwrap_err();
        assert_eq!(reason(&status), Some(Reason::AgentMustReattest), "{status}");
        let again = join(&rig, &leaf, &PrivateKey::generate().unwrap())
            .await
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.id, first.id);
        assert_ne!(again.svid.serial_hex(), first.svid.serial_hex());

        let ban = BanAgentRequest {
            id: Some(wire(&first.id)),
        };
        operator.ban_agent(ban).await.unwrap();
        let status = join(&rig, &leaf, &PrivateKey::generate().unwrap())
            .await
            .err()
            .expect("a banned device came back");
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.message(), "failed to attest: agent is banned");
        assert_eq!(reason(&status), Some(Reason::AgentBanned));
        rig.tear_down().await;
    }

    #[tokio::test]
    async fn what_is_not_switched_on_attests_nobody() {
        let rig = Rig::with(|config| config.join_token = false).await;
        let leaf = device(&ca("root", None));
        let status = join(&rig, &leaf, &PrivateKey::generate().unwrap())
            .await
            .err()
            .expect("it was let in");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        let channel = rig.tls(None).await.unwrap();
        let key = PrivateKey::generate().unwrap();
        let (method, payload) = ("join_token", rig.token().await.into_bytes());
        let status = attest_on(channel.clone(), method, payload, &key, |_| panic!())
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        // T-17: before the attestor is even looked for.
        let status = attest_on(channel, method, vec![b'x'; 64 * 1024 + 1], &key, |_| panic!())
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (
                Code::InvalidArgument,
                "failed to attest: payload larger than 65536 bytes"
            )
        );
        rig.tear_down().await;
    }
}
