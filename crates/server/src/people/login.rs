//! Ways to be known. Invariant: each has one spelling, by which it is stored and compared.

use std::fmt;

use landfast_identity::ssh::SshFingerprint;
use landfast_identity::{SpiffeId, TrustDomain};

use super::person::Unreadable;

/// A way to be known; it belongs to one person.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Login {
    /// A user of the server's machine, on the admin socket.
    Uid(u32),
    /// An X.509-SVID that is shown over mTLS.
    Spiffe(SpiffeId),
    /// A key that signs what the server asks.
    Ssh(SshFingerprint),
    /// Somebody at an OIDC provider.
    Oidc(OidcSubject),
}

/// Who somebody is at which provider: `iss` and `sub` of an ID token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OidcSubject {
    issuer: String,
    subject: String,
}

impl OidcSubject {
    /// An `iss` and a `sub` of an ID token (OpenID Connect Core §2); `None` when one cannot be.
    pub(crate) fn new(issuer: &str, subject: &str) -> Option<Self> {
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let host = issuer.strip_prefix("https://").filter(|rest| !rest.is_empty());
        let fits = host.is_some()
            && issuer.len() <= MAX_ISSUER
            && plain(issuer)
            && !issuer.contains(['#', '?'])
            && !subject.is_empty()
            && subject.len() <= MAX_SUBJECT
            && plain(subject);
        fits.then(|| Self {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }
}

impl Login {
    /// Whether it can be a person's at all: none of a machine, of root, or of a session that another login began.
    pub(super) fn is_personal(&self, td: &TrustDomain) -> bool {
        match self {
            // The kernel's word for "nobody is logged in".
            Self::Uid(uid) => *uid != 0 && *uid != u32::MAX,
            Self::Spiffe(id) => id.trust_domain() == td && !id.is_reserved() && !id.path().is_empty(),
            Self::Ssh(_) | Self::Oidc(_) => true,
        }
    }

    /// As records have it for good: who somebody is at a provider may be his name, and is left out. The session's ID tells two of one provider apart.
    pub(crate) fn recorded(&self) -> String {
        match self {
            Self::Oidc(subject) => format!("oidc:{}", subject.issuer),
            other => other.to_string(),
        }
    }

    /// As it is displayed.
    pub(crate) fn parse(text: &str) -> Result<Self, Unreadable> {
        if let Some(uid) = text.strip_prefix("uid:") {
            return uid.parse().map(Self::Uid).map_err(|_bad| Unreadable);
        }
        if let Some(key) = text.strip_prefix("ssh:") {
            return key.parse().map(Self::Ssh).map_err(|_bad| Unreadable);
        }
        if let Some(text) = text.strip_prefix("oidc:") {
            let (issuer, subject) = text.split_once('#').ok_or(Unreadable)?;
            return OidcSubject::new(issuer, subject)
                .map(Self::Oidc)
                .ok_or(Unreadable);
        }
        SpiffeId::parse(text).map(Self::Spiffe).map_err(|_bad| Unreadable)
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Spiffe(id) => write!(f, "{id}"),
            Self::Ssh(key) => write!(f, "ssh:{key}"),
            Self::Oidc(OidcSubject { issuer, subject }) => write!(f, "oidc:{issuer}#{subject}"),
        }
    }
}

const MAX_ISSUER: usize = 512;
/// OpenID Connect Core §2.
const MAX_SUBJECT: usize = 255;
