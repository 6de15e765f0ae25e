//! The cache at the start of the agent: read before a socket opens, and without a server.
//!
//! Invariant: a cache that cannot be used costs what is in it and nothing else: the agent starts, and says so.

use std::path::Path;
use std::sync::Arc;

use landfast_daemon::error_chain;
use landfast_identity::Bundle;
use tokio::sync::watch;

use super::shelf::{empty, is_there};
use super::writer::on_disk;
use super::{CacheState, Image, Place, Shelf};
use crate::config::{AgentConfig, CacheKind};
use crate::keeper::state::Snapshot;
use crate::link::revision::Revision;
use crate::persist::NodeIdentity;

/// What the agent begins with.
pub(crate) struct Begun {
    /// `None` when nothing is to be kept.
    pub(crate) shelf: Option<Shelf>,
    pub(crate) before: Option<Image>,
    pub(crate) state: watch::Sender<CacheState>,
}

/// The node's own bundle and the newest revision; the cache may know better.
pub(crate) struct Own<'a> {
    pub(crate) node: Option<&'a NodeIdentity>,
    pub(crate) bootstrap: &'a str,
    pub(crate) bundle: &'a mut Bundle,
    pub(crate) newest: &'a mut Option<Revision>,
}

impl Begun {
    /// Blocks.
    pub(crate) fn read(config: &AgentConfig, own: Own<'_>) -> Self {
        let seal_key = match &config.cache {
            CacheKind::Memory => return Self::in_memory(config),
            CacheKind::Disk { seal_key } => seal_key.as_deref(),
        };
        let place = Place::new(&config.data_dir, seal_key, &config.trust_domain);
        let left = own.node.map_or_else(|| destroy_left(&place), |_node| None);
        let (shelf, found) = Shelf::open(place, own.node.map(|node| node.svid.id()));
        let complaints: Vec<_> = left.into_iter().chain(found.complaints).collect();
        let complaint = complaints.join("; ");
        if !complaint.is_empty() {
            tracing::error!("{complaint}");
        }
        let text = on_disk(&shelf.key_id());
        let before = found.image.map(|image| agreed(image, own));
        if let Some(image) = &before {
            let snapshot = &image.snapshot;
            tracing::info!(
                entries = snapshot.entries.len(),
                svids = snapshot.held.len(),
                tokens = image.tokens.len(),
                synced_at = snapshot.synced_at.map(|at| at.to_string()).unwrap_or_default(),
                "what was held before is held again; what is valid of it is served"
            );
        }
        Self {
            shelf: Some(shelf),
            before,
            state: watch::Sender::new(CacheState { text, complaint }),
        }
    }

    /// A node that must not keep keys has none left from before either.
    fn in_memory(config: &AgentConfig) -> Self {
        let place = Place::new(&config.data_dir, None, &config.trust_domain);
        let (dir, key) = (place.dir.clone(), place.key.clone());
        let mut complaint = String::new();
        if let Err(error) = remove(&dir, &key) {
            complaint = format!(
                "keys from before cache = \"memory\" cannot be removed ({error}): remove {} and {}",
                dir.display(),
                key.display()
            );
            tracing::error!("{complaint}");
        }
        let text = "in memory only, as configured: a restart without a server serves nothing".to_owned();
        Self {
            shelf: None,
            before: None,
            state: watch::Sender::new(CacheState { text, complaint }),
        }
    }
}

/// A ban destroys the node's own identity and its cache, and power may be cut in between. Without the identity nothing uses the cache again, so what
/// is left of it goes now. Answers what is wrong.
pub(super) fn destroy_left(place: &Place) -> Option<String> {
    let dir = place.dir.display();
    if !is_there(&place.dir) {
        return None;
    }
    let (mut shelf, _unusable) = Shelf::open(place.clone(), None);
    match shelf.destroy() {
        Ok(()) => {
            tracing::warn!(
                "the cache {dir} is of a node whose own identity is gone, as after a ban: it is destroyed"
            );
            None
        }
        Err(error) => Some(format!(
            "the cache {dir} is of a node whose own identity is gone, as after a ban, and cannot be destroyed ({}): remove it",
            error_chain(&error)
        )),
    }
}

pub(super) fn remove(dir: &Path, key: &Path) -> std::io::Result<()> {
    let gone = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    // Either may be a link, and what it leads to is what must go. One that stays does not keep the other.
    let (content, dir) = (gone(empty(dir)), gone(std::fs::remove_dir_all(dir)));
    let target = match std::fs::canonicalize(key) {
        Ok(target) if target != key => gone(std::fs::remove_file(target)),
        _ => Ok(()),
    };
    let key = gone(std::fs::remove_file(key));
    content.and(dir).and(target).and(key)
}

/// With the newest bundle of the node's own and the cache's, unless the operator has given another since: then that counts.
pub(super) fn agreed(image: Image, own: Own<'_>) -> Image {
    if image.bootstrap == own.bootstrap {
        // With a new epoch the numbers begin anew: a bundle of an older one may have a greater.
        let epoch = |revision: Option<Revision>| revision.map(|revision| revision.epoch);
        let older = epoch(image.newest) < epoch(*own.newest);
        *own.newest = image.newest.max(*own.newest);
        if let Some(cached) = &image.snapshot.bundle
            && !older
            && cached.sequence() > own.bundle.sequence()
        {
            *own.bundle = Bundle::clone(cached);
        }
    }
    let snapshot = Snapshot {
        bundle: Some(Arc::new(own.bundle.clone())),
        ..Snapshot::clone(&image.snapshot)
    };
    Image {
        snapshot: Arc::new(snapshot),
        ..image
    }
}
