//! Coming from SPIRE with the binary as an operator uses it: `landfast migrate spire` and `landfast entry import`.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]
#![expect(clippy::disallowed_methods, reason = "a test's own files")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const TOKEN_NODE: &str = "spiffe://dev.test/spire/agent/join_token/old";

fn landfast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfast"));
    command
        .args(args)
        .env_remove("SPIFFE_ENDPOINT_SOCKET")
        .env_remove("LANDFAST_SERVER_SOCKET")
        .env_remove("LANDFAST_AGENT_ADMIN_SOCKET")
        .stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn run(args: &[&str]) -> (i32, String, String) {
    outcome(landfast(args).output().unwrap())
}

/// Runs a shell script under `landfast dev`; its directory is `$DIR`.
fn under_dev(dir: &Path, script: &str) -> (i32, String, String) {
    let output = landfast(&["dev", "--", "sh", "-ec", script])
        .env("LANDFAST", env!("CARGO_BIN_EXE_landfast"))
        .env("XDG_RUNTIME_DIR", dir)
        .env("DIR", dir)
        .output();
    outcome(output.unwrap())
}

/// As `spire-server entry show -output json` prints an entry.
fn shown(id: &str, path: &str, parent: &str) -> Value {
    let id_of = |text: &str| {
        let (trust_domain, path) = text.strip_prefix("spiffe://").unwrap().split_once('/').unwrap();
        json!({"trust_domain": trust_domain, "path": format!("/{path}")})
    };
    json!({
        "id": id, "spiffe_id": id_of(&format!("spiffe://dev.test{path}")), "parent_id": id_of(parent),
        "selectors": [{"type": "unix", "value": "uid:7"}], "x509_svid_ttl": 90, "jwt_svid_ttl": 0, "federates_with": [],
        "admin": false, "downstream": false, "expires_at": "1900000000", "dns_names": ["x.dev.test"], "revision_number": "4",
        "store_svid": false, "hint": "h", "created_at": "1700000000",
    })
}

fn write_entries(dir: &Path, name: &str, entries: &[Value]) {
    let file = json!({"entries": entries, "next_page_token": ""});
    fs::write(dir.join(name), file.to_string()).unwrap();
}

#[test]
fn entries_of_spire_are_created_once_and_keep_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let mut foreign = shown("far", "/far", "spiffe://dev.test/node");
    foreign["spiffe_id"]["trust_domain"] = "other.test".into();
    let mut federated = shown("fed", "/fed", "spiffe://dev.test/node");
    federated["federates_with"] = json!(["peer.test"]);
    let mut bad_hint = shown("bad", "/bad", "spiffe://dev.test/node");
    bad_hint["hint"] = "\u{1}".into();
    let mut alias = shown("alias", "/node", TOKEN_NODE);
    alias["selectors"] = json!([{"type": "spiffe_id", "value": TOKEN_NODE}]);
    let entries = [
        shown("one", "/one", "spiffe://dev.test/node"),
        shown("two", "/two", TOKEN_NODE),
        foreign,
        federated,
        bad_hint,
        alias,
        json!({"spiffe_id": 7}),
    ];
    write_entries(dir.path(), "entries.json", &entries);
    let script = r#"
        lf() { "$LANDFAST" "$@"; }
        map="--map-parent spiffe://dev.test/spire/agent/join_token/old=spiffe://dev.test/new"
        lf entry import "$DIR/entries.json" $map --dry-run --output json >"$DIR/dry" 2>"$DIR/dry.err" && exit 11
        lf entry show one 2>/dev/null && exit 12
        lf entry import "$DIR/entries.json" $map --output json >"$DIR/first" 2>"$DIR/first.err" && exit 13
        lf entry show one --output json >"$DIR/one"
        lf entry show two --output json >"$DIR/two"
        lf entry import - $map <"$DIR/entries.json" >"$DIR/second" 2>"$DIR/second.err" && exit 14
        lf bundle show >"$DIR/peer.pem"
        lf bundle set --trust-domain peer.test "$DIR/peer.pem" >&2
        lf entry update two --x509-ttl 5m >/dev/null
        lf entry import "$DIR/entries.json" $map --output json >"$DIR/third" 2>/dev/null && exit 15
        exit 0
    "#;
    let (code, out, err) = under_dev(dir.path(), script);
    assert_eq!(code, 0, "{out}\n{err}");
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let value = |name: &str| serde_json::from_str::<Value>(&text(name)).unwrap();
    let ids = |told: &Value| -> Vec<String> {
        told.as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    // The hint's character is the server's to judge; all else is known before.
    let (dry, first) = (value("dry"), value("first"));
    assert_eq!(
        (ids(&dry["created"]), &dry["dry_run"]),
        (vec!["one".into(), "two".into(), "bad".into()], &json!(true))
    );
    assert_eq!(ids(&first["created"]), ["one", "two"]);
    assert_eq!(first["left_out"][0]["entry"], 6);
    let refused: Vec<&Value> = first["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["entry"])
        .collect();
    assert_eq!(refused, [&json!(3), &json!(4), &json!(5), &json!(7)]);
    assert!(
        first["refused"][0]["why"]
            .as_str()
            .unwrap()
            .contains("spiffe://other.test/far"),
        "{first}"
    );
    assert!(
        first["refused"][1]["hint"]
            .as_str()
            .unwrap()
            .contains("landfast bundle set --trust-domain peer.test"),
        "{first}"
    );
    assert_eq!(
        first["unknown_parents"],
        json!(["spiffe://dev.test/new", "spiffe://dev.test/node"])
    );
    assert!(
        text("first.err").contains("error: 4 of 7 entries were refused\nhint: "),
        "{}",
        text("first.err")
    );
    let one = value("one");
    for (field, expected) in [
        ("x509_svid_ttl", json!(90)),
        ("hint", json!("h")),
        ("dns_names", json!(["x.dev.test"])),
        ("selectors", json!(["unix:uid:7"])),
        ("expires_at", json!("2030-03-17T17:46:40Z")),
        ("parent_id", json!("spiffe://dev.test/node")),
    ] {
        assert_eq!(one[field], expected, "{field}");
    }
    assert_eq!(value("two")["parent_id"], "spiffe://dev.test/new");
    assert_eq!(
        text("second"),
        "created 0, already there 2, left out 1, refused 4\n"
    );
    let said = text("second.err");
    for part in [
        "refused: entry 3 of the file",
        "left out: entry 6 of the file",
        "warning: no node and no alias is spiffe://dev.test/new",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let third = value("third");
    assert_eq!(ids(&third["created"]), ["fed"]);
    assert_eq!(third["already_there"][1]["differs"], true);
}

#[test]
fn more_entries_than_one_call_takes_are_imported() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<Value> = (0..250)
        .map(|number| {
            json!({
                "entry_id": format!("e{number}"), "spiffe_id": format!("spiffe://dev.test/w/{number}"), "parent_id": "spiffe://dev.test/spire/server",
                "selectors": [{"type": "x509pop", "value": format!("serialnumber:{number}")}], "ttl": 60, "entryExpiry": 1_900_000_000,
            })
        })
        .collect();
    write_entries(dir.path(), "data.json", &entries);
    let script = r#"
        "$LANDFAST" entry import "$DIR/data.json"
        "$LANDFAST" entry show e249 | grep -q '60 s'
        "$LANDFAST" entry import "$DIR/data.json" --map-parent spiffe://dev.test/typo=spiffe://dev.test/x
    "#;
    let (code, out, err) = under_dev(dir.path(), script);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(
        out.contains("created 250, already there 0, left out 0, refused 0\n"),
        "{out}"
    );
    assert!(
        out.contains("created 0, already there 250, left out 0, refused 0\n"),
        "{out}"
    );
    assert!(
        err.contains("warning: no entry has the parent spiffe://dev.test/typo"),
        "{err}"
    );
    assert!(!err.contains("no node and no alias"), "{err}");
}

#[test]
fn power_over_the_server_is_imported_only_when_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut admin = shown("adm", "/adm", "spiffe://dev.test/node");
    admin["admin"] = true.into();
    let mut below = shown("low", "/low", "spiffe://dev.test/node");
    below["downstream"] = true.into();
    write_entries(
        dir.path(),
        "entries.json",
        &[admin, below, shown("one", "/one", "spiffe://dev.test/node")],
    );
    let script = r#"
        lf() { "$LANDFAST" "$@"; }
        lf entry import "$DIR/entries.json" --dry-run >"$DIR/dry" 2>"$DIR/dry.err" && exit 11
        lf entry import "$DIR/entries.json" >"$DIR/first" 2>"$DIR/first.err" && exit 12
        lf entry show adm 2>/dev/null && exit 13
        lf entry show low 2>/dev/null && exit 14
        lf entry show one >/dev/null || exit 15
        lf entry import "$DIR/entries.json" --allow-privileged >"$DIR/second" 2>"$DIR/second.err" || exit 16
        lf entry show adm >/dev/null && lf entry show low >/dev/null || exit 17
        exit 0
    "#;
    let (code, out, err) = under_dev(dir.path(), script);
    assert_eq!(code, 0, "{out}\n{err}");
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    for name in ["dry.err", "first.err"] {
        let told = text(name);
        for part in [
            "entry 1 of the file (spiffe://dev.test/adm)",
            "(admin)",
            "entry 2",
            "(downstream)",
            "--allow-privileged",
        ] {
            assert!(told.contains(part), "{name}: {told}");
        }
    }
    let told = text("second.err");
    assert!(
        told.contains("privileged: entry 1 of the file (spiffe://dev.test/adm)"),
        "{told}"
    );
}

#[test]
fn what_is_no_list_of_entries_is_refused_before_anybody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.json");
    for text in ["", "[]", "{\"entries\": 1}", "Found 0 entries"] {
        fs::write(&file, text).unwrap();
        let (code, out, err) = run(&[
            "--server-socket",
            "/nonexistent",
            "entry",
            "import",
            file.to_str().unwrap(),
        ]);
        assert_eq!((code, out.as_str()), (1, ""), "{text}");
        assert!(
            err.contains("x.json") && err.contains("hint: the JSON of spire-server entry show"),
            "{err}"
        );
    }
    let (code, _, err) = run(&["entry", "import", "x", "--map-parent", "spiffe://a.test/x"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("OLD=NEW"), "{err}");
}

#[test]
fn a_configuration_is_migrated_checked_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("server.conf");
    let text = "server {\n trust_domain = \"$MIGRATED_DOMAIN\"\n ca_ttl = \"48h\"\n ca_subject { common_name = \"x\" }\n}\nplugins { NodeAttestor \"join_token\" {} }\n";
    fs::write(&conf, text).unwrap();
    let (conf, out_dir) = (conf.to_str().unwrap(), dir.path().join("out"));
    let args = [
        "migrate",
        "spire",
        "--config",
        conf,
        "--output-dir",
        out_dir.to_str().unwrap(),
        "--expand-env",
    ];
    let migrate = |more: &[&str]| {
        let mut command = landfast(&args);
        outcome(
            command
                .args(more)
                .env("MIGRATED_DOMAIN", "plant.test")
                .output()
                .unwrap(),
        )
    };
    let (code, out, err) = migrate(&[]);
    assert_eq!(code, 0, "{err}");
    let made = out_dir.join("server.toml");
    assert_eq!(out, format!("written: {}\n", made.display()));
    assert!(
        err.contains(&format!(
            "unmapped: {conf}:4: server.ca_subject.common_name = \"x\": "
        )),
        "{err}"
    );
    assert!(!err.contains("not ready to start"), "{err}");
    let (code, _, err) = run(&["server", "check", made.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = migrate(&[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("there already\nhint: --force"), "{err}");
    let (code, out, err) = migrate(&["--force", "--output", "json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        told["files"]["server.toml"].as_str().unwrap(),
        fs::read_to_string(&made).unwrap()
    );
    assert_eq!(told["unmapped"][0]["at"], format!("{conf}:4"));
    assert!(!told["notes"].as_array().unwrap().is_empty());
    // Without the variable, and without the option.
    let (code, _, err) = run(&args);
    assert_eq!(code, 1);
    assert!(
        err.contains("server.conf:2: the environment has no MIGRATED_DOMAIN"),
        "{err}"
    );
    let (code, _, err) = run(&args[..4]);
    assert_eq!(code, 1);
    assert!(err.contains("hint: --expand-env"), "{err}");
}

#[test]
fn a_configuration_can_come_and_go_by_pipe() {
    let mut child = landfast(&["migrate", "spire", "--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let conf = "agent { trust_domain = \"a.test\" server_address = \"s.test\" server_port = 8081 }";
    child.stdin.take().unwrap().write_all(conf.as_bytes()).unwrap();
    let (code, out, err) = outcome(child.wait_with_output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("server = [\"s.test:8081\"]"), "{out}");
}
