//! What the link keeps on disk, and how it goes on while the disk fails.
//!
//! Invariant: what the server says counts whether or not it can be written down (T-29). The node's own SVID is written before it is used, unless
//! nothing on disk is lost by using it. What is not on disk is told, and written again with every round until it is.

use std::sync::Arc;

use landfast_daemon::error_chain;
use landfast_identity::{Bundle, BundleSet, PrivateKey, UnixTime};

use super::Link;
use super::failure::LinkError;
use crate::persist::{NodeIdentity, PersistError};

/// What is not on disk as it should be.
#[derive(Default)]
pub(super) struct Unsaved {
    bundle: bool,
    /// The SVID in use.
    node: bool,
    /// One that was not asked for, or is not used, since it could not be written.
    renewal: bool,
    revision: bool,
    /// Keys of a banned node, which are there still.
    pub(super) undestroyed: bool,
    /// What to ask with for as long as it cannot be written: a lost answer is asked for again with the same key.
    key: Option<Arc<PrivateKey>>,
}

impl Unsaved {
    /// Started anew, the node would begin with an older bundle.
    pub(super) fn lacks_bundle(&self) -> bool {
        self.bundle
    }

    pub(super) fn is_anything(&self) -> bool {
        self.bundle || self.node || self.renewal || self.revision
    }
}

impl Link {
    /// On disk, then in use, and in use all the same when the disk fails: it came over a verified connection, and with it come deleted
    /// entries, taints and revocations. Started anew, the node would begin with the bundle of before.
    pub(super) async fn adopt_bundle(&mut self, bundle: &Arc<Bundle>) -> Result<(), LinkError> {
        let current = self.bundles.load();
        let known = current
            .get(&self.settings.trust_domain)
            .is_some_and(|old| old.content_eq(bundle));
        if known && !self.unsaved.bundle {
            return Ok(());
        }
        let (files, to_save, bootstrap) = (
            Arc::clone(&self.files),
            Arc::clone(bundle),
            self.settings.bootstrap.clone(),
        );
        let saved = self
            .disk
            .run(move || files.save_bundle(&to_save, &bootstrap))
            .await?;
        self.unsaved.bundle = saved.is_err();
        self.tell_of_disk(saved.as_ref().err());
        if !known {
            self.bundles.store(BundleSet::from_iter([Bundle::clone(bundle)]));
            tracing::info!(
                sequence = bundle.sequence(),
                authorities = bundle.x509_authorities().len(),
                "trust bundle adopted"
            );
        }
        Ok(())
    }

    /// Writes the bundle, if that has failed before: who is subscribed is not told it again.
    pub(super) async fn save_bundle_again(&mut self) -> Result<(), LinkError> {
        match self.known.own_bundle().cloned().filter(|_| self.unsaved.bundle) {
            Some(bundle) => self.adopt_bundle(&bundle).await,
            None => Ok(()),
        }
    }

    /// Writes how new the registry is that the node has seen, when it is time for that.
    pub(super) async fn save_revision(&mut self, at_once: bool) -> Result<(), LinkError> {
        let Some(newest) = self.floor.unwritten(at_once) else {
            return Ok(());
        };
        let (files, bootstrap) = (Arc::clone(&self.files), self.settings.bootstrap.clone());
        let saved = self
            .disk
            .run(move || files.save_revision(newest, &bootstrap))
            .await?;
        if saved.is_ok() {
            self.floor.written(newest);
        }
        self.unsaved.revision = saved.is_err();
        self.tell_of_disk(saved.as_ref().err());
        Ok(())
    }

    /// Writes the node's SVID, if that has failed before.
    pub(super) async fn save_again(&mut self) -> Result<(), LinkError> {
        let Some(node) = self.node.clone().filter(|_| self.unsaved.node) else {
            return Ok(());
        };
        let saved = self.save(&node).await?;
        self.unsaved.node = saved.is_err();
        self.tell_of_disk(saved.as_ref().err());
        Ok(())
    }

    /// The node's new SVID on disk, or why it may be used without.
    pub(super) async fn keep(&mut self, node: &NodeIdentity, denied: bool) -> Result<(), LinkError> {
        let saved = self.save(node).await?;
        let failed = saved.is_err();
        // A server ends the old SVID when the new one is first used. Started anew without the new one, a node that can attest again does; one
        // that cannot would be out, so it keeps what is on disk for as long as that is good for something.
        let replaced = failed && !denied && !node.reattestable && self.stands_on_disk(self.now()?);
        self.unsaved.renewal = replaced;
        if !replaced {
            self.unsaved.node = failed;
            self.unsaved.key = None;
        }
        self.tell_of_disk(saved.as_ref().err());
        match saved {
            Err(error) if replaced => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The key to ask with, on disk since before this returns: a token binds to the first key, and a node that forgot it is out (T-13). `spare` when
    /// the node can do without that.
    pub(super) async fn pending_key(&mut self, spare: bool) -> Result<Arc<PrivateKey>, LinkError> {
        let (files, current, key_type) = (Arc::clone(&self.files), self.node.clone(), self.settings.node_key);
        let key = self
            .disk
            .run(move || files.pending_key(current.as_ref(), key_type));
        match key.await? {
            Ok(key) => {
                self.unsaved.renewal = false;
                self.tell_of_disk(None);
                Ok(key)
            }
            Err(error @ (PersistError::Store { .. } | PersistError::Hangs)) => {
                self.unsaved.renewal = true;
                self.tell_of_disk(Some(&error));
                match (spare, &self.unsaved.key) {
                    (false, _) => Err(error.into()),
                    (true, Some(key)) => Ok(Arc::clone(key)),
                    (true, None) => {
                        let key = PrivateKey::generate_as(key_type).map_err(|_cause| LinkError::Key)?;
                        let key = Arc::new(key);
                        self.unsaved.key = Some(Arc::clone(&key));
                        Ok(key)
                    }
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a node that cannot attest again by itself would come back with what it has on disk. In the last tenth of that SVID's life this
    /// does not count any more: a node that goes on without a disk is better than one that ends for want of it.
    pub(super) fn stands_on_disk(&self, now: UnixTime) -> bool {
        self.node.as_ref().is_some_and(|node| {
            let life = node.svid.not_after().since(node.svid.not_before());
            let last = node.svid.not_after().saturating_sub(life / LAST_PART);
            !self.unsaved.node && !node.reattestable && now < last
        })
    }

    async fn save(&mut self, node: &NodeIdentity) -> Result<Result<(), PersistError>, LinkError> {
        let (files, to_save) = (Arc::clone(&self.files), node.clone());
        self.disk.run(move || files.save_identity(&to_save)).await
    }

    fn tell_of_disk(&self, failed: Option<&PersistError>) {
        let text = match failed {
            Some(error) => format!(
                "the node's state cannot be written ({}); make room, or the data directory writable: until then all goes on, but a restart \
                 may cost the node its identity",
                error_chain(error)
            ),
            None if self.unsaved.is_anything() => return,
            None => String::new(),
        };
        self.status.send_if_modified(|status| {
            let differs = status.disk != text;
            match (differs, text.is_empty()) {
                (true, true) => tracing::info!("the node's state is on disk again"),
                (true, false) => tracing::error!("{text}"),
                (false, _) => {}
            }
            status.disk = text;
            differs
        });
    }
}

/// The last part of a life is a tenth of it.
const LAST_PART: u32 = 10;
