//! What came of asking for SVIDs. Invariant: one takes the place of what is held only when it is of the entry's ID and valid now; a failure
//! takes nothing away.

use std::collections::HashSet;
use std::sync::Arc;

use landfast_identity::{UnixTime, X509Svid};

use super::{Action, Held, Issued, Note, State};
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
                    self.refusals.over(&issued.entry_id);
                    self.drop_spent(&entry, &svid);
                    let before = self.now.held.get(&issued.entry_id);
                    let held = Held::new(svid, issued.revision, now);
                    let held = Arc::new(held.after(before.map(|before| &**before), &self.taints));
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
        let tainted = self.is_tainted(entry);
        let valid_until = self.now.svid(entry, now).map(|held| held.svid.not_after());
        let good_for = valid_until.map(|end| end.since(now));
        let next = self.refusals.refused(&entry.id, now, tainted, good_for);
        Note::RenewalFailed {
            spiffe_id: entry.spiffe_id.to_string(),
            reason,
            valid_until,
            next,
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
