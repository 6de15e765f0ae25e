//! A server that had shown its ledger, and answers nothing any more.

use landfast_store::Store;
use tokio::io::DuplexStream;
use tonic::service::Routes;
use tonic::transport::{Endpoint, Server};

use super::*;
use crate::journal::tests::desk;

/// To a server that knows no method at all.
async fn knows_nothing(tree: &landfast_daemon::TaskTree) -> Channel {
    let (client, server) = tokio::io::duplex(1 << 16);
    tree.handle().spawn("server", async move {
        let incoming = tokio_stream::once(Ok::<DuplexStream, std::io::Error>(server));
        let router = Server::builder().add_routes(Routes::default());
        router.serve_with_incoming(incoming).await.unwrap();
    });
    let mut client = Some(client);
    let connector = tower::service_fn(move |_: http::Uri| {
        let client = client.take().map(hyper_util::rt::TokioIo::new);
        async move { client.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) }
    });
    let endpoint = Endpoint::from_static("http://server");
    endpoint.connect_with_connector(connector).await.unwrap()
}

fn witness(desk: &Desk) -> (Witness, watch::Receiver<Report>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::over(Store::open(dir.path()).unwrap(), &td());
    let channel = watch::channel(None).1;
    let (witness, report) = Witness::new(desk.clone(), Arc::new(files), td(), channel);
    (witness, report, dir)
}

/// Questions until it is told, each after five minutes; gives how many that were.
async fn until_told(witness: &mut Witness, channel: &Channel, seen: &mut Seen) -> usize {
    for asked in 0..400 {
        witness.ask(channel.clone(), seen).await;
        if witness.silence.is_long().is_some() {
            return asked;
        }
        tokio::time::advance(EVERY).await;
    }
    panic!("nobody says so");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_shows_its_ledger_no_more_is_told_of_after_a_day() {
    let (tree, rig) = (landfast_daemon::TaskTree::new(), Rig::new());
    let channel = knows_nothing(&tree).await;
    let mut seen = having_seen(&rig, 2);
    let desk = desk();
    let (mut witness, report, _dir) = witness(&desk);
    assert_eq!(until_told(&mut witness, &channel, &mut seen).await, 288);
    assert_eq!(desk.kinds(), [LEDGER_UNWITNESSED], "once");
    witness.say(&seen);
    let told = report.borrow().clone();
    assert!(
        told.unwitnessed && !told.fork && told.text.starts_with("UNWITNESSED"),
        "{told:?}"
    );
    assert!(
        told.text.contains(key(&rig.der).origin()),
        "and what was seen stays: {told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_lets_each_question_fail_is_told_of_and_one_that_never_showed_any_is_not() {
    let rig = Rig::new();
    let refused = tower::service_fn(|_: http::Uri| async {
        Err::<hyper_util::rt::TokioIo<DuplexStream>, _>(std::io::Error::from(
            std::io::ErrorKind::ConnectionReset,
        ))
    });
    let channel = Endpoint::from_static("http://server").connect_with_connector_lazy(refused);
    let desk = desk();
    let (mut fresh, _report, _dir) = witness(&desk);
    for _ in 0..400 {
        fresh.ask(channel.clone(), &mut Seen::default()).await;
        tokio::time::advance(EVERY).await;
    }
    assert_eq!(desk.kinds(), [""; 0], "SPIRE's servers have no ledger");
    let (mut witness, _report, _dir) = witness(&desk);
    until_told(&mut witness, &channel, &mut having_seen(&rig, 2)).await;
    assert_eq!(desk.kinds(), [LEDGER_UNWITNESSED]);
}

#[tokio::test]
async fn a_seventeenth_ledger_is_told_of_once() {
    let desk = desk();
    let (mut witness, report, _dir) = witness(&desk);
    let mut seen = Seen::default();
    for _ in 0..seen::MOST + 3 {
        let verdict = judge::judge(&seen, &td(), &Rig::new().answer(0).shown());
        witness.adopt(verdict, &mut seen).await;
    }
    let kinds = desk.kinds();
    assert_eq!(kinds[..seen::MOST], [LEDGER_NEW; seen::MOST]);
    assert_eq!(kinds[seen::MOST..], [LEDGER_UNWITNESSED]);
    witness.say(&seen);
    let told = report.borrow().clone();
    assert!(
        told.unwitnessed && told.text.contains("one ledger more"),
        "{told:?}"
    );
}
