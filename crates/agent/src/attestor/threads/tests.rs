//! Work that hangs.

use std::sync::mpsc;

use futures_util::future::join_all;

use super::*;

/// Work that ends when the sender is gone.
fn hanging() -> (mpsc::Sender<()>, impl Fn() -> Box<dyn FnOnce() + Send>) {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let work = move || -> Box<dyn FnOnce() + Send> {
        let gate = Arc::clone(&gate);
        Box::new(move || assert!(gate.lock().unwrap().recv().is_err()))
    };
    (release, work)
}

/// Time stands still while a thread is at work, so it is moved by hand.
async fn patience_ends() {
    tokio::task::yield_now().await;
    tokio::time::advance(PATIENCE * 2).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_work_that_hangs_runs_out_of_threads_and_nobody_else_does() {
    let threads = Threads::new();
    let (release, work) = hanging();
    let hung = (0..PER_UID).map(|_| threads.run(1, work()));
    let (hung, ()) = tokio::join!(join_all(hung), patience_ends());
    assert!(hung.iter().all(Result::is_err));
    let (his, ()) = tokio::join!(threads.run(1, || ()), patience_ends());
    assert!(his.is_err(), "none is left for him");
    assert!(threads.run(2, || ()).await.is_ok());
    assert_eq!(threads.all.available_permits(), TOTAL - PER_UID);
    drop(release);
    assert!(
        threads.run(1, || ()).await.is_ok(),
        "they come back with the answer"
    );
}

#[tokio::test]
async fn users_without_work_are_forgotten() {
    let threads = Threads::new();
    for uid in 0..1000 {
        threads.run(uid, || ()).await.unwrap();
    }
    assert!(threads.own.lock().unwrap().len() <= 2);
}
