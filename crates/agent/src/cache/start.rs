//! The cache at the start of the agent: read before a socket opens, and without a server.
//!
//! Invariant: a cache that cannot be used costs what is in it and nothing else: the agent starts, and says so.

use std::path::Path;
use std::sync::Arc;

use landfast_identity::{Bundle, SpiffeId, UnixTime};
use landfast_store::OpenStore;
use tokio::sync::watch;

use super::shelf::empty;
use super::state::{keys_stay, on_disk};
use super::{CacheState, Image, Place, Shelf};
use crate::config::{AgentConfig, CacheKind};
use crate::keeper::state::Snapshot;
use crate::link::revision::Revision;

/// What the agent begins with.
pub(crate) struct Begun {
    /// `None` when nothing is to be kept.
    pub(crate) shelf: Option<Shelf>,
    pub(crate) before: Option<Image>,
    pub(crate) state: watch::Sender<CacheState>,
    /// It is to be destroyed, and could not be yet.
    pub(crate) doomed: bool,
}

/// The node's own bundle and the newest revision; the cache may know better.
pub(crate) struct Own<'a> {
    pub(crate) agent_id: Option<&'a SpiffeId>,
    pub(crate) bootstrap: &'a str,
    pub(crate) bundle: &'a mut Bundle,
    pub(crate) newest: &'a mut Option<Revision>,
    /// What time it is, as far as is known: of a reserve what may be served now is read, the rest later. `None`: all of it.
    pub(crate) now: Option<UnixTime>,
}

/// Whose the cache is. Blocks.
pub(crate) fn whose(config: &AgentConfig, open: OpenStore) -> Option<SpiffeId> {
    let CacheKind::Disk { seal_key } = &config.cache else {
        return None;
    };
    let place = Place::new(&config.data_dir, seal_key.as_deref(), &config.trust_domain);
    let ours = |id: &SpiffeId| id.is_agent() && *id.trust_domain() == config.trust_domain;
    Shelf::whose(place, open).filter(ours)
}

impl Begun {
    /// Blocks.
    pub(crate) fn read(config: &AgentConfig, own: Own<'_>, open: OpenStore) -> Self {
        let seal_key = match &config.cache {
            CacheKind::Memory => return Self::in_memory(config),
            CacheKind::Disk { seal_key } => seal_key.as_deref(),
        };
        let place = Place::new(&config.data_dir, seal_key, &config.trust_domain);
        let (shelf, found) = Shelf::open_at(place, own.agent_id, own.now, open);
        let complaint = found.complaints.join("; ");
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
            doomed: false,
        }
    }

    /// Of a node that was banned when it last ran. Blocks.
    pub(crate) fn banned(config: &AgentConfig, open: OpenStore) -> Self {
        let seal_key = match &config.cache {
            CacheKind::Memory => return Self::in_memory(config),
            CacheKind::Disk { seal_key } => seal_key.as_deref(),
        };
        let place = Place::new(&config.data_dir, seal_key, &config.trust_domain);
        let mut shelf = Shelf::closed(place, open);
        let destroyed = shelf.destroy();
        let state = CacheState {
            text: on_disk(""),
            complaint: destroyed.as_ref().err().map(keys_stay).unwrap_or_default(),
        };
        if !state.complaint.is_empty() {
            tracing::error!("{}", state.complaint);
        }
        Self {
            shelf: Some(shelf),
            before: None,
            state: watch::Sender::new(state),
            doomed: destroyed.is_err(),
        }
    }

    /// A node that must not keep keys has none left from before either.
    fn in_memory(config: &AgentConfig) -> Self {
        let place = Place::new(&config.data_dir, None, &config.trust_domain);
        let (dir, key) = (place.dir.clone(), place.key.clone());
        let mut complaint = String::new();
        let removed = remove(&dir, &key).and_then(|()| gone(std::fs::remove_file(&place.ban)));
        if let Err(error) = removed {
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
            doomed: false,
        }
    }
}

pub(super) fn remove(dir: &Path, key: &Path) -> std::io::Result<()> {
    // Either may be a link, and what it leads to is what must go. One that stays does not keep the other.
    let (content, dir) = (gone(empty(dir)), gone(std::fs::remove_dir_all(dir)));
    let target = match std::fs::canonicalize(key) {
        Ok(target) if target != key => gone(std::fs::remove_file(target)),
        _ => Ok(()),
    };
    let key = gone(std::fs::remove_file(key));
    content.and(dir).and(target).and(key)
}

fn gone(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The very same, but that the cache knows what of it is tainted: the node's own file does not say that.
fn is_same(cached: &Bundle, own: &Bundle) -> bool {
    let authorities = |bundle: &Bundle| {
        let all = bundle.x509_authorities().iter();
        all.map(|authority| authority.certificate.as_der().to_vec())
            .collect::<Vec<_>>()
    };
    cached.sequence() == own.sequence() && authorities(cached) == authorities(own)
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
            && (cached.sequence() > own.bundle.sequence() || is_same(cached, own.bundle))
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
