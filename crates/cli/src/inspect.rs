//! `landfast svid inspect`: says what a file holds. It verifies nothing, and says so of a token.

use std::io::Read as _;
use std::path::Path;

use landfast_identity::{
    Bundle, Certificate, JwtSvid, PrivateKey, PublicKey, TrustDomain, WitSvid, jwt, parse_chain_der, wit,
};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(file: &Path, globals: &Globals) -> Result<(), Failure> {
    let found = find(&read(file)?).ok_or_else(|| {
        Failure::failed(
            format!(
                "{}: neither a certificate, a key, a token nor a bundle",
                file.display()
            ),
            "PEM or DER certificates, a PKCS#8 EC key, a JWT-SVID, a WIT-SVID or a SPIFFE bundle document can be shown",
        )
    })?;
    if globals.json() {
        return output::print_json(&found.iter().map(Found::to_json).collect());
    }
    let parts: Vec<String> = found.iter().map(Found::for_people).collect();
    output::print(&parts.join("\n\n"))
}

/// A whole file, or standard input for `-`.
pub(crate) fn read_text(file: &Path) -> Result<String, Failure> {
    String::from_utf8(read(file)?)
        .map_err(|error| Failure::failed(format!("{}: {error}", file.display()), "a text file is wanted"))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(LIMIT + 1).read_to_end(&mut content)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(LIMIT + 1).read_to_end(&mut content))
    };
    let shown = file.display();
    read.map_err(|error| {
        Failure::failed(
            format!("cannot read {shown}: {error}"),
            "give a file, or - for standard input",
        )
    })?;
    if content.len() as u64 > LIMIT {
        return Err(Failure::failed(
            format!("{shown} is larger than 4 MiB"),
            "this is no file of ours",
        ));
    }
    Ok(content)
}

enum Found {
    Certificate(Box<Certificate>),
    Key(PublicKey),
    Token(Box<JwtSvid>),
    Wit(Box<WitSvid>),
    Bundle(Bundle),
}

fn find(content: &[u8]) -> Option<Vec<Found>> {
    if let Ok(text) = std::str::from_utf8(content) {
        let text = text.trim();
        if text.contains("-----BEGIN ") {
            return find_pem(text);
        }
        if text.starts_with('{') {
            let nobody = TrustDomain::parse("inspected.invalid").ok()?;
            return Bundle::from_jwks(nobody, text.as_bytes())
                .ok()
                .map(|bundle| vec![Found::Bundle(bundle)]);
        }
        if let Ok(token) = jwt::parse_unverified(text) {
            return Some(vec![Found::Token(Box::new(token))]);
        }
        if let Ok(token) = wit::parse_unverified(text) {
            return Some(vec![Found::Wit(Box::new(token))]);
        }
    }
    if let Ok(chain) = parse_chain_der(content) {
        return Some(
            chain
                .into_iter()
                .map(|one| Found::Certificate(Box::new(one)))
                .collect(),
        );
    }
    PrivateKey::from_pkcs8_der(content.to_vec())
        .ok()
        .map(|key| vec![Found::Key(key.public_key())])
}

/// Every block must be understood: half an answer about a credential misleads.
fn find_pem(text: &str) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    for block in text.split("-----BEGIN ").skip(1) {
        let block = format!("-----BEGIN {block}");
        if block.starts_with("-----BEGIN CERTIFICATE-----") {
            let chain = landfast_identity::parse_chain_pem(&block).ok()?;
            found.extend(chain.into_iter().map(|one| Found::Certificate(Box::new(one))));
        } else {
            found.push(Found::Key(PrivateKey::from_pem(&block).ok()?.public_key()));
        }
    }
    Some(found)
}

impl Found {
    fn for_people(&self) -> String {
        match self {
            Self::Certificate(one) => output::facts(&[
                (
                    if one.is_ca() { "authority" } else { "certificate" },
                    one.spiffe_id()
                        .map_or_else(|_| one.subject(), |id| id.to_string()),
                ),
                ("subject", one.subject()),
                ("valid from", output::when(one.not_before().as_secs(), "1970")),
                ("valid until", output::when(one.not_after().as_secs(), "1970")),
                ("serial", one.serial_hex()),
                ("key", key_words(one.public_key())),
                ("DNS names", output::lines(one.dns_sans(), "none")),
                ("SHA-256", hex(&one.fingerprint_sha256())),
            ]),
            Self::Key(key) => output::facts(&[("private key", key_words(key))]),
            Self::Token(token) => output::facts(&[
                ("token", token.id().to_string()),
                ("meant for", output::lines(token.audience(), "nobody")),
                (
                    "issued",
                    output::when(
                        token.issued_at().map_or(0, landfast_identity::UnixTime::as_secs),
                        "not said",
                    ),
                ),
                ("valid until", output::when(token.expires_at().as_secs(), "1970")),
                ("key id", token.key_id().to_owned()),
                ("signature", "not verified: landfast jwt validate does".to_owned()),
            ]),
            Self::Wit(token) => output::facts(&[
                ("WIT-SVID", token.id().to_string()),
                ("worth", "nothing without a proof that its key is held".to_owned()),
                ("its key", key_words(token.confirmation_key())),
                ("proof by", token.confirmation_algorithm().to_owned()),
                ("valid until", output::when(token.expires_at().as_secs(), "1970")),
                ("key id", token.key_id().to_owned()),
                ("signature", "not verified".to_owned()),
            ]),
            Self::Bundle(bundle) => output::facts(&[
                ("bundle", format!("sequence {}", bundle.sequence())),
                (
                    "X.509",
                    output::lines(
                        bundle
                            .x509_authorities()
                            .iter()
                            .map(|one| authority(&one.certificate)),
                        "no authorities",
                    ),
                ),
                (
                    "JWT",
                    output::lines(
                        bundle
                            .jwt_authorities()
                            .iter()
                            .map(|key| format!("key id {}", key.key_id)),
                        "no keys",
                    ),
                ),
                (
                    "WIT",
                    output::lines(
                        bundle
                            .wit_authorities()
                            .iter()
                            .map(|key| format!("key id {}", key.key_id)),
                        "no keys",
                    ),
                ),
            ]),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Certificate(one) => json!({
                "kind": "certificate", "spiffe_id": one.spiffe_id().ok().map(|id| id.to_string()), "ca": one.is_ca(),
                "subject": one.subject(), "serial": one.serial_hex(), "not_before": one.not_before().to_string(),
                "not_after": one.not_after().to_string(), "dns_names": one.dns_sans(), "uris": one.uri_sans(),
                "key": key_words(one.public_key()), "sha256": hex(&one.fingerprint_sha256()),
            }),
            Self::Key(key) => json!({"kind": "private_key", "key": key_words(key)}),
            Self::Token(token) => json!({
                "kind": "jwt", "spiffe_id": token.id().as_str(), "audience": token.audience(), "key_id": token.key_id(),
                "expires_at": token.expires_at().to_string(), "claims": token.claims(), "verified": false,
            }),
            Self::Wit(token) => json!({
                "kind": "wit", "spiffe_id": token.id().as_str(), "key_id": token.key_id(),
                "confirmation_key": key_words(token.confirmation_key()), "confirmation_algorithm": token.confirmation_algorithm(),
                "expires_at": token.expires_at().to_string(), "verified": false,
            }),
            Self::Bundle(bundle) => json!({
                "kind": "bundle", "sequence": bundle.sequence(), "x509_authorities": bundle.x509_authorities().len(),
                "jwt_authorities": bundle.jwt_authorities().iter().map(|key| &key.key_id).collect::<Vec<_>>(),
                "wit_authorities": bundle.wit_authorities().iter().map(|key| &key.key_id).collect::<Vec<_>>(),
            }),
        }
    }
}

fn authority(certificate: &Certificate) -> String {
    format!(
        "{}, until {}",
        certificate.subject(),
        output::when(certificate.not_after().as_secs(), "1970")
    )
}

/// So that a certificate and its key can be compared by eye.
fn key_words(key: &PublicKey) -> String {
    format!(
        "{:?}, {} bits, SHA-256 {}",
        key.algorithm(),
        key.bits(),
        hex(&key.sha256())
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const LIMIT: u64 = 4 * 1024 * 1024;
