//! Numbers without a hole, whatever happens to a journal.

use proptest::prelude::*;

use super::*;
use crate::journal::event::{DENIED, HANDED_OUT, STARTED};

const LIMIT: usize = 16 << 10;

fn at() -> Moment {
    Moment {
        time: UnixTime::from_secs(1_900_000_000),
        quality: "confirmed",
    }
}

fn journal() -> Journal {
    Journal::new("0123456789abcdef0123456789abcdef".to_owned(), LIMIT)
}

fn add(journal: &mut Journal, kind: &'static str) {
    journal.add(&Event::new(kind).with("text", "x".repeat(100)), at());
}

/// What the numbers from the base on are, as a server would count them.
fn sum(journal: &Journal) -> u64 {
    let (mut next, mut chain, mut sum) = (journal.base.0, journal.base.1, 0);
    for item in &journal.items {
        assert_eq!((item.first, item.prev), (next, chain), "a hole");
        sum += match &item.body {
            Body::Record { line, .. } => {
                assert_eq!((item.last, sha256(line)), (item.first, item.chain));
                1
            }
            Body::Gap(counts) => {
                let counted: u64 = counts.values().sum();
                assert_eq!(counted, item.last - item.first + 1);
                counted
            }
        };
        (next, chain) = (item.last + 1, item.chain);
    }
    assert_eq!(next, journal.next());
    sum
}

#[derive(Clone, Debug)]
enum Act {
    Add(usize),
    Count(u64),
    Acknowledge(u64),
    Write,
    Restart,
    Anew,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_usize..3).prop_map(Act::Add),
        2 => (1_u64..9).prop_map(Act::Count),
        1 => (0_u64..100).prop_map(Act::Acknowledge),
        1 => Just(Act::Write),
        1 => Just(Act::Restart),
        1 => Just(Act::Anew),
    ]
}

proptest! {
    /// What was noted is what was acknowledged, held and counted: nothing is missing, and nothing is there twice.
    #[test]
    fn nothing_is_missing_whatever_is_done(acts in proptest::collection::vec(act(), 1..300)) {
        let mut journal = journal();
        let (mut noted, mut acknowledged) = (0, 0);
        for act in acts {
            match act {
                Act::Add(kind) => {
                    add(&mut journal, [DENIED, HANDED_OUT, STARTED][kind]);
                    noted += 1;
                }
                Act::Count(number) => {
                    journal.count(HANDED_OUT, number);
                    noted += number;
                }
                Act::Acknowledge(of_hundred) => {
                    let before = journal.waiting();
                    let next = journal.base.0 + before * of_hundred / 100;
                    let last = journal.items.iter().rfind(|item| item.last < next);
                    let chain = last.map_or(journal.base.1, |item| item.chain);
                    // An answer that ends within a count leaves that whole.
                    let next = last.map_or(journal.base.0, |item| item.last + 1);
                    let meant = journal.acknowledge(next, &chain, "a ledger");
                    prop_assert!(matches!(meant, Answered::Dropped(_)));
                    acknowledged += before - journal.waiting();
                }
                Act::Write => journal.is_written(),
                Act::Restart => {
                    let (read, damage) = Journal::parse(&journal.file(), LIMIT);
                    prop_assert_eq!(damage, None);
                    let read = read.unwrap();
                    prop_assert_eq!(&read.items, &journal.items);
                    journal = read;
                }
                Act::Anew => {
                    let before = journal.waiting();
                    journal = journal.anew("f".repeat(32), "a test", at());
                    // The record that says so.
                    noted += 1;
                    prop_assert_eq!(journal.waiting(), before + 1);
                }
            }
            if journal.is_full() {
                journal.make_room();
                prop_assert!(!journal.is_full());
            }
            prop_assert_eq!(sum(&journal), journal.waiting());
            prop_assert_eq!(noted, acknowledged + journal.waiting());
        }
    }

    /// Whatever is in the file, reading it ends, and what is taken has no hole.
    #[test]
    fn a_file_with_anything_changed_is_told_or_holds_nothing_else(place in 0_usize..4000, to in any::<u8>()) {
        let mut journal = journal();
        for kind in [STARTED, DENIED, HANDED_OUT, DENIED, STARTED] {
            add(&mut journal, kind);
        }
        journal.count(DENIED, 3);
        add(&mut journal, STARTED);
        let mut bytes = journal.file();
        let place = place % bytes.len();
        prop_assume!(bytes[place] != to);
        bytes[place] = to;
        let (read, damage) = Journal::parse(&bytes, LIMIT);
        if let Some(read) = &read {
            sum(read);
        }
        let is_whole = read.is_some_and(|read| read.items.len() == journal.items.len() && damage.is_none());
        // The last line has none behind it that would contradict; of the head the name may be another, and of a count the types: its number may not.
        let gap = String::from_utf8_lossy(&journal.file()).find("{\"chain\"").unwrap();
        let last = bytes.len() - journal.items.back().unwrap().line().len() - 1;
        let head = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        prop_assert!(!is_whole || place >= gap.min(last) || place <= head, "{place}");
    }
}

#[test]
fn the_lowest_class_goes_first_and_is_counted() {
    let mut journal = journal();
    add(&mut journal, STARTED);
    let mut noted = 1;
    while !journal.is_full() {
        for kind in [HANDED_OUT, DENIED] {
            add(&mut journal, kind);
            noted += 1;
        }
    }
    journal.make_room();
    let of = |journal: &Journal, class: Class| {
        journal
            .items
            .iter()
            .filter(|item| item.class() == Some(class))
            .count()
    };
    assert!(of(&journal, Class::Denial) < of(&journal, Class::HandOut));
    assert_eq!(of(&journal, Class::State), 1);
    assert_eq!((sum(&journal), journal.next()), (noted, noted));
    // On and on: what is left in the end are counts, and the newest.
    for _ in 0..10_000 {
        add(&mut journal, DENIED);
        add(&mut journal, HANDED_OUT);
        if journal.is_full() {
            journal.make_room();
        }
    }
    noted += 20_000;
    assert_eq!((sum(&journal), journal.next()), (noted, noted));
    assert_eq!(
        of(&journal, Class::State),
        1,
        "what the node says of itself stays"
    );
    let file = journal.file().len();
    assert!(file < LIMIT + LIMIT / 2, "{file}");
}

#[test]
fn only_what_the_server_has_is_forgotten() {
    let mut journal = journal();
    for _ in 0..5 {
        add(&mut journal, DENIED);
    }
    let chain = journal.items[2].chain;
    assert_eq!(journal.acknowledge(3, &[1; 32], "a"), Answered::Contradicts);
    assert_eq!(journal.acknowledge(6, &chain, "a"), Answered::Contradicts);
    assert_eq!(journal.waiting(), 5);
    assert_eq!(journal.acknowledge(3, &chain, "a"), Answered::Dropped(3));
    assert_eq!((journal.waiting(), journal.acknowledged_by.as_str()), (2, "a"));
    assert_eq!(
        journal.acknowledge(2, &chain, "b"),
        Answered::Dropped(0),
        "an old answer"
    );
    assert_eq!(journal.batch(10, 1 << 20).len(), 2);
    let (read, damage) = Journal::parse(&journal.file(), LIMIT);
    assert_eq!(damage, None);
    assert_eq!(read.unwrap().next(), 5);
}

#[test]
fn a_line_that_was_being_written_when_the_power_went_is_none() {
    let mut journal = journal();
    for _ in 0..3 {
        add(&mut journal, STARTED);
    }
    let file = journal.file();
    let (read, damage) = Journal::parse(&file[..file.len() - 20], LIMIT);
    assert_eq!((read.unwrap().next(), damage), (2, None));
    let mut holed = file.clone();
    let first = file.iter().position(|byte| *byte == b'\n').unwrap();
    let second = first + 1 + file[first + 1..].iter().position(|byte| *byte == b'\n').unwrap();
    holed.drain(first..second);
    let (read, damage) = Journal::parse(&holed, LIMIT);
    assert_eq!(read.unwrap().next(), 0);
    assert_eq!(damage.unwrap().line, 2);
}

/// Else a server refuses it, and all that follow, for ever.
#[test]
fn a_line_that_no_server_takes_is_damage() {
    let mut journal = journal();
    add(&mut journal, STARTED);
    for (length, damage) in [(LONGEST_LINE, None), (LONGEST_LINE + 1, Some(3))] {
        let line = format!(
            r#"{{"v":1,"seq":1,"prev":"{}","type":"agent.started","detail":{{"version":""}}}}"#,
            hex(&journal.head())
        );
        let line = line.replace("\"\"", &format!("\"{}\"", "x".repeat(length - line.len())));
        assert_eq!(line.len(), length);
        let file = [journal.file(), line.into_bytes(), b"\n".to_vec()].concat();
        let (read, found) = Journal::parse(&file, LIMIT);
        assert_eq!(found.map(|damage| damage.line), damage);
        let read = read.unwrap();
        assert_eq!(read.next(), if damage.is_none() { 2 } else { 1 });
        // Under another name and number it is counted, when it is longer then.
        let mut long = Journal::new("0".repeat(32), LIMIT);
        long.count(HANDED_OUT, 10_000);
        for item in read.items {
            if let Body::Record { class, line } = item.body {
                long.take_over(class, &line);
            }
        }
        assert_eq!(sum(&long), long.waiting());
        assert!(
            long.batch(9, 1 << 20)
                .iter()
                .all(|line| line.len() <= LONGEST_LINE)
        );
    }
}

#[test]
fn no_record_is_longer_than_a_server_takes() {
    let mut journal = journal();
    let long = "\u{1}".repeat(9000);
    let list = vec![long.clone(); 64];
    let event = Event::new(DENIED)
        .with("a", long)
        .with("b", list.clone())
        .with("to", json!({"selectors": list}));
    journal.add(&event, at());
    let line = journal.batch(1, 1).remove(0);
    assert!(line.len() <= LONGEST_LINE, "{}", line.len());
    assert!(!line.contains(&b'\n'));
}
