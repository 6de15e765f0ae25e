//! The cache's files: `index.a` and `index.b` in turn, one file for each SVID, and the tokens.
//!
//! Invariant: an index is written when all it names is on disk, and takes the place of the older of the two; what either names stays. So
//! whatever is cut off in between, one whole generation is there. An index that tells of something taken away takes both places.

mod clean;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use landfast_proto::landfast::cache::v1 as wire;
use landfast_store::seal::Sealer;
use landfast_store::{MAX_FILE_BYTES, Store, StoreError};
use prost::Message as _;
use ring::digest::{SHA256, digest};

use super::key::{self, Found as FoundKey};
use super::wire as convert;
use super::{Found, Image, Place};
use crate::keeper::state::Held;
pub(super) use clean::{device, empty, is_there};

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
}

/// One place for an index.
#[derive(Default)]
struct Slot {
    /// 0: nothing that counts.
    generation: u64,
    /// The files that it names.
    names: BTreeMap<String, Of>,
}

/// The entry that a file is of, as it was when the index was written.
#[derive(Clone)]
struct Of {
    entry_id: String,
    revision: i64,
    created_at: i64,
}

/// How the directory is opened: tests put a disk in between that fails.
type Open = Arc<dyn Fn(&std::path::Path) -> Result<Store, StoreError> + Send + Sync>;

/// The files. All calls block.
pub(crate) struct Shelf {
    place: Place,
    open: Open,
    store: Option<Store>,
    sealer: Option<Sealer>,
    slots: [Slot; 2],
    /// Files of SVIDs that are whole, with the digests of what is in them.
    whole: BTreeMap<String, [u8; 32]>,
    /// There is something that could not be used. It is left alone until the server has made it worthless.
    foreign: bool,
    /// It is not known what there is: to be read before the next write.
    unread: bool,
    /// What the indexes tell may be older than what is held.
    stale: bool,
    keys: key::Reader,
    /// Of the index that was written last.
    index_bytes: u64,
}

/// How an image is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// The server has been heard in this run, so that what could not be opened is worth nothing any more.
    pub(crate) worthless: bool,
    /// Something was taken away: nothing may bring it back.
    pub(crate) both: bool,
    pub(crate) tokens: bool,
}

impl Shelf {
    /// Opens what there is, and reads it. `agent_id` is that of the node; without one nothing is used.
    pub(crate) fn open(place: Place, agent_id: Option<&landfast_identity::SpiffeId>) -> (Self, Found) {
        Self::open_by(place, agent_id, Store::open)
    }

    /// Over a disk that a test breaks.
    pub(crate) fn open_by(
        place: Place,
        agent_id: Option<&landfast_identity::SpiffeId>,
        open: impl Fn(&std::path::Path) -> Result<Store, StoreError> + Send + Sync + 'static,
    ) -> (Self, Found) {
        let mut shelf = Self::unread(place, Arc::new(open));
        shelf.unread = false;
        let found = shelf.read(agent_id);
        (shelf, found)
    }

    fn unread(place: Place, open: Open) -> Self {
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
            keys: key::Reader::default(),
            index_bytes: 0,
        }
    }

    /// Another one over the same files, for when this one is lost. It reads them before it writes.
    pub(crate) fn spare(&self) -> impl Fn() -> Self + Send + use<> {
        let (place, open) = (self.place.clone(), Arc::clone(&self.open));
        move || Self::unread(place.clone(), Arc::clone(&open))
    }

    /// Writes all of it that is not there yet.
    pub(crate) fn write(&mut self, image: &Image, manner: Manner) -> Result<(), ShelfError> {
        self.look_again(image)?;
        if self.foreign && !manner.worthless {
            // Also while nothing would be overwritten: of two caches nobody knows which counts.
            return Ok(());
        }
        if self.foreign {
            // Before anything that may fail. Under the same key, an index of another node could also count more than ours.
            self.give_up()?;
        }
        self.prepare(manner.worthless)?;
        // Both places are taken from the first time on: one that is empty has lost something.
        let both = manner.both || self.stale || self.slots.iter().any(|slot| slot.generation == 0);
        let written = self.write_index(image).and_then(|()| match both {
            true => self.write_index(image),
            false => Ok(()),
        });
        if written.is_err() {
            if manner.both || self.stale {
                // A full disk takes no index, but it gives files back: what was taken away loses its keys at least.
                self.drop_keys_beside(image);
            }
            self.sweep_beside(image);
        }
        written?;
        self.foreign = false;
        self.stale = false;
        if manner.tokens {
            self.write_tokens(image)?;
        }
        self.sweep()
    }

    /// How large the index is, sealed.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.index_bytes
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

    fn write_index(&mut self, image: &Image) -> Result<(), ShelfError> {
        let store = self.store()?;
        let slot = usize::from(self.slots[0].generation > self.slots[1].generation);
        let generation = self.slots[1 - slot].generation + 1;
        let files = names_of(image).map(|(entry_id, _, name)| wire::SvidFile {
            entry_id: entry_id.to_string(),
            sha256: vec![0; SHA256.output_len()].into(),
            name,
        });
        let mut index = convert::index(image, generation, files.collect());
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
        let names = named_by(&index.svids, |id| {
            let entry = image.snapshot.entries.get(id)?;
            Some((entry.revision, entry.created_at))
        });
        let sealed = self.sealer()?.seal(SLOTS[slot], &index.encode_to_vec())?;
        // What is there until the new one is whole counts as before; one that is not durable may be either.
        let before = std::mem::take(&mut self.slots[slot].names);
        match store.replace(SLOTS[slot], &sealed) {
            Ok(()) => {
                self.slots[slot] = Slot { generation, names };
                Ok(())
            }
            Err(error) => {
                self.slots[slot].names = before.into_iter().chain(names).collect();
                Err(error.into())
            }
        }
    }

    /// The files of all SVIDs, of which those that are new are written.
    fn write_svids(&mut self, store: &Store, image: &Image) -> Result<(), ShelfError> {
        let fresh: Vec<_> = names_of(image)
            .filter(|(_, _, name)| !self.whole.contains_key(name))
            .collect();
        for some in fresh.chunks(AT_ONCE) {
            let mut sealed = Vec::with_capacity(some.len());
            for (entry_id, held, name) in some {
                let plain = convert::svid_of(entry_id, held);
                sealed.push((name.as_str(), self.sealer()?.seal(name, &plain)?));
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

    fn write_tokens(&mut self, image: &Image) -> Result<(), ShelfError> {
        let store = self.store()?;
        let plain = convert::tokens_of(&image.tokens);
        match plain.is_empty() {
            true => store.remove(TOKENS)?,
            false => store.replace(TOKENS, &self.sealer()?.seal(TOKENS, &plain)?)?,
        }
        Ok(())
    }
}

/// Each SVID's entry and the name of its file.
fn names_of(image: &Image) -> impl Iterator<Item = (&Arc<str>, &Arc<Held>, String)> {
    let held = image.snapshot.held.iter();
    held.map(|(entry_id, held)| (entry_id, held, name_of(entry_id, held)))
}

/// The same for the same SVID of the same entry, and for no other.
fn name_of(entry_id: &str, held: &Held) -> String {
    let leaf = held.svid.leaf().fingerprint_sha256();
    let revision = held.revision.to_be_bytes();
    let hash = digest(
        &SHA256,
        &[leaf.as_slice(), &revision, entry_id.as_bytes()].concat(),
    );
    let hex: String = hash.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{SVID}{hex}")
}

fn named_by(files: &[wire::SvidFile], as_of: impl Fn(&str) -> Option<(i64, i64)>) -> BTreeMap<String, Of> {
    let each = files.iter().map(|file| {
        let (revision, created_at) = as_of(&file.entry_id).unwrap_or_default();
        let of = Of {
            entry_id: file.entry_id.clone(),
            revision,
            created_at,
        };
        (file.name.clone(), of)
    });
    each.collect()
}

fn is_ours(name: &str) -> bool {
    SLOTS.contains(&name) || name == TOKENS || name == BEGUN || name.starts_with(SVID)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

pub(super) const SLOTS: [&str; 2] = ["index.a", "index.b"];
pub(super) const TOKENS: &str = "tokens";
pub(super) const SVID: &str = "svid-";
/// There was a cache here; empty.
pub(super) const BEGUN: &str = "begun";
const PURPOSE: &str = "agent cache";
/// What a sealed file has beside its content: 48 bytes before it and a tag of 16.
const SEALED_MORE: usize = 64;
/// Sealed files in memory at a time.
const AT_ONCE: usize = 64;
