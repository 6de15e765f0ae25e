//! The rungs of an entry's reserve: X.509-SVIDs for later, each with its key, in the order in which they begin.
//!
//! Invariant: nobody outside the keeper gets a rung that has not begun: [`Rung::held`] is asked for by the one whose turn it is. The key of a
//! rung is wiped with it, and not made ready for use before its turn.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use landfast_identity::{Bundle, Certificate, PrivateKey, SpiffeId, UnixTime, X509Error, X509Svid};
use landfast_lifecycle::reserve::{self, Window};
use zeroize::Zeroizing;

use super::held::Held;
use crate::entry::Entry;

/// One X.509-SVID for later.
pub(crate) struct Rung {
    id: SpiffeId,
    chain: Vec<Certificate>,
    /// PKCS #8. Of hundreds few are ever used: checking a key costs more than all else at a start.
    key: Zeroizing<Vec<u8>>,
    revision: i64,
    received: UnixTime,
}

impl Rung {
    pub(crate) fn new(svid: &X509Svid, revision: i64, received: UnixTime) -> Self {
        Self {
            id: svid.id().clone(),
            chain: svid.chain().to_vec(),
            key: Zeroizing::new(svid.key().as_pkcs8_der().to_vec()),
            revision,
            received,
        }
    }

    /// From its parts. Whether the key is the certificate's is seen when it is its turn.
    pub(crate) fn from_parts(
        chain: Vec<Certificate>,
        key: Zeroizing<Vec<u8>>,
        revision: i64,
        received: UnixTime,
    ) -> Result<Self, X509Error> {
        let id = chain.first().ok_or(X509Error::EmptyChain)?.spiffe_id()?;
        Ok(Self {
            id,
            chain,
            key,
            revision,
            received,
        })
    }

    pub(crate) fn window(&self) -> Window {
        let leaf = &self.chain[0];
        Window {
            begins: leaf.not_before(),
            ends: leaf.not_after(),
        }
    }

    /// Ready for use.
    pub(super) fn held(&self) -> Result<Held, X509Error> {
        let key = PrivateKey::from_pkcs8_der(self.key.to_vec()).map_err(|_cause| X509Error::KeyMismatch)?;
        let svid = X509Svid::new(self.chain.clone(), key)?;
        Ok(Held::new(Arc::new(svid), self.revision, self.received).of_reserve())
    }

    /// Whether it says what this entry says now.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        self.revision == entry.revision && self.id == entry.spiffe_id
    }

    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    pub(crate) fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn received(&self) -> UnixTime {
        self.received
    }

    /// About what it takes on disk.
    pub(crate) fn size(&self) -> u64 {
        let chain: usize = self.chain.iter().map(|one| one.as_der().len() + FRAME).sum();
        (chain + self.key.len() + SEALED) as u64
    }

    /// Whether verifiers with this bundle take it, and will for as long as the authority is not revoked.
    pub(super) fn is_trusted_by(&self, bundle: &Bundle) -> bool {
        let authorities = bundle.x509_authorities();
        let signer = |key: &[u8]| {
            let of = |authority: &&landfast_identity::X509Authority| {
                authority.certificate.subject_key_id().as_deref() == Some(key)
            };
            authorities.iter().find(of)
        };
        let tainted = self.chain.iter().any(|certificate| {
            let key = certificate.authority_key_id();
            key.and_then(|key| signer(&key))
                .is_some_and(|authority| authority.tainted)
        });
        let top = self.chain.last();
        let rooted = authorities.iter().any(|authority| {
            !authority.tainted && top.is_some_and(|top| top.names_as_issuer(&authority.certificate))
        });
        rooted && !tainted
    }
}

impl fmt::Debug for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = self.window();
        write!(f, "Rung({} {}..{})", self.id, window.begins, window.ends)
    }
}

/// The reserve of one entry. At most [`reserve::MOST`] rungs, and as many again while they are replaced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ladder {
    rungs: Vec<Arc<Rung>>,
    /// Of each of them.
    windows: Vec<Window>,
    size: u64,
}

/// By entry.
pub(crate) type Ladders = BTreeMap<Arc<str>, Arc<Ladder>>;

impl Ladder {
    pub(crate) fn new(mut rungs: Vec<Arc<Rung>>) -> Self {
        rungs.sort_by_key(|rung| rung.window());
        let windows = rungs.iter().map(|rung| rung.window()).collect();
        let size = rungs.iter().map(|rung| rung.size()).sum();
        Self { rungs, windows, size }
    }

    pub(crate) fn rungs(&self) -> &[Arc<Rung>] {
        &self.rungs
    }

    pub(crate) fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// When the last of them ends: until then a thief of all of them is believed.
    pub(crate) fn debt(&self) -> Option<UnixTime> {
        self.windows.iter().map(|window| window.ends).max()
    }

    /// Whether this is one of them.
    pub(crate) fn has(&self, svid: &X509Svid) -> bool {
        let mut same = self.rungs.iter().zip(&self.windows);
        same.any(|(rung, window)| window.ends == svid.not_after() && rung.chain[0] == *svid.leaf())
    }

    /// Those that begin later.
    pub(crate) fn ahead(&self, now: UnixTime) -> usize {
        self.windows.len() - self.windows.partition_point(|window| window.begins <= now)
    }

    /// The same with these.
    pub(super) fn with(&self, more: impl IntoIterator<Item = Arc<Rung>>) -> Self {
        Self::new(self.rungs.iter().cloned().chain(more).collect())
    }

    /// Those that stay; `None` when all do.
    pub(super) fn retained(&self, stays: impl Fn(&Rung) -> bool) -> Option<Self> {
        let rest: Vec<_> = self.rungs.iter().filter(|rung| stays(rung)).cloned().collect();
        (rest.len() < self.rungs.len()).then(|| Self::new(rest))
    }

    /// About what they take on disk.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// How long each of them lives, if there is one.
    pub(super) fn life(&self, of: impl Fn(&Rung) -> bool) -> Option<std::time::Duration> {
        let fit = self
            .rungs
            .iter()
            .filter(|rung| of(rung))
            .map(|rung| rung.window());
        fit.map(|window| window.ends.since(window.begins)).min()
    }

    /// Until when an entry's identity lasts without a server, with what is served of it now.
    pub(crate) fn covers(&self, now: UnixTime, served: Option<Window>) -> Option<UnixTime> {
        reserve::covered_until(now, served, &self.windows)
    }
}

/// What a sealed file has beside certificates and key.
const SEALED: usize = 160;
const FRAME: usize = 4;
