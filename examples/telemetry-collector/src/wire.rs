//! One JSON line there, one JSON line back, then the connection ends.

use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use crate::BoxError;

/// Longest line taken from a peer, in bytes.
const LONGEST: u64 = 64 * 1024;

pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &Value) -> Result<(), BoxError> {
    stream.write_all(format!("{message}\n").as_bytes()).await?;
    stream.flush().await?;
    Ok(())
}

pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Value, BoxError> {
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}
