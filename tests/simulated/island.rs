//! Ninety days on an island, with reboots, and three changes of authorities meanwhile.

use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_proto::landfast::recovery::v1::{self as recovery, recovery_client::RecoveryClient};
use landfast_proto::spire::api::server::localauthority::v1::{
    self as api, local_authority_client::LocalAuthorityClient,
};
use tonic::{Code, Status};

use crate::disk::Unsynced;
use crate::world::{HOUR, Node, World, accepts};

const RESERVE: Duration = Duration::from_secs(20 * 86_400);
/// Six times the longest reserve and an SVID's life are 123 days.
const SERVER: &str = "[ttl]\nca = \"160d\"\nx509 = \"12h\"\n[reserve]\nlongest = \"20d\"\n[root_key]\n";

async fn prepare(world: &World) -> String {
    let mut orders = LocalAuthorityClient::new(world.plant.admin().await);
    let request = api::PrepareX509AuthorityRequest {};
    let next = orders.prepare_x509_authority(request).await.unwrap().into_inner();
    next.prepared_authority.unwrap().authority_id
}

async fn activate(world: &World, authority_id: &str) -> Result<(), Status> {
    let mut orders = LocalAuthorityClient::new(world.plant.admin().await);
    let request = api::ActivateX509AuthorityRequest {
        authority_id: authority_id.to_owned(),
    };
    orders.activate_x509_authority(request).await.map(drop)
}

async fn has_reserve(world: &World, node: &Node, rungs: usize) {
    let words = format!("{rungs} unspent SVIDs");
    world
        .until("a whole reserve", HOUR, async || {
            let debt = node.status().await.trust_debt;
            debt.starts_with(&words).then_some(()).ok_or(debt)
        })
        .await;
}

/// What an operator does meanwhile, and on which day.
const ORDERS: [(u64, Order); 9] = [
    (1, Order::Prepare),
    // Whoever was cut off has not heard of it, and may hold what the authority of now has signed.
    (2, Order::ActivateTooEarly),
    (22, Order::Activate),
    (24, Order::Prepare),
    (30, Order::Activate),
    (45, Order::RevokeOldest),
    (50, Order::Prepare),
    (60, Order::Activate),
    (75, Order::RevokeOldest),
];

#[derive(Clone, Copy)]
enum Order {
    Prepare,
    ActivateTooEarly,
    Activate,
    RevokeOldest,
}

/// What happens to the node, and in which hour. Its clock is set right in the second hour after.
const REBOOTS: [(u64, Reboot); 14] = [
    (5, Reboot::Orderly(0)),
    (31, Reboot::Cut(Unsynced::Lost, 0)),
    (77, Reboot::Cut(Unsynced::Torn, 0)),
    (140, Reboot::Orderly(IN_1970)),
    (141, Reboot::Cut(Unsynced::Lost, IN_1970)),
    (201, Reboot::Cut(Unsynced::Lost, -3 * 3600)),
    (202, Reboot::Orderly(IN_1970)),
    (290, Reboot::Cut(Unsynced::Torn, IN_1970)),
    (377, Reboot::Orderly(-200)),
    (460, Reboot::Cut(Unsynced::Lost, 200)),
    (600, Reboot::Cut(Unsynced::Lost, 0)),
    (900, Reboot::Orderly(0)),
    (1500, Reboot::Cut(Unsynced::Torn, 0)),
    (2000, Reboot::Cut(Unsynced::Lost, 0)),
];
const IN_1970: i64 = i64::MIN;

/// By how much the clock is wrong then, in seconds.
#[derive(Clone, Copy)]
enum Reboot {
    Orderly(i64),
    Cut(Unsynced, i64),
}

impl Reboot {
    async fn happen(self, world: &World, node: &mut Node) {
        let wrong_by = match self {
            Self::Orderly(wrong_by) => {
                node.shut_down().await;
                wrong_by
            }
            Self::Cut(unsynced, wrong_by) => {
                node.lose_power(unsynced).await;
                wrong_by
            }
        };
        let wrong_by = match wrong_by {
            IN_1970 => 5 - world.now().as_secs(),
            wrong_by => wrong_by,
        };
        node.set_wall(world, wrong_by);
        node.boot(world).await;
    }
}

impl Order {
    async fn give(self, world: &World, next: &mut String) {
        let mut orders = LocalAuthorityClient::new(world.plant.admin().await);
        match self {
            Self::Prepare => *next = prepare(world).await,
            Self::ActivateTooEarly => {
                let refused = activate(world, next).await.unwrap_err();
                assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            }
            Self::Activate => activate(world, next).await.unwrap(),
            Self::RevokeOldest => {
                let state = orders.get_x509_authority_state(api::GetX509AuthorityStateRequest {});
                let authority_id = state.await.unwrap().into_inner().old.unwrap().authority_id;
                let request = api::TaintX509AuthorityRequest {
                    authority_id: authority_id.clone(),
                };
                orders.taint_x509_authority(request).await.unwrap();
                let request = api::RevokeX509AuthorityRequest { authority_id };
                orders.revoke_x509_authority(request).await.unwrap();
            }
        }
    }
}

async fn stands(node: &Node, standing: &str) -> Result<(), String> {
    let status = node.status().await;
    let says = format!(
        "{}: {} {}",
        status.standing, status.standing_text, status.last_error
    );
    (status.standing == standing).then_some(()).ok_or(says)
}

/// That the island is given what is good at this true time, and that it and the other one are peers.
async fn both_are_peers(world: &World, island: &mut Node, near: &mut Node, when: &str) {
    let now = world.now();
    let own = island
        .fetch()
        .await
        .unwrap_or_else(|error| panic!("{when}: {error}"));
    let other = near
        .fetch()
        .await
        .unwrap_or_else(|error| panic!("{when}: {error}"));
    for (verifier, svid) in [
        (&own, &own.svids[0]),
        (&other, &own.svids[0]),
        (&own, &other.svids[0]),
    ] {
        assert_eq!(accepts(&verifier.bundles, svid, now), Ok(()), "{when}");
    }
}

#[tokio::test]
async fn ninety_days_on_an_island_over_reboots_and_three_rotations() {
    let mut world = World::new(SERVER).await;
    let mut island = world.node("island").await;
    let mut near = world.node("near").await;
    for (node, path) in [(&island, "/line4/collector"), (&near, "/line4/historian")] {
        let entry = world.plant.entry(&node.agent, path, 0).await;
        world.reserve(&entry, RESERVE).await;
    }
    for node in [&island, &near] {
        has_reserve(&world, node, 80).await;
        world
            .until("a device key and a root key", HOUR, async || {
                let status = node.status().await;
                let both =
                    status.device_key.starts_with("registered") && status.bundle_chain.contains("pinned");
                both.then_some(()).ok_or((status.device_key, status.bundle_chain))
            })
            .await;
    }
    both_are_peers(&world, &mut island, &mut near, "before").await;
    island.link.cut();
    let cut_at = world.now();
    let ends = UnixTime::from_secs(island.status().await.reserve_until);
    assert!(ends.since(cut_at) >= RESERVE, "{ends}");
    let mut next = String::new();
    let mut served = 0;
    for hour in 1..=90 * 24 {
        let when = format!("hour {hour}, {}", world.now());
        for (_, order) in ORDERS.iter().filter(|(day, _)| day * 24 == hour) {
            order.give(&world, &mut next).await;
        }
        for (_, reboot) in REBOOTS.iter().filter(|(at, _)| *at == hour) {
            reboot.happen(&world, &mut island).await;
        }
        if REBOOTS.iter().any(|(at, _)| at + 2 == hour) {
            island.set_wall(&world, 0);
        }
        if hour % 700 == 350 {
            world.restart_server().await;
        }
        let now = world.now();
        if now.saturating_add(2 * HOUR) < ends {
            both_are_peers(&world, &mut island, &mut near, &when).await;
            served += 1;
        } else if now.saturating_sub(2 * HOUR) > ends {
            // Whoever is refused has waited, which takes its time.
            if hour % 5 == 0 {
                let refused = island.fetch().await.expect_err(&when);
                assert_eq!(refused.code(), Some(Code::Unavailable), "{when}");
            }
            near.fetch()
                .await
                .unwrap_or_else(|error| panic!("{when}: {error}"));
        } else if now < ends {
            the_last_second(&world, &mut island, ends).await;
        }
        // A leap of an hour breaks connections, as a machine that sleeps does: whoever is not cut off needs a few seconds.
        let awake = Duration::from_secs(if hour % 3 == 0 { 6 } else { 0 });
        world.pass(HOUR - awake, HOUR).await;
        world.pass(awake, Duration::from_secs(1)).await;
    }
    assert!(served > 20 * 24 - 4, "{served}");
    stands(&island, "exhausted").await.unwrap();
    let topped_up = near.status().await.reserve_until;
    assert!(
        topped_up
            > world
                .now()
                .saturating_add(RESERVE)
                .saturating_sub(HOUR * 24)
                .as_secs(),
        "{topped_up}"
    );
    comes_back(&world, &mut island, &mut near).await;
    world.tear_down([island, near]).await;
}

/// To the second.
async fn the_last_second(world: &World, island: &mut Node, ends: UnixTime) {
    let left = ends.since(world.now());
    if left > HOUR {
        return;
    }
    world.pass(left - Duration::from_secs(1), HOUR).await;
    let last = island.fetch().await.unwrap();
    assert_eq!(accepts(&last.bundles, &last.svids[0], world.now()), Ok(()));
    world.pass(Duration::from_secs(2), HOUR).await;
    let refused = island.fetch().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    world
        .until("exhausted", HOUR, async || stands(island, "exhausted").await)
        .await;
}

/// The server is a stranger by now, and the node's own SVID is over.
async fn comes_back(world: &World, island: &mut Node, near: &mut Node) {
    island.link.mend();
    world
        .until("a person is asked for", HOUR, async || {
            let error = island.status().await.last_error;
            let asks = error.contains("a person has to let it in");
            asks.then_some(()).ok_or(error)
        })
        .await;
    assert!(island.fetch().await.is_err(), "not before");
    let mut people = RecoveryClient::new(world.plant.admin().await);
    let asked = people
        .list_requests(recovery::ListRequestsRequest::default())
        .await;
    let asked = asked.unwrap().into_inner().requests.remove(0);
    let order = recovery::DecideRequest {
        agent_id: asked.agent_id,
        key: asked.key,
        approve: true,
    };
    people.decide(order).await.unwrap();
    world
        .until("contact", HOUR, async || stands(island, "connected").await)
        .await;
    has_reserve(world, island, 80).await;
    both_are_peers(world, island, near, "afterwards").await;
}
