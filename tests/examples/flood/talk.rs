//! Floods that obey HTTP/2's flow control, so that the agent reads what they send: requests that are too large, never complete, or just too many.
//!
//! Invariant: no frame is sent for which there is no window.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use landfast_testkit::wire::{self, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use crate::{BoxError, LONG, SHORT};

/// One way of talking.
#[derive(Debug)]
pub(crate) struct Manner {
    connections: u32,
    /// Streams of each connection.
    streams: usize,
    /// What the message is said to have, and what is sent of it, in bytes.
    announced: u32,
    sent: usize,
}

/// Messages of the largest size, less their last byte.
pub(crate) const SLOW: Manner = Manner {
    connections: 5,
    streams: 64,
    announced: LARGEST,
    sent: LARGEST as usize - 1,
};
/// What every client may send, on more streams than a process may have.
pub(crate) const FULL: Manner = Manner {
    connections: 5,
    streams: 64,
    announced: 0,
    sent: 0,
};
/// Messages of 64 MiB.
pub(crate) const LARGE: Manner = Manner {
    connections: 8,
    streams: 1,
    announced: 64 << 20,
    sent: 64 << 20,
};

/// Talks until the end; what is ended is begun again. Expired are streams that the agent took, and ended after a while.
pub(crate) async fn talking(
    socket: &Path,
    end: Instant,
    manner: &'static Manner,
) -> Result<String, BoxError> {
    let mut tasks = JoinSet::new();
    for _ in 0..manner.connections {
        let socket = socket.to_owned();
        tasks.spawn(async move {
            let mut sums = [0; 3];
            while Instant::now() < end {
                let Ok(stream) = UnixStream::connect(&socket).await else {
                    sleep(SHORT).await;
                    continue;
                };
                let mut talk = Talk::new(stream, manner);
                // Cut at the end of the flood, or ended by the agent.
                drop(timeout_at(end.into(), talk.run()).await);
                for (sum, one) in sums.iter_mut().zip([talk.begun, talk.refused, talk.expired]) {
                    *sum += one;
                }
            }
            sums
        });
    }
    let [begun, refused, expired] = (tasks.join_all().await.into_iter())
        .fold([0; 3], |sum: [u64; 3], one| {
            std::array::from_fn(|n| sum[n] + one[n])
        });
    Ok(format!("begun {begun} refused {refused} expired {expired}"))
}

struct Talk {
    stream: UnixStream,
    manner: &'static Manner,
    heard: Vec<u8>,
    window: usize,
    next: u32,
    open: HashMap<u32, Open>,
    begun: u64,
    refused: u64,
    expired: u64,
}

/// A stream: since when it is open, what it may still be sent, and what there is still to send.
struct Open {
    since: Instant,
    window: usize,
    left: usize,
}

impl Talk {
    fn new(stream: UnixStream, manner: &'static Manner) -> Self {
        Self {
            stream,
            manner,
            heard: Vec::new(),
            window: FIRST_WINDOW,
            next: 1,
            open: HashMap::new(),
            begun: 0,
            refused: 0,
            expired: 0,
        }
    }

    async fn run(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&wire::preface()).await?;
        loop {
            self.say().await?;
            if self.stream.read_buf(&mut self.heard).await? == 0 {
                return Ok(());
            }
            while let Some((kind, flags, id, payload)) = take_frame(&mut self.heard) {
                if kind == wire::PING && flags == 0 {
                    self.stream.write_all(&frame(wire::PING, 1, 0, &payload)).await?;
                }
                self.hear(kind, flags, id, &payload);
            }
        }
    }

    /// Begins what may be begun and goes on with what is open, as far as there is window.
    async fn say(&mut self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        while self.open.len() < self.manner.streams && self.window >= 5 {
            let headers = wire::header_block(&wire::call(wire::FETCH_X509));
            bytes.extend(frame(wire::HEADERS, wire::END_HEADERS, self.next, &headers));
            let announced = self.manner.announced.to_be_bytes();
            let flags = if self.manner.announced == 0 {
                wire::END_STREAM
            } else {
                0
            };
            bytes.extend(frame(
                wire::DATA,
                flags,
                self.next,
                &[&[0], announced.as_slice()].concat(),
            ));
            self.window -= 5;
            let open = Open {
                since: Instant::now(),
                window: FIRST_WINDOW - 5,
                left: self.manner.sent,
            };
            self.open.insert(self.next, open);
            self.next += 2;
            self.begun += 1;
        }
        for (id, open) in &mut self.open {
            loop {
                let part = open.left.min(open.window).min(self.window).min(MOST_IN_A_FRAME);
                if part == 0 {
                    break;
                }
                bytes.extend(frame(wire::DATA, 0, *id, &ZEROS[..part]));
                (open.left, open.window, self.window) =
                    (open.left - part, open.window - part, self.window - part);
            }
        }
        self.stream.write_all(&bytes).await
    }

    fn hear(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        match kind {
            wire::WINDOW_UPDATE if id == 0 => self.window += number(payload),
            wire::WINDOW_UPDATE => {
                if let Some(open) = self.open.get_mut(&id) {
                    open.window += number(payload);
                }
            }
            wire::HEADERS if flags & wire::END_STREAM == 0 => {}
            wire::RST_STREAM | wire::HEADERS => {
                if let Some(open) = self.open.remove(&id) {
                    let expired = open.since.elapsed() > LONG;
                    self.expired += u64::from(expired);
                    self.refused += u64::from(!expired);
                }
            }
            _ => {}
        }
    }
}

/// The next whole frame: its type, flags, stream and payload.
fn take_frame(heard: &mut Vec<u8>) -> Option<(u8, u8, u32, Vec<u8>)> {
    let header: [u8; 9] = heard.get(..9)?.try_into().ok()?;
    let length = number(&header[..3]);
    let payload = heard.get(9..9 + length)?.to_vec();
    heard.drain(..9 + length);
    let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
    Some((header[3], header[4], stream, payload))
}

/// A number in network order.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// Of a connection and of each stream, before anything is said of it (RFC 9113 §6.9.2).
const FIRST_WINDOW: usize = 65_535;
const MOST_IN_A_FRAME: usize = 16_384;
const ZEROS: [u8; MOST_IN_A_FRAME] = [0; MOST_IN_A_FRAME];
/// What `max_message` is by default: a larger one is refused by its first five bytes.
const LARGEST: u32 = 20 * 1024;
