//! The exact shape of what is issued (T-10): every field of the certificate, beside a golden text.

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::w;
use crate::core::fixture::{Rig, id, key, me};
use crate::random::hex;

/// One line a field; what is random or a key is named, not shown.
fn shape(der: &[u8], known: &[(&str, Vec<u8>)]) -> String {
    let (rest, cert) = X509Certificate::from_der(der).unwrap();
    assert!(rest.is_empty());
    let tbs = &cert.tbs_certificate;
    let mut out = format!(
        "version {}\nsignature {}\nissuer {}\nsubject {}\nvalidity {} {}\nunique ids {}\n",
        tbs.version.0,
        tbs.signature.algorithm,
        tbs.issuer,
        tbs.subject,
        tbs.validity.not_before.timestamp(),
        tbs.validity.not_after.timestamp(),
        tbs.issuer_uid.is_some() || tbs.subject_uid.is_some(),
    );
    for e in tbs.extensions() {
        out += &format!(
            "{} {} {}\n",
            e.oid,
            if e.critical { "critical" } else { "-" },
            hex(e.value)
        );
    }
    for (name, bytes) in known {
        out = out
            .replace(&hex(bytes), &format!("<{name}>"))
            .replace(&hex(bytes).to_uppercase(), &format!("<{name}>"));
    }
    out
}

#[tokio::test(start_paused = true)]
async fn a_leaf_has_exactly_this_profile() {
    let rig = Rig::new().await;
    let entry = w(|e| e.dns_names = vec!["db.line4.example".into(), "alias.example".into()]);
    let key = key();
    let issued = rig.core.issuer.x509_for_entry(&me(), &entry, &key).await.unwrap();
    let ca = rig.core.authorities.active_x509().unwrap();
    let known = [
        ("ski", key.key_id().to_vec()),
        ("authority", ca.certificate.public_key().key_id().to_vec()),
    ];
    assert_eq!(shape(issued.chain[0].as_der(), &known), LEAF);
    let again = rig.core.issuer.x509_for_entry(&me(), &entry, &key).await.unwrap();
    assert_ne!(issued.serial_hex(), again.serial_hex());
    assert_eq!(issued.serial_hex().len(), 32, "128 bits");
}

#[tokio::test(start_paused = true)]
async fn an_agents_leaf_differs_only_in_its_name_and_life() {
    let rig = Rig::new().await;
    let key = key();
    let issued = rig
        .core
        .issuer
        .agent_svid(&me(), &id("/spire/agent/x509pop/a"), &key)
        .await
        .unwrap();
    let ca = rig.core.authorities.active_x509().unwrap();
    let known = [
        ("ski", key.key_id().to_vec()),
        ("authority", ca.certificate.public_key().key_id().to_vec()),
    ];
    assert_eq!(shape(issued.chain[0].as_der(), &known), AGENT);
}

#[tokio::test(start_paused = true)]
async fn an_authority_has_exactly_this_profile() {
    let rig = Rig::new().await;
    let ca = rig.core.authorities.active_x509().unwrap();
    let ski = ca.certificate.public_key().key_id().to_vec();
    assert_eq!(ca.id, hex(&ski), "its name is its key's");
    let shape = shape(ca.certificate.as_der(), &[("authority", ski)]);
    assert_eq!(shape.replace(OWN_AKI, ""), AUTHORITY);
}

const LEAF: &str = "\
version 2
signature 1.2.840.10045.4.3.2
issuer C=US, O=SPIFFE, serialNumber=<authority>
subject C=US, O=SPIRE, CN=db.line4.example
validity 1795420500 1795424400
unique ids false
2.5.29.35 - 30168014<authority>
2.5.29.17 - 303b86187370696666653a2f2f706c616e742e6578616d706c652f77821064622e6c696e65342e6578616d706c65820d616c6961732e6578616d706c65
2.5.29.15 critical 030203a8
2.5.29.37 - 301406082b0601050507030106082b06010505070302
2.5.29.14 - 0414<ski>
2.5.29.19 critical 3000
";

const AGENT: &str = "\
version 2
signature 1.2.840.10045.4.3.2
issuer C=US, O=SPIFFE, serialNumber=<authority>
subject C=US, O=SPIRE
validity 1795420500 1796025600
unique ids false
2.5.29.35 - 30168014<authority>
2.5.29.17 - 302e862c7370696666653a2f2f706c616e742e6578616d706c652f73706972652f6167656e742f78353039706f702f61
2.5.29.15 critical 030203a8
2.5.29.37 - 301406082b0601050507030106082b06010505070302
2.5.29.14 - 0414<ski>
2.5.29.19 critical 3000
";

/// The authority key identifier, which some builders of self-signed certificates write and some do not, is left out here.
const AUTHORITY: &str = "\
version 2
signature 1.2.840.10045.4.3.2
issuer C=US, O=SPIFFE, serialNumber=<authority>
subject C=US, O=SPIFFE, serialNumber=<authority>
validity 1795420500 1798012800
unique ids false
2.5.29.17 - 301886167370696666653a2f2f706c616e742e6578616d706c65
2.5.29.15 critical 03020106
2.5.29.14 - 0414<authority>
2.5.29.19 critical 30030101ff
";
const OWN_AKI: &str = "2.5.29.35 - 30168014<authority>\n";
