//! The rewriter of `:authority`, from the very file the agent is built from: what comes out decodes to the list that went in, with an
//! authority that parses, in frames of bounded size, however the input is cut.
#![no_main]

// The module is private to its crate, and stays so: there is nothing in it that anybody else should call.
#[expect(dead_code, reason = "the target does not use all of it")]
#[path = "../../../crates/uds/src"]
mod uds {
    pub(crate) mod authority;
}

/// What it decodes with, to ask it about the input; the output is read by this file.
#[expect(dead_code, reason = "the target writes nothing with it")]
#[path = "../../../crates/uds/src/authority"]
mod decoder {
    mod fixed;
    mod hpack;
    mod huffman;

    pub(crate) struct Decoder(hpack::Decoder);

    impl Decoder {
        pub(crate) fn new() -> Self {
            Self(hpack::Decoder::new())
        }

        pub(crate) fn decode(&mut self, block: &[u8]) -> Option<Vec<(Box<[u8]>, Box<[u8]>)>> {
            self.0.decode(block).ok()
        }
    }
}

use libfuzzer_sys::fuzz_target;
use uds::authority::Rewriter;

type List = Vec<(Vec<u8>, Vec<u8>)>;

fuzz_target!(|data: &[u8]| {
    let Some((cut, input)) = data.split_first() else {
        return;
    };
    let input = [PREFACE, input].concat();
    let whole = rewrite(&input, input.len());
    assert_eq!(
        whole,
        rewrite(&input, usize::from(*cut).max(1)),
        "the cut matters"
    );
    let came_in = frames(&input[PREFACE.len()..]);
    let came_out = frames(&whole[PREFACE.len()..]);
    bounded(&came_in, &came_out);
    same_lists(&came_in, &came_out);
    let mut mangled = input;
    mangled[usize::from(*cut) % PREFACE.len()] ^= 1;
    assert_eq!(
        rewrite(&mangled, mangled.len()),
        mangled,
        "not HTTP/2, but touched"
    );
});

fn rewrite(input: &[u8], cut: usize) -> Vec<u8> {
    let (mut rewriter, mut out) = (Rewriter::new(), Vec::new());
    for chunk in input.chunks(cut) {
        rewriter.push(chunk, &mut out);
    }
    if rewriter.refused() {
        let before = out.len();
        rewriter.push(b"more", &mut out);
        assert_eq!(out.len(), before, "something passes after a refusal");
    }
    out
}

/// One frame; the last may be cut short.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: [u8; 4],
    payload: &'a [u8],
    whole: bool,
}

fn frames(mut rest: &[u8]) -> Vec<Frame<'_>> {
    let mut all = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (payload, after) = after.split_at(length.min(after.len()));
        all.push(Frame {
            kind: head[3],
            flags: head[4],
            stream: [head[5] & 0x7f, head[6], head[7], head[8]],
            payload,
            whole: payload.len() == length,
        });
        rest = after;
    }
    all
}

/// A block of at most 16,384 bytes becomes one frame of at most so many; all else keeps its size.
fn bounded(came_in: &[Frame<'_>], came_out: &[Frame<'_>]) {
    assert!(came_out.len() <= came_in.len() + 1);
    for frame in came_out {
        assert_ne!(frame.kind, CONTINUATION, "a block in more than one frame");
        assert!(frame.kind != HEADERS || frame.payload.len() <= 16_384);
        assert!(frame.kind != HEADERS || frame.flags & END_HEADERS != 0);
    }
}

fn same_lists(came_in: &[Frame<'_>], came_out: &[Frame<'_>]) {
    let mut decoder = decoder::Decoder::new();
    let mut input = came_in.iter();
    for (at, out) in came_out.iter().enumerate() {
        if is_refusal(out) {
            return assert_eq!(at + 1, came_out.len(), "something follows a refusal");
        }
        let first = input.next().expect("a frame out of nothing");
        if first.kind != HEADERS {
            assert_ne!(first.kind, CONTINUATION, "a continuation of nothing");
            assert!((first.kind, first.flags, first.payload) == (out.kind, out.flags, out.payload));
            continue;
        }
        let mut last = first;
        let mut block = fragment(first).expect("padding that does not fit").to_vec();
        while last.flags & END_HEADERS == 0 {
            last = input.next().expect("a block without an end");
            assert!(
                last.kind == CONTINUATION && last.stream == first.stream,
                "a broken block"
            );
            block.extend_from_slice(last.payload);
        }
        assert!(last.whole && first.stream == out.stream);
        let kept = END_STREAM | PRIORITY;
        assert_eq!(out.flags, first.flags & kept | END_HEADERS);
        same_list(
            &decoder.decode(&block).expect("passed, but not decodable"),
            &plain(out),
        );
    }
}

fn same_list(came_in: &[(Box<[u8]>, Box<[u8]>)], came_out: &List) {
    // Two of them are malformed, and stay so (RFC 9113 §8.3).
    let alone = came_in.iter().filter(|(name, _)| **name == *AUTHORITY).count() == 1;
    let dropped = |name: &[u8], value: &[u8]| alone && name == AUTHORITY && value.is_empty();
    let expected: Vec<_> = came_in
        .iter()
        .filter(|(name, value)| !dropped(name, value))
        .collect();
    assert_eq!(expected.len(), came_out.len());
    for ((was_name, was_value), (name, value)) in expected.into_iter().zip(came_out) {
        assert_eq!(**was_name, **name);
        assert_eq!(was_value.len(), value.len());
        if alone && name == AUTHORITY {
            let was_fine = http::uri::Authority::try_from(&**was_value).is_ok();
            assert!(
                !was_fine || **was_value == **value,
                "a fine authority was changed"
            );
            assert!(http::uri::Authority::try_from(&value[..]).is_ok(), "{value:?}");
        } else {
            assert_eq!(**was_value, **value);
        }
    }
}

/// Without padding and priority (RFC 9113 §6.2).
fn fragment<'a>(frame: &Frame<'a>) -> Option<&'a [u8]> {
    let mut payload = frame.payload;
    if frame.flags & PADDED != 0 {
        let (padding, rest) = payload.split_first()?;
        payload = rest.get(..rest.len().checked_sub((*padding).into())?)?;
    }
    if frame.flags & PRIORITY != 0 {
        payload = payload.get(5..)?;
    }
    Some(payload)
}

/// Index 0, which no table has (RFC 7541 §6.1).
fn is_refusal(frame: &Frame<'_>) -> bool {
    frame.kind == HEADERS && frame.payload == [0x80]
}

/// Literals without indexing, new names, no Huffman: nothing else may come out (RFC 7541 §6.2.2).
fn plain(frame: &Frame<'_>) -> List {
    let mut rest = fragment(frame).expect("our own frame");
    let mut list = List::new();
    while let [first, after @ ..] = rest {
        assert_eq!(*first, 0, "not a plain literal");
        let (name, after) = text(after);
        let (value, after) = text(after);
        list.push((name.to_vec(), value.to_vec()));
        rest = after;
    }
    list
}

fn text(input: &[u8]) -> (&[u8], &[u8]) {
    let (first, mut rest) = input.split_first().expect("a string");
    let mut length = usize::from(*first);
    assert!(length <= 127, "Huffman");
    if length == 127 {
        let mut shift = 0;
        while let Some((byte, after)) = rest.split_first() {
            length += usize::from(byte & 127) << shift;
            (rest, shift) = (after, shift + 7);
            if byte & 128 == 0 {
                break;
            }
        }
    }
    rest.split_at(length)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const AUTHORITY: &[u8] = b":authority";
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
