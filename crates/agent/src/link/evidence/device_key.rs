//! A device's private key as found in PEM files: EC P-256 or RSA, in PKCS#8, PKCS#1 or SEC 1.
//!
//! Invariant: a [`DeviceKey`] belongs to the certificate it was loaded for.

use base64::Engine as _;
use landfast_identity::PublicKey;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA256, RsaKeyPair,
};
use zeroize::Zeroizing;

pub(crate) enum DeviceKey {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DeviceKeyError {
    Unknown(&'static str),
    Mismatch,
}

impl DeviceKey {
    /// Reads the first private key of a PEM text and checks that it is `public`'s.
    pub(crate) fn from_pem(pem: &str, public: &PublicKey) -> Result<Self, DeviceKeyError> {
        let (label, der) = private_block(pem).ok_or(DeviceKeyError::Unknown("private key in PEM"))?;
        match label.as_str() {
            "RSA PRIVATE KEY" => rsa(RsaKeyPair::from_der(&der), public),
            "EC PRIVATE KEY" => ecdsa(&der, public),
            "PRIVATE KEY" => match ec_inside_pkcs8(&der) {
                Some(sec1) => ecdsa(sec1, public),
                None => rsa(RsaKeyPair::from_pkcs8(&der), public),
            },
            _ => Err(DeviceKeyError::Unknown(
                "unencrypted private key in PKCS#8, PKCS#1 or SEC 1",
            )),
        }
    }

    /// RSA-PSS with SHA-256, or ECDSA with SHA-256 as r and s of 32 bytes each.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ()> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PSS_SHA256, &random, message, &mut signature)
                    .map_err(drop)?;
                Ok(signature)
            }
            Self::Ecdsa(key) => Ok(key.sign(&random, message).map_err(drop)?.as_ref().to_vec()),
        }
    }
}

fn rsa(
    key: Result<RsaKeyPair, ring::error::KeyRejected>,
    public: &PublicKey,
) -> Result<DeviceKey, DeviceKeyError> {
    let key =
        key.map_err(|_cause| DeviceKeyError::Unknown("RSA key of 2048 to 4096 bits or EC P-256 key"))?;
    // The SPKI ends with the RSAPublicKey that ring gives us.
    if !public.spki_der().ends_with(key.public_key().as_ref()) {
        return Err(DeviceKeyError::Mismatch);
    }
    Ok(DeviceKey::Rsa(Box::new(key)))
}

/// The public half is taken from the certificate; ring refuses a pair that does not belong together.
fn ecdsa(sec1: &[u8], public: &PublicKey) -> Result<DeviceKey, DeviceKeyError> {
    const EXPECTED: &str = "EC key on P-256 (the server's challenge cannot be answered with other curves)";
    let scalar = sec1_scalar(sec1)
        .filter(|scalar| scalar.len() == 32)
        .ok_or(DeviceKeyError::Unknown(EXPECTED))?;
    let spki = public.spki_der();
    let point = spki
        .len()
        .checked_sub(65)
        .and_then(|at| spki.get(at..))
        .filter(|point| point.first() == Some(&4));
    let point = point.ok_or(DeviceKeyError::Mismatch)?;
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        scalar,
        point,
        &random,
    )
    .map_err(|_cause| DeviceKeyError::Mismatch)?;
    Ok(DeviceKey::Ecdsa(Box::new(key)))
}

/// Label and content of the first PEM block whose label ends in `PRIVATE KEY`.
fn private_block(pem: &str) -> Option<(String, Zeroizing<Vec<u8>>)> {
    let mut lines = pem.lines().map(str::trim);
    loop {
        let label = lines
            .next()?
            .strip_prefix("-----BEGIN ")
            .and_then(|l| l.strip_suffix("-----"));
        let Some(label) = label.filter(|label| label.ends_with("PRIVATE KEY")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut body = Zeroizing::new(String::with_capacity(pem.len()));
        loop {
            let line = lines.next()?;
            if line == end {
                break;
            }
            body.push_str(line);
        }
        let der = base64::engine::general_purpose::STANDARD
            .decode(body.as_bytes())
            .ok()?;
        return Some((label.to_owned(), Zeroizing::new(der)));
    }
}

/// RFC 5915: SEQUENCE { INTEGER 1, OCTET STRING key, … }.
fn sec1_scalar(der: &[u8]) -> Option<&[u8]> {
    let (body, _) = element(der, 0x30)?;
    let (version, rest) = element(body, 0x02)?;
    (version == [1]).then_some(())?;
    element(rest, 0x04).map(|(scalar, _)| scalar)
}

/// RFC 5208: SEQUENCE { INTEGER, SEQUENCE { OID, … }, OCTET STRING }, when the OID is id-ecPublicKey.
fn ec_inside_pkcs8(der: &[u8]) -> Option<&[u8]> {
    let (body, _) = element(der, 0x30)?;
    let (_, rest) = element(body, 0x02)?;
    let (algorithm, rest) = element(rest, 0x30)?;
    let (oid, _) = element(algorithm, 0x06)?;
    (oid == EC_PUBLIC_KEY).then_some(())?;
    element(rest, 0x04).map(|(sec1, _)| sec1)
}

/// One DER element of the given tag: its content, and what follows.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    (found == tag).then_some(())?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(a, rest)| (usize::from(*a), rest))?,
        0x82 => (
            usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?),
            rest.get(2..)?,
        ),
        _ => return None,
    };
    rest.split_at_checked(length)
}

const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
