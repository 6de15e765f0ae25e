//! Lines of JSON, into a file or a socket. Invariant: a line is whole, and its file is looked for by its name for each batch, so that others may move
//! it away.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::batch::Batch;
use super::sink::SinkError;
use super::wire::hand_over;

/// Each record as it was recorded.
pub(super) fn lines(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::new();
    for message in &batch.messages {
        out.extend_from_slice(message.line.as_bytes());
        out.push(b'\n');
    }
    out
}

/// They are on the disk when this returns.
pub(super) async fn append(path: PathBuf, batch: &Batch) -> Result<(), SinkError> {
    let (bytes, shown) = (lines(batch), path.clone());
    let appended = tokio::task::spawn_blocking(move || append_now(&path, &bytes)).await;
    let appended = appended.unwrap_or_else(|error| Err(io::Error::other(error)));
    appended.map_err(|source| SinkError::File { path: shown, source })
}

fn append_now(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        // Not through a link that somebody else has put there, and not waiting for who reads a pipe.
        .custom_flags((nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK).bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    // A line that was being written when the power went ends here, and comes again, whole.
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) async fn send(path: &Path, batch: &Batch) -> Result<(), SinkError> {
    let stream = UnixStream::connect(path).await.map_err(SinkError::Connect)?;
    let handed = hand_over(stream, &lines(batch), UnixStream::take_error).await;
    handed.map_err(SinkError::Broken)
}
