//! How urgent changes are, and what a day of them wears.

use super::*;
use crate::cache::tests::holding;
use crate::entry::EntryIndex;
use crate::testing::{Ca, NOON, at, entry, id};
use landfast_identity::{Bundle, X509Authority};

#[test]
fn a_change_is_as_urgent_as_what_it_takes_away() {
    let ca = Ca::new("one");
    let before = holding(&ca, &["a", "b"]);
    let with = |change: &dyn Fn(&mut Snapshot)| {
        let mut after = before.clone();
        change(&mut after);
        Change::between(&before, &after, &before.rungs)
    };
    let entries = |names: &[&str]| {
        let made = names
            .iter()
            .map(|name| Arc::new(entry(name, &format!("/{name}"), &["unix:uid:1"])));
        Arc::new(EntryIndex::new(made))
    };
    assert_eq!(with(&|_| {}), Change::Nothing);
    assert_eq!(
        with(&|after| after.entries = entries(&["a", "b"])),
        Change::Nothing,
        "the same, parsed again"
    );
    assert_eq!(
        with(&|after| after.entries = entries(&["a", "b", "c"])),
        Change::New
    );
    assert_eq!(with(&|after| after.entries = entries(&["a"])), Change::Gone);
    let changed = |change: &dyn Fn(&mut Entry)| {
        with(&|after| {
            let mut other = entry("a", "/a", &["unix:uid:1"]);
            other.revision += 1;
            change(&mut other);
            let other = [other, entry("b", "/b", &["unix:uid:1"])];
            after.entries = Arc::new(EntryIndex::new(other.map(Arc::new)));
        })
    };
    let others = entry("a", "/a", &["unix:uid:2"]).selectors;
    assert_eq!(changed(&|entry| entry.selectors = others.clone()), Change::Gone);
    assert_eq!(changed(&|entry| entry.spiffe_id = id("/c")), Change::Gone);
    assert_eq!(changed(&|entry| entry.created_at += 1), Change::Gone);
    assert_eq!(changed(&|entry| entry.expires_at = Some(at(60))), Change::Gone);
    assert_eq!(changed(&|entry| entry.privileged = true), Change::Gone);
    assert_eq!(changed(&|entry| entry.hint = "other".to_owned()), Change::New);
    assert_eq!(changed(&|entry| entry.on_demand = true), Change::New);
    assert_eq!(changed(&|_| {}), Change::New);
    let renewed = |life| {
        let svid = ca.svid(&id("/a"), NOON, at(life));
        with(&|after| {
            let held = Arc::new(Held::new(Arc::clone(&svid), 0, NOON));
            Arc::make_mut(&mut after.held).insert("a".into(), held);
        })
    };
    assert_eq!(renewed(3600), Change::Renewed(Duration::from_secs(3600)));
    let one = before.bundle.as_ref().unwrap();
    let tainted = one.x509_authorities().iter().cloned();
    let tainted = tainted.map(|one| X509Authority { tainted: true, ..one });
    let bundle = Bundle::clone(one)
        .with_x509_authorities(tainted.collect())
        .unwrap();
    let tainted = Snapshot {
        bundle: Some(Arc::new(bundle)),
        ..before.clone()
    };
    let mut after = tainted.clone();
    let held = Arc::new(Held::new(Ca::new("two").svid(&id("/a"), NOON, at(3600)), 0, NOON));
    Arc::make_mut(&mut after.held).insert("a".into(), held);
    assert_eq!(
        Change::between(&tainted, &after, &tainted.rungs),
        Change::New,
        "in place of a tainted one"
    );
    let changed = with(&|after| {
        let held = Arc::new(Held::new(ca.svid(&id("/a"), NOON, at(3600)), 1, NOON));
        Arc::make_mut(&mut after.held).insert("a".into(), held);
    });
    assert_eq!(changed, Change::New, "of a changed entry");
    assert!(Change::Renewed(Duration::MAX) < Change::New && Change::New < Change::Gone);
    assert!(Change::Gone < Change::Withdrawn);
}

#[tokio::test(start_paused = true)]
async fn renewals_wait_for_each_other_and_what_is_taken_away_waits_for_nobody() {
    let start = Instant::now();
    let secs = |secs| start + Duration::from_secs(secs);
    let mut plan = Plan::default();
    plan.note(start, Change::Nothing);
    assert_eq!(plan.due(), None);
    let hour = Change::Renewed(Duration::from_secs(3600));
    plan.note(start, hour);
    plan.note(secs(100), hour);
    assert_eq!(plan.due(), Some(secs(300)), "the first sets the time");
    plan.note(secs(100), Change::New);
    assert_eq!(plan.due(), Some(secs(101)));
    assert!(plan.begin(secs(101)), "both places");
    assert_eq!(plan.due(), None);
    plan.note(secs(102), Change::New);
    assert_eq!(plan.due(), Some(secs(106)), "not at once again");
    plan.note(secs(103), Change::Withdrawn);
    assert_eq!(plan.due(), Some(secs(103)));
    assert!(plan.begin(secs(103)), "both places");
    plan.failed(secs(104), true);
    assert_eq!(plan.due(), Some(secs(109)));
    plan.note(secs(105), hour);
    assert_eq!(plan.due(), Some(secs(109)));
    assert!(plan.begin(secs(109)), "still both");
    plan.note(secs(110), hour);
    assert!(!plan.begin(secs(410)), "a renewal alone wears one place");
}

/// As many entries as make an index of so many bytes, and something new every ten seconds: what a day of that writes.
async fn news(index: u64) -> (u64, Duration) {
    let start = Instant::now();
    let (mut plan, mut bytes, mut longest) = (Plan::default(), 0, Duration::ZERO);
    for ten in 0..8640 {
        let now = start + Duration::from_secs(10 * ten);
        plan.note(now, Change::New);
        longest = longest.max(plan.due().map_or(Duration::ZERO, |due| due - now));
        if plan.due().is_some_and(|due| due <= now) {
            plan.begin(now);
            plan.wore(now, 2 * index);
            bytes += 2 * index;
        }
        plan.note(now, Change::Nothing);
    }
    (bytes, longest)
}

#[tokio::test(start_paused = true)]
async fn a_day_of_news_wears_no_more_than_its_share() {
    let (bytes, longest) = news(40_000).await;
    assert!((9_000_000..11_000_000).contains(&bytes), "{bytes}");
    assert!(longest < Duration::from_secs(900), "{longest:?}");
    // The largest does not wait for days.
    let (_, longest) = news(16_000_000).await;
    assert!(longest <= NEW_LONGEST, "{longest:?}");
    // A few are on disk within seconds.
    let (now, mut plan) = (Instant::now() + DAY, Plan::default());
    for number in 0..4 {
        let now = now + 60 * Duration::from_secs(number);
        plan.note(now, Change::New);
        assert_eq!(plan.due(), Some(now + BURST));
        plan.begin(now);
        plan.wore(now, 80_000);
    }
    // What is trusted no longer waits for nobody; of what is gone the keys do not.
    plan.wore(now, 16_000_000);
    let mut other = Plan {
        worn_until: Some(now + 2 * DAY),
        last: Some(now + DAY),
        ..Plan::default()
    };
    other.note(now + DAY, Change::Gone);
    assert!(other.due().is_some_and(|due| due > now + DAY));
    assert!(other.takes_away() && !other.takes_away());
    plan.note(now + DAY, Change::Withdrawn);
    assert_eq!(plan.due(), Some(now + DAY));
}

#[tokio::test(start_paused = true)]
async fn a_day_of_renewals_is_few_writes() {
    let start = Instant::now();
    let mut plan = Plan::default();
    let mut writes = 0;
    // 20 entries of an hour each: one renewal every 90 seconds.
    for minute in 0..(24 * 60) {
        let now = start + Duration::from_secs(60 * minute);
        plan.note(now, Change::Renewed(Duration::from_secs(3600)));
        if plan.due().is_some_and(|due| due <= now) {
            plan.begin(now);
            writes += 1;
        }
    }
    assert!((200..=300).contains(&writes), "{writes}");
}
