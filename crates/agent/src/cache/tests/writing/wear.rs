//! Bytes and calls over days: flash wears (issue 6, 20 MB a day with 20 entries).

use landfast_store::{Contents, Files};
use std::fs::File;

use super::*;
use crate::cache::tests::away::token;
use crate::entry::Entry;
use crate::keeper::rungs::{Ladder, Rung};

/// No room for what is as large as the tokens: all else finds some. With the last, the next reading panics.
#[derive(Debug)]
pub(super) struct NoRoomForTokens(
    pub(super) FaultyFiles,
    pub(super) Arc<AtomicBool>,
    pub(super) Arc<AtomicBool>,
);

impl Files for NoRoomForTokens {
    fn read(&self, name: &str, limit: u64) -> std::io::Result<Option<Contents>> {
        assert!(!self.2.swap(false, Ordering::SeqCst), "as the test wants it");
        self.0.read(name, limit)
    }

    fn create_temp(&self, name: &str) -> std::io::Result<File> {
        let refused = name.starts_with(".tokens.") && self.1.load(Ordering::SeqCst);
        let file = self.0.create_temp(name)?;
        match refused {
            true => Err(ErrorKind::StorageFull.into()),
            false => Ok(file),
        }
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write(file, bytes)
    }

    fn sync(&self, file: &File) -> std::io::Result<()> {
        self.0.sync(file)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }

    fn link(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.link(from, to)
    }

    fn sync_dir(&self) -> std::io::Result<()> {
        self.0.sync_dir()
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }
}

/// The clock stands while the disk is at work.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn names() -> Vec<String> {
    (0..20).map(|number| format!("workload-{number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn tokens_that_find_no_room_do_not_have_the_indexes_written_again_and_again() {
    let running = Running::start();
    running.full.store(true, Ordering::SeqCst);
    let snapshot = holding(&running.world.ca, &["a"]);
    running.publish(&snapshot);
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    running.tokens.restore(vec![token(&running.world.ca, "a")]);
    pass(330).await;
    let told = running.says(|complaint| !complaint.is_empty()).await;
    assert!(told.contains("tokens"), "{told}");
    let before = running.renames();
    pass(300).await;
    assert!(running.renames() - before <= 2, "{}", running.renames() - before);
    // Another entry reaches the disk all the same.
    let more = holding(&running.world.ca, &["a", "b"]);
    running.publish(&more);
    until("it is on disk", || running.held() == Some(keys(&more))).await;
    running.full.store(false, Ordering::SeqCst);
    let begin = tokio::time::Instant::now();
    running.says(str::is_empty).await;
    assert!(begin.elapsed() <= Duration::from_secs(10));
    let world = running.end().await;
    assert_eq!(world.open().1.image.unwrap().tokens.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nor_does_a_file_that_cannot_be_removed() {
    let running = Running::start();
    running.publish(&holding(&running.world.ca, &["a", "b"]));
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    pass(10).await;
    running
        .script
        .break_down(Verb::Remove, ErrorKind::PermissionDenied);
    let after = holding(&running.world.ca, &["b"]);
    running.publish(&after);
    running.says(|complaint| !complaint.is_empty()).await;
    assert_eq!(running.held(), Some(keys(&after)), "it is of no entry");
    let before = running.renames();
    pass(300).await;
    assert!(running.renames() - before <= 2, "{}", running.renames() - before);
    running.script.mend();
    running.says(str::is_empty).await;
    assert_eq!(running.svids(), 1);
    running.end().await;
}

/// The aim is 20 MB a day with 20 entries. Each of them has tokens for five receivers, renewed every three minutes.
#[tokio::test(start_paused = true)]
async fn a_day_of_twenty_entries_with_tokens_stays_within_the_aim() {
    let running = Running::start();
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut snapshot = holding(&running.world.ca, &names);
    running.publish(&snapshot);
    running.hear();
    let mut without_tokens = 0;
    for day in 0..2 {
        for minute in 0..24 * 60 {
            for (number, name) in names.iter().enumerate() {
                if (minute + 3 * number) % 30 == 0 {
                    let fresh = holding(&running.world.ca, &[name]).held[*name].clone();
                    Arc::make_mut(&mut snapshot.held).insert((*name).into(), fresh);
                }
            }
            if day == 1 && minute % 3 == 0 {
                running
                    .tokens
                    .restore(tokens_of(&running.world.ca, &names, minute));
            }
            running.publish(&snapshot);
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if day == 0 {
            without_tokens = running.script.written();
        }
    }
    let tokens = running.script.written() - 2 * without_tokens;
    let text = format!("{without_tokens} bytes, {tokens} more for tokens");
    assert!(tokens > 1_000_000, "they reach the disk: {text}");
    assert!(tokens < 5_200_000, "{text}");
    assert!(without_tokens + tokens < 8_000_000, "{text}");
    running.end().await;
}

/// One of the reserve, that begins after so many half hours.
fn rung(ca: &Ca, name: &str, number: i64) -> Arc<Rung> {
    let begins = 1800 * number;
    let svid = ca.svid(&id(&format!("/{name}")), at(begins), at(begins + 3600));
    Arc::new(Rung::new(&svid, 0, NOON))
}

/// In blocks, as a file system without compression has it; what it writes of its own (journal, directories) comes on top.
fn blocks(bytes: u64, files: u64) -> u64 {
    // On average the last block of a file is half full.
    bytes + files * 4096 / 2
}

/// The aim is 20 MB a day, with 72 hours in reserve as well: each half hour, each entry is renewed, has one rung more, and one that is spent goes.
#[tokio::test(start_paused = true)]
async fn a_day_of_twenty_entries_with_a_reserve_of_three_days_stays_within_the_aim() {
    let running = Running::start();
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ca = &running.world.ca;
    let mut snapshot = holding(ca, &names);
    running.publish(&snapshot);
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    let (begun, renames) = (running.script.written(), running.renames() as u64);
    // As a server signs them: three or four of each entry at a time.
    for batch in 0..48 {
        for name in &names {
            let ladders = Arc::make_mut(&mut snapshot.rungs);
            let ladder = ladders.entry((*name).into()).or_default();
            let more = (3 * batch..3 * batch + 3).map(|number| rung(ca, name, number));
            *ladder = Arc::new(Ladder::new(ladder.rungs().iter().cloned().chain(more).collect()));
        }
        running.publish(&snapshot);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    pass(60).await;
    let first = (
        running.script.written() - begun,
        running.renames() as u64 - renames,
    );
    let (begun, renames) = (running.script.written(), running.renames() as u64);
    for minute in 0..24 * 60 {
        for (number, name) in names.iter().enumerate() {
            if (minute + 3 * number) % 30 == 0 {
                let half_hour = i64::try_from(minute / 30).unwrap();
                let fresh = ca.svid(
                    &id(&format!("/{name}")),
                    at(1800 * half_hour),
                    at(1800 * half_hour + 3600),
                );
                let held = Arc::new(Held::new(fresh, 0, at(1800 * half_hour)));
                Arc::make_mut(&mut snapshot.held).insert((*name).into(), held);
                let ladders = Arc::make_mut(&mut snapshot.rungs);
                let ladder = ladders.get_mut(*name).unwrap();
                // What ended an hour ago is spent.
                let spent = half_hour - 4;
                let stay = ladder
                    .rungs()
                    .iter()
                    .filter(|rung| rung.window().begins > at(1800 * spent));
                let more = rung(ca, name, 144 + half_hour);
                *ladder = Arc::new(Ladder::new(stay.cloned().chain([more]).collect()));
            }
        }
        running.publish(&snapshot);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let day = (
        running.script.written() - begun,
        running.renames() as u64 - renames,
    );
    let text = format!(
        "filled: {} bytes in {} files, {} in blocks; a day: {} bytes in {} files, {} in blocks",
        first.0,
        first.1,
        blocks(first.0, first.1),
        day.0,
        day.1,
        blocks(day.0, day.1)
    );
    tracing::info!("{text}");
    assert!(
        first.1 > 20 * 144 && day.1 > 20 * 48,
        "they reach the disk: {text}"
    );
    assert!(blocks(day.0, day.1) < 15_000_000, "{text}");
    assert!(blocks(first.0, first.1) < 20_000_000, "{text}");
    running.end().await;
}

/// As long as signed ones, and each time others.
fn tokens_of(ca: &Ca, names: &[&str], minute: usize) -> Vec<(Key, Token)> {
    let (_, model) = token(ca, "a");
    let each = names.iter().flat_map(|name| {
        let model = &model;
        ["one", "two", "three", "four", "five"].map(|receiver| {
            let token = Token {
                text: format!("{}{minute:04}", &*model.text).into(),
                id: id(&format!("/{name}")),
                ..model.clone()
            };
            (Key::new((*name).into(), &[receiver.to_owned()]), token)
        })
    });
    each.collect()
}

/// Entries that come and go, such as those of short jobs, with each of the others having five tokens more bytes of which are `large`. Answers what was
/// written in so many days.
async fn come_and_go(running: &Running, stay: &Snapshot, days: f64, large: usize) -> u64 {
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    running.publish(stay);
    running.hear();
    until("it is on disk", || running.held() == Some(keys(stay))).await;
    let with_guest = {
        let guest = holding(&running.world.ca, &["guest"]);
        let mut with = stay.clone();
        let entries = stay.entries.iter().chain(guest.entries.iter()).cloned();
        with.entries = Arc::new(EntryIndex::new(entries.collect::<Vec<_>>()));
        Arc::make_mut(&mut with.held).insert("guest".into(), guest.held["guest"].clone());
        with
    };
    let before = running.script.written();
    for time in 0..(days * 720.0) as usize {
        running.publish(&with_guest);
        pass(60).await;
        running.publish(stay);
        let mut tokens = tokens_of(&running.world.ca, &names, time);
        for (_, token) in &mut tokens {
            token.text = format!("{}{}", &*token.text, "x".repeat(large)).into();
        }
        running.tokens.restore(tokens);
        pass(60).await;
        if time % 5 == 0 {
            let held = running.held().unwrap();
            assert!(!held.contains_key("guest"), "the {time}th time");
        }
    }
    running.script.written() - before
}

/// With an index of some size: of what is small there may be more.
fn holding_much(ca: &Ca) -> Snapshot {
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut much = holding(ca, &names);
    let large = much.entries.iter().map(|entry| {
        let hint = "x".repeat(1000);
        Arc::new(Entry {
            hint,
            ..Entry::clone(entry)
        })
    });
    much.entries = Arc::new(EntryIndex::new(large.collect::<Vec<_>>()));
    much
}

#[tokio::test(start_paused = true)]
async fn a_day_of_entries_that_come_and_go_is_within_its_share_and_their_keys_go_at_once() {
    let running = Running::start();
    let stay = holding_much(&running.world.ca);
    let bytes = come_and_go(&running, &stay, 1.0, 0).await;
    assert!(bytes < 16_000_000, "{bytes}");
    running.end().await;
}

/// They go with each entry that goes, and are many times as large as an index.
#[tokio::test(start_paused = true)]
async fn tokens_that_are_taken_away_with_entries_are_written_again_within_their_share() {
    let running = Running::start();
    let stay = holding_much(&running.world.ca);
    let bytes = come_and_go(&running, &stay, 0.5, 2000).await;
    // Half of what a day has for both, and what may be written at once.
    assert!(bytes < 10_000_000, "{bytes}");
    running.end().await;
}
