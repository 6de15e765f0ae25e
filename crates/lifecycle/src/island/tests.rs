//! The life of an island, as tables and at random.

use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(300);
const NOON: i64 = 1_800_000_000;

struct World {
    island: Island,
    begin: Instant,
}

impl World {
    fn new() -> Self {
        let begin = Instant::now();
        Self {
            island: Island::new(begin, PATIENCE),
            begin,
        }
    }

    fn at(&self, secs: u64) -> At {
        At {
            wall: Some(UnixTime::from_secs(NOON + i64::try_from(secs).unwrap())),
            mono: self.begin + Duration::from_secs(secs),
        }
    }

    fn step(&mut self, secs: u64, event: Event) -> Standing {
        let before = self.island.standing();
        let actions = self.island.step(self.at(secs), event);
        let told = actions.iter().find_map(|action| match action {
            Action::Stand { from, to } => Some((*from, *to)),
            Action::Wake(_) => None,
        });
        let after = self.island.standing();
        assert_eq!(told, (before != after).then_some((before, after)));
        after
    }
}

fn holds(until: u64) -> Event {
    let end = UnixTime::from_secs(NOON + i64::try_from(until).unwrap());
    Event::Holds(Holdings {
        wanted: 2,
        valid: 2,
        first_ends: Some(end.saturating_sub(Duration::from_secs(60))),
        last_ends: Some(end),
    })
}

#[tokio::test(start_paused = true)]
async fn a_node_is_degraded_then_islanded_then_exhausted_and_back_at_once() {
    let mut world = World::new();
    assert_eq!(world.step(0, Event::Failed), Standing::Starting);
    assert_eq!(
        world.step(1000, Event::Failed),
        Standing::Starting,
        "it never had anything"
    );
    assert_eq!(world.step(1000, Event::InStep), Standing::Connected);
    world.step(1001, holds(3000));
    assert_eq!(world.step(1010, Event::Failed), Standing::Degraded);
    let actions = world.island.step(world.at(1100), Event::Failed);
    assert_eq!(
        actions,
        [Action::Wake(world.begin + Duration::from_secs(1300))],
        "since it was last in step"
    );
    assert_eq!(world.step(1299, Event::Tick), Standing::Degraded);
    assert_eq!(world.step(1300, Event::Tick), Standing::Islanded);
    assert_eq!(world.step(2999, Event::Failed), Standing::Islanded);
    assert_eq!(world.step(3000, Event::Tick), Standing::Exhausted);
    assert_eq!(world.step(3001, Event::InStep), Standing::Connected);
}

#[tokio::test(start_paused = true)]
async fn what_was_restored_makes_an_island_of_a_node_whose_first_attempt_fails() {
    let mut world = World::new();
    world.step(0, holds(3000));
    assert_eq!(
        world.step(0, Event::Restored),
        Standing::Degraded,
        "nobody has tried yet"
    );
    assert_eq!(world.step(1, Event::Failed), Standing::Islanded);
    let mut silent = World::new();
    silent.step(0, holds(3000));
    silent.step(0, Event::Restored);
    assert_eq!(silent.step(299, Event::Tick), Standing::Degraded);
    assert_eq!(
        silent.step(300, Event::Tick),
        Standing::Islanded,
        "an attempt that never ends"
    );
    let mut late = World::new();
    late.step(5000, holds(3000));
    late.step(5000, Event::Restored);
    assert_eq!(late.step(5000, Event::Failed), Standing::Exhausted);
}

#[tokio::test(start_paused = true)]
async fn without_a_time_of_day_nothing_is_valid_and_without_entries_nothing_runs_out() {
    let mut world = World::new();
    world.step(0, holds(3000));
    world.step(0, Event::Restored);
    let timeless = At {
        wall: None,
        mono: world.begin,
    };
    world.island.step(timeless, Event::Failed);
    assert_eq!(world.island.standing(), Standing::Exhausted);
    assert_eq!(world.step(0, Event::Tick), Standing::Islanded);
    world.step(0, Event::Holds(Holdings::default()));
    assert_eq!(world.step(9000, Event::Failed), Standing::Islanded);
}

proptest! {
    /// Whatever happens in whatever order: in step is connected; a node that holds something valid is never called exhausted, one that
    /// holds nothing that it should is never called islanded.
    #[test]
    fn a_standing_never_contradicts_what_is_held(events in proptest::collection::vec((0..6_u8, 0..900_u64), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            let (mut secs, mut end) = (0, 0);
            for (kind, wait) in events {
                secs += wait;
                let event = match kind {
                    0 => Event::Restored,
                    1 => Event::InStep,
                    2 | 3 => Event::Failed,
                    4 => { end = secs + wait * 4; holds(end) }
                    _ => Event::Tick,
                };
                match world.step(secs, event) {
                    Standing::Exhausted => assert!(secs >= end),
                    Standing::Islanded => assert!(secs < end || world.island.holdings().wanted == 0),
                    Standing::Connected => assert!(event == Event::InStep || world.island.met),
                    Standing::Starting | Standing::Degraded => {}
                }
                if event == Event::InStep {
                    assert_eq!(world.island.standing(), Standing::Connected);
                }
            }
        });
    }
}
