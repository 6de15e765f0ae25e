//! Until when what is signed now is good. Invariant: never past its authority, nor past its entry.

use std::time::Duration;

use landfast_identity::UnixTime;

use super::IssueError;

/// Under an authority that signs from `begins` until `ends`; by `ends_by`, whatever the TTL.
pub(super) fn ends_at(
    now: UnixTime,
    ttl: Duration,
    ends_by: Option<UnixTime>,
    (begins, ends): (UnixTime, UnixTime),
) -> Result<UnixTime, IssueError> {
    if ttl.is_zero() {
        return Err(IssueError::Policy("the TTL is zero".to_owned()));
    }
    if now < begins {
        return Err(IssueError::ClockBehind {
            now,
            authority_not_before: begins,
        });
    }
    if now >= ends {
        return Err(IssueError::NoAuthority);
    }
    let wanted = now.saturating_add(ttl);
    Ok(wanted.min(ends).min(ends_by.unwrap_or(wanted)))
}
