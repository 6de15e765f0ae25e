//! AT-07, AT-09, AT-12, AT-30 and AT-33 as whoever runs a plant meets them: a real server writes its ledger, somebody changes the files, and the program
//! says what it finds.

use std::path::PathBuf;
use std::sync::Arc;

use landfast_lifecycle::{Clock as _, SimClock, SystemClock};
use landfast_proto::spire::api::server::entry::v1::{self as entry_api, entry_client::EntryClient};
use landfast_proto::spire::api::types;
use serde_json::{Value, json};

use super::served::Served;
use super::*;

/// The records of a ledger of less than 256, as they lie on the disk.
struct Lines {
    file: PathBuf,
    lines: Vec<Vec<u8>>,
}

impl Lines {
    fn of(served: &Served) -> Self {
        // Of the last batches, the one that has them all.
        let files = fs::read_dir(served.path("data/ledger/tile/entries/000.p")).unwrap();
        let size = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
        let file = files.map(|file| file.unwrap().path()).max_by_key(size).unwrap();
        let bytes = fs::read(&file).unwrap();
        let (mut rest, mut lines) = (bytes.as_slice(), Vec::new());
        while let [high, low, more @ ..] = rest {
            let (line, after) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            lines.push(line.to_vec());
            rest = after;
        }
        Self { file, lines }
    }

    fn put(&self, lines: &[Vec<u8>]) {
        let framed = lines.iter().flat_map(|line| {
            let length = u16::try_from(line.len()).unwrap().to_be_bytes();
            [&length[..], line].concat()
        });
        fs::write(&self.file, framed.collect::<Vec<u8>>()).unwrap();
    }

    /// What is said of the ledger when its records are these.
    fn said(&self, served: &Served, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> (i32, Vec<Value>) {
        let mut lines = self.lines.clone();
        change(&mut lines);
        self.put(&lines);
        let said = verified(served, None);
        self.put(&self.lines);
        said
    }
}

/// Exit code and findings of `landfast audit verify`.
fn verified(served: &Served, kept: Option<&str>) -> (i32, Vec<Value>) {
    let (ledger, key) = (served.text("data/ledger"), served.text("kept-key"));
    let args = ["audit", "verify", &ledger, "--key", &key, "--output", "json"];
    let kept = kept.map_or_else(Vec::new, |kept| vec!["--checkpoint", kept]);
    let (code, out, err) = run(&[&args[..], &kept].concat());
    let said: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (code, said["report"]["findings"].as_array().unwrap().clone())
}

/// A server that has signed for forty and has ended.
fn with_forty() -> Served {
    let mut served = Served::new();
    for n in 0..40 {
        let id = format!("spiffe://plant.test/line4/{n:02}");
        served.done(&["mint", "x509", "--spiffe-id", &id, "--reason", "commissioning"]);
    }
    served.stop();
    fs::copy(served.path("data/ledger/verifier-key"), served.path("kept-key")).unwrap();
    served
}

#[test]
fn at_07_each_of_five_tamperings_with_the_ledger_of_a_server_is_named_by_its_record() {
    let mut served = with_forty();
    assert_eq!(verified(&served, None), (0, Vec::new()));
    let lines = Lines::of(&served);
    let first = |(code, findings): (i32, Vec<Value>)| {
        assert_eq!(code, 1, "{findings:?}");
        (findings[0]["kind"].clone(), findings[0]["record"].clone())
    };
    let flipped = first(lines.said(&served, |lines| {
        let at = lines[20].windows(6).position(|part| part == b"line4/").unwrap();
        lines[20][at] = b'X';
    }));
    assert_eq!(flipped, (json!("edit"), json!(20)));
    let deleted = first(lines.said(&served, |lines| drop(lines.remove(21))));
    assert_eq!(deleted, (json!("deletion"), json!(21)));
    let moved = first(lines.said(&served, |lines| lines.swap(22, 23)));
    assert_eq!(moved, (json!("reordering"), json!(22)));
    let cut = first(lines.said(&served, |lines| lines.truncate(38)));
    assert_eq!(cut.1, json!(38), "{cut:?}");

    // By whoever has the key and the machine: everything is as it was some days ago. A checkpoint that was kept elsewhere knows better.
    let before = served.path("before");
    let copied = Command::new("cp")
        .args(["-a"])
        .arg(served.path("data"))
        .arg(&before)
        .status();
    assert!(copied.unwrap().success());
    served.start(Arc::new(SystemClock));
    served.done(&["mint", "x509", "--spiffe-id", "spiffe://plant.test/line4/later"]);
    served.stop();
    let more = served.records().len();
    fs::copy(served.path("data/ledger/checkpoint"), served.path("kept")).unwrap();
    assert_eq!(verified(&served, Some(&served.text("kept"))), (0, Vec::new()));
    fs::remove_dir_all(served.path("data")).unwrap();
    fs::rename(&before, served.path("data")).unwrap();
    let truncated = first(verified(&served, Some(&served.text("kept"))));
    let size = served.records().len();
    assert!(size < more);
    assert_eq!(truncated, (json!("truncation"), json!(size)));

    // And a clock that goes back: the log is whole, and says it.
    let ahead = SystemClock
        .now()
        .unwrap()
        .saturating_add(Duration::from_secs(1800));
    served.start(Arc::new(SimClock::new(ahead)));
    served.stop();
    let size = served.records().len();
    served.start(Arc::new(SystemClock));
    served.stop();
    let (_, found) = served.evidence(&["gaps"]);
    let gaps = found["gaps"].as_array().unwrap();
    let back = gaps.iter().find(|gap| gap["kind"] == "clock-went-back");
    let back = back.unwrap_or_else(|| panic!("{found}"));
    assert_eq!(back["records"][0]["record"], size, "{back}");
}

/// Whoever runs this becomes a person, with a second login, so that there is one to answer for a third party.
fn person(served: &Served) -> String {
    let uid = nix::unistd::geteuid().as_raw();
    let session = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    let mut uids = vec!["4711".to_owned(), uid.to_string(), session.trim().to_owned()];
    uids.retain(|uid| !["", "0", "4294967295"].contains(&uid.as_str()));
    uids.dedup();
    let mut args = vec!["person", "add", "--name", "Jo", "--reason", "the first"];
    args.extend(uids.iter().flat_map(|uid| ["--uid", uid]));
    for role in ["administer", "enrol", "revoke", "read"] {
        args.extend(["--role", role]);
    }
    let made = served.done(&args);
    made["person"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .to_owned()
}

#[test]
fn at_09_a_third_party_has_a_sponsor_and_what_other_tools_make_is_listed() {
    let mut served = Served::new();
    let jo = person(&served);
    let entry = |id: &str, more: &[&str]| {
        let parent = "spiffe://plant.test/spire/agent/x509pop/gateway";
        let args = ["entry", "create", "--spiffe-id", id, "--parent-id", parent];
        served.landfast(&[&args[..], &["--selector", "unix:uid:1200"], more].concat())
    };
    let acme = "spiffe://plant.test/acme/service";
    let count = || served.done(&["entry", "list"]).as_array().map_or(0, Vec::len);
    let (end, contract, sponsor) = (
        ["--expires-in", "30d"],
        ["--contract", "ACME 2026-17"],
        ["--sponsor", &jo],
    );
    for (without, args) in [
        ("--sponsor", [&end[..], &contract].concat()),
        ("--contract", [&end[..], &sponsor].concat()),
        ("--expires-in", [&contract[..], &sponsor].concat()),
        (
            "person",
            [&end[..], &contract, &["--sponsor", "p-aaaaaaaaaaaaaaaa"]].concat(),
        ),
    ] {
        let (code, out, err) = entry(acme, &[&["--third-party"][..], &args].concat());
        assert_ne!(code, 0, "{without}: {out}");
        assert!(err.contains(without), "{without}: {err}");
        assert_eq!(count(), 0, "{without}: nothing is left of it");
    }
    let whole = [&["--third-party"][..], &end, &contract, &sponsor].concat();
    let (code, out, err) = entry(acme, &whole);
    assert_eq!(code, 0, "{err}");
    let made: Value = serde_json::from_str(&out).unwrap();

    // By SPIRE's own API, as spire-server does.
    let id = |path: &str| {
        Some(types::Spiffeid {
            trust_domain: "plant.test".to_owned(),
            path: path.to_owned(),
        })
    };
    let request = entry_api::BatchCreateEntryRequest {
        entries: vec![types::Entry {
            spiffe_id: id("/line4/hmi"),
            parent_id: id("/spire/agent/x509pop/gateway"),
            selectors: vec![types::Selector {
                r#type: "unix".to_owned(),
                value: "uid:1300".to_owned(),
            }],
            ..types::Entry::default()
        }],
        output_mask: None,
    };
    let socket = served.path("admin.sock");
    let answer = served.runtime.block_on(async {
        let connector = tower::service_fn(move |_: http::Uri| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let channel = tonic::transport::Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .unwrap();
        EntryClient::new(channel).batch_create_entry(request).await
    });
    let results = answer.unwrap().into_inner().results;
    let hmi = results[0].entry.clone().unwrap().id;
    served.stop();

    let changes: Vec<Value> = served
        .records()
        .into_iter()
        .filter(|record| record["type"] == "policy.changed")
        .collect();
    assert_eq!(changes.len(), 1, "{changes:?}");
    let detail = &changes[0]["detail"];
    assert_eq!(detail["entry"], made["id"]);
    assert_eq!(
        (&detail["class"], &detail["sponsor"], &detail["contract"]),
        (&json!("third-party"), &json!(jo), &json!("ACME 2026-17"))
    );
    let (_, found) = served.evidence(&["gaps"]);
    let gaps = found["gaps"].as_array().unwrap();
    let unclassed = gaps.iter().find(|gap| gap["kind"] == "no-class");
    let unclassed = unclassed.unwrap_or_else(|| panic!("{found}"));
    let records = served.records();
    let of_hmi = records
        .iter()
        .find(|record| record["type"] == "entry.created" && record["detail"]["entry"] == hmi);
    let named: Vec<&Value> = unclassed["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|at| &at["record"])
        .collect();
    assert_eq!(
        named,
        [&of_hmi.unwrap()["seq"]],
        "that one, and not the third party's"
    );
}

fn clause<'a>(mapping: &'a Value, id: &str) -> &'a Value {
    let clauses = mapping["mapping"]["clauses"].as_array().unwrap();
    let found = clauses.iter().find(|clause| clause["id"] == id);
    found.unwrap_or_else(|| panic!("{id}: {mapping}"))
}

#[test]
fn at_12_three_reports_render_and_without_the_records_of_a_drill_nothing_is_claimed_of_it() {
    let mut served = Served::new();
    served.stop();
    let page = served.text("page.html");
    for kind in ["resilience", "monitoring", "readiness"] {
        let (code, _) = served.evidence(&["report", kind, "--html", &page]);
        assert_eq!(code, 0, "{kind}");
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.contains("</html>"), "{kind}");
        fs::remove_file(&page).unwrap();
    }
    let claimed = |served: &Served| {
        let (_, report) = served.evidence(&["report", "readiness"]);
        clause(&report, "I7")["status"].clone()
    };
    assert_eq!(claimed(&served), "not evidenced");
    served.start(Arc::new(SystemClock));
    let address = served.address().to_owned();
    served.done(&[
        "selftest",
        "--address",
        &address,
        "--no-agent",
        "--reason",
        "the monthly drill",
    ]);
    served.stop();
    let status = claimed(&served);
    assert!(status.as_str().unwrap().starts_with("evidenced by "), "{status}");
    // Somebody takes the drill away: that it is gone is said, and nothing is claimed.
    let lines = Lines::of(&served);
    let of_the_drill = |line: &Vec<u8>| String::from_utf8_lossy(line).contains("\"type\":\"selftest.");
    let without: Vec<Vec<u8>> = lines
        .lines
        .iter()
        .filter(|line| !of_the_drill(line))
        .cloned()
        .collect();
    assert!(without.len() + 7 < lines.lines.len());
    lines.put(&without);
    let (code, _) = served.evidence(&["report", "readiness"]);
    assert_eq!(code, 1, "the ledger is not whole");
    assert_eq!(claimed(&served), "not evidenced");
}

#[test]
fn at_30_records_that_are_taken_away_lower_the_score_and_their_interval_is_named() {
    let served = with_forty();
    let (code, before) = served.evidence(&["gaps"]);
    assert_eq!((code, &before["quality"]["missing"]), (0, &json!(0)), "{before}");
    // One of 42 is more than two percent.
    let lines = Lines::of(&served);
    let mut without = lines.lines.clone();
    drop(without.remove(25));
    lines.put(&without);
    let (code, after) = served.evidence(&["gaps"]);
    assert_eq!((code, &after["quality"]["missing"]), (1, &json!(1)), "{after}");
    let score = |found: &Value| found["quality"]["score"].as_u64().unwrap();
    assert!(score(&after) + 30 <= score(&before), "{before}{after}");
    let gaps = after["gaps"].as_array().unwrap();
    let missing = gaps.iter().find(|gap| gap["kind"] == "missing").unwrap();
    assert_eq!(missing["records"][0]["record"], 25, "{missing}");
    let [from, to] = [24, 26].map(|at| serde_json::from_slice::<Value>(&lines.lines[at]).unwrap());
    assert_eq!((&missing["from"], &missing["to"]), (&from["time"], &to["time"]));
    // Nor does a pack of it pass for a whole one.
    let (pack, key) = (served.text("pack.zip"), served.text("kept-key"));
    served.evidence(&["pack", "--from", "2000-01-01", "--stage", "final", "-o", &pack]);
    let (code, out, err) = run(&["evidence", "verify", &pack, "--key", &key]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(format!("{out}{err}").contains("25"), "{out}{err}");
}

#[test]
fn at_33_every_clause_of_nis2_has_a_status_and_a_pack_verifies_with_nothing_but_the_key() {
    let served = with_forty();
    let (code, mapping) = served.evidence(&["map", "nis2"]);
    assert_eq!(code, 0);
    let clauses = mapping["mapping"]["clauses"].as_array().unwrap();
    for clause in clauses {
        let count = clause["count"].as_u64().unwrap();
        let expected = match count {
            0 => "not evidenced".to_owned(),
            1 => "evidenced by 1 record".to_owned(),
            many => format!("evidenced by {many} records"),
        };
        assert_eq!(clause["status"], expected, "{clause}");
    }
    let articles = [
        "20(1)", "21(2)(a)", "21(2)(b)", "21(2)(c)", "21(2)(d)", "21(2)(e)", "21(2)(f)", "21(2)(g)",
        "21(2)(h)", "21(2)(i)", "21(2)(j)", "23(4)(a)", "23(4)(b)", "23(4)(c)", "23(4)(d)", "23(4)(e)",
    ];
    for article in articles {
        clause(&mapping, article);
    }
    assert!(clause(&mapping, "21(2)(j)")["count"].as_u64() >= Some(40));
    let (pack, key) = (served.text("pack.zip"), served.text("kept-key"));
    served.evidence(&[
        "pack",
        "--from",
        "2000-01-01",
        "--stage",
        "notification",
        "-o",
        &pack,
    ]);
    // On another machine: the ledger is not there.
    fs::rename(served.path("data"), served.path("away")).unwrap();
    let (code, out, err) = run(&["evidence", "verify", &pack, "--key", &key]);
    assert_eq!(code, 0, "{out}{err}");
}
