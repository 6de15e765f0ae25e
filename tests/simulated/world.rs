//! The real server and real agents over loopback and Unix sockets, with one time for all.
//!
//! Invariant: time goes on only in [`World::pass`], in leaps; after each leap everybody has his turn before anything is looked at. What is asked of
//! the other side is answered in real time, so no deadline ends because a leap was made meanwhile. What is left out: a clock that goes on while
//! something is under way, and timers that are shorter than a leap end with it.

#![expect(
    clippy::disallowed_methods,
    reason = "the network of a test is no task of anybody, and its disk is none"
)]

use std::sync::Arc;
use std::time::Duration;

use landfast_agent::AgentParts;
use landfast_identity::{BundleSet, UnixTime, X509Svid, verify_x509_svid};
use landfast_lifecycle::{Clock as _, SimBoot, SimClock};
use landfast_proto::landfast::agent::v1::GetStatusResponse;
use landfast_proto::landfast::entry::v1::{EntryPolicy, EntryPolicyMask};
use landfast_proto::spire::api::server::entry::v1::{self as entry_api, entry_client::EntryClient};
use landfast_proto::spire::api::types;
use landfast_server::ServerParts;
use landfast_testkit::{NodeAgent, Plant};
use landfast_workload_api::client::{ClientError, WorkloadClient, X509Context};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::disk::{SimDisk, Unsynced};

/// 2027-01-15T08:00:00Z
const BEGIN: UnixTime = UnixTime::from_secs(1_800_000_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct World {
    pub(crate) plant: Plant,
    /// The true time, which the server has.
    pub(crate) time: SimClock,
}

impl World {
    pub(crate) async fn new(server_toml: &str) -> Self {
        let time = SimClock::new(BEGIN);
        // In memory where that can be had: the server's database waits for its disk.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let parts = server_parts(&time);
        let plant = Plant::new_in(dir.unwrap(), server_toml, parts).await;
        Self { plant, time }
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.time.now().unwrap()
    }

    /// A node that is enrolled, with a link of its own.
    pub(crate) async fn node(&self, name: &str) -> Node {
        let link = Link::to(self.plant.address()).await;
        let token = self.plant.token().await;
        let bundle = self.plant.path().join(format!("{name}.pem"));
        std::fs::write(&bundle, self.plant.handle().bundle().to_pem()).unwrap();
        let own = format!(
            "server = [\"{}\"]\ntrust_bundle = \"{}\"",
            link.address,
            bundle.display()
        );
        let mut node = Node {
            agent: self.plant.agent_with(name, &own, &token),
            wall: SimClock::new(self.now()),
            link,
            disk: SimDisk::default(),
            boots: 0,
            client: None,
        };
        node.boot(self).await;
        node
    }

    /// Lets so much time go by.
    pub(crate) async fn pass(&self, mut time: Duration, leap: Duration) {
        while !time.is_zero() {
            let now = time.min(leap);
            tokio::time::pause();
            tokio::time::advance(now).await;
            tokio::time::resume();
            settle().await;
            time -= now;
        }
    }

    /// Lets time go by until something is so; the time that took.
    pub(crate) async fn until<E: std::fmt::Debug>(
        &self,
        what: &str,
        bound: Duration,
        mut so: impl AsyncFnMut() -> Result<(), E>,
    ) -> Duration {
        let mut waited = Duration::ZERO;
        let leaps = [
            Duration::from_millis(200),
            Duration::from_secs(2),
            Duration::from_secs(20),
        ];
        loop {
            let Err(error) = so().await else { return waited };
            assert!(waited < bound, "{what}: not within {bound:?}: {error:?}");
            let leap = leaps[usize::from(waited > Duration::from_secs(5))
                + usize::from(waited > Duration::from_secs(120))];
            self.pass(leap, leap).await;
            waited += leap;
        }
    }

    pub(crate) async fn reserve(&self, entry_id: &str, reserve: Duration) {
        let policy = EntryPolicy {
            entry_id: entry_id.to_owned(),
            offline_reserve_seconds: reserve.as_secs().try_into().unwrap(),
            ..Default::default()
        };
        let mask = EntryPolicyMask {
            offline_reserve_seconds: true,
            ..Default::default()
        };
        self.plant.set_policy(policy, mask).await;
    }

    /// An entry's SVIDs live otherwise from now on.
    pub(crate) async fn change_ttl(&self, entry_id: &str, seconds: i32) {
        let entry = types::Entry {
            id: entry_id.to_owned(),
            x509_svid_ttl: seconds,
            ..Default::default()
        };
        let request = entry_api::BatchUpdateEntryRequest {
            entries: vec![entry],
            input_mask: Some(types::EntryMask {
                x509_svid_ttl: true,
                ..Default::default()
            }),
            output_mask: None,
        };
        let done = EntryClient::new(self.plant.admin().await)
            .batch_update_entry(request)
            .await;
        let result = done.unwrap().into_inner().results.remove(0);
        assert_eq!(result.status.map(|status| status.code), Some(0));
    }

    pub(crate) async fn restart_server(&mut self) {
        // In real time: those who are connected let go at once, and the deadline is for those who do not.
        self.plant.stop_server().await;
        self.plant
            .start_server_with(server_parts(&self.time))
            .await
            .unwrap();
    }

    pub(crate) async fn tear_down(self, nodes: impl IntoIterator<Item = Node>) {
        let mut nodes: Vec<Node> = nodes.into_iter().collect();
        for node in &mut nodes {
            node.shut_down().await;
        }
        self.plant
            .tear_down(nodes.into_iter().map(|node| node.agent))
            .await;
    }
}

/// The server's time is the true one.
fn server_parts(time: &SimClock) -> ServerParts {
    ServerParts {
        clock: Arc::new(time.clone()),
        ..ServerParts::default()
    }
}

/// Waits until nobody in this process has anything to do: nothing is awake but this, thrice in a row, and no other thread (the server's database, reads
/// of `/proc`) runs or waits for a disk or, on a busy machine, for its turn.
pub(crate) async fn settle() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let (mut quiet, mut patience) = (0, 100);
    for _ in 0..10_000 {
        let before = metrics.worker_park_count(0);
        let rest = tokio::task::spawn_blocking(|| {
            std::thread::sleep(Duration::from_millis(1));
            threads_at_work()
        });
        let at_work = rest.await.unwrap();
        quiet = match metrics.worker_park_count(0) - before {
            // Another test of this process has threads as well, which are never all at rest.
            0..=1 if at_work && patience > 0 => {
                patience -= 1;
                0
            }
            0..=1 => quiet + 1,
            _ => 0,
        };
        if quiet == 3 {
            return;
        }
    }
    panic!("it does not come to rest");
}

/// Whether a thread of this process but the one that asks runs, or would.
fn threads_at_work() -> bool {
    let me = nix::unistd::gettid().to_string();
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let mut others = threads
        .map(|thread| thread.unwrap())
        .filter(|thread| thread.file_name() != me.as_str());
    others.any(|thread| {
        // One that has ended meanwhile is at rest.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
        state.starts_with(['R', 'D'])
    })
}

/// A machine with its agent.
pub(crate) struct Node {
    pub(crate) agent: NodeAgent,
    /// What its clock shows.
    pub(crate) wall: SimClock,
    pub(crate) link: Link,
    pub(crate) disk: SimDisk,
    boots: u32,
    client: Option<WorkloadClient>,
}

impl Node {
    /// Starts the machine.
    pub(crate) async fn boot(&mut self, world: &World) {
        self.boots += 1;
        let (wall, boots, opener) = (self.wall.clone(), self.boots, self.disk.opener());
        let parts = || AgentParts {
            clock: Arc::new(wall.clone()),
            boot: Arc::new(SimBoot::new(&format!("boot-{boots}"), Duration::from_secs(9))),
            built: UnixTime::from_secs(BEGIN.as_secs() - 30 * 86_400),
            disk: Arc::clone(&opener),
            ..AgentParts::default()
        };
        let mut started = self.agent.start_with(parts()).await;
        // A process that ends takes all its threads along; here one of the agent before may be at the disk for a moment more.
        for _ in 0..5000 {
            if !started
                .as_ref()
                .is_err_and(|why| why.contains("in use by another"))
            {
                break;
            }
            let rest = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1)));
            rest.await.unwrap();
            started = self.agent.start_with(parts()).await;
        }
        assert_eq!(started, Ok(()), "at {}", world.now());
    }

    /// By how much the machine's clock is wrong from now on.
    pub(crate) fn set_wall(&self, world: &World, error: i64) {
        let is = self.wall.now().unwrap().as_secs();
        self.wall.step(world.now().as_secs() + error - is);
    }

    pub(crate) async fn shut_down(&mut self) {
        self.client = None;
        // Those who wait at the end wait for time.
        tokio::time::pause();
        self.agent.stop().await;
        tokio::time::resume();
    }

    /// Nothing is told to anybody.
    pub(crate) async fn lose_power(&mut self, unsynced: Unsynced) {
        self.client = None;
        self.disk.cut();
        self.agent.kill();
        settle().await;
        self.disk.power_on(unsynced);
    }

    pub(crate) async fn fetch(&mut self) -> Result<X509Context, ClientError> {
        if self.client.is_none() {
            self.client = Some(self.agent.client().await);
        }
        let fetched = {
            let mut asking = std::pin::pin!(self.client.as_mut().unwrap().fetch_x509());
            loop {
                tokio::select! {
                    biased;
                    done = &mut asking => break done,
                    () = settle() => {}
                }
                // Whoever has nothing to give waits a little for what is on its way.
                tokio::time::pause();
                tokio::time::advance(Duration::from_secs(1)).await;
                tokio::time::resume();
            }
        };
        if fetched.as_ref().is_err_and(|error| error.code().is_none()) {
            self.client = None;
        }
        fetched
    }

    pub(crate) async fn status(&self) -> GetStatusResponse {
        self.agent.status().await
    }
}

/// Whether this is a peer for whoever has these bundles.
pub(crate) fn accepts(bundles: &BundleSet, svid: &X509Svid, now: UnixTime) -> Result<(), String> {
    let chain: Vec<&[u8]> = svid.chain().iter().map(|one| one.as_der()).collect();
    let verified = verify_x509_svid(&chain, bundles, now);
    verified.map(drop).map_err(|error| error.to_string())
}

/// The way to the server. Whoever is on it when it is cut notices.
pub(crate) struct Link {
    address: String,
    up: watch::Sender<bool>,
}

impl Link {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let up = watch::Sender::new(true);
        let is_up = up.subscribe();
        tokio::spawn(async move {
            let mut cut = is_up.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    // The test has ended.
                    Err(_) = cut.wait_for(|_| false) => return,
                };
                let (Ok((mut near, _)), true) = (accepted, *is_up.borrow()) else {
                    continue;
                };
                let (server, mut cut) = (server.clone(), is_up.clone());
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else {
                        return;
                    };
                    // What waits in the kernel for an acknowledgement is nobody's turn: a leap would go over it.
                    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
                        return;
                    }
                    tokio::select! {
                        _ended = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _down = cut.wait_for(|up| !up) => {}
                    }
                });
            }
        });
        Self { address, up }
    }

    pub(crate) fn cut(&self) {
        self.up.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.up.send_replace(true);
    }

    pub(crate) fn is_up(&self) -> bool {
        *self.up.borrow()
    }
}
