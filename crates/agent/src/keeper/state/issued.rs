//! What came of asking for SVIDs. Invariant: one takes the place of what is held only when it is of the entry's ID and valid now; a failure
//! takes nothing away.

use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{UnixTime, X509Svid};
use landfast_lifecycle::spread_within;

use super::{Action, Failure, Held, Issued, Note, State};
use crate::entry::Entry;

impl State {
    /// The entries whose SVID is another now.
    pub(super) fn adopt_svids(
        &mut self,
        now: UnixTime,
        batch: Vec<Issued>,
        actions: &mut Vec<Action>,
    ) -> HashSet<Arc<str>> {
        let mut changed = HashSet::new();
        for issued in batch {
            let Some(entry) = self.now.entries.get(&issued.entry_id).cloned() else {
                continue;
            };
            match issued
                .outcome
                .and_then(|svid| usable(&svid, &entry, now).map(|()| svid))
            {
                Ok(svid) => {
                    actions.push(Action::Note(Note::Renewed {
                        spiffe_id: entry.spiffe_id.to_string(),
                        serial: svid.serial_hex(),
                        not_after: svid.not_after(),
                    }));
                    self.failures.remove(&issued.entry_id);
                    let held = Arc::new(Held::new(svid, issued.revision, now));
                    changed.insert(Arc::clone(&issued.entry_id));
                    Arc::make_mut(&mut self.now.held).insert(issued.entry_id, held);
                }
                // Of what the entry was before.
                Err(_) if issued.revision != entry.revision => {}
                Err(reason) => actions.push(Action::Note(self.note_failure(now, &entry, reason))),
            }
        }
        changed
    }

    fn note_failure(&mut self, now: UnixTime, entry: &Entry, reason: String) -> Note {
        let failure = self
            .failures
            .entry(Arc::clone(&entry.id))
            .or_insert(Failure { count: 0, next: now });
        let tainted = self
            .now
            .held
            .get(&entry.id)
            .is_some_and(|held| held.is_tainted(&self.taints));
        let ceiling = RETRY_MIN
            .saturating_mul(1 << failure.count.min(10))
            .min(if tainted { RETRY_TAINTED } else { RETRY_MAX });
        // What many nodes were refused in one moment they do not ask for again in one.
        let draw = self.draws.hash_one((&entry.id, failure.count));
        let wait = Duration::from_secs(1) + spread_within(ceiling, &draw.to_be_bytes());
        failure.count = failure.count.saturating_add(1);
        failure.next = now.saturating_add(wait);
        Note::RenewalFailed {
            spiffe_id: entry.spiffe_id.to_string(),
            reason,
            valid_until: self.now.svid(entry, now).map(|held| held.svid.not_after()),
            next: failure.next,
        }
    }
}

/// Whether a new SVID may replace what is held. The reason says what is wrong, for people.
fn usable(svid: &X509Svid, entry: &Entry, now: UnixTime) -> Result<(), String> {
    if svid.id() != &entry.spiffe_id {
        return Err(format!("the server sent an SVID for {} instead", svid.id()));
    }
    if now < svid.not_before() {
        let by = svid.not_before().since(now).as_secs();
        return Err(format!(
            "clock is behind by {by} s or more: the SVID begins at {}",
            svid.not_before()
        ));
    }
    if svid.not_after() <= now {
        let by = now.since(svid.not_after()).as_secs();
        return Err(format!(
            "clock is ahead by {by} s or more: the new SVID ended at {}",
            svid.not_after()
        ));
    }
    Ok(())
}

/// The longest after which a refused entry is asked for again, doubling; with full jitter, and a second more.
const RETRY_MIN: Duration = Duration::from_secs(5);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(300);
/// While the authority that signed what is held is tainted: it may be revoked before long.
const RETRY_TAINTED: Duration = Duration::from_secs(15);
