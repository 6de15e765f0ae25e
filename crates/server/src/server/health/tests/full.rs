//! A PostgreSQL whose disk is full to the last byte: what its server says of itself, all the time, until there is room.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use landfast_proto::spire::api::server::entry::v1::CountEntriesRequest;
use nix::unistd::Uid;

use super::*;
use crate::datastore::postgres::tests::cluster::Cluster;

/// A small file system of its own. To mount one takes root.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=128m,mode=0755", "landfast-test"]);
        assert!(mount.arg(dir.path()).status().unwrap().success());
        Self(dir)
    }

    /// To the last byte.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut filler = File::create(&path).unwrap();
        for block in [1 << 16, 512] {
            while filler.write(&vec![0; block]).is_ok_and(|written| written > 0) {}
        }
        path
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

/// The code of the answer to a new entry.
async fn entry(rig: &Rig, n: usize) -> i32 {
    let id = |path: &str| wire(&landfast_identity::SpiffeId::from_parts(&td(), path).unwrap());
    let entry = types::Entry {
        spiffe_id: Some(id(&format!("/w{n}"))),
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
    let mut client = EntryClient::new(rig.admin().await);
    let answer = client.batch_create_entry(request).await;
    let results = answer.unwrap().into_inner().results;
    results[0].status.as_ref().unwrap().code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_the_database_is_said_all_the_time_and_room_mends_it() {
    assert!(
        Uid::effective().is_root(),
        "to mount a disk that can be filled takes root: without, leave this test out by name, as tests/interop/postgres does"
    );
    let disk = Disk::new();
    let cluster = Cluster::start_in(tempfile::tempdir_in(disk.path()).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let rig = Rig::with_http(SystemClock, |config| {
        config.data_dir = Some(data.clone());
        config.postgres = Some(cluster.target());
    })
    .await;
    assert_eq!(both_say(&rig, true).await, "ready\n");
    // So there is a page with room for more tokens, as there is where a server has worked for a day.
    rig.token().await;
    let filler = disk.fill();
    let mut taken = 0;
    while entry(&rig, taken).await == 0 {
        taken += 1;
        assert!(taken < 5000, "there is no end to the disk");
    }
    let first = both_say(&rig, false).await;
    assert!(
        first.starts_with("not ready: the disk of the database is full: ")
            && first.contains("make room")
            && first.contains("No space left on device"),
        "{first}"
    );
    // Over several attempts of the server's own, each a second after the other, and some of others.
    for n in 0..120 {
        if n % 20 == 0 {
            entry(&rig, taken + n).await;
        }
        let (status, body) = get(&rig, "/ready").await;
        assert_eq!(
            (status.as_str(), &body),
            ("HTTP/1.1 503 Service Unavailable", &first)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut client = EntryClient::new(rig.admin().await);
    let counted = client
        .count_entries(CountEntriesRequest::default())
        .await
        .unwrap();
    assert!(
        counted.into_inner().count >= i32::try_from(taken).unwrap(),
        "reads go on"
    );
    std::fs::remove_file(filler).unwrap();
    assert_eq!(both_say(&rig, true).await, "ready\n");
    assert_eq!(entry(&rig, 10_000).await, 0);
    rig.tear_down().await;
    drop(cluster);
}
