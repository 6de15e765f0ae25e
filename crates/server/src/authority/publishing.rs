//! How everybody above gets to know the JWT keys that sign here and below.
//!
//! Invariant: a key that is refused above is in the way of nothing else: not of other keys, nor of what is believed from there. Our own go
//! first, and those from below leave them room.

use std::collections::BTreeMap;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::{JwtAuthority, UnixTime};
use landfast_lifecycle::Backoff;
use tokio::time::Instant;

use super::appended::{AppendedKey, MAX_OF_ONE};
use super::following::{LEAST_WAIT, MOST_WAIT};
use super::journal::{Journal, Kind, own_jwt};
use super::upstream::Upstream;
use super::{Authorities, AuthorityError};

/// Keys that are not known above although they should be, by key ID.
#[derive(Default)]
pub(super) struct Unpublished {
    refused: BTreeMap<String, Refused>,
    /// How many from below wait for room.
    held: usize,
}

struct Refused {
    why: String,
    backoff: Backoff,
    not_before: Instant,
}

impl Unpublished {
    /// For operators.
    pub(super) fn trouble(&self) -> Option<String> {
        if let Some((key_id, refused)) = self.refused.first_key_value() {
            return Some(format!(
                "the upstream authority does not take JWT key {key_id}, so what it signs verifies only here and below: {}",
                refused.why
            ));
        }
        (self.held > 0).then(|| {
            format!(
                "{} JWT keys of servers below this one are not passed on, for there are {MAX_PASSED_ON} already: what they sign verifies only \
                 here and below; have those servers make new keys less often",
                self.held
            )
        })
    }

    fn rests(&self, key_id: &str) -> bool {
        let refused = self.refused.get(key_id);
        refused.is_some_and(|refused| Instant::now() < refused.not_before)
    }

    /// `true` when that is new.
    fn refuse(&mut self, key_id: &str, why: String) -> bool {
        let before = self.refused.remove(key_id);
        let is_new = before.as_ref().is_none_or(|before| before.why != why);
        let mut backoff = before.map_or_else(|| Backoff::new(LEAST_WAIT, MOST_WAIT), |before| before.backoff);
        let not_before = Instant::now() + backoff.next();
        let refused = Refused {
            why,
            backoff,
            not_before,
        };
        self.refused.insert(key_id.to_owned(), refused);
        is_new
    }
}

impl Authorities {
    /// Publishes what is not known above yet. What is refused is tried again, later each time.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) async fn publish_above(
        &self,
        upstream: &dyn Upstream,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        // Keys that went back may have been revoked since: they do not go up again.
        if !upstream.is_complete() || self.quarantine.holds() {
            return Ok(());
        }
        let journal = self.datastore.journal().await?;
        let (keys, held) = unpublished(&journal, now);
        self.reach.with_unpublished(|unpublished| {
            let wanted = |key_id: &String, _: &mut Refused| keys.iter().any(|key| key.key_id == *key_id);
            unpublished.refused.retain(wanted);
            unpublished.held = held;
        });
        for key in keys {
            if self.reach.with_unpublished(|them| them.rests(&key.key_id)) {
                continue;
            }
            let Err(error) = upstream.publish(&key).await else {
                self.reach
                    .with_unpublished(|them| them.refused.remove(&key.key_id));
                tracing::info!(key_id = key.key_id, "published a JWT authority above");
                continue;
            };
            let text = error_chain(&error);
            if self
                .reach
                .with_unpublished(|them| them.refuse(&key.key_id, text.clone()))
            {
                metrics::counter!("landfast_server_upstream_failures_total").increment(1);
                tracing::error!(
                    key_id = key.key_id,
                    error = text,
                    "the upstream authority does not take this JWT key: what it signs verifies only here and below; trying again"
                );
            }
            if !error.is_about_the_key() {
                break; // nor would it take another now
            }
        }
        Ok(())
    }
}

/// JWT keys that sign, here or below, and that the upstream authority has not named yet, ours first; and how many from below it is not told.
fn unpublished(journal: &Journal, now: UnixTime) -> (Vec<JwtAuthority>, usize) {
    let named = |key: &JwtAuthority| {
        let mut above = journal.above.jwt.iter();
        above.any(|known| known.authority.key_id == key.key_id && !ends_early(&known.authority, key, now))
    };
    let wanted =
        |key: &JwtAuthority| !key.tainted && key.expires_at.is_none_or(|end| now < end) && !named(key);
    let ours = journal.rows.iter().filter(|row| row.kind == Kind::Jwt);
    let mut keys: Vec<_> = ours.map(own_jwt).filter(|key| wanted(key)).collect();
    let below = journal.appended.iter().filter_map(|row| match &row.key {
        AppendedKey::Jwt(below) => Some((below, row.revoked)),
        AppendedKey::X509(_) => None,
    });
    // What is tainted or revoked here takes its room above until it is forgotten.
    let passed_on = below.clone().filter(|(key, _)| named(key)).count();
    let mut waiting: Vec<_> = below
        .filter(|(key, revoked)| !revoked && wanted(key))
        .map(|(key, _)| key.clone())
        .collect();
    let room = MAX_PASSED_ON.saturating_sub(passed_on);
    let held = waiting.len().saturating_sub(room);
    waiting.truncate(room);
    keys.extend(waiting);
    (keys, held)
}

/// A parent cuts a key's end to the life of its own authorities: before it comes it is put off.
fn ends_early(known: &JwtAuthority, key: &JwtAuthority, now: UnixTime) -> bool {
    known.expires_at.is_some_and(|end| {
        end < now.saturating_add(PUT_OFF_BEFORE) && key.expires_at.is_none_or(|wanted| end < wanted)
    })
}

/// Time for everybody to hear of it.
const PUT_OFF_BEFORE: Duration = Duration::from_secs(600);
/// Of the keys that a parent takes from one server, those of servers below it: the rest is for its own.
pub(super) const MAX_PASSED_ON: usize = MAX_OF_ONE - 16;

#[cfg(test)]
mod tests {
    use landfast_identity::PrivateKey;

    use super::*;
    use crate::authority::above::{Above, Neighbour};
    use crate::authority::appended::AppendedRow;
    use crate::core::fixture::{DAY, START};

    #[test]
    fn a_key_whose_end_was_cut_above_is_published_again_before_it_comes() {
        let key = |end| JwtAuthority {
            key_id: "below".to_owned(),
            public_key: PrivateKey::generate().unwrap().public_key(),
            expires_at: Some(START.saturating_add(end)),
            tainted: false,
        };
        let (long, cut) = (key(30 * DAY), key(DAY));
        let journal = |named: &JwtAuthority| Journal {
            appended: vec![AppendedRow {
                key: AppendedKey::Jwt(long.clone()),
                at: START,
                by: String::new(),
                revoked: false,
            }],
            above: Above {
                roots: Vec::new(),
                jwt: vec![Neighbour {
                    authority: named.clone(),
                    revoked: false,
                }],
            },
            ..Journal::default()
        };
        let due = |named, now| unpublished(&journal(named), now).0.len();
        let before = START.saturating_add(DAY).saturating_sub(PUT_OFF_BEFORE);
        assert_eq!(due(&cut, START), 0, "not at every look");
        assert_eq!(due(&cut, before.saturating_add(Duration::from_secs(1))), 1);
        let end = START
            .saturating_add(30 * DAY)
            .saturating_sub(Duration::from_secs(5));
        assert_eq!(due(&long, end), 0, "nothing is to be gained");
    }
}
