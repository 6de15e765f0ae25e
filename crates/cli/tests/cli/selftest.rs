//! `landfast selftest` against a real server.

use serde_json::{Value, json};

use super::served::Served;

#[test]
fn what_must_be_refused_is_refused_and_recorded() {
    let mut served = Served::new();
    let address = served.address().to_owned();
    let selftest = |address: &str| served.landfast(&["selftest", "--address", address, "--no-agent"]);
    let (code, out, err) = selftest(&address);
    assert_eq!(code, 0, "{out}{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let tries = found["tries"].as_array().unwrap();
    assert_eq!((tries.len(), &found["good"]), (7, &json!(true)), "{found}");
    let answers = [
        ("foreign-domain", "TLS alert: Certificate"),
        ("forged-authority", "TLS alert: Certificate"),
        ("replayed-token", "already been used"),
        ("unattested-caller", "denied"),
        ("workload-as-node", "denied"),
        ("workload-as-operator", "denied"),
        ("expired-svid", "TLS alert: Certificate"),
    ];
    for (tried, (name, answer)) in tries.iter().zip(answers) {
        assert_eq!(tried["name"], name, "{found}");
        assert_eq!(tried["outcome"], "refused", "{found}");
        assert!(tried["answer"].as_str().unwrap().contains(answer), "{tried}");
    }

    // Nobody answers there: that is no refusal.
    let (code, out, _) = selftest("127.0.0.1:1");
    assert_eq!((code, out.as_str()), (1, ""));

    served.stop();
    let all = served.records();
    let of = |kind: &str| -> Vec<&Value> {
        let of_it = |record: &&Value| record["type"].as_str().unwrap().starts_with(kind);
        all.iter().filter(of_it).collect()
    };
    // What the tries need is marked as theirs.
    for kind in ["token.made", "node.evicted"] {
        let made = of(kind);
        assert_eq!(
            (made.len(), &made[0]["reason"]),
            (1, &json!("selftest")),
            "{kind}"
        );
    }
    let records = of("selftest.");
    assert_eq!(records.len(), 8, "{out}");
    let done = records.last().unwrap();
    assert_eq!(
        (done["type"].as_str(), &done["detail"]["let_through"]),
        (Some("selftest.done"), &json!(0))
    );
    assert!(
        records[..7].iter().all(|record| record["decision"] == "deny"),
        "{out}"
    );
}
