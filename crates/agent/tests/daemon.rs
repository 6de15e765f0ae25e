//! The daemon as systemd meets it: readiness, the watchdog, the end, and a configuration that is wrong.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "what a test writes need not survive a power cut"
)]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use landfast_identity::issue::{AuthorityParams, self_signed_authority};
use landfast_identity::{Bundle, PrivateKey, TrustDomain, UnixTime, X509Authority};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_landfast-agent");

/// What the daemon says next to whoever started it, within ten seconds, but for how it stands.
fn heard(manager: &UnixDatagram) -> String {
    loop {
        let heard = heard_any(manager);
        if !heard.starts_with("STATUS=") {
            return heard;
        }
    }
}

fn heard_any(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = loop {
        match manager.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            heard => break heard.expect("the daemon says something in time"),
        }
    };
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

fn manager(dir: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(dir.join("notify.sock")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

fn start(dir: &Path, config: &Path, watchdog_usec: u64) -> Child {
    Command::new(PROGRAM)
        .args(["run", "--config"])
        .arg(config)
        .env("NOTIFY_SOCKET", dir.join("notify.sock"))
        .env("WATCHDOG_USEC", watchdog_usec.to_string())
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn output(args: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// An agent whose server is not there: it is ready all the same.
fn configured(dir: &Path, line: &str) -> std::path::PathBuf {
    let config = dir.join("agent.toml");
    let text = format!(
        "trust_domain = \"plant.test\"\nserver = [\"127.0.0.1:1\"]\ntrust_bundle = \"{0}/bundle.pem\"\ndata_dir = \"{0}/data\"\nsocket = \"{0}/api.sock\"\nadmin_socket = \"{0}/admin.sock\"\n{line}\n[attestation]\nmethod = \"join_token\"\ntoken = \"t\"\n",
        dir.display()
    );
    fs::write(&config, text).unwrap();
    fs::write(dir.join("bundle.pem"), authority()).unwrap();
    config
}

/// An authority's certificate, in PEM.
fn authority() -> String {
    let trust_domain = TrustDomain::parse("plant.test").unwrap();
    let params = AuthorityParams {
        trust_domain: &trust_domain,
        authority_id: "first",
        not_before: UnixTime::from_secs(1_700_000_000),
        not_after: UnixTime::from_secs(4_000_000_000),
    };
    let certificate = self_signed_authority(&params, &PrivateKey::generate().unwrap()).unwrap();
    let authority = X509Authority {
        certificate,
        tainted: false,
    };
    let bundle = Bundle::new(trust_domain.clone()).with_x509_authorities(vec![authority]);
    bundle.unwrap().to_pem()
}

#[test]
fn it_says_when_it_is_ready_that_it_lives_and_that_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let config = configured(dir.path(), "");
    let manager = manager(dir.path());
    let mut daemon = start(dir.path(), &config, 100_000);
    let stands = heard_any(&manager);
    assert!(
        stands.starts_with("STATUS=starting: the server has not been reached yet"),
        "{stands}"
    );
    assert_eq!(heard(&manager), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(heard(&manager), "WATCHDOG=1\n");
    }
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let mut said = heard(&manager);
    while said == "WATCHDOG=1\n" {
        said = heard(&manager);
    }
    assert_eq!(said, "STOPPING=1\n");
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert!(!dir.path().join("api.sock").exists(), "its socket goes with it");
}

/// A client of gRPC health that takes no byte of any answer; its request has been answered with headers, and waits.
fn stalled(socket: &Path) -> UnixStream {
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
    };
    // RFC 7541 §6.2.2: each name and value as it is.
    let header = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        let (name, value) = (
            [&[0, length(name)], name.as_bytes()].concat(),
            [&[length(value)], value.as_bytes()].concat(),
        );
        [name, value].concat()
    };
    let headers = [
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", "/grpc.health.v1.Health/Watch"),
        header(":authority", "localhost"),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
    ];
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // SETTINGS_INITIAL_WINDOW_SIZE is 0.
        frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]),
        frame(1, 4, 1, &headers.concat()),
        frame(0, 1, 1, &[0; 5]),
    ];
    client.write_all(&request.concat()).unwrap();
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        client.read_exact(&mut payload).unwrap();
        if head[3] == 1 {
            assert_eq!(head[4] & 1, 0, "the answer has not ended with its headers");
            return client;
        }
    }
}

#[test]
fn a_client_that_does_not_read_does_not_make_its_end_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let config = configured(dir.path(), "");
    let manager = manager(dir.path());
    let mut daemon = start(dir.path(), &config, 60_000_000);
    assert_eq!(heard(&manager), "READY=1\n");
    let _client = stalled(&dir.path().join("api.sock"));
    // Nor does one that has not said a word.
    let _silent = UnixStream::connect(dir.path().join("admin.sock")).unwrap();
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}

#[test]
fn a_configuration_is_checked_without_starting_and_a_wrong_one_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let good = configured(dir.path(), "");
    let good = good.to_str().unwrap();
    let fine = output(&["check", good]);
    assert!(fine.status.success());
    assert_eq!(String::from_utf8(fine.stdout).unwrap(), format!("{good}: fine\n"));
    assert!(!dir.path().join("data").exists(), "a check changes nothing");
    let bad = configured(dir.path(), "colour = 7");
    let bad = bad.to_str().unwrap();
    for args in [&["check", bad][..], &["run", "--config", bad]] {
        let refused = output(args);
        assert_eq!(refused.status.code(), Some(1));
        let text = String::from_utf8(refused.stderr).unwrap();
        for part in ["error: ", bad, "colour", ":7:1: ", "\nhint: "] {
            assert!(text.contains(part), "{args:?}: no {part:?} in {text}");
        }
    }
    assert!(!dir.path().join("data").exists());
}
