//! A client of the Workload API that costs next to nothing: canned frames over a socket, so that a measurement measures the agent.
//!
//! Invariant: it obeys HTTP/2's flow control and answers SETTINGS and PING, so it may stay connected for as long as it likes.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::wire::{self, frame};

/// One connection.
pub struct RawClient {
    socket: UnixStream,
    buffer: Vec<u8>,
    next: u32,
    taken: u32,
}

/// What arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A whole message on a stream, of so many bytes.
    Message {
        /// The stream.
        stream: u32,
        /// Its size.
        bytes: usize,
    },
    /// A stream has ended: with trailers, or reset.
    Ended {
        /// The stream.
        stream: u32,
    },
}

impl RawClient {
    /// Connects and says what HTTP/2 begins with.
    ///
    /// # Errors
    /// The socket's.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let mut socket = UnixStream::connect(path).await?;
        let opening = [wire::preface(), window_update(0, LARGE_WINDOW)].concat();
        socket.write_all(&opening).await?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(8 * 1024),
            next: 1,
            taken: 0,
        })
    }

    /// Opens a stream of X.509-SVIDs and answers its number.
    ///
    /// # Errors
    /// The socket's.
    pub async fn open(&mut self) -> io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        let request = wire::request(stream, &wire::call(wire::FETCH_X509));
        self.socket.write_all(&request).await?;
        Ok(stream)
    }

    /// Fetches once: opens a stream, waits for its first message, ends it. Answers the message's size.
    ///
    /// # Errors
    /// The socket's; `ConnectionRefused` when the stream ends without a message.
    pub async fn fetch(&mut self) -> io::Result<usize> {
        let wanted = self.open().await?;
        loop {
            match self.event().await? {
                Event::Message { stream, bytes } if stream == wanted => {
                    self.cancel(stream).await?;
                    return Ok(bytes);
                }
                Event::Ended { stream } if stream == wanted => {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                _ => {}
            }
        }
    }

    /// Ends a stream.
    ///
    /// # Errors
    /// The socket's.
    pub async fn cancel(&mut self, stream: u32) -> io::Result<()> {
        let cancel = frame(wire::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        self.socket.write_all(&cancel).await
    }

    /// The next thing that arrives; waits for it. Messages are at most as long as one DATA frame, as an answer with few SVIDs is.
    ///
    /// # Errors
    /// The socket's; `UnexpectedEof` when the other side has closed.
    pub async fn event(&mut self) -> io::Result<Event> {
        loop {
            let Some((kind, flags, stream, payload)) = self.take_frame() else {
                if self.socket.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            };
            match kind {
                wire::DATA if payload.len() > 5 => {
                    let bytes = payload.len() - 5;
                    self.taken += u32::try_from(payload.len()).expect("a frame is short");
                    if self.taken > GIVE_BACK {
                        let back = window_update(0, self.taken);
                        self.taken = 0;
                        self.socket.write_all(&back).await?;
                    }
                    return Ok(Event::Message { stream, bytes });
                }
                wire::HEADERS if flags & wire::END_STREAM != 0 => return Ok(Event::Ended { stream }),
                wire::RST_STREAM => return Ok(Event::Ended { stream }),
                wire::SETTINGS if flags & ACK == 0 => {
                    self.socket.write_all(&frame(wire::SETTINGS, ACK, 0, &[])).await?;
                }
                wire::PING if flags & ACK == 0 => {
                    self.socket
                        .write_all(&frame(wire::PING, ACK, 0, &payload))
                        .await?;
                }
                _ => {}
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let header: [u8; 9] = self.buffer.get(..9)?.try_into().ok()?;
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
        Some((header[3], header[4], stream, payload))
    }
}

fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(wire::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

const ACK: u8 = 1;
const LARGE_WINDOW: u32 = 1 << 30;
const GIVE_BACK: u32 = 1 << 28;
