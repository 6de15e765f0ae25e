//! Trust domain names. Invariant: a `TrustDomain` holds a name that SPIFFE-ID §2.1 and §2.3 allow, in its only spelling.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::id::{IdError, SCHEME, SpiffeId};

/// The name of a trust domain: 1 to 255 bytes of `[a-z0-9._-]`. What it looks like otherwise (an address, a DNS
/// name) means nothing (SPIFFE-ID §2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads `td` or `spiffe://td`.
    ///
    /// # Errors
    /// When the name is empty, too long, or holds a character outside `[a-z0-9._-]`; so also when a path, port, user
    /// or query follows it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let name = text.strip_prefix(SCHEME).unwrap_or(text);
        Self::from_name(name)
    }

    pub(crate) fn from_name(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::NoTrustDomain);
        }
        if name.len() > MAX_NAME {
            return Err(IdError::TrustDomainTooLong { length: name.len() });
        }
        match name
            .chars()
            .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_'))
        {
            Some(found) => Err(IdError::TrustDomainCharacter { found }),
            None => Ok(Self(name.into())),
        }
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `spiffe://name`, the key of every bundle map on the wire.
    pub fn id_string(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// The ID without a path: the one that signing authorities carry.
    pub fn id(&self) -> SpiffeId {
        SpiffeId::root(self)
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

/// SPIFFE-ID §2.3.
const MAX_NAME: usize = 255;
