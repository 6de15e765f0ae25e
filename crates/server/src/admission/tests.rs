//! The waiting room: its order and its bounds, and turns as requests have them.

mod fleet;

use landfast_identity::UnixTime;
use landfast_lifecycle::SimClock;

use super::pace::Pace;
use super::*;

const START: UnixTime = UnixTime::from_secs(1_795_420_800);

impl Admission {
    /// One that nobody has come to.
    pub(crate) fn idle() -> Self {
        Self::new(BOUNDS, Arc::new(SimClock::new(START)))
    }
}

fn agent(n: usize) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://plant.test/spire/agent/{n}")).unwrap()
}

fn ask(n: usize, count: usize, needed_in: u64) -> Ask {
    Ask {
        who: (agent(n), Kind::Svids),
        count,
        bytes: count * 300,
        needed_by: i64::try_from(needed_in).unwrap(),
        needed_in: Some(Duration::from_secs(needed_in)),
        certain: false,
    }
}

const BOUNDS: Bounds = Bounds {
    requests: 128,
    bytes: 1 << 20,
    longest: LONGEST,
};

/// Requests are told by their name.
struct Sim {
    room: Room<&'static str>,
    now: Instant,
    going: Vec<&'static str>,
    refused: Vec<(&'static str, Duration)>,
}

impl Sim {
    fn new(bounds: Bounds) -> Self {
        Self {
            room: Room::new(bounds),
            now: Instant::now(),
            going: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// One that takes all there is, so that others wait.
    fn busy(bounds: Bounds) -> (Self, [u64; 4]) {
        let mut sim = Self::new(bounds);
        let held = [9000, 9001, 9002, 9003].map(|n| sim.arrive(ask(n, 500, 0), "first"));
        sim.going.clear();
        (sim, held)
    }

    fn arrive(&mut self, ask: Ask, name: &'static str) -> u64 {
        let (number, told) = self.room.arrive(self.now, ask, name);
        self.hear(told);
        number
    }

    fn leave(&mut self, number: u64) {
        let told = self.room.leave(self.now, number);
        self.hear(told);
    }

    fn hear(&mut self, told: Told<&'static str>) {
        for (name, verdict) in told {
            match verdict {
                Verdict::Go => self.going.push(name),
                Verdict::Later(later) => self.refused.push((name, later)),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_needs_it_soonest_goes_first() {
    let (mut sim, held) = Sim::busy(BOUNDS);
    sim.arrive(ask(1, 128, 1800), "half an hour");
    sim.arrive(ask(2, 128, 60), "a minute");
    sim.arrive(ask(3, 128, 600), "ten minutes");
    assert_eq!(sim.going, [""; 0]);
    assert_eq!(sim.room.soonest(), Some(60));
    for number in held {
        sim.leave(number);
    }
    assert_eq!(sim.going, ["a minute", "ten minutes", "half an hour"]);
}

/// Filling reserves is the lowest class, however little hurry the others say they are in, and whoever asks for the fifth time.
#[tokio::test(start_paused = true)]
async fn what_is_had_ahead_goes_behind_everything_else() {
    let ahead = |n| Ask {
        who: (agent(n), Kind::Ahead),
        ..ask(n, 128, 0)
    };
    let (mut sim, held) = Sim::busy(BOUNDS);
    sim.arrive(ahead(1), "a reserve");
    sim.arrive(ask(2, 128, 3600), "an hour");
    sim.arrive(ask(2, 128, 3600), "an hour, the second of one node");
    sim.arrive(ahead(3), "another reserve");
    for number in held {
        sim.leave(number);
    }
    assert_eq!(sim.going[..2], ["an hour", "an hour, the second of one node"]);
    assert_eq!(sim.going[2..], ["a reserve", "another reserve"]);
    // One that is being signed makes room, and never has it made.
    let mut sim = Sim::new(BOUNDS);
    let begun = [1, 2, 3, 4].map(|n| sim.arrive(ahead(n), "a reserve"));
    let ordinary = sim.arrive(ask(9, 128, 3600), "an hour");
    assert!(begun.iter().all(|number| sim.room.should_pause(*number)));
    sim.leave(begun[0]);
    assert_eq!(sim.going.last(), Some(&"an hour"));
    sim.arrive(ahead(5), "another reserve");
    assert!(!sim.room.should_pause(ordinary));
    // When there is no room it is refused, and nobody for it.
    let (mut sim, _held) = Sim::busy(Bounds {
        requests: 6,
        ..BOUNDS
    });
    sim.arrive(ahead(1), "a reserve");
    sim.arrive(ask(2, 1, 3600), "an hour");
    sim.arrive(ask(3, 1, 3600), "another hour");
    assert_eq!(
        sim.refused.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["a reserve"]
    );
    sim.arrive(ahead(4), "another reserve");
    assert_eq!(sim.refused.last().unwrap().0, "another reserve");
}

#[tokio::test(start_paused = true)]
async fn nobodys_second_request_goes_before_anothers_first_whatever_it_says() {
    let bounds = Bounds {
        requests: 256,
        ..BOUNDS
    };
    let (mut sim, held) = Sim::busy(bounds);
    for name in ["liar 1", "liar 2", "liar 3"] {
        sim.arrive(ask(1, 128, 1), name);
    }
    sim.arrive(ask(2, 128, 1800), "honest");
    for number in held {
        sim.leave(number);
    }
    assert_eq!(sim.going, ["liar 1", "honest", "liar 2", "liar 3"]);
    assert_eq!(sim.refused, []);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_asks_for_much_is_not_kept_from_its_own_svid() {
    let (mut sim, held) = Sim::busy(BOUNDS);
    sim.arrive(ask(1, 128, 60), "batch");
    sim.arrive(ask(1, 128, 60), "another");
    sim.arrive(ask(2, 128, 100), "somebody's");
    let own = Ask {
        who: (agent(1), Kind::Own),
        ..ask(1, 1, 80)
    };
    sim.arrive(own, "own");
    for number in held {
        sim.leave(number);
    }
    assert_eq!(sim.going, ["batch", "own", "somebody's", "another"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_fills_the_room_alone() {
    let bounds = Bounds {
        requests: 256,
        ..BOUNDS
    };
    let (mut sim, _held) = Sim::busy(bounds);
    for _ in 0..10 {
        sim.arrive(ask(1, 1, 1), "hog");
    }
    assert_eq!(sim.refused.len(), 6, "a 64th is four");
    sim.arrive(ask(2, 1, 1800), "other");
    assert_eq!(sim.refused.len(), 6);
    assert_eq!(sim.room.waiting(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_full_room_refuses_who_needs_it_last() {
    let bounds = Bounds {
        requests: 6,
        ..BOUNDS
    };
    let (mut sim, _held) = Sim::busy(bounds);
    sim.arrive(ask(1, 1, 1000), "later");
    sim.arrive(ask(2, 1, 2000), "last");
    sim.arrive(ask(3, 1, 500), "soon");
    assert_eq!(names(&sim.refused), ["last"]);
    sim.arrive(ask(4, 1, 5000), "much later");
    assert_eq!(names(&sim.refused), ["last", "much later"]);
    assert_eq!((sim.room.waiting(), sim.room.served()), (2, 4));
    assert!(sim.room.refused_within(sim.now, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_messages_are_bounded_as_well() {
    let bounds = Bounds {
        bytes: 4 * 500 * 300 + 1000,
        ..BOUNDS
    };
    let (mut sim, held) = Sim::busy(bounds);
    sim.arrive(ask(1, 3, 1000), "fits");
    sim.arrive(ask(2, 3, 1000), "does not");
    assert_eq!(names(&sim.refused), ["does not"]);
    sim.arrive(ask(3, 3, 10), "sooner");
    assert_eq!(names(&sim.refused), ["does not", "fits"]);
    for number in held {
        sim.leave(number);
    }
    sim.arrive(ask(4, 300, 1000), "there is room again");
    assert_eq!(sim.going, ["sooner", "there is room again"]);
}

/// Refusing those who may be refused has to be enough; else nobody is refused for nothing.
#[tokio::test(start_paused = true)]
async fn whatever_comes_in_whatever_order_the_bounds_hold() {
    let mut seed = 7_u64;
    let mut dice = move |sides: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % sides
    };
    let bounds = Bounds {
        requests: 12,
        bytes: 10_000,
        longest: LONGEST,
    };
    let (mut refused, mut full) = (0, 0);
    for _ in 0..300 {
        let mut room: Room<u64> = Room::new(bounds);
        let (mut inside, now) = (std::collections::BTreeMap::new(), Instant::now());
        for n in 0..120 {
            let bytes = usize::try_from(dice(6_000)).unwrap();
            let ask = Ask {
                bytes,
                ..ask(n, 1 + usize::try_from(dice(200)).unwrap(), dice(1000))
            };
            let (number, told) = room.arrive(now, ask, n as u64);
            let came_in = !told
                .iter()
                .any(|(who, verdict)| *who == n as u64 && *verdict != Verdict::Go);
            for (who, verdict) in told {
                if verdict != Verdict::Go {
                    refused += 1;
                    assert!(came_in || who == n as u64, "somebody went, and nobody came");
                    inside.remove(&who);
                }
            }
            if came_in {
                inside.insert(n as u64, (number, bytes));
            }
            let held: usize = inside.values().map(|(_, bytes)| bytes).sum();
            assert!(
                held <= bounds.bytes && inside.len() <= bounds.requests,
                "{held} {}",
                inside.len()
            );
            full += usize::from(held > 9_000);
            if dice(4) == 0
                && let Some((&who, &(number, _))) = inside.iter().next()
            {
                inside.remove(&who);
                room.leave(now, number);
            }
        }
    }
    assert!(refused > 1000 && full > 100, "{refused} {full}");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_served_in_time_is_refused_at_once_and_others_are_not() {
    let bounds = Bounds {
        requests: 1000,
        bytes: 1 << 30,
        ..BOUNDS
    };
    let (mut sim, _held) = Sim::busy(bounds);
    // 500 a second is the first guess: twenty seconds are 10,000.
    for n in 0..30 {
        sim.arrive(ask(n, 500, 1800), "batch");
    }
    assert_eq!(sim.refused.len(), 9);
    assert_eq!(sim.room.waiting(), 21);
    sim.arrive(ask(100, 500, 60), "sooner than they");
    assert_eq!(sim.refused.len(), 9);
    assert_eq!(sim.room.waiting(), 22);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_asked_again_is_never_refused() {
    let bounds = Bounds {
        requests: 6,
        ..BOUNDS
    };
    let (mut sim, _held) = Sim::busy(bounds);
    let certain = |n| Ask {
        certain: true,
        ..ask(n, 1, 5)
    };
    for n in 0..4 {
        sim.arrive(certain(n), "node");
    }
    sim.arrive(ask(5, 1, 1), "sooner");
    assert_eq!(names(&sim.refused), ["sooner"]);
    assert_eq!(sim.room.waiting(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_large_batch_makes_way_for_who_needs_it_sooner_and_is_not_refused_then() {
    let bounds = Bounds {
        requests: 5,
        ..BOUNDS
    };
    let mut sim = Sim::new(bounds);
    let batches = [1, 2, 3, 4].map(|n| sim.arrive(ask(n, 500, 1800), "batch"));
    sim.going.clear();
    assert!(!sim.room.should_pause(batches[0]));
    let urgent = sim.arrive(ask(5, 1, 10), "urgent");
    assert_eq!(sim.going, [""; 0]);
    assert!(sim.room.should_pause(batches[0]));
    let told = sim.room.pause(batches[0], "batch 1 again");
    sim.hear(told);
    assert_eq!(sim.going, ["urgent"]);
    assert!(!sim.room.should_pause(batches[1]), "one is enough");
    // The room is full, and who waits has begun.
    sim.arrive(ask(6, 1, 1000), "another");
    assert_eq!(names(&sim.refused), ["another"]);
    sim.leave(urgent);
    assert_eq!(sim.going, ["urgent", "batch 1 again"]);
}

#[tokio::test(start_paused = true)]
async fn a_large_one_is_not_passed_by_small_ones_for_ever() {
    let (mut sim, held) = Sim::busy(BOUNDS);
    sim.arrive(ask(1, 500, 100), "large");
    for n in 10..20 {
        sim.arrive(ask(n, 1, 200), "small");
    }
    sim.leave(held[0]);
    assert_eq!(sim.going, ["large"]);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_nothing_along() {
    let (mut sim, held) = Sim::busy(BOUNDS);
    let tired = sim.arrive(ask(1, 128, 60), "tired");
    sim.arrive(ask(2, 128, 600), "patient");
    let (later, told) = sim.room.give_up(sim.now, tired);
    assert!(later.is_some() && told.is_empty());
    sim.leave(tired);
    for number in held {
        sim.leave(number);
    }
    assert_eq!(sim.going, ["patient"]);
    assert_eq!(sim.room.give_up(sim.now, 3).0, None, "it has gone on");
    let rest = sim.room.served();
    assert_eq!((rest, sim.room.waiting()), (1, 0));
}

fn names(refused: &[(&'static str, Duration)]) -> Vec<&'static str> {
    refused.iter().map(|(name, _)| *name).collect()
}

#[tokio::test(start_paused = true)]
async fn the_refused_come_back_as_fast_as_they_can_be_served() {
    let (mut pace, now) = (Pace::default(), Instant::now());
    // 500 a second: 50 requests of 10 in each second, after the 2 s that who waits will take.
    let mut back: Vec<_> = (0..5000)
        .map(|_| pace.come_again(now, 1000, 10, Some(Duration::from_secs(3600))))
        .collect();
    back.sort();
    assert!(back[0] >= Duration::from_secs(1), "{:?}", back[0]);
    for second in 5..95 {
        let from = Duration::from_secs(second);
        let among = back
            .iter()
            .filter(|at| **at >= from && **at < from + Duration::from_secs(1));
        let among = among.count();
        assert!((15..100).contains(&among), "{among} in second {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_would_lose_something_comes_while_there_is_time() {
    let (mut pace, now) = (Pace::default(), Instant::now());
    for _ in 0..1000 {
        pace.come_again(now, 1000, 100, Some(Duration::from_secs(3600)));
    }
    let soon: Vec<_> = (0..100)
        .map(|_| pace.come_again(now, 1000, 10, Some(Duration::from_secs(60))))
        .collect();
    assert!(soon.iter().all(|at| *at <= Duration::from_secs(30)), "{soon:?}");
    assert!(spread_over(&soon) > Duration::from_secs(10), "{soon:?}");
    let far: Vec<_> = (0..100).map(|_| pace.come_again(now, 1000, 10, None)).collect();
    assert!(far.iter().all(|at| *at > Duration::from_secs(120)), "{far:?}");
}

fn spread_over(waits: &[Duration]) -> Duration {
    *waits.iter().max().unwrap() - *waits.iter().min().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_measured_counts_only_while_somebody_waits() {
    let (mut pace, mut now) = (Pace::default(), Instant::now());
    let second = Duration::from_secs(1);
    pace.begin(now);
    for _ in 0..20 {
        now += second;
        pace.done(now, 2000, true);
    }
    assert!((1900.0..2001.0).contains(&(2000.0 / pace.time_for(2000).as_secs_f64())));
    for _ in 0..20 {
        now += second;
        pace.done(now, 10, false);
    }
    assert!(pace.time_for(2000) < second * 2, "it was idle, not slow");
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_soon_is_told_the_same_and_fills_no_calendar() {
    let bounds = Bounds {
        requests: 0,
        ..BOUNDS
    };
    let mut sim = Sim::new(bounds);
    for _ in 0..1000 {
        sim.arrive(ask(1, 500, 3600), "again and again");
    }
    let first = sim.refused[0].1;
    assert!(sim.refused.iter().all(|(_, later)| *later == first));
    sim.refused.clear();
    sim.arrive(ask(2, 1, 3600), "another");
    assert!(sim.refused[0].1 < Duration::from_secs(4), "{:?}", sim.refused);
}

fn admission(requests: usize) -> (Admission, SimClock) {
    let clock = SimClock::new(START);
    let bounds = Bounds { requests, ..BOUNDS };
    (Admission::new(bounds, Arc::new(clock.clone())), clock)
}

fn asking(needed_by: Option<&str>) -> Request<landfast_proto::spire::api::types::Spiffeid> {
    let mut request = Request::new(landfast_proto::spire::api::types::Spiffeid::default());
    if let Some(text) = needed_by {
        request.metadata_mut().insert(NEEDED_BY, text.parse().unwrap());
    }
    request
}

/// As many as are served at a time, all needed at once.
async fn full(admission: &Admission) -> Vec<Turn> {
    let mut turns = Vec::new();
    for n in 0..4 {
        let request = asking(Some("0"));
        turns.push(
            admission
                .turn(&request, (&agent(9000 + n), Kind::Svids), 500, LONGEST)
                .await
                .unwrap(),
        );
    }
    turns
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_says_counts_and_nonsense_is_as_nothing() {
    use futures_util::FutureExt as _;
    let (admission, clock) = admission(128);
    let held = full(&admission).await;
    let hour = Duration::from_secs(3600);
    let now = landfast_lifecycle::Clock::now(&clock).unwrap().as_secs();
    let said = [
        (None, now + 3600),
        (Some((now + 100).to_string()), now + 100),
        (Some("0".to_owned()), now + 5),
        (Some((now - 100).to_string()), now + 5),
        (Some("soon".to_owned()), now + 3600),
        (Some("-1".to_owned()), now + 3600),
        (Some("99999999999999999999".to_owned()), now + 3600),
    ];
    for (n, (text, expected)) in said.into_iter().enumerate() {
        let request = asking(text.as_deref());
        let agent = agent(n);
        let mut waiting = Box::pin(admission.turn(&request, (&agent, Kind::Svids), 1, hour));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(admission.lock().soonest(), Some(expected), "{text:?}");
        drop(waiting);
        assert_eq!(admission.lock().waiting(), 0, "who goes away is forgotten");
    }
    drop(held);
    assert_eq!(admission.lock().served(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_or_told_in_bounded_time() {
    let (admission, _clock) = admission(128);
    let held = full(&admission).await;
    assert_eq!(admission.trouble(), None);
    let (request, one, began) = (asking(None), agent(1), Instant::now());
    let refused = admission
        .turn(&request, (&one, Kind::Svids), 1, LONGEST)
        .await
        .err()
        .unwrap();
    assert_eq!(began.elapsed(), LONGEST + SLACK);
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    let pushback = refused.metadata().get(PUSHBACK).unwrap().to_str().unwrap();
    let pushback = Duration::from_millis(pushback.parse().unwrap());
    assert!(pushback >= Duration::from_millis(250) && pushback < Duration::from_secs(300));
    assert!(admission.trouble().unwrap().contains("told to come again"));
    // A node that has attested waits for as long as it takes.
    let node = agent(2);
    let mut certain = Box::pin(admission.certain_turn(&node));
    let patience = tokio::time::timeout(Duration::from_secs(60), &mut certain).await;
    assert!(patience.is_err());
    drop(held);
    assert!(certain.await.is_ok());
    tokio::time::advance(TROUBLE).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(admission.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_stops_between_two_signatures_for_who_needs_one_sooner() {
    use futures_util::FutureExt as _;
    let (admission, _clock) = admission(128);
    let (request, hour) = (asking(None), Duration::from_secs(3600));
    let mut turns = Vec::new();
    for n in 0..4 {
        turns.push(
            admission
                .turn(&request, (&agent(n), Kind::Svids), 500, hour)
                .await
                .unwrap(),
        );
    }
    let node = agent(5);
    let mut urgent = Box::pin(admission.turn_by(&node, START.saturating_add(Duration::from_secs(30))));
    assert!((&mut urgent).now_or_never().is_none());
    let batch = turns.remove(0);
    let mut paused = Box::pin(batch.pause());
    assert!((&mut paused).now_or_never().is_none());
    assert!((&mut paused).now_or_never().is_none(), "beyond the yield");
    let urgent = (&mut urgent).now_or_never().expect("its turn").unwrap();
    assert!((&mut paused).now_or_never().is_none());
    drop(urgent);
    paused.await;
    turns[0].pause().await;
    drop((batch, turns));
    let room = admission.lock();
    assert_eq!((room.served(), room.waiting()), (0, 0));
}
