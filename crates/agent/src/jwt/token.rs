//! A token, whom it is for, and why there is none. Invariant: what cannot be read is signed by nobody.

use std::sync::Arc;

use base64::Engine as _;
use landfast_identity::{Bundle, PrivateKey, SpiffeId, UnixTime};
use landfast_lifecycle::renewal_due;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: Arc<str>,
    pub(crate) id: SpiffeId,
    /// Since when it is held here. Not its `iat`, which servers date back by as much as it lives.
    pub(crate) held_since: UnixTime,
    pub(crate) expires_at: UnixTime,
    /// A WIT-SVID's: of the key in it.
    pub(crate) key: Option<BoundKey>,
}

/// The key that a WIT-SVID is bound to. Equal when it is the very same.
#[derive(Clone, Debug)]
pub(crate) struct BoundKey(pub(crate) Arc<PrivateKey>);

impl PartialEq for BoundKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for BoundKey {}

impl Token {
    /// Half the life is over that it had when it came.
    pub(super) fn is_old(&self, now: UnixTime) -> bool {
        match self.key {
            Some(_) => now >= self.old_from(),
            None => now.since(self.held_since) * 2 >= self.expires_at.since(self.held_since),
        }
    }

    /// When a WIT-SVID is due: streams wait for it, those of many nodes from one moment on.
    pub(crate) fn old_from(&self) -> UnixTime {
        renewal_due(self.held_since, self.expires_at, self.text.as_bytes())
    }

    pub(super) fn is_usable(&self, id: &SpiffeId, bundle: Option<&Bundle>, now: UnixTime) -> bool {
        self.id == *id && now < self.expires_at && bundle.is_none_or(|bundle| self.is_signed_by(bundle))
    }

    pub(super) fn is_signed_by(&self, bundle: &Bundle) -> bool {
        let kid = key_id(&self.text);
        let Some(kid) = kid else { return false };
        match self.key {
            Some(_) => bundle
                .wit_authority(&kid)
                .is_some_and(|authority| !authority.tainted),
            None => bundle
                .jwt_authority(&kid)
                .is_some_and(|authority| !authority.tainted),
        }
    }
}

/// Whom a token is for: an entry's ID and a set of audiences, of which a WIT-SVID has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(super) entry: Arc<str>,
    pub(super) audience: Vec<String>,
    /// For when the server is away: another token than the ordinary one.
    pub(super) for_later: bool,
}

impl Key {
    /// The order of audiences does not matter.
    pub(crate) fn new(entry: Arc<str>, audience: &[String]) -> Self {
        let mut audience = audience.to_vec();
        audience.sort();
        audience.dedup();
        Self {
            entry,
            audience,
            for_later: false,
        }
    }

    /// The same, had ahead.
    pub(crate) fn for_later(&self) -> Self {
        Self {
            for_later: true,
            ..self.clone()
        }
    }

    pub(crate) fn is_for_later(&self) -> bool {
        self.for_later
    }
}

/// Why no token could be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The server finds the request itself wrong: to ask again gives the same.
    #[error("{0}")]
    Invalid(Arc<str>),
    /// The server has nothing of the kind.
    #[error("{0}")]
    Unsupported(Arc<str>),
    /// Anything else; the text is for the log.
    #[error("{0}")]
    Later(Arc<str>),
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Later(reason.into())
    }
}

/// The `kid` in a token's header.
fn key_id(token: &str) -> Option<String> {
    let header = token.split('.').next()?;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    header.get("kid")?.as_str().map(str::to_owned)
}
