//! The pages, and clients that do not behave. In-memory streams where time matters.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

fn health(health: Health) -> (watch::Sender<Health>, watch::Receiver<Health>) {
    watch::channel(health)
}

async fn exchange(request: &str, state: Health) -> String {
    let recorder = crate::metrics::recorder();
    metrics::with_local_recorder(&recorder, || {
        metrics::counter!("landfast_test_total").increment(3);
        metrics::histogram!("landfast_test_seconds").record(0.002);
    });
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let (_sender, receiver) = health(state);
    client.write_all(request.as_bytes()).await.unwrap();
    serve_connection(server, &Metrics::of(&recorder), &receiver).await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn the_pages_say_how_the_process_stands() {
    let ready = Health::ready();
    let not = Health::not_ready("waiting for the server");
    assert!(
        exchange(&get("/live"), not.clone())
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let answer = exchange(&get("/ready"), ready.clone()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nready\n"),
        "{answer}"
    );
    let answer = exchange(&get("/ready"), not).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("not ready: waiting for the server\n"),
        "{answer}"
    );
    let ready_but = Health::ready_but("make room");
    let answer = exchange(&get("/ready"), ready_but.clone()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nready, but: make room\n"),
        "{answer}"
    );
    let answer = exchange(&get("/ready?format=json"), ready_but).await;
    assert!(
        answer.ends_with("{\"ready\":true,\"reason\":\"make room\"}\n"),
        "{answer}"
    );
    assert!(exchange(&get("/"), ready).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test(start_paused = true)]
async fn programs_are_answered_in_json_and_people_in_words() {
    let not = Health::not_ready("the \"disk\" is full");
    let ask = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    let json = "application/json\r\n";
    for (path, headers, kind, body) in [
        (
            "/ready?format=json",
            "",
            json,
            "{\"ready\":false,\"reason\":\"the \\\"disk\\\" is full\"}\n",
        ),
        (
            "/ready",
            "accept: application/json\r\n",
            json,
            "{\"ready\":false,\"reason\":\"the \\\"disk\\\" is full\"}\n",
        ),
        (
            "/live",
            "accept: text/html, application/json;q=0.9, */*\r\n",
            json,
            "{\"live\":true}\n",
        ),
        (
            "/live?format=json&x",
            "accept: text/plain\r\n",
            json,
            "{\"live\":true}\n",
        ),
        (
            "/live?format=text",
            "accept: application/json\r\n",
            TEXT,
            "live\n",
        ),
        (
            "/live",
            "accept: text/plain, application/json\r\n",
            TEXT,
            "live\n",
        ),
        ("/live", "accept: */*\r\n", TEXT, "live\n"),
        ("/live", "accept: application/jsonx\r\n", TEXT, "live\n"),
        ("/ready", "", TEXT, "not ready: the \"disk\" is full\n"),
    ] {
        let answer = exchange(&ask(path, headers), not.clone()).await;
        let (head, found) = answer.split_once("\r\n\r\n").unwrap();
        let status = if path.starts_with("/live") { "200" } else { "503" };
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path} {headers}: {head}"
        );
        assert_eq!(found, body, "{path} {headers}");
        assert!(
            head.contains(&format!("content-type: {}", kind.trim())),
            "{path} {headers}: {head}"
        );
        assert!(head.contains("cache-control: no-store"), "{head}");
    }
    let ready = exchange(&get("/ready?format=json"), Health::ready()).await;
    assert!(ready.ends_with("\r\n\r\n{\"ready\":true}\n"), "{ready}");
}

#[tokio::test(start_paused = true)]
async fn a_head_is_answered_as_a_get_is_without_the_body() {
    for (path, state, status) in [
        ("/live", Health::not_ready("no"), "200"),
        ("/ready", Health::ready(), "200"),
        ("/ready?format=json", Health::not_ready("no"), "503"),
        ("/metrics", Health::ready(), "200"),
        ("/nowhere", Health::ready(), "404"),
    ] {
        let got = exchange(&get(path), state.clone()).await;
        let head = exchange(&get(path).replacen("GET", "HEAD", 1), state).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{path}: a body came along: {head}");
        let length = |answer: &str| {
            answer
                .lines()
                .find(|line| line.starts_with("content-length"))
                .map(str::to_owned)
        };
        assert!(length(&got).is_some());
        assert_eq!(length(&head), length(&got), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_are_rendered_with_buckets() {
    let answer = exchange(&get("/metrics"), Health::ready()).await;
    assert!(answer.contains("landfast_test_total 3"), "{answer}");
    assert!(
        answer.contains("landfast_test_seconds_bucket{le=\"0.0025\"} 1"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_read_is_refused() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let request = get("/ready").replacen("GET", method, 1);
        let answer = exchange(&request, Health::ready()).await;
        assert!(
            answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD"),
            "{method}: {answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_found() {
    for path in [
        "/", "/Ready", "/ready/", "/readyz", "/live/x", "//ready", "/%72eady",
    ] {
        let answer = exchange(&get(path), Health::ready()).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_request_is_cut_off() {
    let recorder = crate::metrics::recorder();
    let (mut client, server) = tokio::io::duplex(1024);
    let (_sender, receiver) = health(Health::ready());
    client.write_all(b"GET /metrics HTT").await.unwrap();
    let begun = tokio::time::Instant::now();
    serve_connection(server, &Metrics::of(&recorder), &receiver).await;
    assert_eq!(begun.elapsed(), HEADER_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn headers_without_end_are_refused() {
    let long = format!(
        "GET /live HTTP/1.1\r\nx: {}\r\n\r\n",
        "a".repeat(2 * MAX_HEADER_BYTES)
    );
    assert!(
        exchange(&long, Health::ready())
            .await
            .starts_with("HTTP/1.1 431 ")
    );
}

#[tokio::test]
async fn a_client_beyond_the_bound_is_not_accepted_until_a_place_is_free() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let permits = Arc::new(Semaphore::new(1));
    let _first = TcpStream::connect(address).await.unwrap();
    let (_stream, permit) = accept(&listener, &permits).await.unwrap();
    let second = TcpStream::connect(address).await.unwrap();
    tokio::select! {
        biased;
        _ = accept(&listener, &permits) => panic!("accepted beyond the bound"),
        () = settle() => {}
    }
    drop(permit);
    let (stream, _permit) = accept(&listener, &permits).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), second.local_addr().unwrap());
}

/// The event loop has turned: what another connection could deliver by now has been delivered.
async fn settle() {
    for _ in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
    }
}

#[tokio::test]
async fn it_serves_over_tcp_and_shutdown_cuts_who_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let recorder = crate::metrics::recorder();
    let (_sender, receiver) = health(Health::ready());
    let (stop, stopped) = oneshot::channel::<()>();
    let served = serve_http(listener, Metrics::of(&recorder), receiver, async {
        stopped.await.unwrap();
    });
    let clients = async {
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET ").await.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(get("/live").as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("live\n"), "{answer}");
        stop.send(()).unwrap();
        idle
    };
    let (served, mut idle) = tokio::join!(served, clients);
    served.unwrap();
    let mut rest = Vec::new();
    // A reset is an end, too.
    drop(idle.read_to_end(&mut rest).await);
    assert_eq!(rest, b"");
}
