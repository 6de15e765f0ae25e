//! A whole agent writes down who was given what.

use crate::handouts::tests::lines;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hand_out_has_its_line_and_the_record_goes_on_after_a_torn_one() {
    let mut world = World::new().await;
    let data = world.dir.path().join("data");
    let handle = world.start().await;
    handle.ready().await;
    let mut client = WorkloadClient::connect(handle.socket().to_str().unwrap())
        .await
        .unwrap();
    let held = client.fetch_x509().await.unwrap();
    let audience = ["receiver".to_owned()];
    let [token] = client
        .fetch_jwt(&audience, None)
        .await
        .unwrap()
        .try_into()
        .unwrap();
    // From the cache, and another that is not.
    client.fetch_jwt(&audience, None).await.unwrap();
    client.fetch_jwt(&["other".to_owned()], None).await.unwrap();
    let status = admin(&handle).await.get_status(api::GetStatusRequest {}).await;
    let status = status.unwrap().into_inner();
    assert_eq!(
        (status.hand_outs.as_str(), status.hand_outs_unwritten),
        ("written to handouts.log in the data directory", 0)
    );
    drop(client);
    world.stop_agent().await;

    let written = lines(&data);
    let kinds: Vec<_> = written
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["x509", "jwt", "jwt"]);
    assert_eq!(written[0]["serial"], held.svids[0].serial_hex());
    for line in &written {
        assert_eq!(
            (&line["entry"], &line["by"]),
            (&"a".into(), &"workload-api".into())
        );
        assert_eq!(line["id"], "spiffe://plant.test/collector");
        assert_eq!(line["to"]["pid"], std::process::id());
        assert_eq!(line["standing"], "connected");
    }
    assert_eq!(written[1]["audience"], serde_json::json!(["receiver"]));
    let file = data.join("handouts.log");
    let text = std::fs::read_to_string(&file).unwrap();
    for part in token.token.split('.') {
        assert!(!text.contains(part), "a part of the token");
    }
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    crate::testing::write_private(&file, (text + "{\"v\":1,\"time\":\"20").as_bytes());
    let handle = world.start().await;
    handle.ready().await;
    let mut client = WorkloadClient::connect(handle.socket().to_str().unwrap())
        .await
        .unwrap();
    client.fetch_x509().await.unwrap();
    drop(client);
    world.stop_agent().await;
    let written = lines(&data);
    assert_eq!(written.len(), 5);
    assert!(written[3].is_string() && written[4]["kind"] == "x509");
    world.stop().await;
}

/// What is in the place of the file is not written to; everybody is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_written_is_said_and_holds_nobody_up() {
    let mut world = World::new().await;
    let data = world.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::create_dir(data.join("handouts.log")).unwrap();
    let handle = world.start().await;
    handle.ready().await;
    let mut client = WorkloadClient::connect(handle.socket().to_str().unwrap())
        .await
        .unwrap();
    assert_eq!(client.fetch_x509().await.unwrap().svids.len(), 1);
    drop(client);
    world.stop_agent().await;
    assert!(data.join("handouts.log").is_dir());
    world.stop().await;
}
