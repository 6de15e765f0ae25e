//! Rotations while nodes have identities ahead: who is cut off knows who signs.

use landfast_identity::Bundle;

use super::*;
use crate::admission::Turn;
use crate::authority::orders::{Order, OrderError};
use crate::core::fixture::agent;
use crate::issuance::{IssueError, IssuedX509, Requester, RungOrder};
use crate::registry::{EntryPolicy, Versioned};
use crate::reserve::ReserveLimits;

const HOUR: Duration = Duration::from_secs(3600);
const RESERVE: Duration = Duration::from_secs(3 * 86_400);
const NODE: &str = "/spire/agent/x";

/// Authorities of thirty days and a reserve of three; one node that has joined.
async fn rig() -> Rig {
    let rig = Rig::with(|params| {
        params.reserve = ReserveLimits {
            longest: RESERVE,
            longest_token: Duration::ZERO,
        };
    })
    .await;
    let mut node = agent(NODE, "0a", &[]);
    node.not_after = START.saturating_add(400 * DAY);
    rig.core.registry.upsert_agent_on_attest(node).await.unwrap();
    let made = rig
        .db
        .create_entry(draft(NODE, "/w"), "e".into(), "me".into(), START);
    made.await.unwrap();
    rig
}

async fn tick(rig: &Rig) {
    rig.core.authorities.tick(rig.now(), Trust::Steady).await.unwrap();
}

async fn standing(rig: &Rig, kind: Kind) -> (String, Option<String>) {
    let standing = rig.core.authorities.standing(kind).await.unwrap();
    (standing.active.unwrap().id, standing.prepared.map(|row| row.id))
}

async fn pass(rig: &Rig, by: Duration) {
    rig.clock.pass(by.as_secs().try_into().unwrap());
    tick(rig).await;
}

async fn say(rig: &Rig, sequence: u64) {
    rig.db.acknowledge(id(NODE), sequence).await.unwrap();
}

fn with_reserve() -> Arc<Versioned> {
    let policy = EntryPolicy {
        reserve: RESERVE,
        ..EntryPolicy::defaults("e")
    };
    Arc::new(Versioned {
        entry: Arc::new(draft(NODE, "/w").into_entry("e".into(), START)),
        revision: 1,
        policy: Some(Arc::new(policy)),
    })
}

/// One that begins so long from now.
async fn ask(rig: &Rig, after: Duration) -> Result<IssuedX509, IssueError> {
    let order = RungOrder {
        entry: with_reserve(),
        key: key(),
        begins: rig.now().saturating_add(after),
    };
    let who = Requester::agent(id(NODE), "join_token");
    let mut made = rig.core.issuer.rungs(&who, vec![order], &Turn::free()).await;
    made.pop().unwrap()
}

/// The server was off when it was time to prepare: the next authority is new when it is needed.
async fn late(rig: &Rig) -> (String, String) {
    pass(rig, 26 * DAY).await;
    let (active, prepared) = standing(rig, Kind::X509).await;
    pass(rig, HOUR).await;
    (active, prepared.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_new_authority_signs_when_every_node_has_said_that_it_knows_it() {
    let rig = rig().await;
    let (before, next) = late(&rig).await;
    assert_eq!(
        standing(&rig, Kind::X509).await,
        (before.clone(), Some(next.clone()))
    );
    assert!(
        standing(&rig, Kind::Jwt).await.1.is_none(),
        "tokens are asked for online: their keys are not waited for"
    );
    let sequence = rig.core.authorities.bundle().sequence();
    say(&rig, sequence - 1).await;
    tick(&rig).await;
    assert_eq!(
        standing(&rig, Kind::X509).await.0,
        before,
        "it knows an older bundle"
    );
    say(&rig, sequence).await;
    tick(&rig).await;
    assert_eq!(standing(&rig, Kind::X509).await, (next, None));
}

#[tokio::test(start_paused = true)]
async fn else_it_signs_when_it_has_stood_in_the_bundle_for_the_longest_reserve() {
    let rig = rig().await;
    let (before, next) = late(&rig).await;
    // A leap of the wall clock is no wait.
    rig.step(RESERVE);
    tick(&rig).await;
    assert_eq!(standing(&rig, Kind::X509).await.0, before);
    rig.clock.step(-i64::try_from(RESERVE.as_secs()).unwrap());
    pass(&rig, RESERVE - 2 * HOUR).await;
    assert_eq!(standing(&rig, Kind::X509).await.0, before);
    pass(&rig, HOUR).await;
    assert_eq!(standing(&rig, Kind::X509).await, (next, None));
}

/// `[reserve] longest` was more until the server was started anew.
#[tokio::test(start_paused = true)]
async fn what_nodes_have_of_longer_reserves_is_waited_for_too() {
    let rig = rig().await;
    rig.clock.pass((26 * DAY - HOUR).as_secs().try_into().unwrap());
    ask(&rig, HOUR).await.unwrap();
    let mut long = rig.core.issuer.records(&id("/w")).await.unwrap().remove(0);
    (long.serial, long.key_hash) = ("0f".to_owned(), None);
    long.not_before = rig.now().saturating_add(RESERVE + 5 * HOUR);
    long.not_after = rig.now().saturating_add(RESERVE + 6 * HOUR);
    rig.db.record(vec![long]).await.unwrap();
    pass(&rig, HOUR).await;
    let (before, next) = standing(&rig, Kind::X509).await;
    pass(&rig, RESERVE + HOUR).await;
    assert_eq!(standing(&rig, Kind::X509).await, (before, next.clone()));
    pass(&rig, 5 * HOUR).await;
    assert_eq!(standing(&rig, Kind::X509).await, (next.unwrap(), None));
}

#[tokio::test(start_paused = true)]
async fn who_is_banned_or_gone_is_not_waited_for() {
    for ban in [true, false] {
        let rig = rig().await;
        let (before, next) = late(&rig).await;
        assert_eq!(standing(&rig, Kind::X509).await.0, before);
        match ban {
            true => rig.core.registry.ban_agent(&id(NODE)).await.unwrap(),
            false => assert!(rig.core.registry.delete_agent(&id(NODE)).await.unwrap()),
        }
        tick(&rig).await;
        assert_eq!(standing(&rig, Kind::X509).await, (next, None));
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_last_authority_has_ended_the_next_one_signs_at_once() {
    let rig = rig().await;
    pass(&rig, 29 * DAY).await;
    let (before, next) = standing(&rig, Kind::X509).await;
    pass(&rig, DAY - HOUR).await;
    assert_eq!(standing(&rig, Kind::X509).await, (before, next.clone()));
    // Whatever it signed has ended, also what a node had ahead.
    pass(&rig, HOUR).await;
    assert_eq!(standing(&rig, Kind::X509).await, (next.unwrap(), None));
}

#[tokio::test(start_paused = true)]
async fn an_order_to_sign_is_refused_with_who_does_not_know_it_unless_it_says_so() {
    let rig = rig().await;
    let authorities = &rig.core.authorities;
    let order = async |order: &Order| authorities.order(order, rig.now()).await;
    let next = order(&Order::Prepare(Kind::X509)).await.unwrap().id;
    let activate = Order::Activate(Kind::X509, next.clone());
    let refused = order(&activate).await.unwrap_err();
    assert!(
        matches!(
            refused,
            OrderError::Unheard {
                nodes: 1,
                seconds: 259_200
            }
        ),
        "{refused:?}"
    );
    assert_ne!(standing(&rig, Kind::X509).await.0, next);
    let forced = Order::ActivateUnheard(Kind::X509, next.clone());
    order(&forced).await.unwrap();
    assert_eq!(standing(&rig, Kind::X509).await.0, next);
    let next = order(&Order::Prepare(Kind::X509)).await.unwrap().id;
    say(&rig, authorities.bundle().sequence()).await;
    order(&Order::Activate(Kind::X509, next)).await.unwrap();
    let token = order(&Order::Prepare(Kind::Jwt)).await.unwrap().id;
    order(&Order::Activate(Kind::Jwt, token)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_old_authority_stays_until_the_last_rung_that_it_signed() {
    let rig = rig().await;
    let authorities = &rig.core.authorities;
    let last = ask(&rig, RESERVE).await.unwrap();
    assert_eq!(last.not_after, START.saturating_add(RESERVE + HOUR));
    let (before, _) = standing(&rig, Kind::X509).await;
    let prepared = authorities.order(&Order::Prepare(Kind::X509), rig.now()).await;
    let order = Order::ActivateUnheard(Kind::X509, prepared.unwrap().id);
    authorities.order(&order, rig.now()).await.unwrap();
    let verifies = || {
        let bundles: BundleSet = [authorities.bundle().as_ref().clone()].into_iter().collect();
        let at = START.saturating_add(RESERVE);
        verify_x509_svid(&[last.chain[0].as_der()], &bundles, at).is_ok()
    };
    pass(&rig, RESERVE + HOUR).await;
    assert!(verifies(), "{before}");
    pass(&rig, DAY + HOUR).await;
    assert!(!verifies(), "it is gone a day after that");
}

#[tokio::test(start_paused = true)]
async fn what_would_outlast_its_authority_waits_for_the_next_one() {
    let rig = rig().await;
    pass(&rig, 27 * DAY).await;
    assert!(ask(&rig, RESERVE - HOUR).await.is_ok());
    let refused = ask(&rig, RESERVE).await.unwrap_err();
    assert!(
        matches!(refused, IssueError::OutlivesAuthority { .. }),
        "{refused:?}"
    );
    say(&rig, rig.core.authorities.bundle().sequence()).await;
    pass(&rig, HOUR).await;
    assert!(ask(&rig, RESERVE).await.is_ok(), "the next one signs it");
    let order = RungOrder {
        entry: with_reserve(),
        key: key(),
        begins: rig.now(),
    };
    let minted = rig.core.issuer.rungs(&me(), vec![order], &Turn::free()).await;
    assert!(
        matches!(&minted[0], Err(IssueError::Policy(why)) if why.contains("only agents")),
        "{minted:?}"
    );
}

/// What a node has that is cut off: its bundle, and a rung for every half hour of three days, as far as its authority lasts.
struct Island {
    bundle: Bundle,
    from: UnixTime,
    ladder: Vec<IssuedX509>,
}

impl Island {
    async fn cut(rig: &Rig) -> Self {
        let mut ladder = Vec::new();
        for step in 0..=144 {
            match ask(rig, step * (HOUR / 2)).await {
                Ok(rung) => ladder.push(rung),
                // The rest it would have been given by the next authority.
                Err(IssueError::OutlivesAuthority { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        Self {
            bundle: rig.core.authorities.bundle().as_ref().clone(),
            from: rig.now(),
            ladder,
        }
    }

    /// The one that it hands out then.
    fn current(&self, now: UnixTime) -> Option<&IssuedX509> {
        let step = usize::try_from(now.since(self.from).as_secs() / 1800).unwrap();
        self.ladder.get(step).filter(|rung| now < rung.not_after)
    }

    fn accepts(&self, other: &IssuedX509, now: UnixTime) -> bool {
        let bundles: BundleSet = [self.bundle.clone()].into_iter().collect();
        let chain: Vec<_> = other.chain.iter().map(|link| link.as_der()).collect();
        verify_x509_svid(&chain, &bundles, now).is_ok()
    }
}

/// The rotation is as late as it can be; nobody says anything.
#[tokio::test(start_paused = true)]
async fn a_node_cut_off_before_a_rotation_and_one_cut_off_after_it_accept_each_other() {
    let rig = rig().await;
    let day = 26 * DAY - HOUR;
    rig.clock.pass(day.as_secs().try_into().unwrap());
    let early = Island::cut(&rig).await;
    let signer = standing(&rig, Kind::X509).await.0;
    pass(&rig, HOUR).await;
    assert_eq!(standing(&rig, Kind::X509).await.0, signer);
    let (mut rotated, mut met) = (false, 0);
    for hours in (2..=72).step_by(10) {
        let at = early.from.saturating_add(hours * HOUR);
        while rig.now() < at {
            pass(&rig, HOUR).await;
        }
        let late = Island::cut(&rig).await;
        rotated |= standing(&rig, Kind::X509).await.0 != signer;
        for more in 0..73 {
            let now = at.saturating_add(more * HOUR);
            let (Some(one), Some(other)) = (early.current(now), late.current(now)) else {
                continue;
            };
            met += 1;
            let place = format!("cut off {hours} hours later, {more} hours after that");
            assert!(early.accepts(other, now) && late.accepts(one, now), "{place}");
        }
    }
    assert!(met > 200, "{met}");
    assert!(!rotated, "whoever has not heard of it has nothing left by then");
    pass(&rig, 2 * HOUR).await;
    assert_ne!(standing(&rig, Kind::X509).await.0, signer, "and then it signs");
}

/// The same when every node that counts has said that it knows the next authority, before one is cut off.
#[tokio::test(start_paused = true)]
async fn the_same_when_the_rotation_comes_between() {
    let rig = rig().await;
    pass(&rig, 26 * DAY).await;
    say(&rig, rig.core.authorities.bundle().sequence()).await;
    let (signer, early) = (standing(&rig, Kind::X509).await.0, Island::cut(&rig).await);
    pass(&rig, HOUR).await;
    assert_ne!(standing(&rig, Kind::X509).await.0, signer);
    let late = Island::cut(&rig).await;
    for hours in 1..=72 {
        let now = early.from.saturating_add(hours * HOUR);
        let (one, other) = (early.current(now).unwrap(), late.current(now).unwrap());
        assert!(early.accepts(other, now) && late.accepts(one, now), "{hours}");
    }
}
