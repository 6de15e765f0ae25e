//! The cache's files: `index.a` and `index.b` in turn, one file for each SVID and each rung, and the tokens.
//!
//! Invariant: an index is written when all it names is on disk, and takes the place of the older of the two; what either names stays. So
//! whatever is cut off in between, one whole generation is there. An index that tells of something taken away takes both places.

mod clean;
mod files;
mod read;
mod reserve;
mod rest;

use std::collections::BTreeMap;
use std::sync::Arc;

use landfast_daemon::error_chain;
use landfast_identity::UnixTime;
use landfast_proto::landfast::cache::v1 as wire;
use landfast_store::seal::Sealer;
use landfast_store::{MAX_FILE_BYTES, OpenStore, Store, StoreError};
use prost::Message as _;
use ring::digest::{SHA256, digest};

use super::key::{self, Found as FoundKey};
use super::wire as convert;
use super::{Found, Image, Place};
pub(super) use clean::{device, empty};
use files::{Of, files_of, names_in, names_of};
use rest::Wrote;

/// Why something is not on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShelfError {
    #[error("{0}")]
    NoKey(String),
    #[error("the cache cannot be written")]
    Store(#[from] StoreError),
    #[error("the cache cannot be sealed")]
    Seal(#[from] landfast_store::seal::SealError),
    #[error("the disk does not answer")]
    Hangs,
    #[error("writing broke off")]
    BrokeOff,
    /// The index is on disk, and with it every identity.
    #[error("a part of the cache is not as it should be")]
    Rest(#[source] Box<Self>),
}

/// One place for an index.
#[derive(Default)]
struct Slot {
    /// 0: nothing that counts.
    generation: u64,
    /// The files that it names.
    names: BTreeMap<String, Of>,
    /// Revision and time of creation of its entries: also of those that have tokens and no SVID.
    entries: BTreeMap<Arc<str>, (i64, i64)>,
}

/// The files. All calls block.
pub(crate) struct Shelf {
    place: Place,
    open: OpenStore,
    store: Option<Store>,
    sealer: Option<Sealer>,
    slots: [Slot; 2],
    /// Files of SVIDs that are whole, with the digests of what is in them.
    whole: BTreeMap<String, [u8; 32]>,
    /// There is something that could not be used. It is left alone until the server has made it worthless.
    foreign: bool,
    /// It is not known what there is: to be read before the next write.
    unread: bool,
    /// What the indexes tell may be older than what is held. Until one is written no tokens are: what was taken away would have some again.
    stale: bool,
    /// The tokens on disk are not those that were to be written.
    owes_tokens: bool,
    keys: key::Reader,
    /// What is left to be read of the reserve.
    rest: Option<reserve::Unread>,
    /// The reserve as the start found it, whether or not it has been read.
    found: Vec<wire::Ladder>,
    /// Of the index that was written last.
    index_bytes: u64,
    wrote: Wrote,
}

/// How an image is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// The server has been heard in this run, so that what could not be opened is worth nothing any more.
    pub(crate) worthless: bool,
    /// Without it, what was taken away loses its keys and no more than that.
    pub(crate) index: bool,
    /// Something was taken away: nothing may bring it back.
    pub(crate) both: bool,
    pub(crate) tokens: bool,
    /// Of the reserve only a part is held yet: what else an index names of it stays named.
    pub(crate) partly: bool,
}

impl Shelf {
    /// Opens what there is, and reads all of it. `agent_id` is that of the node; without one nothing is used.
    #[cfg(test)]
    pub(crate) fn open(place: Place, agent_id: Option<&landfast_identity::SpiffeId>) -> (Self, Found) {
        Self::open_by(place, agent_id, Arc::new(Store::open))
    }

    /// Over such a disk.
    #[cfg(test)]
    pub(crate) fn open_by(
        place: Place,
        agent_id: Option<&landfast_identity::SpiffeId>,
        open: OpenStore,
    ) -> (Self, Found) {
        let mut shelf = Self::unread(place, open);
        shelf.unread = false;
        let found = shelf.read(agent_id, None);
        (shelf, found)
    }

    /// Opens what there is, and reads it, but of each entry's reserve only what may be served at this time, if that is known: the rest is for
    /// [`Self::read_rest`]. `agent_id` is that of the node; without one nothing is used.
    pub(crate) fn open_at(
        place: Place,
        agent_id: Option<&landfast_identity::SpiffeId>,
        now: Option<UnixTime>,
        open: OpenStore,
    ) -> (Self, Found) {
        let mut shelf = Self::unread(place, open);
        shelf.unread = false;
        let found = shelf.read(agent_id, now);
        (shelf, found)
    }

    /// Without a look at what there is.
    pub(crate) fn closed(place: Place, open: OpenStore) -> Self {
        Self::unread(place, open)
    }

    fn unread(place: Place, open: OpenStore) -> Self {
        Self {
            place,
            open,
            store: None,
            sealer: None,
            slots: Default::default(),
            whole: BTreeMap::new(),
            foreign: false,
            unread: true,
            stale: false,
            owes_tokens: false,
            keys: key::Reader::default(),
            rest: None,
            found: Vec::new(),
            index_bytes: 0,
            wrote: Wrote::default(),
        }
    }

    /// Another one over the same files, for when this one is lost. It reads them before it writes.
    pub(crate) fn spare(&self) -> impl Fn() -> Self + Send + use<> {
        let (place, open) = (self.place.clone(), Arc::clone(&self.open));
        move || Self {
            owes_tokens: true,
            ..Self::unread(place.clone(), Arc::clone(&open))
        }
    }

    /// Writes all of it that is not there yet.
    pub(crate) fn write(&mut self, image: &Image, manner: Manner) -> Result<(), ShelfError> {
        self.wrote = Wrote::default();
        self.owes_tokens |= manner.tokens;
        let key = self.leave_a_key_that_is_gone();
        let read_anew = self.look_again(image)?;
        if self.foreign && !manner.worthless {
            // Also while nothing would be overwritten: of two caches nobody knows which counts.
            return Ok(());
        }
        if self.foreign {
            // Before anything that may fail. Under the same key, an index of another node could also count more than ours.
            self.give_up()?;
        }
        self.prepare(manner.worthless)?;
        let empty = self.slots.iter().any(|slot| slot.generation == 0);
        if manner.index || read_anew || empty {
            self.write_indexes(image, manner)?;
        } else if manner.both {
            self.take_away(image)?;
        }
        let rest = self.write_rest(image, manner.tokens).and(key);
        rest.map_err(|error| ShelfError::Rest(Box::new(error)))
    }

    fn write_indexes(&mut self, image: &Image, manner: Manner) -> Result<(), ShelfError> {
        // Both places are taken from the first time on: one that is empty has lost something.
        let both = manner.both || self.stale || self.slots.iter().any(|slot| slot.generation == 0);
        if manner.partly {
            // What is of entries that are gone, or others now, is not to be named again.
            self.take_away_files(image, |_| false)?;
        }
        let written = self.write_index(image, manner.partly).and_then(|()| match both {
            true => self.write_index(image, manner.partly),
            false => Ok(()),
        });
        if written.is_err() {
            if !manner.partly && (manner.both || self.stale) {
                // A full disk takes no index, but it gives files back: what was taken away loses its keys at least.
                if let Err(error) = self.take_away(image) {
                    tracing::error!(
                        error = error_chain(&error),
                        "keys that were taken away are still on disk"
                    );
                }
            }
            self.sweep_beside(image);
        }
        written?;
        if !manner.partly {
            self.found.clear();
        }
        self.foreign = false;
        self.stale = false;
        Ok(())
    }

    /// Which key it is sealed under, for people.
    pub(crate) fn key_id(&self) -> String {
        let id = self.sealer.as_ref().map(|sealer| sealer.key_id().to_string());
        id.unwrap_or_default()
    }

    fn prepare(&mut self, worthless: bool) -> Result<(), ShelfError> {
        let begun = !self.is_empty()?;
        if self.sealer.is_none() {
            match self.keys.find(&self.place, begun, worthless) {
                FoundKey::Key { key, .. } => self.sealer = Some(self.sealer_of(key)),
                FoundKey::None(why) => return Err(ShelfError::NoKey(why)),
            }
        }
        Ok(())
    }

    fn sealer_of(&self, key: Arc<dyn landfast_store::seal::SealKey>) -> Sealer {
        Sealer::new(key, PURPOSE, self.place.trust_domain.as_str())
    }

    fn sealer(&self) -> Result<&Sealer, ShelfError> {
        self.sealer
            .as_ref()
            .ok_or_else(|| ShelfError::NoKey("there is no seal key".to_owned()))
    }

    fn store(&mut self) -> Result<Store, ShelfError> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let store = (self.open)(&self.place.dir)?;
        Ok(self.store.insert(store).clone())
    }

    fn is_empty(&mut self) -> Result<bool, ShelfError> {
        Ok(!self.store()?.list()?.iter().any(|name| is_ours(name)))
    }

    fn write_index(&mut self, image: &Image, partly: bool) -> Result<(), ShelfError> {
        let store = self.store()?;
        let slot = usize::from(self.slots[0].generation > self.slots[1].generation);
        let generation = self.slots[1 - slot].generation + 1;
        let (svids, mut ladders) = files::named(image);
        if partly {
            ladders = self.with_found(ladders);
        }
        let mut index = convert::index(image, generation, svids, ladders);
        self.index_bytes = (index.encoded_len() + SEALED_MORE) as u64;
        if self.index_bytes > MAX_FILE_BYTES {
            // Before its SVIDs are written: no index would ever name them.
            return Err(ShelfError::Store(StoreError::TooLarge {
                path: self.place.dir.join(SLOTS[slot]),
                limit: MAX_FILE_BYTES,
            }));
        }
        self.write_svids(&store, image)?;
        for file in &mut index.svids {
            let digest = self.whole.get(&file.name);
            file.sha256 = digest.map_or_else(Vec::new, |digest| digest.to_vec()).into();
        }
        let names = names_in(&index, |id| {
            let entry = image.snapshot.entries.get(id)?;
            Some((entry.revision, entry.created_at))
        });
        let sealed = self.sealer()?.seal(SLOTS[slot], &index.encode_to_vec())?;
        // What is there until the new one is whole counts as before; one that is not durable may be either.
        let before = std::mem::take(&mut self.slots[slot].names);
        self.wrote.indexes += sealed.len() as u64;
        let entries = image.snapshot.entries.iter();
        let entries = entries.map(|entry| (Arc::clone(&entry.id), (entry.revision, entry.created_at)));
        match store.replace(SLOTS[slot], &sealed) {
            Ok(()) => {
                self.slots[slot] = Slot {
                    generation,
                    names,
                    entries: entries.collect(),
                };
                Ok(())
            }
            Err(error) => {
                // Of an entry that both have, as it was: others may have had it.
                self.slots[slot].names = names.into_iter().chain(before).collect();
                let before = std::mem::take(&mut self.slots[slot].entries);
                self.slots[slot].entries = entries.chain(before).collect();
                Err(error.into())
            }
        }
    }

    /// The files of all SVIDs, rungs among them, of which those that are new are written.
    fn write_svids(&mut self, store: &Store, image: &Image) -> Result<(), ShelfError> {
        let fresh: Vec<_> = files_of(image)
            .filter(|file| !self.whole.contains_key(&file.name))
            .collect();
        for some in fresh.chunks(AT_ONCE) {
            let mut sealed = Vec::with_capacity(some.len());
            for file in some {
                let name = file.name.as_str();
                sealed.push((name, self.sealer()?.seal(name, &file.plain())?));
            }
            let files: Vec<_> = sealed
                .iter()
                .map(|(name, bytes)| (*name, bytes.as_slice()))
                .collect();
            store.replace_all(&files)?;
            let whole = sealed
                .iter()
                .map(|(name, bytes)| ((*name).to_owned(), sha256(bytes)));
            self.whole.extend(whole);
        }
        Ok(())
    }
}

fn is_ours(name: &str) -> bool {
    SLOTS.contains(&name) || name == TOKENS || name == BEGUN || is_of_svid(name)
}

fn is_of_svid(name: &str) -> bool {
    name.starts_with(SVID) || name.starts_with(RUNG)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

pub(super) const SLOTS: [&str; 2] = ["index.a", "index.b"];
pub(super) const TOKENS: &str = "tokens";
pub(super) const SVID: &str = "svid-";
pub(super) const RUNG: &str = "rung-";
/// There was a cache here; empty.
pub(super) const BEGUN: &str = "begun";
const PURPOSE: &str = "agent cache";
/// What a sealed file has beside its content: 48 bytes before it and a tag of 16.
const SEALED_MORE: usize = 64;
/// Sealed files in memory at a time.
const AT_ONCE: usize = 64;
