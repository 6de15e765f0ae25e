//! What is on the shelf at the start.
//!
//! Invariant: the newest index that is whole counts, and of an SVID that is not whole the older index's, if that is of the same entry. Whatever is
//! passed over is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime};
use landfast_proto::landfast::cache::v1 as wire;
use landfast_store::seal::Sealer;
use landfast_store::{OpenStore, Store};
use prost::Message as _;

use landfast_daemon::error_chain;

use super::files::names_in;
use super::{FoundKey, SLOTS, Shelf, Slot, TOKENS, convert, is_ours, sha256};
use crate::cache::wire::HeldMap;
use crate::cache::{Found, Image, Place};
use crate::keeper::state::Held;
use crate::keeper::state::Snapshot;

impl Shelf {
    /// Whose it is, for a node that has lost its own SVID: the cache is sealed under a key of this node. `None` when there is none, or two nodes' have been
    /// here. Blocks.
    pub(crate) fn whose(place: Place, open: OpenStore) -> Option<SpiffeId> {
        let dir = place.dir.display().to_string();
        let mut shelf = Self::unread(place, open);
        let (store, sealer) = shelf.ready_to_read(None).ok()??;
        let whole = indexes(&store, &sealer, &dir, &mut Vec::new());
        let named: BTreeSet<&str> = whole.iter().map(|(_, index)| index.agent_id.as_str()).collect();
        match named.into_iter().collect::<Vec<_>>()[..] {
            [one] => SpiffeId::parse(one).ok(),
            _ => None,
        }
    }

    /// Of the reserve all, or what may be served at this time.
    pub(super) fn read(&mut self, agent_id: Option<&SpiffeId>, now: Option<UnixTime>) -> Found {
        let mut complaints = Vec::new();
        let image = match self.try_read(agent_id, now, &mut complaints) {
            Ok(image) => image,
            Err(why) => {
                complaints.push(why);
                None
            }
        };
        let image = image.map(|mut image| {
            image.tokens = self.read_tokens(&mut complaints);
            image
        });
        if image.is_none() && !complaints.is_empty() {
            complaints.push(
                "so the agent starts without the identities that it held, and has them from the server"
                    .to_owned(),
            );
        }
        Found { image, complaints }
    }

    fn try_read(
        &mut self,
        agent_id: Option<&SpiffeId>,
        now: Option<UnixTime>,
        complaints: &mut Vec<String>,
    ) -> Result<Option<Image>, String> {
        let dir = self.place.dir.display().to_string();
        let Some((store, sealer)) = self.ready_to_read(agent_id)? else {
            return Ok(None);
        };
        let mut whole = indexes(&store, &sealer, &dir, complaints);
        if whole.len() == 1 && complaints.is_empty() {
            complaints.push(format!("one of the two indexes in {dir} is missing"));
        }
        // Of the other node neither SVIDs nor the number count.
        let others = whole.extract_if(.., |(_, index)| {
            agent_id.is_none_or(|ours| ours.as_str() != index.agent_id)
        });
        let whose: BTreeSet<String> = others.map(|(_, index)| index.agent_id).collect();
        for whose in whose {
            let ours = agent_id.map_or_else(|| "not attested".to_owned(), ToString::to_string);
            complaints.push(format!(
                "the cache {dir} is of node {whose}, and this node is {ours}: it is not used"
            ));
        }
        let Some((_, index)) = whole.first() else {
            return Err(format!("no index in the cache {dir} can be used"));
        };
        let Some(mut image) = convert::image(index.clone(), &self.place.trust_domain, complaints) else {
            return Err(format!("the cache {dir} names no node"));
        };
        let older = whole.get(1).map_or(&[][..], |(_, older)| &older.svids);
        let held = self.read_svids(&store, &sealer, [&index.svids, older], &image, complaints);
        let entries = &image.snapshot.entries;
        let rungs = match now {
            Some(now) => self.read_rungs_of(now, &store, &sealer, &index.ladders, (entries, &held)),
            None => self.read_rungs(&store, &sealer, &index.ladders, entries, complaints),
        };
        let snapshot = Snapshot {
            held: Arc::new(held),
            rungs: Arc::new(rungs),
            reading: self.rest.is_some(),
            ..Snapshot::clone(&image.snapshot)
        };
        image.snapshot = Arc::new(snapshot);
        for (slot, index) in whole {
            let entries = index.entries.iter().filter_map(|kept| kept.entry.as_ref());
            let as_of: BTreeMap<&str, (i64, i64)> = entries
                .map(|entry| (entry.id.as_str(), (entry.revision_number, entry.created_at)))
                .collect();
            self.slots[slot] = Slot {
                generation: index.generation,
                entries: as_of.iter().map(|(id, as_of)| ((*id).into(), *as_of)).collect(),
                names: names_in(&index, |id| as_of.get(id).copied()),
            };
        }
        self.foreign = false;
        Ok(Some(image))
    }

    /// What to read from, and with; `None` when there is nothing, as there should be.
    fn ready_to_read(&mut self, agent_id: Option<&SpiffeId>) -> Result<Option<(Store, Sealer)>, String> {
        let dir = self.place.dir.display().to_string();
        let unusable = |error: &dyn std::error::Error| {
            format!("the cache {dir} cannot be used ({})", error_chain(error))
        };
        // Also what cannot be looked at: it may be there again when it is written.
        self.foreign = true;
        let empty = self.is_empty().map_err(|error| unusable(&error))?;
        self.foreign = !empty;
        let (sealer, had_key) = match self.keys.find(&self.place, !empty, false) {
            FoundKey::Key { key, made } => (self.sealer_of(key), !made),
            FoundKey::None(why) => return Err(why),
        };
        self.sealer = Some(sealer.clone());
        // A key is made with the first cache: of a node that is in, something is missing.
        match (empty, had_key && agent_id.is_some()) {
            (true, true) => Err(format!(
                "the cache {dir} holds nothing, and this node has a seal key for it"
            )),
            (true, false) => Ok(None),
            (false, _) => {
                let store = self.store().map_err(|error| unusable(&error))?;
                Ok(Some((store, sealer)))
            }
        }
    }

    fn read_svids(
        &mut self,
        store: &Store,
        sealer: &Sealer,
        [named, older]: [&[wire::SvidFile]; 2],
        image: &Image,
        complaints: &mut Vec<String>,
    ) -> HeldMap {
        let mut held = HeldMap::new();
        for file in named {
            let Some(entry) = image.snapshot.entries.get(&file.entry_id) else {
                continue;
            };
            let mut of_file = |file: &wire::SvidFile| match read_svid(store, sealer, file) {
                Ok((svid, digest)) => {
                    self.whole.insert(file.name.clone(), digest);
                    (*svid.svid.id() == entry.spiffe_id).then_some(svid)
                }
                Err(what) => {
                    complaints.push(format!(
                        "the SVID of {} in {} is passed over: {what}",
                        entry.spiffe_id, file.name
                    ));
                    None
                }
            };
            let read = of_file(file).or_else(|| {
                let older = older.iter().find(|one| one.entry_id == file.entry_id)?;
                (older.name != file.name).then(|| of_file(older))?
            });
            if let Some(svid) = read {
                held.insert(Arc::clone(&entry.id), Arc::new(svid));
            }
        }
        held
    }

    fn read_tokens(&self, complaints: &mut Vec<String>) -> Vec<(crate::jwt::Key, crate::jwt::Token)> {
        let (Some(store), Some(sealer)) = (&self.store, &self.sealer) else {
            return Vec::new();
        };
        let read = store
            .read(TOKENS)
            .map_err(|error| error_chain(&error))
            .and_then(|bytes| match bytes {
                None => Ok(Vec::new()),
                Some(bytes) => {
                    let plain = sealer.open(TOKENS, &bytes).map_err(|error| error.to_string())?;
                    convert::tokens(plain).map_err(str::to_owned)
                }
            });
        read.unwrap_or_else(|what| {
            complaints.push(format!("the cached JWT-SVIDs are passed over: {what}"));
            Vec::new()
        })
    }
}

/// Those that are whole, with their places, the newest first.
fn indexes(
    store: &Store,
    sealer: &Sealer,
    dir: &str,
    complaints: &mut Vec<String>,
) -> Vec<(usize, wire::Index)> {
    let mut whole = Vec::new();
    for (slot, name) in SLOTS.into_iter().enumerate() {
        match read_index(store, sealer, name) {
            Ok(Some(index)) => whole.push((slot, index)),
            Ok(None) => {}
            Err(what) => complaints.push(format!("{dir}/{name} is passed over: {what}")),
        }
    }
    whole.sort_by_key(|(_, index)| std::cmp::Reverse(index.generation));
    whole
}

fn read_index(store: &Store, sealer: &Sealer, name: &str) -> Result<Option<wire::Index>, String> {
    debug_assert!(is_ours(name));
    let Some(sealed) = store.read(name).map_err(|error| error_chain(&error))? else {
        return Ok(None);
    };
    let plain = sealer.open(name, &sealed).map_err(|error| error.to_string())?;
    let index =
        wire::Index::decode(plain.as_slice()).map_err(|_cause| "it cannot be understood".to_owned())?;
    Ok(Some(index))
}

/// The SVID, and the digest of its file.
fn read_svid(store: &Store, sealer: &Sealer, file: &wire::SvidFile) -> Result<(Held, [u8; 32]), String> {
    let sealed = store
        .read(&file.name)
        .map_err(|error| error_chain(&error))?
        .ok_or_else(|| "the file is gone".to_owned())?;
    let digest = sha256(&sealed);
    if file.sha256 != digest.as_slice() {
        return Err("it is not the file that the index names".to_owned());
    }
    let plain = sealer
        .open(&file.name, &sealed)
        .map_err(|error| error.to_string())?;
    Ok((convert::svid(plain, &file.entry_id)?, digest))
}
