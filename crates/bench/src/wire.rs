//! Bytes on the wire for an agent and day: a slice at the real rates, taken to a day.

use std::time::Duration;

use crate::BoxError;
use crate::args::{Globals, Wire};
use crate::fleet::Fleet;
use crate::report::Report;
use crate::steady;
use crate::target::Target;

pub(crate) async fn measure(globals: &Globals, args: &Wire, report: &mut Report) -> Result<(), BoxError> {
    for entries in &args.entries {
        let target = Target::start(globals).await?;
        let mut fleet = Fleet::new(globals, &target, *entries).await?;
        fleet.grow(usize::try_from(args.agents)?).await?;
        let length = Duration::from_secs(args.seconds);
        let slice = steady::slice(&fleet, &target, length).await?;
        let load = format!(
            "{}, SVIDs of an hour; {} s, taken to a day",
            fleet.load(),
            args.seconds
        );
        let mut under = report.under("wire", load);
        let day = |bytes: u64| bytes as f64 / args.agents as f64 / slice.took.as_secs_f64() * 86_400.0 / 1e6;
        let (tls, whole) = (day(slice.wire.bytes), day(slice.wire.with_headers()));
        let what = "an agent and day, both directions, TLS included";
        match entries {
            0 => under.add_aimed(what, "MB", tls, 1.0),
            10 => under.add_aimed(what, "MB", tls, 4.0),
            _ => under.add(what, "MB", tls),
        }
        under.add("the same with headers of TCP and IPv4, estimated", "MB", whole);
        // A logarithm knows no zero: the idle agent stands at one.
        report.point(CHART, "TLS", (*entries).max(1) as f64, tls);
        report.point(CHART, "with TCP and IPv4", (*entries).max(1) as f64, whole);
        fleet.leave().await;
    }
    Ok(())
}

const CHART: [&str; 4] = [
    "wire",
    "On the wire for an agent and day",
    "SVIDs of an hour (1: none)",
    "MB",
];
