//! Addresses, order, deadlines, proxies. TLS itself is tested where the link meets its fake server.

use landfast_identity::{BundleSet, SpiffeId, TrustDomain};
use landfast_lifecycle::SystemClock;
use landfast_tls::{BundleStore, Expect, client_config};
use tokio::net::TcpListener;

use super::*;

fn address(text: &str) -> Result<String, &'static str> {
    text.parse::<ServerAddress>().map(|address| address.to_string())
}

#[test]
fn addresses_are_read_and_shown_alike() {
    for good in [
        "host:1",
        "a.b-c_d.example:8081",
        "192.0.2.1:443",
        "[2001:db8::1]:8081",
    ] {
        assert_eq!(address(good).as_deref(), Ok(good));
    }
}

#[test]
fn what_is_no_address_is_refused() {
    let long = format!("{}:1", "h".repeat(254));
    for bad in [
        "",
        "host",
        "host:",
        ":1",
        "host:0",
        "host:65536",
        "host:x",
        "2001:db8::1:8081",
        "[host]:1",
        "[::1]8081",
        "a b:1",
        "http://h:1",
        &long,
    ] {
        assert!(address(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_proxy_is_an_http_url_and_its_password_is_not_shown() {
    let proxy: Proxy = "http://user:secret@proxy.example:3128/".parse().unwrap();
    assert_eq!(proxy.address.to_string(), "proxy.example:3128");
    assert_eq!(proxy.credentials.as_deref(), Some(&b"user:secret"[..]));
    assert!(!format!("{proxy:?}").contains("secret"));
    for bad in ["proxy:3128", "https://proxy:3128", "http://proxy", "socks5://p:1"] {
        assert!(bad.parse::<Proxy>().is_err(), "{bad}");
    }
}

#[test]
fn credentials_of_a_proxy_are_decoded() {
    for (text, decoded) in [
        ("u%40x.example:p%3a%2F%25%c3%a9", "u@x.example:p:/%é"),
        ("user", "user:"),
        ("u:p:q", "u:p:q"),
    ] {
        let proxy: Proxy = format!("http://{text}@h:1").parse().unwrap();
        assert_eq!(proxy.credentials.as_deref(), Some(decoded.as_bytes()), "{text}");
    }
    for bad in ["u:%", "u:%4", "u:%4x", "%zz:p", "u:%+1", "a%3Ab:p"] {
        assert!(format!("http://{bad}@h:1").parse::<Proxy>().is_err(), "{bad}");
    }
}

/// Time does not tell, but this does: the second is dialled while the first is still waited for.
#[tokio::test]
async fn the_next_server_is_asked_beside_one_that_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let next = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = [&silent, &next].map(|one| one.local_addr().unwrap().to_string().parse().unwrap());
    let dialler = Dialler {
        servers: servers.to_vec(),
        proxy: None,
    };
    let server = SpiffeId::server(&TrustDomain::parse("plant.test").unwrap());
    let clock = Arc::new(SystemClock);
    let tls = client_config(
        Expect::Exactly(server),
        BundleStore::new(BundleSet::default()),
        None,
        clock,
    )
    .unwrap();
    let watched = async {
        let (first, _) = silent.accept().await.unwrap();
        let (_second, _) = next.accept().await.unwrap();
        first.readable().await.unwrap();
        let mut hello = [0; 4096];
        while let Ok(read) = first.try_read(&mut hello) {
            assert!(read > 0, "the first was given up before the second was asked");
        }
    };
    tokio::select! {
        _ = dialler.dial(0, &tls, UnixTime::EPOCH) => panic!("nobody has answered"),
        () = watched => {}
    }
}

#[test]
fn both_address_families_are_tried_in_turn() {
    let list = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| text.parse().unwrap())
            .collect::<Vec<SocketAddr>>()
    };
    let mixed = list(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
    assert_eq!(
        interleave(mixed),
        list(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"])
    );
    assert_eq!(
        interleave(list(&["1.1.1.1:1", "[::1]:1"])),
        list(&["1.1.1.1:1", "[::1]:1"])
    );
    assert!(interleave(Vec::new()).is_empty());
}

/// What a proxy reads, and what the agent makes of its answer.
async fn through_proxy(answer: &'static [u8]) -> (String, Result<Vec<u8>, AttemptError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy: Proxy = format!("http://u:p@{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let server: ServerAddress = "server.example:8081".parse().unwrap();
    let serve = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(peer.read_u8().await.unwrap());
        }
        // The agent may have hung up on a bad answer before all of it is written.
        drop(peer.write_all(answer).await);
        drop(peer.shutdown().await);
        String::from_utf8(asked).unwrap()
    };
    let connect = async {
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut tcp = proxy.connect(tcp, &server).await?;
        let mut rest = Vec::new();
        tcp.read_to_end(&mut rest).await.unwrap();
        Ok(rest)
    };
    tokio::join!(serve, connect)
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_name_and_what_follows_its_head_is_left_for_tls() {
    let (asked, got) = through_proxy(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nTLS").await;
    assert!(
        asked.starts_with("CONNECT server.example:8081 HTTP/1.1\r\nHost: server.example:8081\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("\r\nProxy-Authorization: Basic dTpw\r\n"),
        "{asked}"
    );
    assert_eq!(got.unwrap(), b"TLS");
    let (_, got) = through_proxy(b"HTTP/1.1 299 As you like\r\n\r\nTLS").await;
    assert_eq!(got.unwrap(), b"TLS", "any 2xx");
}

#[tokio::test]
async fn a_refusal_of_the_proxy_is_told_in_its_words() {
    let (_, got) = through_proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    assert!(
        got.unwrap_err()
            .to_string()
            .contains("407 Proxy Authentication Required")
    );
    for other in [
        &b"HTTP/1.1 2 OK\r\n\r\n"[..],
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 302 x\r\n\r\n",
    ] {
        let (_, got) = through_proxy(other).await;
        assert!(matches!(got, Err(AttemptError::Proxy(_))));
    }
    let (_, got) = through_proxy(b"SSH-2.0-x\r\n\r\n").await;
    assert!(matches!(got, Err(AttemptError::Proxy(_))));
    let (_, got) = through_proxy(b"HTTP/1.1 200").await;
    assert!(matches!(got, Err(AttemptError::ProxyIo(_))));
}

#[tokio::test]
async fn a_proxy_that_talks_without_end_is_left() {
    static ENDLESS: [u8; 20_000] = [b'a'; 20_000];
    let (_, got) = through_proxy(&ENDLESS).await;
    assert!(matches!(got, Err(AttemptError::Proxy(_))));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_takes_too_long_is_given_up() {
    let started = tokio::time::Instant::now();
    let waited = within("connecting", std::future::pending::<()>()).await;
    assert!(matches!(
        waited,
        Err(AttemptError::Deadline { step: "connecting" })
    ));
    assert_eq!(started.elapsed(), DEADLINE);
}
