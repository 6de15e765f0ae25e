//! Clients that stall, mumble or come in crowds.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Client, HERE};
use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(60);

async fn rig(handshake: Duration, request: Duration) -> Rig {
    Rig::with(Patience { handshake, request }).await
}

#[tokio::test]
async fn who_does_not_begin_is_let_go() {
    let rig = rig(SHORT, LONG).await;
    for address in [rig.addresses.web[0], rig.addresses.spiffe[0]] {
        let mut silent = TcpStream::connect(address).await.unwrap();
        let end = tokio::time::timeout(LONG, silent.read(&mut [0])).await;
        assert!(matches!(end.expect("it was not cut"), Ok(0) | Err(_)));
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn who_does_not_end_a_request_is_cut_and_so_is_who_stays() {
    let rig = rig(LONG, SHORT).await;
    let address = rig.addresses.web[0];
    for beginning in [
        "",
        "GET / HTTP/1.1\r\nhost: x\r\nx-slow: ",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n",
    ] {
        let mut slow = rig.web.connect(address).await;
        slow.send(beginning).await;
        let rest = slow.rest().await;
        assert!(!rest.contains(" 200 "), "{beginning}: {rest}");
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn who_asks_and_does_not_read_is_cut() {
    // Long enough that its answers have piled up when the time is over.
    let rig = rig(LONG, SHORT * 10).await;
    let tls = Arc::new(rig.web.client());
    let mut greedy = Client::connect_slowly(rig.addresses.web[0], tls, 4096)
        .await
        .unwrap();
    let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    let ask = async { while greedy.0.write_all(request.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(LONG, ask).await.expect("it was not cut");
    rig.tear_down().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let rig = Rig::new().await;
    for head in [
        format!(
            "GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
            "x".repeat(20_000)
        ),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: x\r\n".repeat(200)),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(20_000)),
    ] {
        let mut client = rig.web.connect(rig.addresses.web[0]).await;
        client.send(&head).await;
        let answer = client.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut fine = rig.web.connect(rig.addresses.web[0]).await;
    assert_eq!(fine.get("/").await.status, 200);
    rig.tear_down().await;
}

#[tokio::test]
async fn a_crowd_of_one_address_keeps_nobody_else_out() {
    let rig = Rig::new().await;
    let address = rig.addresses.web[0];
    let tls = Arc::new(rig.web.client());
    let mut crowd = Vec::new();
    let refused = loop {
        match Client::connect_from(HERE, address, Arc::clone(&tls)).await {
            Ok(client) => crowd.push(client),
            Err(error) => break error,
        }
        assert!(crowd.len() < front::CONNECTIONS, "nobody stops them");
    };
    assert_eq!(crowd.len(), 32, "{refused}");
    let other = Client::connect_from([127, 0, 0, 2], address, Arc::clone(&tls)).await;
    assert_eq!(other.unwrap().get("/").await.status, 200);
    assert_eq!(crowd[31].get("/").await.status, 200);
    let mut spiffe = TcpStream::connect(rig.addresses.spiffe[0]).await.unwrap();
    let mut byte = [0];
    tokio::select! {
        biased;
        end = spiffe.read(&mut byte) => panic!("the other profile has places of its own: {end:?}"),
        _served = crowd[0].get("/") => {}
    }
    rig.tear_down().await;
}

/// T-17e.
#[tokio::test]
async fn an_address_that_comes_too_often_is_refused_before_its_handshake() {
    let rig = Rig::new().await;
    let (address, tls) = (rig.addresses.web[0], Arc::new(rig.web.client()));
    let from = |last: u8| Client::connect_from([127, 0, 0, last], address, Arc::clone(&tls));
    let mut served = 0;
    // One after the other, so that the number of connections is not what stops them.
    while from(1).await.is_ok() {
        served += 1;
        assert!(served < 1000, "nobody stops them");
    }
    assert!(served >= 64, "{served}");
    assert_eq!(
        from(2).await.unwrap().get("/").await.status,
        200,
        "somebody else is served"
    );
    let again = async {
        while from(1).await.is_err() {
            tokio::time::sleep(SHORT).await;
        }
    };
    tokio::time::timeout(LONG, again)
        .await
        .expect("it is never served again");
    rig.tear_down().await;
}
