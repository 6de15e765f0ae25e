//! Several sources as one, on processes that really connected.

use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use landfast_uds::{SocketMode, UdsListener, UdsStream};

use super::*;
use crate::testing::selectors;

/// Says one selector, or fails; may do something to the process first.
struct Scripted {
    says: Option<&'static str>,
    does: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

fn source(says: Option<&'static str>) -> Box<dyn SelectorSource> {
    Box::new(Scripted {
        says,
        does: Mutex::default(),
    })
}

#[async_trait]
impl SelectorSource for Scripted {
    async fn selectors(&self, _: &Subject) -> Result<Found, SourceFailure> {
        let does = self.does.lock().unwrap().take();
        if let Some(does) = does {
            does();
        }
        let says = self.says.map(|text| Found {
            selectors: vec![Selector::parse(text).unwrap()],
            ..Found::default()
        });
        says.ok_or_else(|| SourceFailure {
            kind: "scripted",
            what: "no".to_owned(),
        })
    }
}

/// A socket, and this test binary run again to connect to it.
async fn connected() -> (tempfile::TempDir, UdsStream, Child) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let mut listener = UdsListener::bind(
        &path,
        SocketMode {
            mode: 0o600,
            group: None,
        },
    )
    .unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "attestor::tests::child_connects_and_waits",
            "--nocapture",
        ])
        .env(VARIABLE, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let stream = listener.accept().await.unwrap();
    (dir, stream, child)
}

/// Does nothing unless the variable says that it is the child.
#[test]
fn child_connects_and_waits() {
    #[expect(clippy::disallowed_methods, reason = "how a test tells its child what it is")]
    let Ok(path) = std::env::var(VARIABLE) else { return };
    let _stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    drop(std::io::read_to_string(std::io::stdin()));
}

async fn attest(sources: Vec<Box<dyn SelectorSource>>, stream: &UdsStream) -> Result<Attested, AttestError> {
    Attestors::new(sources, Views::new(&crate::testing::td()))
        .attest(stream.peer().process().unwrap())
        .await
}

#[tokio::test]
async fn one_failing_source_is_tolerated_and_all_failing_is_an_error() {
    let (_dir, stream, mut child) = connected().await;
    let both = attest(vec![source(Some("a:1")), source(Some("b:2"))], &stream)
        .await
        .unwrap();
    assert_eq!(both.selectors, selectors(&["a:1", "b:2"]));
    assert!(!both.incomplete && both.left_out.is_empty());
    let one = attest(vec![source(None), source(Some("b:2"))], &stream)
        .await
        .unwrap();
    assert_eq!(one.selectors, selectors(&["b:2"]));
    assert!(one.incomplete, "the first may speak another time");
    assert_eq!(one.left_out, ["scripted attestor: no"]);
    assert!(attest(vec![source(None), source(None)], &stream).await.is_err());
    assert!(attest(vec![], &stream).await.is_err());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_process_that_ends_while_it_is_attested_gets_no_selectors() {
    let (_dir, stream, mut child) = connected().await;
    let ends = move || {
        child.kill().unwrap();
        child.wait().unwrap();
    };
    let ends = Scripted {
        says: Some("a:1"),
        does: Mutex::new(Some(Box::new(ends))),
    };
    let error = attest(vec![Box::new(ends)], &stream).await.unwrap_err();
    assert!(
        error.to_string().contains("changed while it was attested"),
        "{error}"
    );
}

#[tokio::test]
async fn a_connected_process_is_seen_as_any_other() {
    use super::digest::HashLimits;
    use super::unix::UnixAttestor;
    let (_dir, stream, mut child) = connected().await;
    let limits = HashLimits {
        max_size: 1 << 30,
        rate: 1 << 30,
    };
    let unix = || UnixAttestor::new(limits, Views::new(&crate::testing::td()));
    let pinned = attest(vec![Box::new(unix())], &stream).await.unwrap();
    let looked = look::at(child.id().cast_signed()).unwrap();
    let looked = Attestors::new(vec![Box::new(unix())], Views::new(&crate::testing::td()))
        .look_at(&looked)
        .await
        .unwrap();
    assert_eq!(pinned.selectors, looked.selectors);
    assert!(
        pinned
            .selectors
            .iter()
            .any(|selector| selector.value().starts_with("path:/"))
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

const VARIABLE: &str = "LANDFAST_TEST_ATTESTOR_SOCKET";
