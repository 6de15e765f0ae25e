//! A ledger of a server's core, looked at by the program.

use std::path::Path;
use std::sync::Arc;

use landfast_identity::{PrivateKey, SpiffeId, TrustDomain};
use landfast_lifecycle::SystemClock;
use landfast_server::issuance::Requester;
use landfast_server::{Core, CoreParams};

use crate::run;

/// Three SVIDs by hand; gives the checkpoint from before the third.
fn ledger(data: &Path) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let td = TrustDomain::parse("plant.test").unwrap();
        let open = || {
            Core::open(CoreParams {
                data_dir: Some(data.to_owned()),
                ..CoreParams::in_memory(td.clone(), Arc::new(SystemClock))
            })
        };
        let who = Requester::local(1000, None);
        let mut kept = String::new();
        for names in [&["/a", "/b"][..], &["/c"]] {
            let core = open().await.unwrap();
            for name in names {
                let id = SpiffeId::from_parts(&td, name).unwrap();
                let key = PrivateKey::generate().unwrap().public_key();
                core.issuer.mint_x509(&who, &id, &[], None, &key).await.unwrap();
            }
            drop(core);
            if kept.is_empty() {
                kept = std::fs::read_to_string(data.join("ledger/checkpoint")).unwrap();
            }
        }
        kept
    })
}

#[test]
fn a_ledger_is_verified_searched_and_exported() {
    let parent = tempfile::tempdir().unwrap();
    let (data, kept) = (parent.path().join("data"), parent.path().join("kept"));
    put(&kept, ledger(&data).as_bytes());
    let dir = data.join("ledger");
    let (dir, kept) = (dir.to_str().unwrap(), kept.to_str().unwrap());
    let (code, key, _) = run(&["audit", "key", dir]);
    assert_eq!(code, 0);
    let (key, key_file) = (key.trim(), format!("{dir}/verifier-key"));
    assert!(key.starts_with("plant.test/landfast/ledger/"), "{key}");

    for given in [key, &key_file] {
        let (code, out, err) = run(&["audit", "verify", dir, "--key", given, "--checkpoint", kept]);
        assert_eq!(code, 0, "{out}{err}");
        assert!(out.contains("good: every record is as it was signed"), "{out}");
        assert!(out.contains("1 of 1 kept checkpoints"), "{out}");
    }
    let (_, out, _) = run(&["audit", "export", dir, "--type", "svid", "--actor", "uid:1000"]);
    assert_eq!(out.lines().count(), 3, "{out}");
    let (_, out, _) = run(&["audit", "export", dir, "--subject", "spiffe://plant.test/b"]);
    let second: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let (_, out, _) = run(&["audit", "search", dir, "--subject", "spiffe://plant.test/b"]);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.contains("uid 1000") && out.contains("svid.issued"), "{out}");
    let (_, out, _) = run(&["audit", "tail", dir, "-n", "1", "--output", "json"]);
    let last: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(last[0]["type"], "log.stopped");

    // Somebody turns the second identity into another.
    let bundle = find(&data.join("ledger/tile/entries/000.p"));
    let bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(8).position(|part| part == b"test/b\",").unwrap();
    let mut edited = bytes.clone();
    edited[at + 5] = b'x';
    put(&bundle, &edited);
    let (code, out, _) = run(&["audit", "verify", dir, "--key", key]);
    assert_eq!(code, 1);
    assert!(
        out.contains("NOT as it was signed") && out.contains("edit"),
        "{out}"
    );
    let (code, out, _) = run(&["audit", "verify", dir, "--key", key, "--output", "json"]);
    assert_eq!(code, 1);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["good"], false);
    assert_eq!(report["report"]["findings"][0]["kind"], "edit");
    assert_eq!(report["report"]["findings"][0]["record"], second["seq"]);

    let (code, _, err) = run(&["audit", "verify", dir, "--key", &key.replace("plant", "plont")]);
    assert_eq!(code, 1);
    assert!(err.contains("whose ID") && err.contains("hint:"), "{err}");
    let (code, _, err) = run(&["audit", "search", parent.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(err.contains("checkpoint"), "{err}");
}

fn put(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// The widest of the partial bundles.
fn find(dir: &Path) -> std::path::PathBuf {
    let width = |entry: &std::fs::DirEntry| entry.file_name().to_str().unwrap().parse::<u32>().unwrap();
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.max_by_key(width).unwrap().path()
}
