//! The keeper's task: what it does with time and with its queue.

use std::sync::Arc;

use landfast_lifecycle::{Clock as _, SimClock};

use super::*;
use crate::testing::{Ca, NOON, at, entry, selectors, td};
use state::Issued;

#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
fn start(
    clock: SharedClock,
) -> (
    KeeperHandle,
    Views,
    CancellationToken,
    tokio::task::JoinHandle<Result<(), Infallible>>,
) {
    let views = Views::new(&td());
    let (keeper, handle) = Keeper::new(views.clone(), clock);
    let stop = CancellationToken::new();
    (handle, views, stop.clone(), tokio::spawn(keeper.run(stop)))
}

#[tokio::test(start_paused = true)]
async fn an_svid_is_withdrawn_in_time_without_any_event() {
    let clock = SimClock::new(NOON);
    let (keeper, views, stop, task) = start(Arc::new(clock.clone()));
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let orders = keeper.tell(Event::Synced(ca.synced(vec![a.clone()]))).await;
    assert_eq!(orders.len(), 1);
    let outcome = Ok(ca.svid(&a.spiffe_id, NOON, at(600)));
    assert!(
        keeper
            .tell(Event::Issued(vec![Issued {
                entry_id: a.id,
                revision: 0,
                outcome
            }]))
            .await
            .is_empty()
    );
    let mut view = views.watch(&selectors(&["unix:uid:1"]), Some(NOON));
    assert_eq!(view.borrow_and_update().x509.len(), 1);
    view.changed().await.unwrap();
    assert!(view.borrow().x509.is_empty());
    let now = clock.now().unwrap();
    assert!((at(600)..=at(601)).contains(&now), "{now}");
    stop.cancel();
    task.await.unwrap().unwrap();
}

/// Who writes what is on disk must not take for a part of it what came while he was not running.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a test's tasks are joined by the test")]
async fn what_comes_after_the_rest_is_not_in_the_answer_to_it() {
    let ca = Ca::new("one");
    let views = Views::new(&td());
    let (keeper, handle) = Keeper::new(views.clone(), Arc::new(SimClock::new(NOON)));
    let stop = CancellationToken::new();
    let (one, two) = (handle.clone(), handle);
    let adopted = tokio::spawn(async move { one.adopt(Rest::default()).await });
    let synced = Event::Synced(ca.synced(vec![entry("a", "/a", &["unix:uid:1"])]));
    let told = tokio::spawn(async move { two.tell(synced).await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    // Both are waiting: whoever is answered first runs when both have been heard.
    let task = tokio::spawn(keeper.run(stop.clone()));
    let adopted = adopted.await.unwrap().expect("it is taken");
    assert_eq!(views.snapshot().entries.len(), 1);
    assert_eq!(adopted.entries.len(), 0);
    told.await.unwrap();
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_clock_is_noticed_within_a_minute() {
    let clock = SimClock::new(NOON);
    let (keeper, views, stop, task) = start(Arc::new(clock.clone()));
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    keeper.tell(Event::Synced(ca.synced(vec![a.clone()]))).await;
    let outcome = Ok(ca.svid(&a.spiffe_id, NOON, at(86_400)));
    keeper
        .tell(Event::Issued(vec![Issued {
            entry_id: a.id,
            revision: 0,
            outcome,
        }]))
        .await;
    let mut view = views.watch(&selectors(&["unix:uid:1"]), Some(NOON));
    assert_eq!(view.borrow_and_update().x509.len(), 1);
    clock.step(90_000);
    let started = tokio::time::Instant::now();
    view.changed().await.unwrap();
    assert!(started.elapsed() <= LONGEST_NAP);
    assert!(view.borrow().x509.is_empty());
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_time_of_day_what_was_served_is_taken_back_until_there_is_one() {
    let clock = SimClock::new(NOON);
    let (keeper, views, stop, task) = start(Arc::new(clock.clone()));
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    keeper.tell(Event::Synced(ca.synced(vec![a.clone()]))).await;
    let outcome = Ok(ca.svid(&a.spiffe_id, NOON, at(86_400)));
    keeper
        .tell(Event::Issued(vec![Issued {
            entry_id: a.id,
            revision: 0,
            outcome,
        }]))
        .await;
    let view = views.watch(&selectors(&["unix:uid:1"]), Some(NOON));
    assert_eq!(view.borrow().x509.len(), 1);
    clock.set_absent(true);
    assert!(keeper.tell(Event::RoundOver).await.is_empty());
    assert!(view.borrow().x509.is_empty());
    clock.set_absent(false);
    keeper.tell(Event::RoundOver).await;
    assert_eq!(view.borrow().x509.len(), 1);
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_the_end_nobody_waits_for_an_answer() {
    let (keeper, _, stop, task) = start(Arc::new(SimClock::new(NOON)));
    stop.cancel();
    task.await.unwrap().unwrap();
    assert!(keeper.tell(Event::Tick).await.is_empty());
}
