//! SPIFFE IDs, trust domains and ID patterns against the rules of SPIFFE-ID §2, written a second time here. Both ways: what is
//! accepted obeys them, what obeys them is accepted.
#![no_main]

use landfast_identity::{IdPattern, SpiffeId, TrustDomain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let id = SpiffeId::parse(text);
    assert_eq!(id.is_ok(), is_id(text), "{text:?}: {id:?}");
    if let Ok(id) = &id {
        same_again(id, text);
    }
    let name = text.strip_prefix("spiffe://").unwrap_or(text);
    let domain = TrustDomain::parse(text);
    assert_eq!(domain.is_ok(), is_name(name), "{text:?}: {domain:?}");
    if let Ok(domain) = domain {
        assert_eq!(domain.as_str(), name);
        assert_eq!(TrustDomain::parse(&domain.id_string()), Ok(domain.clone()));
        assert_eq!(domain.id().as_str(), domain.id_string());
    }
    pattern(text);
});

fn same_again(id: &SpiffeId, text: &str) {
    assert_eq!(id.as_str(), text);
    assert_eq!(id.to_string(), text);
    let again = SpiffeId::from_parts(id.trust_domain(), id.path());
    assert_eq!(again.as_ref(), Ok(id));
    assert_eq!(
        id.is_reserved(),
        id.path() == "/spire" || id.path().starts_with("/spire/")
    );
    assert!(!id.is_agent() || id.is_reserved());
}

fn pattern(text: &str) {
    let base = text.strip_suffix("/*");
    let parsed = IdPattern::parse(text);
    assert_eq!(
        parsed.is_ok(),
        is_id(base.unwrap_or(text)),
        "{text:?}: {parsed:?}"
    );
    let Ok(pattern) = parsed else { return };
    assert_eq!(pattern.to_string(), text);
    let itself = SpiffeId::parse(base.unwrap_or(text));
    assert!(itself.is_ok_and(|id| pattern.matches(&id) == base.is_none()));
    if let Some(below) = base.and_then(|base| SpiffeId::parse(&format!("{base}/x")).ok()) {
        assert!(pattern.matches(&below));
    }
    if let Some(beside) = base.and_then(|base| SpiffeId::parse(&format!("{base}x")).ok()) {
        assert!(!pattern.matches(&beside));
    }
}

/// SPIFFE-ID §2.1 to §2.3, by bytes.
fn is_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else {
        return false;
    };
    let mut parts = rest.split('/');
    let name = parts.next().unwrap_or_default();
    let segment = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    text.len() <= 2048 && is_name(name) && parts.all(segment)
}

fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}
