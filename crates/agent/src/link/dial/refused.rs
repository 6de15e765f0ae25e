//! Why a handshake failed. Invariant: what our verifier said is told as such, and what it did not say is never called a clock's fault.

use landfast_identity::{UnixTime, X509Error};
use landfast_tls::PeerError;

use super::AttemptError;

/// What our verifier said, in the operator's words.
pub(super) fn handshake(error: std::io::Error, now: UnixTime) -> AttemptError {
    match landfast_tls::refusal(&error) {
        Some(PeerError::Refused(X509Error::NotYetValid { role, not_before })) => AttemptError::ClockBehind {
            seconds: not_before.since(now).as_secs(),
            role: *role,
            not_before: *not_before,
        },
        Some(PeerError::Refused(X509Error::Expired { role, not_after })) => AttemptError::Ended {
            seconds: now.since(*not_after).as_secs(),
            role: *role,
            not_after: *not_after,
        },
        Some(PeerError::Refused(X509Error::UnknownIssuer)) => AttemptError::UnknownAuthority,
        Some(_) => AttemptError::NotTheServer(error),
        None => AttemptError::Tls(error),
    }
}
