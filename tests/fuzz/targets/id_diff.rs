//! Our SPIFFE IDs beside those of the `spiffe` crate. Whatever differs must be one of the reasons named here.
#![no_main]

use landfast_identity::{SpiffeId, TrustDomain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    ids(text);
    domains(text);
});

fn ids(text: &str) {
    match (SpiffeId::parse(text), spiffe::SpiffeId::new(text)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.as_str(), theirs.to_string());
            assert_eq!(ours.trust_domain().as_str(), theirs.trust_domain_name());
            assert_eq!(ours.path(), theirs.path());
        }
        (Err(_), Err(_)) => {}
        (Ok(ours), Err(theirs)) => panic!("only we accept {ours}: {theirs}"),
        (Err(ours), Ok(theirs)) => {
            let canonical = theirs.to_string();
            assert!(
                too_long(text)
                    || (has_other_spelling(text, &canonical) && SpiffeId::parse(&canonical).is_ok()),
                "only they accept {text:?}: {ours}"
            );
        }
    }
}

fn domains(text: &str) {
    match (TrustDomain::parse(text), spiffe::TrustDomain::new(text)) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours.as_str(), theirs.as_str()),
        (Err(_), Err(_)) => {}
        (Ok(ours), Err(theirs)) => panic!("only we accept {ours}: {theirs}"),
        (Err(ours), Ok(theirs)) => assert!(
            is_of_an_id(text) || has_other_spelling(text, theirs.as_str()),
            "only they accept {text:?}: {ours}"
        ),
    }
}

/// SPIFFE-ID §2.3 wants 2048 bytes supported and no more than that made. We refuse more; `SpiffeId::new` does not count.
fn too_long(text: &str) -> bool {
    text.len() > 2048
}

/// SPIFFE-ID §2: scheme and trust domain are compared without case (RFC 3986 §6.2.2.1), and made in lower case. The crate puts what it
/// reads into lower case; for us there is one spelling, since two spellings of a name are two chances to disagree on who is meant.
fn has_other_spelling(text: &str, canonical: &str) -> bool {
    let name = |text: &str| {
        let end = text.find("://").map_or(0, |at| at + 3);
        let slash = text[end..].find('/').map_or(text.len(), |at| end + at);
        text[..slash].bytes().any(|b| b.is_ascii_uppercase())
    };
    name(text)
        && !name(canonical)
        && text
            .to_ascii_lowercase()
            .ends_with(&canonical.to_ascii_lowercase())
}

/// `TrustDomain::new` takes the trust domain of `spiffe://name/anything at all`; ours takes a name, or `spiffe://name`.
fn is_of_an_id(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(scheme, rest)| scheme.eq_ignore_ascii_case("spiffe") && rest.contains('/'))
}
