//! Building certificates. Invariant: built from the parameters alone; what comes out was read back and meets the standard.

mod adapter;
mod error;

pub use error::IssueError;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::certificate::Certificate;
use crate::id::SpiffeId;
use crate::key::{KeyError, Signer};
use crate::public_key::PublicKey;
use crate::trust_domain::TrustDomain;
use crate::unix_time::UnixTime;

use adapter::{Adapter, SubjectKey};

/// What a self-signed authority is built from.
#[derive(Debug)]
pub struct AuthorityParams<'a> {
    /// Its trust domain; becomes the URI SAN.
    pub trust_domain: &'a TrustDomain,
    /// Its name; becomes the serialNumber of the subject, so that each authority has a subject of its own.
    pub authority_id: &'a str,
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity.
    pub not_after: UnixTime,
}

/// A CA certificate that signs itself: `C=US, O=SPIFFE, serialNumber=<authority ID>`, URI SAN `spiffe://td`, critical
/// key usage keyCertSign and cRLSign, subject and authority key identifier, random serial.
///
/// # Errors
/// When the parameters make no certificate, or the signer fails.
pub fn self_signed_authority(
    p: &AuthorityParams<'_>,
    signer: &dyn Signer,
) -> Result<Certificate, IssueError> {
    let key = signer.public_key();
    let mut params = authority(p.trust_domain, &key, p.not_before, p.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    params.distinguished_name.push(
        DnType::CustomDnType(SERIAL_NUMBER.to_vec()),
        printable(p.authority_id)?,
    );
    let adapter = Adapter::new(signer)?;
    let built = params.self_signed(&adapter);
    adapter.finish(built)
}

/// What a subordinate authority's certificate says: that of a server below this one.
#[derive(Debug)]
pub struct SubordinateParams<'a> {
    /// Whose authority it is.
    pub trust_domain: &'a TrustDomain,
    /// Its key.
    pub public_key: &'a PublicKey,
    /// 16 random bytes, as from [`random_serial`].
    pub serial: [u8; 16],
    /// From when it is valid.
    pub not_before: UnixTime,
    /// Until when it is valid.
    pub not_after: UnixTime,
}

/// Builds the certificate of an authority below `issuer` (X509-SVID §3.2, §4.1-4.3). It can sign any identity of the trust domain, also
/// authorities below itself.
///
/// # Errors
/// When the validity is empty or outlives the issuer's, `signer` is not the issuer's key, or signing fails.
pub fn subordinate_authority(
    p: &SubordinateParams<'_>,
    issuer: &Certificate,
    signer: &dyn Signer,
) -> Result<Certificate, IssueError> {
    within(p.not_after, p.serial, issuer, signer)?;
    let mut params = authority(p.trust_domain, p.public_key, p.not_before, p.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(&p.serial));
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, "DOWNSTREAM");
    let hex: String = p.public_key.key_id().iter().map(|b| format!("{b:02x}")).collect();
    params
        .distinguished_name
        .push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), printable(&hex)?);
    signed_by(&params, p.public_key, issuer, signer)
}

/// What a leaf is built from. Nothing of a request is here but its key.
#[derive(Debug)]
pub struct LeafParams<'a> {
    /// Its SPIFFE ID, with a path.
    pub id: &'a SpiffeId,
    /// The key it certifies.
    pub public_key: &'a PublicKey,
    /// DNS SANs; the first also becomes the common name when it fits in 64 bytes.
    pub dns_names: &'a [String],
    /// Serial number, big-endian, from a random source; not zero.
    pub serial: [u8; 16],
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity; not after the issuer's.
    pub not_after: UnixTime,
}

/// A leaf X509-SVID: subject `C=US, O=SPIRE`, one URI SAN, explicit CA=false, critical key usage digitalSignature,
/// keyEncipherment and keyAgreement, extended key usage server and client, key identifiers, no CRL distribution point.
///
/// # Errors
/// When the ID has no path, the validity is empty or ends after the issuer's, a DNS name is malformed, the signer is
/// not the issuer's key, or the signer fails.
pub fn leaf(
    p: &LeafParams<'_>,
    issuer: &Certificate,
    signer: &dyn Signer,
) -> Result<Certificate, IssueError> {
    if p.id.path().is_empty() {
        return Err(IssueError::NoPath);
    }
    within(p.not_after, p.serial, issuer, signer)?;
    let mut params = base(p.not_before, p.not_after, p.public_key)?;
    params.serial_number = Some(SerialNumber::from_slice(&p.serial));
    params.distinguished_name = subject("SPIRE")?;
    if let Some(first) = p.dns_names.first().filter(|n| n.len() <= MAX_COMMON_NAME) {
        params.distinguished_name.push(DnType::CommonName, first.as_str());
    }
    params.subject_alt_names = sans(Some(p.id), p.dns_names)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyAgreement,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    signed_by(&params, p.public_key, issuer, signer)
}

/// What any authority's certificate says, whoever signs it.
fn authority(
    trust_domain: &TrustDomain,
    key: &PublicKey,
    not_before: UnixTime,
    not_after: UnixTime,
) -> Result<CertificateParams, IssueError> {
    let mut params = base(not_before, not_after, key)?;
    params.distinguished_name = subject("SPIFFE")?;
    params.subject_alt_names = vec![SanType::URI(ia5(&trust_domain.id_string())?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn within(
    not_after: UnixTime,
    serial: [u8; 16],
    issuer: &Certificate,
    signer: &dyn Signer,
) -> Result<(), IssueError> {
    if not_after > issuer.not_after() {
        return Err(IssueError::OutlivesIssuer {
            issuer_not_after: issuer.not_after(),
        });
    }
    if serial == [0; 16] {
        return Err(IssueError::ZeroSerial);
    }
    if *issuer.public_key() != signer.public_key() {
        return Err(IssueError::WrongSigner);
    }
    Ok(())
}

fn signed_by(
    params: &CertificateParams,
    key: &PublicKey,
    issuer: &Certificate,
    signer: &dyn Signer,
) -> Result<Certificate, IssueError> {
    let adapter = Adapter::new(signer)?;
    let rcgen_issuer = Issuer::from_ca_cert_der(&CertificateDer::from(issuer.as_der()), &adapter)
        .map_err(|source| IssueError::Build { source })?;
    let built = params.signed_by(&SubjectKey(key), &rcgen_issuer);
    drop(rcgen_issuer);
    let made = adapter.finish(built)?;
    // An upstream subject that our encoder spells differently would make a chain that nobody can follow.
    if made.issuer_raw() != issuer.subject_raw() {
        return Err(IssueError::IssuerName);
    }
    Ok(made)
}

/// A request for a certificate of this authority, as a server sends it to the one above: URI SAN `spiffe://td`.
///
/// # Errors
/// When signing fails.
pub fn authority_request(trust_domain: &TrustDomain, signer: &dyn Signer) -> Result<Vec<u8>, IssueError> {
    request(signer, Some(&trust_domain.id()), &[])
}

pub(crate) fn request(
    signer: &dyn Signer,
    id: Option<&SpiffeId>,
    dns: &[String],
) -> Result<Vec<u8>, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("SPIRE")?;
    params.subject_alt_names = sans(id, dns)?;
    let adapter = Adapter::new(signer)?;
    let built = params.serialize_request(&adapter);
    adapter.own_error()?;
    Ok(built
        .map_err(|source| IssueError::Build { source })?
        .der()
        .to_vec())
}

/// A serial number of 126 random bits, never zero.
///
/// # Errors
/// When the random source fails.
pub fn random_serial() -> Result<[u8; 16], IssueError> {
    let mut serial = [0; 16];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_unspecified| IssueError::Signing {
            source: KeyError::Random,
        })?;
    // The first byte is fixed to 01xxxxxx: positive without a sign byte, and always 32 hex digits.
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

fn base(not_before: UnixTime, not_after: UnixTime, key: &PublicKey) -> Result<CertificateParams, IssueError> {
    if not_after <= not_before {
        return Err(IssueError::EmptyValidity);
    }
    let mut params = CertificateParams::default();
    params.not_before = moment(not_before)?;
    params.not_after = moment(not_after)?;
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.key_id().to_vec());
    Ok(params)
}

/// X.509 has years 1950 to 9999; rcgen would panic outside of them.
fn moment(t: UnixTime) -> Result<OffsetDateTime, IssueError> {
    match OffsetDateTime::from_unix_timestamp(t.as_secs()) {
        Ok(moment) if (1950..=9999).contains(&moment.year()) => Ok(moment),
        _ => Err(IssueError::TimeRange { time: t }),
    }
}

fn subject(organisation: &str) -> Result<DistinguishedName, IssueError> {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, printable("US")?);
    name.push(DnType::OrganizationName, printable(organisation)?);
    Ok(name)
}

fn printable(text: &str) -> Result<DnValue, IssueError> {
    Ok(DnValue::PrintableString(
        text.try_into().map_err(|source| IssueError::Build { source })?,
    ))
}

fn ia5(text: &str) -> Result<rcgen::string::Ia5String, IssueError> {
    text.try_into().map_err(|source| IssueError::Build { source })
}

fn sans(id: Option<&SpiffeId>, dns: &[String]) -> Result<Vec<SanType>, IssueError> {
    let mut names = Vec::with_capacity(dns.len() + 1);
    if let Some(id) = id {
        names.push(SanType::URI(ia5(id.as_str())?));
    }
    for name in dns {
        if !is_dns_name(name) {
            return Err(IssueError::DnsName { name: name.clone() });
        }
        names.push(SanType::DnsName(ia5(name)?));
    }
    Ok(names)
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(label)
}

const MAX_COMMON_NAME: usize = 64;
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

#[cfg(test)]
mod tests;
