//! One parsed certificate. Invariant: v3, no extension twice, every known extension well formed, a key we accept.

use std::fmt;
use std::sync::Arc;

use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use crate::id::SpiffeId;
use crate::pem;
use crate::public_key::PublicKey;
use crate::unix_time::UnixTime;
use crate::x509_error::{ChainRole, X509Error};

/// One X.509 certificate. Cheap to clone; equal when the DER is equal.
#[derive(Clone)]
pub struct Certificate(Arc<Fields>);

#[derive(Default)]
pub(crate) struct Extensions {
    pub(crate) uri_sans: Vec<String>,
    pub(crate) dns_sans: Vec<String>,
    pub(crate) is_ca: bool,
    pub(crate) path_len: Option<u32>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Option<ExtendedKeyUsage>,
    pub(crate) name_constraints: bool,
    pub(crate) uri_name_constraint: bool,
    pub(crate) unknown_critical: bool,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
}

#[derive(Clone, Copy)]
pub(crate) struct KeyUsage {
    pub(crate) critical: bool,
    pub(crate) digital_signature: bool,
    pub(crate) cert_sign: bool,
    pub(crate) crl_sign: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct ExtendedKeyUsage {
    pub(crate) server: bool,
    pub(crate) client: bool,
}

struct Fields {
    der: Vec<u8>,
    serial: Vec<u8>,
    not_before: UnixTime,
    not_after: UnixTime,
    subject: String,
    common_name: Option<String>,
    subject_raw: Vec<u8>,
    issuer_raw: Vec<u8>,
    public_key: PublicKey,
    extensions: Extensions,
}

impl Certificate {
    /// Reads exactly one DER certificate.
    ///
    /// # Errors
    /// When it is malformed, followed by other bytes, not v3, carries an extension twice, or its key is refused.
    pub fn from_der(der: &[u8]) -> Result<Self, X509Error> {
        let (certificate, rest) = Self::take_der(der)?;
        if rest.is_empty() {
            Ok(certificate)
        } else {
            Err(malformed("bytes after the certificate"))
        }
    }

    fn take_der(der: &[u8]) -> Result<(Self, &[u8]), X509Error> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| malformed(&e.to_string()))?;
        let tbs = &parsed.tbs_certificate;
        if tbs.version != X509Version::V3 {
            return Err(X509Error::Version);
        }
        let public_key = PublicKey::from_spki_der(tbs.subject_pki.raw).map_err(|source| X509Error::Key {
            role: ChainRole::Leaf,
            source,
        })?;
        let serial = serial(tbs.raw_serial()).ok_or_else(|| {
            malformed("the serial number is negative, not in its shortest form, or of more than 20 octets")
        })?;
        let fields = Fields {
            der: der[..der.len() - rest.len()].to_vec(),
            serial: serial.to_vec(),
            not_before: UnixTime::from_secs(tbs.validity.not_before.timestamp()),
            not_after: UnixTime::from_secs(tbs.validity.not_after.timestamp()),
            subject: tbs.subject.to_string(),
            common_name: tbs
                .subject
                .iter_common_name()
                .next()
                .and_then(|n| n.as_str().ok())
                .map(str::to_owned),
            subject_raw: tbs.subject.as_raw().to_vec(),
            issuer_raw: tbs.issuer.as_raw().to_vec(),
            public_key,
            extensions: Extensions::of(&parsed)?,
        };
        Ok((Self(Arc::new(fields)), rest))
    }

    /// The DER bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.0.der
    }

    /// The certificate as a PEM block.
    pub fn to_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.0.der).to_string()
    }

    /// First second of validity.
    pub fn not_before(&self) -> UnixTime {
        self.0.not_before
    }

    /// Last second of validity.
    pub fn not_after(&self) -> UnixTime {
        self.0.not_after
    }

    /// The serial number in lower-case hex, two digits a byte, without the sign byte of its encoding.
    pub fn serial_hex(&self) -> String {
        hex(&self.0.serial)
    }

    /// The serial number, big-endian, without the sign byte of its encoding.
    pub fn serial(&self) -> &[u8] {
        &self.0.serial
    }

    /// The SPIFFE ID: the only URI SAN, read strictly. It may lack a path.
    ///
    /// # Errors
    /// When there is no URI SAN, more than one, or it is no SPIFFE ID.
    pub fn spiffe_id(&self) -> Result<SpiffeId, X509Error> {
        match self.extensions().uri_sans.as_slice() {
            [] => Err(X509Error::NoUriSan),
            [uri] => SpiffeId::parse(uri).map_err(|source| X509Error::SpiffeId { source }),
            several => Err(X509Error::SeveralUriSans { count: several.len() }),
        }
    }

    /// The subject's public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// Whether BasicConstraints say CA.
    pub fn is_ca(&self) -> bool {
        self.extensions().is_ca
    }

    /// The subject key identifier.
    pub fn subject_key_id(&self) -> Option<Vec<u8>> {
        self.extensions().subject_key_id.clone()
    }

    /// The authority key identifier.
    pub fn authority_key_id(&self) -> Option<Vec<u8>> {
        self.extensions().authority_key_id.clone()
    }

    /// Whether this names that one as its issuer: by name, and by key identifier where both say one. No signature is looked at.
    pub fn names_as_issuer(&self, issuer: &Self) -> bool {
        let (own, theirs) = (self.extensions(), issuer.extensions());
        let ids = (&own.authority_key_id, &theirs.subject_key_id);
        self.issuer_raw() == issuer.subject_raw() && !matches!(ids, (Some(a), Some(b)) if a != b)
    }

    /// The subject for humans, `C=US, O=…`.
    pub fn subject(&self) -> String {
        self.0.subject.clone()
    }

    /// The first common name of the subject.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }

    /// The DNS SANs.
    pub fn dns_sans(&self) -> &[String] {
        &self.extensions().dns_sans
    }

    /// The URI SANs, whatever they hold.
    pub fn uri_sans(&self) -> &[String] {
        &self.extensions().uri_sans
    }

    /// SHA-256 of the DER.
    pub fn fingerprint_sha256(&self) -> [u8; 32] {
        crate::key::sha256(&self.0.der)
    }

    /// SHA-1 of the DER: the name that SPIRE gives to x509pop agents. A name, not a security property.
    pub fn fingerprint_sha1(&self) -> [u8; 20] {
        let mut out = [0; 20];
        out.copy_from_slice(
            ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &self.0.der).as_ref(),
        );
        out
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    pub(crate) fn subject_raw(&self) -> &[u8] {
        &self.0.subject_raw
    }

    pub(crate) fn issuer_raw(&self) -> &[u8] {
        &self.0.issuer_raw
    }
}

impl Extensions {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, X509Error> {
        let mut out = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        for extension in certificate.iter_extensions() {
            if seen.contains(&extension.oid.as_bytes()) {
                return Err(X509Error::DuplicateExtension);
            }
            seen.push(extension.oid.as_bytes());
            out.read(extension.parsed_extension(), extension.critical)?;
        }
        Ok(out)
    }

    fn read(&mut self, parsed: &ParsedExtension<'_>, critical: bool) -> Result<(), X509Error> {
        match parsed {
            ParsedExtension::ParseError { error } => return Err(malformed(&error.to_string())),
            ParsedExtension::BasicConstraints(bc) => {
                self.is_ca = bc.ca;
                self.path_len = bc.path_len_constraint;
            }
            ParsedExtension::KeyUsage(ku) => {
                self.key_usage = Some(KeyUsage {
                    critical,
                    digital_signature: ku.digital_signature(),
                    cert_sign: ku.key_cert_sign(),
                    crl_sign: ku.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(eku) => {
                self.extended_key_usage = Some(ExtendedKeyUsage {
                    server: eku.server_auth,
                    client: eku.client_auth,
                });
            }
            ParsedExtension::SubjectAlternativeName(san) => {
                for name in &san.general_names {
                    match name {
                        GeneralName::URI(uri) => self.uri_sans.push((*uri).to_owned()),
                        GeneralName::DNSName(dns) => self.dns_sans.push((*dns).to_owned()),
                        GeneralName::Invalid(..) => {
                            return Err(malformed("a subject alternative name is unreadable"));
                        }
                        _ => {}
                    }
                }
            }
            ParsedExtension::NameConstraints(nc) => {
                self.name_constraints = true;
                let subtrees = nc
                    .permitted_subtrees
                    .iter()
                    .chain(&nc.excluded_subtrees)
                    .flatten();
                // RFC 5280 §4.2.1.10; an authority that was to be bound and is not must not pass for one that is.
                if subtrees.clone().next().is_none() {
                    return Err(malformed("name constraints without a name"));
                }
                for subtree in subtrees {
                    match &subtree.base {
                        GeneralName::URI(_) => self.uri_name_constraint = true,
                        GeneralName::Invalid(tag, _) if tag.0 == URI_TAG => self.uri_name_constraint = true,
                        _ => {}
                    }
                }
            }
            // Never critical (RFC 5280 §4.2.1.1, §4.2.1.2); the path validator knows no such critical extension either.
            ParsedExtension::SubjectKeyIdentifier(id) => {
                self.unknown_critical |= critical;
                self.subject_key_id = Some(id.0.to_vec());
            }
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.unknown_critical |= critical;
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => self.unknown_critical |= critical,
        }
        Ok(())
    }
}

/// The magnitude of a serial number. Only one spelling of one number: records know a certificate by it. Zero is accepted, since
/// roots of plants carry it (RFC 5280 §4.1.2.2).
fn serial(raw: &[u8]) -> Option<&[u8]> {
    let magnitude = match raw {
        [0] => raw,
        [0, magnitude @ ..] if magnitude[0] & 0x80 != 0 => magnitude,
        [1..=0x7f, ..] => raw,
        _ => return None,
    };
    (magnitude.len() <= MAX_SERIAL).then_some(magnitude)
}

fn malformed(detail: &str) -> X509Error {
    X509Error::Malformed {
        detail: detail.to_owned(),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
            write!(out, "{b:02x}").expect("a String takes every write");
            out
        })
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, serial {})", self.0.subject, self.serial_hex())
    }
}

/// Reads DER certificates that stand one behind the other, as the Workload API sends them.
///
/// # Errors
/// When one is refused, when there is none, or when there are more than 256.
pub fn parse_chain_der(concatenated: &[u8]) -> Result<Vec<Certificate>, X509Error> {
    let mut rest = concatenated;
    let mut chain = Vec::new();
    while !rest.is_empty() {
        if chain.len() == MAX_CERTIFICATES {
            return Err(X509Error::ChainTooLong {
                count: chain.len() + 1,
            });
        }
        let (certificate, after) = Certificate::take_der(rest)?;
        chain.push(certificate);
        rest = after;
    }
    if chain.is_empty() {
        Err(X509Error::EmptyChain)
    } else {
        Ok(chain)
    }
}

/// Reads every `CERTIFICATE` block of a PEM text.
///
/// # Errors
/// When a block is broken or refused, when there is none, or when there are more than 256.
pub fn parse_chain_pem(text: &str) -> Result<Vec<Certificate>, X509Error> {
    let blocks = pem::blocks(text, pem::CERTIFICATE).ok_or(X509Error::Pem)?;
    match blocks.len() {
        0 => Err(X509Error::Pem),
        1..=MAX_CERTIFICATES => blocks.iter().map(|der| Certificate::from_der(der)).collect(),
        count => Err(X509Error::ChainTooLong { count }),
    }
}

/// The certificates as PEM blocks, in order.
pub fn chain_to_pem(chain: &[Certificate]) -> String {
    chain.iter().map(Certificate::to_pem).collect()
}

const URI_TAG: u32 = 6;
/// RFC 5280 §4.1.2.2.
const MAX_SERIAL: usize = 20;
const MAX_CERTIFICATES: usize = 256;

#[cfg(test)]
mod tests;
