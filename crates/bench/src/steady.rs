//! A fleet at rest: everybody follows the server, and SVIDs are renewed at the rate of their life.
//!
//! Invariant: time is not compressed. Renewals come as often as they would in any slice of that length of a long day.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::BoxError;
use crate::agent::share;
use crate::fleet::Fleet;
use crate::host::Usage;
use crate::meter::Counted;
use crate::report::Report;
use crate::samples::Samples;
use crate::target::Target;

/// What one slice took.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) took: Duration,
    pub(crate) wire: Counted,
    renewed: Samples,
    failed: u64,
    before: Option<Usage>,
    after: Option<Usage>,
}

/// Waits for so long, while the fleet renews what falls due in it.
pub(crate) async fn slice(fleet: &Fleet, target: &Target, length: Duration) -> Result<Slice, BoxError> {
    let svids = fleet.agents.len() * fleet.entries;
    // Renewed at half their life, jittered from certificate to certificate: at any time alike.
    let due = (svids as f64 * length.as_secs_f64() / (LIFE.as_secs_f64() / 2.0)).round() as usize;
    let mut moments: Vec<Duration> = (0..due).map(|_| length.mul_f64(share())).collect();
    moments.sort_unstable();
    let (before, wire, begin) = (target.usage(), fleet.site.meter.now(), Instant::now());
    let (mut renewed, mut failed) = (Samples::default(), 0);
    let mut renewals = JoinSet::new();
    for moment in moments {
        sleep_until(begin + moment).await;
        let chosen = (share() * fleet.agents.len() as f64) as usize;
        let Some(agent) = fleet.agents.get(chosen).cloned() else {
            continue;
        };
        let nth = (share() * fleet.entries as f64) as usize;
        renewals.spawn(async move { Arc::clone(&agent).renew(nth, LIFE).await });
        while let Some(done) = renewals.try_join_next() {
            tally(done?, &mut renewed, &mut failed);
        }
    }
    sleep_until(begin + length).await;
    let (after, took) = (target.usage(), begin.elapsed());
    let wire = fleet.site.meter.now().since(wire);
    while let Some(done) = renewals.join_next().await {
        tally(done?, &mut renewed, &mut failed);
    }
    Ok(Slice {
        took,
        wire,
        renewed,
        failed,
        before,
        after,
    })
}

fn tally(done: Option<Result<Duration, crate::node::Trouble>>, renewed: &mut Samples, failed: &mut u64) {
    match done {
        Some(Ok(took)) => renewed.push(took),
        Some(Err(_)) | None => *failed += 1,
    }
}

/// At the fleet's present size. `empty` is the server before its first agent came.
pub(crate) async fn measure(
    fleet: &Fleet,
    target: &Target,
    length: Duration,
    empty: Option<Usage>,
    report: &mut Report,
) -> Result<(), BoxError> {
    let slice = slice(fleet, target, length).await?;
    let (agents, size) = (fleet.agents.len(), fleet.agents.len() as f64);
    let load = format!(
        "{}, SVIDs of an hour, {} s at the real rate",
        fleet.load(),
        length.as_secs()
    );
    let mut under = report.under("steady", load);
    let rate = slice.renewed.len() as f64 / slice.took.as_secs_f64();
    under.add("SVIDs renewed", "/s", rate);
    under.add("renewals that failed", "", slice.failed as f64);
    under.latency(
        "a renewal, from making the key to having the SVID",
        &slice.renewed,
        None,
    );
    let mut points = Vec::new();
    if let (Some(before), Some(after)) = (slice.before, slice.after) {
        let cpu = (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / slice.took.as_secs_f64() * 100.0;
        let memory = after.rss as f64 / 1e6;
        let asked = agents == 10_000 && fleet.entries == 10;
        let mut tell = |what: &str, unit, value, aim| match asked {
            true => under.add_aimed(what, unit, value, aim),
            false => under.add(what, unit, value),
        };
        tell("server: share of one core", "%", cpu, 15.0);
        tell("server: resident memory", "MB", memory, 768.0);
        if let Some(empty) = empty {
            let each = after.rss.saturating_sub(empty.rss) as f64 / size / 1e3;
            under.add(
                "server: memory for an agent, its connection and its entries",
                "kB",
                each,
            );
        }
        points = vec![("server CPU, % of a core", cpu), ("server memory, MB", memory)];
    }
    let day = slice.wire.bytes as f64 / size / slice.took.as_secs_f64() * 86_400.0 / 1e6;
    under.add(
        "on the wire for an agent and day, TLS included, by this slice",
        "MB",
        day,
    );
    points.push(("SVIDs a second", rate));
    for (name, value) in points {
        report.point(CHART, name, size, value);
    }
    Ok(())
}

const LIFE: Duration = Duration::from_secs(3600);
const CHART: [&str; 4] = [
    "steady",
    "A fleet at rest, SVIDs of an hour",
    "agents",
    "see names",
];
