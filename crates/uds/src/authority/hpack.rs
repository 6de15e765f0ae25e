//! Decoding of HPACK header blocks (RFC 7541) and writing them again without the dynamic table.
//!
//! Invariant: the dynamic table never exceeds 4,096 bytes of RFC 7541 §4.1 size and a decoded list never exceeds
//! [`MAX_LIST`]; any input gives a list or an error, never a panic.

use std::collections::VecDeque;

use super::{fixed::STATIC_TABLE, huffman};

/// Why a block was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// Names and values, in order.
pub(super) type HeaderList = Vec<Field>;

type Field = (Box<[u8]>, Box<[u8]>);

/// The receiver's state of one connection.
#[derive(Debug)]
pub(super) struct Decoder {
    table: VecDeque<Field>,
    size: usize,
    limit: usize,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            limit: MAX_TABLE,
        }
    }

    /// Decodes one whole block.
    pub(super) fn decode(&mut self, block: &[u8]) -> Result<HeaderList, Malformed> {
        let mut input = Input { rest: block };
        let mut list = HeaderList::new();
        let mut list_size = 0;
        while let Some(first) = input.peek() {
            let field = if first & 0x80 != 0 {
                let index = input.integer(7)?;
                let (name, value) = self.entry(index)?;
                (name.into(), value.into())
            } else if first & 0x40 != 0 {
                let field = self.literal(&mut input, 6)?;
                self.insert(field.clone());
                field
            } else if first & 0x20 != 0 {
                // RFC 7541 §4.2: a size update stands at the beginning of a block.
                let limit = input.integer(5)?;
                if limit > MAX_TABLE || !list.is_empty() {
                    return Err(Malformed);
                }
                self.limit = limit;
                self.evict(0);
                continue;
            } else {
                self.literal(&mut input, 4)?
            };
            list_size += field_size(&field);
            if list_size > MAX_LIST {
                return Err(Malformed);
            }
            list.push(field);
        }
        Ok(list)
    }

    fn literal(&self, input: &mut Input<'_>, prefix: u8) -> Result<Field, Malformed> {
        let index = input.integer(prefix)?;
        let name = if index == 0 {
            input.string()?
        } else {
            self.entry(index)?.0.into()
        };
        Ok((name, input.string()?))
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        let position = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC_TABLE.get(position) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (name, value) = self.table.get(position - STATIC_TABLE.len()).ok_or(Malformed)?;
        Ok((name, value))
    }

    fn insert(&mut self, field: Field) {
        let size = field_size(&field);
        self.evict(size);
        // RFC 7541 §4.4: an entry larger than the table empties it and is not an error.
        if size <= self.limit {
            self.size += size;
            self.table.push_front(field);
        }
    }

    /// Makes room for `incoming` bytes.
    fn evict(&mut self, incoming: usize) {
        while self.size + incoming > self.limit {
            let Some(oldest) = self.table.pop_back() else {
                break;
            };
            self.size -= field_size(&oldest);
        }
    }
}

/// Appends `name: value` as a literal without indexing, not Huffman-coded. Takes at most `field_size` bytes.
pub(super) fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    write_string(name, out);
    write_string(value, out);
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    let mut length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push((length % 128) as u8 | 128);
            length /= 128;
        }
        out.push(length as u8);
    }
    out.extend_from_slice(text);
}

/// RFC 7541 §4.1.
fn field_size((name, value): &Field) -> usize {
    name.len() + value.len() + 32
}

struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    /// RFC 7541 §5.1: as many further bytes as h2 takes, four, however small the number that a client spreads over them.
    fn integer(&mut self, prefix: u8) -> Result<usize, Malformed> {
        let mask = (1_usize << prefix) - 1;
        let mut value = usize::from(self.next()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.next()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn string(&mut self) -> Result<Box<[u8]>, Malformed> {
        let coded = self.peek().ok_or(Malformed)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        if coded {
            huffman::decode(text, MAX_LIST).map(Into::into).ok_or(Malformed)
        } else {
            Ok(text.into())
        }
    }
}

/// What we let a client put into its dynamic table: the protocol's default, since we announce no other.
const MAX_TABLE: usize = 4096;

/// The largest decoded list, 32 bytes a field included. With it a rewritten block always fits into one frame of 16,384 bytes.
pub(super) const MAX_LIST: usize = 16_000;
