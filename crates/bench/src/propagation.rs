//! From an operator's change until agents have acted on it.
//!
//! Invariant: changes come at their own pace, whether those before have arrived or not: a slow one delays no other's begin.

use std::collections::HashMap;
use std::time::Duration;

use landfast_proto::spire::api::types;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::BoxError;
use crate::agent::{What, share};
use crate::args::Rounds;
use crate::fleet::Fleet;
use crate::operator::wire_id;
use crate::report::Report;
use crate::samples::Samples;

/// At the fleet's present size.
pub(crate) async fn measure(fleet: &mut Fleet, rounds: Rounds, report: &mut Report) -> Result<(), BoxError> {
    let agents = fleet.agents.len();
    let (made, gone) = of_one(fleet, usize::try_from(rounds.samples)?).await?;
    let all = of_all(fleet, usize::try_from(rounds.fleet_samples)?).await?;
    let bans = bans(fleet, usize::try_from(rounds.bans)?).await?;

    let load = format!("{}; a change every {} ms", fleet.load(), PACE.as_millis());
    let mut under = report.under("propagation", load);
    under.latency(
        "operator creates an entry of one agent -> it has the SVID",
        &made,
        aim(agents),
    );
    under.latency("operator deletes it -> the agent knows", &gone, None);
    if !all.is_empty() {
        under.latency(
            "operator creates an entry of all -> an agent has its SVID",
            &all.each,
            None,
        );
        let last = all.last.percentile(100.0).unwrap_or(f64::NAN);
        under.add_aimed(
            &format!("the last of them has it: worst of {}", all.last.len()),
            "ms",
            last,
            ALL_AIM,
        );
        under.latency("operator deletes it -> an agent knows", &all.gone, None);
    }
    if !bans.is_empty() {
        under.latency("operator bans an agent -> it knows", &bans, Some(BAN_AIM));
    }
    let size = agents as f64;
    let p99 = |samples: &Samples| samples.percentile(99.0).unwrap_or(0.0);
    report.point(CHART, "entry of one agent, p99", size, p99(&made));
    report.point(CHART, "deletion, p99", size, p99(&gone));
    report.point(
        CHART,
        "entry of all, last",
        size,
        all.last.percentile(100.0).unwrap_or(0.0),
    );
    report.point(CHART, "ban, p99", size, p99(&bans));
    Ok(())
}

/// Entries of an agent by chance: created, and then deleted.
async fn of_one(fleet: &mut Fleet, count: usize) -> Result<(Samples, Samples), BoxError> {
    let mut made = Waiting::default();
    let mut pace = paced();
    let mut ids = Vec::new();
    for n in 0..count {
        pace.tick().await;
        let chosen = (share() * fleet.agents.len() as f64) as usize;
        let agent = &fleet.agents[chosen.min(fleet.agents.len() - 1)];
        let entry = fleet.entry(&format!("one-{n}"), &wire_id(&agent.node.id), n)?;
        let begin = Instant::now();
        let id = fleet.operator.create(&[entry]).await?.concat();
        made.expect(id.clone(), begin, 1);
        ids.push(id);
    }
    made.collect(fleet, Kind::Signed).await?;
    let mut gone = Waiting::default();
    for id in ids {
        pace.tick().await;
        gone.expect(id.clone(), Instant::now(), 1);
        fleet.operator.delete(&[id]).await?;
    }
    gone.collect(fleet, Kind::Gone).await?;
    Ok((made.samples, gone.samples))
}

/// Of entries that concern every agent.
#[derive(Debug, Default)]
struct All {
    each: Samples,
    last: Samples,
    gone: Samples,
}

impl All {
    fn is_empty(&self) -> bool {
        self.each.is_empty()
    }
}

async fn of_all(fleet: &mut Fleet, count: usize) -> Result<All, BoxError> {
    let agents = fleet.agents.len();
    let mut all = All::default();
    let parent: types::Spiffeid = fleet.alias()?;
    for n in 0..count {
        let entry = fleet.entry(&format!("all-{n}"), &parent, n)?;
        let begin = Instant::now();
        let id = fleet.operator.create(&[entry]).await?.concat();
        let mut made = Waiting::default();
        made.expect(id.clone(), begin, agents);
        let last = made.collect(fleet, Kind::Signed).await?;
        all.last.push(last.saturating_duration_since(begin));
        all.each.extend(made.samples);
        let mut gone = Waiting::default();
        gone.expect(id.clone(), Instant::now(), agents);
        fleet.operator.delete(&[id]).await?;
        gone.collect(fleet, Kind::Gone).await?;
        all.gone.extend(gone.samples);
    }
    Ok(all)
}

/// Of agents that are made for it.
async fn bans(fleet: &mut Fleet, count: usize) -> Result<Samples, BoxError> {
    let stay = fleet.agents.len();
    fleet.grow(stay + count).await?;
    let mut waiting = Waiting::default();
    let mut pace = paced();
    for agent in &fleet.agents[stay..] {
        pace.tick().await;
        waiting.expect(agent.number.to_string(), Instant::now(), 1);
        fleet.operator.ban(&agent.node.id).await?;
    }
    waiting.collect(fleet, Kind::ShutOut).await?;
    fleet.bury(stay);
    Ok(waiting.samples)
}

/// Which events count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Signed,
    Gone,
    ShutOut,
}

/// Changes whose arrival is waited for.
#[derive(Default)]
struct Waiting {
    /// Begin, and how many agents it concerns; by entry ID, or an agent's number.
    for_what: HashMap<String, (Instant, usize)>,
    samples: Samples,
}

impl Waiting {
    fn expect(&mut self, what: String, begin: Instant, agents: usize) {
        self.for_what.insert(what, (begin, agents));
    }

    /// Until all have arrived. Answers when the last did.
    async fn collect(&mut self, fleet: &mut Fleet, kind: Kind) -> Result<Instant, BoxError> {
        let mut last = Instant::now();
        while !self.for_what.is_empty() {
            let Ok(Some(event)) = timeout(PATIENCE, fleet.events.recv()).await else {
                let left: usize = self.for_what.values().map(|(_, agents)| agents).sum();
                return Err(format!(
                    "{left} changes have not reached their agents within {} s",
                    PATIENCE.as_secs()
                )
                .into());
            };
            let (arrived, ids) = match event.what {
                What::Signed(ids) => (Kind::Signed, ids),
                What::Gone(ids) => (Kind::Gone, ids),
                What::ShutOut => (Kind::ShutOut, vec![event.agent.to_string()]),
            };
            if arrived != kind {
                continue;
            }
            for id in ids {
                let Some((begin, agents)) = self.for_what.get_mut(&id) else {
                    continue;
                };
                self.samples.push(event.at.saturating_duration_since(*begin));
                last = event.at;
                *agents -= 1;
                if *agents == 0 {
                    self.for_what.remove(&id);
                }
            }
        }
        Ok(last)
    }
}

fn paced() -> tokio::time::Interval {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// What the project has set itself, of the 99th percentile, in milliseconds.
pub(crate) fn aim(agents: usize) -> Option<f64> {
    match agents {
        0..=1000 => Some(50.0),
        1001..=5000 => Some(150.0),
        _ => None,
    }
}

const ALL_AIM: f64 = 2000.0;
pub(crate) const BAN_AIM: f64 = 250.0;
const PACE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);
const CHART: [&str; 4] = [
    "propagation",
    "From an operator's change until agents have acted",
    "agents",
    "ms",
];
