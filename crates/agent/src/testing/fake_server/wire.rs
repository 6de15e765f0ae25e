//! Entries and bundles as they are on the wire.

use landfast_proto::spire::api::types;

use crate::testing::{Ca, td};

/// An entry on the wire.
pub(crate) fn wire_entry(name: &str, path: &str, selectors: &[&str]) -> types::Entry {
    let selector = |text: &&str| {
        let (kind, value) = text.split_once(':').unwrap();
        types::Selector {
            r#type: kind.to_owned(),
            value: value.to_owned(),
        }
    };
    types::Entry {
        id: name.to_owned(),
        spiffe_id: Some(types::Spiffeid {
            trust_domain: td().to_string(),
            path: path.to_owned(),
        }),
        selectors: selectors.iter().map(selector).collect(),
        ..Default::default()
    }
}

pub(crate) fn wire_bundle(ca: &Ca, tainted: bool) -> types::Bundle {
    let spiffe_id = ca.certificate.spiffe_id().unwrap();
    types::Bundle {
        trust_domain: spiffe_id.trust_domain().to_string(),
        x509_authorities: vec![types::X509Certificate {
            asn1: ca.certificate.as_der().to_vec().into(),
            tainted,
        }],
        jwt_authorities: vec![types::JwtKey {
            public_key: ca.public_key().spki_der().to_vec().into(),
            key_id: "kid".to_owned(),
            ..Default::default()
        }],
        sequence_number: 1,
        ..Default::default()
    }
}
