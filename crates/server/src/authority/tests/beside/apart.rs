//! Two servers that do not know the same: by clocks that differ, by parents of which one lags, by a parent that one cannot reach.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_is_behind_makes_no_root_known_earlier() {
    let pair = Pair::apart(60).await;
    let old = root_of(&pair.a).await;
    pair.parent.change(|state| {
        state.roots[0].0.tainted = true;
        state.roots.push(root());
    });
    pair.turn(&pair.b).await;
    pair.pass(1);
    pair.turn(&pair.a).await;
    assert!(root_of(&pair.a).await == old && root_of(&pair.b).await == old);
    // An operator's clock that leaps makes nothing known either.
    pair.clock.step(40);
    pair.tick(&pair.a).await;
    let prepared = pair.a.authorities.standing(Kind::X509).await.unwrap().prepared;
    let activate = Order::Activate(Kind::X509, prepared.unwrap().id);
    let now = pair.clock.now().unwrap();
    let early = pair.a.authorities.order(&activate, now).await;
    assert!(matches!(early, Err(OrderError::TooEarly { .. })), "{early:?}");
    pair.clock.step(-40);
    pair.pass(30);
    pair.turn(&pair.b).await;
    pair.turn(&pair.a).await;
    assert!(root_of(&pair.a).await != old && root_of(&pair.b).await != old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_server_signs_no_more_under_a_root_that_was_tainted_either() {
    let pair = Pair::new().await;
    pair.parent.change(|state| {
        state.roots[0].0.tainted = true;
        state.roots.push(root());
    });
    pair.turn(&pair.a).await;
    pair.pass(31);
    pair.turn(&pair.a).await;
    pair.turn(&pair.a).await;
    pair.all_is_well().await;
    pair.a.authorities.lend_no_longer();
    pair.turn(&pair.a).await;
    assert!(
        pair.b.authorities.active_x509().is_none(),
        "it would be replaced at once"
    );
    assert!(pair.b.authorities.active_jwt().is_some());
    assert!(pair.verifies(&pair.a, &pair.b).await);
    pair.turn(&pair.b).await;
    pair.all_is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_lags_does_not_undo_what_the_other_server_has_heard() {
    let pair = Pair::new().await;
    let at = |sequence| pair.parent.change(|state| state.sequence = Some(sequence));
    at(8);
    for core in pair.both() {
        pair.turn(core).await;
        pair.pass(5);
        pair.turn(core).await;
    }
    let roots = || pair.b.authorities.bundle().x509_authorities().len();
    pair.parent.change(|state| state.roots.push(root()));
    at(9);
    pair.turn(&pair.a).await;
    assert_eq!(roots(), 2);
    // The second server's parent has not heard of it.
    let new = pair.parent.change(|state| state.roots.pop()).unwrap();
    at(8);
    pair.turn(&pair.b).await;
    assert_eq!(roots(), 2);
    // Nor does the first one believe it when it is led there.
    pair.turn(&pair.a).await;
    assert_eq!(roots(), 2);
    pair.parent.change(|state| state.roots.push(new));
    at(9);
    pair.pass(5);
    for core in pair.both() {
        pair.turn(core).await;
        assert_eq!(roots(), 2);
    }
    // One that was put back says so for longer.
    pair.parent.change(|state| state.roots.pop());
    at(7);
    pair.turn(&pair.b).await;
    assert_eq!(roots(), 2);
    pair.pass(5);
    pair.turn(&pair.b).await;
    assert_eq!(roots(), 1);
    pair.all_is_well().await;
}
