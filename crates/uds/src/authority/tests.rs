//! The rewriter against h2 as decoder, against the RFC's examples and against chance.

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{hpack::Decoder, *};

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

fn start() -> Vec<u8> {
    [&PREFACE[..], &SETTINGS].concat()
}

fn rewritten(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Rewriter::new().push(input, &mut out);
    out
}

/// `:method POST`, `:scheme http`, `:path /x`, then `authority`.
fn block(authority: &[u8]) -> Vec<u8> {
    [&[0x83, 0x86, 0x04, 0x02, b'/', b'x'][..], authority].concat()
}

fn literal(first: &[u8], value: &[u8]) -> Vec<u8> {
    [first, &[value.len() as u8], value].concat()
}

/// What h2 says to blocks, one a request: the authority of each, or the error.
async fn seen_by_h2(input: Vec<u8>, requests: usize) -> Vec<Result<Option<String>, String>> {
    let (client, server) = tokio::io::duplex(1 << 20);
    let (mut read, mut write) = tokio::io::split(client);
    let mut rest = rewritten(&input);
    let feed = async {
        write.write_all(&rest).await.unwrap();
        rest.clear();
        let mut sink = vec![0; 4096];
        while read.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    };
    let serve = async {
        let mut connection = h2::server::handshake(server).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < requests {
            match connection.accept().await {
                Some(Ok((request, _))) => seen.push(Ok(request.uri().authority().map(ToString::to_string))),
                Some(Err(error)) => {
                    seen.push(Err(error.to_string()));
                    break;
                }
                None => break,
            }
        }
        seen
    };
    let both = async {
        tokio::select! { seen = serve => seen, () = feed => panic!("h2 has hung up") }
    };
    // A request that h2 resets is never shown.
    tokio::time::timeout(std::time::Duration::from_secs(60), both)
        .await
        .expect("h2 shows too few requests")
}

#[tokio::test]
async fn h2_accepts_every_authority_that_grpc_clients_send() {
    let huffman_slash_path = [0x88, 0x61, 0x05, 0xa5, 0x31, 0x60, 0xad, 0x50, 0x7f];
    let cases: [(Vec<u8>, Option<&str>); 9] = [
        (literal(&[0x01], b"localhost"), Some("localhost")),
        (literal(&[0x01], b"/tmp/a.sock"), Some("-tmp-a.sock")),
        (literal(&[0x41], b"%2Ftmp%2Fa.sock"), Some("-2Ftmp-2Fa.sock")),
        (
            literal(&[&[0x10, 10][..], b":authority"].concat(), b"/never"),
            Some("-never"),
        ),
        (
            literal(&[&[0x40, 10][..], b":authority"].concat(), b"a b\"<>\x7f\xff"),
            Some("a-b-----"),
        ),
        ([&[0x41][..], &huffman_slash_path].concat(), None),
        (vec![0x81], None),
        (literal(&[0x41], b""), None),
        (literal(&[0x01], b""), None),
    ];
    for (field, expected) in cases {
        let input = [
            start(),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&field)),
        ]
        .concat();
        let seen = seen_by_h2(input, 1).await;
        if field.len() > 1 && field[1] == 0x88 {
            assert!(
                matches!(&seen[0], Ok(Some(text)) if !text.contains('/')),
                "{seen:?}"
            );
        } else {
            assert_eq!(seen, [Ok(expected.map(str::to_owned))], "{field:?}");
        }
    }
}

#[tokio::test]
async fn without_the_rewriter_h2_refuses() {
    // If this fails, h2 has learnt it and this module can go.
    for field in [literal(&[0x01], b"/tmp/a"), vec![0x81]] {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let input = [
            start(),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&field)),
        ]
        .concat();
        client.write_all(&input).await.unwrap();
        client.shutdown().await.unwrap();
        let mut connection = h2::server::handshake(server).await.unwrap();
        assert!(!matches!(connection.accept().await, Some(Ok(_))), "{field:?}");
    }
}

#[tokio::test]
async fn indexed_names_and_values_are_followed_through_size_updates() {
    let path = literal(&[0x41], b"/tmp/a");
    let again = [0xbe]; // the first dynamic entry, name and value
    let by_name = literal(&[0x7e], b"/tmp/b"); // its name, a new value, indexed
    let emptied = [&[0x20, 0x3f, 0xe1, 0x1f][..], &literal(&[0x01], b"/c")].concat(); // size 0, then 4096
    let input = [
        start(),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&path)),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&again)),
        frame(HEADERS, END_HEADERS | END_STREAM, 5, &block(&by_name)),
        frame(HEADERS, END_HEADERS | END_STREAM, 7, &block(&again)),
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            9,
            &[&emptied[..4], &block(&emptied[4..])].concat(),
        ),
    ]
    .concat();
    let seen = seen_by_h2(input.clone(), 5).await;
    let named: Vec<_> = seen.iter().map(|seen| seen.clone().unwrap().unwrap()).collect();
    assert_eq!(named, ["-tmp-a", "-tmp-a", "-tmp-b", "-tmp-b", "-c"]);
    let evicted = frame(HEADERS, END_HEADERS | END_STREAM, 11, &block(&again));
    let mut rewriter = Rewriter::new();
    rewriter.push(&input, &mut Vec::new());
    assert!(!rewriter.refused());
    rewriter.push(&evicted, &mut Vec::new());
    assert!(rewriter.refused(), "the update has emptied the table");
}

/// RFC 7541 §5.1 has no shortest form; h2 takes five bytes for a number and no more. Found by `make fuzz`.
#[tokio::test]
async fn a_number_may_be_spread_over_as_many_bytes_as_h2_takes() {
    let request = |number: &[u8]| {
        let field = [&[0x0f][..], number, &[1, b'x']].concat();
        let authority = literal(&[0x01], b"/tmp/a.sock");
        let all = block(&[authority, field].concat());
        [start(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &all)].concat()
    };
    for number in [&[0x0c][..], &[0x8c, 0], &[0x8c, 0x80, 0x80, 0]] {
        let seen = seen_by_h2(request(number), 1).await;
        assert_eq!(seen, [Ok(Some("-tmp-a.sock".to_owned()))], "{number:?}");
    }
    let seen = seen_by_h2(request(&[0x8c, 0x80, 0x80, 0x80, 0]), 1).await;
    assert!(seen[0].is_err(), "{seen:?}");
}

#[tokio::test]
async fn padded_prioritised_and_continued_headers_are_understood() {
    let whole = block(&literal(&[0x01], b"/tmp/a"));
    let padded = [&[3, 0, 0, 0, 0, 16][..], &whole, &[0; 3]].concat();
    let mut input = [
        start(),
        frame(HEADERS, END_HEADERS | END_STREAM | PADDED | PRIORITY, 1, &padded),
    ]
    .concat();
    input.extend(frame(HEADERS, END_STREAM, 3, &whole[..1]));
    for byte in &whole[1..whole.len() - 1] {
        input.extend(frame(CONTINUATION, 0, 3, &[*byte]));
    }
    input.extend(frame(CONTINUATION, END_HEADERS, 3, &whole[whole.len() - 1..]));
    let seen = seen_by_h2(input, 2).await;
    assert_eq!(
        seen,
        [Ok(Some("-tmp-a".to_owned())), Ok(Some("-tmp-a".to_owned()))]
    );
}

#[tokio::test]
async fn what_cannot_be_decoded_ends_the_connection_and_nothing_follows() {
    let mut bomb = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    bomb.extend_from_slice(&[b'x'; 4000]);
    bomb.extend_from_slice(&[0xbe; 5]);
    let cases = [
        frame(HEADERS, END_HEADERS, 1, &[0x80]),
        frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
        frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xe2, 0x1f]),
        frame(HEADERS, END_HEADERS, 1, &[0x83, 0x20]),
        frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x83]),
        frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0, 0]),
        frame(HEADERS, END_HEADERS, 1, &bomb),
        frame(CONTINUATION, END_HEADERS, 1, &[0x83]),
        [frame(HEADERS, 0, 1, &[0x83]), frame(0, 0, 1, b"x")].concat(),
        [frame(HEADERS, 0, 1, &[0x83]), frame(CONTINUATION, 0, 3, &[])].concat(),
    ];
    for case in cases {
        let after = frame(HEADERS, END_HEADERS | END_STREAM, 7, &block(&[]));
        let seen = seen_by_h2([start(), case.clone(), after].concat(), 2).await;
        assert_eq!(seen.len(), 1, "something passed after {case:?}");
        assert!(
            seen[0]
                .as_ref()
                .is_err_and(|error| error.contains("protocol error")),
            "{case:?}: {seen:?}"
        );
    }
}

#[test]
fn a_flood_of_continuations_is_cut_off() {
    let mut rewriter = Rewriter::new();
    let mut out = Vec::new();
    rewriter.push(&[start(), frame(HEADERS, 0, 1, &[0x83])].concat(), &mut out);
    for sent in 0..2 * MAX_CONTINUATIONS {
        assert_eq!(
            rewriter.refused(),
            sent > MAX_CONTINUATIONS,
            "after {sent} frames"
        );
        rewriter.push(&frame(CONTINUATION, 0, 1, &[]), &mut out);
    }
    // And by bytes.
    let mut rewriter = Rewriter::new();
    rewriter.push(&[start(), frame(HEADERS, 0, 1, &[0; 16_000])].concat(), &mut out);
    assert!(!rewriter.refused());
    rewriter.push(&frame(CONTINUATION, 0, 1, &[0; 1_000]), &mut out);
    assert!(rewriter.refused());
}

#[test]
fn two_authorities_stay_two_so_that_h2_refuses_them() {
    // The empty one of the static table, then one with a path.
    let block = [&[0x81][..], &literal(&[0x41], b"/run/a.sock")].concat();
    let out = rewritten(&[start(), frame(HEADERS, END_HEADERS, 1, &block)].concat());
    let list = Decoder::new().decode(&out[start().len() + 9..]).unwrap();
    let values: Vec<&[u8]> = list.iter().map(|(_, value)| &**value).collect();
    assert_eq!(values, [&b""[..], b"/run/a.sock"]);
}

#[test]
fn a_list_that_grows_out_of_the_table_is_refused() {
    // One entry of 4,000 bytes, then five references to it: small on the wire, 20 KB decoded.
    let mut insert = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    insert.extend_from_slice(&[b'x'; 4000]);
    let mut decoder = Decoder::new();
    assert_eq!(decoder.decode(&insert).unwrap().len(), 1);
    assert_eq!(decoder.decode(&[0xbe; 3]).unwrap().len(), 3);
    assert!(decoder.decode(&[0xbe; 5]).is_err());
}

#[test]
fn what_is_not_http2_passes_untouched() {
    for input in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"PRI * HTTP/1",
        b"\x16\x03\x01\x00\x00",
    ] {
        assert_eq!(rewritten(input), input);
    }
}

#[test]
fn frames_other_than_headers_pass_untouched() {
    let frames = [
        start(),
        frame(0, 0, 1, &[7; 300]),
        frame(6, 0, 0, &[1; 8]),
        frame(0xfe, 0xff, 9, &[]),
        frame(3, 0, 1, &[0; 4]),
    ];
    let input = frames.concat();
    assert_eq!(rewritten(&input), input);
}

#[test]
fn the_handshake_is_done_after_the_first_frame() {
    let mut rewriter = Rewriter::new();
    let input = start();
    rewriter.push(&input[..input.len() - 1], &mut Vec::new());
    assert!(!rewriter.handshake_done());
    rewriter.push(&input[input.len() - 1..], &mut Vec::new());
    assert!(rewriter.handshake_done());
}

/// A header list as any client may encode it.
fn any_block() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        Just(vec![0x81]),
        Just(vec![0x83]),
        Just(vec![0xbe]),
        (prop_oneof![Just(0x41_u8), Just(0x01), Just(0x11)], "[ -~]{0,40}")
            .prop_map(|(first, v)| literal(&[first], v.as_bytes())),
        ("[a-z]{1,10}", "[ -~]{0,60}").prop_map(|(n, v)| {
            literal(&[&[0x40, n.len() as u8][..], n.as_bytes()].concat(), v.as_bytes())
        }),
    ];
    proptest::collection::vec(field, 0..8).prop_map(|fields| fields.concat())
}

proptest! {
    #[test]
    fn the_cut_into_reads_changes_nothing(
        blocks in proptest::collection::vec(any_block(), 1..4),
        cuts in proptest::collection::vec(1_usize..40, 0..60),
    ) {
        let mut input = start();
        for (number, block) in blocks.iter().enumerate() {
            input.extend(frame(HEADERS, END_HEADERS, 1 + 2 * number as u8, block));
            input.extend(frame(0, END_STREAM, 1 + 2 * number as u8, b"data"));
        }
        let whole = rewritten(&input);
        let (mut rewriter, mut out, mut rest) = (Rewriter::new(), Vec::new(), &input[..]);
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            rewriter.push(now, &mut out);
            rest = later;
        }
        rewriter.push(rest, &mut out);
        prop_assert_eq!(out, whole);
    }

    #[test]
    fn a_rewritten_block_decodes_to_the_same_list_with_a_parsable_authority(block in any_block()) {
        let Ok(before) = Decoder::new().decode(&block) else { return Ok(()) };
        let out = rewritten(&[start(), frame(HEADERS, END_HEADERS, 1, &block)].concat());
        let after = Decoder::new().decode(&out[start().len() + 9..]).unwrap();
        let alone = before.iter().filter(|(name, _)| **name == *b":authority").count() == 1;
        let kept = before.iter().filter(|(name, value)| !alone || **name != *b":authority" || !value.is_empty());
        for (before, after) in kept.zip(&after) {
            prop_assert_eq!(&before.0, &after.0);
            prop_assert_eq!(before.1.len(), after.1.len());
            if alone && *before.0 == *b":authority" {
                prop_assert!(http::uri::Authority::try_from(&*after.1).is_ok());
            } else {
                prop_assert_eq!(&before.1, &after.1);
            }
        }
    }

    #[test]
    fn nothing_makes_it_panic_or_hold_more_than_it_may(
        http2: bool,
        noise in proptest::collection::vec(any::<u8>(), 0..3000),
        kinds in proptest::collection::vec((0_u8..12, any::<u8>(), 0_u8..4, proptest::collection::vec(any::<u8>(), 0..80)), 0..20),
    ) {
        let mut input = if http2 { start() } else { Vec::new() };
        for (kind, flags, stream, payload) in kinds {
            input.extend(frame(kind, flags, stream, &payload));
        }
        input.extend(&noise);
        let (mut rewriter, mut out) = (Rewriter::new(), Vec::new());
        for chunk in input.chunks(97) {
            rewriter.push(chunk, &mut out);
            prop_assert!(rewriter.open.as_ref().is_none_or(|open| open.fragments.len() <= MAX_BLOCK));
        }
        // Each field of a block grows by a bounded factor only.
        prop_assert!(out.len() <= input.len() * 64 + 64);
    }

    #[test]
    fn huffman_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(huffman::decode(&noise, 100));
    }
}

#[tokio::test]
async fn the_code_of_every_symbol_is_the_one_h2_writes() {
    let (client, server) = tokio::io::duplex(1 << 20);
    let every: Vec<u8> = (32..127).chain(128..=255).collect();
    let (mut send, connection) = h2::client::handshake(client).await.unwrap();
    let request = http::Request::builder()
        .uri("http://h/")
        .header("x-every", &every[..])
        .body(())
        .unwrap();
    let (_response, _stream) = send.send_request(request, true).unwrap();
    let captured = async {
        let (mut server, mut all) = (server, Vec::new());
        let mut chunk = vec![0; 4096];
        loop {
            let length = server.read(&mut chunk).await.unwrap();
            all.extend_from_slice(&chunk[..length]);
            let out = Bytes::from(rewritten(&all));
            if let Some(at) = out.windows(7).position(|window| window == b"x-every") {
                return out.slice(at + 7..);
            }
        }
    };
    let value = tokio::select! { value = captured => value, _ = connection => panic!("h2 has hung up") };
    assert!(
        value.windows(every.len()).any(|window| window == every),
        "{value:?}"
    );
}
