//! What was issued. Invariant: built from the signed SVID, not from what was asked for.

use landfast_identity::{SpiffeId, UnixTime};

/// One SVID that was issued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuanceRecord {
    /// What it is.
    pub kind: SvidKind,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// X.509: the serial number in hex. JWT: its `jti`, else the SHA-256 of the token in hex. WIT: the latter.
    pub serial: String,
    /// SHA-256 of the SPKI; X.509 only. Who asks for a WIT-SVID does not prove to hold the key, so the record must not make it its own.
    pub key_hash: Option<[u8; 32]>,
    /// The authority that signed it.
    pub authority_id: String,
    /// Who asked.
    pub requester: String,
    /// How the node behind it attested; empty when none did.
    pub attestation: String,
    /// For which entry.
    pub entry_id: Option<String>,
    /// From when on it holds; JWT: its `iat`.
    pub not_before: UnixTime,
    /// When it ends.
    pub not_after: UnixTime,
    /// When it was signed.
    pub issued_at: UnixTime,
    /// Whether it was signed for later: the agent that asked has it until it ends.
    pub is_rung: bool,
    /// Since when it is to be refused; of rungs only.
    pub revoked_at: Option<UnixTime>,
}

impl IssuanceRecord {
    /// By order of an administrator, for no entry.
    pub(crate) fn is_minted(&self) -> bool {
        self.entry_id.is_none()
            && ["local ", "admin "]
                .iter()
                .any(|by| self.requester.starts_with(by))
    }
}

/// What was issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SvidKind {
    /// An X.509-SVID.
    X509,
    /// A JWT-SVID.
    Jwt,
    /// A WIT-SVID.
    Wit,
}
