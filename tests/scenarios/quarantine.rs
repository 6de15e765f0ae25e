//! T-35: a registry goes back, by a restore or with its whole disk. What was decided meanwhile does not come back unnoticed, and what is held is served.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use landfast_proto::landfast::quarantine::v1 as pb;
use landfast_proto::landfast::quarantine::v1::quarantine_client::QuarantineClient;
use landfast_testkit::{NodeAgent, Plant, eventually};
use tonic::Status;

use super::backup::{back_up, key_file, put_back};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for found in fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        match found.file_type().unwrap().is_dir() {
            true => copy(&found.path(), &to.join(found.file_name())),
            false => drop(fs::copy(found.path(), to.join(found.file_name())).unwrap()),
        }
    }
}

async fn show(plant: &Plant) -> pb::GetQuarantineResponse {
    let mut operator = QuarantineClient::new(plant.admin().await);
    let shown = operator.get_quarantine(pb::GetQuarantineRequest {}).await;
    shown.unwrap().into_inner()
}

async fn end(plant: &Plant, accept_rollback: bool) -> Result<u64, Status> {
    let request = pb::EndQuarantineRequest {
        reason: "looked through the change log".to_owned(),
        accept_rollback,
    };
    let ended = QuarantineClient::new(plant.admin().await)
        .end_quarantine(request)
        .await?;
    Ok(ended.into_inner().came_back)
}

/// What the node gives this process.
async fn paths(agent: &NodeAgent) -> Result<Vec<String>, String> {
    let context = agent.client().await.fetch_x509().await;
    let context = context.map_err(|error| format!("{error:?}"))?;
    let svids = context.svids.iter();
    let mut paths: Vec<_> = svids.map(|svid| svid.id().path().to_owned()).collect();
    paths.sort();
    Ok(paths)
}

async fn gives(agent: &NodeAgent, expected: &[&str]) {
    eventually("the identities", async || match paths(agent).await {
        Ok(paths) if paths == expected => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_on_an_empty_machine_no_ban_no_token_and_no_deleted_entry_comes_back_unnoticed() {
    let mut plant = Plant::new("").await;
    let honest = plant.agent("honest", "").await;
    let mut stolen = plant.agent("stolen", "").await;
    let kept = plant.entry(&honest, "/kept", 3600).await;
    let deleted = plant.entry(&honest, "/deleted", 3600).await;
    plant.entry(&stolen, "/stolen", 3600).await;
    gives(&honest, &["/deleted", "/kept"]).await;
    gives(&stolen, &["/stolen"]).await;
    let token = plant.token().await;
    let (key, recipient) = key_file(&plant);
    let file = plant.path().join("plant.backup");
    let said = back_up(&plant, &file, &["--recipient", &recipient]).unwrap();

    // Meanwhile: a token is used, an entry deleted, a node banned. Who has stolen that node's disk before has its keys still.
    let mut third = plant.agent_with("third", "", &token);
    third.start().await.unwrap();
    eventually("the third node", async || match plant.count_agents().await {
        3 => Ok(()),
        other => Err(other),
    })
    .await;
    third.stop().await;
    plant.delete_entry(&deleted).await;
    gives(&honest, &["/kept"]).await;
    stolen.stop().await;
    let thief = plant.path().join("thief");
    copy(stolen.data(), &thief);
    stolen.start().await.unwrap();
    plant.ban(&stolen).await;
    eventually("the ban", async || match stolen.status().await.state.as_str() {
        "banned" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    stolen.stop().await;
    fs::remove_dir_all(stolen.data()).unwrap();
    copy(&thief, stolen.data());

    plant.stop_server().await;
    fs::remove_dir_all(plant.server_data()).unwrap();
    let fingerprint = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("fingerprint "));
    let more = [
        "--identity-file",
        key.to_str().unwrap(),
        "--trust",
        fingerprint.unwrap(),
        "--keep-tokens",
    ];
    let said = put_back(&plant, &file, &more).await.unwrap();
    assert!(said.contains("STARTS IN QUARANTINE"), "{said}");
    plant.start_server().await.unwrap();

    // The honest node says what it has seen, and serves what it holds; no more and no less.
    let shown = eventually("what the node knows", async || {
        let shown = show(&plant).await;
        let found = shown
            .findings
            .iter()
            .any(|finding| finding.object == deleted && finding.kind == "entry-deleted");
        if found { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert!(!shown.complete, "no node knows of a ban");
    assert_eq!(shown.causes[0].kind, "restored");
    eventually("the reason at the node", async || {
        let status = honest.status().await;
        match status.last_error.contains("in quarantine") {
            true => Ok(()),
            false => Err(status),
        }
    })
    .await;
    gives(&honest, &["/kept"]).await;
    // Who shows a banned node's SVID gets nothing new: not even this.
    stolen.start().await.unwrap();
    let bait = plant.entry(&stolen, "/bait", 3600).await;
    eventually("the thief's attempt", async || {
        let status = stolen.status().await;
        match status.last_error.contains("in quarantine") {
            true => Ok(()),
            false => Err(status),
        }
    })
    .await;
    assert!(
        !paths(&stolen)
            .await
            .unwrap_or_default()
            .contains(&"/bait".to_owned())
    );
    // Nor does who has the token.
    let mut again = plant.agent_with("again", "", &token);
    let started = again.start().await;
    // Nor is it over by mistake.
    assert!(end(&plant, false).await.is_err());
    assert_eq!(plant.count_agents().await, 2, "{started:?}");

    // The operator looks, decides again what was decided, and ends it.
    plant.delete_entry(&deleted).await;
    plant.ban(&stolen).await;
    again.stop().await;
    let shown = show(&plant).await;
    assert!(
        shown.findings.iter().all(|finding| !finding.comes_back),
        "{shown:?}"
    );
    assert_eq!(end(&plant, true).await.unwrap(), 0);
    let later = plant.entry(&honest, "/later", 3600).await;
    gives(&honest, &["/kept", "/later"]).await;
    eventually("the ban once more", async || {
        match stolen.status().await.state.as_str() {
            "banned" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    assert!(show(&plant).await.causes.is_empty());
    for entry in [kept, later, bait] {
        plant.delete_entry(&entry).await;
    }
    plant.tear_down([honest, stolen, third, again]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_was_put_back_is_noticed_by_its_nodes_and_they_serve_on() {
    let mut plant = Plant::new("").await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/kept", 3600).await;
    let deleted = plant.entry(&agent, "/deleted", 3600).await;
    gives(&agent, &["/deleted", "/kept"]).await;
    plant.stop_server().await;
    let snapshot = plant.path().join("snapshot");
    copy(&plant.server_data(), &snapshot);
    plant.start_server().await.unwrap();
    plant.delete_entry(&deleted).await;
    gives(&agent, &["/kept"]).await;
    plant.stop_server().await;
    fs::remove_dir_all(plant.server_data()).unwrap();
    copy(&snapshot, &plant.server_data());

    plant.start_server().await.unwrap();
    let shown = eventually("the node's word", async || {
        let shown = show(&plant).await;
        let found = shown.findings.iter().any(|finding| finding.object == deleted);
        if found { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert_eq!(shown.causes[0].kind, "rolled-back");
    assert!(shown.causes[0].detail.contains(&agent.id), "{shown:?}");
    gives(&agent, &["/kept"]).await;
    plant.delete_entry(&deleted).await;
    end(&plant, true).await.unwrap();
    // Without a new epoch it would refuse this server for ever.
    plant.entry(&agent, "/later", 3600).await;
    gives(&agent, &["/kept", "/later"]).await;
    plant.tear_down([agent]).await;
}
