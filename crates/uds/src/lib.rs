//! Unix sockets: safe bind, peers, pinned processes, any `:authority`.
//!
//! Invariant: who connects is known by the kernel's word and held by a pidfd before its first byte is read.

mod accept;
mod authority;
mod error;
mod listener;
mod peer;
mod pins;
mod procdir;
mod process;
mod search;
mod sockdiag;
mod socket_file;
mod stream;

pub use error::{PinError, UdsError};
pub use listener::{SocketMode, UdsListener};
pub use peer::{PeerInfo, PinMode};
pub use pins::Pins;
pub use procdir::{Ids, ProcDir, ProcStatus};
pub use process::{Change, PinnedProcess};
pub use stream::{Tolerant, UdsStream};
