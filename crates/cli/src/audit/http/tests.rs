use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;

use landfast_audit::verify::{Kind, VerifierKey, verify};
use landfast_audit::{Actor, ActorClass, Category, CheckpointKey, Log, Record};
use landfast_store::Store;

use super::*;

type Answer = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// A web server that answers each path as it is told, and keeps connections.
fn web(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> HttpSource {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer: Answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || serve(stream.unwrap(), &answer));
        }
    });
    source(address)
}

fn source(address: SocketAddr) -> HttpSource {
    let base = Base::parse(&format!("http://{address}/plant/ledger/")).unwrap();
    HttpSource::new(base, None).unwrap()
}

fn serve(mut stream: TcpStream, answer: &Answer) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(first)) = lines.next() {
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        let path = first.split(' ').nth(1).unwrap_or_default();
        let path = path.strip_prefix("/plant/ledger/").expect("below the URL");
        if stream.write_all(&answer(path)).is_err() {
            return;
        }
    }
}

fn ok(body: &[u8]) -> Vec<u8> {
    status("200 OK", body)
}

fn status(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn ledger(records: usize) -> (tempfile::TempDir, VerifierKey) {
    let dir = tempfile::tempdir().unwrap();
    let key = CheckpointKey::generate().unwrap();
    let key = CheckpointKey::from_pkcs8_der("plant.test/landfast/ledger", &key).unwrap();
    let public = VerifierKey::parse(&key.verifier_key()).unwrap();
    let mut log = Log::begin(Store::open(dir.path()).unwrap(), key).unwrap();
    let record = || {
        Record::new(
            Category::System,
            "test.happened",
            Actor::new(ActorClass::Server, None),
        )
    };
    let records: Vec<_> = std::iter::repeat_with(record).take(records).collect();
    log.append(&records).unwrap();
    log.checkpoint().unwrap();
    (dir, public)
}

fn file(dir: &Path, path: &str) -> Vec<u8> {
    match std::fs::read(dir.join(path)) {
        Ok(bytes) => ok(&bytes),
        Err(_) => status("404 Not Found", b"<html>nothing here</html>"),
    }
}

#[test]
fn a_ledger_is_verified_as_in_a_directory_also_when_the_web_server_stumbles() {
    let (dir, key) = ledger(700);
    let (path, asked) = (dir.path().to_owned(), AtomicUsize::new(0));
    let source = web(move |name| match asked.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => status("503 Service Unavailable", b"later"),
        _ => file(&path, name),
    });
    let report = verify(&source, &key, &[]);
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!(report.records, 700);

    let path = dir.path().to_owned();
    let source = web(move |name| {
        let mut answer = file(&path, name);
        if name == "tile/entries/001" {
            *answer.last_mut().unwrap() ^= 1;
        }
        answer
    });
    let report = verify(&source, &key, &[]);
    assert!(!report.is_good());
    let last = report.findings.last().unwrap();
    assert!(
        report
            .findings
            .iter()
            .all(|finding| matches!(finding.kind, Kind::Edit | Kind::Malformed)),
        "{report:?}"
    );
    assert_eq!(last.record, Some(511));
}

#[test]
fn what_is_missing_is_told_from_what_cannot_be_read() {
    let source = web(|name| match name {
        "gone" => status("404 Not Found", b"no"),
        "away" => b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "forbidden" => status("403 Forbidden", b"no"),
        "packed" => b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nab".to_vec(),
        "endless" => b"HTTP/1.1 200 OK\r\ncontent-length: 4000000000\r\n\r\nabcdefgh".to_vec(),
        _ => ok(b"abcd"),
    });
    assert_eq!(source.read("there", 4).unwrap().unwrap(), b"abcd");
    assert!(source.read("gone", 4).unwrap().is_none());
    for (path, why) in [
        ("there", "larger than 3 bytes"),
        ("away", "give the URL to which it redirects"),
        ("forbidden", "403"),
        ("packed", "packed"),
        ("endless", "larger than 3 bytes"),
    ] {
        let error = source.read(path, 3).unwrap_err().to_string();
        assert!(error.contains(why), "{path}: {error}");
    }
}

/// A million records must not wait for it one after the other.
#[test]
fn a_web_server_that_is_away_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = source(listener.local_addr().unwrap());
    drop(listener);
    for _ in 0..ENOUGH {
        source.read("checkpoint", 4).unwrap_err();
    }
    let error = source.read("checkpoint", 4).unwrap_err().to_string();
    assert!(error.contains("has stopped answering"), "{error}");
}

#[test]
fn a_url_is_of_a_directory_and_of_nothing_else() {
    let base = Base::parse("https://logs.plant.example/ledgers/one/").unwrap();
    assert_eq!(base.to_string(), "https://logs.plant.example:443/ledgers/one");
    let base = Base::parse("http://[::1]:8080").unwrap();
    assert_eq!(
        (base.bare_host(), base.port, base.path.as_str()),
        ("::1", 8080, "")
    );
    for bad in [
        "ftp://a/",
        "https://user@a/",
        "https://a/?q=1",
        "https:///x",
        "http://a:x/",
        "https://",
    ] {
        Base::parse(bad).unwrap_err();
    }
}
