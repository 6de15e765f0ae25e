//! Who is believed from now on is in the ledger, with who said so.

use super::*;
use crate::ledger::tests::read;

#[tokio::test]
async fn what_is_taken_into_the_bundle_has_a_record_and_what_was_there_has_none() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_owned();
    let rig = Rig::with(move |config| config.data_dir = Some(dir)).await;
    let admin = rig.admin().await;
    let certificate = root("plant.test");
    for _ in 0..2 {
        append(&admin, vec![x509(&certificate)], vec![jwt("theirs")])
            .await
            .ok();
    }
    let below = downstream(&rig, "/nested").await;
    let key = jwt("below");
    for _ in 0..2 {
        publish(&below, Some(key.clone())).await.unwrap();
    }
    drop((admin, below));
    rig.tear_down().await;
    let records = read(&data.path().join("ledger"));
    let taken: Vec<_> = records
        .iter()
        .filter(|record| record["type"] == "authority.appended")
        .map(|record| {
            let by = record["actor"]["id"].as_str().unwrap_or("an operator");
            (
                record["detail"]["kind"].as_str().unwrap(),
                record["detail"]["authority"].as_str().unwrap(),
                by.to_owned(),
            )
        })
        .collect();
    let fingerprint = crate::random::hex(&certificate.fingerprint_sha256());
    let nested = format!("spiffe://{}/nested", td());
    let operator = "an operator".to_owned();
    let expected = [
        ("x509", fingerprint.as_str(), operator.clone()),
        ("jwt", "theirs", operator),
        ("jwt", "below", nested),
    ];
    assert_eq!(taken, expected);
}
