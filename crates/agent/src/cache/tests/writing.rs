//! The task: what it writes when, and what it says while it cannot.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use landfast_lifecycle::{SharedClock, SimClock};
use landfast_store::Store;
use landfast_store::faulty::{FaultyFiles, Script, Verb};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::jwt::JwtCache;
use crate::keeper::state::Reach;
use crate::keeper::views::Views;
use crate::link::LinkHandle;
use crate::link::status::{LinkStatus, Phase};
use crate::testing::until;

mod filling;
mod rest;
mod wear;

struct Running {
    world: World,
    views: Views,
    status: watch::Sender<LinkStatus>,
    state: watch::Receiver<CacheState>,
    script: Script,
    tokens: JwtCache,
    /// The next time that the directory is opened.
    panics: Arc<AtomicBool>,
    /// There is no room for tokens.
    full: Arc<AtomicBool>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), std::convert::Infallible>>,
}

impl Running {
    fn start() -> Self {
        Self::over(World::new())
    }

    #[expect(clippy::disallowed_methods, reason = "a test's tasks are joined by the test")]
    fn over(world: World) -> Self {
        let script = Script::default();
        let faulty = script.clone();
        let panics = Arc::new(AtomicBool::new(false));
        let panic_now = Arc::clone(&panics);
        let full = Arc::new(AtomicBool::new(false));
        let full_now = Arc::clone(&full);
        let open = move |dir: &Path| {
            assert!(!panic_now.swap(false, Ordering::SeqCst), "as the test wants it");
            Store::open_with(dir, |files| {
                let files = FaultyFiles::new(files, faulty.clone());
                wear::NoRoomForTokens(files, Arc::clone(&full_now), Arc::default())
            })
        };
        let (shelf, _) = Shelf::open_by(world.place(), Some(&node()), Arc::new(open));
        let views = Views::new(&td());
        let status = watch::Sender::new(LinkStatus {
            agent_id: Some(node()),
            ..LinkStatus::new()
        });
        let clock: SharedClock = Arc::new(SimClock::new(NOON));
        let sender = watch::Sender::new(CacheState::default());
        let (state, stop) = (sender.subscribe(), CancellationToken::new());
        let tokens = JwtCache::new(Arc::clone(&clock)).0;
        let writer = Writer {
            shelf,
            views: views.clone(),
            keeper: crate::keeper::Keeper::new(views.clone(), Arc::clone(&clock)).1,
            link: LinkHandle::fixed(status.subscribe(), watch::channel(None).1),
            tokens: tokens.clone(),
            clock,
            bootstrap: "operator's".to_owned(),
            state: sender,
            doomed: false,
        };
        let task = tokio::spawn(writer.run(stop.clone()));
        Self {
            world,
            views,
            status,
            state,
            script,
            tokens,
            panics,
            full,
            stop,
            task,
        }
    }

    fn publish(&self, snapshot: &Snapshot) {
        self.views
            .publish(Arc::new(snapshot.clone()), &Reach::All, Some(NOON));
    }

    fn hear(&self) {
        self.status.send_modify(|status| {
            status.phase = Phase::Serving;
            status.last_sync = Some(at(5));
        });
    }

    fn renames(&self) -> usize {
        let calls = self.script.calls();
        calls.iter().filter(|verb| **verb == Verb::Rename).count()
    }

    fn svids(&self) -> usize {
        let files = self.world.files();
        files.iter().filter(|(name, _)| name.starts_with("svid-")).count()
    }

    /// What a start after a power cut would find.
    fn found(&self) -> Option<Image> {
        let copy = tempfile::tempdir().unwrap();
        let place = Place::new(copy.path(), Some(&self.world.place().key), &td());
        std::fs::create_dir(&place.dir).unwrap();
        for (name, bytes) in self.world.files() {
            if !name.starts_with('.') {
                crate::testing::write_private(&place.dir.join(name), &bytes);
            }
        }
        Shelf::open(place, Some(&node())).1.image
    }

    fn held(&self) -> Option<BTreeMap<String, (String, Vec<u8>)>> {
        self.found().map(|image| keys(&image.snapshot))
    }

    /// What the cache complains of, once it is so.
    async fn says(&self, so: impl Fn(&str) -> bool) -> String {
        let mut state = self.state.clone();
        let said = state.wait_for(|state| so(&state.complaint));
        let said = tokio::time::timeout(Duration::from_secs(60), said).await;
        said.expect("it is said within a minute")
            .unwrap()
            .complaint
            .clone()
    }

    async fn end(self) -> World {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.world
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_the_server_was_heard_and_a_burst_is_one_write() {
    let running = Running::start();
    let snapshot = holding(&running.world.ca, &["a", "b", "c"]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(running.renames(), 0);
    for names in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
        let some = Snapshot {
            held: Arc::new(
                snapshot
                    .held
                    .iter()
                    .filter(|(id, _)| names.contains(&&***id))
                    .map(|(id, held)| (id.clone(), held.clone()))
                    .collect(),
            ),
            ..snapshot.clone()
        };
        running.publish(&some);
        running.hear();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until("it is on disk", || running.held() == Some(keys(&snapshot))).await;
    assert_eq!(running.renames(), 5, "three SVIDs and both places of the index");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_and_written_again_when_it_is_mended() {
    let running = Running::start();
    let snapshot = holding(&running.world.ca, &["a"]);
    running.script.break_down(Verb::Write, ErrorKind::StorageFull);
    running.publish(&snapshot);
    running.hear();
    let told = running.says(|complaint| !complaint.is_empty()).await;
    assert!(told.contains("what is held is not on disk"), "{told}");
    assert_eq!(running.held(), None);
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    running.script.mend();
    let begin = tokio::time::Instant::now();
    running.says(str::is_empty).await;
    assert!(
        begin.elapsed() <= Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(running.held(), Some(keys(&snapshot)));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_is_not_tried_all_the_time_for_tokens() {
    let running = Running::start();
    running.publish(&holding(&running.world.ca, &["a"]));
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    tokio::time::sleep(Duration::from_secs(270)).await;
    running.tokens.restore(vec![token(&running.world.ca)]);
    running
        .script
        .break_down(Verb::CreateTemp, ErrorKind::StorageFull);
    let tried = || {
        let calls = running.script.calls();
        calls.iter().filter(|verb| **verb == Verb::CreateTemp).count()
    };
    let before = tried();
    running.says(|complaint| !complaint.is_empty()).await;
    // By hand: who is always busy never lets a clock of itself go on.
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    let tried = tried() - before;
    assert!((2..=30).contains(&tried), "{tried} attempts in a minute");
    running.script.mend();
    running.says(str::is_empty).await;
    let world = running.end().await;
    assert_eq!(world.open().1.image.unwrap().tokens.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn work_that_breaks_off_and_a_directory_that_is_removed_cost_nothing_for_long() {
    let running = Running::start();
    let snapshot = holding(&running.world.ca, &["a", "b"]);
    running.publish(&snapshot);
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    for (panics, name) in [(false, "c"), (true, "d")] {
        std::fs::remove_dir_all(running.world.place().dir).unwrap();
        // With the key another is made of everything, the directory too.
        if panics {
            std::fs::remove_file(running.world.place().key).unwrap();
        }
        running.panics.store(panics, Ordering::SeqCst);
        let after = holding(&running.world.ca, &["a", "b", name]);
        running.publish(&after);
        if panics {
            running
                .says(|complaint| complaint.contains("writing broke off"))
                .await;
        }
        until("it is on disk again", || {
            let place = running.world.place();
            place.dir.exists() && place.key.exists() && running.held() == Some(keys(&after))
        })
        .await;
    }
    running.says(str::is_empty).await;
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leaps_takes_no_token_from_disk() {
    let world = World::new();
    let clock = Arc::new(SimClock::new(NOON));
    let tokens = JwtCache::new(clock.clone()).0;
    tokens.restore(vec![token(&world.ca)]);
    clock.step(60 * 3600);
    assert_eq!(tokens.held().len(), 1, "who serves it judges it");
    assert_eq!(tokens.held_until(&token(&world.ca).0), None);
}

fn token(ca: &Ca) -> (Key, Token) {
    let audience = ["receiver".to_owned()];
    let token = Token {
        text: ca.jwt(&id("/a"), &audience, "kid", at(-10), at(290)).into(),
        id: id("/a"),
        held_since: at(-10),
        expires_at: at(290),
        key: None,
    };
    (Key::new("a".into(), &audience), token)
}

#[tokio::test(start_paused = true)]
async fn a_ban_takes_the_cache_with_it_also_over_a_disk_that_refuses_at_first() {
    let running = Running::start();
    let snapshot = holding(&running.world.ca, &["a"]);
    running.publish(&snapshot);
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    running
        .script
        .break_down(Verb::Remove, ErrorKind::ReadOnlyFilesystem);
    running.publish(&Snapshot {
        banned: true,
        ..Snapshot::default()
    });
    let told = running.says(|complaint| !complaint.is_empty()).await;
    assert!(told.contains("banned node could not be removed"), "{told}");
    running.script.mend();
    until("it is gone", || running.world.files().is_empty()).await;
    let world = running.end().await;
    assert_eq!(world.files(), [], "nor is it written at the end");
    assert!(!world.place().key.exists(), "nor is the key left");
}

#[tokio::test(start_paused = true)]
async fn an_eviction_keeps_it_and_the_end_of_the_process_writes_what_is_new() {
    let running = Running::start();
    let snapshot = holding(&running.world.ca, &["a"]);
    running.publish(&snapshot);
    running.hear();
    until("it is on disk", || running.held().is_some()).await;
    running.status.send_modify(|status| {
        status.phase = Phase::Disconnected;
        status.last_error = "the server does not know this node".to_owned();
    });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(running.held(), Some(keys(&snapshot)));
    let mut renewed = snapshot.clone();
    let fresh = holding(&running.world.ca, &["a"]).held["a"].clone();
    Arc::make_mut(&mut renewed.held).insert("a".into(), fresh);
    running.publish(&renewed);
    let world = running.end().await;
    let image = world.open().1.image.unwrap();
    assert_eq!(keys(&image.snapshot), keys(&renewed));
    assert_eq!(image.snapshot.synced_at, Some(at(5)), "when it was in step last");
}

/// The aim is 20 MB a day with 20 entries. A sync costs a file system some blocks of its own, so they are few as well.
#[tokio::test(start_paused = true)]
async fn a_day_of_twenty_entries_is_few_megabytes() {
    let running = Running::start();
    let names: Vec<String> = (0..20).map(|number| format!("workload-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut snapshot = holding(&running.world.ca, &names);
    running.publish(&snapshot);
    running.hear();
    for minute in 0..24 * 60 {
        for (number, name) in names.iter().enumerate() {
            if (minute + 3 * number) % 30 == 0 {
                let fresh = holding(&running.world.ca, &[name]).held[*name].clone();
                Arc::make_mut(&mut snapshot.held).insert((*name).into(), fresh);
            }
        }
        running.publish(&snapshot);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let (bytes, calls) = (running.script.written(), running.script.calls());
    let of = |verb| calls.iter().filter(|call| **call == verb).count();
    let text = format!(
        "{bytes} bytes, {} files, {} syncs of the directory",
        of(Verb::Rename),
        of(Verb::SyncDir)
    );
    assert!(of(Verb::Rename) > 900, "each renewal reaches the disk: {text}");
    assert!(bytes < 6_000_000 && of(Verb::SyncDir) < 1000, "{text}");
    running.end().await;
}
