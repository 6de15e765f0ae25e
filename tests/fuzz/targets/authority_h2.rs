//! What h2 makes of a connection with and without the rewriter. Whatever h2 understands without it, it understands with it, and the same.
#![no_main]

#[expect(dead_code, reason = "the target does not use all of it")]
#[path = "../../../crates/uds/src"]
mod uds {
    pub(crate) mod authority;
}

use std::future::poll_fn;
use std::sync::{Once, OnceLock};
use std::task::Poll;

use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Runtime;
use uds::authority::Rewriter;

/// Each request that came through: its stream, and method, URI and headers.
type Seen = Vec<(h2::StreamId, String)>;

fuzz_target!(|input: &[u8]| {
    control();
    let pieces = frames(input);
    let after = rewritten(&pieces);
    let (plain, with) = runtime().block_on(async { (serve(&pieces).await, serve(&after).await) });
    for (stream, request) in &plain {
        match with.iter().find(|(other, _)| other == stream) {
            Some((_, same)) => assert_eq!(request, same),
            None => assert!(stricter(&pieces), "with the rewriter {request:?} is gone"),
        }
    }
});

/// What the rewriter refuses and h2 need not: a header block of more than 16,384 bytes or seventeen frames (RUSTSEC-2024-0332), and lists
/// and numbers of a size to match. Its bounds are a connection's memory, and no client of ours comes near.
fn stricter(pieces: &[Vec<u8>]) -> bool {
    let of = |kinds: &'static [u8]| pieces.iter().filter(move |piece| kinds.contains(&piece[3]));
    // An authority that h2 calls malformed ends a request before h2 looks at the number of its stream; repaired, a wrong number ends the
    // connection (RFC 9113 §5.1.1), as it would that of any other request.
    let mut last = 0;
    let wrong_number = of(&[1]).any(|piece| {
        let stream = u32::from_be_bytes([piece[5] & 0x7f, piece[6], piece[7], piece[8]]);
        let wrong = stream % 2 == 0 || stream <= last;
        last = stream;
        wrong
    });
    wrong_number || of(&[1, 9]).map(Vec::len).sum::<usize>() > 4096 || of(&[9]).count() > 16
}

/// What a server sees of it, frame by frame: of a connection that fails or closes, h2 does not hand out what it had read at once.
async fn serve(pieces: &[Vec<u8>]) -> Seen {
    let mut seen = Seen::new();
    let room = pieces.iter().map(Vec::len).sum::<usize>() + 64 * 1024;
    let (mut client, server) = tokio::io::duplex(room);
    let begin = [PREFACE, SETTINGS].concat();
    client.write_all(&begin).await.expect("room for all of it");
    let builder = h2::server::Builder::new()
        .max_header_list_size(16 * 1024)
        .handshake::<_, bytes::Bytes>(server);
    let mut connection = builder.await.expect("a preface and settings");
    for piece in pieces {
        client.write_all(piece).await.expect("room for all of it");
        // Everything is in memory, so a server that waits has read all there is; now and then it only lets others have their turn.
        let mut waits = 0;
        while waits < 3 {
            match poll_fn(|context| Poll::Ready(connection.poll_accept(context))).await {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    seen.push((respond.stream_id(), describe(&request)));
                }
                Poll::Ready(Some(Err(_)) | None) => return seen,
                Poll::Pending => {
                    waits += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    seen
}

/// The frames of it, the last perhaps not whole.
fn frames(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(head) = rest.first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (frame, after) = rest.split_at((9 + length).min(rest.len()));
        all.push(frame.to_vec());
        rest = after;
    }
    all
}

/// The same through the rewriter, piece by piece.
fn rewritten(pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut rewriter = Rewriter::new();
    rewriter.push(&[PREFACE, SETTINGS].concat(), &mut Vec::new());
    let through = |piece: &Vec<u8>| {
        let mut out = Vec::new();
        rewriter.push(piece, &mut out);
        out
    };
    pieces.iter().map(through).collect()
}

fn describe<B>(request: &http::Request<B>) -> String {
    let headers = request.headers().iter();
    let mut headers: Vec<_> = headers.map(|(name, value)| format!("{name}={value:?}")).collect();
    headers.sort();
    format!("{} {} {headers:?}", request.method(), request.uri())
}

/// The positive control: a plain request is seen, with and without the rewriter.
fn control() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let request = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x83, 0x86, 0x84, 1, 1, b'h'];
        let pieces = frames(&request);
        let after = rewritten(&pieces);
        let seen = runtime().block_on(async { (serve(&pieces).await, serve(&after).await) });
        assert_eq!(seen.0.len(), 1, "h2 sees no request at all");
        assert_eq!(seen.0, seen.1);
    });
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    })
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
