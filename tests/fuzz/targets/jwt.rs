//! Tokens as strangers send them: parsed, and verified with the bundles of the vectors. Nobody here has a private key of those, so what
//! is accepted must be, up to the last dot, one of the tokens that the vectors say was signed.
#![no_main]

use std::collections::HashSet;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landfast_fuzz::fixed::{NOW, domain};
use landfast_fuzz::vectors::Vector;
use landfast_identity::{Bundle, BundleSet, JwtSvid, jwt};
use libfuzzer_sys::fuzz_target;

struct Known {
    bundles: BundleSet,
    signed: HashSet<String>,
}

fuzz_target!(|token: &str| {
    let known = known();
    let parsed = jwt::parse_unverified(token);
    let verified = jwt::verify(token, &known.bundles, AUDIENCE, NOW);
    match (&parsed, &verified) {
        (Ok(parsed), _) => same_again(parsed, token),
        (Err(_), Ok(_)) => panic!("verified, but no token: {token}"),
        (Err(_), Err(_)) => {}
    }
    if let Ok(svid) = verified {
        let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
        assert!(
            known.signed.contains(signed),
            "accepted, but never signed: {token}"
        );
        assert!(svid.expires_at() > NOW);
        assert!(svid.audience().iter().any(|one| one == AUDIENCE));
        let bundle = known.bundles.get(svid.id().trust_domain());
        assert!(bundle.is_some_and(|bundle| bundle.jwt_authority(svid.key_id()).is_some()));
    }
});

/// What was read, written again as plainly as possible, reads the same.
fn same_again(svid: &JwtSvid, token: &str) {
    assert_eq!(svid.token(), token);
    assert!(token.len() <= 16 * 1024 && token.bytes().all(|b| b.is_ascii_graphic()));
    assert!(!svid.id().path().is_empty() && !svid.key_id().is_empty());
    assert!(!svid.audience().is_empty() && svid.audience().iter().all(|one| !one.is_empty()));
    let header = serde_json::json!({ "alg": "ES256", "kid": svid.key_id() });
    let claims = serde_json::Value::Object(svid.claims().clone());
    let b64 = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let written = format!("{}.{}.AA", b64(&header), b64(&claims));
    match jwt::parse_unverified(&written) {
        Ok(again) => {
            assert_eq!(
                (
                    again.id(),
                    again.audience(),
                    again.expires_at(),
                    again.issued_at()
                ),
                (svid.id(), svid.audience(), svid.expires_at(), svid.issued_at())
            );
            assert_eq!((again.claims(), again.key_id()), (svid.claims(), svid.key_id()));
        }
        // JSON escapes can make it longer than what was read.
        Err(jwt::JwtError::TooLarge { .. }) => {}
        Err(error) => panic!("{claims}: {error}"),
    }
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let vectors = Vector::all("jwt");
        let model = vectors
            .iter()
            .find(|vector| vector.name == "ok-es256")
            .expect("the positive control");
        let bundles = model.fields().filter_map(|(name, document)| {
            let name = name.strip_prefix("bundle ")?;
            Bundle::from_jwks(domain(name), document.as_bytes()).ok()
        });
        // What is refused for another reason than its signature was signed as well.
        let signed = vectors
            .iter()
            .filter(|vector| {
                matches!(
                    vector.expected(),
                    "ok" | "Expired" | "NotYetValid" | "WrongAudience"
                )
            })
            .filter_map(|vector| vector.body.trim_end().strip_prefix("token: ")?.rsplit_once('.'))
            .map(|(signed, _)| signed.to_owned());
        Known {
            bundles: bundles.collect(),
            signed: signed.collect(),
        }
    })
}

const AUDIENCE: &str = "aud.test";
