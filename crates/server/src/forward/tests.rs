//! Real receivers on the loopback, real files, a real ledger.

mod rig;

use std::fs;

use prost::Message as _;

use super::*;
use rig::{Ledger, Receiver, config, http, messages};

#[tokio::test]
async fn every_record_comes_over_tls_in_its_order_and_once() {
    let (mut ledger, receiver) = (Ledger::new(600), Receiver::tls(None).await);
    let mut forwarder = ledger.forwarder(receiver.config());
    assert_eq!(rig::all(&mut forwarder).await.unwrap(), 600);
    assert_eq!(messages(&receiver.taken(1).await), ledger.records(0..600));

    let mut restarted = ledger.forwarder(receiver.config());
    assert_eq!(rig::all(&mut restarted).await.unwrap(), 0);
    ledger.add(5);
    assert_eq!(rig::all(&mut restarted).await.unwrap(), 5);
    let taken = receiver.taken(2).await;
    assert_eq!(messages(&taken), ledger.records(0..605));
    let header = String::from_utf8_lossy(&taken[..400]).into_owned();
    let log = ledger.origin.rsplit('/').next().unwrap();
    let expected = format!(" landfast-server {log} svid.denied [meta sequenceId=\"1\"] {{");
    assert!(header.contains("<108>1 2026-11-23T08:00:00Z "), "{header}");
    assert!(header.contains(&expected), "{header}");
}

#[tokio::test]
async fn a_receiver_of_another_authority_gets_nothing() {
    let (ledger, receiver) = (Ledger::new(3), Receiver::tls(None).await);
    let other = Receiver::tls(None).await;
    let mut config = receiver.config();
    config.ca_file = other.config().ca_file;
    let mut forwarder = ledger.forwarder(config);
    let error = rig::all(&mut forwarder).await.unwrap_err();
    assert!(
        matches!(
            error,
            ForwardError::Sink {
                source: SinkError::Tls(_)
            }
        ),
        "{error:?}"
    );
    assert_eq!(receiver.so_far(), b"");
    assert_eq!(ledger.cursor().next, 0);
    let mut forwarder = ledger.forwarder(receiver.config());
    assert_eq!(rig::all(&mut forwarder).await.unwrap(), 3);
}

/// Its kernel has taken all of it, the receiver has not.
#[tokio::test]
async fn a_receiver_that_dies_in_a_batch_gets_it_again() {
    for receiver in [Receiver::tcp(Some(2000)).await, Receiver::tls(Some(2000)).await] {
        let ledger = Ledger::new(200);
        let mut forwarder = ledger.forwarder(receiver.config());
        let error = rig::all(&mut forwarder).await.unwrap_err();
        assert!(
            matches!(
                error,
                ForwardError::Sink {
                    source: SinkError::Broken(_)
                }
            ),
            "{error:?}"
        );
        assert_eq!(ledger.cursor().next, 0);
        assert_eq!(rig::all(&mut forwarder).await.unwrap(), 200);
        let taken = receiver.taken(2).await;
        // What it had when it died ends in a message; the next connection begins anew.
        assert_eq!(messages(&taken[2000..]), ledger.records(0..200));
    }
}

#[tokio::test]
async fn a_destination_that_is_away_costs_nothing_but_time() {
    let (mut ledger, receiver) = (Ledger::new(2), Receiver::tcp(None).await);
    let mut config = receiver.config();
    config.target = Target::Syslog {
        host: "127.0.0.1".to_owned(),
        port: rig::free_port(),
        tls: false,
    };
    let mut away = ledger.forwarder(config);
    for _ in 0..3 {
        let error = rig::all(&mut away).await.unwrap_err();
        assert!(
            matches!(
                error,
                ForwardError::Sink {
                    source: SinkError::Connect(_)
                }
            ),
            "{error:?}"
        );
    }
    drop(away);
    ledger.add(700);
    let mut back = ledger.forwarder(receiver.config());
    assert_eq!(rig::all(&mut back).await.unwrap(), 702);
    assert_eq!(messages(&receiver.taken(1).await), ledger.records(0..702));
}

#[tokio::test]
async fn without_tls_no_other_machine_is_asked() {
    let ledger = Ledger::new(1);
    let mut config = config(Target::Syslog {
        host: "192.0.2.1".to_owned(),
        port: 514,
        tls: false,
    });
    config.name = "plain".to_owned();
    let error = rig::all(&mut ledger.forwarder(config)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ForwardError::Sink {
                source: SinkError::Address
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_collector_gets_each_record_when_it_has_said_so() {
    let ledger = Ledger::new(300);
    let (port, requests, _tree) = http(vec![503, 200]).await;
    let mut forwarder = ledger.forwarder(config(Target::Otlp {
        host: "127.0.0.1".to_owned(),
        port,
        tls: false,
        path: "/v1/logs".to_owned(),
    }));
    let error = rig::all(&mut forwarder).await.unwrap_err();
    assert!(
        matches!(
            error,
            ForwardError::Sink {
                source: SinkError::Status(503)
            }
        ),
        "{error:?}"
    );
    assert_eq!(ledger.cursor().next, 0);
    assert_eq!(rig::all(&mut forwarder).await.unwrap(), 300);
    let requests = requests.lock().unwrap();
    let (head, body) = requests.last().unwrap();
    assert!(head.starts_with("POST /v1/logs HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("content-type: application/x-protobuf"),
        "{head}"
    );
    let request = otlp::Request::decode(&body[..]).unwrap();
    let of = &request.resources[0];
    assert!(
        of.resource
            .as_ref()
            .unwrap()
            .attributes
            .iter()
            .any(|attribute| attribute.key == "service.name")
    );
    let records = &of.scopes[0].records;
    let bodies: Vec<_> = records
        .iter()
        .map(|record| match &record.body.as_ref().unwrap().value {
            Some(otlp::Value::Text(text)) => text.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bodies, ledger.records(0..300));
    let first = &records[0];
    assert_eq!(
        (first.time, first.severity, first.event.as_str()),
        (1_795_420_800_000_000_000, 13, "svid.denied")
    );
}

#[tokio::test]
async fn a_file_may_be_moved_away_and_its_lines_are_whole() {
    let mut ledger = Ledger::new(3);
    let path = ledger.dir.path().join("lines.jsonl");
    let mut forwarder = ledger.forwarder(config(Target::File(path.clone())));
    rig::all(&mut forwarder).await.unwrap();
    let read = |path: &Path| -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    assert_eq!(read(&path), ledger.records(0..3));

    let moved = path.with_extension("1");
    fs::rename(&path, &moved).unwrap();
    ledger.add(2);
    rig::all(&mut forwarder).await.unwrap();
    assert_eq!(read(&path), ledger.records(3..5));

    let torn = [fs::read(&path).unwrap(), b"{\"torn".to_vec()].concat();
    fs::remove_file(&path).unwrap();
    let mut file = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, &torn).unwrap();
    ledger.add(1);
    rig::all(&mut forwarder).await.unwrap();
    let lines = read(&path);
    assert_eq!(lines[2], "{\"torn");
    assert_eq!(lines[3..], ledger.records(5..6));

    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    ledger.add(1);
    rig::all(&mut forwarder).await.unwrap_err();
    assert_eq!(read(&moved), ledger.records(0..3));
}

#[tokio::test]
async fn what_was_pruned_before_it_was_forwarded_is_counted() {
    let ledger = Ledger::new(1000);
    let path = ledger.dir.path().join("lines.jsonl");
    let mut forwarder = ledger.forwarder(config(Target::File(path.clone())));
    let cursor = Cursor {
        origin: ledger.origin.clone(),
        next: 100,
        ..Cursor::default()
    };
    cursor.save(&ledger.cursors, "test").unwrap();
    for bundle in ["000", "001"] {
        fs::remove_file(ledger.path().join("tile/entries").join(bundle)).unwrap();
    }
    rig::all(&mut forwarder).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    let gap: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(gap["type"], "forward.gap");
    assert_eq!(gap["detail"], serde_json::json!({ "first": 100, "count": 412 }));
    let rest: Vec<_> = lines.map(str::to_owned).collect();
    assert_eq!(rest, ledger.records(512..1000));
}

/// A bundle that cannot be read may be readable again.
#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_pruned() {
    let ledger = Ledger::new(1000);
    let path = ledger.dir.path().join("lines.jsonl");
    let mut forwarder = ledger.forwarder(config(Target::File(path.clone())));
    let bundle = ledger.path().join("tile/entries/000");
    let away = ledger.dir.path().join("away");
    fs::rename(&bundle, &away).unwrap();
    // Whoever opens it goes round in a circle.
    std::os::unix::fs::symlink(&bundle, &bundle).unwrap();
    rig::all(&mut forwarder).await.unwrap_err();
    assert!(!path.exists());
    fs::remove_file(&bundle).unwrap();
    fs::rename(&away, &bundle).unwrap();
    assert_eq!(rig::all(&mut forwarder).await.unwrap(), 1000);
}

#[tokio::test]
async fn another_ledger_is_sent_from_its_beginning() {
    let ledger = Ledger::new(4);
    let path = ledger.dir.path().join("lines.jsonl");
    let mut forwarder = ledger.forwarder(config(Target::File(path)));
    for (origin, next, expected) in [
        (ledger.origin.as_str(), 4, 0),
        ("plant.test/landfast/ledger/00", 4, 4),
        (ledger.origin.as_str(), 9, 4),
    ] {
        let cursor = Cursor {
            origin: origin.to_owned(),
            next,
            ..Cursor::default()
        };
        cursor.save(&ledger.cursors, "test").unwrap();
        assert_eq!(rig::all(&mut forwarder).await.unwrap(), expected, "{cursor:?}");
    }
}

/// It has its name and more records than were sent: only what they are says so.
#[tokio::test]
async fn a_ledger_that_was_put_back_and_has_gone_on_is_sent_from_its_beginning() {
    let mut ledger = Ledger::new(4);
    let path = ledger.dir.path().join("lines.jsonl");
    let mut forwarder = ledger.forwarder(config(Target::File(path.clone())));
    rig::all(&mut forwarder).await.unwrap();
    let cursor = ledger.cursor();
    assert_eq!(cursor.last.len(), 64);
    ledger.add(3);
    assert_eq!(rig::all(&mut forwarder).await.unwrap(), 3, "as it goes on");
    let other = Cursor {
        last: "00".repeat(32),
        ..cursor.clone()
    };
    other.save(&ledger.cursors, "test").unwrap();
    assert_eq!(rig::all(&mut forwarder).await.unwrap(), 7, "it is another");
    // A cursor of before knows no record; nor does anybody of one that was pruned.
    let old = Cursor {
        last: String::new(),
        ..cursor
    };
    old.save(&ledger.cursors, "test").unwrap();
    assert_eq!(rig::all(&mut forwarder).await.unwrap(), 3);
}

/// What would never pass in one batch passes in several.
#[tokio::test]
async fn a_way_that_takes_little_at_once_takes_all_in_the_end() {
    let ledger = Ledger::new(1500);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tree = landfast_daemon::TaskTree::new();
    let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
    let into = Arc::clone(&taken);
    tree.handle().spawn("narrow", async move {
        while let Ok((stream, _)) = listener.accept().await {
            use tokio::io::AsyncReadExt as _;
            let mut bytes = Vec::new();
            let mut some = stream.take(100_000);
            some.read_to_end(&mut bytes).await.unwrap();
            if bytes.len() < 100_000 {
                into.lock().unwrap().extend_from_slice(&bytes);
            }
        }
    });
    let mut forwarder = ledger.forwarder(config(Target::Syslog {
        host: "127.0.0.1".to_owned(),
        port,
        tls: false,
    }));
    let (mut cursor, mut broken) = (None, 0);
    loop {
        match forwarder.step(&mut cursor).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_of_size(), "{error:?}");
                broken += 1;
                assert!(broken < 20, "it never ends");
            }
        }
    }
    assert!(broken > 0, "all at once would have been too much");
    assert_eq!(messages(&taken.lock().unwrap()), ledger.records(0..1500));
}

#[tokio::test]
async fn lines_into_a_socket_are_taken_when_they_were_read() {
    let ledger = Ledger::new(40);
    let path = ledger.dir.path().join("lines.sock");
    let receiver = Receiver::unix(&path, Some(1000)).await;
    let mut forwarder = ledger.forwarder(config(Target::Unix(path)));
    rig::all(&mut forwarder).await.unwrap_err();
    assert_eq!(ledger.cursor().next, 0);
    assert_eq!(rig::all(&mut forwarder).await.unwrap(), 40);
    let taken = receiver.taken(2).await;
    let text = String::from_utf8(taken[1000..].to_vec()).unwrap();
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines, ledger.records(0..40));
}
