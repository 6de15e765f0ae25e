//! What leaves the shelf.
//!
//! Invariant: what was taken away goes even when nothing can be written in its place: no key, no room, another directory than before.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

use landfast_daemon::error_chain;
use landfast_proto::landfast::cache::v1 as wire;
use landfast_store::StoreError;

use super::files::rung_names;
use super::{BEGUN, Image, RUNG, SLOTS, Shelf, ShelfError, Slot, TOKENS, is_of_svid, is_ours, names_of};
use crate::cache::key::Seen;

impl Shelf {
    /// Sees whether the files are still where they were. Those that are gone count as gone; a directory that is another one is read. Answers whether
    /// it was.
    pub(super) fn look_again(&mut self, image: &Image) -> Result<bool, ShelfError> {
        self.leave_if_moved();
        let read_anew = std::mem::take(&mut self.unread);
        if read_anew {
            // What there is may be an older state of our own, or anything: it counts for nothing beside what is held.
            for complaint in self.read(Some(&image.agent_id), None).complaints {
                tracing::warn!("{complaint}");
            }
            self.stale = true;
        }
        let there: BTreeSet<String> = self.store()?.list()?.into_iter().collect();
        self.whole.retain(|name, _| there.contains(name));
        for (slot, name) in self.slots.iter_mut().zip(SLOTS) {
            if !there.contains(name) {
                *slot = Slot::default();
            }
        }
        Ok(read_anew)
    }

    /// A start opens nothing without the key that is where it should be: what was sealed under another one is worth nothing, and written anew. A
    /// medium that was pulled may come back, and what is new is to be readable then. Answers what people have to know.
    pub(super) fn leave_a_key_that_is_gone(&mut self) -> Result<(), ShelfError> {
        let Some(sealer) = &self.sealer else {
            return Ok(());
        };
        match self.keys.look(&self.place.key) {
            Seen::Key(id) if id == sealer.key_id() => return Ok(()),
            Seen::Key(_) => {}
            Seen::Nothing(_) if !self.place.key_elsewhere => {}
            Seen::Nothing(why) | Seen::Unknown(why) => return Err(ShelfError::NoKey(why)),
        }
        tracing::warn!(
            key = %self.place.key.display(),
            "the seal key is gone or another one than before: the cache is sealed anew"
        );
        self.forget();
        Ok(())
    }

    /// A descriptor of a directory that was removed, or mounted over, leads to files that no start finds.
    pub(super) fn leave_if_moved(&mut self) {
        if self.store.as_ref().is_some_and(|store| !store.is_there()) {
            tracing::warn!(
                dir = %self.place.dir.display(),
                "the cache's directory is another one than before: it is written anew"
            );
            self.forget();
        }
    }

    /// Knows nothing of what is on disk any more.
    pub(super) fn forget(&mut self) {
        self.store = None;
        self.sealer = None;
        self.slots = Default::default();
        self.whole.clear();
        self.found.clear();
        self.unread = true;
        self.owes_tokens = true;
    }

    /// Removes a cache that the server has made worthless, whether or not another can be written: what could not be opened today can be
    /// tomorrow, and would bring back what was deleted meanwhile. A mark stays, so that the next start is not taken for the first.
    pub(super) fn give_up(&mut self) -> Result<(), ShelfError> {
        let store = self.store()?;
        let names = store.list()?;
        let rest: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| is_ours(name) && *name != BEGUN && !SLOTS.contains(name))
            .collect();
        let indexed = names.iter().any(|name| SLOTS.contains(&name.as_str()));
        if !indexed && rest.is_empty() {
            return Ok(());
        }
        let marked = match names.iter().any(|name| name == BEGUN) {
            true => Ok(()),
            false => store.replace(BEGUN, b""),
        };
        store.remove_all(&SLOTS)?;
        // Without the mark, these are one.
        marked?;
        Ok(store.remove_all(&rest)?)
    }

    /// Removes everything, for a node that is banned.
    pub(crate) fn destroy(&mut self) -> Result<(), ShelfError> {
        self.leave_if_moved();
        // The key first: without it nobody opens the rest, however much of it cannot be removed.
        let key = match self.place.key_elsewhere {
            // One on a medium is the operator's to destroy.
            true => Ok(()),
            false => remove_beside(&self.place.key),
        };
        let files = self.remove_files();
        // Whatever is left is looked at again before anything is written.
        self.forget();
        key?;
        files?;
        self.unread = false;
        self.foreign = false;
        Ok(remove_beside(&self.place.ban)?)
    }

    fn remove_files(&mut self) -> Result<(), ShelfError> {
        let dir = &self.place.dir;
        let there = dir.try_exists().map_err(|source| StoreError::Directory {
            path: dir.clone(),
            source,
        })?;
        if there {
            let store = self.store()?;
            let names = store.list()?;
            let ours = names.iter().map(String::as_str).filter(|name| is_ours(name));
            store.remove_all(&ours.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Removes what no index names.
    pub(super) fn sweep(&mut self) -> Result<(), ShelfError> {
        self.sweep_but(&BTreeSet::new())
    }

    /// After a write that failed: what the next attempt needs stays.
    pub(super) fn sweep_beside(&mut self, image: &Image) {
        let spared = names_of(image).collect();
        if let Err(error) = self.sweep_but(&spared) {
            tracing::debug!(
                error = error_chain(&error),
                "files of the cache that nobody needs stay"
            );
        }
    }

    fn sweep_but(&mut self, spared: &BTreeSet<String>) -> Result<(), ShelfError> {
        let store = self.store()?;
        let names = store.list()?;
        let named = |name: &str| self.slots.iter().any(|slot| slot.names.contains_key(name));
        let kind = |name: &str| is_of_svid(name) || name == BEGUN;
        let needed = |name: &str| !kind(name) || named(name) || spared.contains(name);
        // The mark has no meaning beside an index.
        let marked = |name: &str| name == BEGUN && self.slots.iter().all(|slot| slot.generation == 0);
        let gone: Vec<_> = names
            .iter()
            .map(String::as_str)
            .filter(|name| !needed(name) && !marked(name))
            .collect();
        for name in &gone {
            self.whole.remove(*name);
        }
        Ok(store.remove_all(&gone)?)
    }

    /// Of entries that are gone, or are others now, what an index on disk would give to those who had them: also a key that the image needs, for that
    /// is sealed again with the next index, and the tokens.
    pub(super) fn take_away(&mut self, image: &Image) -> Result<(), ShelfError> {
        let needed: BTreeSet<String> = names_of(image).collect();
        // A rung that is not held any more was taken away, or is spent.
        self.take_away_files(image, |name| name.starts_with(RUNG) && !needed.contains(name))
    }

    /// With these files.
    pub(super) fn take_away_files(
        &mut self,
        image: &Image,
        too: impl Fn(&str) -> bool,
    ) -> Result<(), ShelfError> {
        let entries = &image.snapshot.entries;
        let gone = |id: &str, was: (i64, i64)| {
            let now = entries.get(id);
            now.is_none_or(|now| (now.revision, now.created_at) != was)
        };
        let named = self.slots.iter().flat_map(|slot| &slot.names);
        let files: BTreeSet<String> = named
            .filter(|(name, of)| gone(&of.entry_id, (of.revision, of.created_at)) || too(name))
            .map(|(name, _)| name.clone())
            .collect();
        let mut known = self.slots.iter().flat_map(|slot| &slot.entries);
        let tokens = known.any(|(id, was)| gone(id, *was)).then_some(TOKENS);
        self.stale |= tokens.is_some();
        self.owes_tokens |= tokens.is_some();
        for name in &files {
            self.whole.remove(name);
        }
        let stays = |ladder: &wire::Ladder| !rung_names(ladder).any(|name| files.contains(&name));
        self.found.retain(stays);
        if let Some(unread) = &mut self.rest {
            unread.ladders.retain(stays);
        }
        let names: Vec<&str> = files.iter().map(String::as_str).chain(tokens).collect();
        self.store()?.remove_all(&names)?;
        // A file of that name that is sealed again is not the one that those indexes mean.
        for slot in &mut self.slots {
            slot.names.retain(|name, _| !files.contains(name));
        }
        Ok(())
    }
}

/// Removes a file that is not in the cache's directory, durably. One that is not there is fine.
fn remove_beside(path: &std::path::Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            let path = path.to_owned();
            return Err(StoreError::CannotRemove { path, source });
        }
        Ok(()) => {}
    }
    let parent = path.parent().map(std::fs::File::open);
    let synced = parent.map_or(Ok(()), |dir| dir.and_then(|dir| dir.sync_all()));
    synced.map_err(|source| StoreError::NotDurable {
        path: path.to_owned(),
        source,
    })
}

/// Removes what a cache is made of, wherever its directory leads to: a link that is removed leaves what it led to.
pub(in crate::cache) fn empty(dir: &std::path::Path) -> std::io::Result<()> {
    let mut failed = None;
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name();
        let left_over = |name: &str| name.starts_with('.') && name.ends_with(".tmp");
        if name.to_str().is_some_and(|name| is_ours(name) || left_over(name)) {
            failed = std::fs::remove_file(file.path()).err().or(failed);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// On which disk this is.
pub(in crate::cache) fn device(path: &std::path::Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|found| found.dev())
}
