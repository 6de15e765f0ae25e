//! How trees end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn failed(result: Result<(), TreeError>) -> (String, String) {
    match result.unwrap_err() {
        TreeError::Task { name, source } => (name, error_chain(&source)),
        other @ TreeError::Unfinished { .. } => panic!("{other}"),
    }
}

/// Bounded in simulated time, so that a tree that never ends fails instead of hanging.
async fn run(tree: TaskTree, shutdown: impl Future<Output = ()>) -> Result<(), TreeError> {
    tokio::time::timeout(Duration::from_secs(3600), tree.run(shutdown, DEADLINE))
        .await
        .expect("the tree never ended")
}

/// Runs until the tree stops.
fn patient(tasks: &TaskHandle, name: &str) {
    tasks.spawn(name, tasks.cancelled());
}

#[tokio::test(start_paused = true)]
async fn shutdown_stops_every_task_and_waits_for_it() {
    let tree = TaskTree::new();
    let tasks = tree.handle();
    let done = Arc::new(AtomicBool::new(false));
    let (stop, seen) = (tasks.cancelled(), Arc::clone(&done));
    tasks.spawn("slow", async move {
        stop.await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        seen.store(true, Ordering::SeqCst);
    });
    patient(&tasks, "other");
    run(tree, async {}).await.unwrap();
    assert!(done.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_ends_the_tree_with_its_name_and_cause() {
    let tree = TaskTree::new();
    let tasks = tree.handle();
    patient(&tasks, "other");
    tasks.spawn("keeper", async { Err(io::Error::other("disk on fire")) });
    let (name, cause) = failed(run(tree, std::future::pending()).await);
    assert_eq!(
        (name.as_str(), cause.as_str()),
        ("keeper", "it failed: disk on fire")
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_ends_the_tree_with_its_name_and_message() {
    let tree = TaskTree::new();
    tree.handle().spawn("keeper", async {
        if true {
            panic!("index {} out of bounds", 7);
        }
    });
    let (name, cause) = failed(run(tree, std::future::pending()).await);
    assert_eq!(
        (name.as_str(), cause.as_str()),
        ("keeper", "it panicked: index 7 out of bounds")
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_just_returns_ends_the_tree_too() {
    let tree = TaskTree::new();
    patient(&tree.handle(), "other");
    tree.handle().spawn("keeper", async {});
    let (name, cause) = failed(run(tree, std::future::pending()).await);
    assert_eq!(
        (name.as_str(), cause.as_str()),
        ("keeper", "it returned before shutdown")
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_is_the_one_reported() {
    let tree = TaskTree::new();
    let tasks = tree.handle();
    let stop = tasks.cancelled();
    tasks.spawn("consequence", async move {
        stop.await;
        Err(io::Error::other("the keeper is gone"))
    });
    tasks.spawn("cause", async { Err(io::Error::other("disk on fire")) });
    assert_eq!(failed(run(tree, std::future::pending()).await).0, "cause");
}

#[tokio::test(start_paused = true)]
async fn a_failure_during_shutdown_is_reported() {
    let tree = TaskTree::new();
    let tasks = tree.handle();
    let stop = tasks.cancelled();
    tasks.spawn("keeper", async move {
        stop.await;
        Err(io::Error::other("cannot flush"))
    });
    assert_eq!(failed(run(tree, async {}).await).1, "it failed: cannot flush");
}

#[tokio::test(start_paused = true)]
async fn a_job_may_end_fail_or_panic_without_ending_the_tree() {
    let tree = TaskTree::new();
    let tasks = tree.handle();
    patient(&tasks, "service");
    tasks.spawn_job("good", async {});
    tasks.spawn_job("failing", async { Err(io::Error::other("peer gone")) });
    tasks.spawn_job("panicking", async {
        if true {
            panic!("one bad request");
        }
    });
    let mut ended = tasks.shared.ended.subscribe();
    while tasks.shared.state().running.len() > 1 {
        ended.changed().await.unwrap();
    }
    assert!(!tasks.token().is_cancelled());
    run(tree, async {}).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_did_not_end_in_time_is_named_and_aborted() {
    let tree = TaskTree::new();
    let tasks = tree.handle();
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    tasks.spawn("stuck", async move {
        let _inside = inside;
        std::future::pending::<()>().await;
    });
    tasks.spawn_job("connection 7", std::future::pending::<()>());
    patient(&tasks, "fine");
    let begun = tokio::time::Instant::now();
    let error = run(tree, async {}).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "not ended within 10s, so aborted: stuck, connection 7"
    );
    assert_eq!(begun.elapsed(), DEADLINE);
    assert_eq!(Arc::strong_count(&held), 1, "the task's state is gone");
}

#[tokio::test(start_paused = true)]
async fn a_handle_can_end_the_tree() {
    let tree = TaskTree::new();
    let tasks = tree.handle();
    patient(&tasks, "service");
    tasks.shutdown();
    run(tree, std::future::pending()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_tree_takes_its_tasks_with_it() {
    let tree = TaskTree::new();
    let tasks = tree.handle();
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    tasks.spawn("stuck", async move {
        let _inside = inside;
        std::future::pending::<()>().await;
    });
    drop(tree);
    tasks.shared.all_ended().await;
    assert_eq!(Arc::strong_count(&held), 1);
    let inside = Arc::clone(&held);
    tasks.spawn("late", async move { drop(inside) });
    assert_eq!(
        Arc::strong_count(&held),
        1,
        "nothing starts in a tree that has ended"
    );
}
