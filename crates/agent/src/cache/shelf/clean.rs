//! What leaves the shelf.
//!
//! Invariant: what was taken away goes even when nothing can be written in its place: no key, no room, another directory than before.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

use landfast_daemon::error_chain;
use landfast_store::StoreError;

use super::{BEGUN, Image, Of, SLOTS, SVID, Shelf, ShelfError, Slot, is_ours, names_of};

impl Shelf {
    /// Sees whether the files are still where they were. Those that are gone count as gone; a directory that is another one is read.
    pub(super) fn look_again(&mut self, image: &Image) -> Result<(), ShelfError> {
        self.leave_if_moved();
        if std::mem::take(&mut self.unread) {
            // What there is may be an older state of our own, or anything: it counts for nothing beside what is held.
            for complaint in self.read(Some(&image.agent_id)).complaints {
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
        self.unread = true;
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
        if !self.place.key_elsewhere {
            self.remove_key()?;
        }
        self.sealer = None;
        self.slots = Default::default();
        self.whole.clear();
        self.foreign = false;
        Ok(())
    }

    /// One on a medium is the operator's to destroy.
    fn remove_key(&self) -> Result<(), StoreError> {
        let path = &self.place.key;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(StoreError::CannotRemove {
                    path: path.clone(),
                    source,
                });
            }
            Ok(()) => {}
        }
        let parent = path.parent().map(std::fs::File::open);
        let synced = parent.map_or(Ok(()), |dir| dir.and_then(|dir| dir.sync_all()));
        synced.map_err(|source| StoreError::NotDurable {
            path: path.clone(),
            source,
        })
    }

    /// Removes what no index names.
    pub(super) fn sweep(&mut self) -> Result<(), ShelfError> {
        self.sweep_but(&BTreeSet::new())
    }

    /// After a write that failed: what the next attempt needs stays.
    pub(super) fn sweep_beside(&mut self, image: &Image) {
        let spared = names_of(image).map(|(_, _, name)| name).collect();
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
        let kind = |name: &str| name.starts_with(SVID) || name == BEGUN;
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

    /// Of entries that are gone, or are others now. What the image needs stays, also when an index names it for what was before.
    pub(super) fn drop_keys_beside(&mut self, image: &Image) {
        let entries = &image.snapshot.entries;
        let gone = |of: &Of| {
            entries
                .get(&of.entry_id)
                .is_none_or(|now| (now.revision, now.created_at) != (of.revision, of.created_at))
        };
        let spared: BTreeSet<String> = names_of(image).map(|(_, _, name)| name).collect();
        let named = self.slots.iter().flat_map(|slot| &slot.names);
        let gone: BTreeSet<&str> = named
            .filter(|(name, of)| gone(of) && !spared.contains(*name))
            .map(|(name, _)| name.as_str())
            .collect();
        let names: Vec<&str> = gone.into_iter().collect();
        for name in &names {
            self.whole.remove(*name);
        }
        let store = self.store.clone();
        let removed = store.map_or(Ok(()), |store| store.remove_all(&names));
        if let Err(error) = removed {
            tracing::error!(
                error = error_chain(&error),
                "keys that were taken away are still on disk"
            );
        }
    }
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

/// Whether there is anything of a cache.
pub(in crate::cache) fn is_there(dir: &std::path::Path) -> bool {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names = files.map(|file| file.file_name());
    names.any(|name| name.to_str().is_some_and(is_ours))
}

/// On which disk this is.
pub(in crate::cache) fn device(path: &std::path::Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|found| found.dev())
}
