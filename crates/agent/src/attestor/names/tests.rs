//! Names: cached, optional, and never waited for long.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;

/// Counts its calls; hangs while told to.
#[derive(Default)]
struct Fake {
    calls: AtomicU32,
    hang: AtomicBool,
}

impl NameService for Fake {
    fn user(&self, uid: u32) -> Option<String> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        while self.hang.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        match uid {
            1 => Some("bob".to_owned()),
            2 => Some("x\ny".to_owned()),
            _ => None,
        }
    }

    fn group(&self, gid: u32) -> Option<String> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (gid < 100).then(|| format!("g{gid}"))
    }
}

#[tokio::test]
async fn names_are_looked_up_once_a_minute() {
    let fake = Arc::new(Fake::default());
    let names = Names::with(fake.clone());
    let expected = Found {
        user: Some("bob".to_owned()),
        group: Some("g7".to_owned()),
        supplementary: vec!["g8".to_owned()],
        late: false,
    };
    assert_eq!(names.look_up(1, 7, vec![8, 100]).await, expected);
    assert_eq!(fake.calls.load(Ordering::SeqCst), 4);
    assert_eq!(names.look_up(1, 7, vec![8, 100]).await, expected);
    assert_eq!(fake.calls.load(Ordering::SeqCst), 4, "absence is remembered too");
}

#[tokio::test]
async fn a_name_that_would_break_a_log_line_is_no_name() {
    assert_eq!(
        Names::with(Arc::new(Fake::default()))
            .look_up(2, 7, vec![])
            .await
            .user,
        None
    );
}

#[tokio::test]
async fn a_hanging_name_service_costs_only_the_names_and_few_threads() {
    let fake = Arc::new(Fake::default());
    let names = Names::with(fake.clone());
    fake.hang.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let rounds = (0..20).map(|n| names.look_up(1, n, vec![]));
    let found = futures_util::future::join_all(rounds).await;
    let nothing = Found {
        late: true,
        ..Found::default()
    };
    assert!(found.iter().all(|found| *found == nothing));
    assert!(started.elapsed() < DEADLINE * 4, "waited {:?}", started.elapsed());
    assert!(fake.calls.load(Ordering::SeqCst) <= MAX_WAITING as u32);
    fake.hang.store(false, Ordering::SeqCst);
    crate::testing::until("the threads come back", || {
        names.slots.available_permits() == MAX_WAITING
    })
    .await;
    let found = names.look_up(1, 1, vec![]).await;
    assert_eq!((found.user.as_deref(), found.late), (Some("bob"), false));
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let names = Names::with(Arc::new(Fake::default()));
    for uid in 0..MAX_CACHED as u32 + 10 {
        names.look_up(uid, 1, vec![]).await;
    }
    assert!(lock(&names.cache).0.len() <= MAX_CACHED);
}

#[tokio::test]
async fn root_has_a_name_on_this_machine_too() {
    assert_eq!(
        Names::system().look_up(0, 0, vec![]).await.user.as_deref(),
        Some("root")
    );
}
