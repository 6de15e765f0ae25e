//! Whatever can happen to a node, in any order: link, power, clock, disk, server, and what people do.
//!
//! Each case is a list of events that is made from a seed and made shorter when it fails. `LANDFAST_SIMULATIONS` has so many cases run instead of a few,
//! `LANDFAST_SEED` others.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::time::Duration;

use landfast_proto::spire::api::server::localauthority::v1::{
    self as api, local_authority_client::LocalAuthorityClient,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tonic::Code;

use crate::disk::Unsynced;
use crate::oracle::Oracle;
use crate::world::{HOUR, Node, World};

const SERVER: &str = "[reserve]\nlongest = \"12h\"\n[root_key]\n";
const TTL: i32 = 2 * 3600;
const RESERVE: Duration = Duration::from_secs(12 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    LinkDown,
    LinkUp,
    /// The clock is wrong by so much then, in seconds.
    Reboot(i64),
    PowerCut(Unsynced, i64),
    Clock(i64),
    DiskFull,
    DiskReadOnly,
    DiskWell,
    ServerRestarts,
    /// The next step of a change of authorities.
    Rotate,
    EntryChanges,
    EntryGoes,
    EntryComes,
    Ban,
}

/// An event, and how many minutes follow it.
type Step = (Event, u64);

/// Seconds since 1970 are less than this.
const IN_1970: i64 = -3_000_000_000;

fn clocks() -> impl Strategy<Value = i64> {
    let hours = |hours: i64| Just(hours * 3600);
    prop_oneof![4 => Just(0), 1 => -90..90_i64, 1 => hours(-2), 1 => hours(60), 2 => Just(IN_1970), 1 => hours(-400 * 24), 1 => hours(400 * 24)]
}

fn events() -> impl Strategy<Value = Event> {
    let unsynced = prop_oneof![Just(Unsynced::Lost), Just(Unsynced::Torn)];
    prop_oneof![
        3 => Just(Event::Nothing),
        4 => Just(Event::LinkDown),
        3 => Just(Event::LinkUp),
        2 => clocks().prop_map(Event::Reboot),
        4 => (unsynced, clocks()).prop_map(|(unsynced, clock)| Event::PowerCut(unsynced, clock)),
        4 => clocks().prop_map(Event::Clock),
        2 => Just(Event::DiskFull),
        1 => Just(Event::DiskReadOnly),
        2 => Just(Event::DiskWell),
        1 => Just(Event::ServerRestarts),
        4 => Just(Event::Rotate),
        2 => Just(Event::EntryChanges),
        1 => Just(Event::EntryGoes),
        1 => Just(Event::EntryComes),
        1 => Just(Event::Ban),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let minutes = prop_oneof![2 => 1..10_u64, 3 => 10..120_u64, 2 => 120..720_u64];
    prop::collection::vec((events(), minutes), 6..24)
}

struct Weather {
    world: World,
    node: Node,
    oracle: Oracle,
    /// Those of the server, with their IDs.
    entries: BTreeMap<&'static str, String>,
    rotation: usize,
    prepared: String,
    changes: i32,
    /// By the server, whatever the node has heard.
    banned: bool,
}

const KEPT: &str = "/line4/kept";
const COMES_AND_GOES: &str = "/line4/other";

impl Weather {
    async fn new() -> Self {
        let world = World::new(SERVER).await;
        let node = world.node("node").await;
        let oracle = Oracle::new(world.now());
        let mut weather = Self {
            world,
            node,
            oracle,
            entries: BTreeMap::new(),
            rotation: 0,
            prepared: String::new(),
            changes: 0,
            banned: false,
        };
        for path in [KEPT, COMES_AND_GOES] {
            weather.create(path).await;
        }
        weather
            .world
            .until("a node with all it needs", HOUR, async || {
                let status = weather.node.status().await;
                let enrolled =
                    status.device_key.starts_with("registered") && status.bundle_chain.contains("pinned");
                let full = status.trust_debt.starts_with("26 unspent")
                    || status.trust_debt.starts_with("24 unspent");
                (enrolled && full).then_some(()).ok_or(status)
            })
            .await;
        weather.pass(20).await;
        weather
    }

    async fn create(&mut self, path: &'static str) {
        if !self.entries.contains_key(path) {
            let id = self.world.plant.entry(&self.node.agent, path, TTL).await;
            self.world.reserve(&id, RESERVE).await;
            self.entries.insert(path, id);
            self.oracle.created(path);
        }
    }

    /// Small leaps first, so that what was begun by the event can end.
    async fn pass(&mut self, minutes: u64) {
        for seconds in [1, 1, 2, 4, 8, 14] {
            let leap = Duration::from_secs(seconds);
            self.world.pass(leap, leap).await;
        }
        self.look().await;
        let mut left = MINUTE * u32::try_from(minutes).unwrap();
        while !left.is_zero() {
            let now = left.min(MINUTE * 30);
            self.world.pass(now, MINUTE * 5).await;
            self.look().await;
            left -= now;
        }
    }

    async fn look(&mut self) {
        let entries: BTreeSet<String> = self.entries.keys().map(|path| (*path).to_owned()).collect();
        self.oracle.look(&self.world, &mut self.node, &entries).await;
    }

    async fn boot(&mut self, wrong_by: i64) {
        self.clock(wrong_by);
        self.oracle.rebooted(self.world.now());
        self.node.boot(&self.world).await;
    }

    fn clock(&mut self, wrong_by: i64) {
        let wrong_by = wrong_by.max(7 - self.world.now().as_secs());
        self.node.set_wall(&self.world, wrong_by);
        self.oracle.clock_set(self.world.now(), wrong_by);
    }

    async fn happens(&mut self, event: Event) {
        match event {
            Event::Nothing => {}
            Event::LinkDown => self.node.link.cut(),
            Event::LinkUp => self.node.link.mend(),
            Event::Reboot(clock) => {
                self.node.shut_down().await;
                self.boot(clock).await;
            }
            Event::PowerCut(unsynced, clock) => {
                self.node.lose_power(unsynced).await;
                self.boot(clock).await;
            }
            Event::Clock(wrong_by) => self.clock(wrong_by),
            Event::DiskFull => self.disk(Some(ErrorKind::StorageFull)),
            Event::DiskReadOnly => self.disk(Some(ErrorKind::ReadOnlyFilesystem)),
            Event::DiskWell => self.disk(None),
            Event::ServerRestarts => self.world.restart_server().await,
            Event::Rotate => self.rotate().await,
            Event::EntryChanges => {
                self.changes += 1;
                self.world
                    .change_ttl(&self.entries[KEPT], TTL + 2 * self.changes)
                    .await;
                self.oracle.changed();
            }
            Event::EntryGoes => {
                if let Some(id) = self.entries.remove(COMES_AND_GOES) {
                    self.world.plant.delete_entry(&id).await;
                    self.oracle.changed();
                }
            }
            Event::EntryComes => self.create(COMES_AND_GOES).await,
            Event::Ban => {
                self.world.plant.ban(&self.node.agent).await;
                self.banned = true;
                self.oracle.changed();
            }
        }
    }

    fn disk(&mut self, refuses: Option<ErrorKind>) {
        if refuses.is_some() {
            self.oracle.disk_fails();
        }
        self.node.disk.refuse(refuses);
    }

    async fn rotate(&mut self) {
        let mut orders = LocalAuthorityClient::new(self.world.plant.admin().await);
        let state = orders.get_x509_authority_state(api::GetX509AuthorityStateRequest {});
        let old = state
            .await
            .unwrap()
            .into_inner()
            .old
            .unwrap_or_default()
            .authority_id;
        let done = match self.rotation {
            0 => {
                let next = orders
                    .prepare_x509_authority(api::PrepareX509AuthorityRequest {})
                    .await;
                next.map(|next| self.prepared = next.into_inner().prepared_authority.unwrap().authority_id)
            }
            1 => {
                let request = api::ActivateX509AuthorityRequest {
                    authority_id: self.prepared.clone(),
                };
                orders.activate_x509_authority(request).await.map(drop)
            }
            2 => {
                let request = api::TaintX509AuthorityRequest { authority_id: old };
                orders.taint_x509_authority(request).await.map(drop)
            }
            _ => {
                let request = api::RevokeX509AuthorityRequest { authority_id: old };
                orders.revoke_x509_authority(request).await.map(drop)
            }
        };
        match done {
            Ok(()) => self.rotation = (self.rotation + 1) % 4,
            // Not every node has heard of it.
            Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status}"),
        }
        self.oracle.changed();
    }

    /// Everything is well again: so is the node, before long.
    async fn recovers(&mut self) {
        self.node.disk.refuse(None);
        self.node.link.mend();
        self.clock(0);
        if self.oracle.is_banned() {
            self.pass(60).await;
            return;
        }
        let Self {
            world,
            node,
            entries,
            banned,
            ..
        } = self;
        world
            .until("the node in order", 3 * HOUR, async || {
                let status = node.status().await;
                // One that was started again after it had heard has nothing to be known by, and no token.
                let out = *banned && status.agent_id.is_empty();
                if status.state == "banned" || out {
                    return Ok(());
                }
                let fetched = node.fetch().await;
                let given = fetched.map_or(0, |context| context.svids.len());
                let well = status.standing == "connected" && given == entries.len();
                well.then_some(()).ok_or((given, status))
            })
            .await;
        if !self.banned {
            self.pass(30).await;
        }
    }
}

/// One case.
fn weather(steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut weather = Weather::new().await;
        for (event, minutes) in steps {
            weather.happens(*event).await;
            weather.pass(*minutes).await;
        }
        weather.recovers().await;
        weather.world.tear_down([weather.node]).await;
    });
}

fn number(name: &str) -> Option<u32> {
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration file")]
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[test]
fn whatever_happens_in_whatever_order_nothing_wrong_is_given_and_what_is_valid_is() {
    let seed = number("LANDFAST_SEED").unwrap_or(1);
    let config = Config {
        cases: number("LANDFAST_SIMULATIONS").unwrap_or(5),
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let run = TestRunner::new_with_rng(config, rng).run(&steps(), |steps| {
        weather(&steps);
        Ok(())
    });
    if let Err(error) = run {
        panic!("seed {seed}: {error}");
    }
}

/// What the cases above have found once. The disk was full when the node should have renewed its SVID, and the link was down when the authority of that one
/// was revoked: the node believed in it still, and no server did.
#[test]
fn a_node_that_has_not_heard_of_a_revocation_is_let_in_again() {
    use Event::{Clock, DiskFull, LinkDown, PowerCut, Rotate};
    weather(&[
        (Rotate, 2),
        (Rotate, 115),
        (Rotate, 4),
        (DiskFull, 5),
        (LinkDown, 172),
        (PowerCut(Unsynced::Lost, IN_1970), 7),
        (DiskFull, 490),
        (PowerCut(Unsynced::Torn, -49), 3),
        (Rotate, 44),
        (Clock(IN_1970), 1),
    ]);
}
