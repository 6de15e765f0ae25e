//! What `/ready` and gRPC health say of a server whose clock or database goes, over real sockets.

use landfast_lifecycle::{Clock as _, SimClock, SystemClock};
use landfast_proto::spire::api::server::entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient};
use landfast_proto::spire::api::types;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[cfg(feature = "postgres-tests")]
mod full;

use super::*;
use crate::core::fixture;
use crate::publish::{CertificateFiles, PublishConfig, WebConfig};
use crate::server::rig::{Rig, hold, td, wire};

/// Status line and body of a GET.
async fn get(rig: &Rig, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(rig.handle.http_address().unwrap())
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

async fn grpc(rig: &Rig) -> ServingStatus {
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let answer = HealthClient::new(rig.admin().await).check(request).await;
    answer.unwrap().into_inner().status()
}

/// Waits, with a bound, until both doors say the same: 200 or 503. Answers with the body of `/ready`.
async fn both_say(rig: &Rig, ready: bool) -> String {
    let wanted = match ready {
        true => ("HTTP/1.1 200 OK", ServingStatus::Serving),
        false => ("HTTP/1.1 503 Service Unavailable", ServingStatus::NotServing),
    };
    let mut found = None;
    for _ in 0..400 {
        let (status, body) = get(rig, "/ready").await;
        let grpc = grpc(rig).await;
        if (status.as_str(), grpc) == wanted {
            return body;
        }
        found = Some((status, body, grpc));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("wanted {wanted:?}, found {found:?}");
}

/// The code of the answer to one new entry.
async fn create_entry(rig: &Rig) -> i32 {
    let id = |path: &str| wire(&landfast_identity::SpiffeId::from_parts(&td(), path).unwrap());
    let entry = types::Entry {
        spiffe_id: Some(id("/w")),
        parent_id: Some(id("/gateway")),
        selectors: vec![types::Selector {
            r#type: "unix".to_owned(),
            value: "uid:1".to_owned(),
        }],
        ..Default::default()
    };
    let request = BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    };
    let answer = EntryClient::new(rig.admin().await)
        .batch_create_entry(request)
        .await;
    let results = answer.unwrap().into_inner().results;
    results[0].status.as_ref().unwrap().code
}

#[tokio::test]
async fn a_server_whose_datastore_refuses_is_not_ready_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let rig = Rig::with_http(SystemClock, |config| config.data_dir = Some(data.clone())).await;
    assert_eq!(both_say(&rig, true).await, "ready\n");
    let elsewhere = rusqlite::Connection::open(data.join(crate::core::DATABASE)).unwrap();
    elsewhere
        .execute_batch(
            "CREATE TRIGGER broken BEFORE UPDATE ON state BEGIN SELECT RAISE(ABORT, 'broken'); END",
        )
        .unwrap();
    // Nobody has noticed: this is the write that fails.
    assert_eq!(create_entry(&rig).await, tonic::Code::Unavailable as i32);
    let reason = both_say(&rig, false).await;
    assert!(
        reason.starts_with("not ready: the datastore failed: ") && reason.contains("broken"),
        "{reason}"
    );
    assert_eq!(get(&rig, "/live").await.0, "HTTP/1.1 200 OK");
    elsewhere.execute_batch("DROP TRIGGER broken").unwrap();
    assert_eq!(both_say(&rig, true).await, "ready\n");
    rig.tear_down().await;
}

#[tokio::test]
async fn a_server_in_quarantine_is_not_ready_and_says_what_to_do() {
    use landfast_proto::landfast::quarantine::v1::{
        EndQuarantineRequest, GetQuarantineRequest, quarantine_client::QuarantineClient,
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    drop(landfast_store::Store::open(&data).unwrap());
    hold(&data);
    let rig = Rig::with_http(SystemClock, |config| config.data_dir = Some(data.clone())).await;
    let reason = both_say(&rig, false).await;
    assert!(
        reason.starts_with("not ready: this server is in quarantine since 1970-01-01")
            && reason.contains("a backup was restored")
            && reason.contains("landfast quarantine show"),
        "{reason}"
    );
    let mut operator = QuarantineClient::new(rig.admin().await);
    // All servers of this process have one gauge: it says what the last has said.
    let mut gauge_is = async |line: &str| {
        for _ in 0..400 {
            operator.get_quarantine(GetQuarantineRequest {}).await.unwrap();
            if get(&rig, "/metrics").await.1.contains(line) {
                return;
            }
        }
        panic!("{line}");
    };
    gauge_is("landfast_server_quarantine 1").await;
    let request = EndQuarantineRequest {
        reason: "looked".to_owned(),
        accept_rollback: false,
    };
    let mut other = QuarantineClient::new(rig.admin().await);
    other.end_quarantine(request).await.unwrap();
    assert_eq!(both_say(&rig, true).await, "ready\n");
    gauge_is("landfast_server_quarantine 0").await;
    rig.tear_down().await;
}

#[tokio::test]
async fn a_server_that_does_not_know_the_time_is_not_ready_until_it_does() {
    let clock = SimClock::new(SystemClock.now().unwrap());
    let rig = Rig::with_http(clock.clone(), |_| {}).await;
    both_say(&rig, true).await;
    clock.set_absent(true);
    assert_eq!(
        both_say(&rig, false).await,
        "not ready: the clock shows no time\n"
    );
    clock.set_absent(false);
    both_say(&rig, true).await;
    rig.tear_down().await;
}

#[tokio::test]
async fn a_server_that_is_asked_for_too_much_is_ready_and_says_so() {
    use landfast_proto::spire::api::server::agent::v1::{RenewAgentRequest, agent_client::AgentClient};
    let rig = Rig::with_http(SystemClock, |config| config.limits.signing_queue = 0).await;
    let node = rig.node().await;
    assert_eq!(both_say(&rig, true).await, "ready\n");
    let mut client = AgentClient::new(node.channel.clone());
    let params = Some(landfast_proto::spire::api::server::agent::v1::AgentX509svidParams::default());
    let refused = client
        .renew_agent(RenewAgentRequest { params })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    let mut said = String::new();
    for _ in 0..100 {
        said = both_say(&rig, true).await;
        if said.starts_with("ready, but: more signatures are asked for") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(said.contains("told to come again"), "{said}");
    rig.tear_down().await;
}

fn judge(rig: &fixture::Rig) -> Judge {
    Judge {
        authorities: Arc::clone(&rig.core.authorities),
        datastore: rig.db.clone(),
        clock: Arc::new(rig.clock.clone()),
        published_trouble: Arc::new(|| None),
        admission: Admission::idle(),
        chain: Arc::new(Chain::new(
            &crate::RootKeyConfig::None,
            (Arc::clone(&rig.core.authorities), Arc::clone(&rig.core.registry)),
            rig.db.clone(),
            Arc::new(rig.clock.clone()),
        )),
        ledger: rig.core.ledger.clone(),
    }
}

/// As if another server had.
async fn change_journal(rig: &fixture::Rig, sql: &'static str) {
    rig.db.execute(sql).await;
    rig.db
        .execute("UPDATE state SET journal_version = journal_version + 1")
        .await;
    rig.core.authorities.reread().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_no_authority_in_its_time_cannot_sign() {
    let rig = fixture::Rig::new().await;
    let judge = judge(&rig);
    assert_eq!(judge.no_signature(), None);
    rig.step(31 * fixture::DAY);
    assert_eq!(
        judge.no_signature().as_deref(),
        Some("the active authority has expired")
    );
    let steady = crate::authority::Trust::Steady;
    rig.core.authorities.tick(rig.now(), steady).await.unwrap();
    assert_eq!(judge.no_signature(), None, "rotated");
    for back in [1, 40] {
        rig.clock.step(-back * 86_400);
        assert_eq!(
            judge.no_signature().as_deref(),
            Some("the clock shows a time before the active authority begins: set the clock")
        );
        rig.clock.step(back * 86_400);
    }
    assert_eq!(judge.no_signature(), None);
}

#[tokio::test(start_paused = true)]
async fn an_authority_of_one_kind_is_not_enough() {
    let rig = fixture::Rig::new().await;
    let judge = judge(&rig);
    for (sql, reason) in [
        (
            "UPDATE authorities SET not_before = not_before + 3600 WHERE kind = 'jwt'",
            "the clock shows a time before the active authority begins: set the clock",
        ),
        (
            "UPDATE authorities SET not_before = 0, not_after = 1 WHERE kind = 'jwt'",
            "the active authority has expired",
        ),
        (
            "UPDATE authorities SET slot = 'old' WHERE kind = 'jwt'",
            "no authority is active",
        ),
    ] {
        change_journal(&rig, sql).await;
        assert_eq!(judge.no_signature().as_deref(), Some(reason));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wit_authority_counts_where_there_is_one() {
    let rig = fixture::Rig::with(|params| params.wit = true).await;
    let judge = judge(&rig);
    assert_eq!(judge.no_signature(), None);
    for (sql, reason) in [
        (
            "UPDATE authorities SET not_before = 0, not_after = 1 WHERE wit = 1",
            "the active authority has expired",
        ),
        (
            "UPDATE authorities SET slot = 'old' WHERE wit = 1",
            "no WIT authority is active",
        ),
    ] {
        change_journal(&rig, sql).await;
        assert_eq!(judge.no_signature().as_deref(), Some(reason));
    }
}

#[tokio::test]
async fn the_health_of_one_service_is_not_told() {
    let rig = Rig::new().await;
    let mut client = HealthClient::new(rig.admin().await);
    let of = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    client.check(of("")).await.unwrap();
    for refused in [
        client
            .check(of("spire.api.server.entry.v1.Entry"))
            .await
            .map(drop)
            .unwrap_err(),
        client.watch(of("x")).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert_eq!(refused.message(), "per-service health is not supported");
    }
    rig.tear_down().await;
}

/// A power cut between the two writes of a renewal: the server signs all the same, and says what is closed.
#[tokio::test]
async fn a_bad_certificate_for_others_closes_their_listener_and_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let anywhere = || vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0))];
    let rig = Rig::with_http(SystemClock, |config| {
        config.publish = Some(PublishConfig {
            web: Some(WebConfig {
                margo: None,
                tls12: false,
                listen: anywhere(),
                certificate: CertificateFiles {
                    cert: dir.path().join("tls.crt"),
                    key: dir.path().join("tls.key"),
                },
                issuer: None,
            }),
            spiffe_listen: anywhere(),
            path: "/".to_owned(),
            refresh_hint: Duration::from_secs(60),
        });
    })
    .await;
    let told = async {
        loop {
            let body = both_say(&rig, true).await;
            if body.contains("publish.listen is closed") {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let body = tokio::time::timeout(Duration::from_secs(60), told)
        .await
        .expect("nobody is told");
    assert!(body.starts_with("ready, but: "), "{body}");
    let published = rig.handle.published().clone();
    TcpStream::connect(published.spiffe[0]).await.unwrap();
    TcpStream::connect(published.web[0]).await.unwrap_err();
    rig.node().await;
    rig.tear_down().await;
}
