//! A ban that a power cut interrupts: the next start goes on with it, whether or not the server says it again.

use super::*;
use crate::persist::{BANNED, DEVICE, IDENTITY, NodeFiles};

/// A node that is in and has its cache on disk, after its agent has ended.
async fn enrolled() -> World {
    let mut world = World::new().await;
    world.start().await.ready().await;
    let index = world.dir.path().join("data/cache/index.b");
    until("the cache is on disk", || index.exists()).await;
    world.stop_agent().await;
    world
}

impl World {
    fn files(&self) -> NodeFiles {
        NodeFiles::open(&self.dir.path().join("data"), &td()).unwrap()
    }

    fn left(&self) -> Vec<String> {
        let data = self.dir.path().join("data");
        let names = |dir: &Path| -> Vec<String> {
            let files = std::fs::read_dir(dir).into_iter().flatten();
            files
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        let keys = names(&data)
            .into_iter()
            .filter(|name| name.contains("key") || [IDENTITY, BANNED].contains(&name.as_str()));
        keys.chain(names(&data.join("cache"))).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_that_a_power_cut_interrupts_leaves_no_cache() {
    let world = enrolled().await;
    assert!(world.left().len() > 4, "{:?}", world.left());
    // The link's part is done, the cache's is not.
    world.files().destroy_keys().unwrap();
    let state = read_state(&world.config()).unwrap();
    assert!(state.node.is_none() && state.cache.before.is_none());
    assert_eq!(world.left(), Vec::<String>::new());
    world.stop().await;
}

/// The disk refuses to give up the cache, before the restart and after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_over_a_disk_that_refuses_at_first() {
    let mut world = enrolled().await;
    world.files().destroy_keys().unwrap();
    let cache = world.dir.path().join("data/cache");
    let mode = |mode| std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(mode)).unwrap();
    // Of others too: it is not opened, whoever we are.
    mode(0o777);
    let used = tonic::Status::invalid_argument("join token was already used");
    world.server.script().refuse_attestation = Some(used);
    world.start().await;
    assert!(
        world.left().iter().any(|name| name.starts_with("svid-")),
        "{:?}",
        world.left()
    );
    assert!(
        !world.left().contains(&"seal-key".to_owned()),
        "the key went all the same"
    );
    assert!(
        world.dir.path().join("data").join(BANNED).exists(),
        "it is not done with"
    );
    mode(0o700);
    let gone = || {
        world
            .left()
            .iter()
            .all(|name| !name.starts_with("svid-") && name != BANNED)
    };
    until("it is gone", gone).await;
    world.stop_agent().await;
    assert!(!world.dir.path().join("data").join(BANNED).exists());
    world.stop().await;
}

/// The cache is gone, and takes no mark along that is still needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_removed_at_a_start_is_at_the_next_one() {
    let world = enrolled().await;
    world.files().destroy_keys().unwrap();
    let device = world.dir.path().join("data").join(DEVICE);
    // Nobody removes a folder as a file.
    std::fs::create_dir(&device).unwrap();
    drop(read_state(&world.config()).unwrap());
    let mut left = world.left();
    left.sort();
    assert_eq!(left, [BANNED, DEVICE]);
    std::fs::remove_dir(&device).unwrap();
    world.files().new_device_key(0).unwrap();
    drop(read_state(&world.config()).unwrap());
    assert_eq!(world.left(), Vec::<String>::new());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_let_in_again_keeps_what_it_then_has() {
    let mut world = enrolled().await;
    world.files().destroy_keys().unwrap();
    world.start().await.ready().await;
    let index = world.dir.path().join("data/cache/index.b");
    until("the cache is on disk", || index.exists()).await;
    world.stop_agent().await;
    let state = read_state(&world.config()).unwrap();
    assert!(state.node.is_some());
    assert_eq!(state.cache.before.unwrap().snapshot.held.len(), 2);
    world.stop().await;
}
