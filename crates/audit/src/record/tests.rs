//! What a record looks like, whatever is put into it.

use proptest::prelude::*;

use super::*;

fn record() -> Record {
    let actor = Actor::new(ActorClass::Person, Some("person:7".into()))
        .known_by("uid", 1000_u64)
        .known_by("loginuid", 1000_u64);
    Record {
        time: Some(UnixTime::from_secs(1_795_420_800)),
        time_quality: TimeQuality::Unconfirmed,
        subject: Some("spiffe://plant.test/line/4".into()),
        decision: Decision::Deny,
        reason: Some("the entry has ended".into()),
        result: Outcome::Refused,
        ..Record::new(Category::AccessControl, "svid.denied", actor)
    }
    .with("entry", "e1")
    .with("names", vec!["a".to_owned(), "b".to_owned()])
}

#[test]
fn a_record_is_one_line_with_sorted_members() {
    assert_eq!(
        String::from_utf8(record().encode(17)).unwrap(),
        concat!(
            r#"{"actor":{"class":"person","how":{"loginuid":1000,"uid":1000},"id":"person:7"},"category":"access-control","#,
            r#""decision":"deny","detail":{"entry":"e1","names":["a","b"]},"reason":"the entry has ended","result":"refused","#,
            r#""seq":17,"subject":"spiffe://plant.test/line/4","time":"2026-11-23T08:00:00Z","time_quality":"unconfirmed","#,
            r#""type":"svid.denied","v":1}"#
        )
    );
}

#[test]
fn long_text_is_cut_and_says_so() {
    let long = Record {
        reason: Some("\u{e4}".repeat(5000)),
        ..record()
    };
    let read: serde_json::Value = serde_json::from_slice(&long.encode(0)).unwrap();
    assert_eq!(read["reason"], format!("{}\u{2026}", "\u{e4}".repeat(1024)));
}

#[test]
fn one_that_is_too_long_altogether_is_cut_further_and_says_so() {
    let long = record().with("names", vec!["\u{202e}".repeat(5000); 500]);
    let bytes = long.encode(u64::MAX);
    assert!(bytes.len() <= MAX_RECORD_BYTES, "{}", bytes.len());
    let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(read["cut"], true);
    assert_eq!(read["subject"], "spiffe://plant.test/line/4");
}

#[test]
fn what_is_cut_keeps_every_member_and_what_it_is_found_by() {
    const NAMES: [&str; 50] = {
        let mut names = ["a"; 50];
        let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-+=";
        let mut at = 0;
        while at < 50 {
            names[at] = all.split_at(at).1.split_at(16).0;
            at += 1;
        }
        names
    };
    let chain = "5e".repeat(32);
    let full = |list: bool| {
        let mut long = record().with("seq", u64::MAX).with("z_chain", chain.clone());
        for name in NAMES {
            long = match list {
                true => long.with(name, vec!["\u{7f}".repeat(1000); 3]),
                false => long.with(name, "\u{202e}".repeat(1000)),
            };
        }
        long
    };
    for list in [true, false] {
        let bytes = full(list).encode(u64::MAX);
        assert!(bytes.len() <= MAX_RECORD_BYTES, "{}", bytes.len());
        let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&read["cut"], &read["seq"]), (&true.into(), &u64::MAX.into()));
        let detail = read["detail"].as_object().unwrap();
        assert_eq!(detail.len(), full(list).detail.len(), "every member is there");
        assert_eq!(
            (&detail["seq"], &detail["z_chain"]),
            (&u64::MAX.into(), &chain.clone().into())
        );
    }
    // What a process asked for does not take away who it was.
    let asked = record()
        .with("audience", vec!["\u{7f}".repeat(1000); 3])
        .with("to_path", "/usr/bin/historian".to_owned())
        .with("to_pid", 7_u64);
    let read: serde_json::Value = serde_json::from_slice(&asked.encode(1)).unwrap();
    assert_eq!(read["cut"], true);
    assert_eq!(
        (&read["detail"]["to_path"], &read["detail"]["to_pid"]),
        (&"/usr/bin/historian".into(), &7.into())
    );
}

#[test]
fn nothing_from_elsewhere_ends_a_line_or_turns_it() {
    let bad = Record {
        reason: Some("a\r\n\u{1b}[2J\u{7f}\u{85}\u{202e}\u{2028}\u{feff}\"\\z".into()),
        ..record()
    };
    let text = String::from_utf8(bad.encode(0)).unwrap();
    assert!(
        text.contains(r#""a\u000d\u000a\u001b[2J\u007f\u0085\u202e\u2028\ufeff\"\\z""#),
        "{text}"
    );
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read["reason"], bad.reason.unwrap());
}

proptest! {
    #[test]
    fn whatever_is_in_it_it_is_one_line_of_json_that_fits(texts in prop::collection::vec(any::<String>(), 6), many in 0..300_usize, sequence: u64) {
        let record = Record {
            subject: Some(texts[0].repeat(9)),
            target: Some(texts[1].repeat(many)),
            approval: Some(texts[2].clone()),
            reason: Some(texts[3].repeat(many)),
            ..record()
        }
        .with("names", vec![texts[4].repeat(many); many]);
        let bytes = record.encode(sequence);
        prop_assert!(bytes.len() <= MAX_RECORD_BYTES);
        let text = std::str::from_utf8(&bytes).unwrap();
        prop_assert!(!text.contains(char::is_control));
        let read: serde_json::Value = serde_json::from_str(text).unwrap();
        prop_assert_eq!(&read["seq"], sequence);
        // Sorted, and nothing that can be left out is in it.
        prop_assert_eq!(read.as_object().unwrap().keys().collect::<Vec<_>>(), { let mut keys: Vec<_> = read.as_object().unwrap().keys().collect(); keys.sort(); keys });
    }
}
