//! What entries cost a server that no agent asks: creation, cold start, memory, list, lookup.

use std::sync::Arc;

use landfast_identity::SpiffeId;
use landfast_proto::spire::api::types;
use tokio::time::Instant;

use crate::BoxError;
use crate::agent::share;
use crate::args::{Globals, Registry};
use crate::node::{Node, Trouble};
use crate::operator::{Operator, PAGE, wire_id};
use crate::report::Report;
use crate::samples::Samples;
use crate::site::Site;
use crate::target::Target;

pub(crate) async fn measure(globals: &Globals, args: &Registry, report: &mut Report) -> Result<(), BoxError> {
    let mut target = Target::start(globals).await?;
    let site = target.site().await?;
    let empty = target.usage();
    let node = node(&target, &site).await?;
    let (mut ids, name) = (
        Vec::new(),
        format!("registry-{}-{}", std::process::id(), site.now()),
    );
    for size in &args.entries {
        let more = entries(&site, &name, ids.len(), usize::try_from(*size)?)?;
        let begin = Instant::now();
        let count = more.len();
        ids.extend(target.operator().await?.create(&more).await?);
        let created = count as f64 / begin.elapsed().as_secs_f64();
        let running = target.usage();
        // As the operating system left it, files still in its cache: what a restart of the service costs.
        let started = match target.is_own() {
            true => Some(target.restart(None).await?),
            false => None,
        };
        let fresh = target.usage();
        let operator = target.operator().await?;
        let found = look_up(&operator, &ids).await?;
        let synced = synchronise(&node).await?;
        let (pages, listed) = list(&operator, ids.len()).await?;

        let load = format!("{size} entries, 10 of each parent, one agent connected");
        let mut under = report.under("registry", load);
        under.add("created, 500 in a request, 4 requests at a time", "/s", created);
        let aims = (*size == 100_000).then_some((2.0, 200.0));
        if let Some(started) = started {
            match aims {
                Some((aim, _)) => under.add_aimed(
                    "killed and started: until it answers",
                    "s",
                    started.as_secs_f64(),
                    aim,
                ),
                None => under.add("killed and started: until it answers", "s", started.as_secs_f64()),
            }
        }
        if let (Some(running), Some(fresh)) = (running, fresh) {
            under.add(
                "resident memory after creating them",
                "MB",
                running.rss as f64 / 1e6,
            );
            let (what, memory) = ("resident memory after the start", fresh.rss as f64 / 1e6);
            match aims {
                Some((_, aim)) => under.add_aimed(what, "MB", memory, aim),
                None => under.add(what, "MB", memory),
            }
            if let Some(empty) = empty {
                let each = fresh.rss.saturating_sub(empty.rss) as f64 / *size as f64;
                under.add("memory for an entry, after the start", "bytes", each);
            }
            under.point(CHART, "memory, MB", *size as f64, memory);
        }
        under.latency("one entry by its ID", &found, None);
        under.latency(
            &format!("an agent synchronises its {OWN} entries and the bundle"),
            &synced,
            None,
        );
        under.latency(&format!("a page of {PAGE} of the list"), &pages, None);
        under.add("the whole list", "s", listed);
        report.point(CHART, "whole list, ms", *size as f64, listed * 1e3);
        report.point(
            CHART,
            "lookup, p50, ms",
            *size as f64,
            found.percentile(50.0).unwrap_or(0.0),
        );
        if let Some(started) = started {
            report.point(CHART, "cold start, ms", *size as f64, started.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}

fn entries(site: &Site, name: &str, from: usize, to: usize) -> Result<Vec<types::Entry>, BoxError> {
    let id = |path: String| Ok::<_, BoxError>(wire_id(&SpiffeId::from_parts(&site.trust_domain, &path)?));
    let entry = |n: usize| {
        Ok(types::Entry {
            spiffe_id: Some(id(format!("/{name}/line-{}/workload-{n}", n % 50))?),
            parent_id: Some(id(format!("/{name}/node-{}", n / 10))?),
            selectors: vec![
                types::Selector {
                    r#type: "unix".to_owned(),
                    value: format!("uid:{}", 1000 + n % 10),
                },
                types::Selector {
                    r#type: "unix".to_owned(),
                    value: format!("path:/opt/plant/bin/workload-{}", n % 100),
                },
            ],
            ..types::Entry::default()
        })
    };
    (from..to).map(entry).collect()
}

/// One that has [`OWN`] entries.
async fn node(target: &Target, site: &Arc<Site>) -> Result<Node, BoxError> {
    let operator = target.operator().await?;
    let name = format!("/registry-node-{}-{}", std::process::id(), site.now());
    let alias = wire_id(&SpiffeId::from_parts(&site.trust_domain, &name)?);
    let token = operator.tokens(1, &alias).await?.concat();
    let parent = SpiffeId::agent(&site.trust_domain, "join_token", &token)?;
    let entries: Vec<_> = (0..OWN)
        .map(|n| {
            Ok(types::Entry {
                spiffe_id: Some(wire_id(&SpiffeId::from_parts(
                    &site.trust_domain,
                    &format!("{name}/{n}"),
                )?)),
                parent_id: Some(wire_id(&parent)),
                selectors: vec![types::Selector {
                    r#type: "unix".to_owned(),
                    value: format!("uid:{n}"),
                }],
                ..types::Entry::default()
            })
        })
        .collect::<Result<_, BoxError>>()?;
    operator.create(&entries).await?;
    Node::attest(Arc::clone(site), 0, &token).await
}

/// On one connection, one after the other.
async fn synchronise(node: &Node) -> Result<Samples, BoxError> {
    let failed = |trouble: Trouble| BoxError::from(format!("an agent cannot synchronise: {trouble:?}"));
    let channel = node.connect().await.map_err(failed)?;
    let mut synced = Samples::default();
    for _ in 0..LOOKUPS {
        let begin = Instant::now();
        let entries = node.synchronise(&channel).await.map_err(failed)?;
        synced.push(begin.elapsed());
        if entries.len() < OWN {
            return Err(format!("an agent gets {} of its {OWN} entries", entries.len()).into());
        }
    }
    Ok(synced)
}

/// Some by chance, one after the other.
async fn look_up(operator: &Operator, ids: &[String]) -> Result<Samples, BoxError> {
    let mut found = Samples::default();
    for _ in 0..LOOKUPS {
        let Some(id) = ids.get((share() * ids.len() as f64) as usize) else {
            continue;
        };
        let begin = Instant::now();
        operator.look_up(id).await?;
        found.push(begin.elapsed());
    }
    Ok(found)
}

/// Page by page, and how long it took in all, in seconds.
async fn list(operator: &Operator, least: usize) -> Result<(Samples, f64), BoxError> {
    let (mut pages, mut count, mut token) = (Samples::default(), 0, String::new());
    let begin = Instant::now();
    loop {
        let page = Instant::now();
        let (entries, next) = operator.page(token).await?;
        pages.push(page.elapsed());
        count += entries;
        if next.is_empty() {
            break;
        }
        token = next;
    }
    if count < least {
        return Err(format!("the list has {count} of {least} entries").into());
    }
    Ok((pages, begin.elapsed().as_secs_f64()))
}

const LOOKUPS: usize = 1000;
/// Entries of the one agent.
const OWN: usize = 10;
const CHART: [&str; 4] = ["registry", "A registry that grows", "entries", "see names"];
