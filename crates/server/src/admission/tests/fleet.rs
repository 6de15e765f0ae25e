//! T-38, in virtual time: a fleet whose server was away comes back in one second. With the waiting room nothing expires that there is time to sign;
//! in the order of their arrival some would.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use landfast_lifecycle::{renewal_due, spread_within};

use super::*;

const AGENTS: usize = 2000;
/// SVIDs of each.
const EACH: usize = 10;
const HOUR: Duration = Duration::from_secs(3600);
/// Signatures a second.
const RATE: f64 = 1000.0;
/// As a server has it unless it is told otherwise.
const ROOMY: Bounds = Bounds {
    requests: 4096,
    bytes: 32 << 20,
    longest: LONGEST,
};

/// An agent that comes back: its number, and what is left to its SVIDs then.
type Agent = (usize, Duration);

/// What came of it.
#[derive(Default, Debug)]
struct Outcome {
    served: usize,
    expired: usize,
    attempts: usize,
    most_inside: usize,
    last: Duration,
}

/// Those of a fleet in its steady state that have to renew after it was cut off for so long.
fn after_a_cut(cut: Duration) -> Vec<Agent> {
    let ends = START.saturating_add(HOUR);
    let each = (0..AGENTS).filter_map(|n| {
        // At the cut each is somewhere between new and due.
        let lives = renewal_due(START, ends, &n.to_be_bytes()).since(START);
        let age = spread_within(lives, &(n + AGENTS).to_be_bytes()) + cut;
        (age >= lives).then(|| (n, HOUR.saturating_sub(age)))
    });
    each.collect()
}

/// So many, each without anything.
fn with_nothing_left(agents: usize) -> Vec<Agent> {
    (0..agents).map(|n| (n, Duration::ZERO)).collect()
}

enum Event {
    Asks(Agent),
    Signed(u64, Agent),
    Tires(u64, Agent),
}

#[derive(Default)]
struct Agenda {
    order: BinaryHeap<Reverse<(Duration, usize)>>,
    events: Vec<Option<Event>>,
}

impl Agenda {
    fn at(&mut self, at: Duration, event: Event) {
        self.order.push(Reverse((at, self.events.len())));
        self.events.push(Some(event));
    }

    fn next(&mut self) -> Option<(Duration, Event)> {
        let Reverse((at, index)) = self.order.pop()?;
        Some((at, self.events[index].take().unwrap()))
    }
}

/// Plays it out, at a pace that may change with time. `truthful`: agents say by when they need it; else all say the same, and the order is that of arrival.
fn play(fleet: &[Agent], truthful: bool, bounds: Bounds, rate: impl Fn(Duration) -> f64) -> Outcome {
    let (start, mut room) = (Instant::now(), Room::new(bounds));
    let (mut agenda, mut outcome) = (Agenda::default(), Outcome::default());
    for (place, agent) in fleet.iter().enumerate() {
        // They come in an order that has nothing to do with their need.
        let at = Duration::from_micros(u64::try_from(place).unwrap() * 7919 % 1_000_000);
        agenda.at(at, Event::Asks(*agent));
    }
    let (mut free_at, mut numbers) = (Duration::ZERO, HashMap::new());
    while let Some((at, event)) = agenda.next() {
        let told = match event {
            Event::Asks((n, ends)) => {
                outcome.attempts += 1;
                let left = ends.checked_sub(at).filter(|left| !left.is_zero());
                let by = if truthful {
                    at + left.unwrap_or(MISSING)
                } else {
                    HOUR
                };
                let ask = Ask {
                    who: (agent(n), Kind::Svids),
                    count: EACH,
                    bytes: EACH * 300,
                    needed_by: i64::try_from(by.as_secs()).unwrap(),
                    needed_in: left.filter(|_| truthful),
                    certain: false,
                };
                let (number, told) = room.arrive(start + at, ask, (n, ends));
                numbers.insert(n, number);
                agenda.at(at + LONGEST + SLACK, Event::Tires(number, (n, ends)));
                told
            }
            Event::Tires(number, agent) => {
                let (later, mut told) = room.give_up(start + at, number);
                told.extend(later.map(|later| (agent, Verdict::Later(later))));
                told
            }
            Event::Signed(number, (_, ends)) => {
                outcome.served += 1;
                outcome.last = at;
                outcome.expired += usize::from(!ends.is_zero() && at > ends);
                room.leave(start + at, number)
            }
        };
        outcome.most_inside = outcome.most_inside.max(room.waiting() + room.served());
        for (agent, verdict) in told {
            match verdict {
                // One server: signatures are made one after the other.
                Verdict::Go => {
                    free_at = free_at.max(at);
                    free_at += Duration::from_secs_f64(EACH as f64 / rate(free_at));
                    agenda.at(free_at, Event::Signed(numbers[&agent.0], agent));
                }
                Verdict::Later(later) => agenda.at(at + later, Event::Asks(agent)),
            }
        }
    }
    outcome
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_comes_back_in_one_second_loses_nothing() {
    let fleet = after_a_cut(Duration::from_secs(1750));
    let soonest_first = play(&fleet, true, ROOMY, |_| RATE);
    let as_they_come = play(&fleet, false, ROOMY, |_| RATE);
    println!("{} of {AGENTS}: {soonest_first:?}, {as_they_come:?}", fleet.len());
    assert!(fleet.len() > AGENTS * 8 / 10, "nearly all are due");
    assert_eq!(soonest_first.served, fleet.len());
    assert_eq!(soonest_first.expired, 0);
    assert!(as_they_come.expired > 5, "the same in another order");
    assert!(soonest_first.attempts * 2 <= fleet.len() * 3);
    assert!(soonest_first.last < Duration::from_secs(60));
}

/// The rest is told to come again, each in its time.
#[tokio::test(start_paused = true)]
async fn nor_does_it_when_there_is_room_for_a_twentieth_of_it() {
    let fleet = after_a_cut(Duration::from_secs(1750));
    let bounds = Bounds {
        requests: 100,
        bytes: 1 << 20,
        longest: LONGEST,
    };
    let outcome = play(&fleet, true, bounds, |_| RATE);
    println!("{outcome:?}");
    assert_eq!((outcome.served, outcome.expired), (fleet.len(), 0));
    assert!(outcome.most_inside <= 100);
    assert!(outcome.last < Duration::from_secs(120));
}

/// Nobody asks without end for what it has lost already.
#[tokio::test(start_paused = true)]
async fn a_fleet_of_which_everything_has_run_out_is_served_with_few_attempts() {
    let fleet = after_a_cut(HOUR * 2);
    assert!(fleet.iter().all(|(_, left)| left.is_zero()) && fleet.len() == AGENTS);
    let bounds = Bounds {
        requests: 1000,
        bytes: 4 << 20,
        longest: LONGEST,
    };
    let outcome = play(&fleet, true, bounds, |_| RATE);
    println!("{outcome:?}");
    assert_eq!(outcome.served, AGENTS);
    assert!(outcome.attempts * 2 <= AGENTS * 5);
    assert!(outcome.last < Duration::from_secs(90));
}

/// The server has just started, and knows nothing of its pace. Served as fast as can be, they would all be done after 25 seconds.
#[tokio::test(start_paused = true)]
async fn a_server_that_has_just_started_is_not_idle_while_agents_wait_for_their_time() {
    let fleet = with_nothing_left(10_000);
    let outcome = play(&fleet, true, ROOMY, |_| 4000.0);
    println!("{outcome:?}");
    assert_eq!(outcome.served, fleet.len());
    assert!(outcome.last < Duration::from_secs(30), "{outcome:?}");
    assert!(outcome.attempts * 5 <= fleet.len() * 8, "{outcome:?}");
}

/// In the first moments the processor has other work: what is seen then is far from the pace.
#[tokio::test(start_paused = true)]
async fn a_slow_first_moment_sends_nobody_away_for_long() {
    let fleet = with_nothing_left(1000);
    let slow_at_first = |at: Duration| {
        if at < Duration::from_millis(300) {
            100.0
        } else {
            4000.0
        }
    };
    let outcome = play(&fleet, true, ROOMY, slow_at_first);
    println!("{outcome:?}");
    assert_eq!(outcome.served, fleet.len());
    // At its best it takes 2.8 s.
    assert!(outcome.last < Duration::from_secs(8), "{outcome:?}");
    assert!(outcome.attempts * 2 <= fleet.len() * 3, "{outcome:?}");
}

/// A pace below the guess is believed late, and that costs each agent of its first storm a second attempt at most.
#[tokio::test(start_paused = true)]
async fn a_slow_server_is_asked_again_once() {
    let fleet = with_nothing_left(1000);
    let outcome = play(&fleet, true, ROOMY, |_| 50.0);
    println!("{outcome:?}");
    assert_eq!(outcome.served, fleet.len());
    // At its best it takes 200 s.
    assert!(outcome.last < Duration::from_secs(400), "{outcome:?}");
    assert!(outcome.attempts <= fleet.len() * 2, "{outcome:?}");
}
