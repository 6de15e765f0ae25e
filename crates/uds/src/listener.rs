//! A Unix socket that is where the configuration says and nowhere else.
//!
//! Invariant: nothing but an own, dead socket is ever removed; the path never leads to a socket with the wrong mode; folders on
//! the way are ours or root's.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::UnixListener, time::MissedTickBehavior};

use crate::{
    PeerInfo, PinMode, UdsError, UdsStream,
    accept::Patience,
    process::ProcessTable,
    socket_file::{self, SocketFile},
};

/// Who may connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketMode {
    /// Permission bits of the socket: `0o777` for everybody, `0o600` for the owner, `0o660` with a group.
    pub mode: u32,
    /// The socket's group, by name or number; `None` leaves it.
    pub group: Option<String>,
}

/// A bound Unix socket.
#[derive(Debug)]
pub struct UdsListener {
    socket: UnixListener,
    file: SocketFile,
    path: PathBuf,
    mode: SocketMode,
    pin_mode: PinMode,
    processes: Arc<ProcessTable>,
    patience: Patience,
    look: tokio::time::Interval,
    lost: bool,
}

impl UdsListener {
    /// Binds `path` and listens. A missing folder is created with mode 0755. Needs a tokio runtime.
    ///
    /// # Errors
    /// The path is relative or too long; a folder on the way is foreign or writable by others; the path is taken by a living
    /// server or by anything but a dead socket of ours; the group does not exist; a system call fails.
    pub fn bind(path: &Path, mode: SocketMode) -> Result<Self, UdsError> {
        Self::bind_with(path, mode, PinMode::detect())
    }

    /// As [`Self::bind`], with a way of pinning peers of one's choice.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_with(path: &Path, mode: SocketMode, pin_mode: PinMode) -> Result<Self, UdsError> {
        let (socket, file) = socket_file::create(path, &mode)?;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let processes = Arc::default();
        let (path, patience) = (path.to_owned(), Patience::new());
        Ok(Self {
            socket,
            file,
            path,
            mode,
            pin_mode,
            processes,
            patience,
            look,
            lost: false,
        })
    }

    /// Where it listens, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How peers are pinned.
    pub fn pin_mode(&self) -> PinMode {
        self.pin_mode
    }

    /// [`Self::pin_mode`] for an operator.
    pub fn mode_name(&self) -> &'static str {
        self.pin_mode.name()
    }

    /// The next connection, its peer already pinned or known to be unpinnable. Waits through a lack of descriptors, and puts
    /// the socket back within two seconds when its path is deleted or replaced. Dropping the future loses nothing.
    ///
    /// # Errors
    /// None today.
    pub async fn accept(&mut self) -> Result<UdsStream, UdsError> {
        loop {
            tokio::select! {
                socket = self.patience.accept(&self.socket) => {
                    match PeerInfo::of(&socket, self.pin_mode, &self.processes) {
                        Ok(peer) => return Ok(UdsStream::new(socket, peer)),
                        Err(error) => tracing::debug!(%error, "a peer without credentials was dropped"),
                    }
                }
                _ = self.look.tick() => self.restore(),
            }
        }
    }

    /// Puts the socket back if somebody took it away.
    fn restore(&mut self) {
        if self.file.is_in_place() {
            self.lost = false;
            return;
        }
        match socket_file::create(&self.path, &self.mode) {
            Ok((socket, file)) => {
                tracing::warn!(path = %self.path.display(), "the socket was deleted or replaced and is back");
                (self.socket, self.file, self.lost) = (socket, file, false);
            }
            Err(error) if !self.lost => {
                tracing::error!(path = %self.path.display(), %error, "the socket was deleted or replaced and cannot be put back");
                self.lost = true;
            }
            Err(_) => {}
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether `metadata` is that of a folder whose entries only root and we can change.
pub(crate) fn writable_by_others(metadata: &std::fs::Metadata) -> bool {
    metadata.mode() & 0o022 != 0
}

#[cfg(test)]
mod tests;
