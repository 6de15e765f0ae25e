//! SPIFFE IDs. Invariant: a `SpiffeId` meets SPIFFE-ID §2 and has one spelling, so equal IDs are equal bytes.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::trust_domain::TrustDomain;

/// A SPIFFE ID, `spiffe://trust-domain/path`; the path may be empty. Cheap to clone.
#[derive(Clone)]
pub struct SpiffeId {
    uri: Arc<str>,
    trust_domain: TrustDomain,
}

impl SpiffeId {
    /// Reads an ID. Exact: the scheme must be the lower-case `spiffe`, nothing is normalised.
    ///
    /// # Errors
    /// When any rule of SPIFFE-ID §2 is broken.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.len() > MAX_ID {
            return Err(IdError::TooLong { length: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain = TrustDomain::from_name(name)?;
        check_path(path)?;
        Ok(Self {
            uri: text.into(),
            trust_domain,
        })
    }

    /// The ID of a path in a trust domain; the path is empty or starts with `/`.
    ///
    /// # Errors
    /// When the path breaks SPIFFE-ID §2.2 or the whole is longer than 2048 bytes.
    pub fn from_parts(trust_domain: &TrustDomain, path: &str) -> Result<Self, IdError> {
        if !path.is_empty() && !path.starts_with('/') {
            return Err(IdError::RelativePath);
        }
        Ok(Self::parse(&format!("{SCHEME}{trust_domain}{path}"))?.sharing(trust_domain))
    }

    /// The same ID; when it is of this trust domain, it has no copy of the name any more. For who keeps many.
    #[must_use]
    pub fn sharing(self, trust_domain: &TrustDomain) -> Self {
        match self.trust_domain == *trust_domain {
            true => Self {
                trust_domain: trust_domain.clone(),
                ..self
            },
            false => self,
        }
    }

    pub(crate) fn root(trust_domain: &TrustDomain) -> Self {
        Self {
            uri: trust_domain.id_string().into(),
            trust_domain: trust_domain.clone(),
        }
    }

    /// The trust domain that this ID belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// `""` or `/a/b`.
    pub fn path(&self) -> &str {
        &self.uri[SCHEME.len() + self.trust_domain.as_str().len()..]
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// Whether the path is `/spire` or below it: servers and agents; or `/landfast/person` or below it: a person who has logged in. Never a
    /// registered workload.
    pub fn is_reserved(&self) -> bool {
        let path = self.path();
        let below = |root: &str| {
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        below("/spire") || below(PERSON)
    }

    /// Whether the path is below `/landfast/person`.
    pub fn is_person(&self) -> bool {
        let rest = self.path().strip_prefix(PERSON);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// The ID of a person who has logged in: `/landfast/person/<reference>/<login>`.
    ///
    /// # Errors
    /// When either is not one segment.
    pub fn person(trust_domain: &TrustDomain, reference: &str, login: &str) -> Result<Self, IdError> {
        for segment in [reference, login] {
            if segment.contains('/') {
                return Err(IdError::PathCharacter { found: '/' });
            }
        }
        Self::from_parts(trust_domain, &format!("{PERSON}/{reference}/{login}"))
    }

    /// The ID of the servers of a trust domain, `/spire/server`.
    pub fn server(trust_domain: &TrustDomain) -> Self {
        let uri = format!("{SCHEME}{trust_domain}/spire/server").into();
        Self {
            uri,
            trust_domain: trust_domain.clone(),
        }
    }

    /// The ID of an agent, `/spire/agent/<kind>/<rest>`; `rest` may hold several segments.
    ///
    /// # Errors
    /// When `kind` is not one segment, or the whole is not a SPIFFE ID.
    pub fn agent(trust_domain: &TrustDomain, kind: &str, rest: &str) -> Result<Self, IdError> {
        if kind.contains('/') {
            return Err(IdError::PathCharacter { found: '/' });
        }
        Self::from_parts(trust_domain, &format!("{AGENT_PREFIX}{kind}/{rest}"))
    }

    /// Whether this is the ID of an agent: below `/spire/agent/`.
    pub fn is_agent(&self) -> bool {
        self.path().starts_with(AGENT_PREFIX)
    }
}

fn check_path(path: &str) -> Result<(), IdError> {
    let Some(segments) = path.strip_prefix('/') else {
        return Ok(());
    };
    if segments.is_empty() || segments.ends_with('/') {
        return Err(IdError::TrailingSlash);
    }
    for segment in segments.split('/') {
        match segment {
            "" => return Err(IdError::EmptySegment),
            "." | ".." => return Err(IdError::DotSegment),
            _ => {}
        }
        let bad = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if let Some(found) = segment.chars().find(bad) {
            return Err(IdError::PathCharacter { found });
        }
    }
    Ok(())
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.uri == other.uri
    }
}

impl Eq for SpiffeId {}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uri.cmp(&other.uri)
    }
}

impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uri.hash(state);
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.uri)
    }
}

/// Why a text is no SPIFFE ID, trust domain or ID pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text does not start with `spiffe://`.
    #[error("does not start with spiffe:// in lower case")]
    Scheme,
    /// Longer than 2048 bytes.
    #[error("is {length} bytes long, more than the {MAX_ID} of a SPIFFE ID")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Nothing between the scheme and the path.
    #[error("has no trust domain")]
    NoTrustDomain,
    /// A trust domain of more than 255 bytes.
    #[error("has a trust domain of {length} bytes, more than 255")]
    TrustDomainTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character that trust domain names do not have; port, user, query, fragment and percent included.
    #[error("has {found:?} in the trust domain, where only a-z 0-9 . - _ may stand")]
    TrustDomainCharacter {
        /// The first such character.
        found: char,
    },
    /// A character that paths do not have; query, fragment and percent included.
    #[error("has {found:?} in the path, where only a-z A-Z 0-9 . - _ may stand")]
    PathCharacter {
        /// The first such character.
        found: char,
    },
    /// A path given without its leading slash.
    #[error("has a path that does not start with a slash")]
    RelativePath,
    /// Two slashes in a row.
    #[error("has an empty path segment")]
    EmptySegment,
    /// A `.` or `..` segment.
    #[error("has a path segment of dots")]
    DotSegment,
    /// A slash at the end.
    #[error("ends with a slash")]
    TrailingSlash,
}

pub(crate) const SCHEME: &str = "spiffe://";
const PERSON: &str = "/landfast/person";
const AGENT_PREFIX: &str = "/spire/agent/";
/// SPIFFE-ID §2.3.
const MAX_ID: usize = 2048;

#[cfg(test)]
mod tests;
