//! Where the cache's key comes from.
//!
//! Invariant: a key is made only where none can be missing: at the first start, or when the server has just made the old cache worthless and the
//! key's place is ours to decide.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use landfast_store::seal::{FileSealKey, SealKey, SealKeyError, SealKeyId};

use super::Place;
use super::shelf::device;

/// What there is of a key.
pub(super) enum Found {
    Key {
        key: Arc<dyn SealKey>,
        made: bool,
    },
    /// Why there is none, and what to do.
    None(String),
}

/// What a start would find.
pub(super) enum Seen {
    Key(SealKeyId),
    /// Nothing, or what is no key.
    Nothing(String),
    /// It cannot be looked at.
    Unknown(String),
}

type Opened = Result<Option<FileSealKey>, SealKeyError>;

/// Reads the key. A medium that does not answer is waited for a little, and by one thread however often it is tried.
pub(super) struct Reader {
    open: Arc<dyn Fn(&Path) -> Opened + Send + Sync>,
    patience: Duration,
    waits: Option<Receiver<Opened>>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::of(FileSealKey::open, PATIENCE)
    }
}

impl Reader {
    fn of(open: impl Fn(&Path) -> Opened + Send + Sync + 'static, patience: Duration) -> Self {
        Self {
            open: Arc::new(open),
            patience,
            waits: None,
        }
    }

    /// `None`: it does not answer.
    fn open(&mut self, path: &Path) -> Option<Opened> {
        let waits = self.waits.take().or_else(|| self.begin(path));
        // Without another thread there is this one.
        let Some(waits) = waits else {
            return Some((self.open)(path));
        };
        match waits.recv_timeout(self.patience) {
            Ok(opened) => Some(opened),
            Err(RecvTimeoutError::Disconnected) => Some((self.open)(path)),
            Err(RecvTimeoutError::Timeout) => {
                self.waits = Some(waits);
                None
            }
        }
    }

    fn begin(&self, path: &Path) -> Option<Receiver<Opened>> {
        let (tell, waits) = sync_channel(1);
        let (open, path) = (Arc::clone(&self.open), path.to_owned());
        let reading = std::thread::Builder::new()
            .name("seal key".to_owned())
            // Who waited may have gone.
            .spawn(move || tell.send(open(&path)).ok());
        reading.is_ok().then_some(waits)
    }

    /// Looks whether the key is there, and which.
    pub(super) fn look(&mut self, path: &Path) -> Seen {
        let gone = |what: &str| {
            format!(
                "the seal key {} {what}, and without it a restart opens nothing: bring its medium back",
                path.display()
            )
        };
        match self.open(path) {
            Some(Ok(Some(key))) => Seen::Key(key.id()),
            Some(Ok(None)) => Seen::Nothing(gone("is not there any more")),
            Some(Err(error @ SealKeyError::Damaged { .. })) => {
                Seen::Nothing(landfast_daemon::error_chain(&error))
            }
            Some(Err(error)) => Seen::Unknown(landfast_daemon::error_chain(&error)),
            None => Seen::Unknown(gone("is on a medium that does not answer")),
        }
    }

    /// Looks for the key. `begun`: there is a cache already. `worthless`: nothing would be lost with it.
    pub(super) fn find(&mut self, place: &Place, begun: bool, worthless: bool) -> Found {
        let path = place.key.display();
        let Some(opened) = self.open(&place.key) else {
            return Found::None(format!(
                "the seal key {path} is not there, its medium does not answer: bring it back, it is tried again"
            ));
        };
        match opened {
            Ok(Some(key)) => Found::Key {
                key: Arc::new(key),
                made: false,
            },
            Ok(None) if !begun || (worthless && !place.key_elsewhere) => make(place),
            Ok(None) if place.key_elsewhere => Found::None(format!(
                "the seal key {path} is not there: bring its medium back, or remove {} to begin anew with another key",
                place.dir.display()
            )),
            Ok(None) => Found::None(format!(
                "the seal key {path} is gone, so the cache cannot be opened; one is made when the server has been reached"
            )),
            Err(SealKeyError::Damaged { .. }) if worthless && !place.key_elsewhere => {
                // It opens nothing any more.
                match std::fs::remove_file(&place.key) {
                    Ok(()) => make(place),
                    Err(error) => {
                        Found::None(format!("the damaged seal key {path} cannot be removed: {error}"))
                    }
                }
            }
            Err(error) => Found::None(landfast_daemon::error_chain(&error)),
        }
    }
}

fn make(place: &Place) -> Found {
    let path = place.key.display();
    let (medium, system) = (place.key.parent(), place.dir.parent());
    if place.key_elsewhere && medium.and_then(device) == system.and_then(device) {
        // A mount point whose medium is not there is a directory of the system's disk.
        return Found::None(format!(
            "no seal key is made at {path}: that is the disk of the data directory, so its medium is not mounted. Mount it; or, if it is \
             to be on this disk, start once without seal_key and move the file seal-key of the data directory there"
        ));
    }
    match FileSealKey::create(&place.key) {
        Ok(key) => {
            tracing::info!(%path, id = %key.id(), "a seal key for the cache is made");
            Found::Key {
                key: Arc::new(key),
                made: true,
            }
        }
        Err(error) => Found::None(format!(
            "no seal key can be made at {path}: {}",
            landfast_daemon::error_chain(&error)
        )),
    }
}

/// A stick that answers does so in much less.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
