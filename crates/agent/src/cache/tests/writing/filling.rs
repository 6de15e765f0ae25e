//! What must not be in memory only for long: a reserve that has just been filled, and that a token is worth nothing any more.

use landfast_identity::JwtAuthority;

use super::*;
use crate::cache::tests::away::token;
use crate::keeper::rungs::{Ladder, Rung};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// A server signs 64 at once, which of many entries are a few each.
#[tokio::test(start_paused = true)]
async fn a_reserve_of_many_entries_is_on_disk_within_a_minute_of_its_filling() {
    let running = Running::start();
    let names: Vec<String> = (0..20).map(|number| format!("workload-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut snapshot = holding(&running.world.ca, &names);
    running.publish(&snapshot);
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    let before = running.renames();
    for batch in 0..4 {
        for name in &names {
            let svid = |number: i64| {
                let begin = 1800 * (3 * batch + number);
                let svid = running
                    .world
                    .ca
                    .svid(&id(&format!("/{name}")), at(begin), at(begin + 3600));
                Arc::new(Rung::new(&svid, 0, NOON))
            };
            let ladders = Arc::make_mut(&mut snapshot.rungs);
            let ladder = ladders.entry((*name).into()).or_default();
            let all = ladder.rungs().iter().cloned().chain((0..3).map(svid));
            *ladder = Arc::new(Ladder::new(all.collect()));
        }
        running.publish(&snapshot);
        pass(1).await;
    }
    pass(60).await;
    let found = running.found().unwrap().snapshot;
    let rungs: usize = found.rungs.values().map(|ladder| ladder.rungs().len()).sum();
    assert_eq!(rungs, 20 * 12);
    // With each rung's own, few: an index for each batch would wear the flash.
    assert!(
        running.renames() - before <= 20 * 12 + 2,
        "{}",
        running.renames() - before
    );
    running.end().await;
}

/// With long-lived SVIDs four rungs are days.
#[tokio::test(start_paused = true)]
async fn a_short_reserve_is_on_disk_within_a_minute_and_a_rung_more_may_wait() {
    let running = Running::start();
    let mut snapshot = holding(&running.world.ca, &["a"]);
    running.publish(&snapshot);
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    let mut fill = |numbers: std::ops::Range<i64>| {
        let more = numbers.map(|number| {
            let begin = at(1800 * number);
            let end = at(1800 * number + 3600);
            Arc::new(Rung::new(&running.world.ca.svid(&id("/a"), begin, end), 0, NOON))
        });
        let ladders = Arc::make_mut(&mut snapshot.rungs);
        let ladder = ladders.entry("a".into()).or_default();
        let all = ladder.rungs().iter().cloned().chain(more);
        *ladder = Arc::new(Ladder::new(all.collect()));
        running.publish(&snapshot);
    };
    let on_disk = || {
        let found = running.found().unwrap().snapshot;
        found
            .rungs
            .values()
            .map(|ladder| ladder.rungs().len())
            .sum::<usize>()
    };
    fill(0..1);
    pass(1).await;
    fill(1..4);
    pass(60).await;
    assert_eq!(on_disk(), 4);
    fill(4..5);
    pass(60).await;
    assert_eq!(on_disk(), 4, "flash wears");
    pass(1800).await;
    assert_eq!(on_disk(), 5);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn tokens_of_a_tainted_key_leave_the_disk_with_the_index_that_says_so() {
    let running = Running::start();
    let with = |tainted| {
        let authority = JwtAuthority {
            key_id: "kid".to_owned(),
            public_key: running.world.ca.public_key(),
            expires_at: None,
            tainted,
        };
        let mut snapshot = holding(&running.world.ca, &["a"]);
        let bundle = Bundle::clone(snapshot.bundle.as_ref().unwrap());
        snapshot.bundle = Some(Arc::new(bundle.with_jwt_authorities(vec![authority]).unwrap()));
        snapshot
    };
    let tokens = || running.found().map_or(0, |image| image.tokens.len());
    running.publish(&with(false));
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    running.tokens.restore(vec![token(&running.world.ca, "a")]);
    pass(330).await;
    until("the token is", || tokens() == 1).await;
    running.publish(&with(true));
    pass(5).await;
    let found = running.found().unwrap();
    assert!(found.snapshot.bundle.as_ref().unwrap().jwt_authorities()[0].tainted);
    assert_eq!(found.tokens.len(), 0);
    running.end().await;
}
