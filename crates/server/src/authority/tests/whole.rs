//! An order is carried out whole or not at all; and what removes keys removes none that is on its way.

use landfast_daemon::TaskTree;

use super::below::{Parent, root};
use super::*;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn an_order_whose_caller_goes_away_is_carried_out_whole() {
    let rig = Rig::new().await;
    let scripted = Arc::new(Scripted::over(rig.db.clone()));
    let authorities = Arc::new(scripted.authorities(&rig).await);
    let tree = TaskTree::new();
    let tasks = tree.handle();
    let order = |order| authorities.order_wholly(&tasks, order, me(), rig.now());
    let next = order(Order::Prepare(Kind::X509)).await.unwrap();
    let next = next.id().to_owned();
    scripted.script([Lost::Wait]);
    let activate = Order::Activate(Kind::X509, next.clone());
    tokio::select! {
        biased;
        done = order(activate) => panic!("{done:?} before it was stored"),
        () = scripted.saved.notified() => {}
    }
    // The caller has gone; the answer of the database comes.
    scripted.release.notify_one();
    let in_force = async {
        while authorities.active_x509().unwrap().id != next {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, in_force)
        .await
        .expect("durable, and not in force");
    tree.join_with_deadline(LONG).await.unwrap();
    let late = order(Order::Prepare(Kind::X509)).await;
    assert!(matches!(
        late,
        Err(OrderError::Failed {
            source: AuthorityError::Stopped
        })
    ));
}

#[tokio::test(start_paused = true)]
async fn an_order_for_what_stands_above_is_carried_out_whole_too() {
    let (rig, parent) = (Rig::new().await, Parent::new());
    let scripted = Arc::new(Scripted::over(rig.db.clone()));
    let opened = scripted.authorities_below(&rig, Some(parent.clone())).await;
    let authorities = Arc::new(opened);
    let tree = TaskTree::new();
    let tasks = tree.handle();
    let active = authorities.standing(Kind::X509).await.unwrap().active.unwrap();
    let old = active.descent.unwrap().root;
    parent.change(|state| state.roots.push(root()));
    let next = authorities
        .order(&Order::Prepare(Kind::X509), START)
        .await
        .unwrap();
    let activate = Order::Activate(Kind::X509, next.id);
    authorities.order(&activate, START).await.unwrap();
    scripted.script([Lost::Wait]);
    let tainted = || {
        let bundle = authorities.bundle();
        bundle.x509_authorities().iter().any(|root| root.tainted)
    };
    tokio::select! {
        biased;
        done = authorities.order_above_wholly(&tasks, UpstreamOrder::Taint, old, me()) => panic!("{done:?} before it was stored"),
        () = scripted.saved.notified() => {}
    }
    assert!(!tainted());
    // The caller has gone; the answer of the database comes.
    scripted.release.notify_one();
    let in_force = async {
        while !tainted() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, in_force)
        .await
        .expect("durable, and not in force");
}

/// Its key file can be missing, damaged, or not to be opened for want of descriptors.
#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_read_stops_only_the_order_that_needs_it_and_before_anything_is_durable() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let order = async |order| core.authorities.order(&order, START).await.map(|row| row.id);
    let files = || -> std::collections::BTreeSet<std::path::PathBuf> {
        let files = std::fs::read_dir(disk.keys()).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    };
    let before = files();
    for file in &before {
        std::fs::rename(file, file.with_extension("away")).unwrap();
    }
    // Those that sign are in memory already.
    let next = order(Order::Prepare(Kind::X509)).await.unwrap();
    assert_eq!(core.authorities.bundle().x509_authorities().len(), 2);
    let made = files()
        .into_iter()
        .find(|file| file.extension().is_some_and(|e| e == "key"))
        .unwrap();
    std::fs::rename(&made, made.with_extension("away")).unwrap();
    let bundle = core.authorities.bundle();
    let active = core.authorities.active_x509().unwrap().id.clone();
    let refused = order(Order::Activate(Kind::X509, next.clone()))
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            OrderError::Failed {
                source: AuthorityError::Key { .. }
            }
        ),
        "{refused:?}"
    );
    let standing = core.authorities.standing(Kind::X509).await.unwrap();
    assert_eq!(
        standing.active.unwrap().id,
        active,
        "nothing is durable that is not in force"
    );
    assert_eq!(standing.prepared.unwrap().id, next);
    assert_eq!(*core.authorities.bundle(), *bundle);
    core.issuer.server_svid(&key()).await.unwrap();

    std::fs::rename(made.with_extension("away"), &made).unwrap();
    order(Order::Activate(Kind::X509, next.clone())).await.unwrap();
    assert_eq!(core.authorities.active_x509().unwrap().id, next);
}

/// Keys in memory; whoever asks for the list lets an operator be faster.
struct Overtaken {
    keys: MemoryKeys,
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl KeyManager for Overtaken {
    fn generate(&self, id: &str, key_type: KeyType) -> Result<Arc<dyn Signer>, KeyManagerError> {
        self.keys.generate(id, key_type)
    }
    fn get(&self, id: &str) -> Result<Arc<dyn Signer>, KeyManagerError> {
        self.keys.get(id)
    }
    fn remove(&self, id: &str) -> Result<(), KeyManagerError> {
        self.keys.remove(id)
    }
    fn list(&self) -> Result<Vec<String>, KeyManagerError> {
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        self.keys.list()
    }
    fn describe(&self, id: &str) -> String {
        self.keys.describe(id)
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_authority_is_made_while_others_are_swept_away_stays() {
    let rig = Rig::new().await;
    rig.db.execute("DELETE FROM authorities").await;
    let params = AuthorityParams {
        trust_domain: td(),
        ca_ttl: 30 * DAY,
        backdate: Duration::from_secs(300),
        keys: KeyTypes::default(),
        wit: false,
        longest_reserve: Duration::ZERO,
    };
    let keys = Arc::new(Overtaken {
        keys: MemoryKeys::default(),
        meanwhile: Mutex::default(),
    });
    keys.keys
        .generate(&format!("x509-{}", "a".repeat(32)), KeyType::default())
        .unwrap();
    let clock = Arc::new(rig.clock.clone());
    let opened = Authorities::open(params, rig.db.clone(), keys.clone(), clock, None);
    let authorities = Arc::new(opened.await.unwrap());
    let (faster, runtime) = (Arc::clone(&authorities), tokio::runtime::Handle::current());
    *keys.meanwhile.lock().unwrap() = Some(Box::new(move || {
        runtime.block_on(async {
            // The second learns that the key of the first is no spare one any more.
            for kind in [Kind::X509, Kind::Jwt] {
                faster.order(&Order::Prepare(kind), START).await.unwrap();
            }
        });
    }));
    authorities.tick(START, Trust::Steady).await.unwrap();
    assert!(keys.meanwhile.lock().unwrap().is_none(), "it was overtaken");
    let rows = rig.db.journal().await.unwrap().rows;
    assert_eq!(rows.len(), 4);
    for row in rows {
        keys.get(&row.key_name).unwrap();
    }
    assert_eq!(keys.list().unwrap().len(), 4, "the one of no authority has gone");
}
