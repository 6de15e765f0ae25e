//! What this server says that it can, and what each of its nodes has said of itself.
//!
//! Invariant: only what an authenticated agent says is noted, about itself; nothing is refused or granted by it. It is kept in memory, and few bytes a node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use landfast_identity::{SpiffeId, UnixTime};
use landfast_proto::speaks::{OF_SERVER, SPEAKS, Skew, Speaks};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// What nodes have said since this server was started.
#[derive(Default)]
pub(crate) struct Peers(Mutex<Known>);

/// At most [`MOST`] of each.
#[derive(Default)]
struct Known {
    peers: BTreeMap<SpiffeId, Peer>,
    /// Of whom was warned, whatever they have said since.
    warned: BTreeSet<SpiffeId>,
    /// How many are newer, and how many are old.
    newer: u32,
    old: u32,
}

/// What one of them said last.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Shared by all that say the same: a fleet does.
    pub(crate) speaks: Arc<Speaks>,
    pub(crate) heard_at: Option<UnixTime>,
}

impl Peer {
    pub(crate) fn skew(&self) -> Skew {
        self.speaks.skew(own())
    }
}

impl Peers {
    /// What an agent says beside what it asks. Who says nothing is SPIRE's, or older than this.
    pub(crate) fn note(&self, id: &SpiffeId, said: &MetadataMap, now: Option<UnixTime>) {
        let said = said.get(SPEAKS).and_then(|value| value.to_str().ok());
        let said = said.and_then(Speaks::parse);
        let to_warn_of = {
            let mut known = self.known();
            let before = known.remove(id);
            let noted = said.and_then(|said| {
                let peer = Peer {
                    speaks: known.shared(before.as_ref(), said),
                    heard_at: now,
                };
                known.insert(id, peer.clone()).then_some(peer)
            });
            // The last word counts, so it is said while nobody else has one.
            known.gauge();
            let is_due = |peer: &Peer| peer.warning().is_some() && known.warned.insert(id.clone());
            noted.filter(is_due)
        };
        // A log may block, and each node comes by here.
        if let Some(peer) = to_warn_of {
            peer.warn(id);
        }
    }

    /// Forgets nodes that are none any more.
    pub(crate) fn keep(&self, is_node: impl Fn(&SpiffeId) -> bool) {
        let ids: Vec<_> = {
            let known = self.known();
            known.peers.keys().chain(&known.warned).cloned().collect()
        };
        let gone: Vec<_> = ids.into_iter().filter(|id| !is_node(id)).collect();
        if gone.is_empty() {
            return;
        }
        let mut known = self.known();
        for id in &gone {
            known.remove(id);
            known.warned.remove(id);
        }
        known.gauge();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What that node said.
    pub(crate) fn get(&self, id: &SpiffeId) -> Option<Peer> {
        self.known().peers.get(id).cloned()
    }
}

impl Known {
    /// Whether there was room: those that are gone are forgotten, and none that is not gives way.
    fn insert(&mut self, id: &SpiffeId, peer: Peer) -> bool {
        let has_room = self.peers.len() < MOST && self.warned.len() < MOST;
        if has_room {
            self.count(&peer, |nodes| nodes.saturating_add(1));
            self.peers.insert(id.clone(), peer);
        }
        has_room
    }

    fn remove(&mut self, id: &SpiffeId) -> Option<Peer> {
        let peer = self.peers.remove(id)?;
        self.count(&peer, |nodes| nodes.saturating_sub(1));
        Some(peer)
    }

    fn count(&mut self, peer: &Peer, change: impl Fn(u32) -> u32) {
        match peer.skew() {
            Skew::Supported => {}
            Skew::Newer => self.newer = change(self.newer),
            Skew::Old => self.old = change(self.old),
        }
    }

    fn shared(&self, before: Option<&Peer>, said: Speaks) -> Arc<Speaks> {
        let known = before.into_iter().chain(self.peers.values().take(LOOKED_AT));
        let known = known.map(|peer| &peer.speaks).find(|known| ***known == said);
        known.map_or_else(|| Arc::new(said), Arc::clone)
    }

    fn gauge(&self) {
        for (skew, nodes) in [(Skew::Newer, self.newer), (Skew::Old, self.old)] {
            metrics::gauge!("landfast_server_skewed_agents", "skew" => skew.as_str()).set(f64::from(nodes));
        }
    }
}

impl Peer {
    fn warning(&self) -> Option<&'static str> {
        match self.skew() {
            Skew::Supported => None,
            Skew::Newer => Some("newer than this server: upgrade servers first"),
            Skew::Old => Some("over three years older than this server: upgrade it"),
        }
    }

    fn warn(&self, id: &SpiffeId) {
        if let Some(what) = self.warning() {
            let (version, own) = (self.speaks.version(), own().version());
            tracing::warn!(agent = %id, version, own, "an agent is {what}; it is served, but that is not tested (docs/compatibility.md)");
        }
    }
}

/// What this program is and can.
pub(crate) fn own() -> &'static Speaks {
    static OWN: LazyLock<Speaks> = LazyLock::new(|| {
        let built = landfast_lifecycle::built().as_secs();
        Speaks::own(env!("CARGO_PKG_VERSION"), built, OF_SERVER)
    });
    &OWN
}

/// The same, as metadata of an answer to an agent.
pub(crate) fn own_metadata() -> Option<MetadataValue<Ascii>> {
    static OWN: LazyLock<Option<MetadataValue<Ascii>>> =
        LazyLock::new(|| MetadataValue::try_from(own().to_string()).ok());
    OWN.clone()
}

/// Nodes that are remembered.
const MOST: usize = 100_000;
/// Others that are looked at for the same words.
const LOOKED_AT: usize = 4;

#[cfg(test)]
mod tests;
