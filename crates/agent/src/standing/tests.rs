//! What is said of a node, in words.

use landfast_identity::SpiffeId;

use super::*;
use crate::entry::EntryIndex;
use crate::keeper::rungs::{Ladder, Rung};
use crate::keeper::state::Held;
use crate::testing::{Ca, NOON, at, entry, id};

/// Two identities, which end after one and after 42 hours.
fn held() -> Arc<Snapshot> {
    let ca = Ca::new("one");
    let of = |name: &str, hours: i64| {
        let svid = ca.svid(&id(&format!("/{name}")), at(-60), at(3600 * hours));
        (Arc::from(name), Arc::new(Held::new(svid, 0, NOON)))
    };
    let entries = ["a", "b"].map(|name| Arc::new(entry(name, &format!("/{name}"), &["unix:uid:1"])));
    Arc::new(Snapshot {
        entries: Arc::new(EntryIndex::new(entries)),
        held: Arc::new([of("a", 1), of("b", 42)].into_iter().collect()),
        bundle: Some(Arc::new(ca.bundle())),
        synced_at: Some(at(-60)),
        round_over: true,
        ..Snapshot::default()
    })
}

/// The same with rungs for the first of them, each of two hours, until the 41st.
fn reserved() -> Arc<Snapshot> {
    let ca = Ca::new("one");
    let rungs = (0..40).map(|hour| {
        let svid = ca.svid(&id("/a"), at(3600 * hour), at(3600 * (hour + 2)));
        Arc::new(Rung::new(&svid, 0, NOON))
    });
    let ladder = Arc::new(Ladder::new(rungs.collect()));
    Arc::new(Snapshot {
        rungs: Arc::new([(Arc::from("a"), ladder)].into_iter().collect()),
        ..Snapshot::clone(&held())
    })
}

#[tokio::test(start_paused = true)]
async fn a_reserve_is_part_of_what_an_island_has_and_a_debt_from_its_first_rung_on() {
    let (snapshot, mut watch) = (reserved(), Watch::new(true));
    let report = watch.look(&snapshot, &status(Phase::Serving, ""), Some(NOON));
    assert_eq!(report.text, "connected");
    assert_eq!(
        (report.reserve.rungs, report.reserve.debt),
        (40, Some(at(3600 * 41)))
    );
    let debt = report.reserve.in_words("sealed");
    assert_eq!(
        debt,
        format!(
            "40 unspent SVIDs of 1 identities, the last until {}; sealed",
            at(3600 * 41)
        )
    );
    let mut watch = Watch::new(true);
    let refused = status(Phase::Disconnected, "connection refused");
    let report = watch.look(&snapshot, &refused, Some(NOON));
    assert_eq!(
        report.text,
        format!(
            "islanded: on its own since {}, reserve for 41 h (until {})",
            at(-60),
            at(3600 * 41)
        )
    );
    assert_eq!(report.first_ends, Some(at(3600 * 41)));
    // None of them that is spent counts.
    let report = watch.look(&snapshot, &refused, Some(at(3600 * 39)));
    assert_eq!(report.reserve.rungs, 2);
    let report = watch.look(&snapshot, &refused, Some(at(3600 * 41)));
    assert_eq!((report.reserve.rungs, report.reserve.debt), (0, None));
    assert_eq!(report.reserve.in_words("sealed"), "");
}

fn status(phase: Phase, error: &str) -> LinkStatus {
    LinkStatus {
        phase,
        last_error: error.to_owned(),
        last_sync: Some(at(-60)),
        agent_id: SpiffeId::parse("spiffe://plant.test/spire/agent/a").ok(),
        ..LinkStatus::new()
    }
}

#[tokio::test(start_paused = true)]
async fn an_island_says_for_how_long_it_lasts() {
    let (snapshot, mut watch) = (held(), Watch::new(true));
    let refused = status(Phase::Disconnected, "connection refused");
    let report = watch.look(&snapshot, &status(Phase::Starting, ""), Some(NOON));
    assert_eq!(report.standing, Standing::Degraded, "nobody has tried yet");
    let report = watch.look(&snapshot, &refused, Some(NOON));
    assert_eq!(report.standing, Standing::Islanded);
    assert_eq!(report.valid_until, Some(at(3600 * 42)));
    assert_eq!(
        report.text,
        format!(
            "islanded: on its own since {}, valid until {} (42 h), the first until {} (60 min)",
            at(-60),
            at(3600 * 42),
            at(3600)
        )
    );
    let report = watch.look(&snapshot, &refused, Some(at(3600)));
    assert_eq!(report.standing, Standing::Islanded);
    assert!(
        report.text.ends_with("(41 h); 1 of 2 have nothing valid"),
        "{}",
        report.text
    );
    let report = watch.look(&snapshot, &refused, Some(at(3600 * 42)));
    assert_eq!(report.standing, Standing::Exhausted);
    assert!(
        report.text.contains("nothing of the 2 identities"),
        "{}",
        report.text
    );
    let report = watch.look(&snapshot, &status(Phase::Serving, ""), Some(at(3600 * 42)));
    assert_eq!(report.text, "connected");
}

#[tokio::test(start_paused = true)]
async fn a_node_with_nothing_from_before_is_starting_and_a_short_failure_is_no_island() {
    let mut watch = Watch::new(false);
    let nothing = Arc::new(Snapshot::default());
    let report = watch.look(
        &nothing,
        &status(Phase::Attesting, "connection refused"),
        Some(NOON),
    );
    assert_eq!(report.standing, Standing::Starting);
    watch.look(&held(), &status(Phase::Serving, ""), Some(NOON));
    let snapshot = held();
    let failing = status(Phase::Disconnected, "reset");
    assert_eq!(
        watch.look(&snapshot, &failing, Some(NOON)).standing,
        Standing::Degraded
    );
    tokio::time::advance(PATIENCE).await;
    assert_eq!(
        watch.look(&snapshot, &failing, Some(at(300))).standing,
        Standing::Islanded
    );
    let timeless = watch.look(&snapshot, &failing, None);
    assert_eq!(timeless.standing, Standing::Exhausted, "{timeless:?}");
}

#[test]
fn what_is_left_is_said_in_one_unit() {
    let said = [1, 119, 120, 7199, 7200, 41 * 3600 + 59, 2 * 86_400];
    let said = said.map(|secs| in_words(Duration::from_secs(secs)));
    assert_eq!(
        said,
        ["1 s", "119 s", "2 min", "119 min", "2 h", "41 h", "2 days"]
    );
}
