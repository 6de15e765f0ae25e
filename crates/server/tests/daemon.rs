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

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_landfast-server");

/// What the daemon says next to whoever started it, within ten seconds.
fn heard(manager: &UnixDatagram) -> String {
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

fn configured(dir: &Path, line: &str) -> std::path::PathBuf {
    let config = dir.join("server.toml");
    let text = format!(
        "trust_domain = \"plant.test\"\nlisten = [\"127.0.0.1:0\"]\ndata_dir = \"{0}/data\"\nadmin_socket = \"{0}/admin.sock\"\n{line}\n",
        dir.display()
    );
    fs::write(&config, text).unwrap();
    config
}

#[test]
fn it_says_when_it_is_ready_that_it_lives_and_that_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let config = configured(dir.path(), "");
    let manager = manager(dir.path());
    let mut daemon = start(dir.path(), &config, 100_000);
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
    assert!(!dir.path().join("admin.sock").exists(), "its socket goes with it");
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
    let _client = stalled(&dir.path().join("admin.sock"));
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
    let looked = output(&["check", "--database", good]);
    assert!(looked.status.success());
    let said = String::from_utf8(looked.stdout).unwrap();
    assert!(
        said.contains("is not there yet; a start makes it, with migrations 1, 2"),
        "{said}"
    );
    let looked = output(&["check", "--database", "--output", "json", good]);
    let said: serde_json::Value = serde_json::from_slice(&looked.stdout).unwrap();
    assert_eq!((&said["file"], &said["fine"]), (&good.into(), &true.into()));
    let database = &said["database"];
    assert_eq!(
        (&database["kind"], &database["schema"]),
        (&"sqlite".into(), &0.into())
    );
    assert_eq!(database["pending"][0], 1);
    assert!(!dir.path().join("data").exists(), "a check changes nothing");
    let bad = configured(dir.path(), "colour = 7");
    let bad = bad.to_str().unwrap();
    for args in [&["check", bad][..], &["run", "--config", bad]] {
        let refused = output(args);
        assert_eq!(refused.status.code(), Some(1));
        let text = String::from_utf8(refused.stderr).unwrap();
        for part in ["error: ", bad, "colour", ":5:1: ", "\nhint: "] {
            assert!(text.contains(part), "{args:?}: no {part:?} in {text}");
        }
    }
    assert!(!dir.path().join("data").exists());
}

/// What a command says on its two outputs, and its status.
fn told(args: &[&str]) -> (String, String, Option<i32>) {
    let output = output(args);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn a_backup_is_made_beside_it_and_put_back_when_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let config = configured(dir.path(), "");
    let manager = manager(dir.path());
    let mut daemon = start(dir.path(), &config, 60_000_000);
    assert_eq!(heard(&manager), "READY=1\n");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (config_path, file, key) = (path("server.toml"), path("plant.backup"), path("key.txt"));
    let (recipient, _, status) = told(&["backup", "key", "--out", &key]);
    assert_eq!((status, recipient.len()), (Some(0), 63), "{recipient}");
    let backup = ["backup", "--config", &config_path, "--out", &file];
    let sealed = [&backup[..], &["--recipient", recipient.trim()]].concat();
    let (said, _, status) = told(&sealed);
    assert_eq!(status, Some(0));
    assert!(
        said.contains("keys sealed for age1") && said.contains("2 authorities"),
        "{said}"
    );
    let (_, refused, status) = told(&sealed);
    assert_eq!(status, Some(1));
    assert!(refused.contains("exists already"), "{refused}");
    let (shown, _, status) = told(&["backup", "show", &file, "--output", "json"]);
    assert_eq!(status, Some(0));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["backup"]["trust_domain"], "plant.test");
    let restore = [
        "restore",
        "--config",
        &config_path,
        "--from",
        &file,
        "--identity-file",
        &key,
    ];
    let (_, refused, status) = told(&restore);
    assert_eq!(status, Some(1));
    for part in [
        "error: a server",
        "is using the data directory",
        "\nhint: stop the server",
    ] {
        assert!(refused.contains(part), "no {part:?} in {refused}");
    }
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    let (said, refused, status) = told(&restore);
    assert_eq!(status, Some(0), "{refused}");
    assert!(
        said.contains("restored, as epoch") && said.contains("before-restore-"),
        "{said}"
    );
    let mut daemon = start(dir.path(), &config, 60_000_000);
    while heard(&manager) != "READY=1\n" {}
    kill(
        Pid::from_raw(i32::try_from(daemon.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}

#[test]
fn a_backup_that_is_asked_for_in_a_wrong_way_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    configured(dir.path(), "");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (config, file) = (path("server.toml"), path("plant.backup"));
    let backup = ["backup", "--config", &config, "--out", &file];
    fs::write(path("short"), "hunter2\n").unwrap();
    fs::write(path("open"), "correct horse battery\n").unwrap();
    let mode = |name: &str, mode| {
        fs::set_permissions(path(name), std::os::unix::fs::PermissionsExt::from_mode(mode))
    };
    mode("short", 0o600).unwrap();
    mode("open", 0o644).unwrap();
    let (short, open) = (path("short"), path("open"));
    for (more, status, part) in [
        // How the keys are sealed has to be said.
        (vec![], 2, "--without-keys"),
        (
            vec!["--without-keys", "--passphrase-file", &short],
            2,
            "cannot be used with",
        ),
        (vec!["--recipient", "age1no"], 1, "is no recipient"),
        (vec!["--recipient-file", &short], 1, "is no recipient"),
        (vec!["--passphrase-file", &short], 1, "12 characters"),
        (vec!["--passphrase-file", &open], 1, "chmod 600"),
        (vec!["--without-keys"], 1, "there is no database"),
    ] {
        let (_, said, found) = told(&[&backup[..], &more].concat());
        assert_eq!(found, Some(status), "{said}");
        assert!(said.contains(part), "{said}");
        assert!(!Path::new(&file).exists());
    }
    let (_, said, status) = told(&["backup", "show", &config]);
    assert_eq!(status, Some(1));
    assert!(said.contains("it is no backup of landfast-server"), "{said}");
    let (_, said, status) = told(&[
        "restore",
        "--config",
        &config,
        "--from",
        &config,
        "--identity-file",
        &short,
    ]);
    assert_eq!(status, Some(1));
    assert!(
        said.contains("no identity") && !said.contains("hunter2"),
        "{said}"
    );
}
