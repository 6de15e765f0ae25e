//! A clock that leaps costs no token.

use super::*;

/// While the server is away there is no other.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
async fn a_clock_that_leaps_for_a_while_costs_no_token() {
    let world = World::new();
    let stop = CancellationToken::new();
    let task = tokio::spawn(world.cache.clone().keep_clean(Views::new(&td()), stop.clone()));
    let token = world.fresh();
    world.get(&["a"], Ok(token.clone())).await.unwrap();
    for _ in 0..3 {
        world.clock.set(at(60 * 3600));
        tokio::time::sleep(KEEP_OVER - 2 * CLEAN_EVERY).await;
        assert!(world.get(&["a"], Err("the server is away".into())).await.is_err());
        world.clock.set(at(100));
        tokio::time::sleep(2 * CLEAN_EVERY).await;
        let again = world.get(&["a"], Err("the server is away".into())).await;
        assert_eq!(again.unwrap().text, token.text);
    }
    stop.cancel();
    task.await.unwrap().unwrap();
}

/// Also for as long as it would have lived, and on disk as well.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
async fn a_clock_that_is_ahead_for_hours_costs_no_token_that_lives_longer() {
    let world = World::new();
    let stop = CancellationToken::new();
    let task = tokio::spawn(world.cache.clone().keep_clean(Views::new(&td()), stop.clone()));
    let token = Token {
        expires_at: at(8 * 3600),
        ..world.fresh()
    };
    world.get(&["a"], Ok(token.clone())).await.unwrap();
    world.clock.set(at(60 * 3600));
    tokio::time::sleep(Duration::from_secs(7 * 3600)).await;
    assert_eq!(world.cache.held().len(), 1);
    world.clock.set(at(7 * 3600));
    let again = world.get(&["a"], Err("the server is away".into())).await;
    assert_eq!(again.unwrap().text, token.text);
    stop.cancel();
    task.await.unwrap().unwrap();
}
