//! The server's disk is lost, and there is a backup: with the command lines that an operator types.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use landfast_daemon::error_chain;
use landfast_server::backup::{BackupError, backup, restore};
use landfast_server::{CommandLine, ServerConfig, Verb};
use landfast_testkit::{Plant, eventually};

fn config(plant: &Plant) -> ServerConfig {
    ServerConfig::load(&plant.path().join("server.toml")).unwrap()
}

fn typed(words: &[&str]) -> Verb {
    let words = ["landfast-server"].iter().chain(words);
    CommandLine::try_parse_from(words).unwrap().verb
}

/// `landfast-server backup …`
pub(crate) fn back_up(plant: &Plant, out: &Path, more: &[&str]) -> Result<String, BackupError> {
    let words = [&["backup", "--out", out.to_str().unwrap()], more].concat();
    let Verb::Backup(args) = typed(&words) else {
        panic!("another command");
    };
    backup(&args, Some(&config(plant)), &mut |_, _| ())
}

fn show(file: &Path) -> Result<String, BackupError> {
    let Verb::Backup(args) = typed(&["backup", "show", file.to_str().unwrap()]) else {
        panic!("another command");
    };
    backup(&args, None, &mut |_, _| ())
}

/// `landfast-server backup key --out …`; the recipient.
fn make_key(out: &Path) -> String {
    let Verb::Backup(args) = typed(&["backup", "key", "--out", out.to_str().unwrap()]) else {
        panic!("another command");
    };
    backup(&args, None, &mut |_, _| ()).unwrap()
}

/// `landfast-server restore …`
pub(crate) async fn put_back(plant: &Plant, from: &Path, more: &[&str]) -> Result<String, BackupError> {
    let words = [&["restore", "--from", from.to_str().unwrap()], more].concat();
    let Verb::Restore(args) = typed(&words) else {
        panic!("another command");
    };
    restore(&args, &config(plant)).await
}

pub(crate) fn key_file(plant: &Plant) -> (PathBuf, String) {
    let file = plant.path().join("key.txt");
    let recipient = make_key(&file);
    (file, recipient)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_of_the_server_is_lost_and_nodes_of_before_go_on() {
    let mut plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    let (key, recipient) = key_file(&plant);
    let file = plant.path().join("plant.backup");
    // The server runs, and the agent is served meanwhile.
    let said = back_up(&plant, &file, &["--recipient", &recipient]).unwrap();
    assert!(said.contains("1 agents"), "{said}");
    assert_eq!(show(&file).unwrap().lines().next(), said.lines().nth(1));
    let too_late = plant.entry(&agent, "/line4/too-late", 3600).await;
    eventually("both identities", async || match client.fetch_x509().await {
        Ok(context) if context.svids.len() == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    plant.stop_server().await;
    fs::remove_dir_all(plant.server_data()).unwrap();
    let identity = ["--identity-file", key.to_str().unwrap()];
    // Anybody could have sealed it for this recipient: the operator says whose it is.
    let error = put_back(&plant, &file, &identity).await.unwrap_err();
    assert!(
        matches!(error, BackupError::Unknown { .. }),
        "{}",
        error_chain(&error)
    );
    let fingerprint = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("fingerprint "));
    let trust = ["--trust", fingerprint.unwrap(), "--accept-rollback"];
    let said = put_back(&plant, &file, &[&identity[..], &trust].concat())
        .await
        .unwrap();
    assert!(
        said.contains("WHAT WAS DECIDED SINCE IS NOT KNOWN HERE"),
        "{said}"
    );
    plant.start_server().await.unwrap();
    // The node is the one of before: no new token. It learns what is no more, and what comes.
    plant.entry(&agent, "/line4/historian", 3600).await;
    let expected = ["/line4/collector", "/line4/historian"];
    eventually("the identities of the restored server", async || {
        let context = client.fetch_x509().await.map_err(|error| format!("{error:?}"))?;
        let mut paths: Vec<_> = context
            .svids
            .iter()
            .map(|svid| svid.id().path().to_owned())
            .collect();
        paths.sort();
        if paths == expected {
            Ok(())
        } else {
            Err(format!("{paths:?} {too_late}"))
        }
    })
    .await;
    // Also after a restart, with what it has on its disk.
    agent.stop().await;
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    eventually("the identities after its restart", async || {
        match client.fetch_x509().await {
            Ok(context) if context.svids.len() == 2 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(plant.count_agents().await, 1);
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_running_server_with_a_wrong_key_or_from_a_damaged_file_nothing_is_restored() {
    let mut plant = Plant::new("").await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    eventually("the node is known", async || match plant.count_agents().await {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    let (key, recipient) = key_file(&plant);
    let file = plant.path().join("plant.backup");
    back_up(&plant, &file, &["--recipient", &recipient]).unwrap();
    let identity = ["--identity-file", key.to_str().unwrap()];
    let error = put_back(&plant, &file, &identity).await.unwrap_err();
    assert!(
        matches!(error, BackupError::InUse { .. }),
        "{}",
        error_chain(&error)
    );
    assert!(error.hint().contains("systemctl stop"), "{}", error.hint());
    plant.stop_server().await;
    let names = || fs::read_dir(plant.server_data()).unwrap().count();
    let before = names();
    let other = plant.path().join("other.txt");
    make_key(&other);
    let wrong = ["--identity-file", other.to_str().unwrap()];
    let error = error_chain(&put_back(&plant, &file, &wrong).await.unwrap_err());
    assert!(error.contains("does not open it"), "{error}");
    let error = error_chain(&put_back(&plant, &file, &[]).await.unwrap_err());
    assert!(error.contains(&recipient), "{error}");
    let bytes = fs::read(&file).unwrap();
    let damaged = plant.path().join("damaged");
    // One byte in each of its blocks, and cut between them.
    for at in (0..bytes.len()).step_by(512) {
        let mut bytes = bytes.clone();
        bytes[at + 7] ^= 4;
        put(&damaged, &bytes);
        put_back(&plant, &damaged, &identity).await.unwrap_err();
        put(&damaged, &bytes[..at]);
        put_back(&plant, &damaged, &identity).await.unwrap_err();
        assert!(show(&damaged).is_err());
    }
    assert_eq!(names(), before);
    let said = put_back(&plant, &file, &[&identity[..], &["--dry-run"]].concat())
        .await
        .unwrap();
    assert!(said.contains("Nothing was replaced"), "{said}");
    assert_eq!(names(), before);
    plant.start_server().await.unwrap();
    assert_eq!(plant.count_agents().await, 1, "the old one is whole");
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_redeemed_after_the_backup_lets_nobody_in_again() {
    let mut plant = Plant::new("").await;
    let (key, recipient) = key_file(&plant);
    let token = plant.token().await;
    let file = plant.path().join("plant.backup");
    back_up(&plant, &file, &["--recipient", &recipient]).unwrap();
    let mut first = plant.agent_with("first", "", &token);
    first.start().await.unwrap();
    eventually("the first node", async || match plant.count_agents().await {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    first.stop().await;
    plant.stop_server().await;
    put_back(&plant, &file, &["--identity-file", key.to_str().unwrap()])
        .await
        .unwrap();
    plant.start_server().await.unwrap();
    let mut thief = plant.agent_with("thief", "", &token);
    // Whether it gives up at once or goes on trying, the server does not take it.
    let started = thief.start().await;
    // The control: another token works, and by then the thief has had its turn.
    let honest = plant.agent("honest", "").await;
    eventually("the honest node", async || match plant.count_agents().await {
        1 => Ok(()),
        other => Err(format!("{other}, the thief: {started:?}")),
    })
    .await;
    plant.tear_down([first, thief, honest]).await;
}

fn put(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// The records of this type, when the server has ended.
fn recorded(plant: &Plant, kind: &str) -> Vec<serde_json::Value> {
    let mut records = Vec::new();
    let ledger = landfast_audit::verify::DirSource::new(&plant.server_data().join("ledger"));
    let ended = landfast_audit::verify::read(&ledger, 0, &mut |_, record| {
        let record: serde_json::Value = serde_json::from_slice(record).unwrap();
        if record["type"] == kind {
            records.push(record);
        }
        true
    });
    ended.unwrap();
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_have_records_also_of_a_server_that_was_away() {
    let mut plant = Plant::new("").await;
    let (_, recipient) = key_file(&plant);
    back_up(&plant, &plant.path().join("one"), &["--recipient", &recipient]).unwrap();
    let noted = |plant: &Plant| {
        let names = fs::read_dir(plant.server_data()).unwrap();
        let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("backup-made.")).count()
    };
    eventually("the note is taken", async || match noted(&plant) {
        0 => Ok(()),
        some => Err(some),
    })
    .await;
    plant.stop_server().await;
    let said = back_up(
        &plant,
        &plant.path().join("two"),
        &["--without-keys", "--output", "json"],
    )
    .unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(said["not_recorded"].is_null(), "{said}");
    assert_eq!(noted(&plant), 1);
    plant.start_server().await.unwrap();
    eventually("the note is taken", async || match noted(&plant) {
        0 => Ok(()),
        some => Err(some),
    })
    .await;
    plant.stop_server().await;
    let records = recorded(&plant, "backup.made");
    assert_eq!(records.len(), 2, "{records:?}");
    for (record, with_keys) in records.iter().zip([true, false]) {
        let detail = &record["detail"];
        assert_eq!(detail["with_keys"], with_keys, "{record}");
        assert_eq!(detail["key_event"] == "backing-up", with_keys, "{record}");
        assert_eq!(record["category"], "backup-restore");
        assert_eq!(record["actor"]["how"]["uid"], nix::unistd::getuid().as_raw());
        // It lay there before it was recorded.
        assert!(detail["made_at"].as_str() <= record["time"].as_str(), "{record}");
    }
}
