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

/// Method, path and headers of each request that came through, authority apart.
type Seen = Vec<(String, Option<String>)>;

fuzz_target!(|input: &[u8]| {
    control();
    let input = [PREFACE, SETTINGS, input].concat();
    let (mut rewriter, mut rewritten) = (Rewriter::new(), Vec::new());
    rewriter.push(&input, &mut rewritten);
    let (plain, with) = runtime().block_on(async { (serve(&input).await, serve(&rewritten).await) });
    // What comes before the first refusal of either must be the same; the rewriter only lets more through, until it refuses itself.
    for (one, other) in plain.iter().zip(&with) {
        assert_eq!(one.0, other.0);
        // An empty authority is dropped, another that h2 takes stays as it is.
        assert_eq!(one.1, other.1);
    }
    assert!(
        with.len() >= plain.len() || stricter(&input),
        "{} requests without the rewriter, {} with it",
        plain.len(),
        with.len()
    );
});

/// What the rewriter refuses and h2 need not: a header block of more than 16,384 bytes or seventeen frames (RUSTSEC-2024-0332), and lists
/// and numbers of a size to match. Its bounds are a connection's memory, and no client of ours comes near.
fn stricter(input: &[u8]) -> bool {
    let mut rest = &input[PREFACE.len()..];
    let (mut longest, mut continued) = (0, 0);
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if matches!(head[3], 1 | 9) {
            longest += length;
        }
        continued += usize::from(head[3] == 9);
        rest = &after[length.min(after.len())..];
    }
    longest > 4096 || continued > 16
}

/// What a server sees of it. The client stays: of a closed connection h2 hands out nothing.
async fn serve(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let (mut client, server) = tokio::io::duplex(bytes.len() + 64 * 1024);
    client.write_all(bytes).await.expect("room for all of it");
    let builder = h2::server::Builder::new()
        .max_header_list_size(16 * 1024)
        .handshake::<_, bytes::Bytes>(server);
    let Ok(mut connection) = builder.await else {
        return seen;
    };
    // Everything is in memory, so a server that waits has read all there is; now and then it only lets others have their turn.
    let mut waits = 0;
    while waits < 4 {
        match poll_fn(|context| Poll::Ready(connection.poll_accept(context))).await {
            Poll::Ready(Some(Ok((request, _respond)))) => seen.push(describe(&request)),
            Poll::Ready(Some(Err(_)) | None) => break,
            Poll::Pending => {
                waits += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    seen
}

fn describe<B>(request: &http::Request<B>) -> (String, Option<String>) {
    let headers = request.headers().iter();
    let mut headers: Vec<_> = headers.map(|(name, value)| format!("{name}={value:?}")).collect();
    headers.sort();
    let uri = request.uri();
    let authority = uri.authority().map(ToString::to_string);
    (
        format!("{} {} {headers:?}", request.method(), uri.path()),
        authority,
    )
}

/// The positive control: a plain request is seen, with and without the rewriter.
fn control() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let request = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x83, 0x86, 0x84, 1, 1, b'h'];
        let input = [PREFACE, SETTINGS, &request].concat();
        let mut rewritten = Vec::new();
        Rewriter::new().push(&input, &mut rewritten);
        let seen = runtime().block_on(async { (serve(&input).await, serve(&rewritten).await) });
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
