//! Makes any `:authority` acceptable: rewrites what a client sends before the HTTP/2 stack reads it.
//!
//! gRPC-core and grpc-java put the socket's path, %-encoded or raw, into `:authority`; h2 resets such requests, and empty ones.
//! Every header block is therefore decoded here, its `:authority` made harmless (dropped when empty), and written again as one
//! HEADERS frame of plain literals: h2 sees exactly what was judged here and its own dynamic table stays empty. Everything but
//! HEADERS and CONTINUATION passes byte for byte, and so does a connection that does not start with HTTP/2's preface.
//!
//! Invariant: at most one block of [`MAX_BLOCK`] bytes is held; whatever cannot be decoded reaches h2 as a block for
//! which it ends the connection with GOAWAY, and nothing follows it.

mod fixed;
mod hpack;
mod huffman;
#[cfg(test)]
mod tests;

use hpack::Decoder;

/// The state of one direction of one connection.
#[derive(Debug)]
pub(crate) struct Rewriter {
    state: State,
    decoder: Decoder,
    /// The first HEADERS frame of the block being collected.
    open: Option<OpenBlock>,
    frames: u64,
}

#[derive(Debug)]
enum State {
    /// So many bytes of the preface have matched.
    Preface(usize),
    /// So many bytes of a frame header are in the array.
    Header([u8; 9], usize),
    /// So many bytes of payload pass untouched.
    Forward(usize),
    /// So many bytes of payload are still to be collected.
    Collect {
        left: usize,
        flags: u8,
        payload: Vec<u8>,
    },
    /// Not HTTP/2: everything passes.
    Transparent,
    /// An error was handed to h2: nothing passes any more.
    Refused,
}

#[derive(Debug)]
struct OpenBlock {
    stream: [u8; 4],
    flags: u8,
    priority: Option<[u8; 5]>,
    fragments: Vec<u8>,
    frames: usize,
}

impl Rewriter {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Preface(0),
            decoder: Decoder::new(),
            open: None,
            frames: 0,
        }
    }

    /// Whether the preface and the first frame have arrived.
    pub(crate) fn handshake_done(&self) -> bool {
        self.frames > 0
    }

    /// Whether nothing will ever pass again.
    pub(crate) fn refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Takes what the client sent, appends what h2 shall read.
    pub(crate) fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            let used = match &mut self.state {
                State::Preface(matched) => {
                    if input[0] == PREFACE[*matched] {
                        out.push(input[0]);
                        *matched += 1;
                        if *matched == PREFACE.len() {
                            self.state = State::Header([0; 9], 0);
                        }
                        1
                    } else {
                        self.state = State::Transparent;
                        0
                    }
                }
                State::Header(header, have) => {
                    header[*have] = input[0];
                    *have += 1;
                    if *have == header.len() {
                        let header = *header;
                        self.frame_starts(header, out);
                    }
                    1
                }
                State::Forward(left) => {
                    let used = input.len().min(*left);
                    out.extend_from_slice(&input[..used]);
                    *left -= used;
                    if *left == 0 {
                        self.frame_ends();
                    }
                    used
                }
                State::Collect { left, payload, .. } => {
                    let used = input.len().min(*left);
                    payload.extend_from_slice(&input[..used]);
                    *left -= used;
                    if *left == 0 {
                        self.collected(out);
                    }
                    used
                }
                State::Transparent => {
                    out.extend_from_slice(input);
                    input.len()
                }
                State::Refused => return,
            };
            input = &input[used..];
        }
    }

    fn frame_starts(&mut self, header: [u8; 9], out: &mut Vec<u8>) {
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let (kind, flags) = (header[3], header[4]);
        let stream = [header[5] & 0x7f, header[6], header[7], header[8]];
        let expected = match &mut self.open {
            // RFC 9113 §6.10: nothing may come between HEADERS and its CONTINUATION.
            Some(open) => {
                open.frames += 1;
                kind == CONTINUATION && stream == open.stream && open.frames <= MAX_CONTINUATIONS
            }
            None => kind != CONTINUATION,
        };
        if !expected {
            return self.refuse(stream, out);
        }
        if kind != HEADERS && kind != CONTINUATION {
            out.extend_from_slice(&header);
            self.state = State::Forward(length);
            if length == 0 {
                self.frame_ends();
            }
            return;
        }
        let held = self.open.as_ref().map_or(0, |open| open.fragments.len());
        if length > MAX_FRAME || held + length > MAX_BLOCK {
            return self.refuse(stream, out);
        }
        if self.open.is_none() {
            self.open = Some(OpenBlock {
                stream,
                flags,
                priority: None,
                fragments: Vec::new(),
                frames: 0,
            });
        }
        self.state = State::Collect {
            left: length,
            flags,
            payload: Vec::new(),
        };
        if length == 0 {
            self.collected(out);
        }
    }

    fn frame_ends(&mut self) {
        self.frames = self.frames.saturating_add(1);
        self.state = State::Header([0; 9], 0);
    }

    /// One HEADERS or CONTINUATION frame is complete.
    fn collected(&mut self, out: &mut Vec<u8>) {
        let state = std::mem::replace(&mut self.state, State::Header([0; 9], 0));
        let (State::Collect { flags, payload, .. }, Some(open)) = (state, &mut self.open) else {
            return;
        };
        self.frames = self.frames.saturating_add(1);
        let stream = open.stream;
        let accepted = if open.frames == 0 {
            open.take_headers(&payload)
        } else {
            open.fragments.extend_from_slice(&payload);
            Some(())
        };
        if accepted.is_none() {
            return self.refuse(stream, out);
        }
        if flags & END_HEADERS == 0 {
            return;
        }
        let Some(open) = self.open.take() else { return };
        match self.decoder.decode(&open.fragments) {
            Ok(list) => open.write(&list, out),
            Err(hpack::Malformed) => self.refuse(stream, out),
        }
    }

    /// Leaves h2 a block with index 0, which RFC 7541 §6.1 makes a decoding error.
    fn refuse(&mut self, stream: [u8; 4], out: &mut Vec<u8>) {
        let stream = if stream == [0; 4] { [0, 0, 0, 1] } else { stream };
        write_frame_header(1, END_HEADERS, stream, out);
        out.push(0x80);
        self.open = None;
        self.state = State::Refused;
    }
}

impl OpenBlock {
    /// Takes padding and priority off the payload of HEADERS (RFC 9113 §6.2); `None` when they do not fit.
    fn take_headers(&mut self, mut payload: &[u8]) -> Option<()> {
        if self.flags & PADDED != 0 {
            let (padding, rest) = payload.split_first()?;
            payload = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
        }
        if self.flags & PRIORITY != 0 {
            let (priority, rest) = payload.split_first_chunk::<5>()?;
            self.priority = Some(*priority);
            payload = rest;
        }
        self.fragments.extend_from_slice(payload);
        Some(())
    }

    fn write(&self, list: &hpack::HeaderList, out: &mut Vec<u8>) {
        let mut block = Vec::with_capacity(self.fragments.len() * 2);
        // Two of them are malformed (RFC 9113 §8.3): h2 shall see both, or dropping one would make a good request of a bad one.
        let alone = list.iter().filter(|(name, _)| **name == *b":authority").count() == 1;
        for (name, value) in list {
            if alone && **name == *b":authority" {
                if let Some(value) = acceptable(value) {
                    hpack::write_field(name, &value, &mut block);
                }
            } else {
                hpack::write_field(name, value, &mut block);
            }
        }
        let priority = self.priority.as_ref().map_or(&[][..], |priority| &priority[..]);
        let flags = self.flags & (END_STREAM | PRIORITY) | END_HEADERS;
        write_frame_header(priority.len() + block.len(), flags, self.stream, out);
        out.extend_from_slice(priority);
        out.extend_from_slice(&block);
    }
}

/// The authority h2 shall see: as sent when it parses, without its odd characters when it does not, none when it is empty.
fn acceptable(value: &[u8]) -> Option<Vec<u8>> {
    if value.is_empty() {
        return None;
    }
    if http::uri::Authority::try_from(value).is_ok() {
        return Some(value.to_vec());
    }
    let harmless = |byte: &u8| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~') {
            *byte
        } else {
            b'-'
        }
    };
    Some(value.iter().map(harmless).collect())
}

fn write_frame_header(length: usize, flags: u8, stream: [u8; 4], out: &mut Vec<u8>) {
    let [.., high, middle, low] = length.to_be_bytes();
    out.extend_from_slice(&[high, middle, low, HEADERS, flags]);
    out.extend_from_slice(&stream);
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// What we announce to accept in one frame (the protocol's default).
const MAX_FRAME: usize = 16_384;
/// The most encoded bytes of one block, over all its frames.
const MAX_BLOCK: usize = 16_384;
/// The most CONTINUATION frames of one block, empty ones included (RUSTSEC-2024-0332).
const MAX_CONTINUATIONS: usize = 16;
