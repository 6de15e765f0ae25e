//! The reserve on the shelf: hundreds of files, of which a start needs a few.
//!
//! Invariant: whatever a start does not read is read before anything is written: an index that does not name it would have it removed. One that
//! must not wait, for it says what is trusted no longer, names all that was found.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use landfast_daemon::error_chain;
use landfast_identity::UnixTime;
use landfast_proto::landfast::cache::v1 as wire;
use landfast_store::Store;
use landfast_store::seal::Sealer;

use super::files::rung_names;
use super::{Image, Shelf, ShelfError, convert, sha256};
use crate::cache::wire::HeldMap;
use crate::entry::EntryIndex;
use crate::keeper::rungs::{Ladder, Ladders, Rung};
use crate::keeper::state::Rest;

/// What is left to be read, and what has been read of it.
#[derive(Default)]
pub(super) struct Unread {
    pub(super) ladders: VecDeque<wire::Ladder>,
    /// As they were then.
    entries: Arc<EntryIndex>,
    read: Ladders,
    complaints: Vec<String>,
}

impl Shelf {
    /// Whether [`Self::read_rest`] has something to do.
    pub(crate) fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// What [`Self::open_at`] left, with what is wrong with it; `None` when told to halt, and then it goes on with the next call. Blocks.
    pub(crate) fn read_rest(&mut self, halt: &AtomicBool) -> Option<(Rest, Vec<String>)> {
        let mut unread = self.rest.take().unwrap_or_default();
        if let (Some(store), Some(sealer)) = (self.store.clone(), self.sealer.clone()) {
            while let Some(ladder) = unread.ladders.pop_front() {
                if halt.load(Ordering::SeqCst) {
                    unread.ladders.push_front(ladder);
                    self.rest = Some(unread);
                    return None;
                }
                let one = std::slice::from_ref(&ladder);
                let more = self.read_rungs(&store, &sealer, one, &unread.entries, &mut unread.complaints);
                unread.read.extend(more);
            }
        }
        let (ladders, entries) = (unread.read, unread.entries);
        Some((Rest { ladders, entries }, unread.complaints))
    }

    /// Of what is gone, while not all is read: the files are named by the entry that they are of.
    pub(crate) fn take_away_unread(&mut self, image: &Image) -> Result<(), ShelfError> {
        self.leave_if_moved();
        self.take_away_files(image, |_| false)
    }

    /// These, of which all were found at the start, with what else was found then, in the order in which it was.
    pub(super) fn with_found(&self, mut ladders: Vec<wire::Ladder>) -> Vec<wire::Ladder> {
        for found in &self.found {
            match ladders
                .iter_mut()
                .find(|ladder| ladder.entry_id == found.entry_id)
            {
                Some(ladder) => ladder.clone_from(found),
                None => ladders.push(found.clone()),
            }
        }
        ladders
    }

    /// Those that are valid at this time, and those that are met on the way to them; none of an entry of which an SVID is held that lasts for now: on a
    /// cold disk each file is waited for.
    pub(super) fn read_rungs_of(
        &mut self,
        now: UnixTime,
        store: &Store,
        sealer: &Sealer,
        ladders: &[wire::Ladder],
        (entries, held): (&Arc<EntryIndex>, &HeldMap),
    ) -> Ladders {
        let mut read = Ladders::new();
        for ladder in ladders {
            let Some(entry) = entries.get(&ladder.entry_id) else {
                continue;
            };
            if held.get(&entry.id).is_some_and(|held| held.window().lasts(now)) {
                continue;
            }
            let names: Vec<String> = rung_names(ladder).collect();
            let mut met = BTreeMap::new();
            around(names.len(), |at| {
                let rung = match met.entry(at) {
                    Entry::Occupied(met) => met.into_mut(),
                    Entry::Vacant(new) => {
                        // What cannot be read is told with the rest.
                        let (rung, digest) = read_rung(store, sealer, &names[at], &ladder.entry_id).ok()?;
                        self.whole.insert(names[at].clone(), digest);
                        new.insert(Arc::new(rung))
                    }
                };
                let window = rung.window();
                Some((window.begins <= now, window.holds(now)))
            });
            let mut rungs: Vec<_> = met.into_values().collect();
            rungs.retain(|rung| *rung.id() == entry.spiffe_id);
            if !rungs.is_empty() {
                read.insert(Arc::clone(&entry.id), Arc::new(Ladder::new(rungs)));
            }
        }
        if !ladders.is_empty() {
            self.found = ladders.to_vec();
            self.rest = Some(Unread {
                ladders: ladders.iter().cloned().collect(),
                entries: Arc::clone(entries),
                ..Unread::default()
            });
        }
        read
    }

    /// All that has not been read yet. What is missing of a reserve makes a gap, and is said once for all of it.
    pub(super) fn read_rungs(
        &mut self,
        store: &Store,
        sealer: &Sealer,
        ladders: &[wire::Ladder],
        entries: &EntryIndex,
        complaints: &mut Vec<String>,
    ) -> Ladders {
        let mut read = Ladders::new();
        for ladder in ladders {
            let Some(entry) = entries.get(&ladder.entry_id) else {
                continue;
            };
            let (mut rungs, mut missing, mut all) = (Vec::new(), Vec::new(), 0);
            for name in rung_names(ladder) {
                all += 1;
                if self.whole.contains_key(&name) {
                    continue;
                }
                match read_rung(store, sealer, &name, &ladder.entry_id) {
                    Ok((rung, digest)) => {
                        self.whole.insert(name, digest);
                        rungs.push(Arc::new(rung));
                    }
                    Err(what) => missing.push(format!("{name}: {what}")),
                }
            }
            if let Some(first) = missing.first() {
                complaints.push(format!(
                    "{} of {all} SVIDs in the reserve of {} are passed over, the first of them {first}",
                    missing.len(),
                    entry.spiffe_id,
                ));
            }
            rungs.retain(|rung| *rung.id() == entry.spiffe_id);
            if !rungs.is_empty() {
                read.insert(Arc::clone(&entry.id), Arc::new(Ladder::new(rungs)));
            }
        }
        read
    }
}

/// Looks for those that are valid among `count`, in the order in which they begin: by halves for the last that has begun, then back for as long as
/// they hold. `look` reads one, and says whether it has begun and whether it holds; of what it cannot read nothing is known, so all are looked at.
fn around(count: usize, mut look: impl FnMut(usize) -> Option<(bool, bool)>) {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        match look(middle) {
            Some((true, _)) => low = middle + 1,
            Some((false, _)) => high = middle,
            None => {
                for at in 0..count {
                    look(at);
                }
                return;
            }
        }
    }
    for at in (0..low).rev() {
        if !matches!(look(at), Some((_, true))) {
            return;
        }
    }
}

/// A rung, and the digest of its file.
fn read_rung(store: &Store, sealer: &Sealer, name: &str, entry_id: &str) -> Result<(Rung, [u8; 32]), String> {
    let sealed = store
        .read(name)
        .map_err(|error| error_chain(&error))?
        .ok_or_else(|| "the file is gone".to_owned())?;
    let plain = sealer.open(name, &sealed).map_err(|error| error.to_string())?;
    Ok((convert::rung(plain, entry_id)?, sha256(&sealed)))
}

#[cfg(test)]
mod tests {
    use super::around;

    /// Each rung begins with its number and holds for two.
    fn looked_at(count: usize, now: usize, unreadable: Option<usize>) -> Vec<usize> {
        let mut seen = Vec::new();
        around(count, |at| {
            seen.push(at);
            (unreadable != Some(at)).then_some((at <= now, at <= now && now < at + 2))
        });
        seen
    }

    #[test]
    fn what_is_valid_is_found_with_few_looks() {
        for count in 0..200 {
            for now in 0..count + 3 {
                let seen = looked_at(count, now, None);
                let valid = (0..count).filter(|at| *at <= now && now < at + 2);
                assert!(
                    valid.clone().all(|at| seen.contains(&at)),
                    "{count} {now}: {seen:?}"
                );
                assert!(seen.len() <= 12, "{count} {now}: {seen:?}");
            }
        }
    }

    #[test]
    fn one_that_cannot_be_read_on_the_way_has_all_looked_at() {
        let seen = looked_at(100, 7, Some(50));
        assert!((0..100).all(|at| seen.contains(&at)));
    }
}
