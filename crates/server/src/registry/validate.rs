//! What an entry must be before it is stored. Invariant: everything issuance later builds a certificate from was judged here.

use std::collections::BTreeSet;

use landfast_identity::{SpiffeId, TrustDomain};

use super::entry::EntryDraft;
use super::policy::MAX_DESCRIPTION;

impl EntryDraft {
    /// Every rule that needs no database (`spire` semantics). Federated bundles are checked when it is stored.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self, trust_domain: &TrustDomain) -> Result<(), EntryError> {
        if let Some(id) = &self.id {
            check_id(id)?;
        }
        check_parent(&self.parent_id, trust_domain)?;
        check_subject(&self.spiffe_id, trust_domain)?;
        if self.selectors.is_empty() {
            return Err(EntryError::NoSelectors);
        }
        if self.selectors.len() > MAX_SELECTORS {
            return Err(EntryError::TooMany {
                what: "selectors",
                limit: MAX_SELECTORS,
            });
        }
        if self.dns_names.len() > MAX_DNS_NAMES {
            return Err(EntryError::TooMany {
                what: "DNS names",
                limit: MAX_DNS_NAMES,
            });
        }
        if self.federates_with.len() > MAX_FEDERATIONS {
            return Err(EntryError::TooMany {
                what: "federated trust domains",
                limit: MAX_FEDERATIONS,
            });
        }
        for (at, name) in self.dns_names.iter().enumerate() {
            check_dns_name(name)?;
            if self.dns_names[..at]
                .iter()
                .any(|other| other.eq_ignore_ascii_case(name))
            {
                return Err(EntryError::DnsNameTwice { name: name.clone() });
            }
        }
        if self.hint.len() > MAX_HINT {
            return Err(EntryError::HintTooLong {
                length: self.hint.len(),
            });
        }
        if self.hint.chars().any(char::is_control) {
            return Err(EntryError::HintCharacter);
        }
        for ttl in [self.x509_svid_ttl, self.jwt_svid_ttl].into_iter().flatten() {
            if ttl.is_zero() || ttl.subsec_nanos() != 0 || ttl.as_secs() > i32::MAX.unsigned_abs().into() {
                return Err(EntryError::Ttl);
            }
        }
        if self.store_svid && kinds(self) > 1 {
            return Err(EntryError::MixedSelectors);
        }
        if self.federates_with.contains(trust_domain) {
            return Err(EntryError::FederatesWithItself);
        }
        Ok(())
    }
}

fn kinds(draft: &EntryDraft) -> usize {
    let kinds = draft.selectors.iter().map(landfast_identity::Selector::kind);
    kinds.collect::<BTreeSet<_>>().len()
}

fn check_id(id: &str) -> Result<(), EntryError> {
    if id.is_empty() || id.len() > MAX_ENTRY_ID {
        return Err(EntryError::IdLength { length: id.len() });
    }
    match id
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
    {
        Some(found) => Err(EntryError::IdCharacter { found }),
        None => Ok(()),
    }
}

fn check_parent(id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), EntryError> {
    if id.trust_domain() != trust_domain {
        return Err(EntryError::ParentTrustDomain {
            id: id.clone(),
            trust_domain: trust_domain.clone(),
        });
    }
    if id.path().is_empty() {
        return Err(EntryError::ParentPath);
    }
    Ok(())
}

/// An ID that may be given to somebody who is no part of this system.
pub(crate) fn check_subject(id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), EntryError> {
    if id.trust_domain() != trust_domain {
        return Err(EntryError::SubjectTrustDomain {
            id: id.clone(),
            trust_domain: trust_domain.clone(),
        });
    }
    if id.path().is_empty() {
        return Err(EntryError::SubjectPath);
    }
    if id.is_reserved() {
        return Err(EntryError::Reserved { id: id.clone() });
    }
    Ok(())
}

/// A DNS name, or a wildcard over one. An all-digit last label would be read as an IPv4 address by some verifiers.
pub(crate) fn check_dns_name(name: &str) -> Result<(), EntryError> {
    let bad = || EntryError::DnsName {
        name: name.chars().take(300).collect(),
    };
    let base = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !base.split('.').all(label) {
        return Err(bad());
    }
    let last = base.rsplit('.').next().unwrap_or(base);
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    Ok(())
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Empty or over 255 bytes.
    #[error("invalid registration entry: entry ID too long")]
    IdLength {
        /// Its length.
        length: usize,
    },
    /// Something other than letters, digits, `-`, `_` and `.`.
    #[error("invalid registration entry: entry ID contains invalid characters")]
    IdCharacter {
        /// The first such.
        found: char,
    },
    /// The parent is of another trust domain.
    #[error("invalid parent ID: {id} is not a member of trust domain {trust_domain}")]
    ParentTrustDomain {
        /// The parent.
        id: SpiffeId,
        /// Ours.
        trust_domain: TrustDomain,
    },
    /// The parent is the trust domain itself.
    #[error("invalid parent ID: path cannot be empty")]
    ParentPath,
    /// The SPIFFE ID is of another trust domain.
    #[error("invalid spiffe ID: {id} is not a member of trust domain {trust_domain}")]
    SubjectTrustDomain {
        /// The ID.
        id: SpiffeId,
        /// Ours.
        trust_domain: TrustDomain,
    },
    /// The SPIFFE ID is the trust domain itself.
    #[error("invalid spiffe ID: path cannot be empty")]
    SubjectPath,
    /// A SPIFFE ID that belongs to the system.
    #[error("invalid spiffe ID: {id} is in the reserved /spire namespace")]
    Reserved {
        /// The ID.
        id: SpiffeId,
    },
    /// A rule of Margo identity, where that is on.
    #[error("invalid spiffe ID: {id} is for a Margo principal: {what}")]
    Margo {
        /// The ID.
        id: SpiffeId,
        /// Which rule.
        what: &'static str,
    },
    /// No selector: it would match every process.
    #[error("selector list is empty")]
    NoSelectors,
    /// More of something than an entry may have.
    #[error("an entry has at most {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// Not a DNS name.
    #[error("invalid DNS name: {name:?}")]
    DnsName {
        /// Which.
        name: String,
    },
    /// One DNS name twice.
    #[error("invalid DNS name: {name:?} stands twice")]
    DnsNameTwice {
        /// Which.
        name: String,
    },
    /// Over 1024 bytes.
    #[error("hint is too long, max length is {MAX_HINT} characters")]
    HintTooLong {
        /// Its length.
        length: usize,
    },
    /// A control character.
    #[error("invalid hint: it holds a control character")]
    HintCharacter,
    /// Over 1024 bytes.
    #[error("the description is {length} bytes long, more than {MAX_DESCRIPTION}")]
    DescriptionTooLong {
        /// Its length.
        length: usize,
    },
    /// A control character.
    #[error("the description holds a control character")]
    DescriptionCharacter,
    /// Nobody answers for it, or under nothing.
    #[error("a third party needs a sponsor, and a contract of at most 256 bytes without control characters")]
    ThirdParty,
    /// It would be for ever.
    #[error("an entry of a third party ends: give it a time (landfast entry update ID --expires-in 30d)")]
    ThirdPartyWithoutEnd,
    /// It would have power over the server.
    #[error(
        "an entry of a third party has neither admin nor downstream: nobody can answer for what that gives"
    )]
    PowerfulThirdParty,
    /// Zero, or not whole seconds of 31 bits.
    #[error("a TTL must be whole seconds from 1 to {}", i32::MAX)]
    Ttl,
    /// Whoever stores the SVID somewhere has one place for it.
    #[error("selector types must be the same when store SVID is enabled")]
    MixedSelectors,
    /// What is stored is fetched ahead.
    #[error("specifying cache behaviour is incompatible with storable SVIDs")]
    StoredWithoutPrefetch,
    /// What gives power over the server never leaves without its record.
    #[error(
        "an entry with admin or downstream is never issued without its record: it cannot be availability first"
    )]
    PowerfulUnrecorded,
    /// Our own bundle is given to everybody anyway.
    #[error("federating with the own trust domain is not allowed")]
    FederatesWithItself,
}

impl EntryError {
    /// Whether it is the entry's ID that is wrong.
    pub(crate) fn of_its_own_id(&self) -> bool {
        matches!(self, Self::IdLength { .. } | Self::IdCharacter { .. })
    }
}

const MAX_ENTRY_ID: usize = 255;
const MAX_HINT: usize = 1024;
const MAX_SELECTORS: usize = 256;
const MAX_DNS_NAMES: usize = 256;
const MAX_FEDERATIONS: usize = 256;
