//! A fleet that comes back in the same second after an outage that was longer than its SVIDs lived.
//!
//! Invariant: an agent counts as served when it follows the server and has every SVID again.

use std::time::Duration;

use tokio::time::Instant;

use crate::BoxError;
use crate::args::Held;
use crate::fleet::Fleet;
use crate::report::Report;
use crate::site::{Site, Tally};
use crate::target::Target;

/// Lets the first `count` come back. A server of our own is killed before, and started held.
pub(crate) async fn measure(
    fleet: &mut Fleet,
    target: &mut Target,
    (count, held, patience): (usize, Held, Duration),
    report: &mut Report,
) -> Result<(), BoxError> {
    let count = count.min(fleet.agents.len());
    fleet.leave().await;
    let held = target.is_own().then_some(held);
    if held.is_some() {
        target.restart(held).await?;
        fleet.operator = target.operator().await?;
    }
    fleet.agents.iter().for_each(|agent| agent.expire());
    let site = std::sync::Arc::clone(&fleet.site);
    for tally in tallies(&site) {
        tally.reset();
    }
    let (before, begin) = (target.usage(), Instant::now());
    fleet.come_back(count, WITHIN);
    let served = fleet.served(count, patience).await;
    let took = begin.elapsed();
    let after = target.usage();

    let how = held.map_or_else(
        || "a server that is not held".to_owned(),
        |held| {
            format!(
                "a server held to {} % of a core and {} MiB",
                held.percent_of_core, held.memory_mib
            )
        },
    );
    let entries = fleet.entries;
    let load = format!(
        "{count} agents come back within {} s, each without its {entries} SVIDs, to {how}",
        WITHIN.as_secs()
    );
    let mut under = report.under("storm", load);
    under.add_aimed("agents that are not served", "", (count - served) as f64, 0.0);
    under.add_aimed("until the last is served", "s", took.as_secs_f64(), 60.0);
    let mut sum = [0, 0, 0];
    for (name, tally) in ["connections", "synchronisations", "requests for SVIDs"]
        .iter()
        .zip(tallies(&site))
    {
        let [attempts, successes, pushed_back] = tally.read();
        sum = [sum[0] + attempts, sum[1] + successes, sum[2] + pushed_back];
        under.add(
            &format!("{name}: attempts for each that succeeded"),
            "x",
            ratio(attempts, successes),
        );
    }
    under.add_aimed(
        "all calls: attempts for each that succeeded",
        "x",
        ratio(sum[0], sum[1]),
        1.5,
    );
    under.add("calls that were told when to come again", "", sum[2] as f64);
    if let (Some(before), Some(after)) = (before, after) {
        under.add(
            "server: resident memory before, all agents away",
            "MB",
            before.rss as f64 / 1e6,
        );
        under.add("server: most resident memory", "MB", after.peak as f64 / 1e6);
        let each = after.rss.saturating_sub(before.rss) as f64 / count as f64 / 1e3;
        under.add("server: memory for a connected agent", "kB", each);
        under.add(
            "server: CPU for an agent",
            "ms",
            after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e3 / count as f64,
        );
    }
    if let Some(counted) = target.counted() {
        under.add_aimed(
            "server: killed for want of memory",
            "",
            counted.oom_kills as f64,
            0.0,
        );
        under.add(
            "server: most memory of its control group, files included",
            "MB",
            counted.peak as f64 / 1e6,
        );
        under.add(
            "server: periods of 100 ms in which it had to wait for its core",
            "",
            counted.throttled as f64,
        );
    }
    if served == count {
        let series = held.map_or_else(
            || "served".to_owned(),
            |held| format!("served, {} MiB", held.memory_mib),
        );
        report.point(CHART, &series, count as f64, took.as_secs_f64());
    }
    Ok(())
}

fn tallies(site: &Site) -> [&Tally; 3] {
    [&site.connects, &site.follows, &site.signs]
}

fn ratio(attempts: u64, successes: u64) -> f64 {
    attempts as f64 / successes.max(1) as f64
}

const WITHIN: Duration = Duration::from_secs(1);
const CHART: [&str; 4] = [
    "storm",
    "Until the last agent is served",
    "agents that come back in one second",
    "s",
];
