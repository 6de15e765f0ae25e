//! Tokens signed with a key of ours around any header and claims, judged by us and by `jsonwebtoken`; then changed, which we must see.
//!
//! Input: header, a zero byte, claims, a zero byte, and two bytes that say what to change.
#![no_main]

use std::fmt;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use landfast_fuzz::fixed::{NOW, device_key, jwt_bundles};
use landfast_identity::{BundleSet, DeviceKey, JwtSvid, SpiffeId, jwt};
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

struct Keys {
    signer: DeviceKey,
    bundles: BundleSet,
    decoding: DecodingKey,
    validation: Validation,
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let (Some(header), Some(claims)) = (parts.next(), parts.next()) else {
        return;
    };
    let keys = keys();
    let token = sign(&keys.signer, header, claims);
    let ours = jwt::verify(&token, &keys.bundles, AUDIENCE, NOW);
    let theirs = jsonwebtoken::decode::<Value>(&token, &keys.decoding, &keys.validation);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert!(!we_are_stricter(header, claims), "we should be stricter: {token}");
            same(ours, &theirs.claims);
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => panic!("only we accept {token}: {error}"),
        (Err(error), Ok(_)) => assert!(
            we_are_stricter(header, claims) || token.len() > 16 * 1024,
            "only they accept {token}: {error}"
        ),
    }
    if ours.is_ok() {
        let change = parts.next().unwrap_or_default();
        refuses_changed(&token, change, &keys.bundles);
    }
});

fn sign(signer: &DeviceKey, header: &[u8], claims: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = signer.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn same(ours: &JwtSvid, theirs: &Value) {
    assert_eq!(
        theirs.get("sub").and_then(Value::as_str),
        Some(ours.id().as_str())
    );
    assert_eq!(
        theirs.get("exp").and_then(Value::as_i64),
        Some(ours.expires_at().as_secs())
    );
    assert_eq!(Some(ours.claims()), theirs.as_object());
}

/// Another letter anywhere: a bit of header, claims or signature, or a dot in the wrong place.
fn refuses_changed(token: &str, change: &[u8], bundles: &BundleSet) {
    let letter = |at: usize| change.get(at).copied().map_or(at, usize::from);
    let mut bytes = token.as_bytes().to_vec();
    let at = (letter(0) * 256 + letter(1)) % bytes.len();
    let other = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
    for replacement in [other[letter(2) % other.len()], bytes[at] ^ 1] {
        let before = std::mem::replace(&mut bytes[at], replacement);
        let changed = String::from_utf8_lossy(&bytes);
        assert!(
            before == replacement || jwt::verify(&changed, bundles, AUDIENCE, NOW).is_err(),
            "accepted after a change at {at}: {changed}"
        );
        bytes[at] = before;
    }
}

/// Why we refuse what jsonwebtoken takes. It reads JOSE for everybody; a JWT-SVID is less.
fn we_are_stricter(header: &[u8], claims: &[u8]) -> bool {
    let (Some(header), Some(claims)) = (Json::read(header), Json::read(claims)) else {
        return true;
    };
    // JWT-SVID §2, §3.3 with RFC 7515 §4, RFC 7519 §4: names are unique. And nobody nests sixteen deep.
    if header.twice || claims.twice || header.depth > 16 || claims.depth > 16 {
        return true;
    }
    let (header, claims) = (&header.value, &claims.value);
    // JWT-SVID §2: alg, kid and typ, nothing else; typ is JWT or JOSE. SPIFFE Bundle §4.2.3: the key is found by its kid.
    let only = |header: &Value| {
        header.as_object().is_some_and(|members| {
            members
                .keys()
                .all(|name| matches!(name.as_str(), "alg" | "kid" | "typ"))
        })
    };
    let typ = header.get("typ");
    if !only(header)
        || !typ.is_none_or(|typ| typ == "JWT" || typ == "JOSE")
        || header.get("kid").is_none_or(|kid| kid != "k")
    {
        return true;
    }
    // JWT-SVID §3.1: sub is a SPIFFE ID, of a workload, and its trust domain is one we have a bundle of.
    let sub = claims.get("sub").and_then(Value::as_str);
    let id = sub.and_then(|sub| SpiffeId::parse(sub).ok());
    if !id.is_some_and(|id| id.trust_domain().as_str() == "td.test" && !id.path().is_empty()) {
        return true;
    }
    // JWT-SVID §3.2: an audience of strings; an empty one names nobody.
    let name = |one: &Value| one.as_str().is_some_and(|one| !one.is_empty());
    let aud = claims.get("aud");
    let names = aud.is_some_and(|aud| match aud {
        Value::Array(all) => all.iter().all(name) && all.iter().any(|one| one == AUDIENCE),
        one => one == AUDIENCE,
    });
    // JWT-SVID §3.3, RFC 7519 §2 NumericDate: whole seconds up to the year 9999, with an exp to come. jsonwebtoken reads the machine's
    // clock, so it is told not to look at times.
    let moment = |name: &str| {
        claims
            .get(name)
            .map(|value| value.as_u64().filter(|secs| *secs <= 253_402_300_799))
    };
    let now = NOW.as_secs().unsigned_abs();
    let exp = moment("exp").flatten().is_some_and(|exp| exp > now);
    let nbf = moment("nbf").is_none_or(|nbf| nbf.is_some_and(|nbf| nbf <= now));
    let iat = moment("iat").is_none_or(|iat| iat.is_some());
    !(names && exp && nbf && iat)
}

/// A JSON value, with what serde_json's own type forgets.
struct Json {
    value: Value,
    twice: bool,
    depth: usize,
}

impl Json {
    fn read(text: &[u8]) -> Option<Self> {
        let value = serde_json::from_slice(text).ok()?;
        let mut shape = Shape {
            twice: false,
            depth: 0,
        };
        let mut reader = serde_json::Deserializer::from_slice(text);
        Look(&mut shape, 1).look(&mut reader).ok()?;
        Some(Self {
            value,
            twice: shape.twice,
            depth: shape.depth,
        })
    }
}

struct Shape {
    twice: bool,
    depth: usize,
}

struct Look<'a>(&'a mut Shape, usize);

impl Look<'_> {
    fn look<'de, D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Look<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        self.look(reader)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.depth = self.0.depth.max(self.1);
        while items.next_element_seed(Look(self.0, self.1 + 1))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.0.depth = self.0.depth.max(self.1);
        let mut names = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            self.0.twice |= names.contains(&name);
            names.push(name);
            members.next_value_seed(Look(self.0, self.1 + 1))?;
        }
        Ok(())
    }
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let signer = device_key();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["aud"]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let public = landfast_fuzz::fixed::key().public_key();
        Keys {
            decoding: DecodingKey::from_ec_der(point(public.spki_der())),
            bundles: jwt_bundles(),
            signer,
            validation,
        }
    })
}

const AUDIENCE: &str = "aud.test";

/// The uncompressed point of a P-256 key: what a SubjectPublicKeyInfo ends with.
fn point(spki: &[u8]) -> &[u8] {
    &spki[spki.len() - 65..]
}
