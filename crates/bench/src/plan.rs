//! Which parts run, in which order, on which servers.

use std::time::Duration;

use crate::BoxError;
use crate::args::{All, Command, CommandLine, Globals, Held, Registry, Rounds, Storm, Wire};
use crate::fleet::Fleet;
use crate::report::Report;
use crate::target::Target;
use crate::{propagation, real, registry, steady, storm, wire, workload};

pub(crate) async fn run(line: &CommandLine, report: &mut Report) -> Result<(), BoxError> {
    let globals = &line.globals;
    match &line.command {
        Command::Propagation(args) => {
            let parts = Parts {
                propagation: Some((&args.agents, args.rounds)),
                ..Parts::default()
            };
            fleet(globals, args.entries, parts, report).await
        }
        Command::Steady(args) => {
            let parts = Parts {
                steady: Some((&args.agents, Duration::from_secs(args.seconds))),
                ..Parts::default()
            };
            fleet(globals, args.entries, parts, report).await
        }
        Command::Storm(args) => storms(globals, args, report).await,
        Command::Wire(args) => wire::measure(globals, args, report).await,
        Command::Registry(args) => registry::measure(globals, args, report).await,
        Command::Workload(args) => workload::measure(args, report).await,
        Command::All(args) => all(globals, args, report).await,
    }
}

/// What is measured of a fleet, and at which sizes.
#[derive(Default)]
struct Parts<'a> {
    propagation: Option<(&'a [u64], Rounds)>,
    steady: Option<(&'a [u64], Duration)>,
    /// Sizes with what the server is held to.
    storms: &'a [(u64, Held)],
}

/// One fleet that grows from size to size.
async fn fleet(
    globals: &Globals,
    entries: u64,
    parts: Parts<'_>,
    report: &mut Report,
) -> Result<(), BoxError> {
    let mut target = Target::start(globals).await?;
    report.note(&target.name());
    let empty = target.usage();
    let mut fleet = Fleet::new(globals, &target, entries).await?;
    let propagation = parts.propagation.map_or(&[][..], |(sizes, _)| sizes);
    let steady = parts.steady.map_or(&[][..], |(sizes, _)| sizes);
    let storms = parts.storms.iter().map(|(size, _)| size);
    let mut sizes: Vec<u64> = propagation.iter().chain(steady).chain(storms).copied().collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let growth = fleet.grow(usize::try_from(size)?).await?;
        growth.tell(
            &mut report.under("growth", format!("{} more: {}", growth.agents, fleet.load())),
            size,
            fleet.entries,
        );
        if let Some((_, rounds)) = parts.propagation.filter(|(sizes, _)| sizes.contains(&size)) {
            propagation::measure(&mut fleet, rounds, report).await?;
            if rounds.workload {
                Box::pin(real::measure(globals, &target, &fleet, rounds.samples, report)).await?;
            }
        }
        if let Some((_, length)) = parts.steady.filter(|(sizes, _)| sizes.contains(&size)) {
            steady::measure(&fleet, &target, length, empty, report).await?;
        }
    }
    for (size, held) in parts.storms {
        storm::measure(
            &mut fleet,
            &mut target,
            (usize::try_from(*size)?, *held, PATIENCE),
            report,
        )
        .await?;
    }
    fleet.leave().await;
    Ok(())
}

async fn storms(globals: &Globals, args: &Storm, report: &mut Report) -> Result<(), BoxError> {
    let mut target = Target::start(globals).await?;
    report.note(&target.name());
    let mut fleet = Fleet::new(globals, &target, args.entries).await?;
    for size in &args.agents {
        let size = usize::try_from(*size)?;
        fleet.grow(size).await?;
        let patience = Duration::from_secs(args.patience);
        storm::measure(&mut fleet, &mut target, (size, args.held, patience), report).await?;
    }
    fleet.leave().await;
    Ok(())
}

async fn all(globals: &Globals, args: &All, report: &mut Report) -> Result<(), BoxError> {
    let part = if args.quick { 10 } else { 1 };
    let scaled = |sizes: &[u64]| sizes.iter().map(|size| (size / part).max(1)).collect::<Vec<_>>();
    let slice = if args.quick { 10 } else { 60 };
    let rounds = Rounds {
        samples: 200 / part,
        fleet_samples: 5,
        bans: 100 / part,
        workload: true,
    };
    let held = |memory_mib| Held {
        percent_of_core: 100,
        memory_mib,
    };
    let storm = |sizes: &[u64], memory_mib| {
        let sizes = scaled(sizes).into_iter();
        sizes
            .map(move |size| (size, held(memory_mib)))
            .collect::<Vec<_>>()
    };
    let storms = [storm(&[1000, 5000, 10_000], 1024), storm(&[500, 1000, 2000], 512)].concat();
    let parts = Parts {
        propagation: Some((&scaled(&[1, 1000, 5000]), rounds)),
        steady: Some((&scaled(&[1000, 5000, 10_000]), Duration::from_secs(slice))),
        storms: if globals.server.is_some() { &[] } else { &storms },
    };
    let entries = scaled(&[1000, 10_000, 100_000]);
    registry::measure(globals, &Registry { entries }, report).await?;
    let wire = Wire {
        agents: 500 / part,
        entries: vec![0, 10, 100],
        seconds: slice,
    };
    wire::measure(globals, &wire, report).await?;
    Box::pin(fleet(globals, 10, parts, report)).await
}

/// With a storm.
const PATIENCE: Duration = Duration::from_secs(120);
