//! AT-02 with real daemons: the disk of the ledger is full. What needs a record waits; what is availability first goes on, over a restart as well, and
//! the gap is told.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use landfast_testkit::site::{Plan, Site, until};
use serde_json::Value;

use crate::{ATTACKER, VICTIM, bin};

/// A file system of its own, small, and gone with its owner.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "run it with: make test-root, as root"
        );
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "landfast-test"])
            .arg(dir.path())
            .status();
        assert!(mounted.unwrap().success(), "no file system can be mounted here");
        Self(dir)
    }

    fn ledger(&self) -> PathBuf {
        self.0.path().join("ledger")
    }

    /// Leaves nothing free.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("full")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.path().join("full")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.0.path()).status());
    }
}

fn serial(site: &Site, path: &str) -> String {
    let status = site.status();
    let held = status["identities"].as_array().unwrap().iter();
    let of_it = |held: &&Value| held["spiffe_id"].as_str().unwrap().ends_with(path);
    let mut held = held.filter(of_it).map(|held| held["serial"].as_str().unwrap());
    held.next_back().unwrap().to_owned()
}

/// The serial number that comes after this change of an entry.
fn renewed(site: &Site, entry: &str, path: &str, round: usize) -> String {
    let before = serial(site, path);
    site.renew(entry, round);
    let mut now = String::new();
    until("the next SVID", || {
        now = serial(site, path);
        now != before
    });
    now
}

fn records(dir: &Path) -> Vec<Value> {
    let out = Command::new(bin().join("landfast"))
        .args(["audit", "export"])
        .arg(dir)
        .output();
    let text = String::from_utf8(out.unwrap().stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Verified records, when they have what is waited for.
fn told(site: &Site, dir: &Path, what: &str, has: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut found = Vec::new();
    until(what, || {
        found = records(dir);
        has(&found)
    });
    let out = Command::new(bin().join("landfast"))
        .args(["audit", "verify"])
        .arg(dir)
        .arg("--key")
        .arg(dir.join("verifier-key"))
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&out.stdout),
        site.server_log()
    );
    found
}

fn of_type<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["type"] == kind).collect()
}

#[test]
fn at_02_on_a_full_disk_what_is_availability_first_goes_on_over_a_restart_and_the_gap_is_told() {
    let disk = Disk::new();
    let ledger = disk.ledger();
    let tables = format!("[ledger]\ndirectory = \"{}\"", ledger.display());
    let mut site = Site::start(
        &bin(),
        &Plan {
            server_tables: &tables,
            ..Plan::default()
        },
    );
    let strict = site.entry("/strict", &[&format!("unix:uid:{VICTIM}")]);
    let first = site.entry("/first", &[&format!("unix:uid:{ATTACKER}")]);
    let policy = ["entry", "policy", "set", &first, "--availability-first", "true"];
    site.operator(&[&policy[..], &["--reason", "a pump that must not stop"]].concat());
    let mut left = BTreeSet::from([renewed(&site, &strict, "/strict", 0)]);

    disk.fill();
    // What the last page of a file has room for is written still.
    let mut round = 1;
    while !site.server_log().contains("ledger cannot be written") {
        assert!(round < 60, "the disk is full and nobody notices");
        left.insert(renewed(&site, &first, "/first", round));
        round += 1;
    }
    let held = serial(&site, "/strict");
    site.renew(&strict, round);
    for _ in 0..3 {
        round += 1;
        left.insert(renewed(&site, &first, "/first", round));
    }
    site.settle();
    assert_eq!(
        serial(&site, "/strict"),
        held,
        "no record, no SVID; what it has it keeps"
    );
    // And an operator can shut somebody out.
    let token = site.token();
    assert!(!token.is_empty());

    disk.make_room();
    until("an SVID with a record", || serial(&site, "/strict") != held);
    left.insert(serial(&site, "/strict"));
    let serials = |records: &[Value]| -> BTreeSet<String> {
        let issued = of_type(records, "svid.issued").into_iter();
        issued
            .map(|record| record["detail"]["serial"].as_str().unwrap().to_owned())
            .collect()
    };
    let found = told(&site, &ledger, "the gap and all that left", |records| {
        !of_type(records, "log.gap").is_empty() && serials(records).is_superset(&left)
    });
    let gap = of_type(&found, "log.gap")[0];
    assert!(gap["detail"]["written_after"].as_u64() >= Some(3), "{gap}");
    assert_eq!(gap["result"], "failed");

    // The power goes in a gap, and the disk is still full when it is back.
    disk.fill();
    let before = site.server_log().matches("ledger cannot be written").count();
    while site.server_log().matches("ledger cannot be written").count() == before {
        round += 1;
        assert!(round < 200, "the disk is full and nobody notices");
        renewed(&site, &first, "/first", round);
    }
    site.stop_server();
    site.start_server();
    let held = serial(&site, "/strict");
    site.renew(&strict, round + 1);
    let after = renewed(&site, &first, "/first", round + 2);
    site.settle();
    assert_eq!(serial(&site, "/strict"), held);
    disk.make_room();
    let found = told(&site, &ledger, "what the second server did", |records| {
        serials(records).contains(&after)
    });
    let gaps = of_type(&found, "log.gap");
    assert!(
        gaps.iter().any(|gap| gap["detail"]["uncounted"] == true),
        "{gaps:?}"
    );
    until("an SVID with a record", || serial(&site, "/strict") != held);
}
